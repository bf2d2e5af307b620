//! The smallest machine that forgets nothing: per key a version and a hash of all values ever appended.
//!
//! Losing, repeating or reordering any request changes the state for ever, and its fingerprint is kept up to date in
//! a few instructions, so that states can be compared after every entry.
//!
//! Its cells lie in a few buckets. A transfer asks for the digests of the buckets first, and then for those that differ
//! from what is here or has arrived before.

use super::{Machine, digest};
use crate::rng::{Rng, mix};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vr_core::{Accepted, At, Digest, Import, ImportError, Op, StateMachine};

/// Buckets of cells, each a portion of a transfer.
const BUCKETS: usize = 8;
/// The want for the digests of all buckets.
const DIGESTS: &[u8] = b"digests";

/// What a key holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Cell {
    version: u64,
    hash: u64,
    /// The log's time of the last append: covers that the time is the same everywhere.
    time: u64,
}

/// The answer to an append: the key's version and hash after it. Version 0: a malformed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    version: u64,
    hash: u64,
}

#[derive(Clone, Debug, Default, Hash)]
struct Contents {
    cells: BTreeMap<u64, Cell>,
    core_state: Bytes,
    /// Per bucket, the sum of its cells' hashes.
    sums: [u64; BUCKETS],
}

/// An append-only map.
#[derive(Clone, Debug, Default, Hash)]
pub struct Toy {
    contents: Arc<Contents>,
}

/// A snapshot of it.
#[derive(Clone, Debug, Hash)]
pub struct Frozen(Arc<Contents>);

/// Which bucket a key is in: its number in a want and in the digests.
fn bucket(key: u64) -> usize {
    (key % BUCKETS as u64) as usize
}

/// A cell's hash after one more value.
#[must_use]
pub fn appended(hash: u64, value: u64) -> u64 {
    mix(hash ^ value)
}

fn cell_hash(key: u64, cell: Cell) -> u64 {
    mix(mix(mix(key) ^ cell.version) ^ cell.hash ^ cell.time.rotate_left(17))
}

