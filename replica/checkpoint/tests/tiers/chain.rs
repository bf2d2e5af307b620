//! The chain as a replica sees it: it never waits, tiers do not wait for each other, and nothing is left out.

use crate::support::{
    LINEAGE, NEVER, SOON, committed, cut, memory, newest, newest_op, source, start, state, status, tier,
    until,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vr_checkpoint::chain::{Chain, TierOptions};
use vr_checkpoint::format::{Committed, Head, Index, Manifest, Names, Pack, Parent};
use vr_checkpoint::restore::{self, TierKind};
use vr_checkpoint::store::fault::{Act, FaultStore, On, Rule};
use vr_checkpoint::store::{DirStore, MemStore, ObjectStore, Swapped, Tag};
use vr_checkpoint::verify;

fn strikes(on: On, times: u32, act: Act) -> Rule {
    Rule { on, key_contains: String::new(), skip: 0, times, act }
}

#[tokio::test]
async fn it_asks_for_cuts_at_its_cadence_ships_the_log_between_and_ends_with_the_last_state() {
    let store = memory();
    let chain = start(1, vec![tier(TierKind::Nvme, &store, SOON)]);
    for op in 1..=3 {
        chain.committed(committed(op));
        until("it wants a cut", || chain.wants_cut()).await;
        chain.cut(cut(op), state(op));
        until("a checkpoint", || status(&chain, 0).checkpoint_op == op).await;
    }
    let before = status(&chain, 0);
    chain.committed(committed(4));
    until("the log", || status(&chain, 0).recovery_op == 4).await;
    let after = status(&chain, 0);
    assert_eq!((after.checkpoint_op, after.recovery_op, after.error), (3, 4, None));
    assert!(after.success_micros >= before.success_micros);
    chain.finish(Some((cut(6), state(6)))).await.expect("ends");
    assert_eq!(newest_op(&store).await, 6);
}

#[tokio::test]
async fn a_gap_in_the_log_is_closed_by_a_cut_before_it_is_due() {
    let store = memory();
    let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
    chain.committed(committed(1));
    until("it wants its first cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    chain.committed(committed(2));
    until("the log", || status(&chain, 0).recovery_op == 2).await;
    assert!(!chain.wants_cut(), "the next checkpoint is due in an hour");
    chain.committed(committed(4));
    until("it wants a cut", || chain.wants_cut()).await;
    assert_eq!(status(&chain, 0).recovery_op, 2, "nothing is shipped beyond a gap");
    chain.cut(cut(4), state(4));
    chain.committed(committed(5));
    until("it leads on again", || status(&chain, 0).recovery_op == 5).await;
    assert_eq!(newest_op(&store).await, 4);
}

#[tokio::test]
async fn a_log_that_fills_a_segment_is_shipped_before_it_is_due() {
    let store = memory();
    let rare = TierOptions { log: NEVER, ..tier(TierKind::Nvme, &store, NEVER) };
    let chain = start(1, vec![rare]);
    chain.committed(committed(1));
    until("it wants its first cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    chain.committed(committed(2));
    let large = bytes::Bytes::from(vec![7; 1 << 20]);
    // More than is kept for a tier that is behind.
    for op in 3..=100 {
        chain.committed(Committed { body: large.clone(), ..committed(op) });
        if op % 20 == 0 {
            until("the log", || status(&chain, 0).recovery_op > op - 20).await;
        }
    }
    assert_eq!(status(&chain, 0).checkpoint_op, 1, "nothing fell out, so no checkpoint was asked for");
}

#[tokio::test]
async fn a_stalled_tier_holds_neither_the_caller_nor_the_others() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let (stalled, healthy): (Arc<dyn ObjectStore>, _) = (Arc::clone(&faulty) as _, memory());
    faulty.add(strikes(On::Write, 1, Act::Stall));
    let chain = start(1, vec![tier(TierKind::Nvme, &stalled, SOON), tier(TierKind::Volume, &healthy, SOON)]);
    faulty.wait_until_stalled(1).await;
    let began = Instant::now();
    chain.committed(committed(1));
    chain.cut(cut(1), state(1));
    (2..=5_000).for_each(|op| chain.committed(committed(op)));
    assert!(began.elapsed() < Duration::from_secs(2), "handing in took {:?}", began.elapsed());
    until("the healthy tier", || status(&chain, 1).recovery_op == 5_000).await;
    assert_eq!((status(&chain, 0).recovery_op, faulty.inner().usage().written), (0, 0));
    faulty.release();
    until("the stalled tier", || status(&chain, 0).recovery_op == 5_000).await;
}

/// A checkpoint may take minutes: the recovery point must not be as old meanwhile.
#[tokio::test]
async fn the_log_goes_on_while_a_checkpoint_takes_its_time() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let chain = start(1, vec![tier(TierKind::Nvme, &store, SOON)]);
    chain.committed(committed(1));
    until("it wants a cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    faulty.add(Rule { key_contains: "/data/".to_owned(), ..strikes(On::Create, 1, Act::Stall) });
    chain.committed(committed(2));
    until("it wants a cut", || chain.wants_cut()).await;
    chain.cut(cut(2), state(2));
    faulty.wait_until_stalled(1).await;
    for op in 3..=6 {
        chain.committed(committed(op));
        until("the log", || status(&chain, 0).recovery_op == op).await;
    }
    assert_eq!(status(&chain, 0).checkpoint_op, 1, "it is still under way");
    let loaded = newest(&[source("tier", &store)]).await.expect("there").expect("loads");
    assert_eq!((loaded.manifest.op, loaded.entries.len()), (1, 5));
    // And a tier that is fenced meanwhile stops, whatever the checkpoint does.
    let parent = Parent { generation: 1, op: 1, root: "00".repeat(32) };
    restore::fence(&*store, &parent, 2, 0, "restore").await.expect("fences");
    chain.committed(committed(7));
    until("it is told", || chain.fenced().is_some()).await;
    faulty.release();
    assert_eq!(head(&store).await.0.retained.len(), 1, "the checkpoint was given up");
}

/// The packs of a checkpoint follow each other no faster than is allowed, and the log does not wait for them.
#[tokio::test]
async fn a_checkpoint_keeps_to_its_rate_and_the_log_does_not_wait() {
    const RATE: u64 = 16 << 20;
    let mut tree = vr_tree::Tree::new();
    for key in 0..10_000u32 {
        let mut value = vec![0; 4096];
        blake3::Hasher::new().update(&key.to_le_bytes()).finalize_xof().fill(&mut value);
        tree.put(format!("key/{key:08}").as_bytes(), &value, 2);
    }
    let store = memory();
    let bounded = TierOptions { rate: Some(RATE), ..tier(TierKind::Nvme, &store, SOON) };
    let chain = start(1, vec![bounded]);
    chain.committed(committed(1));
    until("it wants a cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    let (before, began) = (store.usage().written, Instant::now());
    chain.committed(committed(2));
    until("it wants a cut", || chain.wants_cut()).await;
    chain.cut(cut(2), tree.snapshot());
    until("packs", || store.usage().written > before + (16 << 20)).await;
    chain.committed(committed(3));
    until("the log", || status(&chain, 0).recovery_op == 3).await;
    assert_eq!(status(&chain, 0).checkpoint_op, 1, "it takes longer than the log");
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 2).await;
    let (took, written) = (began.elapsed(), store.usage().written - before);
    // The last pack need not wait for what may come after it.
    let least = Duration::from_secs_f64((written - (17 << 20)) as f64 / RATE as f64);
    assert!(
        took >= least && written > 36 << 20,
        "{written} bytes took {took:?}, at least {least:?} were due"
    );
}

#[tokio::test]
async fn a_tier_that_fails_says_so_and_comes_back() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    faulty.add(strikes(On::Create, 2, Act::NoSpace));
    let chain = start(1, vec![tier(TierKind::Nvme, &store, SOON)]);
    chain.committed(committed(1));
    chain.cut(cut(1), state(1));
    until("the error", || status(&chain, 0).error.is_some_and(|e| e.contains("no free space"))).await;
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    assert_eq!((status(&chain, 0).error, faulty.pending(), chain.fenced()), (None, 0, None));
}

#[tokio::test]
async fn a_chain_of_the_past_is_told_to_stop_and_writes_nothing_more() {
    let store = memory();
    let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
    chain.committed(committed(1));
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    let parent = Parent { generation: 1, op: 1, root: "00".repeat(32) };
    restore::fence(&*store, &parent, 2, 0, "restore").await.expect("fences");
    let before = store.list("").await.expect("lists");
    chain.committed(committed(2));
    until("it is told", || chain.fenced().is_some()).await;
    let why = chain.fenced().expect("just seen");
    assert!(why.contains("HEAD is of generation 2, this process is of generation 1"), "{why}");
    assert_eq!(store.list("").await.expect("lists"), before);
}

async fn segments(store: &Arc<dyn ObjectStore>) -> Vec<(u64, u64)> {
    let names = Names { generation: 1 };
    let listed = store.list(&names.segments()).await.expect("lists");
    listed.iter().filter_map(|object| names.segment_range(&object.key)).collect()
}

#[tokio::test]
async fn a_new_shipper_goes_on_where_the_old_one_ended() {
    let store = memory();
    let chains = [1, 2].map(|replica| start(replica, vec![tier(TierKind::ObjectStore, &store, NEVER)]));
    let all_committed = |op: u64| chains.iter().for_each(|chain| chain.committed(committed(op)));
    chains[0].ship_to_object_store(true);
    all_committed(1);
    chains[0].cut(cut(1), state(1));
    all_committed(2);
    until("the first ships", || status(&chains[0], 0).recovery_op == 2).await;
    for (old, new, op) in [(0, 1, 3), (1, 0, 4), (0, 1, 5)] {
        chains[old].ship_to_object_store(false);
        all_committed(op);
        let named: &Chain = &chains[new];
        named.ship_to_object_store(true);
        until("the other ships", || status(named, 0).recovery_op == op).await;
    }
    let mut next = 2;
    for (first, last) in segments(&store).await {
        assert_eq!(first, next, "{first}-{last} follows {}", next - 1);
        next = last + 1;
    }
    assert_eq!(next, 6);
    let loaded = newest(&[source("s3", &store)]).await.expect("there").expect("loads");
    assert_eq!((loaded.manifest.op, loaded.entries.len()), (1, 4), "no checkpoint was needed for it");
    assert_eq!(loaded.manifest.lineage, LINEAGE.to_string());
}

#[tokio::test]
async fn only_the_named_replica_writes_the_object_store_and_all_learn_what_is_reserved() {
    let shared = Arc::new(MemStore::new());
    let (writes, only_reads) = (Arc::clone(&shared), Arc::new(FaultStore::new(shared)));
    only_reads.add(strikes(On::Write, u32::MAX, Act::Refuse));
    let (writes, reads): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>) =
        (writes, Arc::clone(&only_reads) as _);
    let shipper = start(1, vec![tier(TierKind::ObjectStore, &writes, NEVER)]);
    let other = start(2, vec![tier(TierKind::ObjectStore, &reads, NEVER)]);
    shipper.ship_to_object_store(true);
    [&shipper, &other].iter().for_each(|chain| chain.reserve(500));
    until("the shipper has reserved", || shipper.reserved() == 500).await;
    until("the other knows", || other.reserved() == 500).await;
    shipper.committed(committed(1));
    shipper.cut(cut(1), state(1));
    until("a checkpoint", || status(&shipper, 0).checkpoint_op == 1).await;
    [&shipper, &other].iter().for_each(|chain| chain.reserve(900));
    until("the other knows of both", || status(&other, 0).checkpoint_op == 1 && other.reserved() == 900)
        .await;
    assert_eq!(status(&other, 0).error, None);
    assert_eq!(only_reads.pending(), u32::MAX, "the other tried to write");
}

