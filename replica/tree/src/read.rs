//! A snapshot and the reads on it: point, range, rank.

use std::sync::Arc;

use crate::entry::Entry;
use crate::hash::{self, PageId};
use crate::leaf::Leaf;
use crate::node::{Kind, Node, Slot};
use crate::shape::{LEAF_MAX, divergence, symbol};

/// The whole contents at one moment; cheap to clone, readable on any thread.
///
/// Dropping the last snapshot that reaches some pages frees them, without recursion but in one go:
/// [`Snapshot::release`] does it in portions.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) root: Option<Arc<Node>>,
    pub(crate) changed: u64,
    pub(crate) leaf_max: u64,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot { root: None, changed: 0, leaf_max: LEAF_MAX }
    }
}

/// The place of a key.
pub(crate) struct Place<'a> {
    pub(crate) leaf: &'a Leaf,
    /// Where in that leaf; an `Err` means something only when the key belongs below all pages on the way.
    pub(crate) at: Result<usize, usize>,
    /// The first position where the key differs from every key there is; `usize::MAX` for a key that is there.
    pub(crate) diverges: usize,
}

/// Goes down to the leaf of `key`, or to one whose keys share as much with it as any do.
pub(crate) fn locate<'a>(root: &'a Node, key: &[u8]) -> Place<'a> {
    let mut node = root;
    let leaf = loop {
        match &node.kind {
            Kind::Leaf(leaf) => break leaf,
            Kind::Inner(inner) => node = &inner.find_near(symbol(key, inner.depth as usize)).node,
        }
    };
    let at = leaf.find(key);
    let diverges = match at {
        Ok(_) => usize::MAX,
        Err(at) => {
            let neighbours = &leaf.entries()[at.saturating_sub(1)..leaf.entries().len().min(at + 1)];
            neighbours.iter().map(|e| divergence(key, e.key())).max().expect("a leaf has an entry")
        }
    };
    Place { leaf, at, diverges }
}

impl Place<'_> {
    /// Whether keys of this leaf are below the key. Where the key parts from the whole page, all of them are or
    /// none.
    fn follows(&self) -> bool {
        !matches!(self.at, Err(0))
    }
}

impl Snapshot {
    /// The entry of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = self.root.as_ref()?;
        loop {
            match &node.kind {
                Kind::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.entries()[at]),
                Kind::Inner(inner) => {
                    let at = inner.find(symbol(key, inner.depth as usize)).ok()?;
                    node = &inner.slots[at].node;
                }
            }
        }
    }

    /// Entries with `from <= key < to` (`None`: no upper bound), ascending. Empty when `to <= from`.
    pub fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let mut entries = Entries { above: Vec::new(), leaf: [].iter(), to: to.map(Box::from) };
        if to.is_none_or(|to| from < to)
            && let Some(root) = &self.root
        {
            entries.seek(root, from);
        }
        entries
    }

    /// How many keys are below `key`.
    #[must_use]
    pub fn rank(&self, key: &[u8]) -> u64 {
        let Some(root) = &self.root else { return 0 };
        let place = locate(root, key);
        let (mut node, mut rank) = (root, 0);
        loop {
            match &node.kind {
                Kind::Leaf(_) => return rank + place.at.unwrap_or_else(|at| at) as u64,
                Kind::Inner(inner) if place.diverges < inner.depth as usize => {
                    return rank + if place.follows() { node.totals.count } else { 0 };
                }
                Kind::Inner(inner) => match inner.find(symbol(key, inner.depth as usize)) {
                    Ok(at) => {
                        rank += inner.count_before(at);
                        node = &inner.slots[at].node;
                    }
                    Err(at) => return rank + inner.count_before(at),
                },
            }
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.totals.count)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Serialised size of all entries: key, value and eight bytes each.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.root.as_ref().map_or(0, |root| root.totals.bytes)
    }

    /// The highest op that changed anything, up to and including the removal of the last entry; 0 after a load.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Digest of the contents: the same contents, the same root, whatever the history.
    ///
    /// Computed from the pages changed since it was last asked for, so ask on a snapshot and off the writing
    /// thread: after one percent of changes to a million entries it takes about 0.1 s.
    #[must_use]
    pub fn root(&self) -> PageId {
        self.root.as_ref().map_or_else(hash::empty_root, |root| hash::id(root))
    }
}

/// The entries of a range, ascending.
struct Entries<'a> {
    /// Slots still to come, per inner page on the path.
    above: Vec<std::slice::Iter<'a, Slot>>,
    leaf: std::slice::Iter<'a, Entry>,
    /// The first key that is out of the range.
    to: Option<Box<[u8]>>,
}

impl<'a> Entries<'a> {
    fn seek(&mut self, root: &'a Arc<Node>, from: &[u8]) {
        let place = locate(root, from);
        let mut node = root;
        loop {
            match &node.kind {
                Kind::Leaf(leaf) => {
                    return self.enter(&leaf.entries()[place.at.unwrap_or_else(|at| at)..]);
                }
                Kind::Inner(inner) if place.diverges < inner.depth as usize => {
                    if !place.follows() {
                        self.above.push(inner.slots.iter());
                    }
                    return;
                }
                Kind::Inner(inner) => match inner.find(symbol(from, inner.depth as usize)) {
                    Ok(at) => {
                        self.above.push(inner.slots[at + 1..].iter());
                        node = &inner.slots[at].node;
                    }
                    Err(at) => return self.above.push(inner.slots[at..].iter()),
                },
            }
        }
    }

    /// Goes on with these entries of a leaf, as far as they are below the upper bound.
    fn enter(&mut self, entries: &'a [Entry]) {
        self.leaf = entries.iter();
        if let (Some(to), Some(last)) = (&self.to, entries.last())
            && last.key() >= &to[..]
        {
            self.leaf = entries[..entries.partition_point(|e| e.key() < &to[..])].iter();
            self.above.clear();
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Entry;

    fn next(&mut self) -> Option<&'a Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.above.last_mut()?.next() {
                None => {
                    self.above.pop();
                }
                Some(slot) => match &slot.node.kind {
                    Kind::Leaf(leaf) => self.enter(leaf.entries()),
                    Kind::Inner(inner) => self.above.push(inner.slots.iter()),
                },
            }
        }
    }
}
