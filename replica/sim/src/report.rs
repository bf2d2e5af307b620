//! What a mode prints: a table for people, one JSON object for programs.

use crate::oracle::Broken;
use crate::search::Found;
use crate::sweep::Sweep;
use crate::tiers;
use crate::world::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A seed that broke a rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which.
    pub seed: u64,
    /// The oracle that saw it.
    pub oracle: String,
    /// What it saw.
    pub detail: String,
}

impl Violation {
    fn of((seed, Broken { oracle, detail }): (u64, Broken)) -> Violation {
        Violation { seed, oracle: oracle.to_owned(), detail }
    }
}

/// The report of any mode.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `swarm`, `tiers`, `replay`, `mutants` or `search`.
    pub mode: &'static str,
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all worlds.
    pub events: u64,
    /// Steps per second of real time, all threads together.
    pub events_per_second: u64,
    /// The trace's hash, in hexadecimal (replay only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Different states (search only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<u64>,
    /// The longest story looked at, and whether nothing was left to try (search only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<(u32, bool)>,
    /// The shortest story that breaks a rule (search only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub story: Vec<String>,
    /// What broke.
    pub violations: Vec<Violation>,
    /// Counters that should not have stayed at zero.
    pub missed: Vec<String>,
    /// Every counter.
    pub counters: BTreeMap<String, u64>,
    /// What became of each mutant.
    #[cfg(feature = "mutants")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mutants: Vec<crate::mutants::Verdict>,
}

fn per_second(events: u64, took: Duration) -> u64 {
    (events as f64 / took.as_secs_f64().max(1e-6)) as u64
}

impl Report {
    /// Of a sweep.
    #[must_use]
    pub fn swarm(sweep: Sweep, took: Duration) -> Report {
        Report {
            mode: "swarm",
            seeds: sweep.seeds,
            events: sweep.events,
            events_per_second: per_second(sweep.events, took),
            trace: None,
            states: None,
            depth: None,
            story: Vec::new(),
            violations: sweep.violations.into_iter().map(Violation::of).collect(),
            missed: sweep.missed,
            counters: sweep.coverage.named(),
            #[cfg(feature = "mutants")]
            mutants: Vec::new(),
        }
    }

    /// Of worlds of tiers.
    #[must_use]
    pub fn tiers(sweep: tiers::Sweep, took: Duration) -> Report {
        let named = |(name, count): (&str, u64)| (name.to_owned(), count);
        Report {
            mode: "tiers",
            seeds: sweep.seeds,
            events: sweep.steps,
            events_per_second: per_second(sweep.steps, took),
            trace: None,
            states: None,
            depth: None,
            story: Vec::new(),
            violations: sweep.violations.into_iter().map(Violation::of).collect(),
            missed: sweep.missed.into_iter().map(str::to_owned).collect(),
            counters: sweep.counters.into_iter().map(named).collect(),
            #[cfg(feature = "mutants")]
            mutants: Vec::new(),
        }
    }

    /// Of one seed.
    #[must_use]
    pub fn replay(outcome: Outcome, took: Duration) -> Report {
        Report {
            mode: "replay",
            seeds: 1,
            events: outcome.events,
            events_per_second: per_second(outcome.events, took),
            trace: Some(format!("{:016x}", outcome.trace)),
            states: None,
            depth: None,
            story: Vec::new(),
            violations: outcome
                .broken
                .map(|broken| Violation::of((outcome.seed, broken)))
                .into_iter()
                .collect(),
            missed: Vec::new(),
            counters: outcome.coverage.named(),
            #[cfg(feature = "mutants")]
            mutants: Vec::new(),
        }
    }

    /// Of a search.
    #[must_use]
    pub fn search(found: Found, took: Duration) -> Report {
        let Found { states, steps, depth, exhausted, broken } = found;
        let (broken, story) = broken.unzip();
        Report {
            mode: "search",
            seeds: 0,
            events: steps,
            events_per_second: per_second(steps, took),
            trace: None,
            states: Some(states),
            depth: Some((depth, exhausted)),
            story: story.unwrap_or_default(),
            violations: broken.map(|broken| Violation::of((0, broken))).into_iter().collect(),
            missed: Vec::new(),
            counters: BTreeMap::new(),
            #[cfg(feature = "mutants")]
            mutants: Vec::new(),
        }
    }

    /// Of a hunt for mutants.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn mutants(mutants: Vec<crate::mutants::Verdict>, took: Duration) -> Report {
        let events = mutants.iter().map(|mutant| mutant.events).sum();
        Report {
            mode: "mutants",
            seeds: mutants.iter().map(|mutant| mutant.budget).sum(),
            events,
            events_per_second: per_second(events, took),
            trace: None,
            states: None,
            depth: None,
            story: Vec::new(),
            violations: Vec::new(),
            missed: Vec::new(),
            counters: BTreeMap::new(),
            mutants,
        }
    }

    /// Whether nothing broke, nothing expected was missed, and every mutant is killed or explained.
    #[must_use]
    pub fn is_good(&self) -> bool {
        #[cfg(feature = "mutants")]
        if self.mutants.iter().any(crate::mutants::Verdict::is_hole) {
            return false;
        }
        self.violations.is_empty() && self.missed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { mode, seeds, events, events_per_second, .. } = self;
        if let (Some(states), Some((depth, exhausted))) = (self.states, self.depth) {
            let end = if exhausted { "nothing is left to try" } else { "as far as was asked" };
            writeln!(
                f,
                "{mode}: {states} states, {events} steps, {events_per_second} steps/s, stories of {depth} steps; {end}"
            )?;
        } else {
            writeln!(f, "{mode}: {seeds} seeds, {events} events, {events_per_second} events/s")?;
        }
        self.story.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if let Some(trace) = &self.trace {
            writeln!(f, "trace {trace}")?;
        }
        for Violation { seed, oracle, detail } in &self.violations {
            if self.states.is_some() {
                writeln!(f, "broke {oracle}: {detail}")?;
                continue;
            }
            writeln!(f, "seed {seed} broke {oracle}: {detail}")?;
            let repeat = match self.mode {
                "tiers" => format!("tiers --seeds 1 --from {seed} --trace"),
                _ => format!("replay {seed} --trace"),
            };
            writeln!(f, "  repeat with: vr-sim {repeat}")?;
        }
        #[cfg(feature = "mutants")]
        for mutant in &self.mutants {
            let crate::mutants::Verdict { name, rule, events, budget, what, .. } = mutant;
            let fate = match (mutant.seed, mutant.oracle, mutant.survives) {
                (Some(seed), Some(oracle), _) => format!("killed in seed {seed} by {oracle}"),
                (None, Some(oracle), _) => format!("killed by {oracle}, found by search"),
                (_, _, Some(why)) => format!("survives: {why}"),
                _ => format!("SURVIVES, and nobody knows why: it {what}"),
            };
            writeln!(f, "{name:<20} {rule:<8} {events:>9} events, budget {budget:>5} seeds  {fate}")?;
        }
        for name in &self.missed {
            writeln!(f, "never happened: {name}; a sweep that misses it proves less than it claims")?;
        }
        write!(f, "{}", if self.is_good() { "good" } else { "NOT good" })
    }
}
