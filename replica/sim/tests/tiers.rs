//! A small sweep of worlds of tiers in every test run, and that a seed tells one story only.

use vr_sim::tiers::{Story, play, sweep};

#[test]
fn what_was_called_durable_comes_back_in_some_hundred_worlds() {
    let sweep = sweep(0, 300, 2);
    let told: Vec<_> =
        sweep.violations.iter().map(|(seed, broken)| format!("seed {seed}: {broken}")).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(sweep.steps > 10_000, "{} steps are too few to mean anything", sweep.steps);
}

#[test]
fn equal_seeds_tell_equal_stories() {
    let told = |seed| {
        let outcome = play(seed, Story::quiet(), || {});
        (outcome.story, outcome.steps, outcome.counters)
    };
    for seed in 0..40 {
        assert_eq!(told(seed), told(seed), "seed {seed}");
    }
    assert_ne!(told(1).0, told(2).0);
}
