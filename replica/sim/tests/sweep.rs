//! A small sweep in every test run, and the proof that the oracles see broken rules.

use vr_sim::plan::knobs::Knob;
use vr_sim::plan::{Mode, Plan, Sabotage};
use vr_sim::run::{run, run_seed};
use vr_sim::shrink::shrink;
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

/// The first seed in which a sabotaged world, whose members stay, is caught.
fn caught(sabotage: Sabotage, budget: u64) -> Option<(u64, &'static str)> {
    (0..budget).find_map(|seed| {
        let plan = Plan { sabotage: Some(sabotage), ..Plan::of(seed) };
        if plan.mode == Mode::Loss || plan.members.propose > 0 {
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
fn readers_that_are_shown_the_past_are_caught() {
    let (_, oracle) = caught(Sabotage::EmptyReads, 20).expect("clients notice");
    assert_eq!(oracle, "clients-agree", "only clients can notice");
}

#[test]
fn a_failing_world_is_made_small_and_can_be_repeated() {
    let (seed, oracle) = caught(Sabotage::EarlyVotes, 200).expect("it is caught");
    let plan = Plan { sabotage: Some(Sabotage::EarlyVotes), ..Plan::of(seed) };
    let small = shrink(plan.clone()).expect("a rule breaks");
    assert!(small.events.1 <= small.events.0 && !small.set.is_empty(), "{small:?}");
    let again = small.set.iter().fold(plan, |plan, set| {
        let (name, value) = set.split_once('=').expect("name=value");
        Knob::named(name).expect("a knob").set(&plan, value.parse().expect("a number"))
    });
    let outcome = run(again, Trace::quiet());
    assert_eq!(outcome.broken.map(|broken| broken.oracle), Some(oracle));
    assert_eq!(outcome.events, small.events.1);
    let left = Knob::ALL.iter().filter(|knob| knob.of(&small.plan) > knob.least).count();
    assert!(left < 8, "hardly anything is needed for this: {small:?}");
}

#[test]
fn a_sound_world_has_nothing_to_shrink() {
    assert!(shrink(Plan::of(1)).is_none());
}

#[test]
fn a_machine_that_computes_something_else_is_caught() {
    assert!(caught(Sabotage::CorruptExecution, 20).is_some());
}
