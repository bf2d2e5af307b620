//! The newest part of the committed log, kept once for all tiers.
//!
//! An entry's body is the memory that the replica's own log holds: to keep it here costs little more. It is copied
//! when it is written: a tier that is due gets what it lacks as one segment, and a tier that is due at the same moment
//! and lacks the same gets the same bytes. What all tiers have is let go of, and beyond a bound the oldest goes in any
//! case: a tier that still needed it has a gap, and asks for a checkpoint.

use crate::format::{Committed, SegmentBuilder};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes that are kept for tiers that are behind.
const BOUND: u64 = 64 << 20;
/// Bytes of one segment, about.
const SEGMENT: u64 = 16 << 20;

/// The log that some tier may still need.
pub(super) struct Tail {
    lineage: [u8; 16],
    generation: u64,
    /// Consecutive.
    entries: VecDeque<Kept>,
    /// Bytes of all entries that ever came, as they are written.
    total: u64,
    tiers: Vec<Reach>,
    /// The last one made.
    segment: Option<Sealed>,
    /// Memory of one that nobody needs any more.
    spare: BytesMut,
}

struct Kept {
    entry: Committed,
    /// Bytes of all entries that came before it.
    before: u64,
}

/// How far a tier is.
#[derive(Clone, Copy, Default)]
struct Reach {
    shipped: u64,
    /// What it shall have now; what came later waits until it is due again.
    until: u64,
}

/// A finished segment.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) body: Bytes,
}

impl Tail {
    pub(super) fn new(lineage: [u8; 16], generation: u64, tiers: usize) -> Tail {
        Tail {
            lineage,
            generation,
            entries: VecDeque::new(),
            total: 0,
            tiers: vec![Reach::default(); tiers],
            segment: None,
            spare: BytesMut::new(),
        }
    }

    /// Takes the next committed entry. One that does not follow the last begins anew.
    pub(super) fn push(&mut self, entry: Committed) {
        if self.tiers.is_empty() {
            return;
        }
        if self.newest().is_some_and(|newest| entry.op != newest + 1) {
            self.entries.clear();
        }
        let before = self.total;
        self.total += SegmentBuilder::bytes_of(&entry) as u64;
        self.entries.push_back(Kept { entry, before });
        while self.entries.front().is_some_and(|oldest| self.total - oldest.before > BOUND) {
            self.entries.pop_front();
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|kept| kept.entry.op)
    }

    fn newest(&self) -> Option<u64> {
        self.entries.back().map(|kept| kept.entry.op)
    }

    /// The entries above `op`.
    fn above(&self, op: u64) -> impl Iterator<Item = &Kept> {
        let skip = self.oldest().map_or(0, |oldest| (op + 1).saturating_sub(oldest));
        self.entries.range(self.entries.len().min(usize::try_from(skip).unwrap_or(usize::MAX))..)
    }

    /// A tier is due: it shall have everything, unless another was due a moment ago: then what was made for that one is
    /// the right piece for this one too.
    pub(super) fn due(&mut self, tier: usize) {
        let made = self.segment.as_ref().map(|segment| segment.last);
        let reach = &self.tiers[tier];
        let until = made.filter(|made| *made > reach.shipped).or(self.newest());
        self.tiers[tier].until = until.unwrap_or(0);
    }

