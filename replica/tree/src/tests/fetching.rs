//! Trees fetched by the pages that differ: whatever is here, in whatever order, and whatever a wrong source sends.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{LEAF_MAXES, Model, Random, Style, check, contents, write};
use crate::{Fetch, FetchError, PageError, PageId, Snapshot, Tree, WantError};

fn ids(snapshot: &Snapshot) -> BTreeSet<PageId> {
    let mut stack: Vec<_> = snapshot.node().into_iter().collect();
    let mut ids = BTreeSet::new();
    while let Some(page) = stack.pop() {
        ids.insert(page.id());
        stack.extend(page.children());
    }
    ids
}

/// Carries wants and portions until all is there, several at a time and in random order.
fn carry(fetch: &mut Fetch, source: &Snapshot, random: &mut Random, max_bytes: usize) {
    let mut under_way: Vec<Vec<u8>> = Vec::new();
    for _ in 0..100_000 {
        while under_way.len() < 3
            && let Some(want) = fetch.want(1 + random.below(6) as usize)
        {
            under_way.push(want);
        }
        if under_way.is_empty() {
            return;
        }
        let want = under_way.swap_remove(random.below(under_way.len() as u64) as usize);
        let portion = source.answer(&want, max_bytes).expect("a want for this tree");
        fetch.take(&want, &portion, |_| true).expect("the answer to a want");
        // The same again answers nothing.
        assert_eq!(fetch.take(&want, &portion, |_| true), Err(FetchError::NotAsked));
    }
    panic!("no end");
}

fn grown(style: Style, random: &mut Random, tree: &mut Tree, model: &mut Model, ops: std::ops::Range<u64>) {
    ops.for_each(|op| write(random, style, tree, model, op));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_arrives_is_the_tree_asked_for(
        style in 0..Style::ALL.len(), leaf in 0..LEAF_MAXES.len(), seed: u64, before in 0_u64..400, after in 1_u64..200,
        hashed: bool,
    ) {
        let (style, leaf_max, mut random) = (Style::ALL[style], LEAF_MAXES[leaf], Random(seed));
        let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
        grown(style, &mut random, &mut tree, &mut model, 1..before + 1);
        let here = tree.snapshot();
        if hashed {
            let _ = here.root();
        }
        let was = contents(&here);
        // Another history from there: nothing is shared but the contents.
        let mut theirs = super::rebuilt(&model, leaf_max, &mut random);
        grown(style, &mut random, &mut theirs, &mut model, before + 1..before + after);
        let source = theirs.snapshot();
        let mut fetch = Fetch::new(&source.root(), &here, before + after);
        carry(&mut fetch, &source, &mut random, 1000);
        let (pages, _) = fetch.arrived();
        let copy = fetch.finish().expect("all of it arrived");
        check(&copy);
        prop_assert_eq!(copy.root(), source.root());
        prop_assert_eq!(contents(&copy), model);
        prop_assert_eq!(contents(&here), was);
        prop_assert!(pages <= ids(&source).len() as u64);
        // What of it a walk by op leaves out stood in the tree that was here.
        let stood = ids(&here);
        let listed: BTreeSet<PageId> = copy.changed_since(before).map(|page| page.id()).collect();
        for id in ids(&copy) {
            prop_assert!(listed.contains(&id) || stood.contains(&id));
        }
    }

    #[test]
    fn garbage_is_refused_by_both_ends(want: Vec<u8>, portion: Vec<u8>, seed: u64) {
        let (mut tree, mut model) = (Tree::with_leaf_max(200), Model::new());
        grown(Style::Registry, &mut Random(seed), &mut tree, &mut model, 1..100);
        let source = tree.snapshot();
        let root = source.root();
        let _ = source.answer(&want, 500);
        let mut fetch = Fetch::new(&root, &Snapshot { leaf_max: 200, ..Snapshot::default() }, 1);
        let first = fetch.want(1).expect("the top page");
        prop_assert!(fetch.take(&first, &portion, |_| true).is_err());
        carry(&mut fetch, &source, &mut Random(seed), 500);
        prop_assert_eq!(fetch.finish().expect("it recovered").root(), root);
    }
}

