//! `vr drill` end to end: real processes, a real total loss. It must pass, and it must be able to fail.

mod common;

use std::process::Output;

use common::{run, tree, vr};
use serde_json::Value;

fn drill(arguments: &[&str]) -> (Option<i32>, Value) {
    let input = tempfile::tempdir().expect("a directory");
    tree(input.path());
    let mut command = vr(["drill", "-o", "json", "--write-on", "500ms", "--input"]);
    let output: Output = run(command.arg(input.path()).args(arguments));
    let report = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    eprintln!("{report:#}");
    (output.status.code(), report)
}

fn failed_checks(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("a list");
    checks
        .iter()
        .filter(|check| check["passed"] == false)
        .filter_map(|check| check["name"].as_str())
        .collect()
}

#[test]
fn everything_is_lost_and_comes_back() {
    let (status, report) = drill(&[]);
    assert_eq!((status, &report["result"]), (Some(0), &Value::from("Passed")));
    assert_eq!(report["scenario"], "lose-all-memory-and-disks");
    assert_eq!(report["input"]["entries"], 300);
    assert_eq!(report["restoredFrom"]["tier"], "objectStore");
    assert_eq!(report["restoredFrom"]["root"], report["expectedRoot"]);
    assert!(report["rtoSeconds"].as_f64().expect("a number") > 0.0);
    let revision = &report["revision"];
    assert!(revision["after"].as_i64().expect("a number") > revision["before"].as_i64().expect("a number"));
    let names: Vec<_> =
        report["checks"].as_array().expect("a list").iter().map(|check| &check["name"]).collect();
    for check in ["acknowledgedWritesPresent", "nothingInvented", "lossWithinReport", "noRevisionTwice"] {
        assert!(names.contains(&&Value::from(check)), "{check} was not checked");
    }
}

#[test]
fn where_the_disks_stay_the_freshest_tier_wins_and_every_replica_has_loaded_it() {
    let (status, report) = drill(&["--scenario", "lose-all-memory"]);
    assert_eq!((status, &report["result"]), (Some(0), &Value::from("Passed")));
    assert_ne!(report["restoredFrom"]["tier"], "objectStore");
    assert_eq!(report["restoredFrom"]["root"], report["expectedRoot"]);
    let checks = report["checks"].as_array().expect("a list");
    let root = checks.iter().find(|check| check["name"] == "rootIsManifests").expect("checked");
    assert!(root["detail"].as_str().expect("words").contains("by all 3 replicas"), "{root}");
}

#[test]
fn a_drill_fails_when_what_the_restore_needs_is_gone() {
    let (status, report) = drill(&["--sabotage", "missing-pack"]);
    assert_eq!((status, &report["result"]), (Some(1), &Value::from("Failed")));
    assert_eq!(failed_checks(&report), ["restore"]);
    assert!(report["reason"].as_str().expect("a reason").contains("is missing"));
}

#[test]
fn nothing_is_lost_with_the_primary() {
    let (status, report) = drill(&["--scenario", "lose-primary"]);
    assert_eq!((status, &report["result"]), (Some(0), &Value::from("Passed")));
    assert_eq!((&report["lostOps"], &report["restoredFrom"]), (&Value::from(0), &Value::Null));
}

#[test]
fn a_drill_that_cannot_be_carried_out_is_neither_passed_nor_failed() {
    let output = run(&mut vr(["drill", "-o", "json", "--input", "/nowhere"]));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    assert_eq!((output.status.code(), &report["result"]), (Some(2), &Value::from("Errored")));
    assert!(report["reason"].as_str().expect("a reason").contains("/nowhere"));
}
