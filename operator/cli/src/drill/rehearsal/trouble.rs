//! A tier in trouble while the service is used: nobody may notice, the tier says so, and catches up afterwards.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vr_replica::status::{Report as Status, TierReport};

use super::{PATIENCE, POLL, Rehearsal, Step, Stop, errored};
use crate::drill::scenario::Scenario;

/// Seconds that a write to a slow tier waits.
const STALL: u64 = 4;
/// A write that took as long has waited for a tier.
const SLOWEST: Duration = Duration::from_secs(3);
/// How far behind a tier must be seen to be slow.
const LAG: f64 = 2.0;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No disk has room.
    FullDisks,
    /// The object store is out of reach.
    NoObjectStore,
    /// Volumes take seconds for each write.
    SlowVolumes,
}

impl Trouble {
    pub(super) fn of(scenario: Scenario) -> Option<Trouble> {
        match scenario {
            Scenario::DiskFull => Some(Trouble::FullDisks),
            Scenario::S3Outage => Some(Trouble::NoObjectStore),
            Scenario::SlowTier => Some(Trouble::SlowVolumes),
            _ => None,
        }
    }

    fn strikes(self, tier: &str) -> bool {
        match self {
            Trouble::FullDisks => tier != "objectStore",
            Trouble::NoObjectStore => tier == "objectStore",
            Trouble::SlowVolumes => tier == "volume",
        }
    }

    /// Whether this holds of the tiers that have it. Only one replica writes to the object store; the disks are everybody's
    /// own.
    fn holds(self, statuses: &[Status], so: impl Fn(&TierReport) -> bool) -> bool {
        let mut tiers = struck(statuses, self);
        match self {
            Trouble::NoObjectStore => tiers.any(so),
            Trouble::FullDisks | Trouble::SlowVolumes => tiers.all(so),
        }
    }

    /// Whether a tier that has it says so.
    fn is_seen(self, tier: &TierReport) -> bool {
        match self {
            Trouble::FullDisks => tier.error.as_ref().is_some_and(|error| error.contains("make room")),
            Trouble::NoObjectStore => tier.error.is_some(),
            Trouble::SlowVolumes => tier.lag_seconds >= LAG,
        }
    }
}

impl Rehearsal<'_> {
    /// Makes the trouble, writes on, and ends it.
    pub(super) async fn go_through(&mut self, trouble: Trouble) -> Step<()> {
        self.course.begin("trouble");
        self.writers.stretch();
        let began = Instant::now();
        let switches = self.switches(trouble);
        match trouble {
            Trouble::NoObjectStore => self.cluster.kill_object_store().await.map_err(errored)?,
            Trouble::FullDisks | Trouble::SlowVolumes => {
                switches
                    .iter()
                    .try_for_each(|switch| std::fs::write(switch, STALL.to_string()))
                    .map_err(errored)?;
            }
        }
        let seen = self.until(|statuses| trouble.holds(statuses, |tier| trouble.is_seen(tier))).await;
        // Not a wait for anything: the length of the trouble.
        tokio::time::sleep(self.settings.write_on.saturating_sub(began.elapsed())).await;
        let statuses = self.promises.look().await;
        let says = struck(&statuses, trouble).find_map(|tier| tier.error.clone()).unwrap_or_else(|| {
            let lag = struck(&statuses, trouble).map(|tier| tier.lag_seconds).fold(0.0, f64::max);
            format!("{lag:.1} s behind")
        });
        self.course.check("tierSaysSo", seen, says);
        let stretch = self.writers.stretch();
        let goes_on = stretch.acknowledged > 0 && stretch.failed == 0 && stretch.slowest < SLOWEST;
        let detail = format!(
            "{} acknowledged, {} failed in {:.1} s, the slowest took {:.0} ms",
            stretch.acknowledged,
            stretch.failed,
            began.elapsed().as_secs_f64(),
            stretch.slowest.as_secs_f64() * 1e3
        );
        self.course.check("writesGoOn", goes_on, detail);

        self.course.begin("catchUp");
        let commit = statuses.iter().map(|status| status.commit).max().unwrap_or(0);
        let ended = Instant::now();
        match trouble {
            Trouble::NoObjectStore => self.cluster.start_object_store().await.map_err(errored)?,
            Trouble::FullDisks | Trouble::SlowVolumes => {
                switches.iter().try_for_each(std::fs::remove_file).map_err(errored)?;
            }
        }
        let caught_up =
            self.until(|statuses| trouble.holds(statuses, |tier| tier.recovery_op >= commit)).await;
        self.course.check(
            "tierCatchesUp",
            caught_up,
            format!("op {commit} after {:.1} s", ended.elapsed().as_secs_f64()),
        );
        if caught_up {
            Ok(())
        } else {
            Err(Stop::Failed("recoveryPoint", format!("no tier caught up with op {commit}")))
        }
    }

    /// The files that make the disks go wrong.
    fn switches(&self, trouble: Trouble) -> Vec<PathBuf> {
        let layout = self.cluster.layout();
        let lineage = self.cluster.description().lineage.to_string();
        let ids = self.cluster.ids().into_iter();
        match trouble {
            Trouble::NoObjectStore => Vec::new(),
            Trouble::SlowVolumes => ids.map(|id| layout.volume(id).join(&lineage).join("stall")).collect(),
            Trouble::FullDisks => {
                let disks = ids.flat_map(|id| [layout.nvme(id), layout.volume(id)]);
                disks.map(|disk| disk.join(&lineage).join("full")).collect()
            }
        }
    }

    /// Whether this came to hold, with every replica answering.
    async fn until(&self, holds: impl Fn(&[Status]) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statuses = self.promises.look().await;
            if statuses.len() == self.cluster.ids().len() && holds(&statuses) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn struck(statuses: &[Status], trouble: Trouble) -> impl Iterator<Item = &TierReport> {
    statuses.iter().flat_map(|status| &status.tiers).filter(move |tier| trouble.strikes(&tier.tier))
}
