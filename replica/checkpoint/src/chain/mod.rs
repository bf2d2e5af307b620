//! The pipeline below RAM: one thread that takes cuts and committed entries from a replica and keeps every tier as new
//! as its cadence asks.
//!
//! Whoever hands something in never waits: a cut replaces an older one, entries queue up to a bound and beyond it the
//! oldest fall out (the tier then needs a checkpoint before its log leads on; it asks for one). Tiers do not wait for
//! each other: a stalled disk stalls its own tier. Snapshots are dropped here, not on the replica's thread.

mod base;
mod meanwhile;
mod scrub;
mod tail;
mod tier;

use crate::format::Committed;
use crate::restore::{Source, TierKind};
use crate::store::ObjectStore;
use crate::writer::{Beginning, Cut, Frames, Identity, Retention};
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tail::Tail;
use tier::Tier;
use tokio::sync::{Notify, mpsc, oneshot};
use vr_tree::Snapshot;

/// Messages from the replica that the thread has not looked at yet; it always looks soon.
const INBOX: usize = 1 << 16;
/// Frames of a cut that one tier made and another may still copy.
const FRAMES_BYTES: usize = 32 << 20;
/// What a final checkpoint may take.
const FINISH: Duration = Duration::from_secs(20);

/// What other replicas have on their disks: for repairs, of what is whole on no tier of the own chain.
pub trait Others: Send + Sync {
    /// Their disks, as far as they are known now. Reading from them may take as long as their answers do; nothing is ever
    /// written to them.
    fn disks(&self) -> BoxFuture<'_, Vec<Source>>;
}

/// One tier of the chain.
pub struct TierOptions {
    /// Which kind.
    pub kind: TierKind,
    /// Where.
    pub store: Arc<dyn ObjectStore>,
    /// Between two checkpoints.
    pub checkpoint: Duration,
    /// Between two shipments of the log.
    pub log: Duration,
    /// Bytes a second at which the packs of a checkpoint may follow each other; without, as fast as the tier takes them.
    pub rate: Option<u64>,
    /// Checkpoints kept.
    pub keep: Retention,
    /// What nothing retains is deleted after so long.
    pub grace: Duration,
    /// Whether it may be begun where there is no HEAD (at a bootstrap, or on a new disk).
    pub may_create: bool,
}

/// The whole chain.
pub struct Options {
    /// Who writes.
    pub identity: Identity,
    /// How this generation began, unless it is the first.
    pub beginning: Option<Beginning>,
    /// The tiers, fastest first.
    pub tiers: Vec<TierOptions>,
    /// Who else may have what is damaged here.
    pub others: Option<Arc<dyn Others>>,
}

/// How one tier is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStatus {
    /// Op of its newest checkpoint.
    pub checkpoint_op: u64,
    /// Newest op that a restore from it could reach.
    pub recovery_op: u64,
    /// When it was last written, microseconds since the Unix epoch; 0 if never.
    pub success_micros: u64,
    /// Bytes of log that wait for it.
    pub dirty_bytes: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Requests made to it.
    pub requests: u64,
    /// Objects on it that a retained checkpoint needs and that were found damaged.
    pub damaged: u64,
    /// Objects that were found damaged and made whole where they stand.
    pub repaired: u64,
    /// Why its last run failed, if it did.
    pub error: Option<String>,
}

/// A replica's end of the chain. Dropping it ends the thread.
pub struct Chain {
    inbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    kinds: Vec<TierKind>,
    stores: Vec<Arc<dyn ObjectStore>>,
}

enum Message {
    Cut(Arc<Handed>),
    Committed(Committed),
    /// Anything whose destruction should not happen on the replica's thread.
    Drop(Box<dyn std::any::Any + Send>),
    Finish(Option<Arc<Handed>>, oneshot::Sender<Result<(), String>>),
}

/// A cut on its way to the tiers. All of them walk the same state, and what one of them framed another copies.
struct Handed {
    cut: Cut,
    snapshot: Snapshot,
    frames: Frames,
    /// [`Shared::written`] then.
    written: u64,
}

/// Where what is damaged on a tier may be whole.
struct Spares {
    /// All tiers of the chain.
    tiers: Arc<[Source]>,
    others: Option<Arc<dyn Others>>,
}

