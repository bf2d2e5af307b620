//! The newest part of the committed log, kept once for all tiers and encoded once.
//!
//! Entries are written into the segment that is open as they come. When a tier is due, that segment is sealed, and its
//! bytes go to every tier that needs exactly those ops; a tier that is further behind gets them merged. What all tiers
//! have is let go of, and beyond a bound the oldest goes in any case: a tier that still needed it has a gap, and asks
//! for a checkpoint. The memory of what went is used again.

use crate::format::{LogEntry, SegmentBuilder};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes that are kept for tiers that are behind.
const BOUND: usize = 64 << 20;
/// Bytes of one segment, about.
const SEGMENT: usize = 16 << 20;

/// The log that some tier may still need.
pub(super) struct Tail {
    lineage: [u8; 16],
    generation: u64,
    open: Option<SegmentBuilder>,
    /// Time of the newest entry in it.
    open_time: u64,
    sealed: VecDeque<Sealed>,
    /// Bytes in `sealed`.
    bytes: usize,
    /// How far each tier is.
    shipped: Vec<u64>,
    spare: BytesMut,
    /// Bytes of the newest sealed one: the next will be about as long.
    last_len: usize,
}

/// A finished segment.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Time of its last entry.
    pub(super) time_micros: u64,
    pub(super) body: Bytes,
}

impl Tail {
    pub(super) fn new(lineage: [u8; 16], generation: u64, tiers: usize) -> Tail {
        Tail {
            lineage,
            generation,
            open: None,
            open_time: 0,
            sealed: VecDeque::new(),
            bytes: 0,
            shipped: vec![0; tiers],
            spare: BytesMut::new(),
            last_len: 0,
        }
    }

    /// Takes the next committed entry. One that does not follow the last begins anew.
    pub(super) fn push(&mut self, entry: &LogEntry) {
        if self.shipped.is_empty() {
            return;
        }
        if self.open.as_ref().is_some_and(|open| open.next() != entry.op || open.len() >= SEGMENT) {
            self.seal();
        }
        let (lineage, generation) = (self.lineage, self.generation);
        let (spare, about) = (&mut self.spare, self.last_len + self.last_len / 8);
        let open = self.open.get_or_insert_with(|| {
            let mut memory = std::mem::take(spare);
            // To grow step by step is to copy all of it, into memory that was never used, again and again.
            memory.clear();
            memory.reserve(about);
            SegmentBuilder::new(lineage, generation, entry.op, memory)
        });
        open.push(entry);
        self.open_time = entry.time_micros;
    }

    /// A tier is due: if everything that it lacks is still open, that is sealed now. Otherwise another tier was due a
    /// moment ago, and what was sealed for it is the right piece for this one too.
    pub(super) fn due(&mut self, tier: usize) {
        if self.sealed.back().is_none_or(|newest| newest.last <= self.shipped[tier]) {
            self.seal();
        }
    }

    /// What comes next for a tier, sealed and in one piece.
    pub(super) fn next(&self, tier: usize) -> Option<Sealed> {
        let at = self.shipped[tier];
        let mut behind = self.sealed.iter().skip_while(|segment| segment.last <= at).peekable();
        let first = behind.next_if(|segment| segment.first <= at + 1)?;
        let (mut last, mut bytes) = (first, first.body.len());
        let mut more = Vec::new();
        while let Some(segment) =
            behind.next_if(|segment| segment.first == last.last + 1 && bytes + segment.body.len() <= SEGMENT)
        {
            bytes += segment.body.len();
            more.push(segment);
            last = segment;
        }
        if more.is_empty() && first.first == at + 1 {
            return Some(first.clone());
        }
        let memory = BytesMut::with_capacity(bytes);
        let mut merged = SegmentBuilder::new(self.lineage, self.generation, at + 1, memory);
        merged.append(&first.body);
        more.iter().for_each(|segment| merged.append(&segment.body));
        Some(Sealed { first: at + 1, last: last.last, time_micros: last.time_micros, body: merged.finish() })
    }

    /// A tier has everything through `op`.
    pub(super) fn shipped(&mut self, tier: usize, op: u64) {
        self.shipped[tier] = op;
        self.trim();
    }

    /// Whether there are entries beyond what a tier has, and they do not follow.
    pub(super) fn has_gap(&self, tier: usize) -> bool {
        let at = self.shipped[tier];
        let sealed = self.sealed.iter().find(|segment| segment.last > at).map(|segment| segment.first);
        let open = self.open.as_ref().filter(|open| open.next() > at + 1).map(SegmentBuilder::first);
        sealed.or(open).is_some_and(|first| first > at + 1)
    }