    /// What comes next for a tier, in one piece.
    pub(super) fn next(&mut self, tier: usize) -> Option<Sealed> {
        let Reach { shipped, until } = self.tiers[tier];
        if let Some(made) =
            self.segment.as_ref().filter(|made| made.first == shipped + 1 && made.last <= until)
        {
            return Some(made.clone());
        }
        let first = self.above(shipped).next().filter(|kept| kept.entry.op == shipped + 1)?;
        let (from, mut bytes) = (first.before, 0);
        // At least one, however long.
        let fits =
            |kept: &&Kept| kept.entry.op <= until && (kept.before == from || kept.before - from < SEGMENT);
        let mut piece = 0;
        for kept in self.above(shipped).take_while(fits) {
            bytes += SegmentBuilder::bytes_of(&kept.entry);
            piece += 1;
        }
        if piece == 0 {
            return None;
        }
        let memory = self.memory(SegmentBuilder::EMPTY + bytes);
        let mut segment = SegmentBuilder::new(self.lineage, self.generation, shipped + 1, memory);
        for Kept { entry, .. } in self.above(shipped).take(piece) {
            segment.push(entry);
        }
        let (first, last) = (shipped + 1, segment.next() - 1);
        let made = Sealed { first, last, body: segment.finish() };
        self.segment = Some(made.clone());
        Some(made)
    }

    /// A segment of just these ops, if all of them are still here.
    pub(super) fn piece(&self, first: u64, last: u64) -> Option<Bytes> {
        if first > last || self.oldest()? > first || self.newest()? < last {
            return None;
        }
        let piece = || {
            self.above(first.saturating_sub(1)).map(|kept| &kept.entry).take_while(|entry| entry.op <= last)
        };
        let bytes: usize = piece().map(SegmentBuilder::bytes_of).sum();
        let memory = BytesMut::with_capacity(SegmentBuilder::EMPTY + bytes);
        let mut segment = SegmentBuilder::new(self.lineage, self.generation, first, memory);
        piece().for_each(|entry| segment.push(entry));
        Some(segment.finish())
    }

    /// Memory for a segment of so many bytes: that of an older one, if it is large enough and nobody reads it any more.
    fn memory(&mut self, bytes: usize) -> BytesMut {
        self.retire();
        match std::mem::take(&mut self.spare) {
            spare if spare.capacity() >= bytes => spare,
            // The next may be a little longer.
            _ => BytesMut::with_capacity(bytes + bytes / 8),
        }
    }

    /// The last segment serves no more tier.
    fn retire(&mut self) {
        let last = self.segment.take().and_then(|made| made.body.try_into_mut().ok());
        if let Some(last) = last.filter(|last| last.capacity() > self.spare.capacity()) {
            self.spare = last;
        }
    }

    /// A tier has everything through `op`.
    pub(super) fn shipped(&mut self, tier: usize, op: u64) {
        self.tiers[tier].shipped = op;
        let all_have = self.tiers.iter().map(|reach| reach.shipped).min().unwrap_or(u64::MAX);
        while self.oldest().is_some_and(|oldest| oldest <= all_have) {
            self.entries.pop_front();
        }
        if self.segment.as_ref().is_some_and(|made| made.last <= all_have) {
            self.retire();
        }
    }

    /// Whether there are entries beyond what a tier has, and they do not follow.
    pub(super) fn has_gap(&self, tier: usize) -> bool {
        let at = self.tiers[tier].shipped;
        self.above(at).next().is_some_and(|kept| kept.entry.op > at + 1)
    }

    /// Bytes that a tier lacks.
    pub(super) fn waiting(&self, tier: usize) -> u64 {
        self.above(self.tiers[tier].shipped).next().map_or(0, |kept| self.total - kept.before)
    }

