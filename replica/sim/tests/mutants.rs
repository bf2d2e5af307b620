//! The hunt itself: what breaks a rule is named with it, what survives is explained.
#![cfg(feature = "mutants")]

use vr_sim::mutants::hunt_all;

#[test]
fn a_broken_rule_is_noticed_and_named() {
    let verdicts = hunt_all(0, 2, "VoteNotAwaited");
    let [verdict] = &verdicts[..] else { panic!("one mutant has that name: {verdicts:?}") };
    assert_eq!((verdict.killed, verdict.rule), (true, "R1"));
    assert_eq!(verdict.oracle, Some("durable-before-spoken"));
    assert!(verdict.events > 0 && !verdict.is_hole());
}

#[test]
fn a_survivor_is_explained() {
    let verdicts = hunt_all(0, 2, "WrongDigest");
    let [verdict] = &verdicts[..] else { panic!("one mutant has that name: {verdicts:?}") };
    assert!(!verdict.killed && verdict.survives.is_some() && !verdict.is_hole());
    let unexplained = vr_sim::mutants::Verdict { survives: None, ..verdict.clone() };
    assert!(unexplained.is_hole());
}
