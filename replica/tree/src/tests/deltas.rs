//! Leaves as deltas on earlier ones: they come back, in chains too, and whatever is not the page is refused.

use std::collections::BTreeMap;

use super::{Random, Style};
use crate::{NodeRef, Page, PageError, PageId, Snapshot, Tree, VerifiedPage};

fn verified(node: &NodeRef<'_>) -> VerifiedPage {
    let mut bytes = Vec::new();
    node.encode(&mut bytes);
    Page::verify(&node.id(), &bytes).expect("a page of a tree")
}

fn leaves(snapshot: &Snapshot) -> impl Iterator<Item = NodeRef<'_>> {
    snapshot.changed_since(0).filter(NodeRef::is_leaf)
}

fn loaded(page: &VerifiedPage) -> Vec<u8> {
    let mut bytes = Vec::new();
    page.page().encode(&mut bytes);
    bytes
}

/// A tree of several leaves whatever the keys, so that leaves are divided and joined.
fn tree(style: Style, random: &mut Random) -> Tree {
    let mut tree = Tree::new();
    for op in 1..=400 {
        let (key, length) = (style.key(random), 100 + random.below(300) as usize);
        if random.below(5) < 2 {
            tree.remove(&key, op);
        } else {
            tree.put(&key, &vec![op as u8; length], op);
        }
    }
    tree
}

#[test]
fn a_leaf_comes_back_from_its_delta_and_a_chain_of_them() {
    for (seed, style) in (0..).zip(Style::ALL) {
        let mut random = Random(seed);
        let mut tree = tree(style, &mut random);
        let first = tree.snapshot();
        let mut bases: BTreeMap<PageId, (VerifiedPage, Vec<Vec<u8>>)> =
            leaves(&first).map(|leaf| (leaf.id(), (verified(&leaf), Vec::new()))).collect();
        let (mut before, mut chained) = (first.clone(), 0);
        for op in 1_000..1_006 {
            for _ in 0..3 {
                tree.put(&style.key(&mut random), &[op as u8; 120], op);
                tree.remove(&style.key(&mut random), op);
            }
            let now = tree.snapshot();
            let mut made = BTreeMap::new();
            for leaf in leaves(&now) {
                let old = before.leaf_near(leaf.entries()[0].key()).expect("there are entries");
                let (base, mut chain) = bases[&old.id()].clone();
                if old.id() != leaf.id() {
                    let (mut delta, mut again) = (Vec::new(), Vec::new());
                    assert!(leaf.delta(&old, usize::MAX, &mut delta));
                    // Of pages that share no memory the same bytes are made.
                    assert!(verified(&leaf).delta(&verified(&old), usize::MAX, &mut again));
                    assert_eq!(delta, again);
                    chain.push(delta);
                }
                let page = base.apply(chain.iter().map(Vec::as_slice), &leaf.id()).expect("its deltas");
                assert_eq!(loaded(&page), loaded(&verified(&leaf)));
                chained = chain.len().max(chained);
                made.insert(leaf.id(), (base, chain));
            }
            (before, bases) = (now, made);
        }
        assert!(chained >= 2, "{style:?}");
    }
}

#[test]
fn entries_that_stay_are_shared_with_the_base() {
    let mut tree = Tree::new();
    for number in 0..20u8 {
        tree.put(&[number], &[number; 100], 1);
    }
    let before = tree.snapshot();
    tree.put(&[7], b"changed", 2);
    let (old, new) = (before.node().expect("a leaf"), tree.view().node().expect("a leaf"));
    let mut delta = Vec::new();
    assert!(new.delta(&old, 64, &mut delta));
    assert_eq!(delta, [&[7, 0, 1, 0, 1, 0, 1, 0, 0, 0, 7, 0, 0, 0, 7][..], b"changed"].concat());
    let base = verified(&old);
    let page = base.apply([&delta[..]], &new.id()).expect("its delta");
    let (Page::Leaf(base), Page::Leaf(page)) = (base.page(), page.page()) else { panic!("leaves") };
    let shared = page.entries().iter().zip(base.entries()).filter(|(a, b)| a.is_same(b)).count();
    assert_eq!(shared, 19);
    // What would take too much is not written at all.
    assert!(!new.delta(&old, delta.len() - 1, &mut delta));
    assert_eq!(delta.len(), 15 + 7);
}

#[test]
fn what_is_not_the_page_is_refused() {
    let mut tree = Tree::new();
    for number in 0..20u8 {
        tree.put(&[number], &[number; 100], 1);
    }
    let before = tree.snapshot();
    tree.put(&[3], b"changed", 2);
    tree.remove(&[9], 2);
    tree.put(&[12, 0], b"new", 2);
    let (old, new) = (before.node().expect("a leaf"), tree.view().node().expect("a leaf"));
    let (base, id, mut delta) = (verified(&old), new.id(), Vec::new());
    assert!(new.delta(&old, usize::MAX, &mut delta));
    assert!(base.apply([&delta[..]], &id).is_ok());
    for at in 0..delta.len() {
        assert!(base.apply([&delta[..at]], &id).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bad = delta.clone();
            bad[at] ^= 1 << bit;
            assert!(base.apply([&bad[..]], &id).is_err(), "byte {at}");
        }
    }
    assert!(matches!(base.apply([&delta[..]], &[0; 32]), Err(PageError::Id(found)) if found == id));
    assert!(matches!(verified(&new).apply([&delta[..]], &id), Err(PageError::Id(_))), "another base");
    let run = |counts: [u16; 3]| counts.map(u16::to_le_bytes).concat();
    for (counts, error) in [
        ([21, 0, 1], PageError::DeltaRun(0)),
        ([0, 21, 0], PageError::DeltaRun(0)),
        ([5, 0, 0], PageError::DeltaRun(0)),
    ] {
        assert_eq!(base.apply([&run(counts)[..]], &id).expect_err("refused"), error);
    }
    assert!(matches!(base.apply([&run([0, 0, 1])[..]], &id), Err(PageError::Truncated { .. })));
    // Nothing is left, or what is left is not in order: no tree has such a page, whoever says so.
    let empty = base.apply([&run([0, 20, 0])[..]], &Snapshot::default().root());
    assert_eq!(empty.expect_err("refused"), PageError::EmptyLeaf);

    let mut large = Tree::new();
    for number in 0..200u8 {
        large.put(&[number], &[number; 100], 1);
    }
    let inner = verified(&large.view().node().expect("a page"));
    assert_eq!(inner.apply([&delta[..]], &id).expect_err("refused"), PageError::DeltaBase);
    assert!(!new.delta(&large.view().node().expect("a page"), usize::MAX, &mut Vec::new()));
}
