//! Mutants: every rule broken once on purpose, each of which must be noticed within its budget.
//!
//! It promises that a mutant called killed broke a world that keeps every rule without it. A survivor is explained in
//! [`survives`] or is a hole in what the oracles see.

use crate::oracle::Broken;
use crate::plan::{MS, MembersPlan, Mode, Plan, Sabotage};
use crate::rng::Ppm;
use crate::run::run;
use crate::search::{Bounds, search};
use crate::tiers;
use crate::trace::Trace;
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use vr_checkpoint::mutants::{Mutant as TierMutant, switch as switch_tiers};
use vr_core::mutants::{Mutant, switch};

/// Seeds in which a mutant must be noticed, if nothing else is said.
const BUDGET: u64 = 1500;

/// Seeds tried on a mutant that is known to survive.
const BUDGET_OF_SURVIVORS: u64 = 100;

/// Who breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    /// The core.
    Core(Mutant),
    /// The world, in the place of driver and disks.
    World(Sabotage),
    /// Whoever writes checkpoints and restores them.
    Tiers(TierMutant),
}

const SABOTAGES: &[(Sabotage, &str, &str, &str)] = &[
    (Sabotage::ForgetVotes, "ForgetVotes", "R1", "loses the vote record in a crash"),
    (Sabotage::EarlyVotes, "EarlyVotes", "R1", "says that a promise is durable before it is"),
    (Sabotage::ClaimComplete, "ClaimComplete", "R5", "starts as if nothing were lost"),
    (Sabotage::MarkerKept, "MarkerKept", "R7", "starts twice from the marker of one clean stop"),
    (Sabotage::SameIncarnation, "SameIncarnation", "R20", "starts again under the same incarnation"),
    (Sabotage::FirstVote, "FirstVote", "R1", "believes the first device that has a vote record"),
    (Sabotage::EmptyReads, "EmptyReads", "reads", "shows readers what was there before anything was written"),
    (Sabotage::CorruptExecution, "CorruptExecution", "roots", "executes a request twice on one replica"),
];

/// Seeds for those that are hard to notice: about ten times what it took.
fn budget(name: &str) -> u64 {
    match name {
        _ if survives(name).is_some() => BUDGET_OF_SURVIVORS,
        "AnyNonce" | "LongestLog" | "AlwaysNormal" => 15_000,
        "TruncateFirst" => 30_000,
        "AbandonedCounts" | "GraceIgnored" | "OlderHeadOverlooked" => 15_000,
        "InheritedReads" | "LateStart" | "AcksOfAllBallots" => 5_000,
        _ => BUDGET,
    }
}

/// Why a mutant may survive.
fn survives(name: &str) -> Option<&'static str> {
    const SURVIVORS: &[(&str, &str)] = &[
        (
            "ReliesOnGone",
            "what another writer lets go of while a task is under way stays for the grace, which is longer than a task \
             (without it: tests/tiers/crashes.rs)",
        ),
        (
            "LooseChain",
            "within a ballot a backup is sent its primary's log only, and what crosses ballots is compared by digest \
             before it is staged",
        ),
        (
            "WrongDigest",
            "whoever is Normal in the primary's ballot acknowledges a prefix of the primary's log",
        ),
    ];
    SURVIVORS.iter().find(|(survivor, _)| *survivor == name).map(|(_, why)| *why)
}

/// Those that only show where the members change.
const CHANGING: &[&str] = &[
    "JoinerUnasked",
    "SwapUnchecked",
    "AfterTheEnd",
    "ActsWithoutLog",
    "LearnersCount",
    "UnreadyPromoted",
    "ReleasedByOne",
    "EpochUntold",
    "OrderKept",
];

/// What became of a mutant.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Its name.
    pub name: &'static str,
    /// The rule that it breaks, or the fault that shows it.
    pub rule: &'static str,
    /// How.
    pub what: &'static str,
    /// Whether it was noticed.
    pub killed: bool,
    /// The oracle that noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oracle: Option<&'static str>,
    /// The seed in which it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Steps of worlds until then, or of all its worlds.
    pub events: u64,
    /// Seeds that it had; 0 for one that is searched for.
    pub budget: u64,
    /// Why it may survive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survives: Option<&'static str>,
}

impl Verdict {
    /// Whether it is a hole: a broken rule that nobody noticed and nobody can explain.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        !self.killed && self.survives.is_none()
    }
}

