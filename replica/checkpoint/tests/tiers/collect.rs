//! What nothing needs is planned first and deleted later, a share at a time; what somebody has given a name stays.

use crate::support::{LINEAGE, cut, entry, newest_op, open, retained, source, state};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::format::{Names, Plan};
use vr_checkpoint::pin::{pin, pins, unpin};
use vr_checkpoint::restore;
use vr_checkpoint::store::fault::{Act, FaultStore, On, Rule};
use vr_checkpoint::store::{MemStore, ObjectStore};
use vr_checkpoint::writer::{Doomed, Preview, Retention, Stage, preview};

const HOUR: Duration = Duration::from_secs(3600);

async fn keys(store: &Arc<dyn ObjectStore>, prefix: &str) -> Vec<String> {
    store.list(prefix).await.expect("lists").into_iter().map(|object| object.key).collect()
}

async fn plans(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    keys(store, "g/").await.into_iter().filter(|key| Names::is_plan(key)).collect()
}

async fn plan_of(store: &Arc<dyn ObjectStore>) -> Plan {
    let [key] = &plans(store).await[..] else { panic!("not one plan") };
    let bytes = store.get(key).await.expect("reads").expect("there");
    Plan::parse(key, &bytes).expect("valid")
}

/// A reader that began before a checkpoint was let go of has the whole grace to end.
#[tokio::test]
async fn what_is_let_go_of_is_planned_and_stays_for_the_grace() {
    let memory = Arc::new(MemStore::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    let mut writer = open(&store, 1, 1).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    writer.ship_log(&[entry(2)]).await.expect("ships");
    let first = keys(&store, "g/").await;
    // Long after it was written it is still retained.
    memory.pass(3 * HOUR.as_secs());
    writer.checkpoint(&cut(300), &state(300)).await.expect("ships");
    assert_eq!(writer.collect(HOUR).await.expect("collects"), 0);
    let plan = plan_of(&store).await;
    assert!(
        !plan.objects.is_empty() && plan.objects.iter().all(|object| first.contains(&object.key)),
        "{plan:?}"
    );
    assert!(keys(&store, "g/").await.iter().filter(|key| first.contains(key)).count() == first.len());
    // Another writer finds the plan, and goes by its time.
    memory.pass(HOUR.as_secs() / 2);
    let mut other = open(&store, 2, 1).await.expect("opens");
    other.checkpoint(&cut(301), &state(301)).await.expect("ships");
    assert_eq!(other.collect(HOUR).await.expect("collects"), 0);
    memory.pass(HOUR.as_secs() / 2);
    other.checkpoint(&cut(302), &state(302)).await.expect("ships");
    assert_eq!(other.collect(HOUR).await.expect("collects"), plan.objects.len());
    let left = keys(&store, "g/").await;
    assert!(plan.objects.iter().all(|object| !left.contains(&object.key)));
    assert_eq!(newest_op(&store).await, 302);
    // The first one's memory of it does no harm.
    assert_eq!(writer.collect(HOUR).await.expect("collects"), 0);
    assert_eq!(newest_op(&store).await, 302);
}

#[tokio::test]
async fn one_run_deletes_no_more_than_a_share() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut writer = open(&store, 1, 1).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    for op in 2..=700 {
        writer.ship_log(&[entry(op)]).await.expect("ships");
    }
    writer.checkpoint(&cut(800), &state(300)).await.expect("ships");
    let mut deleted = Vec::new();
    loop {
        match writer.collect(Duration::ZERO).await.expect("collects") {
            0 => break,
            some => deleted.push(some),
        }
    }
    assert!(deleted.len() >= 3 && deleted.iter().all(|some| *some <= 256), "{deleted:?}");
    assert!(deleted.iter().sum::<usize>() > 699, "{deleted:?}");
    assert!(plans(&store).await.is_empty());
    assert_eq!(newest_op_of(&store).await, 800);
}

async fn newest_op_of(store: &Arc<dyn ObjectStore>) -> u64 {
    retained(store).await.into_iter().max().unwrap_or(0)
}

#[tokio::test]
async fn a_plan_that_cannot_be_read_is_made_anew() {
    let store: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
    let mut writer = open(&store, 1, 1).await.expect("opens");
    for op in [1, 300] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
    }
    store.create("g/0000000000000001/gc/strange.json", Bytes::from_static(b"{}")).await.expect("creates");
    let deleted = writer.collect(Duration::ZERO).await.expect("collects");
    assert!(deleted > 0);
    assert!(plans(&store).await.is_empty());
    assert_eq!(newest_op(&store).await, 300);
}

/// The next swap of HEAD is done, and nobody hears of it.
fn swap_unanswered() -> Rule {
    Rule { on: On::SwapHead, key_contains: String::new(), skip: 0, times: 1, act: Act::LoseAnswer }
}

