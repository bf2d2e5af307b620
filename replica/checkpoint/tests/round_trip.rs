//! A state goes to tiers and comes back: whole, incremental, beside another shipper, damaged, and fenced.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use vr_checkpoint::format::{LogEntry, Manifest, Parent};
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::store::{
    Created, DirStore, Listed, MemStore, ObjectStore, StoreError, Swapped, Tag, Usage,
};
use vr_checkpoint::writer::{Cut, Identity, Lineage, WriteError, Writer};
use vr_tree::{Snapshot, Tree};

const LINEAGE: Lineage = Lineage([7; 16]);

fn tree(entries: u32) -> Tree {
    let mut tree = Tree::new();
    for i in 0..entries {
        let noise = blake3::hash(&i.to_le_bytes());
        tree.put(format!("key/{i:08}").as_bytes(), noise.to_hex().as_bytes(), 1);
    }
    tree
}

fn cut(op: u64) -> Cut {
    Cut {
        op,
        view: 0,
        epoch: 0,
        time_micros: op * 1000,
        log_digest: [0; 32],
        revision: op as i64,
        reserved_revision: 100,
        configuration: serde_json::json!({"order": [1, 2, 3]}),
    }
}

async fn writer(store: &Arc<dyn ObjectStore>, generation: u64, parent: Option<Parent>) -> Writer {
    let identity = Identity { lineage: LINEAGE, generation, replica: 1 };
    Writer::open(Arc::clone(store), identity, parent, true, 3).await.expect("opens")
}

fn source(name: &str, tier: TierKind, store: &Arc<dyn ObjectStore>) -> Source {
    Source { name: name.to_owned(), tier, store: Arc::clone(store) }
}

