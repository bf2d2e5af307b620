//! Large entries, deep trees, and freeing in portions.

use super::Random;
use crate::{LEAF_MAX, Page, Snapshot, Tree};

const MIB_AND_A_HALF: usize = 3 << 19;

/// Runs on a stack too small for anything that recurses with the depth of the tree.
fn on_small_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(256 << 10);
        builder.spawn_scoped(scope, test).expect("a thread").join().expect("no overflow");
    });
}

#[test]
fn large_keys_and_values_work() {
    let mut tree = Tree::new();
    // One after the other an equal prefix of 1.5 MiB, as long a key that ends inside it, and large values.
    let long = vec![b'k'; MIB_AND_A_HALF];
    let keys = [long.clone(), [&long[..], b"1"].concat(), [&long[..], b"2"].concat(), long[1..].to_vec()];
    for (op, key) in (1..).zip(&keys) {
        tree.put(key, &vec![op as u8; MIB_AND_A_HALF], op);
    }
    for number in 0..1000_u64 {
        tree.put(&number.to_be_bytes(), b"small", 9);
    }
    assert_eq!(tree.view().rank(&keys[2]), 1003);
    let root = tree.view().root();
    let mut other = Tree::new();
    for number in (0..1000_u64).rev() {
        other.put(&number.to_be_bytes(), b"small", 1);
    }
    for (key, value) in keys.iter().rev().zip((1..=4).rev()) {
        other.put(key, b"something else", 1);
        other.put(key, &vec![value; MIB_AND_A_HALF], 2);
    }
    assert_eq!(other.view().root(), root);
    let loaded = Snapshot::load(&root, |id| {
        let page = tree.view().changed_since(0).find(|page| page.id() == *id).ok_or("no such page")?;
        let mut bytes = Vec::new();
        page.encode(&mut bytes);
        assert!(bytes.len() as u64 <= LEAF_MAX * 2 || page.count() == 1);
        Ok::<_, &str>(bytes)
    });
    assert_eq!(loaded.expect("the pages of a tree").root(), root);
    for key in &keys {
        assert_eq!(tree.remove(key, 10).expect("was put").value().len(), MIB_AND_A_HALF);
    }
    assert_eq!((tree.view().len(), tree.view().bytes()), (1000, 1000 * (8 + 8 + 5)));
}

#[test]
fn depth_needs_no_stack() {
    on_small_stack(|| {
        // Each key is a prefix of the next, each entry a leaf of its own: a chain of 3000 inner pages.
        let key = vec![b'p'; 3000];
        let mut tree = Tree::with_leaf_max(8);
        for len in 0..=key.len() {
            tree.put(&key[..len], b"", 1);
        }
        let old = tree.snapshot();
        let root = old.root();
        let mut pages = std::collections::BTreeMap::new();
        for page in old.changed_since(0) {
            let mut bytes = Vec::new();
            page.encode(&mut bytes);
            pages.insert(page.id(), bytes);
        }
        let loaded = Snapshot::load_with(8, &root, |id| {
            Ok::<_, crate::LoadError<()>>(Page::verify_with(id, &pages[id], 8).expect("a page of this tree"))
        });
        let loaded = loaded.expect("the pages of a tree");
        assert_eq!(old.diff(&loaded).count(), 0);
        assert_eq!(loaded.range(&[], None).count(), 3001);
        drop(loaded);
        for len in (0..=key.len()).step_by(2) {
            tree.remove(&key[..len], 2);
        }
        assert_eq!((tree.view().len(), old.len()), (1500, 3001));
        assert_eq!(tree.view().diff(&old).count(), 1501);
        drop(tree);
        assert_eq!(old.root(), root);
        let mut release = old.release();
        while release.step(7) {}
    });
}

#[test]
fn a_full_leaf_splits_as_deep_as_it_can_on_a_small_stack() {
    on_small_stack(|| {
        // As many keys in one leaf as can be nested in each other; then one entry that fits with none of them.
        let key = vec![0; 120];
        let mut tree = Tree::new();
        for len in 0..key.len() {
            tree.put(&key[..len], b"", 1);
        }
        assert!(tree.view().node().expect("entries").is_leaf());
        tree.put(&key, &vec![1; 1 << 20], 2);
        assert_eq!(tree.view().changed_since(0).filter(|page| !page.is_leaf()).count(), 120);
    });
}

#[test]
fn a_release_frees_in_portions_and_only_what_is_not_shared() {
    let mut random = Random(2);
    let mut tree = Tree::with_leaf_max(512);
    for op in 1..=2000 {
        tree.put(&random.next().to_be_bytes(), &[1; 20], op);
    }
    let kept = tree.snapshot();
    let entry = kept.range(&[], None).next().expect("entries").clone();
    for op in 2001..=2200 {
        tree.put(&random.next().to_be_bytes(), &[2; 20], op);
    }
    let root = kept.root();
    let (mut steps, mut release) = (1, tree.snapshot().release());
    drop(tree);
    while release.step(50) {
        steps += 1;
    }
    assert!(steps > 3, "{steps} portions");
    assert_eq!((kept.root(), kept.range(&[], None).count()), (root, 2000));
    let mut release = kept.release();
    while release.step(1) {}
    assert_eq!(entry.value(), &[1; 20]);
    assert!(!Snapshot::default().release().step(1));
}
