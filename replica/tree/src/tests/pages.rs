//! Pages to bytes and back, whole trees loaded, and everything that must be refused.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{LEAF_MAXES, Model, Random, Style, check, contents, write};
use crate::hash;
use crate::load::LoadError;
use crate::{Page, PageError, PageId, Snapshot, Tree};

type Pages = BTreeMap<PageId, Vec<u8>>;

fn random_tree(style: Style, seed: u64, leaf_max: u64) -> (Tree, Model) {
    let mut random = Random(seed);
    let (mut tree, mut model) = (Tree::with_leaf_max(leaf_max), Model::new());
    for op in 1..=400 {
        write(&mut random, style, &mut tree, &mut model, op);
    }
    (tree, model)
}

fn encode(snapshot: &Snapshot) -> Pages {
    let mut pages = Pages::new();
    for page in snapshot.changed_since(0) {
        let mut bytes = Vec::new();
        page.encode(&mut bytes);
        pages.insert(page.id(), bytes);
    }
    pages
}

fn load(root: &PageId, pages: &Pages, leaf_max: u64) -> Result<Snapshot, LoadError<&'static str>> {
    Snapshot::load_with(leaf_max, root, |id| {
        let bytes = pages.get(id).ok_or(LoadError::Fetch { id: *id, source: "no such page" })?;
        Page::verify_with(id, bytes, leaf_max).map_err(|error| LoadError::Page { id: *id, error })
    })
}

#[test]
fn a_tree_comes_back_from_its_pages() {
    for style in Style::ALL {
        for (seed, leaf_max) in (0..5).zip(LEAF_MAXES) {
            let (tree, model) = random_tree(style, seed, leaf_max);
            let (root, pages) = (tree.view().root(), encode(tree.view()));
            let loaded = load(&root, &pages, leaf_max).expect("the pages of a tree");
            check(&loaded);
            assert_eq!(contents(&loaded), model);
            assert_eq!((loaded.root(), loaded.changed()), (root, 0));
            assert_eq!(loaded.diff(tree.view()).count(), 0);
            // It is a tree like any other from here on.
            let (mut tree, mut loaded) = (tree, Tree::from(loaded));
            for number in 0..50 {
                let key = style.key(&mut Random(number));
                assert_eq!(tree.remove(&key, 500), loaded.remove(&key, 500));
                assert_eq!(tree.view().root(), loaded.view().root());
            }
        }
    }
}

#[test]
fn the_public_loads_agree() {
    let mut tree = Tree::new();
    for number in 0..2000_u64 {
        tree.put(&super::mix(number).to_be_bytes(), &[1; 50], 1);
    }
    let (root, pages) = (tree.view().root(), encode(tree.view()));
    let get = |id: &PageId| pages.get(id).cloned().ok_or("no such page");
    let loaded = Snapshot::load(&root, get).expect("the pages of a tree");
    assert_eq!((loaded.root(), loaded.len()), (root, 2000));
    let verified = |id: &PageId| Page::verify(id, &pages[id]);
    assert_eq!(Snapshot::load_verified(&root, verified).expect("the pages of a tree").root(), root);
    let other = pages.keys().find(|id| **id != root).expect("many pages");
    let swapped = Snapshot::load_verified(&root, |_| Page::verify(other, &pages[other]));
    assert!(matches!(swapped, Err(LoadError::Page { error: PageError::Id(found), .. }) if found == *other));
    let missing = Snapshot::load(&root, |_| Err("the disk is gone")).expect_err("no page at all");
    assert!(missing.to_string().ends_with("could not be fetched: the disk is gone"));
    let empty = Snapshot::default();
    assert!(load(&empty.root(), &Pages::new(), 40).expect("an empty tree has no pages").is_empty());
}

