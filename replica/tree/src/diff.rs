//! What differs between two snapshots, at a cost in proportion to the difference.
//!
//! Both trees are walked side by side in key order. Where both have the same page, by address or by a known id,
//! it is skipped unread. Two subtrees that start with the same key are opened larger first: that way a shared
//! subtree always meets itself, since whatever contains it is larger and has been opened before.

use crate::entry::Entry;
use crate::node::{Kind, Node};
use crate::read::Snapshot;

/// One entry that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference<'a> {
    /// Only the newer snapshot has the key.
    Added(&'a Entry),
    /// Both have the key, with different values.
    Changed {
        /// As it was.
        old: &'a Entry,
        /// As it is.
        new: &'a Entry,
    },
    /// Only the older snapshot has the key.
    Removed(&'a Entry),
}

impl<'a> Difference<'a> {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self {
            Difference::Added(entry)
            | Difference::Removed(entry)
            | Difference::Changed { new: entry, .. } => entry.key(),
        }
    }
}

impl Snapshot {
    /// The entries that differ from those of `old`, ascending by key.
    pub fn diff<'a>(&'a self, old: &'a Snapshot) -> impl Iterator<Item = Difference<'a>> {
        let (mut old, mut new) = (Cursor::new(old), Cursor::new(self));
        std::iter::from_fn(move || next(&mut old, &mut new))
    }
}

fn next<'a>(old: &mut Cursor<'a>, new: &mut Cursor<'a>) -> Option<Difference<'a>> {
    loop {
        let (a, b) = match (old.head(), new.head()) {
            (None, None) => return None,
            (Some(a), None) => match old.take_or_open(a) {
                Some(entry) => return Some(Difference::Removed(entry)),
                None => continue,
            },
            (None, Some(b)) => match new.take_or_open(b) {
                Some(entry) => return Some(Difference::Added(entry)),
                None => continue,
            },
            (Some(a), Some(b)) => (a, b),
        };
        match a.first().key().cmp(b.first().key()) {
            std::cmp::Ordering::Less => {
                if let Some(entry) = old.take_or_open(a) {
                    return Some(Difference::Removed(entry));
                }
            }
            std::cmp::Ordering::Greater => {
                if let Some(entry) = new.take_or_open(b) {
                    return Some(Difference::Added(entry));
                }
            }
            std::cmp::Ordering::Equal => {
                if a.is_same(b) {
                    old.skip();
                    new.skip();
                    continue;
                }
                let (count_a, count_b) = (a.count(), b.count());
                let entries = (
                    if count_a >= count_b { old.take_or_open(a) } else { None },
                    if count_b >= count_a { new.take_or_open(b) } else { None },
                );
                if let (Some(a), Some(b)) = entries
                    && a.value() != b.value()
                {
                    return Some(Difference::Changed { old: a, new: b });
                }
            }
        }
    }
}

/// What comes next: a subtree not looked into yet, with its first entry, or an entry.
#[derive(Clone, Copy)]
enum Head<'a> {
    Page(&'a Node, &'a Entry),
    Entry(&'a Entry),
}

impl<'a> Head<'a> {
    fn first(self) -> &'a Entry {
        match self {
            Head::Page(_, first) | Head::Entry(first) => first,
        }
    }

    /// Its size in the order of opening: a page counts for more than an entry, even a page of one entry.
    fn count(self) -> u64 {
        match self {
            Head::Page(node, _) => node.totals.count * 2 + u64::from(!node.is_leaf()),
            Head::Entry(_) => 0,
        }
    }

    fn is_same(self, other: Head<'_>) -> bool {
        match (self, other) {
            (Head::Page(a, _), Head::Page(b, _)) => {
                std::ptr::eq(a, b) || a.id.get().is_some_and(|id| Some(id) == b.id.get())
            }
            (Head::Entry(a), Head::Entry(b)) => a.is_same(b),
            _ => false,
        }
    }
}

/// A place in one of the two trees.
struct Cursor<'a> {
    above: Vec<std::slice::Iter<'a, crate::node::Slot>>,
    entries: std::slice::Iter<'a, Entry>,
    /// The page that comes before everything else, when there is one.
    page: Option<(&'a Node, &'a Entry)>,
}

impl<'a> Cursor<'a> {
    fn new(snapshot: &'a Snapshot) -> Cursor<'a> {
        let page = snapshot.root.as_deref().map(|node| (node, node.first()));
        Cursor { above: Vec::new(), entries: [].iter(), page }
    }

    fn head(&mut self) -> Option<Head<'a>> {
        if let Some((node, first)) = self.page {
            return Some(Head::Page(node, first));
        }
        if let Some(entry) = self.entries.as_slice().first() {
            return Some(Head::Entry(entry));
        }
        loop {
            match self.above.last_mut()?.next() {
                None => {
                    self.above.pop();
                }
                Some(slot) => {
                    let first = slot.node.first();
                    self.page = Some((&slot.node, first));
                    return Some(Head::Page(&slot.node, first));
                }
            }
        }
    }

    fn skip(&mut self) {
        if self.page.take().is_none() {
            self.entries.next();
        }
    }

    /// Takes the head when it is an entry, looks into it when it is a page.
    fn take_or_open(&mut self, head: Head<'a>) -> Option<&'a Entry> {
        self.skip();
        match head {
            Head::Entry(entry) => return Some(entry),
            Head::Page(node, first) => match &node.kind {
                Kind::Leaf(leaf) => self.entries = leaf.entries().iter(),
                Kind::Inner(inner) => {
                    let mut slots = inner.slots.iter();
                    // The first page below starts where this one does: no need to go down for its first key.
                    self.page = slots.next().map(|slot| (&*slot.node, first));
                    self.above.push(slots);
                }
            },
        }
        None
    }
}
