//! One write: the change of a single entry, with whatever splits and joins of pages the rule then asks for.
//!
//! Written top down in one pass: before going into a page it is known whether the page still holds more than a
//! leaf may, so nothing has to be undone on the way back and nothing recurses.

use std::sync::Arc;

use crate::build::Builder;
use crate::entry::Entry;
use crate::leaf::Leaf;
use crate::node::{Inner, Kind, Node, Slot};
use crate::read::locate;
use crate::shape::{Range, Totals, fits, symbol};

pub(crate) struct Edit<'a> {
    pub(crate) key: &'a [u8],
    /// What is to stand at `key`; `None` removes.
    pub(crate) entry: Option<Entry>,
    pub(crate) op: u64,
    pub(crate) leaf_max: u64,
}

/// Carries it out; the entry that stood at the key.
pub(crate) fn apply(root: &mut Option<Arc<Node>>, edit: Edit<'_>) -> Option<Entry> {
    let Some(page) = root else {
        *root = edit.entry.map(|entry| Node::leaf(Leaf::from_sorted(vec![entry]), edit.op));
        return None;
    };
    let place = locate(page, edit.key);
    let removed = place.at.ok().map(|at| place.leaf.entries()[at].size());
    let added = edit.entry.as_ref().map(Entry::size);
    if removed.is_none() && added.is_none() {
        return None;
    }
    let pass = Pass {
        builder: Builder { leaf_max: edit.leaf_max, op: edit.op },
        key: edit.key,
        at: place.at,
        diverges: place.diverges,
        removed,
        added,
    };
    if pass.after(page).count == 0 {
        let page = root.take()?;
        return page.gather().pop();
    }
    pass.root(page, edit.entry)
}

/// What is known before the first page is touched.
struct Pass<'a> {
    builder: Builder,
    key: &'a [u8],
    /// Where the key stands in its leaf, or would.
    at: Result<usize, usize>,
    diverges: usize,
    removed: Option<u64>,
    added: Option<u64>,
}

