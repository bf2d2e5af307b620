//! One tier's work: checkpoints and log at its cadence, reservations, and what to do when something is in the way.

use super::base::{self, Base};
use super::meanwhile::{Meanwhile, Standing};
use super::scrub::Scrub;
use super::tail::Sealed;
use super::{Handed, Shared, Spares, TierOptions, TierShared, lock};
use crate::restore::TierKind;
use crate::store::StoreError;
use crate::writer::{self, Beginning, Identity, WriteError, Writer, now_micros};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// After a failure, doubling up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Between two looks at an object store that another replica writes; the first while a reservation is awaited.
const OBSERVE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Between two attempts to make whole what no tier could help with: it reads every index of every tier.
const REPAIR: Duration = Duration::from_secs(3600);

/// After one that has helped, and not with everything.
const REPAIR_ON: Duration = Duration::from_secs(60);

/// The log on the tier is looked through after so many times of shipping it.
const LISTED: u32 = 60;

/// One tier's work.
pub(super) struct Tier {
    place: usize,
    options: TierOptions,
    identity: Identity,
    beginning: Option<Beginning>,
    shared: Arc<Shared>,
    writer: Option<Writer>,
    /// When the chain began: what is due, is due at whole intervals from then, so that tiers meet at the same cut.
    began: Instant,
    due_checkpoint: Instant,
    due_log: Instant,
    due_list: Instant,
    due_observe: Instant,
    retry: Duration,
    /// The log on the tier leads from its newest checkpoint to here, as far as it was shipped.
    shipped: u64,
    /// And nothing of either is known to be damaged or lost.
    leads: bool,
    scrub: Scrub,
    base: Base,
    spares: Spares,
    /// Something was found damaged and nobody has tried to make it whole.
    found: bool,
    due_repair: Instant,
    /// Something on the tier could not be made whole: the next checkpoint ships it again, and is due now.
    ship_again: bool,
}

type Last = Option<Arc<Handed>>;

impl Tier {
    pub(super) fn new(
        place: usize,
        options: TierOptions,
        identity: Identity,
        beginning: Option<Beginning>,
        shared: Arc<Shared>,
        spares: Spares,
        began: Instant,
    ) -> Tier {
        Tier {
            place,
            scrub: Scrub::new(options.kind),
            base: Base::new(began),
            spares,
            found: false,
            due_repair: began,
            ship_again: false,
            options,
            identity,
            beginning,
            shared,
            writer: None,
            began,
            due_checkpoint: began,
            due_log: began,
            due_list: began,
            due_observe: began,
            retry: RETRY.0,
            shipped: 0,
            leads: true,
        }
    }

    /// The next whole interval since the chain began. A run that took longer has stretched over those before.
    fn next(&self, interval: Duration) -> Instant {
        let passed = self.began.elapsed().as_nanos();
        let behind = u64::try_from(passed % interval.as_nanos().max(1)).unwrap_or(0);
        Instant::now() + interval.saturating_sub(Duration::from_nanos(behind))
    }

    fn mine(&self) -> &TierShared {
        &self.shared.tiers[self.place]
    }

