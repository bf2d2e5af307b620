//! Same contents, same root, whatever the history; snapshots stay as they were.

use super::{LEAF_MAXES, Model, Random, Style, check, contents, rebuilt, rule, write};
use crate::{Snapshot, Tree};

#[test]
fn the_root_is_a_function_of_the_contents() {
    for style in Style::ALL {
        for (seed, leaf_max) in (0..20).zip(LEAF_MAXES.into_iter().cycle()) {
            let mut random = Random(seed * 7919);
            let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
            for op in 1..=600 {
                write(&mut random, style, &mut tree, &mut model, op);
                if op % 60 == 0 {
                    check(tree.view());
                    let expected = rule::root(&model, leaf_max);
                    assert_eq!(tree.snapshot().root(), expected, "{style:?}, seed {seed}, op {op}");
                }
            }
            let other = rebuilt(&model, leaf_max, &mut random);
            assert_eq!(other.snapshot().root(), tree.snapshot().root(), "{style:?}, seed {seed}");
            assert_eq!(contents(tree.view()), model);
        }
    }
}

#[test]
fn a_tree_can_be_emptied_and_filled_again() {
    for style in Style::ALL {
        let mut random = Random(3);
        let (mut tree, mut model) = (Tree::with_leaf_max(200), Model::new());
        for op in 1..=300 {
            write(&mut random, style, &mut tree, &mut model, op);
        }
        for key in super::shuffled(model.keys().cloned().collect(), &mut random) {
            assert!(tree.remove(&key, 400).is_some());
            assert!(tree.remove(&key, 999).is_none());
            model.remove(&key);
            assert_eq!(tree.view().root(), rule::root(&model, 200));
        }
        assert!(tree.view().is_empty());
        assert_eq!(tree.view().changed(), 400, "removing nothing changes nothing");
        assert_eq!(tree.view().root(), Snapshot::default().root());
        tree.put(b"again", b"1", 401);
        assert_eq!(tree.view().len(), 1);
    }
}

#[test]
fn snapshots_are_isolated_from_writes() {
    for style in Style::ALL {
        for (seed, leaf_max) in (100..110).zip(LEAF_MAXES.into_iter().cycle()) {
            let mut random = Random(seed);
            let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
            let mut kept: Vec<(Snapshot, Model)> = Vec::new();
            for op in 1..=600 {
                write(&mut random, style, &mut tree, &mut model, op);
                if op % 37 == 0 {
                    let snapshot = tree.snapshot();
                    // Some are hashed before the writes go on, some only afterwards.
                    if op % 2 == 0 {
                        assert_eq!(snapshot.root(), rule::root(&model, leaf_max));
                    }
                    kept.push((snapshot, model.clone()));
                }
                if kept.len() > 4 {
                    let (snapshot, _) = kept.swap_remove(random.below(4) as usize);
                    let mut release = snapshot.release();
                    while release.step(5) {}
                }
            }
            for (snapshot, model) in &kept {
                check(snapshot);
                assert_eq!(contents(snapshot), *model);
                assert_eq!(snapshot.root(), rule::root(model, leaf_max), "{style:?}, seed {seed}");
            }
            assert_eq!(tree.view().root(), rule::root(&model, leaf_max), "{style:?}, seed {seed}");
        }
    }
}

#[test]
fn a_snapshot_is_hashed_on_another_thread_while_writes_go_on() {
    let mut random = Random(1);
    let (mut tree, mut model) = (Tree::with_leaf_max(512), Model::new());
    let mut op = 0;
    for _ in 0..20 {
        for _ in 0..100 {
            op += 1;
            write(&mut random, Style::Registry, &mut tree, &mut model, op);
        }
        let (snapshot, expected) = (tree.snapshot(), rule::root(&model, 512));
        std::thread::scope(|scope| {
            let hashing = scope.spawn(move || snapshot.root());
            for _ in 0..100 {
                op += 1;
                write(&mut random, Style::Registry, &mut tree, &mut model, op);
            }
            assert_eq!(hashing.join().expect("hashing does not panic"), expected);
        });
    }
}

#[test]
fn a_tree_goes_on_from_a_snapshot() {
    let mut random = Random(9);
    let (mut tree, mut model) = (Tree::with_leaf_max(200), Model::new());
    for op in 1..=300 {
        write(&mut random, Style::Decimal, &mut tree, &mut model, op);
    }
    let before = tree.snapshot();
    let mut other = Tree::from(before.clone());
    let mut other_model = model.clone();
    for op in 301..=600 {
        write(&mut random, Style::Decimal, &mut other, &mut other_model, op);
    }
    assert_eq!(tree.view().root(), rule::root(&model, 200));
    assert_eq!(other.view().root(), rule::root(&other_model, 200));
    assert_eq!(before.root(), tree.view().root());
}

#[test]
fn the_format_is_pinned() {
    // Another root here is another format: nothing written before could be read or compared any more.
    let mut tree = Tree::new();
    for number in 0..20_000_u64 {
        tree.put(format!("/registry/pods/{number}").as_bytes(), &super::mix(number).to_le_bytes(), number);
    }
    tree.put(b"", b"the empty key", 20_000);
    tree.put(b"/registry", &[9; 10_000], 20_001);
    assert_eq!(tree.view().root(), rule::root(&contents(tree.view()), crate::LEAF_MAX));
    let hex = |id: [u8; 32]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(tree.view().root()), "fbce78e85d36b2c40ed5cb4fdde7dae1f5ea7835478c77372c9a01a9c7b74ffc");
    assert_eq!(
        hex(Snapshot::default().root()),
        "43148b07b493694077f3514997ad7f38146aa03202a48c85569464646117e4f6"
    );
}
