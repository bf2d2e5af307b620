//! What a tier is said to hold is there: a claim is withdrawn as soon as anybody can know that it is wrong, and what is
//! missing of the log is put back.

use crate::support::{
    NEVER, committed, cut, entry, memory, newest, open, source, start, state, status, tier, until,
};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use vr_checkpoint::chain::{Chain, TierOptions};
use vr_checkpoint::format::{LogEntry, Names};
use vr_checkpoint::restore::TierKind;
use vr_checkpoint::store::{DirStore, ObjectStore};

const HEADS: [&str; 2] = ["HEAD.0", "HEAD.1"];

fn directory(dir: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(DirStore::open(dir).expect("opens"))
}

/// The newer HEAD of a directory rots, so that the one before it counts again.
fn rot_the_newer_head(dir: &Path) {
    let version = |name: &&str| {
        let bytes = std::fs::read(dir.join(name)).expect("both were written");
        u64::from_le_bytes(*bytes.first_chunk().expect("it begins with its version"))
    };
    rot(&dir.join(HEADS.into_iter().max_by_key(version).expect("there are two")));
}

fn rot(path: &Path) {
    let mut bytes = std::fs::read(path).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(path, bytes).expect("writes");
}

#[tokio::test]
async fn a_writer_speaks_for_nothing_that_it_has_not_looked_at() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = directory(dir.path());
    let mut writer = open(&store, 1, 3).await.expect("opens");
    for op in [1, 4] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
    }
    writer.ship_log(&[entry(5), entry(6)]).await.expect("ships");
    writer.reserve(500).await.expect("reserves");
    writer.checkpoint(&cut(4), &state(4)).await.expect("is there");
    assert_eq!(writer.ship_log(&[]).await.expect("is there"), 0);
    writer.reserve(400).await.expect("is there");

    rot_the_newer_head(dir.path());
    let said = [
        writer.checkpoint(&cut(4), &state(4)).await.map(drop),
        writer.ship_log(&[]).await.map(drop),
        writer.reserve(400).await,
    ];
    for said in said {
        let error = said.expect_err("HEAD went back").to_string();
        assert!(error.contains("HEAD has version"), "{error}");
    }
    let again = open(&store, 1, 3).await.expect("opens");
    assert_eq!(again.head().reserved_revision, 0, "that was what rotted");
}

/// One checkpoint at op 1 and log through op 4 on all tiers but those that never ship any.
async fn log_through_four(chain: &Chain, places: usize) {
    chain.committed(committed(1));
    until("it wants its first cut", || chain.wants_cut()).await;
    chain.cut(cut(1), state(1));
    until("checkpoints", || (0..places).all(|place| status(chain, place).checkpoint_op == 1)).await;
    for op in 2..=4 {
        chain.committed(committed(op));
        until("the log", || status(chain, 0).recovery_op == op).await;
    }
}

/// Nothing is written for hours, and meanwhile HEAD is lost.
#[tokio::test]
async fn an_idle_tier_notices_that_its_head_is_lost_and_that_it_is_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let chain = start(1, vec![tier(TierKind::Nvme, &directory(dir.path()), NEVER)]);
    log_through_four(&chain, 1).await;
    let paths = HEADS.map(|name| dir.path().join(name));
    let before = paths.clone().map(|path| std::fs::read(path).expect("there"));
    paths.iter().for_each(|path| rot(path));
    until("the claim is withdrawn", || status(&chain, 0).recovery_op == 0).await;
    until("it says why", || status(&chain, 0).error.is_some_and(|e| e.contains("no other HEAD is whole")))
        .await;
    assert_eq!(status(&chain, 0).checkpoint_op, 0);
    for (path, before) in paths.iter().zip(before) {
        std::fs::write(path, before).expect("writes");
    }
    until("it counts again", || status(&chain, 0).recovery_op == 4).await;
    assert_eq!((status(&chain, 0).checkpoint_op, status(&chain, 0).error), (1, None));
}

fn second_segment() -> String {
    Names { generation: 1 }.segment(3, 3)
}