struct Shared {
    ships_object_store: AtomicBool,
    /// Counts how often this replica became the one that ships: a handover there and back may be too short to be seen.
    turns: AtomicU64,
    wants_cut: AtomicBool,
    /// The revision that shall be reserved.
    reserve: AtomicI64,
    committed: AtomicU64,
    /// About the memory that a snapshot holds beside the state by now which was taken when nothing was committed.
    written: AtomicU64,
    fenced: Mutex<Option<String>>,
    tail: Mutex<Tail>,
    tiers: Vec<TierShared>,
}

#[derive(Default)]
struct TierShared {
    status: Mutex<TierStatus>,
    cut: Mutex<Option<Arc<Handed>>>,
    reserved: AtomicI64,
    /// Newest op that a restore from it could reach.
    recovery_op: AtomicU64,
    /// A checkpoint of at least this op is wanted now, whatever the cadence says.
    wanted: AtomicU64,
    wake: Notify,
    /// About the memory that the state holds alone on which its deltas are made.
    held: AtomicU64,
}

/// These locks are held for a few moves of memory, never across an await, and what they hold is valid at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chain {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(options: Options) -> std::io::Result<Chain> {
        let (inbox, messages) = mpsc::channel(INBOX);
        let kinds: Vec<TierKind> = options.tiers.iter().map(|t| t.kind).collect();
        let stores = options.tiers.iter().map(|t| Arc::clone(&t.store)).collect();
        // An object store that this lineage begins with holds nothing yet that a restore could rewind to, so writes need
        // not wait until it is reached; from then on they do.
        let begins = |t: &TierOptions| t.may_create && t.kind == TierKind::ObjectStore;
        let tier = |t: &TierOptions| TierShared {
            reserved: AtomicI64::new(if begins(t) { i64::MAX } else { 0 }),
            ..TierShared::default()
        };
        let tiers: Vec<TierShared> = options.tiers.iter().map(tier).collect();
        let Identity { lineage, generation, .. } = &options.identity;
        let shared = Arc::new(Shared {
            ships_object_store: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            wants_cut: AtomicBool::new(false),
            reserve: AtomicI64::new(0),
            committed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            fenced: Mutex::new(None),
            tail: Mutex::new(Tail::new(lineage.0, *generation, tiers.len())),
            tiers,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = shared.clone();
        std::thread::Builder::new().name("tiers".to_owned()).spawn(move || {
            // Below the thread that serves, where they share a core.
            let _ = rustix::process::nice(5);
            runtime.block_on(run(options, theirs, messages));
        })?;
        Ok(Chain { inbox, shared, kinds, stores })
    }

    /// The first tier of this kind, to read from.
    #[must_use]
    pub fn store(&self, kind: TierKind) -> Option<Arc<dyn ObjectStore>> {
        let place = self.kinds.iter().position(|k| *k == kind)?;
        Some(Arc::clone(&self.stores[place]))
    }

    /// Hands in a cut.
    pub fn cut(&self, cut: Cut, snapshot: Snapshot) {
        self.shared.wants_cut.store(false, Ordering::Relaxed);
        let _ = self.inbox.try_send(Message::Cut(self.handed((cut, snapshot))));
    }

    fn handed(&self, (cut, snapshot): (Cut, Snapshot)) -> Arc<Handed> {
        let written = self.shared.written.load(Ordering::Relaxed);
        Arc::new(Handed { cut, snapshot, frames: Frames::shared(FRAMES_BYTES), written })
    }

    /// Hands in a committed entry. If the thread is far behind, the entry is left out and the tiers ask for a cut.
    pub fn committed(&self, entry: Committed) {
        self.shared.committed.store(entry.op, Ordering::Relaxed);
        self.shared.written.fetch_add(base::held_by(&entry), Ordering::Relaxed);
        let _ = self.inbox.try_send(Message::Committed(entry));
    }

    /// Destroys something elsewhere.
    pub fn drop_elsewhere(&self, garbage: impl Send + 'static) {
        let _ = self.inbox.try_send(Message::Drop(Box::new(garbage)));
    }

    /// Whether this replica is the one that ships to the object store.
    pub fn ship_to_object_store(&self, ships: bool) {
        let shipped = self.shared.ships_object_store.swap(ships, Ordering::Relaxed);
        if ships && !shipped {
            self.shared.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a tier waits for a cut.
    #[must_use]
    pub fn wants_cut(&self) -> bool {
        self.shared.wants_cut.load(Ordering::Relaxed)
    }

    /// Asks for a checkpoint of at least `op` on the tiers of this kind, as soon as there is a cut. An object store is
    /// written only where this replica ships to it.
    pub fn checkpoint_now(&self, kind: TierKind, op: u64) {
        for (_, tier) in self.kinds.iter().zip(&self.shared.tiers).filter(|(k, _)| **k == kind) {
            tier.wanted.fetch_max(op, Ordering::Relaxed);
            tier.wake.notify_one();
        }
    }

    /// Asks for "no revision above this one was handed out" to be made durable on every tier.
    pub fn reserve(&self, revision: i64) {
        self.shared.reserve.fetch_max(revision, Ordering::Relaxed);
        self.shared.tiers.iter().for_each(|tier| tier.wake.notify_one());
    }

    /// The highest revision that is durably reserved on every tier; unlimited where there is no tier.
    #[must_use]
    pub fn reserved(&self) -> i64 {
        self.shared.tiers.iter().map(|t| t.reserved.load(Ordering::Relaxed)).min().unwrap_or(i64::MAX)
    }

    /// Why this process must stop, once a tier says that its generation is over.
    #[must_use]
    pub fn fenced(&self) -> Option<String> {
        lock(&self.shared.fenced).clone()
    }

    /// How each tier is.
    #[must_use]
    pub fn status(&self) -> Vec<(TierKind, TierStatus)> {
        let tiers = self.kinds.iter().zip(&self.shared.tiers);
        let status = |tier: &TierShared| TierStatus {
            recovery_op: tier.recovery_op.load(Ordering::Relaxed),
            ..lock(&tier.status).clone()
        };
        tiers.map(|(kind, tier)| (*kind, status(tier))).collect()
    }

    /// The newest op that a restore from each tier could reach, as far as is known here: an object store that another
    /// replica writes is looked at now and then, and its checkpoints only.
    pub fn recovery_ops(&self) -> impl Iterator<Item = (TierKind, u64)> {
        let tiers = self.kinds.iter().zip(&self.shared.tiers);
        tiers.map(|(kind, tier)| (*kind, tier.recovery_op.load(Ordering::Relaxed)))
    }

    /// Writes a last checkpoint to the disks (and to the object store where this replica ships), and ends.
    ///
    /// # Errors
    /// Says which disk does not have it.
    pub async fn finish(self, last: Option<(Cut, Snapshot)>) -> Result<(), String> {
        let (done, finished) = oneshot::channel();
        let last = last.map(|last| self.handed(last));
        let sent = self.inbox.send(Message::Finish(last, done)).await;
        if sent.is_err() {
            return Err("the tiers' thread has ended".to_owned());
        }
        finished.await.unwrap_or_else(|_| Err("the tiers' thread has ended".to_owned()))
    }
}

async fn run(options: Options, shared: Arc<Shared>, mut messages: mpsc::Receiver<Message>) {
    let mut tasks = Vec::new();
    let Options { identity, beginning, tiers, others } = options;
    let began = Instant::now();
    let source = |t: &TierOptions| {
        let name = format!("{:?} in {}", t.kind, t.store.describe());
        Source { name, tier: t.kind, store: t.store.clone() }
    };
    let sources: Arc<[Source]> = tiers.iter().map(source).collect();
    for (place, tier) in tiers.into_iter().enumerate() {
        let (stop, stopped) = oneshot::channel();
        let work = Tier::new(
            place,
            tier,
            identity.clone(),
            beginning.clone(),
            shared.clone(),
            Spares { tiers: sources.clone(), others: others.clone() },
            began,
        );
        tasks.push((stop, tokio::spawn(work.run(stopped))));
    }
    while let Some(message) = messages.recv().await {
        match message {
            Message::Cut(cut) => {
                for tier in &shared.tiers {
                    *lock(&tier.cut) = Some(cut.clone());
                    tier.wake.notify_one();
                }
            }
            Message::Committed(entry) => lock(&shared.tail).push(entry),
            Message::Drop(garbage) => drop(garbage),
            Message::Finish(cut, done) => {
                let mut result = Ok(());
                for (stop, task) in std::mem::take(&mut tasks) {
                    let _ = stop.send(cut.clone());
                    let ended = tokio::time::timeout(FINISH, task).await;
                    let ended = ended.unwrap_or_else(|_| Ok(Err("it took too long".to_owned())));
                    result = result.and(ended.unwrap_or_else(|e| Err(e.to_string())));
                }
                let _ = done.send(result);
                return;
            }
        }
    }
}
