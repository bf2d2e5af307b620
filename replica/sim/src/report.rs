//! What a mode prints: a table for people, one JSON object for programs.

use crate::sweep::Sweep;
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

/// The report of any mode.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `swarm` or `replay`.
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
    /// What broke.
    pub violations: Vec<Violation>,
    /// Counters that should not have stayed at zero.
    pub missed: Vec<String>,
    /// Every counter.
    pub counters: BTreeMap<String, u64>,
}

fn per_second(events: u64, took: Duration) -> u64 {
    (events as f64 / took.as_secs_f64().max(1e-6)) as u64
}

impl Report {
    /// Of a sweep.
    #[must_use]
    pub fn swarm(sweep: Sweep, took: Duration) -> Report {
        let violations = sweep.violations.into_iter();
        Report {
            mode: "swarm",
            seeds: sweep.seeds,
            events: sweep.events,
            events_per_second: per_second(sweep.events, took),
            trace: None,
            violations: violations
                .map(|(seed, broken)| Violation {
                    seed,
                    oracle: broken.oracle.to_owned(),
                    detail: broken.detail,
                })
                .collect(),
            missed: sweep.missed,
            counters: sweep.coverage.named(),
        }
    }

    /// Of one seed.
    #[must_use]
    pub fn replay(outcome: Outcome, took: Duration) -> Report {
        let violation = |broken: crate::oracle::Broken| Violation {
            seed: outcome.seed,
            oracle: broken.oracle.to_owned(),
            detail: broken.detail,
        };
        Report {
            mode: "replay",
            seeds: 1,
            events: outcome.events,
            events_per_second: per_second(outcome.events, took),
            trace: Some(format!("{:016x}", outcome.trace)),
            violations: outcome.broken.map(violation).into_iter().collect(),
            missed: Vec::new(),
            counters: outcome.coverage.named(),
        }
    }

    /// Whether nothing broke and nothing expected was missed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { mode, seeds, events, events_per_second, .. } = self;
        writeln!(f, "{mode}: {seeds} seeds, {events} events, {events_per_second} events/s")?;
        if let Some(trace) = &self.trace {
            writeln!(f, "trace {trace}")?;
        }
        for Violation { seed, oracle, detail } in &self.violations {
            writeln!(f, "seed {seed} broke {oracle}: {detail}")?;
            writeln!(f, "  repeat with: vr-sim replay {seed} --trace")?;
        }
        for name in &self.missed {
            writeln!(f, "never happened: {name}; a sweep that misses it proves less than it claims")?;
        }
        write!(f, "{}", if self.is_good() { "good" } else { "NOT good" })
    }
}