fn contents(snapshot: &Snapshot) -> Vec<(Vec<u8>, Vec<u8>)> {
    snapshot.range(b"", None).map(|e| (e.key().to_vec(), e.value().to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_and_the_log_above_it_come_back_from_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::open(dir.path()).expect("opens"));
    let mut writer = writer(&store, 1, None).await;
    let mut tree = tree(20_000);
    let full = writer.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    tree.put(b"key/00000007", b"changed", 2);
    let incremental = writer.checkpoint(&cut(2), &tree.snapshot()).await.expect("ships");
    assert!(incremental.shipped_pages <= 5, "{incremental:?}");
    assert!(incremental.shipped_bytes * 20 < full.shipped_bytes, "{incremental:?} after {full:?}");
    let entry = |op: u64| LogEntry { op, time_micros: op, digest: [op as u8; 32], bytes: vec![1; 9].into() };
    writer.ship_log(&[entry(3), entry(4)]).await.expect("ships");
    writer.ship_log(&[entry(5)]).await.expect("ships");

    let sources = [source("disk", TierKind::Nvme, &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let newest = &inventory.candidates[0];
    assert_eq!((newest.checkpoint_op, newest.reachable_op), (2, 5));
    let loaded = restore::load(newest, &sources, None).await.expect("loads");
    assert_eq!(loaded.snapshot.root(), tree.snapshot().root());
    assert_eq!(contents(&loaded.snapshot), contents(&tree.snapshot()));
    assert_eq!(loaded.entries, [entry(3), entry(4), entry(5)]);
    assert_eq!(loaded.repaired_pages, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_comes_from_another_tier_or_is_named() {
    let (near, far) = (Arc::new(MemStore::new()), Arc::new(MemStore::new()));
    let tree = tree(5_000);
    for store in [&near, &far] {
        let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
        writer(&store, 1, None).await.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    }
    let packs = near.list("g/0000000000000001/data/").await.expect("lists");
    assert!(near.corrupt(&packs[0].key, 5_000), "a byte inside a frame");
    let (near, far): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>) = (near, far);
    let both = [source("near", TierKind::Nvme, &near), source("far", TierKind::Volume, &far)];
    let inventory = restore::inventory(&both, &LINEAGE.to_string()).await;
    let loaded = restore::load(&inventory.candidates[0], &both, None).await.expect("repairs");
    assert_eq!((loaded.snapshot.root(), loaded.repaired_pages), (tree.snapshot().root(), 1));

    let error = restore::load(&inventory.candidates[0], &both[..1], None).await.err().expect("nowhere whole");
    assert!(error.to_string().contains("missing or corrupt"), "{error}");
    assert!(error.to_string().contains("its checksum is wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_fences_the_generation_before_it() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut old = writer(&store, 1, None).await;
    let mut tree = tree(1_000);
    let first = old.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    let root = first.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let parent = Parent { generation: 1, op: 1, root };
    restore::fence(&*store, &parent, 2, 100, "one").await.expect("fences");
    restore::fence(&*store, &parent, 2, 100, "one").await.expect("the same restore again is no error");
    let other =
        restore::fence(&*store, &parent, 2, 100, "other").await.expect_err("another from the same point");
    assert!(other.contains("superseded: HEAD is of generation 2 already"), "{other}");

    tree.put(b"stale", b"write", 2);
    let error = old.checkpoint(&cut(2), &tree.snapshot()).await.expect_err("stale");
    assert!(matches!(error, WriteError::Fenced { head: 2, mine: 1, .. }), "{error}");
    let entry = LogEntry { op: 2, time_micros: 2, digest: [2; 32], bytes: Bytes::new() };
    assert!(matches!(old.ship_log(&[entry]).await, Err(WriteError::Fenced { .. })));

    let mut new = writer(&store, 2, Some(parent)).await;
    let again = new.checkpoint(&cut(3), &tree.snapshot()).await.expect("ships");
    assert!(again.shipped_pages < 8, "frames of the old generation count as there: {again:?}");
    let sources = [source("tier", TierKind::ObjectStore, &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    assert_eq!((inventory.generation, inventory.reserved_revision), (2, 100));
    assert_eq!(inventory.candidates[0].generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_mostly_dead_are_emptied_and_let_go() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let identity = Identity { lineage: LINEAGE, generation: 1, replica: 1 };
    let mut writer = Writer::open(Arc::clone(&store), identity, None, true, 1).await.expect("opens");
    let mut tree = tree(5_000);
    let full = writer.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    for op in 2..40u64 {
        for i in 0..50u64 {
            let key = format!("key/{:08}", (op * 131 + i * 7) % 5_000);
            tree.put(key.as_bytes(), blake3::hash(&(op + i).to_le_bytes()).to_hex().as_bytes(), op);
        }
        let written = writer.checkpoint(&cut(op), &tree.snapshot()).await.expect("ships");
        let manifest = store.get(&written.manifest).await.expect("reads").expect("there");
        let manifest = Manifest::parse(&written.manifest, &manifest).expect("valid");
        let held: u64 = manifest.packs.iter().map(|pack| pack.bytes).sum();
        assert!(held < full.shipped_bytes * 5 / 2, "{held} bytes of packs at op {op} after {full:?}");
        writer.collect(std::time::Duration::ZERO).await.expect("collects");
    }
    let sources = [source("tier", TierKind::Nvme, &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let loaded = restore::load(&inventory.candidates[0], &sources, None).await.expect("loads");
    assert_eq!(loaded.snapshot.root(), tree.snapshot().root());
}

/// After each swap of HEAD somebody else writes it too, before the first writer can read it back.
struct Busy(MemStore);

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_right_behind_does_not_retain_a_checkpoint_twice() {
    let store: Arc<dyn ObjectStore> = Arc::new(Busy(MemStore::new()));
    let tree = tree(100);
    let mut writer = writer(&store, 1, None).await;
    // With somebody always in between the writer may give up, but what it did must be there once.
    let _ = writer.checkpoint(&cut(1), &tree.snapshot()).await;
    let _ = writer.checkpoint(&cut(2), &tree.snapshot()).await;
    let (head, _) = store.head().await.expect("works").expect("there");
    let head = vr_checkpoint::format::Head::parse("HEAD", &head).expect("valid");
    let ops: Vec<u64> = head.retained.iter().map(|retained| retained.op).collect();
    assert_eq!(ops, [1, 2]);
}

impl ObjectStore for Busy {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.0.create(key, body)
    }
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.0.get(key)
    }
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.0.get_range(key, offset, len)
    }
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.0.list(prefix)
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.delete(key)
    }
    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.0.head()
    }
    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        async move {
            let outcome = self.0.swap_head(expected, body.clone()).await?;
            if outcome == Swapped::Yes && expected.is_some() {
                let mut head = vr_checkpoint::format::Head::parse("HEAD", &body).expect("valid");
                head.version += 1;
                head.nonce = "another".to_owned();
                let (_, tag) = self.0.head().await?.expect("just written");
                self.0.swap_head(Some(&tag), head.encode().into()).await?;
            }
            Ok(outcome)
        }
        .boxed()
    }
    fn usage(&self) -> Usage {
        self.0.usage()
    }
}
