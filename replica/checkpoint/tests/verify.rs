//! What is damaged is named: object, frame and reason.

use bytes::Bytes;
use std::sync::Arc;
use vr_checkpoint::format::{LogEntry, Manifest};
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::store::{MemStore, ObjectStore};
use vr_checkpoint::verify::{Depth, Only, Report, Sample, verify};
use vr_checkpoint::writer::{Cut, Identity, Lineage, Writer};
use vr_tree::Tree;

const LINEAGE: Lineage = Lineage([7; 16]);

/// Two checkpoints, at ops 1 and 5, and the log of ops 2 to 9 in two segments.
async fn filled() -> Arc<MemStore> {
    let store = Arc::new(MemStore::new());
    let mut tree = Tree::new();
    for i in 0..3_000u32 {
        tree.put(format!("key/{i:08}").as_bytes(), blake3::hash(&i.to_le_bytes()).as_bytes(), 1);
    }
    let identity = Identity { lineage: LINEAGE, generation: 1, replica: 1 };
    let mut writer = Writer::open(Arc::clone(&store) as _, identity, None, true, 3).await.expect("opens");
    let entry =
        |op: u64| LogEntry { op, time_micros: op, digest: [1; 32], bytes: Bytes::from_static(b"entry") };
    for op in [1, 5] {
        let cut = Cut {
            op,
            view: 0,
            epoch: 0,
            time_micros: op,
            log_digest: [0; 32],
            revision: 1,
            reserved_revision: 10,
            configuration: serde_json::Value::Null,
        };
        writer.checkpoint(&cut, &tree.snapshot()).await.expect("ships");
        let entries: Vec<LogEntry> = (op + 1..=op + 4).map(entry).collect();
        writer.ship_log(&entries).await.expect("ships");
        tree.put(b"key/00000007", b"changed", op + 1);
    }
    store
}

async fn report(store: &Arc<MemStore>, only: Only, depth: Depth) -> Report {
    let source = Source { name: "tier".to_owned(), tier: TierKind::Nvme, store: Arc::clone(store) as _ };
    verify(&source, &LINEAGE.to_string(), only, depth).await
}

async fn first(store: &MemStore, prefix: &str) -> String {
    store.list(prefix).await.expect("lists")[0].key.clone()
}

/// An object of a kind that the checkpoint at op 1 needs.
async fn of_the_first_checkpoint(store: &MemStore, kind: &str) -> String {
    let key = first(store, "g/0000000000000001/ckpt/").await;
    let bytes = store.get(&key).await.expect("reads").expect("there");
    let manifest = Manifest::parse(&key, &bytes).expect("valid");
    let mut objects = manifest.packs.iter().chain(&manifest.indexes);
    objects.find(|named| named.key.contains(kind)).expect("one of each kind").key.clone()
}