#[tokio::test]
async fn a_head_that_was_deleted_from_the_object_store_is_not_made_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::open(dir.path()).expect("opens"));
    let chain = start(1, vec![tier(TierKind::ObjectStore, &store, NEVER)]);
    chain.ship_to_object_store(true);
    chain.committed(committed(1));
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    for head in ["HEAD.0", "HEAD.1"] {
        let _ = std::fs::remove_file(dir.path().join(head));
    }
    chain.committed(committed(2));
    until("it says so", || status(&chain, 0).error.is_some_and(|e| e.contains("HEAD is gone"))).await;
    until("it goes on saying so", || status(&chain, 0).error.is_some_and(|e| e.contains("there is no HEAD")))
        .await;
    assert_eq!(store.head().await.expect("reads"), None);
    assert_eq!(chain.fenced(), None);
    assert_eq!(
        (status(&chain, 0).recovery_op, status(&chain, 0).checkpoint_op),
        (0, 0),
        "what it names is lost"
    );
}

#[tokio::test]
async fn tiers_that_are_due_together_hold_the_same_frames_and_segments() {
    let (near, far) = (memory(), memory());
    let chain = start(1, vec![tier(TierKind::Nvme, &near, NEVER), tier(TierKind::Volume, &far, NEVER)]);
    chain.committed(committed(1));
    until("it wants a cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("both checkpoints", || (0..2).all(|place| status(&chain, place).checkpoint_op == 1)).await;
    (2..=20).for_each(|op| chain.committed(committed(op)));
    until("both logs", || (0..2).all(|place| status(&chain, place).recovery_op == 20)).await;
    assert_eq!((newest_op(&near).await, newest_op(&far).await), (1, 1));
    let frames = async |store: &Arc<dyn ObjectStore>| {
        let mut frames = std::collections::BTreeMap::new();
        for listed in store.list("g/").await.expect("lists").iter().filter(|l| l.key.ends_with(".pk")) {
            let bytes = store.get(&listed.key).await.expect("reads").expect("there");
            let pack = Pack::parse(&listed.key, &bytes).expect("valid");
            frames.extend(pack.entries.iter().map(|e| (e.header.id, pack.frame(e).to_vec())));
        }
        frames
    };
    let (near_frames, far_frames) = (frames(&near).await, frames(&far).await);
    assert!(near_frames.len() > 5);
    assert!(near_frames == far_frames, "the same frames, byte for byte");
    for listed in near.list("g/0000000000000001/log/").await.expect("lists") {
        let (one, other) = (near.get(&listed.key).await, far.get(&listed.key).await);
        assert_eq!(one.expect("reads"), other.expect("reads"), "{}", listed.key);
    }
}

#[tokio::test]
async fn only_a_disk_must_have_the_last_checkpoint() {
    for (kind, must) in [(TierKind::Nvme, true), (TierKind::ObjectStore, false)] {
        let faulty = Arc::new(FaultStore::new(MemStore::new()));
        let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
        let chain = start(1, vec![tier(kind, &store, NEVER)]);
        chain.ship_to_object_store(true);
        chain.committed(committed(1));
        chain.cut(cut(1), state(1));
        until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
        faulty.add(strikes(On::Create, u32::MAX, Act::Refuse));
        let ended = chain.finish(Some((cut(2), state(2)))).await;
        assert_eq!(ended.is_err(), must, "{kind:?}: {ended:?}");
        assert!(ended.err().is_none_or(|error| error.contains("refused by a rule")));
        assert_eq!(newest_op(&store).await, 1);
    }
}

/// What rots after it was shipped is found without being needed, and shipped again.
#[tokio::test]
async fn what_rots_on_a_tier_is_found_and_shipped_again() {
    for kind in ["/data/", "/tree/", "/ckpt/"] {
        let rotten = Arc::new(MemStore::new());
        let store: Arc<dyn ObjectStore> = Arc::clone(&rotten) as _;
        let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
        chain.committed(committed(1));
        until("it wants its first cut", || chain.wants_cut()).await;
        chain.cut(cut(1), state(1));
        until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
        chain.finish(None).await.expect("ends");
        let listed = store.list("g/").await.expect("lists");
        let keys: Vec<String> = listed.into_iter().map(|o| o.key).filter(|key| key.contains(kind)).collect();
        keys.iter().for_each(|key| assert!(rotten.corrupt(key, 70), "{key}"));
        assert_ne!(verified(&store).await, Some(1), "{kind}");
        long_ago(&store).await;

        let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
        until("it asks for a cut although nothing was written", || chain.wants_cut()).await;
        assert_eq!(status(&chain, 0).recovery_op, 0, "{kind}: there is nothing else to restore");
        // Hardly anything has changed: without the damage next to nothing would be shipped.
        chain.cut(cut(2), state(2));
        until("a checkpoint", || status(&chain, 0).checkpoint_op == 2).await;
        until("the damage is counted", || status(&chain, 0).damaged > 0).await;
        assert_eq!((newest_op(&store).await, verified(&store).await), (2, Some(2)), "{kind}");
        chain.finish(None).await.expect("ends");
        assert_eq!(head(&store).await.0.scrubbed_micros, 1, "the next process looks for it again");
    }
}

async fn head(store: &Arc<dyn ObjectStore>) -> (Head, Tag) {
    let (bytes, tag) = store.head().await.expect("reads").expect("there");
    (Head::parse("HEAD", &bytes).expect("valid"), tag)
}

/// As if everything had been read long ago.
async fn long_ago(store: &Arc<dyn ObjectStore>) {
    let (mut head, tag) = head(store).await;
    head.scrubbed_micros = 1;
    let swapped = store.swap_head(Some(&tag), head.encode().into()).await;
    assert_eq!(swapped.expect("writes"), Swapped::Yes);
}

/// The log rots too: what leads on through a damaged segment is out of reach until there is a newer checkpoint.
#[tokio::test]
async fn a_rotten_segment_of_the_log_is_found_and_passed_over() {
    let rotten = Arc::new(MemStore::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&rotten) as _;
    let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
    chain.committed(committed(1));
    until("it wants its first cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 1).await;
    chain.committed(committed(2));
    until("the log", || status(&chain, 0).recovery_op == 2).await;
    // The tier was empty when everything was read.
    while head(&store).await.0.scrubbed_micros == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    chain.finish(None).await.expect("ends");
    let segments = store.list("g/0000000000000001/log/").await.expect("lists");
    let key = &segments.last().expect("shipped").key;
    assert!(rotten.corrupt(key, 70), "{key}");
    long_ago(&store).await;

    let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
    until("the damage is counted", || status(&chain, 0).damaged == 1).await;
    assert_eq!(status(&chain, 0).recovery_op, 1, "what is damaged does not count");
    until("it asks for a cut although nothing was written", || chain.wants_cut()).await;
    chain.cut(cut(2), state(2));
    until("a checkpoint", || status(&chain, 0).checkpoint_op == 2).await;
    assert_eq!((newest_op(&store).await, verified(&store).await), (2, Some(2)), "which needs it no more");
}

/// Op of the newest checkpoint, if every frame of it is whole.
async fn verified(store: &Arc<dyn ObjectStore>) -> Option<u64> {
    let only = verify::Only { newest: true, ..verify::Only::default() };
    let report =
        verify::verify(&source("tier", store), &LINEAGE.to_string(), only, verify::Depth::Frames).await;
    report
        .checkpoints
        .first()
        .filter(|checkpoint| report.ok() && checkpoint.ok)
        .map(|checkpoint| checkpoint.op)
}

/// Deltas in the indexes of a tier's newest checkpoint.
async fn deltas(store: &Arc<dyn ObjectStore>) -> usize {
    let (bytes, _) = store.head().await.expect("reads").expect("there");
    let head = Head::parse("HEAD", &bytes).expect("valid");
    let key = &head.retained.last().expect("a checkpoint").manifest;
    let manifest =
        Manifest::parse(key, &store.get(key).await.expect("reads").expect("there")).expect("valid");
    let mut deltas = 0;
    for named in &manifest.indexes {
        let index = Index::parse(&named.key, &store.get(&named.key).await.expect("reads").expect("there"));
        let index = index.expect("valid");
        deltas += index.places().filter(|place| place.entry.header.codec.base().is_some()).count();
    }
    deltas
}

/// Tiers meet at some cuts and not at others, so that what one of them has got last another never got.
#[tokio::test]
async fn every_tier_has_what_its_own_deltas_are_made_on() {
    let (near, far) = (memory(), memory());
    let tiers = vec![tier(TierKind::Nvme, &near, SOON), tier(TierKind::Volume, &far, SOON * 8)];
    let chain = start(1, tiers);
    let mut op = 0;
    while op < 12 || status(&chain, 1).checkpoint_op < 9 {
        op += 1;
        chain.committed(committed(op));
        let now = state(op);
        // One that only the other tier asked for may come before this one is due.
        until("a checkpoint", || {
            if chain.wants_cut() {
                chain.cut(cut(op), now.clone());
            }
            status(&chain, 0).checkpoint_op == op
        })
        .await;
    }
    chain.finish(Some((cut(op + 1), state(op + 1)))).await.expect("ends");
    for store in [&near, &far] {
        assert_eq!(newest_op(store).await, op + 1);
        assert!(deltas(store).await > 0);
    }
}

/// What deltas are made on may hold a bounded amount of memory; beyond it pages are whole.
#[tokio::test]
async fn a_state_that_would_hold_too_much_is_let_go_of() {
    let store = memory();
    let chain = start(1, vec![tier(TierKind::Nvme, &store, SOON)]);
    let mut before = 0;
    for (op, large) in [(1, false), (2, false), (3, true), (4, false)] {
        let body = Bytes::from(vec![0; if large { 20 << 20 } else { 1 }]);
        chain.committed(Committed { body, ..committed(op) });
        until("the log", || op == 1 || status(&chain, 0).recovery_op == op).await;
        until("it wants a cut", || chain.wants_cut()).await;
        chain.cut(cut(op), state(op));
        until("a checkpoint", || status(&chain, 0).checkpoint_op == op).await;
        let now = deltas(&store).await;
        assert_eq!(now > before, op != 1 && !large, "op {op}: {before} and then {now}");
        before = now;
    }
    assert_eq!(newest_op(&store).await, 4);
}
