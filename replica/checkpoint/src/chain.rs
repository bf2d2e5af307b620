//! The pipeline below RAM: one thread that takes cuts and committed entries from a replica and keeps every tier as new
//! as its cadence asks.
//!
//! Whoever hands something in never waits: a cut replaces an older one, entries queue up to a bound and beyond it the
//! oldest fall out (the tier then needs a checkpoint before its log leads on; it asks for one). Tiers do not wait for
//! each other: a stalled disk stalls its own tier. Snapshots are dropped here, not on the replica's thread.

use crate::format::{LogEntry, Parent};
use crate::restore::TierKind;
use crate::store::ObjectStore;
use crate::writer::{Cut, Identity, WriteError, Writer, now_micros};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use vr_tree::Snapshot;

/// Messages from the replica that the thread has not looked at yet; it always looks soon.
const INBOX: usize = 1 << 16;
/// Committed entries that may wait for one tier.
const LOG_BYTES: usize = 64 << 20;
/// Bytes of entries in one segment.
const SEGMENT_BYTES: usize = 16 << 20;
/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// After a failure, doubling up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// What a final checkpoint may take.
const FINISH: Duration = Duration::from_secs(20);

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
    /// Checkpoints kept.
    pub keep: usize,
    /// What nothing retains is deleted after so long.
    pub grace: Duration,
    /// Whether it may be begun where there is no HEAD (at a bootstrap, or on a new disk).
    pub may_create: bool,
}

/// The whole chain.
pub struct Options {
    /// Who writes.
    pub identity: Identity,
    /// Where this generation began, unless it is the first.
    pub parent: Option<Parent>,
    /// The tiers, fastest first.
    pub tiers: Vec<TierOptions>,
}

/// How one tier is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStatus {
    /// Op of its newest checkpoint.
    pub checkpoint_op: u64,
    /// Newest op that a restore from it could reach.
    pub recovery_op: u64,
    /// Time of that op, microseconds since the Unix epoch.
    pub recovery_micros: u64,
    /// When it was last written, microseconds since the Unix epoch; 0 if never.
    pub success_micros: u64,
    /// Bytes of log that wait for it.
    pub dirty_bytes: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Requests made to it.
    pub requests: u64,
    /// Why its last run failed, if it did.
    pub error: Option<String>,
}

/// A replica's end of the chain. Dropping it ends the thread.
pub struct Chain {
    inbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    kinds: Vec<TierKind>,
}

enum Message {
    Cut(Arc<(Cut, Snapshot)>),
    Committed(LogEntry),
    /// Anything whose destruction should not happen on the replica's thread.
    Drop(Box<dyn std::any::Any + Send>),
    Finish(Option<Arc<(Cut, Snapshot)>>, oneshot::Sender<Result<(), String>>),
}

#[derive(Default)]
struct Shared {
    ships_object_store: AtomicBool,
    /// Counts how often this replica became the one that ships: a handover there and back may be too short to be seen.
    turns: AtomicU64,
    wants_cut: AtomicBool,
    /// The revision that shall be reserved.
    reserve: AtomicI64,
    committed: AtomicU64,
    fenced: Mutex<Option<String>>,
    tiers: Vec<TierShared>,
}

#[derive(Default)]
struct TierShared {
    status: Mutex<TierStatus>,
    pending: Mutex<Pending>,
    reserved: AtomicI64,
    /// A checkpoint of at least this op is wanted now, whatever the cadence says.
    wanted: AtomicU64,
    wake: Notify,
}