    /// Bytes that a tier lacks.
    pub(super) fn waiting(&self, tier: usize) -> usize {
        let at = self.shipped[tier];
        let sealed: usize = self.sealed.iter().filter(|s| s.last > at).map(|s| s.body.len()).sum();
        let open = self.open.as_ref().filter(|open| open.next() > at + 1);
        sealed + open.map_or(0, SegmentBuilder::len)
    }

    /// Whether a tier lacks as much as one segment holds: to wait for its next turn would only let more fall out.
    pub(super) fn fills(&self, tier: usize) -> bool {
        self.waiting(tier) >= SEGMENT
    }

    fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        let (first, last) = (open.first(), open.next() - 1);
        let body = open.finish();
        self.bytes += body.len();
        self.last_len = body.len();
        self.sealed.push_back(Sealed { first, last, time_micros: self.open_time, body });
        self.trim();
    }

    fn trim(&mut self) {
        let all_have = self.shipped.iter().copied().min().unwrap_or(u64::MAX);
        while self.sealed.front().is_some_and(|oldest| oldest.last <= all_have || self.bytes > BOUND) {
            let Some(gone) = self.sealed.pop_front() else { break };
            self.bytes -= gone.body.len();
            if let Ok(memory) = gone.body.try_into_mut()
                && memory.capacity() > self.spare.capacity()
            {
                self.spare = memory;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Segment;

    fn entry(op: u64, bytes: usize) -> LogEntry {
        LogEntry { op, time_micros: op * 10, digest: [op as u8; 32], bytes: vec![op as u8; bytes].into() }
    }

    fn tail(tiers: usize, ops: std::ops::RangeInclusive<u64>) -> Tail {
        let mut tail = Tail::new([3; 16], 1, tiers);
        ops.for_each(|op| tail.push(&entry(op, 10)));
        tail
    }

    fn ops(sealed: &Sealed) -> Vec<u64> {
        let segment = Segment::parse("s", &sealed.body).expect("valid");
        assert_eq!(sealed.time_micros, segment.entries[segment.entries.len() - 1].time_micros);
        let ops: Vec<u64> = segment.entries.iter().map(|entry| entry.op).collect();
        assert_eq!((sealed.first, sealed.last), (ops[0], ops[ops.len() - 1]));
        ops
    }

    #[test]
    fn tiers_that_are_due_together_share_one_encoding() {
        let mut tail = tail(2, 1..=3);
        tail.due(0);
        let first = tail.next(0).expect("three entries");
        tail.shipped(0, first.last);
        tail.push(&entry(4, 10));
        tail.due(1);
        let second = tail.next(1).expect("the same three");
        assert_eq!(ops(&second), [1, 2, 3]);
        assert_eq!(second.body.as_ptr(), first.body.as_ptr());
        tail.shipped(1, 3);
        assert!(tail.next(1).is_none(), "the fourth waits until somebody is due");
        assert_eq!((tail.sealed.len(), tail.bytes), (0, 0));
        tail.due(1);
        assert_eq!(ops(&tail.next(1).expect("the fourth")), [4]);
    }

    #[test]
    fn a_tier_that_is_behind_gets_one_merged_piece_from_where_it_is() {
        let mut tail = tail(2, 1..=3);
        for op in 4..=9 {
            tail.due(0);
            let sealed = tail.next(0).expect("something");
            tail.shipped(0, sealed.last);
            tail.push(&entry(op, 10));
        }
        tail.shipped(1, 1);
        tail.due(1);
        assert_eq!(ops(&tail.next(1).expect("merged")), [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_does_not_fit_falls_out_and_leaves_a_gap() {
        let mut tail = Tail::new([3; 16], 1, 1);
        for op in 1..=100 {
            tail.push(&entry(op, 1 << 20));
        }
        assert!(tail.has_gap(0));
        assert!(tail.bytes <= BOUND);
        assert!(tail.next(0).is_none(), "nothing is shipped beyond a gap");
        tail.shipped(0, 100);
        assert!(!tail.has_gap(0));
        assert_eq!(tail.waiting(0), 0);
        tail.push(&entry(102, 5));
        assert!(tail.has_gap(0), "101 was left out");
    }
}
