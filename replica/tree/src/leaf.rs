//! The entries of one leaf page: sorted, beside an array of key fragments that keeps a search out of the
//! entries themselves (each of which is a cache miss).

use std::cmp::Ordering;

use crate::entry::Entry;

/// A sorted run of entries with different keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    /// How many leading bytes all keys are known to share; the fragments start behind them.
    base: u32,
    /// Per entry the four key bytes behind `base`, big endian, zeros behind the key's end.
    fragments: Vec<u32>,
    entries: Vec<Entry>,
}

fn fragment(key: &[u8], base: usize) -> u32 {
    let rest = key.get(base..).unwrap_or_default();
    match rest.first_chunk() {
        Some(four) => u32::from_be_bytes(*four),
        None => {
            let mut four = [0; 4];
            four[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(four)
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl Leaf {
    /// Of entries in strictly ascending order.
    pub(crate) fn from_sorted(entries: Vec<Entry>) -> Leaf {
        let mut leaf = Leaf { base: 0, fragments: vec![0; entries.len()], entries };
        leaf.rebase();
        leaf
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn fragments(&self) -> &[u32] {
        &self.fragments
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Where `key` stands, or where it would.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (count, base) = (self.entries.len(), self.base as usize);
        if count == 0 {
            return Err(0);
        }
        let wanted = fragment(key, base);
        let first = self.fragments.partition_point(|f| *f < wanted);
        if base > 0 {
            // Any entry shows the shared bytes; the one at `first` will be needed anyway.
            let shared = &self.entries[first.min(count - 1)].key()[..base];
            match key[..base.min(key.len())].cmp(shared) {
                Ordering::Less => return Err(0),
                Ordering::Greater => return Err(count),
                Ordering::Equal => {}
            }
        }
        if first < count && self.fragments[first] == wanted {
            match self.entries[first].key().cmp(key) {
                Ordering::Equal => return Ok(first),
                Ordering::Greater => return Err(first),
                Ordering::Less => {}
            }
            let same = self.fragments[first..].partition_point(|f| *f == wanted);
            return match self.entries[first..first + same].binary_search_by(|e| e.key().cmp(key)) {
                Ok(at) => Ok(first + at),
                Err(at) => Err(first + at),
            };
        }
        Err(first)
    }

    /// Where a search for `key` will look first, without touching an entry.
    pub(crate) fn guess(&self, key: &[u8]) -> Option<&Entry> {
        let wanted = fragment(key, self.base as usize);
        self.entries.get(self.fragments.partition_point(|f| *f < wanted))
    }

    pub(crate) fn insert(&mut self, at: usize, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            // Doubling would cost more memory than it saves time: pages are small and often copied.
            let room = 1 + self.entries.len() / 8;
            self.entries.reserve_exact(room);
            self.fragments.reserve_exact(room);
        }
        let shares = |other: &Entry| common(entry.key(), other.key()) >= self.base as usize;
        let stale = self.entries.len() < 2 || !shares(&self.entries[0]);
        self.fragments.insert(at, fragment(entry.key(), self.base as usize));
        self.entries.insert(at, entry);
        if stale {
            self.rebase();
        }
    }

    /// Another entry of the same key.
    pub(crate) fn replace(&mut self, at: usize, entry: Entry) -> Entry {
        std::mem::replace(&mut self.entries[at], entry)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        self.fragments.remove(at);
        self.entries.remove(at)
    }

    fn rebase(&mut self) {
        let base = match self.entries.as_slice() {
            [first, .., last] => common(first.key(), last.key()),
            _ => 0,
        };
        self.base = base as u32;
        for (fragment_, entry) in self.fragments.iter_mut().zip(&self.entries) {
            *fragment_ = fragment(entry.key(), base);
        }
    }
}