#[derive(Default)]
struct Pending {
    log: VecDeque<LogEntry>,
    bytes: usize,
    cut: Option<Arc<(Cut, Snapshot)>>,
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
        // An object store that this lineage begins with holds nothing yet that a restore could rewind to, so writes need
        // not wait until it is reached; from then on they do.
        let begins = |t: &TierOptions| t.may_create && t.kind == TierKind::ObjectStore;
        let tier = |t: &TierOptions| TierShared {
            reserved: AtomicI64::new(if begins(t) { i64::MAX } else { 0 }),
            ..TierShared::default()
        };
        let tiers = options.tiers.iter().map(tier).collect();
        let shared = Arc::new(Shared { tiers, ..Shared::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let theirs = shared.clone();
        std::thread::Builder::new().name("tiers".to_owned()).spawn(move || {
            // Below the thread that serves, where they share a core.
            let _ = rustix::process::nice(5);
            runtime.block_on(run(options, theirs, messages));
        })?;
        Ok(Chain { inbox, shared, kinds })
    }

    /// Hands in a cut.
    pub fn cut(&self, cut: Cut, snapshot: Snapshot) {
        self.shared.wants_cut.store(false, Ordering::Relaxed);
        let _ = self.inbox.try_send(Message::Cut(Arc::new((cut, snapshot))));
    }

    /// Hands in a committed entry. If the thread is far behind, the entry is left out and the tiers ask for a cut.
    pub fn committed(&self, entry: LogEntry) {
        self.shared.committed.store(entry.op, Ordering::Relaxed);
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
        tiers.map(|(kind, tier)| (*kind, lock(&tier.status).clone())).collect()
    }

    /// The newest committed op that was handed in.
    #[must_use]
    pub fn committed_op(&self) -> u64 {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Writes a last checkpoint to the disks (and to the object store where this replica ships), and ends.
    ///
    /// # Errors
    /// Says which disk does not have it.
    pub async fn finish(self, last: Option<(Cut, Snapshot)>) -> Result<(), String> {
        let (done, finished) = oneshot::channel();
        let sent = self.inbox.send(Message::Finish(last.map(Arc::new), done)).await;
        if sent.is_err() {
            return Err("the tiers' thread has ended".to_owned());
        }
        finished.await.unwrap_or_else(|_| Err("the tiers' thread has ended".to_owned()))
    }
}

async fn run(options: Options, shared: Arc<Shared>, mut messages: mpsc::Receiver<Message>) {
    let mut tasks = Vec::new();
    let Options { identity, parent, tiers } = options;
    for (place, tier) in tiers.into_iter().enumerate() {
        let (stop, stopped) = oneshot::channel();
        let work = Tier {
            place,
            writer: None,
            identity: identity.clone(),
            parent: parent.clone(),
            shared: shared.clone(),
            due_checkpoint: Instant::now(),
            due_log: Instant::now(),
            retry: RETRY.0,
            shipped: 0,
            options: tier,
        };
        tasks.push((stop, tokio::spawn(work.run(stopped))));
    }
    while let Some(message) = messages.recv().await {
        match message {
            Message::Cut(cut) => {
                for tier in &shared.tiers {
                    lock(&tier.pending).cut = Some(cut.clone());
                    tier.wake.notify_one();
                }
            }
            Message::Committed(entry) => {
                shared.tiers.iter().for_each(|tier| lock(&tier.pending).push(entry.clone()))
            }
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

impl Pending {
    fn push(&mut self, entry: LogEntry) {
        self.bytes += entry.bytes.len();
        self.log.push_back(entry);
        while self.bytes > LOG_BYTES {
            let Some(oldest) = self.log.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }

    fn forget_through(&mut self, op: u64) {
        while self.log.front().is_some_and(|e| e.op <= op) {
            self.bytes -= self.log.pop_front().map_or(0, |e| e.bytes.len());
        }
    }

    /// Whether there are entries, and they do not go on from `op`.
    fn has_gap_after(&self, op: u64) -> bool {
        self.log.front().is_some_and(|e| e.op > op + 1)
    }

    /// Consecutive entries from `op + 1` on, as many as one segment takes.
    fn segment_after(&mut self, op: u64) -> Vec<LogEntry> {
        self.forget_through(op);
        let (mut next, mut bytes) = (op + 1, 0);
        let fits = |e: &&LogEntry| {
            let taken = e.op == next && bytes < SEGMENT_BYTES;
            (next, bytes) = (e.op + 1, bytes + e.bytes.len());
            taken
        };
        self.log.iter().take_while(fits).cloned().collect()
    }
}

/// One tier's work.
struct Tier {
    place: usize,
    options: TierOptions,
    identity: Identity,
    parent: Option<Parent>,
    shared: Arc<Shared>,
    writer: Option<Writer>,
    due_checkpoint: Instant,
    due_log: Instant,
    retry: Duration,
    /// The log on the tier leads from its newest checkpoint to here.
    shipped: u64,
}

type Last = Option<Arc<(Cut, Snapshot)>>;

impl Tier {
    fn mine(&self) -> &TierShared {
        &self.shared.tiers[self.place]
    }

    /// Whether this process writes the tier: its own disks always, the object store if it is the named one.
    fn writes(&self) -> bool {
        self.options.kind != TierKind::ObjectStore || self.shared.ships_object_store.load(Ordering::Relaxed)
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<Last>) -> Result<(), String> {
        let mut turn = 0;
        loop {
            let last = tokio::select! {
                last = &mut stopped => Some(last),
                () = tokio::time::sleep(LOOK) => None,
                () = async { self.shared.tiers[self.place].wake.notified().await } => None,
            };
            if let Some(last) = last {
                return self.finish(last.ok().flatten()).await;
            }
            let turns = self.shared.turns.load(Ordering::Relaxed);
            if self.options.kind == TierKind::ObjectStore && turns != turn {
                // The other shipper has gone on meanwhile: begin from what is there now.
                self.writer = None;
                turn = turns;
            }
            if let Err(error) = self.look().await {
                self.failed(&error).await;
                if matches!(error, WriteError::Fenced { .. }) {
                    *lock(&self.shared.fenced) = Some(error.to_string());
                    return Err(error.to_string());
                }
            }
        }
    }

    async fn failed(&mut self, error: &WriteError) {
        tracing::warn!(tier = ?self.options.kind, %error, "tier not written");
        lock(&self.mine().status).error = Some(error.to_string());
        // Whatever is known of the tier may be wrong now.
        self.writer = None;
        tokio::time::sleep(self.retry).await;
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Does what is due, one after the other.
    async fn look(&mut self) -> Result<(), WriteError> {
        if self.writer.is_none() {
            self.open().await?;
        }
        self.reserve().await?;
        if !self.writes() {
            return Ok(());
        }
        let gap = lock(&self.mine().pending).has_gap_after(self.shipped);
        let now = Instant::now();
        let wanted = self.mine().wanted.load(Ordering::Relaxed) > lock(&self.mine().status).checkpoint_op;
        if now >= self.due_checkpoint || gap || wanted {
            let cut = lock(&self.mine().pending).cut.take();
            match cut {
                Some(cut) if cut.0.op > lock(&self.mine().status).checkpoint_op => {
                    // The next run is due an interval after this one began; one that takes longer stretches it.
                    self.due_checkpoint = now + self.options.checkpoint;
                    self.checkpoint(&cut).await?;
                }
                _ if self.shared.committed.load(Ordering::Relaxed)
                    > lock(&self.mine().status).checkpoint_op =>
                {
                    self.shared.wants_cut.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        if Instant::now() >= self.due_log {
            self.due_log = Instant::now() + self.options.log;
            self.ship_log().await?;
        }
        self.report();
        Ok(())
    }

    async fn open(&mut self) -> Result<(), WriteError> {
        let (store, identity) = (self.options.store.clone(), self.identity.clone());
        let mut writer = Writer::open(
            store.clone(),
            identity,
            self.parent.clone(),
            self.options.may_create,
            self.options.keep,
        )
        .await?;
        let (op, time) = writer.head().retained.last().map_or((0, 0), |r| (r.op, r.time_micros));
        let own = writer.newest_own().map_or(0, |r| r.op);
        self.shipped = writer.log_reach(own).await?;
        self.mine().reserved.store(writer.head().reserved_revision, Ordering::Relaxed);
        {
            let mut status = lock(&self.mine().status);
            status.checkpoint_op = own;
            status.recovery_op = self.shipped.max(op);
            status.recovery_micros = status.recovery_micros.max(time);
            status.error = None;
        }
        writer.collect(self.options.grace).await?;
        self.writer = Some(writer);
        Ok(())
    }

    async fn reserve(&mut self) -> Result<(), WriteError> {
        let wanted = self.shared.reserve.load(Ordering::Relaxed);
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if wanted > writer.head().reserved_revision {
            writer.reserve(wanted).await?;
        }
        let reserved = writer.head().reserved_revision;
        self.mine().reserved.store(reserved, Ordering::Relaxed);
        Ok(())
    }

    async fn checkpoint(&mut self, cut: &(Cut, Snapshot)) -> Result<(), WriteError> {
        let began = Instant::now();
        let writer = self.writer.as_mut().expect("opened before anything is written");
        let written = writer.checkpoint(&cut.0, &cut.1).await?;
        let deleted = writer.collect(self.options.grace).await?;
        tracing::info!(
            tier = ?self.options.kind, op = cut.0.op, pages = written.pages, shipped_pages = written.shipped_pages,
            bytes = written.shipped_bytes, deleted, ms = began.elapsed().as_millis() as u64, "checkpoint"
        );
        self.shipped = self.shipped.max(cut.0.op);
        lock(&self.mine().pending).forget_through(cut.0.op);
        self.succeeded(cut.0.time_micros);
        lock(&self.mine().status).checkpoint_op = cut.0.op;
        Ok(())
    }

    async fn ship_log(&mut self) -> Result<(), WriteError> {
        loop {
            let entries = lock(&self.mine().pending).segment_after(self.shipped);
            let Some(last) = entries.last() else { return Ok(()) };
            let (op, time) = (last.op, last.time_micros);
            let writer = self.writer.as_mut().expect("opened before anything is written");
            writer.ship_log(&entries).await?;
            self.shipped = op;
            lock(&self.mine().pending).forget_through(op);
            self.succeeded(time);
        }
    }

    fn succeeded(&mut self, time_micros: u64) {
        self.retry = RETRY.0;
        let mut status = lock(&self.shared.tiers[self.place].status);
        status.recovery_op = status.recovery_op.max(self.shipped);
        status.recovery_micros = status.recovery_micros.max(time_micros);
        status.success_micros = now_micros();
        status.error = None;
    }

    fn report(&self) {
        let usage = self.options.store.usage();
        let dirty = lock(&self.mine().pending).bytes as u64;
        let mut status = lock(&self.mine().status);
        (status.requests, status.written_bytes, status.dirty_bytes) = (usage.requests, usage.written, dirty);
    }

    /// The last checkpoint of a clean stop. A disk must have it; the object store should.
    async fn finish(mut self, last: Last) -> Result<(), String> {
        let Some(cut) = last else { return Ok(()) };
        if !self.writes() {
            return Ok(());
        }
        let name = self.options.store.describe();
        let done = async {
            if self.writer.is_none() {
                self.open().await?;
            }
            self.checkpoint(&cut).await
        };
        match done.await {
            Err(error) if self.options.kind != TierKind::ObjectStore => Err(format!("{name}: {error}")),
            Err(error) => {
                tracing::warn!(%error, "the object store does not have the last checkpoint");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
