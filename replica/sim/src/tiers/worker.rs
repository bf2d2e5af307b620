//! A process's end of one tier: as the chain does it, one task after the other, and after a failure nothing that was known
//! of the tier counts any more.

use super::LINEAGE;
use super::place::{Medium, open};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::Snapshot;
use vr_checkpoint::format::LogEntry;
use vr_checkpoint::restore::Source;
use vr_checkpoint::store::ObjectStore;
use vr_checkpoint::store::fault::FaultStore;
use vr_checkpoint::writer::{Beginning, Cut, Identity, Scrubbed, WriteError, Writer};

/// Who writes where.
pub(super) struct Worker {
    pub(super) replica: u64,
    pub(super) place: usize,
    pub(super) generation: u64,
    pub(super) beginning: Option<Beginning>,
    pub(super) keep: usize,
    /// How many deltas may stand between a page and a whole one.
    pub(super) deltas: usize,
    pub(super) faults: Option<Arc<FaultStore<Arc<dyn ObjectStore>>>>,
    writer: Option<Writer>,
    /// How far the log is on the tier.
    shipped: u64,
}

/// Something to do.
pub(super) enum Task {
    Checkpoint(Box<(Cut, Snapshot)>),
    /// All entries of the generation, of which the tier gets what it lacks.
    Log(Vec<LogEntry>),
    Reserve(i64),
    Collect(Duration),
    /// Reads everything again, and makes whole what is damaged, from these places, of which the first is the own one.
    Scrub(Vec<Source>),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Checkpoint(u64),
    /// The tier has the log through this op; none if it first needs a checkpoint.
    Log(Option<u64>),
    Reserve(i64),
    Collect(usize),
    /// So many objects were made whole, and so many could not be.
    Scrub(usize, usize),
}

impl Task {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Task::Checkpoint(_) => "checkpoint",
            Task::Log(_) => "log",
            Task::Reserve(_) => "reserve",
            Task::Collect(_) => "collect",
            Task::Scrub(_) => "scrub",
        }
    }
}

impl Worker {
    pub(super) fn new(
        replica: u64,
        place: usize,
        generation: u64,
        beginning: Option<Beginning>,
        (keep, deltas): (usize, usize),
    ) -> Worker {
        let (faults, writer, shipped) = (None, None, 0);
        Worker { replica, place, generation, beginning, keep, deltas, faults, writer, shipped }
    }

    /// The process ends; the next one knows nothing.
    pub(super) fn end(&mut self) {
        (self.faults, self.writer) = (None, None);
    }

    /// The tier as this process reaches it.
    pub(super) fn reach(
        &mut self,
        medium: &Medium,
    ) -> Result<Arc<FaultStore<Arc<dyn ObjectStore>>>, WriteError> {
        if self.faults.is_none() {
            self.faults = Some(Arc::new(FaultStore::new(open(medium)?)));
        }
        Ok(self.faults.clone().expect("made a moment ago"))
    }

    /// Does it. `begins`: there is no HEAD yet, and this process may make one.
    pub(super) async fn carry_out(
        &mut self,
        medium: &Medium,
        begins: bool,
        task: Task,
    ) -> Result<Done, WriteError> {
        let done = self.try_to(medium, begins, task).await;
        if done.is_err() {
            self.writer = None;
        }
        done
    }

    async fn try_to(&mut self, medium: &Medium, begins: bool, task: Task) -> Result<Done, WriteError> {
        let store: Arc<dyn ObjectStore> = self.reach(medium)?;
        if self.writer.is_none() {
            let identity = Identity { lineage: LINEAGE, generation: self.generation, replica: self.replica };
            let beginning = self.beginning.clone();
            let mut writer = Writer::open(store.clone(), identity, beginning, begins, self.keep).await?;
            writer.limit_deltas(self.deltas);
            self.shipped = match writer.newest_own().map(|newest| newest.op) {
                Some(newest) => writer.log_reach(newest).await?,
                None => 0,
            };
            self.writer = Some(writer);
        }
        let writer = self.writer.as_mut().expect("opened above");
        Ok(match task {
            Task::Checkpoint(cut) => {
                let (cut, snapshot) = *cut;
                writer.checkpoint(&cut, &snapshot).await?;
                self.shipped = self.shipped.max(cut.op);
                Done::Checkpoint(cut.op)
            }
            Task::Log(entries) => {
                if writer.newest_own().is_none() {
                    return Ok(Done::Log(None));
                }
                let first = entries.first().map_or(0, |entry| entry.op);
                let skip = usize::try_from((self.shipped + 1).saturating_sub(first)).unwrap_or(usize::MAX);
                let lacking = &entries[skip.min(entries.len())..];
                writer.ship_log(lacking).await?;
                self.shipped = lacking.last().map_or(self.shipped, |last| last.op);
                Done::Log(Some(self.shipped))
            }
            Task::Reserve(revision) => {
                writer.reserve(revision).await?;
                Done::Reserve(revision)
            }
            Task::Collect(grace) => Done::Collect(writer.collect(grace).await?),
            Task::Scrub(sources) => {
                let (repaired, left) = scrub(writer, &sources, self.shipped).await?;
                if repaired > 0 && left == 0 {
                    // What was relied upon no more may be again.
                    self.writer = None;
                }
                Done::Scrub(repaired, left)
            }
        })
    }
}

/// Everything at once what the chain does little by little: what was made whole, and what could not be. The log should be
/// there as far as it was `shipped`.
async fn scrub(writer: &mut Writer, sources: &[Source], shipped: u64) -> Result<(usize, usize), WriteError> {
    let mut damaged: BTreeSet<String> = writer.unreadable().clone();
    let mut after = String::new();
    loop {
        match writer.scrub(&after).await {
            Scrubbed::End => break,
            Scrubbed::Unread { error, .. } => return Err(error.into()),
            Scrubbed::Whole { key, .. } => after = key,
            Scrubbed::Damaged { key, .. } => {
                damaged.insert(key.clone());
                after = key;
            }
        }
    }
    let segments = writer.segments().await?;
    let lost = writer.lost(&segments, shipped);
    if !lost.is_empty() && writer.is_newest().await? {
        damaged.extend(lost);
    }
    for range in segments {
        match writer.scrub_segment(range).await {
            Scrubbed::End | Scrubbed::Whole { .. } => {}
            Scrubbed::Unread { error, .. } => return Err(error.into()),
            Scrubbed::Damaged { key, .. } => drop(damaged.insert(key)),
        }
    }
    writer.distrust(&damaged);
    damaged.retain(|key| writer.needs(key) || writer.unreadable().contains(key));
    let mut keys: Vec<String> = damaged.into_iter().collect();
    keys.sort_by_key(|key| !key.ends_with(".idx"));
    let all = keys.len();
    let mut left = 0;
    for key in keys {
        left += usize::from(writer.repair(&key, &sources[0], sources).await?.is_err());
    }
    if all == 0 {
        writer.scrub_ended().await?;
    }
    Ok((all - left, left))
}
