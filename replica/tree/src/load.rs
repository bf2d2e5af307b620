//! A tree put together again from its pages, from the root down and checked from the leaves up.
//!
//! Every page must hash to the id that it was asked for by, and the whole must be the canonical shape of its
//! contents: then, and only then, is the loaded tree one that writing the same entries would have made.

use std::sync::Arc;

use thiserror::Error;

use crate::entry::Entry;
use crate::hash::{self, PageId};
use crate::leaf::Leaf;
use crate::node::{Node, Slot};
use crate::page::{Hex, InnerPage, Page, PageError, VerifiedPage};
use crate::read::Snapshot;
use crate::shape::{LEAF_MAX, Totals, divergence, fits, symbol};

/// Why a tree could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError<E> {
    /// The source did not give a page.
    #[error("page {} could not be fetched: {source}", Hex(id))]
    Fetch {
        /// Which page.
        id: PageId,
        /// What the source said.
        source: E,
    },
    /// The source gave something that is not that page.
    #[error("page {} is not valid: {error}; fetch it from another source", Hex(id))]
    Page {
        /// Which page.
        id: PageId,
        /// What is wrong with it.
        error: PageError,
    },
}

impl Snapshot {
    /// The tree whose top page is `root`; every page is asked for once, a page before those below it.
    ///
    /// Its pages count as changed by op 0. The root of an empty tree asks for nothing.
    pub fn load<E>(
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<Vec<u8>, E>,
    ) -> Result<Snapshot, LoadError<E>> {
        Snapshot::load_with(LEAF_MAX, root, |id| {
            let bytes = fetch(id).map_err(|source| LoadError::Fetch { id: *id, source })?;
            Page::verify(id, &bytes).map_err(|error| LoadError::Page { id: *id, error })
        })
    }

    /// As [`Snapshot::load`], from pages that were verified elsewhere, on several threads for instance.
    pub fn load_verified<E>(
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<VerifiedPage, E>,
    ) -> Result<Snapshot, LoadError<E>> {
        Snapshot::load_with(LEAF_MAX, root, |id| {
            let page = fetch(id).map_err(|source| LoadError::Fetch { id: *id, source })?;
            if page.id != *id {
                return Err(LoadError::Page { id: *id, error: PageError::Id(page.id) });
            }
            Ok(page)
        })
    }

    pub(crate) fn load_with<E>(
        leaf_max: u64,
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<VerifiedPage, LoadError<E>>,
    ) -> Result<Snapshot, LoadError<E>> {
        if *root == hash::empty_root() {
            return Ok(Snapshot { leaf_max, ..Snapshot::default() });
        }
        let mut path: Vec<Frame> = Vec::new();
        let mut wanted = *root;
        loop {
            let verified = fetch(&wanted)?;
            let mut built = match verified.page {
                Page::Leaf(leaf) => Built::leaf(wanted, leaf.entries),
                Page::Inner(page) => {
                    let below = Vec::with_capacity(page.children.len());
                    wanted = page.children[0].id;
                    path.push(Frame { id: verified.id, page, below });
                    continue;
                }
            };
            // Hands the finished page upwards until some page still lacks one.
            wanted = loop {
                let Some(frame) = path.last_mut() else {
                    return Ok(Snapshot { root: Some(built.node), changed: 0, leaf_max });
                };
                frame.below.push(built);
                if let Some(next) = frame.page.children.get(frame.below.len()) {
                    break next.id;
                }
                let frame = path.pop().expect("the frame just looked at");
                let id = frame.id;
                built = frame.finish(leaf_max).map_err(|error| LoadError::Page { id, error })?;
            };
        }
    }
}

/// A page that is complete, with its first and last entry.
struct Built {
    node: Arc<Node>,
    first: Entry,
    last: Entry,
}

impl Built {
    fn leaf(id: PageId, entries: Vec<Entry>) -> Built {
        let first = entries.first().expect("a decoded leaf has an entry").clone();
        let last = entries.last().expect("a decoded leaf has an entry").clone();
        let node = with_id(Node::leaf(Leaf::from_sorted(entries), 0), id);
        Built { node, first, last }
    }
}

fn with_id(node: Arc<Node>, id: PageId) -> Arc<Node> {
    let _ = node.id.set(id);
    node
}

/// An inner page that waits for the pages below it.
struct Frame {
    id: PageId,
    page: InnerPage,
    below: Vec<Built>,
}

impl Frame {
    fn finish(self, leaf_max: u64) -> Result<Built, PageError> {
        self.check(leaf_max)?;
        let first = self.below.first().expect("an inner page has slots").first.clone();
        let last = self.below.last().expect("an inner page has slots").last.clone();
        let ranges = self.page.children.iter().map(|child| child.range);
        let slots = ranges.zip(self.below).map(|(range, built)| Slot::new(range, built.node)).collect();
        let node = with_id(Node::inner(self.page.depth, slots, 0), self.id);
        Ok(Built { node, first, last })
    }

    /// That this page is the one the rule gives for the entries below.
    fn check(&self, leaf_max: u64) -> Result<(), PageError> {
        let (first, last) = (self.below[0].first.key(), self.below[self.below.len() - 1].last.key());
        let depth = self.page.depth as usize;
        let found = divergence(first, last);
        if found != depth {
            return Err(PageError::Depth { claimed: self.page.depth, found });
        }
        let mut totals = Totals::default();
        for (slot, (child, built)) in self.page.children.iter().zip(&self.below).enumerate() {
            let below = built.node.totals;
            if child.count != below.count {
                return Err(PageError::CountBelow { slot, claimed: child.count, found: below.count });
            }
            let belongs = |key: &[u8]| {
                key.get(..depth) == first.get(..depth) && child.range.contains(symbol(key, depth))
            };
            if !belongs(built.first.key()) || !belongs(built.last.key()) {
                return Err(PageError::KeysBelow(slot));
            }
            let divided = built.node.is_leaf() || child.range.is_single();
            if !divided || self.joins(slot, leaf_max) {
                return Err(PageError::NotCanonical(slot));
            }
            totals += below;
        }
        if fits(totals, leaf_max) {
            return Err(PageError::NeedlessInner { count: totals.count, bytes: totals.bytes });
        }
        Ok(())
    }

    /// Whether the range twice as wide around `slot` fits a leaf, so that the slot is too narrow.
    fn joins(&self, slot: usize, leaf_max: u64) -> bool {
        let children = &self.page.children;
        let Some(wider) = children[slot].range.parent() else { return false };
        let inside =
            |at: &usize| wider.low <= children[*at].range.low && children[*at].range.high <= wider.high;
        let mut totals = Totals::default();
        let before = (0..slot).rev().take_while(inside);
        let after = (slot..children.len()).take_while(inside);
        for at in before.chain(after) {
            totals += self.below[at].node.totals;
        }
        fits(totals, leaf_max)
    }
}