async fn cut_short(store: &MemStore, key: &str) {
    let bytes = store.get(key).await.expect("reads").expect("there");
    store.delete(key).await.expect("deletes");
    store.create(key, bytes.slice(..bytes.len() - 9)).await.expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tier_is_found_whole_and_all_of_it_was_read() {
    let store = filled().await;
    let mut bytes = 0;
    for depth in [Depth::Manifests, Depth::Frames, Depth::Root] {
        let report = report(&store, Only::default(), depth).await;
        assert!(report.ok(), "{report:?}");
        let ops: Vec<_> = report.checkpoints.iter().map(|c| (c.op, c.reaches_op)).collect();
        assert_eq!(ops, [(5, 9), (1, 9)]);
        assert_eq!(report.checkpoints[0].read.frames > 0, depth >= Depth::Frames);
        assert!(report.checkpoints[0].read.bytes >= bytes);
        bytes = report.checkpoints[0].read.bytes;
    }
    let only =
        report(&store, Only { op: Some(5), generation: Some(1), ..Only::default() }, Depth::Root).await;
    assert_eq!((only.ok(), only.checkpoints.len()), (true, 1));
    let none = report(&store, Only { op: Some(4), ..Only::default() }, Depth::Root).await;
    assert!(!none.ok() && none.problems[0].reason.contains("cut at op 4"), "{none:?}");
    let json = serde_json::to_value(&only).expect("serialises");
    assert_eq!(json["checkpoints"][0]["reachesOp"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_in_its_frame_and_only_from_that_depth_on() {
    let store = filled().await;
    let pack = of_the_first_checkpoint(&store, "data/").await;
    assert!(store.corrupt(&pack, 5_000));
    assert!(report(&store, Only::default(), Depth::Manifests).await.ok(), "no pack was read");
    let report = report(&store, Only { op: Some(1), ..Only::default() }, Depth::Frames).await;
    let [problem] = &report.checkpoints[0].problems[..] else { panic!("{report:?}") };
    assert_eq!((problem.object.as_str(), problem.frame.as_ref().map(String::len)), (&*pack, Some(64)));
    assert!(problem.reason.contains("its checksum is wrong"), "{problem:?}");
    assert!(!report.ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_together_read_everything_and_find_what_is_damaged() {
    let store = filled().await;
    let newest = Only { newest: true, ..Only::default() };
    let whole = report(&store, newest, Depth::Frames).await;
    assert_eq!((whole.checkpoints.len(), whole.checkpoints[0].op), (1, 5));
    let pack = of_the_first_checkpoint(&store, "data/").await;
    assert!(store.corrupt(&pack, 5_000));
    let mut found = [0; 2];
    for seed in 0..40 {
        let report = report(&store, newest, Depth::Sample(Sample { percent: 1, seed })).await;
        let read = report.checkpoints[0].read;
        assert!(
            read.frames > 0 && read.bytes < whole.checkpoints[0].read.bytes,
            "one pack of several: {read:?}"
        );
        assert!(report.checkpoints[0].problems.iter().all(|p| p.object == pack));
        found[usize::from(report.ok())] += 1;
    }
    assert!(found.iter().all(|count| *count > 0), "sometimes that pack, sometimes another: {found:?}");
    let all = report(&store, newest, Depth::Sample(Sample { percent: 100, seed: 0 })).await;
    assert!(!all.ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_cut_or_newer_is_named() {
    let all = Only { op: Some(1), ..Only::default() };
    for (prefix, says) in [("tree/", "it is missing"), ("data/", "it is missing"), ("idx/", "it is missing")]
    {
        let store = filled().await;
        let key = of_the_first_checkpoint(&store, prefix).await;
        store.delete(&key).await.expect("deletes");
        let report = report(&store, all, Depth::Root).await;
        let problems = &report.checkpoints[0].problems;
        assert!(problems.iter().any(|p| p.object == key && p.reason == says), "{prefix}: {problems:?}");
        // The state is lost with a pack, not with an index.
        let incomplete = problems.iter().any(|p| p.reason.contains("no whole frame of this page"));
        assert_eq!(incomplete, prefix != "idx/", "{prefix}: {problems:?}");
    }

    let store = filled().await;
    let segment = first(&store, "g/0000000000000001/log/").await;
    cut_short(&store, &segment).await;
    let cut = report(&store, Only::default(), Depth::Manifests).await;
    let (newer, older) = (&cut.checkpoints[0], &cut.checkpoints[1]);
    assert_eq!((newer.ok, newer.reaches_op), (true, 9), "the newer one does not need the cut segment");
    assert_eq!((older.ok, older.reaches_op, &older.problems[0].object), (false, 1, &segment));

    let manifest = first(&store, "g/0000000000000001/ckpt/").await;
    let bytes = store.get(&manifest).await.expect("reads").expect("there");
    store.delete(&manifest).await.expect("deletes");
    let text = String::from_utf8(bytes.to_vec()).expect("JSON").replace("vrckpt/1", "vrckpt/3");
    store.create(&manifest, text.into()).await.expect("writes");
    let newer = report(&store, all, Depth::Manifests).await;
    assert!(
        newer.checkpoints[0].problems[0].reason.contains("use a release that reads vrckpt/3"),
        "{newer:?}"
    );
}

#[tokio::test]
async fn no_head_and_a_foreign_one_are_told_apart() {
    let empty = report(&Arc::new(MemStore::new()), Only::default(), Depth::Root).await;
    assert!(!empty.ok() && empty.problems[0].reason.contains("there is none"), "{empty:?}");
    let store = filled().await;
    let source = Source { name: "tier".to_owned(), tier: TierKind::Nvme, store: store as _ };
    let foreign = verify(&source, "another", Only::default(), Depth::Root).await;
    assert!(foreign.problems[0].reason.contains("it belongs to lineage 07070707-"), "{foreign:?}");
}

/// Bit rot in the shipped log costs what follows it, not the restore; but whoever asks for an op beyond gets an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_ends_the_log_and_not_the_restore() {
    let store = filled().await;
    let last = store.list("g/0000000000000001/log/").await.expect("lists").pop().expect("two segments").key;
    cut_short(&store, &last).await;
    let sources = [Source { name: "tier".to_owned(), tier: TierKind::Nvme, store: Arc::clone(&store) as _ }];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let older = inventory.candidates.iter().find(|c| c.checkpoint_op == 1).expect("retained");
    assert_eq!(older.reachable_op, 9, "by the names alone");

    let loaded = restore::load(older, &sources, None).await.expect("loads what is whole");
    assert_eq!(loaded.entries.iter().map(|e| e.op).collect::<Vec<_>>(), [2, 3, 4, 5]);
    let reason = loaded.cut_short.expect("says that it is less");
    assert!(reason.contains("entry 6 is on no source") && reason.contains(&last), "{reason}");

    let error = restore::load(older, &sources, Some(9)).await.err().expect("must not be less").to_string();
    assert!(error.contains("entry 6 is on no source"), "{error}");
}
