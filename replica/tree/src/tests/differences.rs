//! What changed since an op, and between two snapshots, against full comparisons.

use std::collections::{BTreeMap, BTreeSet};

use super::{LEAF_MAXES, Model, Random, Style, write};
use crate::node::{Kind, Node};
use crate::shape::symbol;
use crate::{Difference, NodeRef, PageId, Snapshot, Tree};

fn pages<'a>(snapshot: &'a Snapshot) -> Vec<NodeRef<'a>> {
    let mut pages: Vec<NodeRef<'a>> = snapshot.node().into_iter().collect();
    let mut at = 0;
    while let Some(page) = pages.get(at).copied() {
        pages.extend(page.children());
        at += 1;
    }
    pages
}

fn ids(snapshot: &Snapshot) -> BTreeSet<PageId> {
    pages(snapshot).iter().map(NodeRef::id).collect()
}

/// The pages that a reader of `key` comes through.
fn path<'a>(snapshot: &'a Snapshot, key: &[u8]) -> Vec<&'a Node> {
    let mut path: Vec<&Node> = snapshot.root.as_deref().into_iter().collect();
    while let Some(Node { kind: Kind::Inner(inner), .. }) = path.last()
        && let Ok(at) = inner.find(symbol(key, inner.depth as usize))
    {
        path.push(&inner.slots[at].node);
    }
    path
}

/// That nobody who follows changed pages only can miss a difference.
fn check_changed(old: &Snapshot, new: &Snapshot, since: u64, changed_keys: impl Iterator<Item = Vec<u8>>) {
    let before = ids(old);
    let listed: BTreeSet<PageId> = new.changed_since(since).map(|page| page.id()).collect();
    for page in pages(new) {
        if page.changed() <= since {
            assert!(before.contains(&page.id()), "a page not marked is a page of the old tree");
        } else {
            assert!(listed.contains(&page.id()), "a marked page is listed");
        }
    }
    for key in changed_keys {
        assert!(new.changed() > since);
        let path = path(new, &key);
        for (at, node) in path.iter().enumerate() {
            // Where a slot was vacated, a neighbour may cover its symbols now and be the page that it was.
            let neighbour = at > 0 && at == path.len() - 1 && new.get(&key).is_none();
            assert!(node.changed > since || neighbour, "every page on the way to {key:?} is marked");
        }
    }
}

/// The value before and after, where they differ.
type Sides = (Option<Vec<u8>>, Option<Vec<u8>>);

fn compare(old: &Model, new: &Model) -> BTreeMap<Vec<u8>, Sides> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let both = keys.into_iter().map(|key| (key.clone(), (old.get(key).cloned(), new.get(key).cloned())));
    both.filter(|(_, (old, new))| old != new).collect()
}

fn compared(old: &Snapshot, new: &Snapshot) -> Vec<(Vec<u8>, Sides)> {
    new.diff(old)
        .map(|difference| {
            let sides = match difference {
                Difference::Added(new) => (None, Some(new.value().to_vec())),
                Difference::Changed { old, new } => (Some(old.value().to_vec()), Some(new.value().to_vec())),
                Difference::Removed(old) => (Some(old.value().to_vec()), None),
            };
            (difference.key().to_vec(), sides)
        })
        .collect()
}

#[test]
fn changes_and_differences_agree_with_full_comparisons() {
    for style in Style::ALL {
        for (seed, leaf_max) in (0..20).zip(LEAF_MAXES.into_iter().cycle()) {
            let mut random = Random(seed + 77);
            let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
            let mut op = 0;
            for _ in 0..200 {
                op += 1;
                write(&mut random, style, &mut tree, &mut model, op);
            }
            for round in 0..30 {
                let (old, old_model, since) = (tree.snapshot(), model.clone(), op);
                for _ in 0..=random.below(if round % 3 == 0 { 60 } else { 2 }) {
                    op += 1;
                    write(&mut random, style, &mut tree, &mut model, op);
                }
                let new = tree.snapshot();
                let differences = compare(&old_model, &model);
                check_changed(&old, &new, since, differences.keys().cloned());
                assert_eq!(compared(&old, &new), differences.into_iter().collect::<Vec<_>>(), "{style:?}");
                let back = compare(&model, &old_model);
                assert_eq!(compared(&new, &old), back.into_iter().collect::<Vec<_>>(), "{style:?}");
            }
        }
    }
}

#[test]
fn a_removal_that_promotes_a_neighbour_shows() {
    // "a…" is one leaf, "b…" an inner page; without "a…" the inner page is the whole tree.
    let mut tree = Tree::with_leaf_max(40);
    tree.put(b"a", b"0", 1);
    for key in [b"b1", b"b2", b"b3"] {
        tree.put(key, &[7; 30], 2);
    }
    let old = tree.snapshot();
    tree.remove(b"a", 3);
    let new = tree.snapshot();
    let promoted = new.node().expect("three entries are left");
    assert!(ids(&old).contains(&promoted.id()), "the new top page is an old page");
    assert_eq!(promoted.changed(), 3, "and is marked, or nobody would notice");
    assert_eq!(new.changed_since(2).count(), 1);
    assert!(
        old.node().expect("four entries").children().all(|page| page.changed() < 3),
        "the old one is not"
    );
}

#[test]
fn the_removal_of_the_last_entry_shows() {
    let mut tree = Tree::new();
    tree.put(b"only", b"1", 1);
    let old = tree.snapshot();
    tree.remove(b"only", 2);
    let new = tree.snapshot();
    assert_eq!((new.changed(), new.changed_since(1).count()), (2, 0));
    assert!(matches!(new.diff(&old).next(), Some(Difference::Removed(entry)) if entry.key() == b"only"));
}

#[test]
fn a_difference_reads_only_what_differs() {
    let mut tree = Tree::new();
    for number in 0..20_000_u64 {
        tree.put(&super::mix(number).to_be_bytes(), &[1; 100], 1);
    }
    let old = tree.snapshot();
    tree.put(&super::mix(5).to_be_bytes(), b"new", 2);
    let new = tree.snapshot();
    assert_eq!(new.diff(&old).count(), 1);
    let changed: Vec<_> = new.changed_since(1).collect();
    assert!(changed.len() <= 3, "one path, not {} pages", changed.len());
    let bytes: u64 = changed.iter().filter(|page| page.is_leaf()).map(NodeRef::bytes).sum();
    assert!(bytes <= crate::LEAF_MAX);
}