impl Pass<'_> {
    fn after(&self, page: &Node) -> Totals {
        page.totals.after(self.removed, self.added)
    }

    fn fits(&self, totals: Totals) -> bool {
        fits(totals, self.builder.leaf_max)
    }

    fn root(&self, page: &mut Arc<Node>, entry: Option<Entry>) -> Option<Entry> {
        let after = self.after(page);
        if page.is_leaf() {
            let (leaf, replaced) = self.leaf(page, entry, after);
            if !self.fits(after) {
                *page = self.builder.page(std::mem::take(leaf).into_entries());
            }
            return replaced;
        }
        if self.fits(after) {
            return self.collapse(page, entry);
        }
        self.inner(page, entry)
    }

    /// Below `page`, an inner page that is more than a leaf afterwards as well.
    fn inner(&self, mut page: &mut Arc<Node>, entry: Option<Entry>) -> Option<Entry> {
        loop {
            let Kind::Inner(inner) = &page.kind else { unreachable!("only inner pages are gone into") };
            let depth = inner.depth as usize;
            if self.diverges < depth {
                self.split_above(page, entry);
                return None;
            }
            let at = inner.find(symbol(self.key, depth));
            if let Ok(at) = at
                && self.after(&inner.slots[at].node).count == 0
            {
                return self.vacate(page, at);
            }
            let inner = self.own_inner(page);
            let at = match at {
                Ok(at) => at,
                Err(at) => {
                    self.first_of_slot(inner, at, entry);
                    return None;
                }
            };
            let slot = &mut inner.slots[at];
            let (range, after) = (slot.range, self.after(&slot.node));
            slot.set_count(after.count);
            if slot.node.is_leaf() {
                let (leaf, replaced) = self.leaf(&mut slot.node, entry, after);
                if !self.fits(after) {
                    let entries = std::mem::take(leaf).into_entries();
                    let parts = self.builder.slots(entries, depth as u32, range);
                    reserve(&mut inner.slots, parts.len());
                    inner.slots.splice(at..=at, parts);
                } else if self.shrinks() {
                    self.join_around(inner, range);
                }
                return replaced;
            }
            if self.fits(after) {
                let replaced = self.collapse(&mut slot.node, entry);
                self.join_around(inner, range);
                return replaced;
            }
            page = &mut inner.slots[at].node;
        }
    }

    /// The page for writing, already counted as changed.
    fn own_inner<'p>(&self, page: &'p mut Arc<Node>) -> &'p mut Inner {
        let after = self.after(page);
        let node = Node::own(page);
        node.touch(after, self.builder.op);
        match &mut node.kind {
            Kind::Inner(inner) => inner,
            Kind::Leaf(_) => unreachable!("the caller has seen an inner page"),
        }
    }

    /// Takes away the slot that holds nothing but the removed entry.
    fn vacate(&self, page: &mut Arc<Node>, at: usize) -> Option<Entry> {
        let inner = self.own_inner(page);
        let gone = inner.slots.remove(at);
        self.join_around(inner, gone.range);
        if let [only] = inner.slots.as_slice() {
            // A page of one slot is its child. The child is not the page that stood here before, so a walk by op
            // has to find it, or it would miss that its former neighbour has gone.
            let mut child = Arc::clone(&only.node);
            inner.slots.clear();
            let raised = Node::own(&mut child);
            raised.changed = raised.changed.max(self.builder.op);
            *page = child;
        }
        gone.node.gather().pop()
    }

    fn shrinks(&self) -> bool {
        self.added.unwrap_or(0) < self.removed.unwrap_or(0)
    }

    /// Makes the change in a leaf; it may then hold too much.
    fn leaf<'p>(
        &self,
        page: &'p mut Arc<Node>,
        entry: Option<Entry>,
        after: Totals,
    ) -> (&'p mut Leaf, Option<Entry>) {
        let node = Node::own(page);
        node.touch(after, self.builder.op);
        let Kind::Leaf(leaf) = &mut node.kind else { unreachable!("the caller has seen a leaf") };
        let replaced = match (self.at, entry) {
            (Ok(at), Some(entry)) => Some(leaf.replace(at, entry)),
            (Ok(at), None) => Some(leaf.remove(at)),
            (Err(at), Some(entry)) => {
                leaf.insert(at, entry);
                None
            }
            (Err(_), None) => unreachable!("removing what is not there has ended before"),
        };
        (leaf, replaced)
    }

    /// Makes an inner page that now fits one leaf into that leaf.
    fn collapse(&self, page: &mut Arc<Node>, entry: Option<Entry>) -> Option<Entry> {
        let mut entries = page.gather();
        let at = entries
            .binary_search_by(|e| e.key().cmp(self.key))
            .expect("only taking away from an inner page makes it fit");
        let replaced = match entry {
            Some(entry) => std::mem::replace(&mut entries[at], entry),
            None => entries.remove(at),
        };
        *page = Node::leaf(Leaf::from_sorted(entries), self.builder.op);
        Some(replaced)
    }

    /// Gives the new entry a slot of its own, where there is none that covers it.
    fn first_of_slot(&self, inner: &mut Inner, at: usize, entry: Option<Entry>) {
        let entry = entry.expect("a key without a slot is a new one");
        let before = at.checked_sub(1).map(|left| inner.slots[left].range);
        let after = inner.slots.get(at).map(|slot| slot.range);
        let range = Range::free(symbol(self.key, inner.depth as usize), before, after);
        reserve(&mut inner.slots, 1);
        let leaf = Node::leaf(Leaf::from_sorted(vec![entry]), self.builder.op);
        inner.slots.insert(at, Slot::new(range, leaf));
    }

    /// Puts an inner page over `page`, whose keys all part from the new one above its depth.
    fn split_above(&self, page: &mut Arc<Node>, entry: Option<Entry>) {
        let entry = entry.expect("a key that parts from all others is a new one");
        let (old, new) = (symbol(page.first().key(), self.diverges), symbol(self.key, self.diverges));
        let old_range = Range::single(old);
        let new_range = if new < old {
            Range::free(new, None, Some(old_range))
        } else {
            Range::free(new, Some(old_range), None)
        };
        let leaf = Node::leaf(Leaf::from_sorted(vec![entry]), self.builder.op);
        let mut slots = vec![Slot::new(old_range, Arc::clone(page)), Slot::new(new_range, leaf)];
        slots.sort_unstable_by_key(|slot| slot.range.low);
        let depth = u32::try_from(self.diverges).expect("a key is at most u32::MAX bytes");
        *page = Node::inner(depth, slots, self.builder.op.max(page.changed));
    }

    /// Joins the leaves around `range`, in which something was taken away, as far as they now fit one.
    fn join_around(&self, inner: &mut Inner, mut range: Range) {
        let mut widest = None;
        while let Some(wider) = range.parent() {
            let from = inner.slots.partition_point(|slot| slot.range.high < wider.low);
            let to = inner.slots.partition_point(|slot| slot.range.low <= wider.high);
            let mut totals = Totals::default();
            for slot in &inner.slots[from..to] {
                totals += slot.node.totals;
            }
            if from < to {
                if !self.fits(totals) {
                    break;
                }
                widest = Some((from..to, wider));
            }
            range = wider;
        }
        let Some((slots, range)) = widest else { return };
        if slots.len() == 1 {
            inner.slots[slots.start].range = range;
            return;
        }
        let entries = inner.slots[slots.clone()].iter().flat_map(|slot| slot.node.gather()).collect();
        let leaf = Node::leaf(Leaf::from_sorted(entries), self.builder.op);
        inner.slots.splice(slots, [Slot::new(range, leaf)]);
    }
}

/// Room for `more` slots, without doubling: an inner page is often copied and seldom grows.
fn reserve(slots: &mut Vec<Slot>, more: usize) {
    if slots.capacity() - slots.len() < more {
        slots.reserve_exact(more + slots.len() / 8);
    }
}
