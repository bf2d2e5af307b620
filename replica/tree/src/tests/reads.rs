//! Reads against a `BTreeMap`.

use super::{LEAF_MAXES, Model, Random, Style, pair, write};
use crate::Tree;

#[test]
fn reads_agree_with_a_sorted_map() {
    for style in Style::ALL {
        for (seed, leaf_max) in (0..10).zip(LEAF_MAXES.into_iter().cycle()) {
            let mut random = Random(seed);
            let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
            for op in 1..=500 {
                write(&mut random, style, &mut tree, &mut model, op);
            }
            let snapshot = tree.view();
            assert_eq!(snapshot.len(), model.len() as u64);
            assert_eq!(
                snapshot.bytes(),
                model.iter().map(|(k, v)| 8 + k.len() + v.len()).sum::<usize>() as u64
            );
            for _ in 0..300 {
                // Keys of the style, of another style, and cut or longer ones: there and not there.
                let mut key = style.key(&mut random);
                match random.below(5) {
                    0 => key = Style::ALL[random.below(7) as usize].key(&mut random),
                    1 => key.truncate(random.below(8) as usize),
                    2 => key.push(random.next() as u8),
                    _ => {}
                }
                let got = snapshot.get(&key).map(|entry| entry.value());
                assert_eq!(got, model.get(&key).map(Vec::as_slice));
                assert_eq!(
                    snapshot.rank(&key),
                    model.range(..key.clone()).count() as u64,
                    "{style:?} {key:?}"
                );
                let to = match random.below(3) {
                    0 => None,
                    _ => Some(style.key(&mut random)),
                };
                let got: Vec<_> = snapshot.range(&key, to.as_deref()).map(pair).collect();
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(k, _)| **k >= key && to.as_ref().is_none_or(|to| *k < to))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                assert_eq!(got, expected, "{style:?} {key:?} {to:?}");
            }
        }
    }
}

#[test]
fn an_empty_tree_reads_as_empty() {
    let tree = Tree::new();
    let snapshot = tree.view();
    assert!(snapshot.is_empty() && snapshot.get(b"").is_none() && snapshot.node().is_none());
    assert_eq!((snapshot.len(), snapshot.bytes(), snapshot.rank(b"x")), (0, 0, 0));
    assert_eq!(snapshot.range(b"", None).count(), 0);
    tree.warm(&[b"", b"x"]);
}

#[test]
fn warming_changes_nothing() {
    let mut random = Random(4);
    let (mut tree, mut model) = (Tree::with_leaf_max(200), Model::new());
    for op in 1..=500 {
        write(&mut random, Style::Prefixes, &mut tree, &mut model, op);
    }
    let root = tree.view().root();
    for count in [0, 1, 15, 16, 17, 50] {
        let keys: Vec<_> = (0..count).map(|_| Style::Prefixes.key(&mut random)).collect();
        tree.warm(&keys.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    assert_eq!(tree.view().root(), root);
}

#[test]
fn an_entry_outlives_its_tree_without_a_copy() {
    let mut tree = Tree::new();
    tree.put(b"key", b"value", 1);
    let entry = tree.view().get(b"key").expect("just put").clone();
    let address = entry.value().as_ptr();
    drop(tree);
    let (key, value) = (entry.clone().into_key(), entry.into_value());
    assert_eq!((key.as_ref(), value.as_ref()), (&b"key"[..], &b"value"[..]));
    assert_eq!(value.as_ref().as_ptr(), address);
}