    /// Whether a tier lacks as much as one segment holds: to wait for its next turn would only let more fall out.
    pub(super) fn fills(&self, tier: usize) -> bool {
        self.waiting(tier) >= SEGMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Segment;

    fn entry(op: u64, bytes: usize) -> Committed {
        let body = vec![op as u8; bytes].into();
        Committed {
            op,
            time_micros: op * 10,
            digest: [op as u8; 32],
            head: Bytes::from_static(b"head"),
            body,
        }
    }

    fn tail(tiers: usize, ops: std::ops::RangeInclusive<u64>) -> Tail {
        let mut tail = Tail::new([3; 16], 1, tiers);
        ops.for_each(|op| tail.push(entry(op, 10)));
        tail
    }

    fn ops(sealed: &Sealed) -> Vec<u64> {
        let segment = Segment::parse("s", &sealed.body).expect("valid");
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
        tail.push(entry(4, 10));
        tail.due(1);
        let second = tail.next(1).expect("the same three");
        assert_eq!(ops(&second), [1, 2, 3]);
        assert_eq!(second.body.as_ptr(), first.body.as_ptr());
        drop((first, second));
        tail.shipped(1, 3);
        assert!(tail.next(1).is_none(), "the fourth waits until somebody is due");
        assert_eq!(tail.newest(), Some(4));
        assert_eq!(tail.oldest(), Some(4), "what both have is let go of");
        assert!(tail.segment.is_none() && tail.spare.capacity() > 0, "its memory serves the next");
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
            tail.push(entry(op, 10));
        }
        tail.shipped(1, 1);
        tail.due(1);
        assert_eq!(ops(&tail.next(1).expect("merged")), [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn what_does_not_fit_falls_out_and_leaves_a_gap() {
        let mut tail = Tail::new([3; 16], 1, 1);
        for op in 1..=100 {
            tail.push(entry(op, 1 << 20));
        }
        assert!(tail.has_gap(0));
        assert!(tail.total - tail.entries[0].before <= BOUND);
        assert!(tail.next(0).is_none(), "nothing is shipped beyond a gap");
        tail.shipped(0, 100);
        assert!(!tail.has_gap(0));
        assert_eq!(tail.waiting(0), 0);
        tail.push(entry(102, 5));
        assert!(tail.has_gap(0), "101 was left out");
    }

    #[test]
    fn what_came_after_a_tier_was_due_waits() {
        let mut tail = tail(1, 1..=3);
        tail.due(0);
        tail.push(entry(4, 10));
        assert_eq!(ops(&tail.next(0).expect("what there was")), [1, 2, 3]);
        tail.shipped(0, 3);
        assert!(tail.next(0).is_none());
        assert!(tail.waiting(0) > 0);
    }

    #[test]
    fn a_lot_goes_in_pieces_of_about_a_segment() {
        let mut tail = Tail::new([3; 16], 1, 1);
        (1..=40).for_each(|op| tail.push(entry(op, 1 << 20)));
        assert!(tail.fills(0));
        tail.due(0);
        let mut pieces = Vec::new();
        while let Some(piece) = tail.next(0) {
            tail.shipped(0, piece.last);
            pieces.push((piece.first, piece.last));
        }
        assert_eq!(pieces, [(1, 16), (17, 32), (33, 40)]);
    }

    #[test]
    fn what_is_still_here_can_be_had_again() {
        let mut tail = tail(2, 1..=6);
        tail.due(0);
        let all = tail.next(0).expect("all of it");
        tail.shipped(0, all.last);
        let piece =
            |tail: &Tail, first, last| tail.piece(first, last).map(|body| ops(&Sealed { first, last, body }));
        assert_eq!(piece(&tail, 1, 6), Some(ops(&all)));
        assert_eq!(piece(&tail, 3, 4), Some(vec![3, 4]));
        assert_eq!((piece(&tail, 5, 7), piece(&tail, 4, 3)), (None, None));
        tail.shipped(1, 2);
        assert_eq!((piece(&tail, 2, 4), piece(&tail, 3, 3)), (None, Some(vec![3])), "both have the second");
    }

    #[test]
    fn an_entry_longer_than_a_segment_goes_alone() {
        let mut tail = tail(1, 1..=1);
        tail.push(entry(2, 20 << 20));
        tail.push(entry(3, 1));
        tail.due(0);
        let mut pieces = Vec::new();
        while let Some(piece) = tail.next(0) {
            tail.shipped(0, piece.last);
            pieces.push((piece.first, piece.last));
        }
        assert_eq!(pieces, [(1, 2), (3, 3)]);
    }
}