fn large() -> Tree {
    let mut tree = Tree::new();
    for number in 0..40_000_u64 {
        tree.put(&super::mix(number).to_be_bytes(), &[7; 100], 1);
    }
    tree
}

#[test]
fn only_pages_that_differ_travel() {
    let mut theirs = large();
    let here = theirs.snapshot();
    let _ = here.root();
    for number in 0..40 {
        theirs.put(&super::mix(number * 1000).to_be_bytes(), &[8; 100], 2);
    }
    theirs.remove(&super::mix(77).to_be_bytes(), 2);
    let source = theirs.snapshot();
    let root = source.root();
    let stood = ids(&here);
    let differ = ids(&source).into_iter().filter(|id| !stood.contains(id)).count() as u64;
    let mut fetch = Fetch::new(&root, &here, 2);
    carry(&mut fetch, &source, &mut Random(1), 64 << 10);
    assert_eq!(fetch.arrived().0, differ);
    assert!((40..120).contains(&differ), "{differ}");
    // A copy of what is here already asks for nothing.
    let mut nothing = Fetch::new(&root, &source, 2);
    assert_eq!(nothing.want(9), None);
    assert_eq!(nothing.finish().expect("nothing is missing").root(), root);
}

#[test]
fn a_neighbourhood_that_has_vanished_does_not_hide_what_was_below() {
    let mut theirs = Tree::new();
    for number in 0..20_000_u64 {
        theirs.put(format!("/registry/pods/{:08x}", super::mix(number) as u32).as_bytes(), &[7; 100], 1);
    }
    theirs.put(b"/registry/nodes/only", b"", 1);
    theirs.put(b"/a", b"", 1);
    let here = theirs.snapshot();
    let _ = here.root();
    theirs.remove(b"/registry/nodes/only", 2);
    theirs.remove(b"/a", 2);
    theirs.put(b"/registry/pods/00000000", b"new", 2);
    let source = theirs.snapshot();
    let mut fetch = Fetch::new(&source.root(), &here, 2);
    carry(&mut fetch, &source, &mut Random(1), 64 << 10);
    assert!(fetch.arrived().0 < 6, "{:?}", fetch.arrived());
    assert_eq!(fetch.finish().expect("all of it arrived").root(), source.root());
}

#[test]
fn what_arrived_for_one_tree_serves_the_next() {
    let mut theirs = large();
    let first = theirs.snapshot();
    let mut fetch = Fetch::new(&first.root(), &Snapshot::default(), 1);
    // About half of it.
    while fetch.arrived().1 < first.bytes() / 2 {
        let want = fetch.want(32).expect("half of it is missing");
        let portion = first.answer(&want, 64 << 10).expect("a want for this tree");
        fetch.take(&want, &portion, |_| true).expect("the answer to a want");
    }
    let lost = fetch.want(32).expect("half of it is missing");
    theirs.put(&super::mix(5).to_be_bytes(), b"new", 2);
    let second = theirs.snapshot();
    let mut fetch = fetch.instead(&second.root(), &Snapshot::default(), 2);
    assert_eq!(fetch.take(&lost, &[], |_| true), Err(FetchError::NotAsked));
    carry(&mut fetch, &second, &mut Random(3), 64 << 10);
    let (_, bytes) = fetch.arrived();
    assert!(bytes < second.bytes() * 11 / 10, "{bytes} for {}", second.bytes());
    assert_eq!(fetch.finish().expect("all of it arrived").root(), second.root());
}

#[test]
fn an_answer_is_bounded_and_holds_a_page_at_least() {
    let source = large().snapshot();
    let mut fetch = Fetch::new(&source.root(), &Snapshot::default(), 1);
    for max_bytes in [0, 1, 30_000, 100_000] {
        let want = fetch.want(1000).expect("much is missing");
        let portion = source.answer(&want, max_bytes).expect("a want for this tree");
        assert!(!portion.is_empty() && portion.len() <= max_bytes.max(12_000));
        fetch.take(&want, &portion, |_| true).expect("the answer to a want");
    }
    assert!(!fetch.is_complete());
    assert!(matches!(fetch.finish(), Err(FetchError::Incomplete(_))));
}