    /// Whether this process writes the tier: its own disks always, the object store if it is the named one.
    fn writes(&self) -> bool {
        self.options.kind != TierKind::ObjectStore || self.shared.ships_object_store.load(Ordering::Relaxed)
    }

    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<Last>) -> Result<(), String> {
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
        let writer = self.writer.take();
        if !self.head_stands(writer.map_or(0, |writer| writer.head().version)).await {
            self.withdraw();
        }
        tokio::time::sleep(self.retry).await;
        self.retry = (self.retry * 2).min(RETRY.1);
    }

    /// Nothing on the tier can be restored.
    fn withdraw(&self) {
        self.mine().recovery_op.store(0, Ordering::Relaxed);
        lock(&self.mine().status).checkpoint_op = 0;
    }

    /// Whether there is a HEAD from which this generation can be restored, at least as new as it was; or whether nobody can
    /// tell at the moment.
    async fn head_stands(&self, version: u64) -> bool {
        match writer::observe(&*self.options.store, &self.identity, self.beginning.as_ref()).await {
            Ok(head) => head.is_some_and(|head| head.version >= version),
            Err(error) => matches!(error, WriteError::Store(StoreError::Transient { .. })),
        }
    }

    /// Does what is due, one after the other.
    async fn look(&mut self) -> Result<(), WriteError> {
        if !self.writes() {
            return self.observe().await;
        }
        if self.writer.is_none() {
            self.open().await?;
        }
        self.reserve().await?;
        if self.found || Instant::now() >= self.due_repair {
            self.repair().await?;
            if self.writer.is_none() {
                // With the next look.
                return Ok(());
            }
        }
        let handed = lock(&self.mine().cut).take();
        self.weigh(handed.as_deref()).await;
        let standing = lock(&self.mine().status).checkpoint_op;
        let wanted = self.mine().wanted.load(Ordering::Relaxed) > standing;
        let gap = lock(&self.shared.tail).has_gap(self.place);
        if Instant::now() >= self.due_checkpoint || gap || wanted || self.ship_again {
            match handed {
                Some(handed) if handed.cut.op > standing => {
                    self.due_checkpoint = self.next(self.options.checkpoint);
                    self.checkpoint(&handed).await?;
                }
                _ if self.ship_again || self.shared.committed.load(Ordering::Relaxed) > standing => {
                    self.shared.wants_cut.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        if Instant::now() >= self.due_log || lock(&self.shared.tail).fills(self.place) {
            self.due_log = self.next(self.options.log);
            lock(&self.shared.tail).due(self.place);
            self.ship_log().await?;
        }
        if Instant::now() >= self.due_list {
            self.due_list = Instant::now() + self.options.log.saturating_mul(LISTED);
            self.list_log().await?;
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if self.scrub.step(writer, Instant::now()).await? {
            self.found = true;
            let segments = writer.segments().await?;
            self.reached(&segments);
        }
        self.report();
        Ok(())
    }

    /// Lets go of the state that deltas are made on where it holds more memory than it may.
    async fn weigh(&mut self, handed: Option<&Handed>) {
        let shared = Arc::clone(&self.shared);
        let (mine, faster) = (&shared.tiers[self.place], &shared.tiers[..self.place]);
        let Some(writer) = self.writer.as_mut().filter(|writer| writer.holds_last()) else {
            return mine.held.store(0, Ordering::Relaxed);
        };
        let taken = faster.iter().map(|tier| tier.held.load(Ordering::Relaxed)).sum();
        let most = self.base.most(taken);
        if let Some(handed) = handed {
            let held = writer.held(&handed.snapshot, most).await;
            self.base.weighed(held, handed.snapshot.bytes(), handed.written, Instant::now());
        }
        let held = self.base.held(shared.written.load(Ordering::Relaxed));
        if held > most {
            tracing::debug!(tier = ?self.options.kind, held, most, "whole pages next: deltas take too much memory");
            writer.forget_last();
            return mine.held.store(0, Ordering::Relaxed);
        }
        mine.held.store(held, Ordering::Relaxed);
        let standing = lock(&mine.status).checkpoint_op;
        if self.base.is_due(Instant::now()) && shared.committed.load(Ordering::Relaxed) > standing {
            shared.wants_cut.store(true, Ordering::Relaxed);
        }
    }

    /// Another replica writes this tier: only see whether this process is fenced, and what is reserved by now.
    async fn observe(&mut self) -> Result<(), WriteError> {
        // What it would need to go on is read when it is its turn.
        self.writer = None;
        self.mine().held.store(0, Ordering::Relaxed);
        lock(&self.mine().cut).take();
        let awaited = {
            let reserved = self.mine().reserved.load(Ordering::Relaxed);
            self.shared.reserve.load(Ordering::Relaxed) > reserved
        };
        let now = Instant::now();
        if now < self.due_observe && !(awaited && now + OBSERVE.1 >= self.due_observe + OBSERVE.0) {
            return Ok(());
        }
        self.due_observe = now + OBSERVE.1;
        // Where there is no HEAD, whoever writes will say so.
        let Some(head) =
            writer::observe(&*self.options.store, &self.identity, self.beginning.as_ref()).await?
        else {
            self.withdraw();
            return Ok(());
        };
        self.mine().reserved.store(head.reserved_revision, Ordering::Relaxed);
        self.has_begun();
        let own = writer::newest_of(&head, self.identity.generation).map_or(0, |r| r.op);
        lock(&self.shared.tail).shipped(self.place, own);
        let mut status = lock(&self.mine().status);
        status.checkpoint_op = own;
        status.error = None;
        drop(status);
        let newest = head.retained.last().map_or(0, |newest| newest.op);
        self.mine().recovery_op.fetch_max(newest, Ordering::Relaxed);
        self.retry = RETRY.0;
        Ok(())
    }

    /// Whether the log still leads from the newest checkpoint to where it was shipped: nobody reads a segment again before it
    /// is needed, and one that is gone is no damage that reading could find.
    async fn list_log(&mut self) -> Result<(), WriteError> {
        let writer = self.writer.as_ref().expect("opened before anything is looked at");
        let segments = writer.segments().await?;
        let lost = writer.lost(&segments, self.shipped);
        if lost.is_empty() {
            return Ok(());
        }
        if !writer.is_newest().await? {
            // Another shipper was here, and may need that log no more: learn anew what the tier has.
            self.writer = None;
            return Ok(());
        }
        self.found |= self.scrub.lost(lost);
        self.reached(&segments);
        Ok(())
    }

    /// Says how far the tier leads, where its log has these segments.
    fn reached(&mut self, segments: &[(u64, u64)]) {
        let writer = self.writer.as_ref().expect("opened before anything is said");
        let reached = self.scrub.reaches(writer, segments);
        self.leads = reached >= self.shipped;
        self.mine().recovery_op.store(reached, Ordering::Relaxed);
    }

    async fn open(&mut self) -> Result<(), WriteError> {
        let (store, identity) = (self.options.store.clone(), self.identity.clone());
        let mut writer = Writer::open(
            store.clone(),
            identity,
            self.beginning.clone(),
            self.options.may_create,
            self.options.keep,
        )
        .await?;
        let own = writer.newest_own().map_or(0, |r| r.op);
        self.shipped = writer.log_reach(own).await?;
        self.mine().reserved.store(writer.head().reserved_revision, Ordering::Relaxed);
        lock(&self.shared.tail).shipped(self.place, self.shipped);
        {
            let mut status = lock(&self.mine().status);
            status.checkpoint_op = own;
            status.error = None;
        }
        writer.limit_rate(self.options.rate);
        writer.limit_deltas(base::DELTAS);
        writer.collect(self.options.grace).await?;
        self.scrub.remind(&mut writer);
        self.found |= !writer.unreadable().is_empty();
        let segments = writer.segments().await?;
        self.writer = Some(writer);
        self.reached(&segments);
        self.has_begun();
        Ok(())
    }

    /// From now on an object store without HEAD is one whose HEAD was deleted: it is not begun again.
    fn has_begun(&mut self) {
        self.options.may_create &= self.options.kind != TierKind::ObjectStore;
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

    async fn checkpoint(&mut self, handed: &Handed) -> Result<(), WriteError> {
        let Handed { cut, snapshot, frames, .. } = handed;
        let began = Instant::now();
        let writer = self.writer.as_mut().expect("opened before anything is written");
        let mut reached = self.shipped;
        let standing = Standing { version: writer.head().version, leads: self.leads };
        let log = Meanwhile::new(
            self.place,
            &self.options,
            &self.identity,
            self.beginning.as_ref(),
            &self.shared,
            standing,
        );
        let written = tokio::select! {
            written = writer.checkpoint_of(cut, snapshot, frames) => written,
            fenced = log.ship(&mut reached) => Err(fenced),
        };
        self.shipped = reached;
        let written = written?;
        self.base.weighed(0, snapshot.bytes(), handed.written, Instant::now());
        let deleted = writer.collect(self.options.grace).await?;
        tracing::info!(
            tier = ?self.options.kind, op = cut.op, pages = written.pages, shipped_pages = written.shipped_pages,
            deltas = written.shipped_deltas, bytes = written.shipped_bytes, deleted,
            ms = began.elapsed().as_millis() as u64, "checkpoint"
        );
        if std::mem::take(&mut self.ship_again) {
            // What older checkpoints lack may stand in newer packs now.
            self.due_repair = Instant::now();
        }
        self.shipped = self.shipped.max(cut.op);
        lock(&self.shared.tail).shipped(self.place, self.shipped);
        let segments = writer.segments().await?;
        self.reached(&segments);
        self.succeeded();
        lock(&self.mine().status).checkpoint_op = cut.op;
        Ok(())
    }

    /// Makes whole what is damaged, from other tiers and from other packs of this one, and what is left then from the disks
    /// of other replicas; the log goes on meanwhile.
    async fn repair(&mut self) -> Result<(), WriteError> {
        self.due_repair = Instant::now() + REPAIR;
        let writer = self.writer.as_mut().expect("opened before anything is written");
        let mut reached = self.shipped;
        let standing = Standing { version: writer.head().version, leads: self.leads };
        let log = Meanwhile::new(
            self.place,
            &self.options,
            &self.identity,
            self.beginning.as_ref(),
            &self.shared,
            standing,
        );
        let repaired = tokio::select! {
            repaired = self.scrub.repair(writer, self.place, &self.spares, &self.shared) => repaired,
            fenced = log.ship(&mut reached) => Err(fenced),
        };
        self.shipped = reached;
        let (repaired, left) = repaired?;
        self.ship_again |= std::mem::take(&mut self.found) && left > 0;
        if repaired > 0 {
            if left > 0 {
                // There may not have been time for all.
                self.due_repair = Instant::now() + REPAIR_ON;
            }
            lock(&self.mine().status).repaired += repaired;
            // What was relied upon no more may be again: learn anew what the tier has.
            self.writer = None;
        }
        Ok(())
    }

    async fn ship_log(&mut self) -> Result<(), WriteError> {
        let mut looked = false;
        loop {
            let next = lock(&self.shared.tail).next(self.place);
            let Some(Sealed { first, last, body }) = next else {
                if !looked {
                    // What is there counts only as long as HEAD is, and nobody may have come by for hours.
                    let writer = self.writer.as_mut().expect("opened before anything is looked at");
                    writer.check_fence().await?;
                }
                return Ok(());
            };
            looked = true;
            let writer = self.writer.as_mut().expect("opened before anything is written");
            writer.ship_segment(first, last, body).await?;
            self.shipped = last;
            lock(&self.shared.tail).shipped(self.place, last);
            self.succeeded();
        }
    }

    fn succeeded(&mut self) {
        self.retry = RETRY.0;
        if self.leads {
            self.mine().recovery_op.fetch_max(self.shipped, Ordering::Relaxed);
        }
        let mut status = lock(&self.mine().status);
        status.success_micros = now_micros();
        status.error = None;
    }

    fn report(&mut self) {
        let usage = self.options.store.usage();
        let dirty = lock(&self.shared.tail).waiting(self.place);
        let damaged = self.writer.as_ref().map_or(0, |writer| self.scrub.damaged(writer));
        let mut status = lock(&self.mine().status);
        (status.requests, status.written_bytes, status.dirty_bytes) = (usage.requests, usage.written, dirty);
        status.damaged = damaged;
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
