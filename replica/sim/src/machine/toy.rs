//! The smallest machine that forgets nothing: per key a version and a hash of all values ever appended.
//!
//! Losing, repeating or reordering any request changes the state for ever, and its fingerprint is kept up to date in
//! a few instructions, so that states can be compared after every entry.

use super::{Machine, digest};
use crate::rng::{Rng, mix};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use vr_core::{Accepted, At, Chunk, Digest, Op, StateMachine};

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
    sum: u64,
}

/// An append-only map.
#[derive(Clone, Debug, Default, Hash)]
pub struct Toy {
    contents: Arc<Contents>,
}

/// A snapshot of it.
#[derive(Clone, Debug, Hash)]
pub struct Frozen(Arc<Contents>);

fn cell_hash(key: u64, cell: Cell) -> u64 {
    mix(mix(mix(key) ^ cell.version) ^ cell.hash ^ cell.time.rotate_left(17))
}

impl Contents {
    fn root(&self) -> Digest {
        let mut root = [0; 32];
        for (i, word) in root.chunks_exact_mut(8).enumerate() {
            let part = mix(self.sum ^ mix(digest(&self.core_state) ^ i as u64));
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

    fn execute(&mut self, at: At, requests: &[Accepted<'_>], replies: &mut Vec<Answer>) {
        let contents = Arc::make_mut(&mut self.contents);
        for request in requests {
            let answer = match (word(request.body, 0), word(request.body, 8)) {
                (Some(key), Some(value)) => {
                    let cell = contents.cells.entry(key).or_default();
                    if cell.version > 0 {
                        contents.sum = contents.sum.wrapping_sub(cell_hash(key, *cell));
                    }
                    *cell = Cell { version: cell.version + 1, hash: mix(cell.hash ^ value), time: at.time };
                    contents.sum = contents.sum.wrapping_add(cell_hash(key, *cell));
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

    // The cursor is the next key; the core's state travels in front of the first portion.
    fn export(snapshot: &Frozen, cursor: &[u8], max_bytes: usize) -> Chunk {
        let from = word(cursor, 0).unwrap_or(0);
        let mut bytes = Vec::new();
        let core_state = if cursor.is_empty() { &snapshot.0.core_state[..] } else { &[] };
        bytes.extend_from_slice(&(core_state.len() as u64).to_le_bytes());
        bytes.extend_from_slice(core_state);
        for (&key, cell) in snapshot.0.cells.range(from..) {
            if bytes.len() >= max_bytes.max(core_state.len() + 40) {
                let next = Bytes::copy_from_slice(&key.to_le_bytes());
                return Chunk { bytes: bytes.into(), next: Some(next) };
            }
            for word in [key, cell.version, cell.hash, cell.time] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        Chunk { bytes: bytes.into(), next: None }
    }

    fn import_begin(&self) -> Toy {
        Toy::default()
    }

    fn import(&mut self, chunk: &[u8]) -> bool {
        let contents = Arc::make_mut(&mut self.contents);
        let Some(core_len) = word(chunk, 0) else { return false };
        let Some(core_state) =
            usize::try_from(core_len).ok().and_then(|n| chunk.get(8..8usize.checked_add(n)?))
        else {
            return false;
        };
        if !core_state.is_empty() {
            contents.core_state = Bytes::copy_from_slice(core_state);
        }
        let cells = &chunk[8 + core_state.len()..];
        if !cells.len().is_multiple_of(32) {
            return false;
        }
        for cell in cells.chunks_exact(32) {
            let at = |i: usize| word(cell, i * 8).expect("a cell is four words");
            let (key, cell) = (at(0), Cell { version: at(1), hash: at(2), time: at(3) });
            if contents.cells.insert(key, cell).is_some() {
                return false;
            }
            contents.sum = contents.sum.wrapping_add(cell_hash(key, cell));
        }
        true
    }

    fn import_end(&mut self) -> Digest {
        self.contents.root()
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
        self.contents.sum
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
        assert!(!toy.import(b"short"));
        assert!(!toy.import(&u64::MAX.to_le_bytes()));
        assert!(!toy.import(&[0; 8 + 31]));
        let mut replies = Vec::new();
        let session = SessionId::default();
        let bad = Accepted { session, number: RequestNumber(1), body: b"bad", reply_wanted: true };
        toy.execute(At { op: Op(1), time: 1 }, &[bad], &mut replies);
        assert_eq!(replies, [Answer { version: 0, hash: 0 }]);
    }
}