#[test]
fn a_wrong_portion_is_noticed_at_once_and_asked_for_again() {
    let source = large().snapshot();
    let root = source.root();
    let mut fetch = Fetch::new(&root, &Snapshot::default(), 1);
    let top = fetch.want(1).expect("the top page");
    let portion = source.answer(&top, 1000).expect("a want for this tree");
    fetch.take(&top, &portion, |_| true).expect("the answer to a want");
    let mut refused = |spoil: &dyn Fn(Vec<u8>) -> Vec<u8>, accept: bool| {
        let want = fetch.want(3).expect("much is missing");
        let portion = source.answer(&want, 64 << 10).expect("a want for this tree");
        fetch.take(&want, &spoil(portion), |_| accept).expect_err("it is spoilt")
    };
    let flipped = refused(
        &|mut portion| {
            portion[40] ^= 1;
            portion
        },
        true,
    );
    assert!(matches!(flipped, FetchError::Page { error: PageError::Id(_), .. }), "{flipped}");
    assert_eq!(refused(&|_| Vec::new(), true), FetchError::Pages { asked: 3, found: 0 });
    let short = refused(&|portion| portion[..portion.len() - 1].to_vec(), true);
    assert!(matches!(short, FetchError::Truncated(_)), "{short}");
    let more = refused(&|portion| [&portion[..], &portion].concat(), true);
    assert!(matches!(more, FetchError::Pages { .. } | FetchError::Page { .. }), "{more}");
    let leaf = refused(&|portion| portion, false);
    assert!(matches!(leaf, FetchError::Entry(_)), "{leaf}");
    assert!(leaf.to_string().contains("cannot be there"));
    carry(&mut fetch, &source, &mut Random(1), 64 << 10);
    assert_eq!(fetch.finish().expect("it recovered").root(), root);
}

#[test]
fn a_root_that_is_none_of_a_tree_is_refused_when_it_shows() {
    // A tree by another rule: valid pages, valid ids, and not the shape that its contents have here.
    let mut theirs = Tree::with_leaf_max(200);
    for number in 0..100_u64 {
        theirs.put(&super::mix(number).to_be_bytes(), &[7; 20], 1);
    }
    let source = theirs.snapshot();
    let mut fetch = Fetch::new(&source.root(), &Snapshot::default(), 1);
    let mut outcome = Ok(());
    while outcome.is_ok() {
        let Some(want) = fetch.want(10) else { break };
        outcome = fetch.take(&want, &source.answer(&want, 1 << 20).expect("a want for this tree"), |_| true);
    }
    assert!(matches!(outcome, Err(FetchError::Page { .. })), "{outcome:?}");
    assert_eq!(fetch.want(10), None);
    assert!(!fetch.is_complete());
    assert_eq!(fetch.finish().map(|_| ()), outcome);
}

#[test]
fn wants_for_other_trees_are_refused() {
    let source = large().snapshot();
    let nothing = Snapshot::default();
    let mut fetch = Fetch::new(&source.root(), &nothing, 1);
    let top = fetch.want(1).expect("the top page");
    assert_eq!(nothing.answer(&top, 1000), Err(WantError::NoSuchPlace));
    assert_eq!(source.answer(&[], 1000), Err(WantError::Malformed));
    assert_eq!(source.answer(&top[..top.len() - 1], 1000), Err(WantError::Malformed));
    assert_eq!(source.answer(&[0, 0, 0, 0, 1, 0, 0xff, 0xff], 1000), Err(WantError::NoSuchPlace));
    assert!(matches!(source.answer(&vec![0; (1 << 20) + 1], 1000), Err(WantError::TooLong { .. })));
    let many = [&[0, 0, 0, 0, 0xd0, 0x07][..], &[0; 4000]].concat();
    assert!(matches!(source.answer(&many, 1 << 30), Err(WantError::TooLong { pages: 2000, .. })));
}
