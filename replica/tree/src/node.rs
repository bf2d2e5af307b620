//! One page in memory: a leaf, or an inner page of slots; shared by snapshots, copied when written to.
//!
//! A page that only one tree reaches is changed in place (`Arc::get_mut`); any other is copied first. Freeing a
//! page never recurses.

use std::sync::{Arc, OnceLock};

use crate::entry::Entry;
use crate::hash::PageId;
use crate::leaf::Leaf;
use crate::shape::{Range, Symbol, Totals};
use crate::warm::{prefetch, prefetch_page};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) totals: Totals,
    /// The highest op that changed anything here or below, removals included. Not part of the page's bytes:
    /// it depends on the history.
    pub(crate) changed: u64,
    /// Computed when first asked for, on whatever thread asks.
    pub(crate) id: OnceLock<PageId>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Leaf(Leaf),
    Inner(Inner),
}

/// Two slots or more, ascending and disjoint.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    /// All keys below share this many bytes; the slots are about the symbol that follows.
    pub(crate) depth: u32,
    pub(crate) slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) range: Range,
    /// Entries below, here as well so that a count touches only the pages on the path.
    count: u32,
    pub(crate) node: Arc<Node>,
}

impl Slot {
    pub(crate) fn new(range: Range, node: Arc<Node>) -> Slot {
        let mut slot = Slot { range, count: 0, node };
        slot.set_count(slot.node.totals.count);
        slot
    }

    pub(crate) fn count(&self) -> u64 {
        u64::from(self.count)
    }

    pub(crate) fn set_count(&mut self, count: u64) {
        self.count = u32::try_from(count).expect("a page has at most u32::MAX entries below");
    }
}

impl Inner {
    /// The slot that covers `symbol`, or where one would stand.
    #[inline]
    pub(crate) fn find(&self, symbol: Symbol) -> Result<usize, usize> {
        let at = self.slots.partition_point(|slot| slot.range.high < symbol);
        match self.slots.get(at) {
            Some(slot) if slot.range.low <= symbol => Ok(at),
            _ => Err(at),
        }
    }

    /// The slot that covers `symbol`, or else a neighbour: its keys tell where a missing key belongs.
    #[inline]
    pub(crate) fn find_near(&self, symbol: Symbol) -> &Slot {
        let at = self.slots.partition_point(|slot| slot.range.high < symbol);
        &self.slots[at.min(self.slots.len() - 1)]
    }

    /// Entries in the first `slots` slots.
    pub(crate) fn count_before(&self, slots: usize) -> u64 {
        self.slots[..slots].iter().map(Slot::count).sum()
    }
}

impl Node {
    pub(crate) fn leaf(leaf: Leaf, changed: u64) -> Arc<Node> {
        let mut totals = Totals::default();
        for entry in leaf.entries() {
            totals += Totals { count: 1, bytes: entry.size() };
        }
        Arc::new(Node { totals, changed, id: OnceLock::new(), kind: Kind::Leaf(leaf) })
    }

    pub(crate) fn inner(depth: u32, slots: Vec<Slot>, changed: u64) -> Arc<Node> {
        let mut totals = Totals::default();
        for slot in &slots {
            totals += slot.node.totals;
        }
        Arc::new(Node { totals, changed, id: OnceLock::new(), kind: Kind::Inner(Inner { depth, slots }) })
    }

    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self.kind, Kind::Leaf(_))
    }

    /// The page for writing: itself when nobody else reaches it, else a copy in its place.
    pub(crate) fn own(page: &mut Arc<Node>) -> &mut Node {
        if Arc::get_mut(page).is_none() {
            let copy = Node {
                totals: page.totals,
                changed: page.changed,
                id: page.id.clone(),
                kind: page.kind.clone(),
            };
            *page = Arc::new(copy);
        }
        Arc::get_mut(page).expect("a page just made has one owner")
    }

    /// Notes a change of the contents by `op`.
    pub(crate) fn touch(&mut self, totals: Totals, op: u64) {
        self.totals = totals;
        self.changed = self.changed.max(op);
        if self.id.get().is_some() {
            self.id = OnceLock::new();
        }
    }

    /// Its first entry.
    pub(crate) fn first(&self) -> &Entry {
        let mut node = self;
        loop {
            match &node.kind {
                Kind::Leaf(leaf) => return leaf.entries().first().expect("a leaf has an entry"),
                Kind::Inner(inner) => node = &inner.slots.first().expect("an inner page has slots").node,
            }
        }
    }

    /// Its last entry.
    pub(crate) fn last(&self) -> &Entry {
        let mut node = self;
        loop {
            match &node.kind {
                Kind::Leaf(leaf) => return leaf.entries().last().expect("a leaf has an entry"),
                Kind::Inner(inner) => node = &inner.slots.last().expect("an inner page has slots").node,
            }
        }
    }

    /// All its entries, ascending.
    pub(crate) fn gather(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.totals.count as usize);
        let mut stack = vec![self];
        while let Some(node) = stack.pop() {
            match &node.kind {
                Kind::Leaf(leaf) => entries.extend_from_slice(leaf.entries()),
                Kind::Inner(inner) => stack.extend(inner.slots.iter().rev().map(|slot| &*slot.node)),
            }
        }
        entries
    }
}

impl Drop for Node {
    /// Frees whatever only this page reaches with a stack on the heap: inner pages nest as deep as keys are long.
    fn drop(&mut self) {
        let inner = match &mut self.kind {
            // The count of each entry is a cache miss: asked for together, they wait for memory once.
            Kind::Leaf(leaf) => {
                return leaf.entries().iter().for_each(|entry| prefetch(entry.count_address()));
            }
            Kind::Inner(inner) => inner,
        };
        let mut stack: Vec<Arc<Node>> = inner.slots.drain(..).map(|slot| slot.node).collect();
        while let Some(page) = stack.pop() {
            warm_ahead(&stack);
            if let Some(mut node) = Arc::into_inner(page)
                && let Kind::Inner(inner) = &mut node.kind
            {
                stack.extend(inner.slots.drain(..).map(|slot| slot.node));
            }
        }
    }
}

/// Asks for the page that is freed a few pages after the one that was just taken from the stack.
pub(crate) fn warm_ahead(stack: &[Arc<Node>]) {
    const AHEAD: usize = 4;
    if let Some(later) = stack.len().checked_sub(AHEAD) {
        prefetch_page(&stack[later]);
    }
}
