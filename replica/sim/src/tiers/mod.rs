//! A seeded world of tiers: the very code that writes, collects, repairs and restores checkpoints, on disks and a bucket
//! that do what the real ones do on their worst day, while the memory of everybody is lost again and again.
//!
//! The state is the real store's, and what is committed is simply true ([`truth`]): how it came to be is the other
//! worlds' concern. Disks lose what was not synced, tear, rot, lie, fill up and vanish; the bucket refuses, loses
//! requests and answers, and has several writers, of which some belong to clusters that were given up. Between any two
//! requests of one task others may run.
//!
//! It promises that equal seeds tell equal stories. Objects have random names, and times are those of this machine: no
//! decision hangs on either.

mod heal;
mod look;
mod loss;
mod place;
mod race;
mod tally;
mod trouble;
mod truth;
mod worker;
mod world;

use crate::oracle::Broken;
use crate::run::{caught, keep_panics};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tally::EXPECTED;
use tokio::runtime::{Builder, Runtime};
use vr_checkpoint::writer::Lineage;
use world::World;

pub use tally::Story;

const LINEAGE: Lineage = Lineage([9; 16]);

/// What nothing retains is deleted after so many seconds by the store's own clock: more than the longest task takes.
const GRACE: u64 = 5_000;

/// A sweep of at least this many seeds must meet everything that is expected.
pub const SEEDS_FOR_COVERAGE: u64 = 1_000;

/// What became of one seed.
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Tasks, faults and losses.
    pub steps: u64,
    /// [`Story::hash`].
    pub story: u64,
    /// How often what happened.
    pub counters: BTreeMap<&'static str, u64>,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
}

/// What a sweep came to.
#[derive(Default)]
pub struct Sweep {
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all of them.
    pub steps: u64,
    /// All counters added up.
    pub counters: BTreeMap<&'static str, u64>,
    /// Seeds that broke a promise, ascending.
    pub violations: Vec<(u64, Broken)>,
    /// What should have happened and has not.
    pub missed: Vec<&'static str>,
}

/// Plays the seeds `from..from + seeds` out on `jobs` threads.
#[must_use]
pub fn sweep(from: u64, seeds: u64, jobs: usize) -> Sweep {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Sweep { seeds, ..Sweep::default() }));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        return;
                    }
                    let outcome = play(from.wrapping_add(index), Story::quiet(), || {});
                    let mut all = all.lock().expect("nobody panics while it adds up");
                    all.steps += outcome.steps;
                    for (name, count) in outcome.counters {
                        *all.counters.entry(name).or_default() += count;
                    }
                    all.violations.extend(outcome.broken.map(|broken| (outcome.seed, broken)));
                }
            });
        }
    });
    let mut all = all.into_inner().expect("nobody panics while it adds up");
    all.violations.sort_by_key(|(seed, _)| *seed);
    if seeds >= SEEDS_FOR_COVERAGE {
        all.missed = EXPECTED.iter().copied().filter(|name| !all.counters.contains_key(name)).collect();
    }
    all
}

/// Plays one seed out, and tells its story.
#[must_use]
pub fn alone(seed: u64, story: Story) -> Sweep {
    let Outcome { steps, counters, broken, .. } = play(seed, story, || {});
    let violations = broken.map(|broken| (seed, broken)).into_iter().collect();
    Sweep { seeds: 1, steps, counters, violations, missed: Vec::new() }
}

/// Plays one seed out. `on_thread` is called on every thread that takes part.
#[must_use]
pub fn play(seed: u64, story: Story, on_thread: impl Fn() + Clone + Send + Sync + 'static) -> Outcome {
    keep_panics();
    let played = caught(|| {
        on_thread();
        let runtime = runtime(on_thread);
        let mut world = World::new(seed, story);
        let broken = runtime.block_on(world.play()).err();
        if let Some(broken) = &broken {
            world.story.tell("broke", &broken.to_string());
        }
        Outcome { seed, steps: world.steps, story: world.story.hash(), counters: world.tally, broken }
    });
    played.unwrap_or_else(|said| Outcome {
        seed,
        steps: 0,
        story: 0,
        counters: BTreeMap::new(),
        broken: Some(Broken::new("never-panics", said)),
    })
}

/// One thread that decides and one that waits for disks: what is asked first is done first.
fn runtime(on_thread: impl Fn() + Send + Sync + 'static) -> Runtime {
    let mut builder = Builder::new_current_thread();
    let built = builder.enable_time().max_blocking_threads(1).on_thread_start(on_thread).build();
    built.expect("a thread more")
}
