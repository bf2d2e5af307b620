//! A process that dies, a device that fills up and an answer that is lost, at every single write; and writers that race.

use crate::support::{cut, entry, newest, newest_op, open, retained, source, state};
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::store::fault::{Act, FaultStore, On, Rule};
use vr_checkpoint::store::{DirStore, MemStore, ObjectStore, Swapped};
use vr_checkpoint::writer::WriteError;
use vr_tree::{Snapshot, Tree};

/// What a process had been told to be durable when it ended.
#[derive(Debug, Default, PartialEq)]
struct Told {
    checkpoint: u64,
    log: u64,
}

/// A short life: two checkpoints, log, and a third checkpoint that pushes the first one out and away.
async fn life(store: &Arc<dyn ObjectStore>, told: &mut Told) -> Result<(), WriteError> {
    let mut writer = open(store, 1, 2).await?;
    writer.limit_deltas(4);
    for op in [1, 4, 7] {
        writer.checkpoint(&cut(op), &state(op)).await?;
        (told.checkpoint, told.log) = (op, op);
        writer.ship_log(&[entry(op + 1), entry(op + 2)]).await?;
        told.log = op + 2;
        writer.collect(Duration::ZERO).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_process_dies_the_previous_or_the_new_checkpoint_comes_back() {
    let mut writes = 0;
    loop {
        writes += 1;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let faulty = Arc::new(FaultStore::new(DirStore::open(dir.path()).expect("opens")));
        faulty.stop_at_write(writes);
        let mut told = Told::default();
        let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
        let ended = life(&store, &mut told).await;
        let died = faulty.is_stopped();
        assert_eq!(ended.is_err(), died, "write {writes}: {ended:?}");
        drop((store, faulty));

        let store: Arc<dyn ObjectStore> = Arc::new(DirStore::open(dir.path()).expect("opens again"));
        let found = newest_op(&store).await;
        let next = if told.checkpoint == 0 { 1 } else { told.checkpoint + 3 };
        assert!(found == told.checkpoint || found == next, "write {writes}: {found} after {told:?}");
        if found > 0 {
            let loaded = newest(&[source("tier", &store)]).await.expect("found").expect("loads");
            let reached = loaded.entries.last().map_or(found, |entry| entry.op);
            assert!(reached >= told.log, "write {writes}: the log reaches {reached} after {told:?}");
        }
        let mut again = open(&store, 1, 2).await.expect("what a crash leaves can be gone on from");
        again.checkpoint(&cut(20), &state(20)).await.expect("ships");
        again.collect(Duration::ZERO).await.expect("collects");
        assert_eq!(newest_op(&store).await, 20, "write {writes}");
        if !died {
            break;
        }
    }
    assert!(writes > 15, "only {writes} writes were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_at_any_write_changes_nothing() {
    for on in [On::Create, On::SwapHead] {
        for skip in 0.. {
            let faulty = Arc::new(FaultStore::new(MemStore::new()));
            faulty.add(Rule { on, key_contains: String::new(), skip, times: 1, act: Act::LoseAnswer });
            let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
            let mut told = Told::default();
            life(&store, &mut told).await.expect("reads back what became of it");
            assert_eq!((newest_op(&store).await, retained(&store).await), (7, vec![4, 7]), "{on:?} {skip}");
            if faulty.pending() > 0 {
                assert!(skip > 2, "{on:?} was tried {skip} times only");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_tier_keeps_the_old_checkpoint_and_goes_on_when_there_is_room() {
    let mut room = 0;
    loop {
        let memory = Arc::new(MemStore::new());
        let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
        let mut writer = open(&store, 1, 2).await.expect("opens");
        writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
        memory.limit(Some(room));
        let outcome = writer.checkpoint(&cut(2), &state(200)).await;
        if outcome.is_ok() {
            break;
        }
        let error = outcome.expect_err("no room").to_string();
        assert!(error.contains("no room left"), "{error}");
        assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1], 1));
        memory.limit(None);
        writer.checkpoint(&cut(3), &state(3)).await.expect("ships");
        assert_eq!(newest_op(&store).await, 3, "after {room} bytes of room");
        room += 1500;
    }
    assert!(room > 10_000, "it was full {room} bytes only");
}

// Two writers of one generation on one store; the first is held just before its swap of HEAD.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_loses_the_race_for_head_takes_its_turn_behind() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let (mut first, mut second) =
        (open(&store, 1, 4).await.expect("opens"), open(&store, 2, 4).await.expect("opens"));
    first.checkpoint(&cut(1), &state(1)).await.expect("ships");
    faulty.add(Rule { on: On::SwapHead, key_contains: String::new(), skip: 0, times: 1, act: Act::Stall });
    let held = tokio::spawn(async move { first.checkpoint(&cut(2), &state(2)).await });
    faulty.wait_until_stalled(1).await;
    second.checkpoint(&cut(3), &state(3)).await.expect("nobody holds this one");
    faulty.release();
    held.await.expect("no panic").expect("behind the other one");
    assert_eq!(retained(&store).await, [1, 2, 3], "the newest stays the newest");
    assert_eq!(newest_op(&store).await, 3);
}

/// Found by the simulator: where only the newest is kept, an older one that comes late must not be that.
#[tokio::test]
async fn a_writer_that_is_behind_does_not_push_out_what_is_newer() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let (mut ahead, mut behind) =
        (open(&store, 1, 1).await.expect("opens"), open(&store, 2, 1).await.expect("opens"));
    ahead.checkpoint(&cut(5), &state(5)).await.expect("ships");
    ahead.ship_log(&[entry(6)]).await.expect("ships");
    behind.checkpoint(&cut(3), &state(3)).await.expect("takes its turn behind");
    assert_eq!((retained(&store).await, newest_op(&store).await), (vec![5], 5));
    let loaded = newest(&[source("tier", &store)]).await.expect("there").expect("loads");
    assert_eq!(loaded.entries, [entry(6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_packs_were_collected_meanwhile_does_not_move_head() {
    let faulty = Arc::new(FaultStore::new(MemStore::new()));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let (mut first, mut second) =
        (open(&store, 1, 1).await.expect("opens"), open(&store, 2, 1).await.expect("opens"));
    first.checkpoint(&cut(1), &state(1)).await.expect("ships");
    faulty.add(Rule { on: On::SwapHead, key_contains: String::new(), skip: 0, times: 1, act: Act::Stall });
    let held = tokio::spawn(async move { (first.checkpoint(&cut(2), &state(2)).await, first) });
    faulty.wait_until_stalled(1).await;
    // Knows nothing of the first one's packs, ships all of its own, and lets go of the rest.
    second.checkpoint(&cut(3), &foreign()).await.expect("nobody holds this one");
    second.collect(Duration::ZERO).await.expect("collects");
    faulty.release();
    let (outcome, mut first) = held.await.expect("no panic");
    assert!(matches!(outcome, Err(WriteError::Contended { .. })), "{outcome:?}");
    assert_eq!(retained(&store).await, [3]);
    first.checkpoint(&cut(4), &state(4)).await.expect("the next run ships what is gone");
    assert_eq!(newest_op(&store).await, 4);
}

/// A state that shares no page with those of [`state`].
fn foreign() -> Snapshot {
    let mut tree = Tree::new();
    (0..50u8).for_each(|i| drop(tree.put(&[b'x', i, 0], &[i; 40], 1)));
    tree.snapshot()
}

async fn replace(store: &Arc<dyn ObjectStore>, key: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = store.get(key).await.expect("reads").expect("there");
    store.delete(key).await.expect("deletes");
    store.create(key, change(bytes.to_vec()).into()).await.expect("writes");
}

async fn some(store: &Arc<dyn ObjectStore>, kind: &str) -> String {
    let listed = store.list("g/").await.expect("lists");
    listed.into_iter().find(|object| object.key.contains(kind)).expect("one of each kind").key
}

/// Each kind of object is lost, cut short or of a newer release on one tier: another tier has it, or the error names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_tier_lost_comes_from_another_or_is_named() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let cut_short: Change = |bytes| bytes[..bytes.len() - 7].to_vec();
    let newer: Change = |mut bytes| {
        bytes[4] = 9;
        bytes
    };
    let cases: [(&str, Option<Change>, &str); 6] = [
        ("/data/", None, "is missing on first"),
        ("/tree/", None, "is missing on first"),
        ("/data/", Some(cut_short), "it is cut short"),
        ("/data/", Some(newer), "use a release that reads"),
        ("/log/", Some(cut_short), "damaged or cut short"),
        ("/log/", Some(newer), "vrckpt/9"),
    ];
    for (kind, change, says) in cases {
        let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(MemStore::new()), Arc::new(MemStore::new())];
        for store in &stores {
            let mut writer = open(store, 1, 2).await.expect("opens");
            writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
            writer.ship_log(&[entry(2), entry(3)]).await.expect("ships");
        }
        let key = some(&stores[0], kind).await;
        match change {
            Some(change) => replace(&stores[0], &key, change).await,
            None => stores[0].delete(&key).await.expect("deletes"),
        }
        let sources = [source("first", &stores[0]), source("second", &stores[1])];
        let loaded = newest(&sources).await.expect("there").expect("the other tier helps out");
        assert_eq!((loaded.snapshot.root(), loaded.entries.len()), (state(1).root(), 2), "{kind}");
        assert_eq!(loaded.repaired_pages > 0, kind != "/log/", "{kind}");
        // A page is needed; a log that is not whole only leads less far.
        let why = match newest(&sources[..1]).await.expect("there") {
            Ok(loaded) if kind == "/log/" => loaded.cut_short.expect("says that it is less"),
            Ok(_) => panic!("{kind}: nobody could help out"),
            Err(error) => error.to_string(),
        };
        assert!(why.contains(says), "{kind}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_missing_pages_cost_one_look_at_the_other_tier() {
    let far = Arc::new(MemStore::new());
    let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(MemStore::new()), Arc::clone(&far) as _];
    for store in &stores {
        let mut writer = open(store, 1, 2).await.expect("opens");
        writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    }
    stores[0].delete(&some(&stores[0], "/data/").await).await.expect("deletes");
    let sources = [source("first", &stores[0]), source("second", &stores[1])];
    let inventory = vr_checkpoint::restore::inventory(&sources, &crate::support::LINEAGE.to_string()).await;
    let before = far.usage().requests;
    let loaded = vr_checkpoint::restore::load(&inventory.candidates[0], &sources, None).await.expect("loads");
    let requests = far.usage().requests - before;
    assert!(loaded.repaired_pages > 3, "{}", loaded.repaired_pages);
    // HEAD, a manifest, an index; then one range for each page.
    assert_eq!(requests, 3 + loaded.repaired_pages as u64);
}

/// Somebody puts an older HEAD back: what it does not name is gone from view, nothing is invented, and the writer goes on.
#[tokio::test]
async fn an_older_head_that_is_put_back_loses_no_more_than_it_does_not_name() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut writer = open(&store, 1, 9).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    let (old, _) = store.head().await.expect("reads").expect("there");
    writer.checkpoint(&cut(2), &state(2)).await.expect("ships");
    writer.reserve(7_000).await.expect("reserves");
    let (_, tag) = store.head().await.expect("reads").expect("there");
    assert_eq!(store.swap_head(Some(&tag), old).await.expect("writes"), Swapped::Yes);
    assert_eq!(newest_op(&store).await, 1, "which is whole");
    // Found by the simulator: log that goes on from what is gone from view would lead nowhere.
    let error = writer.ship_log(&[entry(3)]).await.expect_err("there is a gap");
    assert!(error.to_string().contains("an older one put back"), "{error}");
    // What it relied on may be gone by the next collection: it may ship again, but must not name what is not there.
    if writer.checkpoint(&cut(3), &state(3)).await.is_err() {
        let mut again = open(&store, 1, 9).await.expect("opens");
        again.checkpoint(&cut(3), &state(3)).await.expect("ships");
        writer = again;
    }
    assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1, 3], 3));
    writer.reserve(7_000).await.expect("reserves again");
    writer.collect(Duration::ZERO).await.expect("collects");
    assert_eq!(newest_op(&store).await, 3);
}
