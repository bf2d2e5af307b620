//! The log in RAM: consecutive, hash-chained entries above a base.
//!
//! It promises that the entries chain: each names the digest of the one before it; and that a clone shares them, at the
//! cost of a pointer for every [`CHUNK`]. What is committed it does not know; whoever cuts its tail must.

use crate::ids::{Digest, Op};
use crate::message::{Entry, Header};
use crate::mutants::{Mutant, on};
use bytes::Bytes;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Entries that a clone shares as one: what it costs, and what the first change after it has to copy.
const CHUNK: usize = 64;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Slot {
    entry: Entry,
    digest: Digest,
}

/// Entries `oldest()..=op()` and the digest of everything below.
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "serial::Entries", into = "serial::Entries"))]
pub struct Log {
    base: Op,
    base_digest: Digest,
    /// Each but the last has [`CHUNK`] slots.
    chunks: VecDeque<Arc<Vec<Slot>>>,
    /// Slots of the first chunk that are forgotten.
    forgotten: usize,
    /// Slots in all chunks, those that are forgotten included.
    slots: usize,
}

impl Log {
    /// A log without entries above `base`, whose chained digest is `digest`.
    #[must_use]
    pub fn new(base: Op, digest: Digest) -> Log {
        Log { base, base_digest: digest, chunks: VecDeque::new(), forgotten: 0, slots: 0 }
    }

    /// The newest entry's number; the base's when there is none.
    #[must_use]
    pub fn op(&self) -> Op {
        Op(self.base.0 + (self.slots - self.forgotten) as u64)
    }

    /// The op below the oldest entry held.
    #[must_use]
    pub fn base(&self) -> Op {
        self.base
    }

    /// The first op that is, or would be, held.
    #[must_use]
    pub fn oldest(&self) -> Op {
        self.base.next()
    }

    /// Digest of the whole log.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.slot(self.op()).map_or(self.base_digest, |slot| slot.digest)
    }

    /// Digest of the log through `op`, if `op` is the base or held.
    #[must_use]
    pub fn digest_at(&self, op: Op) -> Option<Digest> {
        if op == self.base {
            return Some(self.base_digest);
        }
        self.slot(op).map(|slot| slot.digest)
    }

    /// One entry.
    #[must_use]
    pub fn entry(&self, op: Op) -> Option<&Entry> {
        self.slot(op).map(|slot| &slot.entry)
    }

    fn slot(&self, op: Op) -> Option<&Slot> {
        let index = usize::try_from(op.0.checked_sub(self.base.0 + 1)?).ok()?.checked_add(self.forgotten)?;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// Whether `header` continues this log.
    #[must_use]
    pub fn continued_by(&self, header: &Header) -> bool {
        let follows = header.parent == self.digest() || on(Mutant::LooseChain);
        header.op == self.op().next() && follows
    }

    /// Adds the next entry.
    ///
    /// # Panics
    /// When it does not continue the log: the caller checks with [`Log::continued_by`].
    pub fn append(&mut self, entry: Entry) {
        assert!(self.continued_by(&entry.header), "entry {} does not continue the log", entry.header.op);
        let digest = entry.digest();
        self.push(Slot { entry, digest });
    }

    fn push(&mut self, slot: Slot) {
        if self.slots.is_multiple_of(CHUNK) {
            self.chunks.push_back(Arc::new(Vec::with_capacity(CHUNK)));
        }
        let last = self.chunks.back_mut().expect("one was just added where there was no room");
        Arc::make_mut(last).push(slot);
        self.slots += 1;
    }

    /// Forgets everything above `op`. The replacement must be in hand (R13).
    ///
    /// # Panics
    /// When `op` lies below the base.
    pub fn truncate(&mut self, op: Op) {
        assert!(op >= self.base, "cannot cut the log at {op}, below its base {}", self.base);
        let kept = self.forgotten + (op.0 - self.base.0) as usize;
        if kept >= self.slots {
            return;
        }
        self.slots = kept;
        self.chunks.truncate(kept.div_ceil(CHUNK));
        if !kept.is_multiple_of(CHUNK) {
            let last = self.chunks.back_mut().expect("it holds what is kept");
            Arc::make_mut(last).truncate(kept % CHUNK);
        }
    }

    /// Forgets the entries through `op`, which stays as the base.
    pub fn trim(&mut self, op: Op) {
        let op = op.min(self.op());
        let Some(digest) = self.digest_at(op).filter(|_| op > self.base) else { return };
        self.forgotten += (op.0 - self.base.0) as usize;
        (self.base, self.base_digest) = (op, digest);
        let whole = self.forgotten / CHUNK;
        self.chunks.drain(..whole);
        self.forgotten -= whole * CHUNK;
        self.slots -= whole * CHUNK;
        // A body may be large; those of a chunk that a clone shares go with the chunk.
        if let Some(first) = self.chunks.front_mut().and_then(Arc::get_mut) {
            first[..self.forgotten].iter_mut().for_each(|slot| slot.entry.body = Bytes::new());
        }
    }

    fn held(&self) -> impl Iterator<Item = &Slot> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).skip(self.forgotten)
    }

    /// Headers of the entries above `op` (or above the base, if that is higher).
    #[must_use]
    pub fn headers_above(&self, op: Op) -> Vec<Header> {
        let first = op.0.max(self.base.0) + 1;
        (first..=self.op().0).filter_map(|op| Some(self.entry(Op(op))?.header)).collect()
    }

    /// Consecutive entries from `from` through `to`, about `max_bytes` of bodies but at least one if it is held.
    #[must_use]
    pub fn entries(&self, from: Op, to: Op, max_bytes: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        let mut op = from;
        while op <= to && bytes < max_bytes {
            let Some(entry) = self.entry(op) else { break };
            bytes += crate::codec::HEADER_BYTES + entry.body.len();
            taken.push(entry.clone());
            op = op.next();
        }
        taken
    }
}

