//! A small sweep in every test run, and the proof that the oracles see broken rules.

use vr_sim::plan::{Mode, Plan, Sabotage};
use vr_sim::run::{run, run_seed};
use vr_sim::sweep::sweep;
use vr_sim::trace::Trace;

#[test]
fn a_few_hundred_worlds_keep_every_rule() {
    let sweep = sweep(0, 300, 2, None);
    let told: Vec<_> =
        sweep.violations.iter().map(|(seed, broken)| format!("seed {seed}: {broken}")).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(sweep.events > 500_000, "{} events are too few to mean anything", sweep.events);
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in [3, 17, 40] {
        let (first, second) = (run_seed(seed), run_seed(seed));
        assert_eq!((first.trace, first.events, first.time), (second.trace, second.events, second.time));
        assert_eq!(first.coverage, second.coverage);
        assert_ne!(first.trace, run_seed(seed + 1).trace);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (one, two) = (sweep(100, 20, 1, None), sweep(100, 20, 2, None));
    assert_eq!((one.events, &one.coverage), (two.events, &two.coverage));
}

/// The first seed in which a sabotaged world is caught.
fn caught(sabotage: Sabotage, budget: u64) -> Option<(u64, &'static str)> {
    (0..budget).find_map(|seed| {
        let plan = Plan { sabotage: Some(sabotage), ..Plan::of(seed) };
        if plan.mode == Mode::Loss {
            return None;
        }
        run(plan, Trace::quiet()).broken.map(|broken| (seed, broken.oracle))
    })
}

#[test]
fn a_start_that_claims_memory_it_lost_is_caught() {
    assert!(caught(Sabotage::ClaimComplete, 200).is_some());
}

#[test]
fn a_vote_that_is_called_durable_too_early_is_caught() {
    assert!(caught(Sabotage::EarlyVotes, 200).is_some());
}

#[test]
fn a_machine_that_computes_something_else_is_caught() {
    assert!(caught(Sabotage::CorruptExecution, 20).is_some());
}
