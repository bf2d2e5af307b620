//! The tree that is written to: one writer, any number of snapshots.

use crate::edit::{self, Edit};
use crate::entry::Entry;
use crate::read::Snapshot;
use crate::warm::Purpose;

/// The tree that is written to.
///
/// Ops should not fall from one write to the next: a page remembers the highest op that changed it, so a lower
/// one after a higher one is not told apart from it by [`Snapshot::changed_since`].
#[derive(Debug, Default)]
pub struct Tree {
    now: Snapshot,
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Tree {
        Tree::default()
    }

    /// A tree of smaller leaves, so that tests see deep shapes with few entries.
    #[cfg(test)]
    pub(crate) fn with_leaf_max(leaf_max: u64) -> Tree {
        Tree { now: Snapshot { leaf_max, ..Snapshot::default() } }
    }

    /// Sets `key`; the entry it replaces, if any. `op` marks the pages changed.
    ///
    /// Panics when key or value is longer than `u32::MAX` bytes.
    pub fn put(&mut self, key: &[u8], value: &[u8], op: u64) -> Option<Entry> {
        self.put_entry(Entry::new(key, value), op)
    }

    /// As [`Tree::put`], for whoever wants to go on reading the entry.
    pub fn put_entry(&mut self, entry: Entry, op: u64) -> Option<Entry> {
        let key = entry.clone();
        self.edit(key.key(), Some(entry), op)
    }

    /// Removes `key`; the entry that stood there. Removing what is not there changes nothing.
    pub fn remove(&mut self, key: &[u8], op: u64) -> Option<Entry> {
        self.edit(key, None, op)
    }

    fn edit(&mut self, key: &[u8], entry: Option<Entry>, op: u64) -> Option<Entry> {
        let put = entry.is_some();
        let edit = Edit { key, entry, op, leaf_max: self.now.leaf_max };
        let replaced = edit::apply(&mut self.now.root, edit);
        if put || replaced.is_some() {
            self.now.changed = self.now.changed.max(op);
        }
        replaced
    }

    /// Everything as it is now; O(1).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.now.clone()
    }

    /// Reads go through here.
    #[must_use]
    pub fn view(&self) -> &Snapshot {
        &self.now
    }

    /// Brings the pages of these keys into the processor's caches: before a batch of writes, or of reads and writes.
    ///
    /// As [`Snapshot::warm`], and also what copying the pages that snapshots share will touch.
    pub fn warm(&self, keys: &[&[u8]]) {
        self.now.warm_for(Purpose::Write, keys);
    }
}

impl From<Snapshot> for Tree {
    fn from(now: Snapshot) -> Tree {
        Tree { now }
    }
}