#[test]
fn encoding_is_what_decoding_reads() {
    for style in Style::ALL {
        let (tree, _) = random_tree(style, 5, 200);
        for page in tree.view().changed_since(0) {
            let mut bytes = b"before".to_vec();
            page.encode(&mut bytes);
            assert_eq!(bytes.len() - 6, page.encoded_len());
            let verified = Page::verify_with(&page.id(), &bytes[6..], 200).expect("a page of a tree");
            match verified.page() {
                Page::Leaf(leaf) => assert_eq!(leaf.entries(), page.entries()),
                Page::Inner(inner) => {
                    let counts: u64 = inner.children().iter().map(|child| child.count()).sum();
                    assert_eq!(counts, page.count());
                }
            }
            assert!(verified.page().child_ids().eq(page.children().map(|child| child.id())));
        }
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let (tree, _) = random_tree(Style::Registry, 3, 512);
    let root = tree.view().root();
    let pages = encode(tree.view());
    for (id, bytes) in &pages {
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << (at % 8);
            assert!(matches!(Page::verify_with(id, &wrong, 512), Err(PageError::Id(_))));
            // Whatever it says now, reading it does not panic.
            let _ = Page::decode_with(&wrong, 512);
        }
        for len in 0..bytes.len() {
            assert!(Page::decode_with(&bytes[..len], 512).is_err(), "cut at {len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Page::decode_with(&longer, 512), Err(PageError::Trailing(1)));
        let mut wrong = pages.clone();
        wrong.get_mut(id).expect("one of them")[0] ^= 0x80;
        let error = load(&root, &wrong, 512).expect_err("a corrupt page");
        assert!(matches!(error, LoadError::Page { id: at, error: PageError::Id(_) } if at == *id));
    }
}

fn leaf_bytes(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend((entries.len() as u32).to_le_bytes());
    for (key, value) in entries {
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(*key);
        bytes.extend(*value);
    }
    bytes
}

fn inner_bytes(depth: u32, slots: &[(u16, u16, u64, PageId)]) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(depth.to_le_bytes());
    bytes.extend((slots.len() as u16).to_le_bytes());
    for (low, high, count, id) in slots {
        bytes.extend(low.to_le_bytes());
        bytes.extend(high.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(id);
    }
    bytes
}

#[test]
fn malformed_pages_are_refused_with_the_reason() {
    let id = [0; 32];
    let refused = |bytes: &[u8]| Page::decode_with(bytes, 40).expect_err("a malformed page");
    assert_eq!(refused(&[]), PageError::Truncated { offset: 0, wanted: 1, left: 0 });
    assert_eq!(refused(&[3]), PageError::Kind(3));
    assert_eq!(refused(&leaf_bytes(&[])), PageError::EmptyLeaf);
    assert_eq!(refused(&leaf_bytes(&[(b"b", b""), (b"a", b"")])), PageError::KeyOrder(1));
    assert_eq!(refused(&leaf_bytes(&[(b"a", b""), (b"a", b"")])), PageError::KeyOrder(1));
    let big = [7; 30];
    assert!(Page::decode_with(&leaf_bytes(&[(b"a", &[7; 99])]), 40).is_ok(), "one entry may be any size");
    assert_eq!(
        refused(&leaf_bytes(&[(b"a", &big), (b"b", &big)])),
        PageError::LeafTooBig { count: 2, bytes: 78, leaf_max: 40 }
    );
    let mut huge_count = leaf_bytes(&[(b"a", b"1")]);
    huge_count[1..5].fill(0xff);
    assert!(matches!(refused(&huge_count), PageError::Truncated { wanted: 4, left: 0, .. }));
    let mut huge_key = leaf_bytes(&[(b"a", b"1")]);
    huge_key[5..9].fill(0xff);
    assert!(matches!(refused(&huge_key), PageError::Truncated { wanted: 0xffff_ffff, left: 2, .. }));
    assert_eq!(refused(&inner_bytes(0, &[(1, 256, 9, id)])), PageError::SlotCount(1));
    for (low, high) in [(2, 3), (1, 3), (3, 1), (0, 1), (257, 257), (129, 257), (0, 256), (1, 512)] {
        let error = PageError::SlotRange { slot: 0, low, high };
        assert_eq!(refused(&inner_bytes(0, &[(low, high, 1, id), (100, 100, 1, id)])), error);
    }
    let overlap = inner_bytes(0, &[(1, 2, 1, id), (2, 2, 1, id)]);
    assert_eq!(refused(&overlap), PageError::SlotRange { slot: 1, low: 2, high: 2 });
    let none = inner_bytes(0, &[(1, 1, 0, id), (2, 2, 1, id)]);
    assert_eq!(refused(&none), PageError::SlotEntries { slot: 0, count: 0 });
    let ends = inner_bytes(0, &[(0, 0, 2, id), (2, 2, 1, id)]);
    assert_eq!(refused(&ends), PageError::SlotEntries { slot: 0, count: 2 });
    let sum = inner_bytes(0, &[(1, 1, u64::MAX, id), (2, 2, 1, id)]);
    assert_eq!(refused(&sum), PageError::SlotEntries { slot: 0, count: u64::MAX });
}

/// An inner page over leaves that are valid by themselves.
fn store(pages: &mut Pages, depth: u32, leaves: &[(u16, u16, u64, Vec<u8>)]) -> PageId {
    let mut slots = Vec::new();
    for (low, high, count, bytes) in leaves {
        let id = hash::leaf_id(bytes);
        slots.push((*low, *high, *count, id));
        pages.insert(id, bytes.clone());
    }
    let bytes = inner_bytes(depth, &slots);
    let id = hash::inner_id(&bytes);
    pages.insert(id, bytes);
    id
}

/// What a load says of such a page.
fn composed(depth: u32, leaves: &[(u16, u16, u64, Vec<u8>)]) -> PageError {
    let mut pages = Pages::new();
    let root = store(&mut pages, depth, leaves);
    match load(&root, &pages, 40) {
        Err(LoadError::Page { id, error }) if id == root => error,
        other => panic!("not an error of the top page: {other:?}"),
    }
}

#[test]
fn pages_that_do_not_belong_together_are_refused() {
    let leaf = |key: &[u8]| leaf_bytes(&[(key, &[7; 30])]);
    let (a, b) = (u16::from(b'a') + 1, u16::from(b'b') + 1);
    // 'a' and 'b' part in the lowest two bits: 0x61 and 0x62.
    let valid = [(a, a, 1, leaf(b"xa")), (b, b, 1, leaf(b"xb"))];
    let wider = |mut slots: [(u16, u16, u64, Vec<u8>); 2]| {
        (slots[0].0, slots[1].1) = (a - 1, b + 1);
        slots
    };
    let canonical = wider(valid.clone());
    let depth = composed(0, &canonical);
    assert_eq!(depth, PageError::Depth { claimed: 0, found: 1 });
    assert_eq!(composed(1, &valid), PageError::NotCanonical(0), "the slots are too narrow");
    let mut count = canonical.clone();
    count[1].2 = 2;
    assert_eq!(composed(1, &count), PageError::CountBelow { slot: 1, claimed: 2, found: 1 });
    let mut elsewhere = canonical.clone();
    elsewhere[1].3 = leaf(b"xz");
    assert_eq!(composed(1, &elsewhere), PageError::KeysBelow(1));
    let prefix = [canonical[0].clone(), (b, b + 1, 1, leaf(b"yb"))];
    assert_eq!(composed(0, &prefix), PageError::KeysBelow(0));
    let between = [canonical[0].clone(), (b, b, 1, leaf(b"yb")), (b + 1, b + 1, 1, leaf(b"xc"))];
    assert_eq!(composed(1, &between), PageError::KeysBelow(1), "the slot fits, the bytes before it do not");
    let small = [(a - 1, a, 1, leaf_bytes(&[(b"xa", b"")])), (b, b + 1, 1, leaf_bytes(&[(b"xb", b"")]))];
    assert_eq!(composed(1, &small), PageError::NotCanonical(0));
    // Two keys of one symbol that need a page of their own, in a slot of two symbols.
    let below = [(1, 2, 1, leaf(b"xa\x01")), (3, 4, 1, leaf(b"xa\x02"))];
    let mut pages = Pages::new();
    let lower = store(&mut pages, 2, &below);
    assert_eq!(load(&lower, &pages, 40).expect("valid by itself").len(), 2);
    let xb = leaf(b"xb");
    let slots = [(a - 1, a, 2, lower), (b, b + 1, 1, hash::leaf_id(&xb))];
    pages.insert(hash::leaf_id(&xb), xb);
    let top = inner_bytes(1, &slots);
    let root = hash::inner_id(&top);
    pages.insert(root, top);
    let error = load(&root, &pages, 40).expect_err("the slot is too wide");
    assert!(matches!(error, LoadError::Page { error: PageError::NotCanonical(0), .. }));
    let end = [(0, 0, 1, leaf_bytes(&[(b"x", b"")])), (1, 256, 1, leaf_bytes(&[(b"xa", b"")]))];
    assert_eq!(composed(1, &end), PageError::NeedlessInner { count: 2, bytes: 19 });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 1_u8..3) {
        let _ = Page::decode(&bytes);
        let _ = Page::decode(&[&[kind][..], &bytes].concat());
    }
}
