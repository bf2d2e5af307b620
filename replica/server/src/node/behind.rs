//! How far the tiers are behind what is committed, and what becomes of clients' writes meanwhile.
//!
//! A tier is as far as the replica that is furthest with it: after a total loss any of them can be restored from. What
//! the others hold they say once a second; how old it is, each replica judges by its own clock and by when it saw its own
//! commits, so no two clocks are compared. A write is let in, delayed or refused by plain fields of memory; what was let
//! in is never held up, and reads, heartbeats, view changes and what the replicas write themselves do not come by here.

use super::Node;
use super::gateway::Failure;
use super::tiers::{tier_kind, tier_name};
use crate::config::{OnLag, Tiers};
use crate::status::TierReport;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use vr_checkpoint::restore::TierKind;
use vr_core::ReplicaId;
use vr_proto::control as pb;

/// Commits remembered with their time; beyond it every second one is let go of.
const COMMITS: usize = 4096;
/// A slowed write that would wait for longer is refused.
const LONGEST: Duration = Duration::from_secs(2);
/// Bytes of a write that count as one more.
const UNIT: usize = 4096;
/// Slowed writes a second of one replica's clients: at half the limit, for each half more a hundredth, and at least.
const RATES: (f64, f64) = (10_000.0, 10.0);

/// Whether clients' writes are let in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Open,
    /// One after the other, each so long after the one before.
    Slow {
        each: Duration,
        next: Instant,
        why: Late,
    },
    Shut(Late),
}

/// Which tier is behind, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Late {
    kind: TierKind,
    lag: Duration,
    limit: Duration,
}

/// See the module.
pub(super) struct Behind {
    on_lag: OnLag,
    tiers: Vec<Tier>,
    /// An op, and when this replica saw that at least it is committed; oldest first.
    commits: VecDeque<(u64, Instant)>,
    gate: Gate,
    delayed: u64,
    refused: u64,
}

/// The newest ops that a restore from tiers of one kind could reach.
struct Tier {
    kind: TierKind,
    limit: Duration,
    own: u64,
    others: BTreeMap<ReplicaId, u64>,
}

impl Tier {
    /// On the one that is furthest.
    fn furthest(&self) -> u64 {
        self.others.values().copied().fold(self.own, u64::max)
    }

    /// On this replica's; there is one object store for all.
    fn here(&self) -> u64 {
        if self.kind == TierKind::ObjectStore { self.furthest() } else { self.own }
    }
}

impl Behind {
    pub(super) fn new(tiers: &Tiers) -> Behind {
        let limit = |cadence: &crate::config::Cadence| cadence.lag_limit;
        let limits = [
            (TierKind::Nvme, tiers.nvme.as_ref().map(|t| limit(&t.cadence))),
            (TierKind::Volume, tiers.volume.as_ref().map(|t| limit(&t.cadence))),
            (TierKind::ObjectStore, tiers.object_store.as_ref().map(|t| limit(&t.cadence))),
        ];
        let tier = |(kind, limit)| Tier { kind, limit, own: 0, others: BTreeMap::new() };
        Behind {
            on_lag: tiers.on_lag,
            tiers: limits.into_iter().filter_map(|(kind, limit)| Some(tier((kind, limit?)))).collect(),
            commits: VecDeque::new(),
            gate: Gate::Open,
            delayed: 0,
            refused: 0,
        }
    }

    fn tier(&mut self, kind: TierKind) -> Option<&mut Tier> {
        self.tiers.iter_mut().find(|tier| tier.kind == kind)
    }

    /// What a peer's tier holds.
    fn learn(&mut self, from: ReplicaId, kind: TierKind, op: u64) {
        if let Some(tier) = self.tier(kind) {
            tier.others.insert(from, op);
        }
    }

    /// Time since the first commit that what ends with `op` lacks.
    fn lag(&self, op: u64, now: Instant) -> Duration {
        let first = self.commits.partition_point(|(committed, _)| *committed <= op);
        self.commits.get(first).map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }

    /// What is committed by now and what this replica's own tiers hold.
    fn look(&mut self, now: Instant, commit: u64, own: &[(TierKind, u64)], peers: &[ReplicaId]) {
        for (kind, op) in own {
            if let Some(tier) = self.tier(*kind) {
                tier.own = *op;
                tier.others.retain(|peer, _| peers.contains(peer));
            }
        }
        if self.commits.back().is_none_or(|(newest, _)| *newest < commit) {
            self.commits.push_back((commit, now));
        }
        let held = self.tiers.iter().map(Tier::here).min().unwrap_or(u64::MAX);
        while self.commits.front().is_some_and(|(op, _)| *op <= held) {
            self.commits.pop_front();
        }
        if self.commits.len() > COMMITS {
            let mut place = 0..;
            self.commits.retain(|_| place.next().is_some_and(|place| place % 2 == 0));
        }
        self.judge(now);
    }

