//! Which page here is likely to hold what a page from elsewhere holds: found by the place, without hashing.
//!
//! Both trees follow one rule, so the same keys stand at the same place in both, as long as their surroundings are alike.
//! What is found is a hint: ids decide what is the same. A hint that is wrong, or missing, costs the transfer of a page
//! that was here.

use std::sync::Arc;

use crate::hash::{self, PageId};
use crate::node::{Inner, Kind, Node};
use crate::page::InnerPage;
use crate::shape::{Range, Symbol, symbol};

/// Pages looked at while searching for one of the right depth.
const SEARCHED: usize = 512;

/// What of a tree here is about where an inner page of another tree is.
pub(crate) enum Like<'a> {
    Nothing,
    /// A page with slots for the same symbol of the key.
    Level(&'a Inner),
    /// A page all of whose keys belong below one symbol.
    Below(&'a Arc<Node>, Symbol),
}

impl<'a> Like<'a> {
    pub(crate) fn find(here: Option<&'a Arc<Node>>, page: &InnerPage) -> Like<'a> {
        let Some(here) = here else { return Like::Nothing };
        match &here.kind {
            Kind::Inner(inner) if inner.depth == page.depth => Like::Level(inner),
            Kind::Inner(inner) if inner.depth < page.depth => {
                search(inner, page).map_or(Like::Nothing, Like::Level)
            }
            _ => Like::Below(here, symbol(here.first().key(), page.depth as usize)),
        }
    }

    /// What is about where the slot of `range` is.
    pub(crate) fn at(&self, range: Range) -> Option<&'a Arc<Node>> {
        match *self {
            Like::Nothing => None,
            Like::Level(inner) => inner.find(range.low).ok().map(|at| &inner.slots[at].node),
            Like::Below(node, symbol) => range.contains(symbol).then_some(node),
        }
    }
}

/// Where keys have vanished there, what was deeper here has moved up: a page below of the same depth, best one that has
/// a page in common.
fn search<'a>(top: &'a Inner, page: &InnerPage) -> Option<&'a Inner> {
    let (mut stack, mut found) = (vec![top], None);
    for _ in 0..SEARCHED {
        let Some(inner) = stack.pop() else { break };
        if inner.depth == page.depth {
            let shares = |id: &PageId| page.children.iter().any(|child| child.id == *id);
            if inner.slots.iter().any(|slot| slot.node.id.get().is_some_and(shares)) {
                return Some(inner);
            }
            found = found.or(Some(inner));
            continue;
        }
        stack.extend(inner.slots.iter().rev().filter_map(|slot| match &slot.node.kind {
            Kind::Inner(below) if below.depth <= page.depth => Some(below),
            _ => None,
        }));
    }
    found
}

/// The page of this id, if it is `here` or directly below.
///
/// Hashes a leaf at most: an inner page without an id was changed lately, and is looked into rather than hashed.
pub(crate) fn same<'a>(here: &'a Arc<Node>, id: &PageId) -> Option<&'a Arc<Node>> {
    let known = here.id.get().copied().or_else(|| here.is_leaf().then(|| hash::id(here)));
    if known == Some(*id) {
        return Some(here);
    }
    match &here.kind {
        Kind::Inner(inner) => {
            inner.slots.iter().map(|slot| &slot.node).find(|below| below.id.get() == Some(id))
        }
        Kind::Leaf(_) => None,
    }
}