/// What a restore from this store alone reaches.
async fn reached(store: &Arc<dyn ObjectStore>) -> u64 {
    let loaded = newest(&[source("tier", store)]).await.expect("there").expect("loads");
    assert_eq!(loaded.cut_short, None);
    loaded.manifest.op + loaded.entries.len() as u64
}

#[tokio::test]
async fn log_that_is_gone_does_not_count_and_the_next_checkpoint_comes_at_once() {
    let store = memory();
    let chain = start(1, vec![tier(TierKind::Nvme, &store, NEVER)]);
    log_through_four(&chain, 1).await;
    store.delete(&second_segment()).await.expect("deletes");
    until("the claim is withdrawn", || status(&chain, 0).recovery_op == 2).await;
    until("it is counted", || status(&chain, 0).damaged == 1).await;
    until("it asks for a cut although nothing was written", || chain.wants_cut()).await;
    assert_eq!(reached(&store).await, 2);
    // What is written meanwhile stands there, and leads nowhere.
    let before = store.usage().written;
    chain.committed(committed(5));
    until("the log", || store.usage().written > before).await;
    assert_eq!(status(&chain, 0).recovery_op, 2);
    chain.cut(cut(5), state(5));
    until("a checkpoint", || status(&chain, 0).recovery_op == 5).await;
    assert_eq!(reached(&store).await, 5);
}

#[tokio::test]
async fn log_that_is_gone_is_put_back_from_another_tier() {
    let (near, far) = (memory(), memory());
    let chain = start(1, vec![tier(TierKind::Nvme, &near, NEVER), tier(TierKind::Volume, &far, NEVER)]);
    log_through_four(&chain, 2).await;
    until("the other log", || status(&chain, 1).recovery_op == 4).await;
    near.delete(&second_segment()).await.expect("deletes");
    until("it is put back", || status(&chain, 0).repaired == 1).await;
    until("it counts again", || status(&chain, 0).recovery_op == 4).await;
    assert_eq!((reached(&near).await, status(&chain, 0).damaged, chain.wants_cut()), (4, 0, false));
}

#[tokio::test]
async fn log_that_is_gone_is_put_back_from_memory() {
    let (near, far) = (memory(), memory());
    let rare = TierOptions { log: NEVER, ..tier(TierKind::Volume, &far, NEVER) };
    let chain = start(1, vec![tier(TierKind::Nvme, &near, NEVER), rare]);
    log_through_four(&chain, 2).await;
    near.delete(&second_segment()).await.expect("deletes");
    until("it is put back", || status(&chain, 0).repaired == 1).await;
    until("it counts again", || status(&chain, 0).recovery_op == 4).await;
    assert_eq!((reached(&near).await, reached(&far).await), (4, 1), "the other tier could not help");
}

/// A whole folder of log is not read into memory to be put back: a checkpoint is the shorter way.
#[tokio::test]
async fn log_that_is_gone_is_put_back_in_bounded_memory() {
    let (near, far) = (memory(), memory());
    let large = |op| LogEntry { bytes: Bytes::from(vec![7; 15 << 20]), ..entry(op) };
    for store in [&near, &far] {
        let mut writer = open(store, 1, 3).await.expect("opens");
        writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
        for op in 2..=6 {
            writer.ship_log(&[large(op)]).await.expect("ships");
        }
    }
    let mut writer = open(&near, 1, 3).await.expect("opens");
    let sources = [source("near", &near), source("far", &far)];
    let names = Names { generation: 1 };
    for (through, fits) in [(4, true), (6, false)] {
        for op in 2..=through {
            near.delete(&names.segment(op, op)).await.expect("deletes");
        }
        near.delete(&names.segment(2, 4)).await.expect("deletes");
        let lost = writer.lost(&writer.segments().await.expect("lists"), 6);
        assert_eq!(lost, [names.segment(2, through)]);
        let put_back = writer.repair(&lost[0], &sources[0], &sources).await.expect("reaches the store");
        assert_eq!(put_back.is_ok(), fits, "{put_back:?}");
        assert!(put_back.err().is_none_or(|error| error.contains("more than 64 MiB of log")));
    }
}
