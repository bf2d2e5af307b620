//! `vr drill` end to end: real processes, a real total loss. It must pass, and it must be able to fail.

mod common;
#[path = "common/s3.rs"]
mod s3;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use common::{run, tree, vr};
use s3::S3Server;
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
    assert_eq!(report["restoredFrom"]["root"], report["expectedRoot"]);
    let checks = report["checks"].as_array().expect("a list");
    let root = checks.iter().find(|check| check["name"] == "rootIsManifests").expect("checked");
    assert!(root["detail"].as_str().expect("words").contains("by all 3 replicas"), "{root}");
}

#[test]
fn a_kill_at_full_load_costs_no_more_than_was_said_just_before() {
    let output = run(&mut vr(["drill", "recovery-point", "--kills", "1", "--writers", "16", "-o", "json"]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    let kill = &report["kills"][0];
    assert!(kill["acknowledged"].as_u64() > Some(100), "{report}");
    for (tier, limit) in [("disks", 2.0), ("objectStore", 15.0)] {
        let [lost, reported] =
            ["seconds", "reportedSeconds"].map(|of| kill[tier][of].as_f64().expect("a number"));
        assert!(lost <= reported && lost <= limit, "{tier}: {report}");
        assert_eq!(report[tier]["lost"]["most"].as_f64(), Some(lost));
    }
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
    let checks = report["checks"].as_array().expect("a list");
    let replayed = checks.iter().find(|check| check["name"] == "recordingReplays").expect("it was recorded");
    assert!(replayed["detail"].as_str().expect("words").contains("came to the same effects"), "{replayed}");
}

/// A drill of this scenario that passes, with these checks among its own.
fn passes(scenario: &str, expected: &[&str]) -> Value {
    let (status, report) = drill(&["--scenario", scenario]);
    assert_eq!((status, &report["result"]), (Some(0), &Value::from("Passed")));
    let checks = report["checks"].as_array().expect("a list");
    for name in [expected, &["acknowledgedWritesPresent", "lossWithinReport", "oldGenerationFenced"]].concat()
    {
        assert!(checks.iter().any(|check| check["name"] == name), "{name} was not checked");
    }
    report
}

#[test]
fn full_disks_hold_nobody_up_and_catch_up() {
    passes("disk-full", &["tierSaysSo", "writesGoOn", "tierCatchesUp"]);
}

#[test]
fn an_object_store_that_was_away_is_as_good_as_before() {
    let report = passes("s3-outage", &["tierSaysSo", "writesGoOn", "tierCatchesUp"]);
    assert_eq!(report["restoredFrom"]["tier"], "objectStore");
}

#[test]
fn a_slow_tier_holds_nobody_up() {
    passes("slow-tier", &["tierSaysSo", "writesGoOn", "tierCatchesUp"]);
}

#[test]
fn exactly_the_moment_that_was_asked_for_comes_back() {
    let report = passes("point-in-time", &["exactMoment"]);
    assert_eq!(report["lostOps"], 0);
}

#[test]
fn of_two_restores_at_the_same_time_one_goes_on() {
    passes("race-two-clusters", &["oneRestoreBegins", "rivalFenced"]);
}

#[test]
fn one_whole_tier_is_enough() {
    let report = passes("corrupt-everything-but-one", &["tiersAreWholeAgain"]);
    assert_eq!(report["restoredFrom"]["tier"], "nvme");
    let (status, report) =
        drill(&["--scenario", "corrupt-everything-but-one", "--sabotage", "corrupt-frame"]);
    assert_eq!((status, failed_checks(&report)), (Some(1), vec!["restore"]));
}

#[test]
fn a_drill_that_cannot_be_carried_out_is_neither_passed_nor_failed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str, contents: &[u8]| {
        std::fs::write(dir.path().join(name), contents).expect("written");
        dir.path().join(name)
    };
    std::fs::create_dir(dir.path().join("empty")).expect("made");
    for (input, expected) in [
        (Path::new("/nowhere").to_owned(), "cannot read the input /nowhere"),
        (dir.path().join("empty"), "nothing to load"),
        (path("empty.jsonl", b""), "nothing to load"),
        (path("program", b"x"), "neither a directory nor"),
        (path("latin.jsonl", b"{\"key\": \"k\", \"value\": \"caf\xe9\"}\n"), "line 1: not UTF-8"),
    ] {
        let output = run(vr(["drill", "-o", "json", "--input"]).arg(&input));
        let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
        assert_eq!((output.status.code(), &report["result"]), (Some(2), &Value::from("Errored")));
        let reason = report["reason"].as_str().expect("a reason");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(report["phases"], serde_json::json!([]), "nothing was started for it");
    }
}

/// Everything below a directory that is a file.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("readable").flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// A bucket of somebody's.
struct S3 {
    server: S3Server,
    dir: tempfile::TempDir,
}

impl S3 {
    fn start() -> S3 {
        let dir = tempfile::tempdir().expect("a directory");
        let keys = ["--bucket", "drills", "--access-key", "somebody", "--secret-key", "secret"];
        S3 { server: S3Server::start(dir.path(), &keys), dir }
    }

    fn drill(&self, bucket: &str, secret: &str, arguments: &[&str]) -> (Option<i32>, Value) {
        let input = tempfile::tempdir().expect("a directory");
        tree(input.path());
        let mut command = vr(["drill", "-o", "json", "--write-on", "500ms", "--s3-endpoint"]);
        command
            .args([&self.server.endpoint, "--s3-bucket", bucket])
            .arg("--input")
            .arg(input.path())
            .args(arguments);
        command.env("AWS_ACCESS_KEY_ID", "somebody").env("AWS_SECRET_ACCESS_KEY", secret);
        let output = run(&mut command);
        let report = serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
        eprintln!("{report:#}");
        (output.status.code(), report)
    }
}

#[test]
fn somebodys_object_store_is_used_and_left_as_it_was() {
    let s3 = S3::start();
    let before = files(s3.dir.path());
    let (status, report) = s3.drill("drills", "secret", &[]);
    assert_eq!((status, &report["result"]), (Some(0), &Value::from("Passed")));
    assert_eq!(report["restoredFrom"]["tier"], "objectStore");
    assert_eq!(files(s3.dir.path()), before);

    let (status, report) = s3.drill("drills", "secret", &["--scenario", "s3-outage"]);
    assert_eq!((status, &report["result"]), (Some(2), &Value::from("Errored")));
    assert!(report["reason"].as_str().expect("a reason").contains("is not ours"), "{report}");

    for (bucket, secret, expected) in [("nobodys", "secret", "nobodys"), ("drills", "guessed", "drills")] {
        let (status, report) = s3.drill(bucket, secret, &[]);
        assert_eq!((status, &report["result"]), (Some(2), &Value::from("Errored")), "{bucket}");
        assert!(report["reason"].as_str().expect("a reason").contains(expected), "{report}");
    }
}

#[test]
fn what_a_killed_drill_has_left_is_removed_by_the_next() {
    let place = tempfile::tempdir().expect("a directory");
    let left =
        || std::fs::read_dir(place.path()).expect("readable").flatten().map(|entry| entry.path()).collect();
    let input = place.path().join("input");
    tree(&input);
    let mut command = vr(["drill", "--write-on", "60s", "--input"]);
    let mut killed = command.arg(&input).env("TMPDIR", place.path()).spawn().expect("vr starts");
    // Its replicas run.
    let deadline = Instant::now() + Duration::from_secs(60);
    let started = || files(place.path()).iter().any(|path| path.ends_with("r3/replica.log"));
    while !started() {
        assert!(Instant::now() < deadline, "the drill did not start its replicas");
        std::thread::sleep(Duration::from_millis(20));
    }
    killed.kill().expect("it runs");
    killed.wait().expect("waited");
    let all: Vec<PathBuf> = left();
    assert_eq!(all.len(), 2, "{all:?}");
    // Until its last replica has stopped there may be something to write, and so something to remove again.
    let deadline = Instant::now() + Duration::from_secs(120);
    let said = loop {
        let mut next = vr(["drill", "-o", "json", "--scenario", "lose-replica", "--input"]);
        let output = run(next.arg(&input).env("TMPDIR", place.path()).args(["--write-on", "1ms"]));
        assert_eq!(output.status.code(), Some(0));
        let all: Vec<PathBuf> = left();
        if all == [input.clone()] {
            break String::from_utf8_lossy(&output.stderr).into_owned();
        }
        assert!(Instant::now() < deadline, "{all:?} stay");
    };
    assert!(said.contains("left by a drill that was killed"), "{said}");
}
