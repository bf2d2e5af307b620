//! What is kept by time is restorable, and nothing else takes room.

use crate::support::{LINEAGE, cut, entry, identity, source, state};
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::restore;
use vr_checkpoint::store::{MemStore, ObjectStore};
use vr_checkpoint::writer::{Retention, Writer};

/// Kept by the hour: what the rules let go is collected, and what they keep is restorable long after.
#[tokio::test]
async fn what_is_kept_by_time_can_be_restored_and_the_rest_is_collected() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let keep = Retention { last: 2, hourly: 3, daily: 0, monthly: 0 };
    let mut writer = Writer::open(store.clone(), identity(1), None, true, keep).await.expect("opens");
    // Four an hour, for five hours.
    for op in 1..=20u64 {
        let mut at = cut(op);
        at.time_micros = op * 900_000_000;
        writer.checkpoint(&at, &state(op)).await.expect("ships");
        writer.ship_log(&[entry(op + 1)]).await.expect("ships");
        writer.collect(Duration::ZERO).await.expect("collects");
    }
    let kept: Vec<u64> = writer.head().retained.iter().map(|retained| retained.op).collect();
    assert_eq!(kept, [15, 19, 20], "of the hours 3, 4 and 5; 19 is also one of the two newest");
    let sources = [source("tier", &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let mut reached = Vec::new();
    for candidate in &inventory.candidates {
        let loaded = restore::load(candidate, &sources, None).await.expect("loads");
        assert_eq!(loaded.snapshot.root(), state(candidate.checkpoint_op).root());
        reached.push((candidate.checkpoint_op, candidate.reachable_op));
    }
    reached.sort_unstable();
    assert_eq!(reached, [(15, 15), (19, 21), (20, 21)], "the log leads on from the newest two");
    let manifests = store.list("g/0000000000000001/ckpt/").await.expect("lists");
    assert_eq!(manifests.len(), 3);
}