    fn judge(&mut self, now: Instant) {
        let late =
            |tier: &Tier| Late { kind: tier.kind, lag: self.lag(tier.furthest(), now), limit: tier.limit };
        let share = |late: &Late| late.lag.as_secs_f64() / late.limit.as_secs_f64();
        let worst = self.tiers.iter().map(late).max_by(|a, b| share(a).total_cmp(&share(b)));
        let Some(worst) = worst else { return };
        let share = share(&worst);
        let gate = match (self.on_lag, self.gate) {
            (OnLag::Alert, _) => Gate::Open,
            (OnLag::Throttle, before) if share > 0.5 => {
                let rate = (RATES.0 * 100f64.powf(1.0 - 2.0 * share)).max(RATES.1);
                let next = if let Gate::Slow { next, .. } = before { next } else { now };
                Gate::Slow { each: Duration::from_secs_f64(rate.recip()), next, why: worst }
            }
            // It opens at half the limit, so as not to open and shut again at each look.
            (OnLag::Block, before) if share > 1.0 || (share > 0.5 && matches!(before, Gate::Shut(_))) => {
                Gate::Shut(worst)
            }
            _ => Gate::Open,
        };
        let (tier, behind) = (tier_name(worst.kind), worst.lag.as_secs());
        match (&self.gate, &gate) {
            (Gate::Open, Gate::Slow { .. }) => {
                tracing::warn!(
                    tier,
                    behind,
                    limit = worst.limit.as_secs(),
                    "writes are slowed: a tier is behind"
                );
            }
            (Gate::Open, Gate::Shut(_)) => {
                tracing::error!(
                    tier,
                    behind,
                    limit = worst.limit.as_secs(),
                    "writes are refused: a tier is behind"
                );
            }
            (Gate::Slow { .. } | Gate::Shut(_), Gate::Open) => {
                tracing::info!(
                    delayed = self.delayed,
                    refused = self.refused,
                    "the tiers have caught up: writes go on as ever"
                );
            }
            _ => {}
        }
        self.gate = gate;
    }

    /// How long a write that counts as so many has to wait before it is let in.
    ///
    /// # Errors
    /// [`Failure::Behind`], and [`Failure::NotExecuted`] where it would be longer than `longest`.
    fn admit(&mut self, now: Instant, units: u32, longest: Duration) -> Result<Duration, Failure> {
        let refusal = match &mut self.gate {
            Gate::Open => return Ok(Duration::ZERO),
            Gate::Slow { each, next, .. } => {
                let wait = next.saturating_duration_since(now);
                if wait <= longest {
                    *next = (*next).max(now) + each.saturating_mul(units);
                    self.delayed += u64::from(wait > Duration::ZERO);
                    return Ok(wait);
                }
                Failure::NotExecuted
            }
            Gate::Shut(_) => Failure::Behind,
        };
        self.refused += 1;
        Err(refusal)
    }
}

impl Node {
    /// How far the tiers are by now.
    pub(super) fn watch_tiers(&mut self) {
        let own = self.tiering.recovery_ops();
        self.behind.look(Instant::now(), self.executed().0, &own, &self.links.ids());
    }

    /// How long a client's write of so many bytes has to wait before it may be submitted.
    ///
    /// # Errors
    /// [`Failure::Behind`], and [`Failure::NotExecuted`] where it would be too long.
    pub(super) fn let_in(&mut self, bytes: usize) -> Result<Duration, Failure> {
        // The usual case looks at no clock.
        if self.behind.gate == Gate::Open {
            return Ok(Duration::ZERO);
        }
        self.behind.admit(Instant::now(), units(bytes), LONGEST)
    }

    /// Whether a client that asks again by itself may write these now.
    pub(super) fn lets_in_now<'a>(&mut self, mut bodies: impl Iterator<Item = &'a Bytes>) -> bool {
        if self.behind.gate == Gate::Open {
            return true;
        }
        let units = bodies.try_fold(0u32, |sum, body| sum.checked_add(units(body.len()))).unwrap_or(u32::MAX);
        self.behind.admit(Instant::now(), units, Duration::ZERO).is_ok()
    }

    /// What a client is told whose write is refused.
    #[must_use]
    pub fn refuses(&self) -> String {
        let why = match &self.behind.gate {
            Gate::Open => return "etcdserver: too many requests".to_owned(),
            Gate::Slow { why, .. } | Gate::Shut(why) => why,
        };
        format!(
            "etcdserver: writes are refused while tier {} is {:.0} s behind, its limit is {:.0} s (tiers.onLag); reads \
             are served",
            tier_name(why.kind),
            why.lag.as_secs_f64(),
            why.limit.as_secs_f64()
        )
    }

    /// 0 where clients' writes are let in, 1 where they are slowed, 2 where they are refused; how many were delayed, and how
    /// many refused.
    #[must_use]
    pub fn admission(&self) -> (u64, u64, u64) {
        let gate = match self.behind.gate {
            Gate::Open => 0,
            Gate::Slow { .. } => 1,
            Gate::Shut(_) => 2,
        };
        (gate, self.behind.delayed, self.behind.refused)
    }

    /// How each tier is.
    #[must_use]
    pub fn tiers(&self) -> Vec<TierReport> {
        let now = Instant::now();
        self.tiering.status(|kind, op| {
            let op = self
                .behind
                .tiers
                .iter()
                .find(|tier| tier.kind == kind)
                .map_or(op, |tier| tier.here().max(op));
            (op, self.behind.lag(op, now))
        })
    }

    /// What a peer is told of this replica's tiers.
    pub(crate) fn recovery_points(&self) -> pb::RecoveryPoints {
        let point = |(kind, op)| pb::RecoveryPoint { tier: tier_name(kind).to_owned(), op };
        pb::RecoveryPoints { tiers: self.tiering.recovery_ops().into_iter().map(point).collect() }
    }

    /// What a peer tells of its own.
    pub(super) fn learn_recovery_points(&mut self, from: ReplicaId, points: &pb::RecoveryPoints) {
        for point in &points.tiers {
            if let Some(kind) = tier_kind(&point.tier) {
                self.behind.learn(from, kind, point.op);
            }
        }
    }
}

/// As how many a write of so many bytes counts.
fn units(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / UNIT).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