/// By what it holds, however that came to lie in chunks.
impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.base, self.base_digest).hash(state);
        self.held().for_each(|slot| slot.hash(state));
    }
}

#[cfg(feature = "serde")]
mod serial {
    use super::{Digest, Log, Op, Slot};

    /// A log as data.
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Entries {
        base: Op,
        base_digest: Digest,
        slots: Vec<Slot>,
    }

    impl From<Entries> for Log {
        fn from(Entries { base, base_digest, slots }: Entries) -> Log {
            let mut log = Log::new(base, base_digest);
            slots.into_iter().for_each(|slot| log.push(slot));
            log
        }
    }

    impl From<Log> for Entries {
        fn from(log: Log) -> Entries {
            let slots = log.held().cloned().collect();
            Entries { base: log.base, base_digest: log.base_digest, slots }
        }
    }
}

/// Whether headers are consecutive and chained, the last of them being `op`.
#[must_use]
pub fn chained(headers: &[Header], op: Op) -> bool {
    let linked = headers
        .windows(2)
        .all(|pair| pair[1].op.0 == pair[0].op.0.wrapping_add(1) && pair[1].parent == pair[0].digest());
    linked && headers.last().is_none_or(|last| last.op == op)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ballot;
    use crate::message::Kind;

    fn log(entries: u64) -> Log {
        let mut log = Log::new(Op(10), Digest([9; 32]));
        for _ in 0..entries {
            let next = log.op().next();
            log.append(Entry::new(next, Ballot::default(), Kind::NewView, 0, log.digest(), Bytes::new()));
        }
        log
    }

    #[test]
    fn numbers_and_digests_follow_the_entries() {
        let log = log(5);
        assert_eq!((log.oldest(), log.op()), (Op(11), Op(15)));
        assert_eq!(log.digest_at(Op(10)), Some(Digest([9; 32])));
        assert_eq!(log.digest_at(Op(15)), Some(log.digest()));
        assert_eq!(log.digest_at(Op(14)), log.entry(Op(15)).map(|e| e.header.parent));
        assert_eq!(log.digest_at(Op(16)), None);
        assert_eq!(log.digest_at(Op(9)), None);
        assert_eq!(log.digest_at(Op(0)), None);
    }

    #[test]
    fn both_ends_can_be_forgotten() {
        let mut log = log(5);
        let at_12 = log.digest_at(Op(12));
        log.trim(Op(12));
        assert_eq!((log.base(), log.op(), log.digest_at(Op(12))), (Op(12), Op(15), at_12));
        log.truncate(Op(13));
        assert_eq!(log.op(), Op(13));
        log.truncate(Op(12));
        assert_eq!((log.op(), Some(log.digest())), (Op(12), at_12));
        log.trim(Op(99));
        assert_eq!(log.base(), Op(12), "only what is held can be trimmed");
    }

    fn hash(log: &Log) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        log.hash(&mut hasher);
        hasher.finish()
    }

    fn entry(log: &Log, byte: u8) -> Entry {
        Entry::new(
            log.op().next(),
            Ballot::default(),
            Kind::NewView,
            0,
            log.digest(),
            Bytes::copy_from_slice(&[byte]),
        )
    }

    /// One log in chunks and one in a plain list, under the same changes; clones made on the way stay as they were.
    #[test]
    fn it_is_a_list_whatever_is_shared() {
        let (mut log, mut plain) = (log(0), VecDeque::<(Op, Digest)>::new());
        let mut clones = Vec::new();
        let mut seed = 7u64;
        for round in 0..3_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (seed >> 33) as usize;
            match random % 16 {
                0 => {
                    let op = Op(log.base().0 + (random as u64 / 16) % 100);
                    log.trim(op);
                    plain.retain(|(held, _)| *held > op);
                }
                1 => {
                    let op = Op(log.op().0.saturating_sub((random as u64 / 16) % 20).max(log.base().0));
                    log.truncate(op);
                    plain.retain(|(held, _)| *held <= op);
                }
                2 if round % 5 == 0 => clones.push((log.clone(), hash(&log), plain.clone())),
                _ => {
                    let entry = entry(&log, random as u8);
                    plain.push_back((entry.header.op, entry.digest()));
                    log.append(entry);
                }
            }
            assert_eq!(log.op().0 - log.base().0, plain.len() as u64);
            assert!(plain.iter().all(|(op, digest)| log.digest_at(*op) == Some(*digest)));
            assert_eq!(log.digest_at(log.op().next()), None);
        }
        assert!(clones.len() > 10);
        for (clone, hashed, plain) in clones {
            assert!(plain.iter().all(|(op, digest)| {
                clone.digest_at(*op) == Some(*digest)
                    && clone.entry(*op).is_some_and(|entry| !entry.body.is_empty())
            }));
            assert_eq!((clone.op().0 - clone.base().0, hash(&clone)), (plain.len() as u64, hashed));
        }
    }

    #[test]
    fn two_logs_that_hold_the_same_hash_the_same() {
        let mut trimmed = log(200);
        trimmed.trim(Op(140));
        let mut fresh = Log::new(trimmed.base(), trimmed.digest_at(Op(140)).expect("it is the base"));
        trimmed.entries(Op(141), Op(210), usize::MAX).into_iter().for_each(|entry| fresh.append(entry));
        assert_eq!(hash(&fresh), hash(&trimmed));
        fresh.truncate(Op(209));
        assert_ne!(hash(&fresh), hash(&trimmed));
    }

    #[test]
    fn what_is_forgotten_keeps_no_body() {
        let body = Bytes::from(vec![7; 1_000]);
        let mut log = Log::new(Op(0), Digest::default());
        for _ in 0..3 {
            let (next, parent) = (log.op().next(), log.digest());
            log.append(Entry::new(next, Ballot::default(), Kind::NewView, 0, parent, body.clone()));
        }
        log.trim(Op(2));
        log.truncate(Op(2));
        assert!(body.is_unique(), "a forgotten entry still holds its body");
    }

    #[test]
    fn slices_are_bounded_but_never_empty_when_something_is_held() {
        let log = log(5);
        assert_eq!(log.entries(Op(12), Op(99), usize::MAX).len(), 4);
        assert_eq!(log.entries(Op(12), Op(13), usize::MAX).len(), 2);
        assert_eq!(log.entries(Op(12), Op(99), 1).len(), 1);
        assert_eq!(log.entries(Op(10), Op(99), usize::MAX).len(), 0);
        assert_eq!(log.headers_above(Op(13)).len(), 2);
        assert_eq!(log.headers_above(Op(0)).len(), 5);
        assert!(chained(&log.headers_above(Op(0)), Op(15)));
        assert!(!chained(&log.headers_above(Op(0)), Op(14)));
        let mut gap = log.headers_above(Op(0));
        gap.remove(2);
        assert!(!chained(&gap, Op(15)));
    }

    #[test]
    #[should_panic(expected = "does not continue")]
    fn a_stranger_is_not_appended() {
        let mut log = log(2);
        log.append(Entry::new(Op(13), Ballot::default(), Kind::NewView, 0, Digest::default(), Bytes::new()));
    }
}
