//! Pages put together from those below them, and the check that each is the one that the rule gives for its entries.
//!
//! Whoever has the pages of a tree, loaded from a disk or fetched from elsewhere, goes through here: nothing else makes
//! a tree out of what others claim.

use std::sync::Arc;

use crate::entry::Entry;
use crate::hash::PageId;
use crate::leaf::Leaf;
use crate::node::{Node, Slot};
use crate::page::{InnerPage, PageError};
use crate::shape::{Totals, divergence, fits, symbol};

/// A page that is complete, with its first and last entry.
pub(crate) struct Built {
    pub(crate) node: Arc<Node>,
    first: Entry,
    last: Entry,
}

impl Built {
    /// The leaf of these entries, whose id is known.
    pub(crate) fn leaf(id: PageId, entries: Vec<Entry>, op: u64) -> Built {
        let first = entries.first().expect("a decoded leaf has an entry").clone();
        let last = entries.last().expect("a decoded leaf has an entry").clone();
        let node = with_id(Node::leaf(Leaf::from_sorted(entries), op), id);
        Built { node, first, last }
    }

    /// A page of a tree that is here already.
    pub(crate) fn of(node: Arc<Node>) -> Built {
        let (first, last) = (node.first().clone(), node.last().clone());
        Built { node, first, last }
    }
}

fn with_id(node: Arc<Node>, id: PageId) -> Arc<Node> {
    let _ = node.id.set(id);
    node
}

/// The inner page over `below`, one for each of its slots, if it is what the rule gives for the entries there.
pub(crate) fn inner(
    id: PageId,
    page: &InnerPage,
    below: Vec<Built>,
    op: u64,
    leaf_max: u64,
) -> Result<Built, PageError> {
    check(page, &below, leaf_max)?;
    let first = below.first().expect("an inner page has slots").first.clone();
    let last = below.last().expect("an inner page has slots").last.clone();
    // A page that was here before may have been changed later than `op`.
    let op = below.iter().map(|built| built.node.changed).fold(op, u64::max);
    let ranges = page.children.iter().map(|child| child.range);
    let slots = ranges.zip(below).map(|(range, built)| Slot::new(range, built.node)).collect();
    let node = with_id(Node::inner(page.depth, slots, op), id);
    Ok(Built { node, first, last })
}

fn check(page: &InnerPage, below: &[Built], leaf_max: u64) -> Result<(), PageError> {
    let (first, last) = (below[0].first.key(), below[below.len() - 1].last.key());
    let depth = page.depth as usize;
    let found = divergence(first, last);
    if found != depth {
        return Err(PageError::Depth { claimed: page.depth, found });
    }
    let mut totals = Totals::default();
    for (slot, (child, built)) in page.children.iter().zip(below).enumerate() {
        let found = built.node.totals;
        if child.count != found.count {
            return Err(PageError::CountBelow { slot, claimed: child.count, found: found.count });
        }
        let belongs =
            |key: &[u8]| key.get(..depth) == first.get(..depth) && child.range.contains(symbol(key, depth));
        if !belongs(built.first.key()) || !belongs(built.last.key()) {
            return Err(PageError::KeysBelow(slot));
        }
        let divided = built.node.is_leaf() || child.range.is_single();
        if !divided || joins(page, below, slot, leaf_max) {
            return Err(PageError::NotCanonical(slot));
        }
        totals += found;
    }
    if fits(totals, leaf_max) {
        return Err(PageError::NeedlessInner { count: totals.count, bytes: totals.bytes });
    }
    Ok(())
}

/// Whether the range twice as wide around `slot` fits a leaf, so that the slot is too narrow.
fn joins(page: &InnerPage, below: &[Built], slot: usize, leaf_max: u64) -> bool {
    let children = &page.children;
    let Some(wider) = children[slot].range.parent() else { return false };
    let inside = |at: &usize| wider.low <= children[*at].range.low && children[*at].range.high <= wider.high;
    let mut totals = Totals::default();
    let before = (0..slot).rev().take_while(inside);
    let after = (slot..children.len()).take_while(inside);
    for at in before.chain(after) {
        totals += below[at].node.totals;
    }
    fits(totals, leaf_max)
}
