//! What is to happen when: a heap of small keys over a slab of events. Equal times keep the order of arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Future events.
#[derive(Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slab: Vec<Option<E>>,
    free: Vec<u32>,
    pushed: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    pub(super) fn push(&mut self, time: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slab.push(None);
                u32::try_from(self.slab.len() - 1).expect("fewer than 2^32 events wait at once")
            }
        };
        self.slab[slot as usize] = Some(event);
        self.pushed += 1;
        self.heap.push(Reverse((time, self.pushed, slot)));
    }

    /// The time of the next one; the end of time if there is none.
    pub(super) fn next_time(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((time, ..))| *time)
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        let Reverse((_, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some(self.slab[slot as usize].take().expect("a slot in the heap is filled"))
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_by_arrival() {
        let mut queue = Queue::new();
        for (time, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(time, name);
        }
        assert_eq!((queue.next_time(), queue.len()), (1, 4));
        let order: String = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, "abcd");
        assert_eq!(queue.next_time(), u64::MAX);
    }
}
