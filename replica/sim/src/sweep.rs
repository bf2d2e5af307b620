//! Many seeds on some threads. The result does not depend on how many threads there were.

use crate::coverage::Coverage;
use crate::oracle::Broken;
use crate::plan::{MachineKind, Plan};
use crate::run::run;
use crate::trace::Trace;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A sweep of at least this many seeds must reach every counter; a smaller one may miss the rarest by chance.
pub const SEEDS_FOR_COVERAGE: u64 = 5_000;

/// What a sweep came to.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all worlds.
    pub events: u64,
    /// All counters added up.
    pub coverage: Coverage,
    /// Seeds that broke a rule, ascending.
    pub violations: Vec<(u64, Broken)>,
    /// Counters that stayed at zero, if the sweep was large enough to demand them.
    pub missed: Vec<String>,
}

impl Sweep {
    /// Whether nothing broke and nothing expected was missed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }

    fn add(&mut self, other: Sweep) {
        self.events += other.events;
        self.coverage.add(&other.coverage);
        self.violations.extend(other.violations);
    }
}

/// Plays the seeds `from..from + seeds` out on `jobs` threads; around one machine, or around each seed's own.
#[must_use]
pub fn sweep(from: u64, seeds: u64, jobs: usize, machine: Option<MachineKind>) -> Sweep {
    let next = AtomicU64::new(0);
    let worker = || {
        let mut mine = Sweep::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                return mine;
            }
            let outcome = run(Plan::of(from.wrapping_add(index)).around(machine), Trace::quiet());
            mine.events += outcome.events;
            mine.coverage.add(&outcome.coverage);
            mine.violations.extend(outcome.broken.map(|broken| (outcome.seed, broken)));
        }
    };
    let mut all = Sweep { seeds, ..Sweep::default() };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            all.add(worker.join().expect("panics of a world are outcomes, and the worker itself has none"));
        }
    });
    all.violations.sort_by_key(|(seed, _)| *seed);
    if seeds >= SEEDS_FOR_COVERAGE {
        all.missed = all.coverage.zeros();
        if machine.is_some_and(|machine| machine != MachineKind::Store) {
            all.missed.retain(|name| !name.starts_with("seen.store"));
        }
    }
    all
}
