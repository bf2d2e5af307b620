//! Every operation on a disk in turn fails, or is the last one before the process or the power is gone. Whatever was
//! called durable by then comes back, and nothing comes back that never was.

use crate::support::{LINEAGE, cut, entry, source, state};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use vr_checkpoint::format::Parent;
use vr_checkpoint::restore;
use vr_checkpoint::store::files::{Fate, Strike, VolatileDisk};
use vr_checkpoint::store::{DirStore, ObjectStore};
use vr_checkpoint::writer::{Beginning, Identity, WriteError, Writer};
use vr_tree::Snapshot;

const TIER: &str = "/machine/nvme/lineage";
const TOKEN: &str = "of the one restore";

/// The states are made once: they are much of the work otherwise.
static STATES: LazyLock<BTreeMap<u64, Snapshot>> =
    LazyLock::new(|| [1, 4, 7, 10, 20].into_iter().map(|op| (op, state(op))).collect());

/// What a tier goes through.
#[derive(Clone, Copy, Debug)]
enum Step {
    Checkpoint(u64),
    /// Two entries from this one on.
    Log(u64),
    Reserve(i64),
    Collect,
    /// The cluster is lost, and a second generation begins from all there is.
    Restore,
}

const LIFE: [Step; 15] = [
    Step::Checkpoint(1),
    Step::Log(2),
    Step::Collect,
    Step::Reserve(100),
    Step::Checkpoint(4),
    Step::Log(5),
    Step::Collect,
    Step::Checkpoint(7),
    Step::Log(8),
    Step::Reserve(200),
    Step::Restore,
    Step::Checkpoint(10),
    Step::Log(11),
    Step::Collect,
    Step::Reserve(300),
];

/// What somebody was told to be durable.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    generation: u64,
    checkpoint: u64,
    log: u64,
    reserved: i64,
}

/// A process, and what those knew that have gone before it.
struct Process {
    disk: VolatileDisk,
    store: Option<Arc<dyn ObjectStore>>,
    writer: Option<Writer>,
    told: Told,
}

fn open(disk: &VolatileDisk) -> Result<Arc<dyn ObjectStore>, String> {
    let store = DirStore::open_on(Arc::new(disk.clone()), Path::new(TIER));
    store.map(|store| Arc::new(store) as _).map_err(|e| e.to_string())
}

async fn writer(store: &Arc<dyn ObjectStore>, generation: u64) -> Result<Writer, WriteError> {
    let identity = Identity { lineage: LINEAGE, generation, replica: 1 };
    let parent = || Parent { generation: 1, op: 9, root: "of op 7".to_owned() };
    let beginning = (generation > 1).then(|| Beginning { parent: parent(), token: TOKEN.to_owned() });
    let mut writer = Writer::open(Arc::clone(store), identity, beginning, true, 2).await?;
    writer.limit_deltas(4);
    Ok(writer)
}

impl Process {
    fn new(disk: &VolatileDisk, told: Told) -> Process {
        Process { disk: disk.clone(), store: None, writer: None, told }
    }

    /// As the chain does it: after a failure nothing that was known of the tier counts any more.
    async fn step(&mut self, step: Step) -> Result<(), String> {
        let done = self.try_to(step).await;
        if done.is_err() {
            self.writer = None;
        }
        done
    }

    async fn try_to(&mut self, step: Step) -> Result<(), String> {
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(open(&self.disk)?),
        };
        if let Step::Restore = step {
            let sources = [source("tier", store)];
            let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
            let best = inventory.candidates.first().ok_or("nothing to restore")?;
            let loaded = restore::load(best, &sources, None).await.map_err(|e| e.to_string())?;
            assert_eq!((loaded.manifest.op, loaded.entries.len()), (7, 2));
            let parent = Parent { generation: 1, op: 9, root: "of op 7".to_owned() };
            restore::fence(&**store, &parent, 2, inventory.reserved_revision, TOKEN).await?;
            self.writer = None;
            self.told.generation = 2;
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let generation = self.told.generation.max(1);
                self.writer.insert(writer(store, generation).await.map_err(|e| e.to_string())?)
            }
        };
        let told = &mut self.told;
        let done = match step {
            Step::Checkpoint(op) => {
                let written = writer.checkpoint(&cut(op), &STATES[&op]).await;
                written.map(|_| (told.checkpoint, told.log) = (op, op))
            }
            Step::Log(op) => {
                let shipped = writer.ship_log(&[entry(op), entry(op + 1)]).await;
                shipped.map(|_| told.log = op + 1)
            }
            Step::Reserve(revision) => writer.reserve(revision).await.map(|()| told.reserved = revision),
            Step::Collect => writer.collect(Duration::ZERO).await.map(drop),
            Step::Restore => unreachable!("done above"),
        };
        done.map_err(|e| e.to_string())
    }

    /// What would come back if the power went now, in one of these ways.
    async fn check(&self, fates: &[Fate], when: &str) {
        for fate in fates {
            let disk = self.disk.fork();
            disk.lose_power(*fate);
            check(&disk, self.told, &format!("{when}, then {fate:?}, after {:?}", self.told)).await;
        }
    }
}

