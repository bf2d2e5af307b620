//! The log in RAM: consecutive, hash-chained entries above a base.
//!
//! It promises that the entries chain: each names the digest of the one before it. What is committed it does not
//! know; whoever cuts its tail must.

use crate::ids::{Digest, Op};
use crate::message::{Entry, Header};
use crate::mutants::{Mutant, on};
use std::collections::VecDeque;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Slot {
    entry: Entry,
    digest: Digest,
}

/// Entries `oldest()..=op()` and the digest of everything below.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Log {
    base: Op,
    base_digest: Digest,
    slots: VecDeque<Slot>,
}

impl Log {
    /// A log without entries above `base`, whose chained digest is `digest`.
    #[must_use]
    pub fn new(base: Op, digest: Digest) -> Log {
        Log { base, base_digest: digest, slots: VecDeque::new() }
    }

    /// The newest entry's number; the base's when there is none.
    #[must_use]
    pub fn op(&self) -> Op {
        Op(self.base.0 + self.slots.len() as u64)
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
        self.slots.back().map_or(self.base_digest, |slot| slot.digest)
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
        let index = op.0.checked_sub(self.base.0 + 1)?;
        self.slots.get(usize::try_from(index).ok()?)
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
        self.slots.push_back(Slot { entry, digest });
    }

    /// Forgets everything above `op`. The replacement must be in hand (R13).
    ///
    /// # Panics
    /// When `op` lies below the base.
    pub fn truncate(&mut self, op: Op) {
        assert!(op >= self.base, "cannot cut the log at {op}, below its base {}", self.base);
        self.slots.truncate((op.0 - self.base.0) as usize);
    }

    /// Forgets the entries through `op`, which stays as the base.
    pub fn trim(&mut self, op: Op) {
        while self.base < op {
            let Some(slot) = self.slots.pop_front() else { break };
            self.base = slot.entry.header.op;
            self.base_digest = slot.digest;
        }
    }

    /// Headers of the entries above `op` (or above the base, if that is higher).
    #[must_use]
    pub fn headers_above(&self, op: Op) -> Vec<Header> {
        let skip = op.0.saturating_sub(self.base.0) as usize;
        self.slots.iter().skip(skip).map(|slot| slot.entry.header).collect()
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
    use bytes::Bytes;

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
