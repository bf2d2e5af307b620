//! Changed leaves as deltas on what the tier has: they come back, what they need stays, and where it is lost they come from
//! elsewhere or are named.

use crate::support::{LINEAGE, cut, newest, newest_op, open, retained, source, state};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::format::{Head, Index, Manifest, Named};
use vr_checkpoint::repair::repair_indexes;
use vr_checkpoint::store::{MemStore, ObjectStore};
use vr_checkpoint::verify::{Depth, Only, Report, verify};
use vr_checkpoint::writer::{Writer, Written};

async fn with_deltas(store: &Arc<dyn ObjectStore>, keep: usize, deltas: usize) -> Writer {
    let mut writer = open(store, 1, keep).await.expect("opens");
    writer.limit_deltas(deltas);
    writer
}

async fn ship(writer: &mut Writer, ops: impl IntoIterator<Item = u64>) -> Vec<Written> {
    let mut written = Vec::new();
    for op in ops {
        written.push(writer.checkpoint(&cut(op), &state(op)).await.expect("ships"));
    }
    written
}

fn memory() -> (Arc<MemStore>, Arc<dyn ObjectStore>) {
    let memory = Arc::new(MemStore::new());
    (Arc::clone(&memory), memory)
}

async fn manifests(store: &Arc<dyn ObjectStore>) -> Vec<Manifest> {
    let (head, _) = store.head().await.expect("reads").expect("there");
    let mut manifests = Vec::new();
    for retained in Head::parse("HEAD", &head).expect("valid").retained {
        let bytes = store.get(&retained.manifest).await.expect("reads").expect("there");
        manifests.push(Manifest::parse(&retained.manifest, &bytes).expect("valid"));
    }
    manifests
}

async fn index(store: &Arc<dyn ObjectStore>, key: &str) -> Index {
    Index::parse(key, &store.get(key).await.expect("reads").expect("there")).expect("valid")
}

async fn verified(store: &Arc<dyn ObjectStore>, depth: Depth) -> Report {
    verify(&source("tier", store), &LINEAGE.to_string(), Only { newest: true, ..Only::default() }, depth)
        .await
}

/// The packs and pages that the newest checkpoint's deltas lead to.
async fn bases(store: &Arc<dyn ObjectStore>) -> (BTreeSet<String>, BTreeSet<[u8; 32]>) {
    let manifests = manifests(store).await;
    let mut entries = Vec::new();
    for named in &manifests.last().expect("a checkpoint").indexes {
        for (pack, _, places) in index(store, &named.key).await.packs {
            entries.extend(places.into_iter().map(|place| (pack.clone(), place.header)));
        }
    }
    let bases: BTreeSet<[u8; 32]> = entries.iter().filter_map(|(_, header)| header.codec.base()).collect();
    let packs = entries.into_iter().filter(|(_, header)| bases.contains(&header.id)).map(|(pack, _)| pack);
    (packs.collect(), bases)
}

#[tokio::test]
async fn a_changed_leaf_is_shipped_as_what_changed_in_it() {
    let (_, store) = memory();
    let mut writer = with_deltas(&store, 3, 1).await;
    let written = ship(&mut writer, [1, 2, 3]).await;
    assert_eq!((written[0].shipped_deltas, written[1].shipped_deltas), (0, 1), "{written:?}");
    let (_, plain) = memory();
    let whole = ship(&mut open(&plain, 1, 3).await.expect("opens"), [1, 2, 3]).await;
    assert_eq!(written[1].shipped_pages, whole[1].shipped_pages);
    assert!(written[1].shipped_bytes * 2 < whole[1].shipped_bytes, "{written:?} {whole:?}");
    assert_eq!(newest_op(&store).await, 3);
    let formats: Vec<String> = manifests(&store).await.into_iter().map(|manifest| manifest.format).collect();
    // The third time the leaf is whole again: what a release of before restores needs no delta any more.
    assert_eq!(formats, ["vrckpt/1", "vrckpt/2", "vrckpt/1"]);
    for depth in [Depth::Manifests, Depth::Frames, Depth::Root] {
        let report = verified(&store, depth).await;
        assert!(report.ok(), "{report:?}");
    }
}

/// Every op changes another key: which leaves change comes round again and again, whole now and then.
#[tokio::test]
async fn no_page_is_further_from_a_whole_one_than_asked_for_and_all_come_back() {
    for deltas in [0, 1, 2, 4, 9] {
        let (_, store) = memory();
        let mut writer = with_deltas(&store, 2, deltas).await;
        let written = ship(&mut writer, 1..120).await;
        let shipped: u64 = written.iter().map(|written| written.shipped_deltas).sum();
        assert_eq!(shipped > 60, deltas > 0, "{deltas}: {shipped}");
        assert_eq!(newest_op(&store).await, 119);
        let manifest = manifests(&store).await.pop().expect("a checkpoint");
        let mut on = std::collections::BTreeMap::new();
        for named in &manifest.indexes {
            let index = index(&store, &named.key).await;
            on.extend(index.places().filter_map(|p| Some((p.entry.header.id, p.entry.header.codec.base()?))));
        }
        let depth = |id: &[u8; 32]| std::iter::successors(Some(*id), |id| on.get(id).copied()).count() - 1;
        let deepest = on.keys().map(depth).max().unwrap_or(0);
        assert!(deepest <= deltas.min(4), "{deltas}: {deepest}");
        assert_eq!(deepest > 1, deltas > 1);
    }
}