impl Contents {
    fn root(&self) -> Digest {
        let mut root = [0; 32];
        for (i, word) in root.chunks_exact_mut(8).enumerate() {
            let seed = mix(digest(&self.core_state) ^ i as u64);
            let part = self.sums.iter().fold(seed, |part, sum| mix(part ^ sum));
            word.copy_from_slice(&part.to_le_bytes());
        }
        Digest(root)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl StateMachine for Toy {
    type Reply = Answer;
    type Snapshot = Frozen;
    type Import = ToyImport;

    fn execute(&mut self, at: At, requests: &[Accepted<'_>], replies: &mut Vec<Answer>) {
        let contents = Arc::make_mut(&mut self.contents);
        for request in requests {
            let answer = match (word(request.body, 0), word(request.body, 8)) {
                (Some(key), Some(value)) => {
                    let cell = contents.cells.entry(key).or_default();
                    let sum = &mut contents.sums[bucket(key)];
                    if cell.version > 0 {
                        *sum = sum.wrapping_sub(cell_hash(key, *cell));
                    }
                    *cell =
                        Cell { version: cell.version + 1, hash: appended(cell.hash, value), time: at.time };
                    *sum = sum.wrapping_add(cell_hash(key, *cell));
                    Answer { version: cell.version, hash: cell.hash }
                }
                _ => Answer { version: 0, hash: 0 },
            };
            if request.reply_wanted {
                replies.push(answer);
            }
        }
    }

    fn cut(&mut self, _op: Op, core_state: &[u8]) -> Frozen {
        Arc::make_mut(&mut self.contents).core_state = Bytes::copy_from_slice(core_state);
        Frozen(self.contents.clone())
    }

    fn core_state(&self) -> Vec<u8> {
        self.contents.core_state.to_vec()
    }

    fn export(snapshot: &Frozen, want: &[u8], _max_bytes: usize) -> Bytes {
        let contents = &snapshot.0;
        let mut bytes = Vec::new();
        if want == DIGESTS {
            contents.sums.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
            bytes.extend_from_slice(&contents.core_state);
        } else if let &[wanted] = want {
            // At least a word, so that an empty bucket is an answer.
            bytes.extend_from_slice(&u64::from(wanted).to_le_bytes());
            for (&key, cell) in contents.cells.iter().filter(|(key, _)| bucket(**key) == usize::from(wanted))
            {
                for word in [key, cell.version, cell.hash, cell.time] {
                    bytes.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        bytes.into()
    }

    fn import(&self, _cut: Op, root: Digest, earlier: Option<ToyImport>) -> ToyImport {
        let here = self.contents.clone();
        let arrived = earlier.map_or_else(BTreeMap::new, |earlier| earlier.arrived);
        ToyImport { root, here, arrived, asked: BTreeSet::new(), head: None }
    }
}

/// A toy on its way in.
#[derive(Clone, Debug, Hash)]
pub struct ToyImport {
    root: Digest,
    here: Arc<Contents>,
    /// Buckets that have arrived, by their number and sum.
    arrived: BTreeMap<(usize, u64), Vec<(u64, Cell)>>,
    asked: BTreeSet<Vec<u8>>,
    /// The sums of the wanted toy and the core's part of it.
    head: Option<([u64; BUCKETS], Bytes)>,
}

impl ToyImport {
    fn cells(&self, sums: &[u64; BUCKETS], number: usize) -> Option<Vec<(u64, Cell)>> {
        if self.here.sums[number] == sums[number] {
            let here = self.here.cells.iter().filter(|(key, _)| bucket(**key) == number);
            return Some(here.map(|(key, cell)| (*key, *cell)).collect());
        }
        self.arrived.get(&(number, sums[number])).cloned()
    }

    fn take_bucket(&mut self, number: usize, portion: &[u8]) -> Result<(), ImportError> {
        let malformed = |what: &str| ImportError::Malformed(what.to_owned());
        let Some(sum) = self.head.as_ref().and_then(|(sums, _)| sums.get(number)) else {
            return Err(malformed("a bucket that does not exist"));
        };
        if word(portion, 0) != Some(number as u64) || portion.len() % 32 != 8 {
            return Err(malformed("not a number of cells"));
        }
        let mut cells = Vec::new();
        for cell in portion[8..].chunks_exact(32) {
            let at = |i: usize| word(cell, i * 8).expect("a cell is four words");
            cells.push((at(0), Cell { version: at(1), hash: at(2), time: at(3) }));
        }
        if !cells.is_sorted_by(|a, b| a.0 < b.0) || cells.iter().any(|(key, _)| bucket(*key) != number) {
            return Err(malformed("cells that are not in this bucket, or not in order"));
        }
        let found = cells.iter().fold(0, |sum: u64, (key, cell)| sum.wrapping_add(cell_hash(*key, *cell)));
        if found != *sum {
            return Err(ImportError::Digest(format!("bucket {number}")));
        }
        self.arrived.insert((number, found), cells);
        Ok(())
    }
}

impl Import for ToyImport {
    type Machine = Toy;

    fn want(&mut self) -> Option<Bytes> {
        let want = match &self.head {
            None => Some(DIGESTS.to_vec()),
            Some((sums, _)) => (0..BUCKETS)
                .filter(|number| self.cells(sums, *number).is_none())
                .map(|number| vec![number as u8])
                .find(|want| !self.asked.contains(want)),
        };
        let want = want.filter(|want| !self.asked.contains(want))?;
        self.asked.insert(want.clone());
        Some(want.into())
    }

    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        if !self.asked.remove(want) {
            return Err(ImportError::Malformed("an answer that nobody waits for".to_owned()));
        }
        if let &[number] = want {
            return self.take_bucket(usize::from(number), portion);
        }
        let (words, core_state) = portion
            .split_at_checked(BUCKETS * 8)
            .ok_or_else(|| ImportError::Malformed("fewer digests than buckets".to_owned()))?;
        let sums = std::array::from_fn(|i| word(words, i * 8).expect("as many words as buckets"));
        let core_state = Bytes::copy_from_slice(core_state);
        let root = Contents { cells: BTreeMap::new(), core_state: core_state.clone(), sums }.root();
        if root != self.root {
            return Err(ImportError::Digest("the digests of the buckets".to_owned()));
        }
        self.head = Some((sums, core_state));
        Ok(())
    }

    fn end(self) -> Result<Toy, ImportError> {
        let Some((sums, core_state)) = self.head.clone() else { return Err(ImportError::Incomplete) };
        let mut cells = BTreeMap::new();
        for number in 0..BUCKETS {
            cells.extend(self.cells(&sums, number).ok_or(ImportError::Incomplete)?);
        }
        Ok(Toy { contents: Arc::new(Contents { cells, core_state, sums }) })
    }
}

impl Machine for Toy {
    fn empty() -> Toy {
        Toy::default()
    }

    fn request(rng: &mut Rng, unique: u64, keys: u64, padding: usize) -> Bytes {
        let mut body = Vec::with_capacity(16 + padding);
        body.extend_from_slice(&rng.below(keys).to_le_bytes());
        body.extend_from_slice(&unique.to_le_bytes());
        body.resize(16 + padding, 0x5a);
        body.into()
    }

    fn reply_digest(reply: &Answer) -> u64 {
        mix(reply.version ^ mix(reply.hash))
    }

    fn fingerprint(&self) -> u64 {
        self.contents.sums.iter().fold(0, |all: u64, sum| all.wrapping_add(*sum))
    }

    fn appends(body: &[u8]) -> Option<(u64, u64)> {
        Some((word(body, 0)?, word(body, 8)?))
    }

    fn cell_of(reply: &Answer) -> Option<(u64, u64)> {
        Some((reply.version, reply.hash))
    }

    fn cell(&self, key: u64) -> Option<(u64, u64)> {
        Some(self.contents.cells.get(&key).map_or((0, 0), |cell| (cell.version, cell.hash)))
    }

    fn root(snapshot: &Frozen) -> Digest {
        snapshot.0.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Tap, Tapped};
    use crate::rng::Stream;
    use vr_core::{RequestNumber, SessionId};

    fn filled(n: u64) -> Toy {
        let mut toy = Toy::empty();
        let mut rng = Rng::new(3, Stream::Clients);
        for i in 1..=n {
            let body = Toy::request(&mut rng, i, 20, 3);
            let accepted = Accepted {
                session: SessionId::default(),
                number: RequestNumber(i),
                body: &body,
                reply_wanted: i % 2 == 0,
            };
            let mut replies = Vec::new();
            toy.execute(At { op: Op(i), time: i }, &[accepted], &mut replies);
            assert_eq!(replies.len() as u64, (i + 1) % 2);
        }
        toy
    }

    #[test]
    fn a_snapshot_arrives_whole_in_portions_of_any_size() {
        let mut toy = filled(100);
        let snapshot = toy.cut(Op(100), b"the core's own");
        for portion in [1, 50, 100_000] {
            let loaded = Tapped::<Toy>::load(&snapshot, portion, Tap::default()).expect("its own export");
            assert_eq!(loaded.core_state(), b"the core's own");
            assert_eq!(loaded.inner.fingerprint(), toy.fingerprint());
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let mut toy = Toy::empty();
        let mut source = filled(30);
        let snapshot = source.cut(Op(30), b"core");
        let mut import = toy.import(Op(30), Toy::root(&snapshot), None);
        let want = import.want().expect("nothing is known yet");
        assert_eq!(import.want(), None);
        for bad in [&b"short"[..], &[1; BUCKETS * 8]] {
            assert!(import.take(&want, bad).is_err());
            assert_eq!(import.want(), Some(want.clone()));
        }
        import.take(&want, &Toy::export(&snapshot, &want, 100)).expect("the digests");
        let want = import.want().expect("all buckets are missing");
        for bad in [&b""[..], b"short", &[0; 8 + 31], &[0; 8 + 32], &9_u64.to_le_bytes()] {
            assert!(import.take(&want, bad).is_err());
            assert_eq!(import.want(), Some(want.clone()));
        }
        assert!(import.take(&[99], &[0; 8]).is_err());
        assert_eq!(import.end().err(), Some(ImportError::Incomplete));
        assert!(Toy::export(&snapshot, b"none", 100).is_empty());
        let mut replies = Vec::new();
        let session = SessionId::default();
        let bad = Accepted { session, number: RequestNumber(1), body: b"bad", reply_wanted: true };
        toy.execute(At { op: Op(1), time: 1 }, &[bad], &mut replies);
        assert_eq!(replies, [Answer { version: 0, hash: 0 }]);
    }
}
