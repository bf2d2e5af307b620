//! Freeing a snapshot in portions.

use std::sync::Arc;

use crate::node::{Kind, Node, warm_ahead};
use crate::read::Snapshot;

/// What is left to free of a snapshot. Dropping it frees the rest at once.
#[derive(Debug)]
#[must_use = "call `step` until it says that nothing is left, or drop it to free the rest at once"]
pub struct Release {
    stack: Vec<Arc<Node>>,
}

impl Snapshot {
    /// Gives the snapshot up, to be freed by [`Release::step`] on a thread that may take its time.
    pub fn release(self) -> Release {
        Release { stack: self.root.into_iter().collect() }
    }
}

impl Release {
    /// Frees about `max_entries` entries, by a leaf more at most; whether something is left.
    ///
    /// A page that others still reach counts as one entry: it costs a look and stays.
    pub fn step(&mut self, max_entries: u64) -> bool {
        let mut freed = 0;
        while freed < max_entries
            && let Some(page) = self.stack.pop()
        {
            freed += 1;
            warm_ahead(&self.stack);
            if let Some(mut node) = Arc::into_inner(page) {
                match &mut node.kind {
                    Kind::Leaf(leaf) => freed += leaf.entries().len() as u64,
                    Kind::Inner(inner) => self.stack.extend(inner.slots.drain(..).map(|slot| slot.node)),
                }
            }
        }
        !self.stack.is_empty()
    }
}
