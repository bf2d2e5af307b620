//! A small lineage to go wrong with.

use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vr_checkpoint::chain::{Chain, Options, TierOptions, TierStatus};
use vr_checkpoint::format::{Committed, Head, LogEntry};
use vr_checkpoint::restore::{self, LoadError, Loaded, Source, TierKind};
use vr_checkpoint::store::{MemStore, ObjectStore};
use vr_checkpoint::writer::{Cut, Identity, Lineage, WriteError, Writer};
use vr_tree::{Snapshot, Tree};

pub(crate) const LINEAGE: Lineage = Lineage([9; 16]);

pub(crate) fn identity(replica: u64) -> Identity {
    Identity { lineage: LINEAGE, generation: 1, replica }
}

/// The state after `op`: every op changes another key, so that no two are alike.
pub(crate) fn state(op: u64) -> Snapshot {
    let mut tree = Tree::new();
    for key in 0..600u64 {
        let last = (1..=op).rev().find(|op| op * 7 % 600 == key).unwrap_or(0);
        let noise = blake3::hash(&[key.to_le_bytes(), last.to_le_bytes()].concat());
        tree.put(format!("key/{key:08}").as_bytes(), noise.as_bytes(), op);
    }
    tree.snapshot()
}

pub(crate) fn cut(op: u64) -> Cut {
    Cut {
        op,
        view: 0,
        epoch: 0,
        time_micros: op * 1000,
        log_digest: [0; 32],
        revision: 1,
        reserved_revision: 100,
        configuration: serde_json::Value::Null,
    }
}

pub(crate) fn entry(op: u64) -> LogEntry {
    LogEntry { op, time_micros: op * 1000, digest: [op as u8; 32], bytes: Bytes::from_static(b"entry") }
}

/// The same as a replica hands it in.
pub(crate) fn committed(op: u64) -> Committed {
    let LogEntry { op, time_micros, digest, bytes } = entry(op);
    Committed { op, time_micros, digest, head: bytes.slice(..2), body: bytes.slice(2..) }
}

pub(crate) async fn open(
    store: &Arc<dyn ObjectStore>,
    replica: u64,
    keep: usize,
) -> Result<Writer, WriteError> {
    Writer::open(Arc::clone(store), identity(replica), None, true, keep).await
}

pub(crate) fn source(name: &str, store: &Arc<dyn ObjectStore>) -> Source {
    Source { name: name.to_owned(), tier: TierKind::Nvme, store: Arc::clone(store) }
}

/// The best that the sources have, loaded; `None` if they have nothing.
pub(crate) async fn newest(sources: &[Source]) -> Option<Result<Loaded, LoadError>> {
    let inventory = restore::inventory(sources, &LINEAGE.to_string()).await;
    let best = inventory.candidates.first()?;
    Some(restore::load(best, sources, None).await)
}

/// The newest checkpoint of one store, which must be whole and the state of its op; 0 if there is none.
pub(crate) async fn newest_op(store: &Arc<dyn ObjectStore>) -> u64 {
    let Some(loaded) = newest(&[source("tier", store)]).await else { return 0 };
    let loaded = loaded.expect("what HEAD retains can be restored");
    let op = loaded.manifest.op;
    assert_eq!(loaded.snapshot.root(), state(op).root(), "the state of op {op}");
    op
}

pub(crate) async fn retained(store: &Arc<dyn ObjectStore>) -> Vec<u64> {
    let (bytes, _) = store.head().await.expect("reads").expect("there");
    let head = Head::parse("HEAD", &bytes).expect("valid");
    head.retained.iter().map(|retained| retained.op).collect()
}

/// Cadences: one that a test can wait for, and one that it cannot.
pub(crate) const SOON: Duration = Duration::from_millis(20);
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

pub(crate) fn tier(kind: TierKind, store: &Arc<dyn ObjectStore>, checkpoint: Duration) -> TierOptions {
    let store = Arc::clone(store);
    TierOptions {
        kind,
        store,
        checkpoint,
        log: SOON,
        rate: None,
        keep: 3.into(),
        grace: NEVER,
        may_create: true,
    }
}

pub(crate) fn start(replica: u64, tiers: Vec<TierOptions>) -> Chain {
    Chain::start(Options { identity: identity(replica), beginning: None, tiers, others: None })
        .expect("a thread")
}

pub(crate) fn status(chain: &Chain, place: usize) -> TierStatus {
    chain.status()[place].1.clone()
}

pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemStore::new())
}
