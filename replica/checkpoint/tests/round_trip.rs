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
use vr_checkpoint::writer::{self, Beginning, Cut, Identity, Lineage, WriteError, Writer};
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

async fn writer(store: &Arc<dyn ObjectStore>, generation: u64, beginning: Option<Beginning>) -> Writer {
    let identity = Identity { lineage: LINEAGE, generation, replica: 1 };
    Writer::open(Arc::clone(store), identity, beginning, true, 3).await.expect("opens")
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

    let mut new = writer(&store, 2, Some(Beginning { parent, token: "one".to_owned() })).await;
    let again = new.checkpoint(&cut(3), &tree.snapshot()).await.expect("ships");
    assert!(again.shipped_pages < 8, "frames of the old generation count as there: {again:?}");
    let sources = [source("tier", TierKind::ObjectStore, &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    assert_eq!((inventory.generation, inventory.reserved_revision), (2, 100));
    assert_eq!(inventory.candidates[0].generation, 2);
}

/// A disk that nobody could read when the third generation began from the first comes back with what the second did.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_did_not_lead_to_the_newest_is_abandoned_as_a_whole() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let disk: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut tree = tree(1_000);
    let mut first = writer(&bucket, 1, None).await;
    let began = first.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    let entry = |op: u64| LogEntry { op, time_micros: op, digest: [1; 32], bytes: Bytes::new() };
    first.ship_log(&[entry(2), entry(3), entry(4)]).await.expect("ships");
    let root: String = began.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let parent = |op: u64| Parent { generation: 1, op, root: root.clone() };
    restore::fence(&*bucket, &parent(4), 2, 0, "two").await.expect("fences");
    let mut second = writer(&disk, 2, Some(Beginning { parent: parent(4), token: "two".to_owned() })).await;
    tree.put(b"of the second", b"generation", 9);
    second.checkpoint(&cut(9), &tree.snapshot()).await.expect("ships");
    restore::fence(&*bucket, &parent(3), 3, 0, "three").await.expect("fences");

    let sources = [source("disk", TierKind::Nvme, &disk), source("bucket", TierKind::ObjectStore, &bucket)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let found: Vec<_> = inventory.candidates.iter().map(|c| (c.generation, c.reachable_op)).collect();
    assert_eq!(found, [(1, 3)], "through the op at which the third left the first");
}

/// Two people restore the same lineage at the same time, from the same HEAD, on machines of their own; each reached its
/// own disks, and one of them the object store later than the other.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_restores_from_the_same_head_one_goes_on_and_a_third_comes_after_both() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut tree = tree(1_000);
    let first = writer(&store, 1, None).await.checkpoint(&cut(1), &tree.snapshot()).await.expect("ships");
    let root: String = first.root.iter().map(|byte| format!("{byte:02x}")).collect();
    let parent = Parent { generation: 1, op: 1, root };
    let plan = |token: &str| Beginning { parent: parent.clone(), token: token.to_owned() };
    let identity = Identity { lineage: LINEAGE, generation: 2, replica: 1 };
    let open = |store: &Arc<dyn ObjectStore>, token: &str| {
        Writer::open(Arc::clone(store), identity.clone(), Some(plan(token)), true, 3)
    };
    let ours = async |token: &str| {
        let disk: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
        let mut writer = open(&disk, token).await.expect("a disk of its own");
        (disk, writer.checkpoint(&cut(2), &tree.snapshot()).await.expect("ships"))
    };
    let (one_disk, _) = ours("one").await;
    let (two_disk, _) = ours("two").await;

    // Both take the object store over at once, and so do two replicas of the first.
    let (one, same, two) = tokio::join!(open(&store, "one"), open(&store, "one"), open(&store, "two"));
    let (mut one, _) = (one.expect("the first of them"), same.expect("another replica of the same restore"));
    let says = |error: Option<WriteError>| {
        let error = error.expect("must not go on");
        assert!(matches!(error, WriteError::Fenced { head: 2, mine: 2, .. }), "{error}");
        assert!(error.to_string().contains("another restore"), "{error}");
        assert!(error.to_string().contains("begins generation 3"), "{error}");
    };
    says(two.err());
    says(open(&store, "two").await.err());
    says(writer::observe(&*store, &identity, Some(&plan("two"))).await.err());
    assert!(writer::observe(&*store, &identity, Some(&plan("one"))).await.is_ok());
    tree.put(b"of the first", b"restore", 3);
    one.checkpoint(&cut(3), &tree.snapshot()).await.expect("ships");
    let entry = |op: u64, of: &[u8]| LogEntry {
        op,
        time_micros: op,
        digest: [1; 32],
        bytes: Bytes::copy_from_slice(of),
    };
    one.ship_log(&[entry(4, b"one")]).await.expect("ships");
    let mut two = open(&two_disk, "two").await.expect("its own disk");
    two.ship_log(&[entry(3, b"two"), entry(4, b"two"), entry(5, b"two")]).await.expect("ships");

    // The third restore sees all of it, and takes nothing from the second.
    let sources = [
        source("disk of the second", TierKind::Nvme, &two_disk),
        source("disk of the first", TierKind::Nvme, &one_disk),
        source("object store", TierKind::ObjectStore, &store),
    ];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let found: Vec<_> =
        inventory.candidates.iter().map(|c| (&*c.source, c.generation, c.reachable_op)).collect();
    assert_eq!(found[..2], [("object store", 2, 4), ("disk of the first", 2, 2)], "{found:?}");
    assert!(found.iter().all(|(source, ..)| *source != "disk of the second"), "{found:?}");
    assert_eq!(inventory.generation, 2, "the third begins generation 3");
    let problem = inventory.findings[0].problem.as_deref().expect("told");
    assert!(problem.contains("another restore"), "{problem}");
    let loaded = restore::load(&inventory.candidates[0], &sources, None).await.expect("loads");
    assert_eq!(loaded.entries, [entry(4, b"one")]);
    let error =
        restore::load(&inventory.candidates[1], &sources, Some(5)).await.err().expect("not of this restore");
    assert!(error.to_string().contains("the log entry 3 is on no source"), "{error}");

    let third = Parent { generation: 2, op: 4, root: inventory.candidates[0].root.clone() };
    for source in &sources {
        restore::fence(&*source.store, &third, 3, 100, "three").await.expect("fences");
    }
    says_fenced(one.check_fence().await.err());
    says_fenced(two.check_fence().await.err());
}

fn says_fenced(error: Option<WriteError>) {
    let error = error.expect("must not go on");
    assert!(matches!(error, WriteError::Fenced { head: 3, mine: 2, .. }), "{error}");
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
