//! Pages as others see them: to be shipped, compared and skipped.

use crate::entry::Entry;
use crate::hash::{self, PageId};
use crate::node::{Kind, Node};
use crate::page;
use crate::read::Snapshot;
use crate::shape::symbol;

/// One page of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'a> {
    node: &'a Node,
}

impl<'a> NodeRef<'a> {
    pub(crate) fn of(node: &'a Node) -> NodeRef<'a> {
        NodeRef { node }
    }

    /// Its id: the keyed hash of [`NodeRef::encode`]'s bytes, computed once per page and then kept.
    ///
    /// Hashes whatever below has no id yet.
    #[must_use]
    pub fn id(&self) -> PageId {
        hash::id(self.node)
    }

    /// The highest op that changed anything here or below, removals included; 0 for a loaded page.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.node.changed
    }

    /// Whether it holds entries rather than pages.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.node.is_leaf()
    }

    /// The entries of a leaf, ascending; none for an inner page.
    #[must_use]
    pub fn entries(&self) -> &'a [Entry] {
        match &self.node.kind {
            Kind::Leaf(leaf) => leaf.entries(),
            Kind::Inner(_) => &[],
        }
    }

    /// Number of entries here and below.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.node.totals.count
    }

    /// Serialised size of all entries here and below.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.node.totals.bytes
    }

    /// The pages directly below, ascending by their keys; none for a leaf.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = NodeRef<'a>> + ExactSizeIterator + use<'a> {
        let slots = match &self.node.kind {
            Kind::Leaf(_) => [].iter(),
            Kind::Inner(inner) => inner.slots.iter(),
        };
        slots.map(|slot| NodeRef { node: &slot.node })
    }

    /// How many bytes [`NodeRef::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match &self.node.kind {
            Kind::Leaf(_) => page::LEAF_HEADER + self.node.totals.bytes as usize,
            Kind::Inner(inner) => page::INNER_HEADER + page::SLOT * inner.slots.len(),
        }
    }

    /// Appends its canonical bytes, those that [`Page::decode`](crate::Page::decode) reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.node.kind {
            Kind::Leaf(leaf) => page::encode_leaf(leaf.entries(), out),
            Kind::Inner(inner) => {
                // An inner page names the pages below by their ids.
                hash::id(self.node);
                page::encode_inner(inner, out);
            }
        }
    }
}

impl Snapshot {
    /// The top page; none when there are no entries.
    #[must_use]
    pub fn node(&self) -> Option<NodeRef<'_>> {
        self.root.as_ref().map(|node| NodeRef { node })
    }

    /// The leaf in which `key` stands, or one beside the place where it would; none when there are no entries.
    #[must_use]
    pub fn leaf_near(&self, key: &[u8]) -> Option<NodeRef<'_>> {
        let mut node = self.root.as_deref()?;
        while let Kind::Inner(inner) = &node.kind {
            node = &inner.find_near(symbol(key, inner.depth as usize)).node;
        }
        Some(NodeRef { node })
    }

    /// The pages that a write after `op` changed, a page before those below it.
    ///
    /// A page below a listed one that is not listed itself stood in the tree at `op`, with the same id and all
    /// that is below it. Whatever else stood there is gone: a removal shows in every page above the entry, and in
    /// the page that held it if that is still there. The removal of the very last entry shows in
    /// [`Snapshot::changed`] only. A listed page may have the bytes that it had at `op`.
    pub fn changed_since(&self, op: u64) -> impl Iterator<Item = NodeRef<'_>> {
        let mut stack: Vec<NodeRef<'_>> =
            self.node().into_iter().filter(|page| page.changed() > op).collect();
        std::iter::from_fn(move || {
            let page = stack.pop()?;
            stack.extend(page.children().rev().filter(|below| below.changed() > op));
            Some(page)
        })
    }
}