#[tokio::test]
async fn what_has_a_name_stays_and_can_be_restored() {
    let memory = Arc::new(FaultStore::new(MemStore::new()));
    let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    let lineage = LINEAGE.to_string();
    let mut writer = open(&store, 1, 2).await.expect("opens");
    for op in [1, 2, 3] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
    }
    // The writer learns of it when its next swap is refused; the answer to ours is lost.
    memory.add(swap_unanswered());
    let pinned = pin(&*store, &lineage, "before-upgrade", Some(2)).await.expect("pins");
    assert_eq!(pinned.op, 2);
    assert_eq!(pin(&*store, &lineage, "before-upgrade", Some(2)).await.expect("again").op, 2);
    pin(&*store, &lineage, "second.name", Some(2)).await.expect("pins");
    for op in [4, 5, 6] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
        writer.collect(Duration::ZERO).await.expect("collects");
    }
    assert_eq!(retained(&store).await, [2, 5, 6]);
    let sources = [source("tier", &store)];
    let inventory = restore::inventory(&sources, &lineage).await;
    let candidate = inventory.candidates.iter().find(|found| found.checkpoint_op == 2).expect("retained");
    let loaded = restore::load(candidate, &sources, None).await.expect("loads");
    assert_eq!(loaded.snapshot.root(), state(2).root());
    let names: Vec<(String, u64)> =
        pins(&*store, &lineage).await.expect("reads").into_iter().map(|(name, r)| (name, r.op)).collect();
    assert_eq!(names, [("before-upgrade".to_owned(), 2), ("second.name".to_owned(), 2)]);

    for (name, op, says) in [
        ("", None, "is no name"),
        ("a/b", None, "is no name"),
        ("x", Some(9), "no checkpoint at op 9"),
        ("before-upgrade", Some(6), "is the name of the checkpoint at op 2: unpin it first"),
    ] {
        let error = pin(&*store, &lineage, name, op).await.expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = unpin(&*store, &lineage, "x").await.expect_err("no such pin").to_string();
    assert!(error.contains("no checkpoint is pinned as"), "{error}");
    let error = pin(&*store, "another", "x", None).await.expect_err("foreign").to_string();
    assert!(error.contains("not another"), "{error}");

    unpin(&*store, &lineage, "second.name").await.expect("unpins");
    writer.checkpoint(&cut(7), &state(7)).await.expect("ships");
    assert_eq!(retained(&store).await, [2, 6, 7], "it has a name yet");
    memory.add(swap_unanswered());
    assert_eq!(unpin(&*store, &lineage, "before-upgrade").await.expect("unpins").op, 2);
    writer.checkpoint(&cut(8), &state(8)).await.expect("ships");
    assert_eq!(retained(&store).await, [7, 8]);
}

/// What would be deleted is said before, for the rules that hold and for others, and nothing is written.
#[tokio::test]
async fn what_would_be_deleted_is_said_before() {
    let memory = Arc::new(MemStore::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
    let (tier, lineage) = (source("tier", &store), LINEAGE.to_string());
    let look = async |keep: Option<usize>| {
        let before = store.usage().written;
        let found = preview(&tier, &lineage, keep.map(Retention::from), HOUR).await.expect("reads");
        assert_eq!(store.usage().written, before, "it only looks");
        found
    };
    assert!(preview(&tier, &lineage, None, HOUR).await.is_err_and(|e| e.contains("there is no HEAD")));
    let mut writer = open(&store, 1, 3).await.expect("opens");
    for op in [1, 200, 300] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
        writer.ship_log(&[entry(op + 1)]).await.expect("ships");
    }
    let all = look(None).await;
    assert_eq!((&all.stay[..], &all.let_go[..], &all.objects[..]), (&[1, 200, 300][..], &[][..], &[][..]));
    let one = look(Some(1)).await;
    assert_eq!((&one.stay[..], &one.let_go[..]), (&[300][..], &[1, 200][..]));
    assert!(
        one.objects.iter().any(|o| o.needed_by == [1])
            && one.objects.iter().any(|o| o.key.contains("/ckpt/"))
    );
    let on_its_way = |o: &Doomed| o.stage == Stage::LetGo && !o.needed_by.is_empty();
    // Segments which lead on from what is let go of alone need no longer be there at once.
    assert!(one.objects.iter().all(|o| on_its_way(o) || o.key.contains("/log/")), "{one:?}");

    // Somebody has those rules: what was said comes true, stage by stage.
    let mut writer = open(&store, 1, 1).await.expect("opens");
    writer.checkpoint(&cut(400), &state(400)).await.expect("ships");
    let stages =
        |found: &Preview| found.objects.iter().map(|o| o.stage).collect::<std::collections::BTreeSet<_>>();
    let young = look(Some(1)).await;
    assert_eq!(stages(&young), [Stage::Young].into());
    assert!(one.objects.iter().all(|o| young.objects.iter().any(|y| y.key == o.key)));
    memory.pass(2 * HOUR.as_secs());
    writer.ship_log(&[entry(401)]).await.expect("ships");
    assert_eq!(stages(&look(Some(1)).await), [Stage::Found].into());
    assert_eq!(writer.collect(HOUR).await.expect("plans"), 0);
    assert_eq!(stages(&look(Some(1)).await), [Stage::Planned].into());
    memory.pass(2 * HOUR.as_secs());
    writer.ship_log(&[entry(402)]).await.expect("ships");
    let due = look(Some(1)).await;
    assert_eq!(stages(&due), [Stage::Due].into());
    let before = keys(&store, "g/").await;
    assert_eq!(writer.collect(HOUR).await.expect("collects"), due.objects.len());
    let after = keys(&store, "g/").await;
    let gone: Vec<&String> =
        before.iter().filter(|key| !after.contains(key) && !Names::is_plan(key)).collect();
    assert_eq!(gone, due.objects.iter().map(|o| &o.key).collect::<Vec<_>>());
    assert_eq!(look(Some(1)).await.objects, []);

    let manifest = keys(&store, "g/0000000000000001/ckpt/").await.remove(0);
    assert!(memory.corrupt(&manifest, 70));
    let held = look(Some(1)).await;
    assert!(held.objects.is_empty() && held.held.expect("held").contains("the checkpoint at op 400"));
}