async fn check(disk: &VolatileDisk, told: Told, when: &str) {
    let store = open(disk).unwrap_or_else(|e| panic!("{when}: {e}"));
    let sources = [source("tier", &store)];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let nothing_told = told.log == 0 && told.reserved == 0;
    let problem = inventory.findings[0].problem.as_deref();
    assert!(
        problem.is_none() || (nothing_told && problem == Some("empty: there is no HEAD")),
        "{when}: {problem:?}"
    );
    assert!(inventory.generation >= told.generation, "{when}: the fence is down");
    assert!(inventory.reserved_revision >= told.reserved, "{when}: revisions are handed out twice");
    for (place, candidate) in inventory.candidates.iter().enumerate() {
        let loaded = restore::load(candidate, &sources, None).await.unwrap_or_else(|e| panic!("{when}: {e}"));
        let op = loaded.manifest.op;
        assert_eq!(loaded.snapshot.root(), STATES[&op].root(), "{when}: not the state of op {op}");
        assert!((op + 1..).map(entry).zip(&loaded.entries).all(|(wrote, read)| wrote == *read), "{when}");
        let reached = loaded.entries.last().map_or(op, |last| last.op);
        if place == 0 {
            assert!(op >= told.checkpoint, "{when}: the newest checkpoint is {op}");
            assert!(reached >= told.log, "{when}: the log reaches {reached}");
        }
    }
    assert!(told.checkpoint == 0 || !inventory.candidates.is_empty(), "{when}: nothing is left");
    if inventory.generation > 1 {
        let stale = writer(&store, 1).await;
        assert!(matches!(stale, Err(WriteError::Fenced { .. })), "{when}: a stale writer may go on");
    }
    // And it can be gone on from.
    let mut again =
        writer(&store, inventory.generation.max(1)).await.unwrap_or_else(|e| panic!("{when}: {e}"));
    again.checkpoint(&cut(20), &STATES[&20]).await.unwrap_or_else(|e| panic!("{when}: {e}"));
    again.collect(Duration::ZERO).await.unwrap_or_else(|e| panic!("{when}: {e}"));
    disk.lose_power(Fate::Lost);
    let store = open(disk).unwrap_or_else(|e| panic!("{when}: {e}"));
    let inventory = restore::inventory(&[source("tier", &store)], &LINEAGE.to_string()).await;
    assert_eq!(inventory.candidates.first().map(|c| c.checkpoint_op), Some(20), "{when}: gone on from");
}

fn disk(n: u64, strike: Strike) -> VolatileDisk {
    let disk = VolatileDisk::new();
    disk.strike_at(n, strike);
    disk
}

/// An operation fails, once; the step is tried again, and goes well.
async fn fails_everywhere(strike: Strike) {
    for n in 1.. {
        let disk = disk(n, strike);
        let mut process = Process::new(&disk, Told::default());
        let (mut struck, mut unchecked) = (None, 2);
        for step in LIFE {
            if let Err(error) = process.step(step).await {
                assert!(struck.is_none(), "{struck:?}, and again {step:?}: {error}");
                struck = disk.struck();
                let when = format!("operation {n} ({struck:?}, {step:?} has failed)");
                process.check(&[Fate::Lost], &when).await;
                process.step(step).await.unwrap_or_else(|e| panic!("{when}: tried again: {e}"));
            }
            struck = disk.struck();
            // What is told right after it is what it may have made a lie.
            if struck.is_some() && unchecked > 0 {
                unchecked -= 1;
                process
                    .check(&[Fate::Lost, Fate::Torn(n)], &format!("operation {n} ({struck:?}), {step:?}"))
                    .await;
            }
        }
        process.check(&[Fate::Lost], &format!("operation {n} ({struck:?}), at the end")).await;
        if struck.is_none() {
            assert!(n > 200, "only {n} operations were tried");
            return;
        }
    }
}

#[tokio::test]
async fn an_operation_that_fails_makes_nothing_a_lie() {
    fails_everywhere(Strike::Fail).await;
}

#[tokio::test]
async fn an_operation_that_happens_and_fails_makes_nothing_a_lie() {
    fails_everywhere(Strike::FailAfter).await;
}

#[tokio::test]
async fn no_room_makes_nothing_a_lie() {
    fails_everywhere(Strike::NoSpace).await;
}

#[tokio::test]
async fn whenever_the_power_goes_what_was_told_comes_back() {
    for n in 1.. {
        let disk = disk(n, Strike::Stop);
        let mut process = Process::new(&disk, Told::default());
        let mut steps = LIFE.into_iter();
        let ended = loop {
            let Some(step) = steps.next() else { break None };
            if let Err(error) = process.step(step).await {
                assert!(disk.struck().is_some(), "{step:?}: {error}");
                break Some(step);
            }
        };
        let Some(step) = ended else {
            process.check(&[Fate::Lost], "at the end").await;
            assert!(n > 200, "only {n} operations were tried");
            return;
        };
        let when = format!("operation {n} ({}, in {step:?})", disk.struck().unwrap_or_default());
        process.check(&[Fate::Lost, Fate::Kept, Fate::Torn(n), Fate::Torn(!n)], &when).await;
        // Only the process has gone: the next one finds what is not synced, and must not rely upon it.
        disk.restart();
        let mut next = Process::new(&disk, process.told);
        next.step(step).await.unwrap_or_else(|e| panic!("{when}: the next process: {e}"));
        next.check(&[Fate::Lost, Fate::Torn(n)], &format!("{when}, done by the next process")).await;
    }
}