/// A writer that has just begun has nothing to make a delta on, and one that was told to forget.
#[tokio::test]
async fn without_the_last_state_pages_are_whole() {
    let (_, store) = memory();
    let mut writer = with_deltas(&store, 3, 4).await;
    ship(&mut writer, [1, 2]).await;
    let mut again = with_deltas(&store, 3, 4).await;
    assert!(!again.holds_last());
    let written = ship(&mut again, [3, 4]).await;
    assert_eq!((written[0].shipped_deltas, written[1].shipped_deltas), (0, 1), "{written:?}");
    assert!(written[0].shipped_pages > 0 && again.holds_last());
    again.forget_last();
    assert_eq!(ship(&mut again, [5]).await[0].shipped_deltas, 0);
    assert_eq!(newest_op(&store).await, 5);
}

#[tokio::test]
async fn what_the_last_state_holds_is_weighed() {
    let (_, store) = memory();
    let mut writer = with_deltas(&store, 3, 4).await;
    assert_eq!(writer.held(&state(9), u64::MAX).await, 0);
    let mut tree = vr_checkpoint::Tree::from(state(1));
    writer.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    assert_eq!(writer.held(&tree.snapshot(), u64::MAX).await, 0);
    tree.put(b"key/00000000", b"changed", 5);
    let one = writer.held(&tree.snapshot(), u64::MAX).await;
    assert!((500..10_000).contains(&one), "{one}");
    for key in 0..600 {
        tree.remove(format!("key/{key:08}").as_bytes(), 6);
    }
    let all = writer.held(&tree.snapshot(), u64::MAX).await;
    assert!(all >= state(1).bytes(), "{all}");
    assert!(writer.held(&tree.snapshot(), one).await < one + 1_000, "no further than asked for");
}

/// Checkpoints and collections, over and over: whatever is retained can be restored, from the tier alone.
#[tokio::test]
async fn a_collection_never_deletes_what_a_retained_delta_needs() {
    let (memory, store) = memory();
    let mut writer = with_deltas(&store, 1, 4).await;
    let mut deleted = 0;
    for op in 1..150 {
        ship(&mut writer, [op]).await;
        memory.pass(10);
        deleted += writer.collect(Duration::from_secs(5)).await.expect("collects");
        if op % 7 == 0 {
            assert_eq!(newest_op(&store).await, op);
            assert_eq!(retained(&store).await, [op]);
        }
    }
    assert!(deleted > 100, "{deleted}");
    assert!(!bases(&store).await.1.is_empty());
}

/// What is damaged on one tier, base or delta, comes from another, which has it whole or as another delta.
#[tokio::test]
async fn a_lost_base_comes_from_another_tier_or_is_named() {
    let ((near_memory, near), (_, far), (_, whole)) = (memory(), memory(), memory());
    ship(&mut with_deltas(&near, 2, 4).await, 1..6).await;
    ship(&mut with_deltas(&far, 2, 4).await, [2, 5]).await;
    ship(&mut open(&whole, 1, 2).await.expect("opens"), [5]).await;
    let (packs, _) = bases(&near).await;
    assert!(!packs.is_empty());
    for pack in &packs {
        let bytes = near.get(pack).await.expect("reads").expect("there");
        near.delete(pack).await.expect("deletes");
        for other in [&far, &whole] {
            let sources = [source("near", &near), source("far", other)];
            let inventory = vr_checkpoint::restore::inventory(&sources, &LINEAGE.to_string()).await;
            let best = inventory.candidates.iter().find(|c| c.source == "near").expect("it is there");
            let loaded = vr_checkpoint::restore::load(best, &sources, None).await.expect("loads");
            assert_eq!(loaded.snapshot.root(), state(5).root());
            assert!(loaded.repaired_pages > 0);
        }
        let error = newest(&[source("near", &near)]).await.expect("a candidate").err().expect("lost");
        assert!(error.to_string().contains("missing or corrupt"), "{error}");
        let report = verified(&near, Depth::Root).await;
        assert!(!report.ok(), "{report:?}");
        near.create(pack, bytes.clone()).await.expect("as it was");
        // One byte of each frame, wherever it falls, is as bad.
        for at in (32..bytes.len() - 20).step_by(1_500) {
            assert!(near_memory.corrupt(pack, at));
            let sources = [source("near", &near), source("far", &far)];
            let loaded = newest(&sources).await.expect("a candidate").expect("loads");
            assert_eq!(loaded.snapshot.root(), state(5).root(), "byte {at}");
            assert!(near_memory.corrupt(pack, at), "as it was");
        }
    }
    assert_eq!(newest_op(&near).await, 5);
}

