//! Indexes made anew from the ends of packs are those that stood there.

use crate::support::{LINEAGE, cut, newest_op, open, state};
use bytes::Bytes;
use std::sync::Arc;
use vr_checkpoint::repair::repair_indexes;
use vr_checkpoint::store::{MemStore, ObjectStore};

async fn keys(store: &Arc<dyn ObjectStore>, kind: &str) -> Vec<String> {
    let listed = store.list("g/").await.expect("lists");
    listed.into_iter().map(|object| object.key).filter(|key| key.contains(kind)).collect()
}

async fn read(store: &Arc<dyn ObjectStore>, key: &str) -> Bytes {
    store.get(key).await.expect("reads").expect("there")
}

#[tokio::test]
async fn an_index_is_made_anew_from_packs_alone_and_nothing_else_is_touched() {
    let memory = Arc::new(MemStore::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    let lineage = LINEAGE.to_string();
    let mut writer = open(&store, 1, 3).await.expect("opens");
    for op in [1, 2, 200] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
    }
    let indexes = keys(&store, "/idx/").await;
    let mut before = Vec::new();
    for key in &indexes {
        before.push(read(&store, key).await);
    }
    let whole = repair_indexes(&*store, &lineage, true).await.expect("looks");
    assert!(whole.ok() && whole.repairs.is_empty() && whole.indexes == indexes.len(), "{whole:?}");

    store.delete(&indexes[0]).await.expect("deletes");
    assert!(memory.corrupt(&indexes[1], 40));
    let looked = repair_indexes(&*store, &lineage, false).await.expect("looks");
    assert_eq!(looked.repairs.len(), 2);
    assert_eq!(store.get(&indexes[0]).await.expect("reads"), None, "it was only looked");
    let repaired = repair_indexes(&*store, &lineage, true).await.expect("repairs");
    assert!(repaired.ok() && repaired.repairs == looked.repairs, "{repaired:?}");
    assert!(repaired.repairs[0].problem.contains("missing"), "{repaired:?}");
    for (key, before) in indexes.iter().zip(&before) {
        assert_eq!(read(&store, key).await, *before, "{key}");
    }
    // A writer that begins now relies on it.
    let mut again = open(&store, 1, 3).await.expect("opens");
    let written = again.checkpoint(&cut(201), &state(200)).await.expect("ships");
    assert_eq!((written.shipped_pages, newest_op_of(&store).await), (0, 201));
}

async fn newest_op_of(store: &Arc<dyn ObjectStore>) -> u64 {
    crate::support::retained(store).await.into_iter().max().unwrap_or(0)
}

#[tokio::test]
async fn what_cannot_be_made_anew_is_left_and_named() {
    let memory = Arc::new(MemStore::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    let lineage = LINEAGE.to_string();
    let error = repair_indexes(&*store, &lineage, true).await.expect_err("nothing there").to_string();
    assert!(error.contains("there is no HEAD"), "{error}");
    let mut writer = open(&store, 1, 3).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    assert_eq!(newest_op(&store).await, 1);
    let error = repair_indexes(&*store, "another", true).await.expect_err("foreign").to_string();
    assert!(error.contains("not another"), "{error}");
    let (index, pack) = (keys(&store, "/idx/").await.remove(0), keys(&store, "/data/").await.remove(0));
    store.delete(&index).await.expect("deletes");
    let size = read(&store, &pack).await.len();
    // Its end, its places, itself.
    for (damage, says) in [(size - 1, "cut short"), (size - 40, "damaged"), (0, "is missing, and with it")] {
        if damage == 0 {
            store.delete(&pack).await.expect("deletes");
        } else {
            assert!(memory.corrupt(&pack, damage));
        }
        let found = repair_indexes(&*store, &lineage, true).await.expect("looks");
        let failed = found.repairs[0].failed.clone().expect("it cannot be whole");
        assert!(!found.ok() && failed.contains(says), "{failed}");
        assert_eq!(
            store.get(&index).await.expect("reads"),
            None,
            "half an index would be taken for a whole one"
        );
        if damage != 0 {
            assert!(memory.corrupt(&pack, damage), "as it was");
        }
    }
    let manifest = keys(&store, "/ckpt/").await.remove(0);
    assert!(memory.corrupt(&manifest, 70));
    let found = repair_indexes(&*store, &lineage, true).await.expect("looks");
    assert!(!found.ok() && found.unreadable.len() == 1, "{found:?}");
}
