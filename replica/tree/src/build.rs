//! Pages from sorted entries, by the rule of [`crate::shape`].

use std::sync::Arc;
use std::vec::IntoIter;

use crate::entry::Entry;
use crate::leaf::Leaf;
use crate::node::{Node, Slot};
use crate::shape::{Range, Totals, divergence, fits, symbol};

/// What every new page needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Builder {
    pub(crate) leaf_max: u64,
    pub(crate) op: u64,
}

fn totals(entries: &[Entry]) -> Totals {
    Totals { count: entries.len() as u64, bytes: entries.iter().map(Entry::size).sum() }
}

impl Builder {
    /// The page of all `entries`: one at least, ascending.
    pub(crate) fn page(self, entries: Vec<Entry>) -> Arc<Node> {
        let count = entries.len();
        self.next_page(&mut entries.into_iter(), count)
    }

    /// The slots of all `entries`, whose keys have symbols in `range` at `depth`.
    pub(crate) fn slots(self, entries: Vec<Entry>, depth: u32, range: Range) -> Vec<Slot> {
        let mut slots = Vec::new();
        let count = entries.len();
        self.next_slots(&mut entries.into_iter(), count, depth, range, &mut slots);
        slots
    }

    /// The page of the next `count` entries.
    ///
    /// It and `next_slots` call each other once per inner page on one path. They only ever see one full leaf and
    /// one entry more; each step down needs keys one byte longer than the step before; so the depth is below the
    /// square root of twice [`LEAF_MAX`](crate::LEAF_MAX), some 130 calls.
    fn next_page(self, entries: &mut IntoIter<Entry>, count: usize) -> Arc<Node> {
        let all = &entries.as_slice()[..count];
        if fits(totals(all), self.leaf_max) {
            return self.next_leaf(entries, count);
        }
        let (first, last) = (&all[0], &all[count - 1]);
        let at = divergence(first.key(), last.key());
        let depth = u32::try_from(at).expect("a key is at most u32::MAX bytes");
        let mut slots = Vec::new();
        let mut rest = count;
        if symbol(first.key(), at) == Range::END.low {
            slots.push(Slot::new(Range::END, self.next_leaf(entries, 1)));
            rest -= 1;
        }
        self.next_slots(entries, rest, depth, Range::BYTES, &mut slots);
        slots.shrink_to_fit();
        Node::inner(depth, slots, self.op)
    }

    fn next_leaf(self, entries: &mut IntoIter<Entry>, count: usize) -> Arc<Node> {
        Node::leaf(Leaf::from_sorted(entries.take(count).collect()), self.op)
    }

    fn next_slots(
        self,
        entries: &mut IntoIter<Entry>,
        mut count: usize,
        depth: u32,
        range: Range,
        slots: &mut Vec<Slot>,
    ) {
        // Halving 256 symbols leaves at most one range waiting per halving.
        let mut waiting = [range; 9];
        let mut top = 1;
        while top > 0 {
            top -= 1;
            let range = waiting[top];
            let inside = entries.as_slice()[..count]
                .partition_point(|entry| symbol(entry.key(), depth as usize) <= range.high);
            if inside == 0 {
                continue;
            }
            let page = if fits(totals(&entries.as_slice()[..inside]), self.leaf_max) {
                self.next_leaf(entries, inside)
            } else if range.is_single() {
                self.next_page(entries, inside)
            } else {
                let (low, high) = range.halves();
                waiting[top] = high;
                waiting[top + 1] = low;
                top += 2;
                continue;
            };
            count -= inside;
            slots.push(Slot::new(range, page));
        }
    }
}