/// A manifest that leaves out what its deltas need is found when its state is built: a frame that nobody needs any more may
/// well have lost its base.
#[tokio::test]
async fn a_manifest_without_the_bases_of_its_deltas_is_found() {
    let (_, store) = memory();
    ship(&mut with_deltas(&store, 2, 4).await, [1, 2]).await;
    let (packs, ids) = bases(&store).await;
    let mut manifest = manifests(&store).await.pop().expect("a checkpoint");
    let key = format!("g/0000000000000001/ckpt/{:016x}-{}.json", 2, &manifest.state.root[..16]);
    let dropped = |named: &Named| packs.contains(&named.key);
    assert!(manifest.packs.iter().any(dropped));
    manifest.packs.retain(|named| !dropped(named));
    store.delete(&key).await.expect("deletes");
    store.create(&key, manifest.encode().into()).await.expect("writes");
    let report = verified(&store, Depth::Root).await;
    let base = vr_checkpoint::format::hex(&ids.first().expect("a base")[..8]);
    let says = |problem: &vr_checkpoint::verify::Problem| problem.reason.contains(&base);
    assert!(report.checkpoints[0].problems.iter().any(says), "{base}: {report:?}");
}

#[tokio::test]
async fn indexes_packs_and_manifests_with_deltas_are_made_whole() {
    let ((damaged, store), (_, other), (_, third)) = (memory(), memory(), memory());
    let mut writer = with_deltas(&store, 2, 4).await;
    ship(&mut writer, 1..6).await;
    ship(&mut with_deltas(&other, 2, 4).await, 1..6).await;
    ship(&mut with_deltas(&third, 2, 4).await, [3, 5]).await;
    let manifest = manifests(&store).await.pop().expect("a checkpoint");
    for named in &manifest.indexes {
        let before = store.get(&named.key).await.expect("reads").expect("there");
        store.delete(&named.key).await.expect("deletes");
        let repaired = repair_indexes(&*store, &LINEAGE.to_string(), true).await.expect("repairs");
        assert!(repaired.ok() && repaired.repairs.len() == 1, "{repaired:?}");
        assert_eq!(store.get(&named.key).await.expect("reads").expect("there"), before);
    }
    let own = source("own", &store);
    // A tier with the same deltas, and one that has other ones, made on other versions.
    for (name, helper) in [("same", &other), ("others", &third)] {
        let sources = [own.clone(), source(name, helper)];
        let mut packs = 0;
        for named in manifest.packs.iter().filter(|named| named.key.contains("/data/")) {
            let before = store.get(&named.key).await.expect("reads").expect("there");
            assert!(damaged.corrupt(&named.key, 40));
            let repaired = writer.repair(&named.key, &own, &sources).await.expect("not fenced");
            if name == "same" || repaired.is_ok() {
                assert_eq!((name, repaired), (name, Ok(())), "{}", named.key);
                assert_eq!(store.get(&named.key).await.expect("reads").expect("there"), before);
                packs += 1;
            } else {
                assert!(damaged.corrupt(&named.key, 40), "as it was");
            }
        }
        assert!(packs > 0, "{name}");
    }
    let key = writer.head().retained.last().expect("a checkpoint").manifest.clone();
    let before = store.get(&key).await.expect("reads").expect("there");
    assert!(damaged.corrupt(&key, 70));
    let sources = [own.clone(), source("other", &other)];
    assert_eq!(writer.repair(&key, &own, &sources).await.expect("not fenced"), Ok(()));
    let read = |bytes: &Bytes| Manifest::parse(&key, bytes).expect("valid");
    let (again, before) = (read(&store.get(&key).await.expect("reads").expect("there")), read(&before));
    let sorted = |mut named: Vec<Named>| {
        named.sort();
        named
    };
    assert_eq!(sorted(again.packs), sorted(before.packs));
    assert_eq!((sorted(again.indexes), again.format), (sorted(before.indexes), before.format));
    assert_eq!(newest_op(&store).await, 5);
}

/// A page whose base was found damaged is not relied upon either.
#[tokio::test]
async fn what_relies_on_a_damaged_pack_is_shipped_again() {
    let (_, store) = memory();
    let mut writer = with_deltas(&store, 1, 4).await;
    ship(&mut writer, 1..4).await;
    let (packs, _) = bases(&store).await;
    writer.distrust(&packs);
    for pack in &packs {
        store.delete(pack).await.expect("deletes");
    }
    let written = ship(&mut writer, [4]).await;
    assert!(written[0].shipped_pages > 3, "{written:?}");
    assert_eq!(newest_op(&store).await, 4);
}