fn all() -> Vec<(Breaker, [&'static str; 3])> {
    let core = Mutant::ALL.iter().map(|&mutant| {
        let (name, rule, what) = mutant.described();
        (Breaker::Core(mutant), [name, rule, what])
    });
    let world = SABOTAGES.iter().map(|&(rule, name, of, what)| (Breaker::World(rule), [name, of, what]));
    let tiers = TierMutant::ALL.iter().map(|&mutant| {
        let (name, fault, what) = mutant.described();
        (Breaker::Tiers(mutant), [name, fault, what])
    });
    core.chain(world).chain(tiers).collect()
}

/// The world of a seed, made more likely to show what this mutant does.
fn suited(name: &str, seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    if name == "AcksOfAllBallots" {
        // Among three, one acknowledgement commits: only more can have any that a later view does not take over. And
        // whoever counts it must not have started anew.
        plan.replicas = 5;
        plan.faults.crash = 0;
        plan.faults.clean_stop = 0;
        plan.faults.crash_voting = Ppm(0);
        plan.faults.crash_mid_step = Ppm(0);
        plan.members = MembersPlan::default();
        plan.faulty *= 2;
        plan.faults.partition = 2 * plan.options.view_timeout;
        plan.faults.one_way = 3 * plan.options.view_timeout;
        // Many small entries on their way at once.
        plan.options.pipeline = 8;
        plan.options.batch_bytes = 200;
        plan.load.clients = 8;
        plan.load.think = MS;
    }
    if name == "LateStart" {
        // A start of a view that arrives after a clean stop and a start in the same view.
        plan.faults.clean_stop = 60 * MS;
        plan.faults.down_for = 30 * MS;
        plan.network.hold = Ppm(50_000);
        plan.network.hold_for = 300 * MS;
    }
    if name == "AnyNonce" {
        // A rare story, and rarer still where members change.
        plan.members = MembersPlan::default();
        plan.load.sessions = 0;
    }
    if name.starts_with("Lease") {
        // Old primaries that nobody tells of the new one while their clients go on reading, of few keys.
        plan.members = MembersPlan { read_lease: 3 * plan.options.view_timeout, ..MembersPlan::default() };
        plan.replicas = 3;
        plan.drift = Ppm(0);
        plan.faults.freeze = 0;
        plan.faults.partition = 6 * plan.options.view_timeout;
        plan.load.clients = 8;
        plan.load.think = 2 * MS;
        plan.load.reads = Ppm(600_000);
        plan.load.keys = 1;
    }
    if name == "SpanIgnored" {
        plan.members.domains = 2;
    }
    if CHANGING.contains(&name) {
        // Members that change in every world, disks that are lost in every other.
        plan.mode = Mode::Safety;
        plan.faults.majority_at = 0;
        plan.members = MembersPlan {
            spares: 3,
            propose: plan.faulty / 16,
            hand_off: 0,
            lose_disk: plan.faulty / 6 * (seed % 2),
            remember: 0,
            domains: 0,
            read_lease: 0,
        };
    }
    plan
}

/// Plays a seed out, with the rule of this breaker `broken` or kept.
fn play(name: &str, seed: u64, breaker: Breaker, broken: bool) -> (u64, Option<Broken>) {
    if let Breaker::Tiers(mutant) = breaker {
        let mutant = broken.then_some(mutant);
        let outcome = tiers::play(seed, tiers::Story::quiet(), move || switch_tiers(mutant));
        switch_tiers(None);
        return (outcome.steps, outcome.broken);
    }
    let mut plan = suited(name, seed);
    match breaker {
        Breaker::Core(mutant) if broken => switch(Some(mutant)),
        Breaker::World(rule) if broken => plan.sabotage = Some(rule),
        _ => {}
    }
    let outcome = run(plan, Trace::quiet());
    switch(None);
    (outcome.events, outcome.broken)
}

/// The one that random worlds hardly ever show: all that can happen in a few steps is tried.
fn search_for(mutant: Mutant, verdict: Verdict) -> Verdict {
    let bounds = Bounds {
        timeouts: 2,
        crashes: 1,
        writes: 1,
        changes: 0,
        overtakes: 0,
        steps: 11,
        standings: false,
        slow_votes: false,
        without_votes: false,
        mutant: Some(mutant),
    };
    let found = search(&bounds, 1);
    let oracle = found.broken.map(|(broken, _)| broken.oracle);
    let sound = search(&Bounds { mutant: None, ..bounds }, 1).broken.is_none();
    Verdict { killed: oracle.is_some() && sound, oracle, events: found.steps, budget: 0, ..verdict }
}

fn hunt(breaker: Breaker, [name, rule, what]: [&'static str; 3], from: u64) -> Verdict {
    let (budget, survives) = (budget(name), survives(name));
    let mut verdict =
        Verdict { name, rule, what, killed: false, oracle: None, seed: None, events: 0, budget, survives };
    if let Breaker::Core(mutant @ Mutant::PaperRecovery) = breaker {
        return search_for(mutant, verdict);
    }
    for seed in from..from + budget {
        let (events, broken) = play(name, seed, breaker, true);
        verdict.events += events;
        let Some(broken) = broken else { continue };
        // What breaks without it says nothing about it.
        if play(name, seed, breaker, false).1.is_none() {
            (verdict.killed, verdict.oracle, verdict.seed) = (true, Some(broken.oracle), Some(seed));
            break;
        }
    }
    verdict
}

/// The core's mutant of this name, however it is written: `PaperRecovery` or `paper-recovery`.
#[must_use]
pub fn named(name: &str) -> Option<Mutant> {
    let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
    Mutant::ALL.iter().copied().find(|mutant| plain(mutant.described().0) == plain(name))
}

/// Hunts all mutants (or those of whose names this is a part) on `jobs` threads, in worlds from the seed `from` on.
#[must_use]
pub fn hunt_all(from: u64, jobs: usize, only: &str) -> Vec<Verdict> {
    let mut mutants = all();
    mutants.retain(|(_, [name, ..])| name.contains(only));
    let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(&(breaker, described)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = hunt(breaker, described, from);
                    verdicts.lock().expect("no hunter panics while it reports").push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no hunter panics while it reports");
    let place = |name| mutants.iter().position(|(_, [known, ..])| *known == name);
    verdicts.sort_by_key(|verdict| place(verdict.name));
    verdicts
}
