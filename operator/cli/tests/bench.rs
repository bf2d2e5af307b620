//! `vr bench` as a script uses it.

mod common;

use common::{run, vr};

#[test]
fn what_cannot_be_measured_is_said() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    for (arguments, status, expected) in [
        (vec!["--endpoints", closed.as_str()], 1, "cannot connect to http://127.0.0.1:"),
        (vec!["--endpoints", "https://a:1"], 1, "give --cacert"),
        (vec!["--cacert", "/nowhere"], 1, "is not https"),
        (vec!["--endpoints", "https://a:1", "--cacert", "/nowhere"], 1, "cannot read /nowhere"),
        (vec!["--cacert", "/nowhere", "--cert", "/nowhere"], 2, "--key"),
        (vec!["--endpoints", "nowhere"], 2, "is not an endpoint"),
        (vec!["--rate", "0"], 2, "is not a rate"),
        (vec!["--size", "4k"], 2, "is not a size"),
        (vec!["--duration", "10"], 2, "is not a duration"),
        (vec!["--sessions", "0"], 2, "--sessions"),
        (vec!["--total", "5", "--duration", "1s"], 2, "cannot be used with"),
    ] {
        let output = run(vr(["bench", "put"]).args(&arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(said.contains(expected), "{arguments:?} does not say {expected:?}: {said}");
    }
}

#[test]
fn checkpoints_are_measured_beside_what_the_machine_can_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = vr(["bench", "checkpoint", "--keys", "20000", "-o", "json", "--dir"]);
    let output = run(command.arg(dir.path()));
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    for field in [
        "cutPauseMs",
        "memoryRatio",
        "bytesRatio",
        "fullRatio",
        "restoreRatio",
        "restoreS3Ratio",
        "deltaRestoreCost",
    ] {
        assert!(report[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {report}");
    }
    // What does not compress arrives nearly as large as it is; what has not changed stays.
    let bytes = |name: &str| {
        let steps = report["steps"].as_array().expect("a list").iter();
        steps.filter(|step| step["name"] == name).find_map(|step| step["bytes"].as_u64()).expect(name)
    };
    let state = report["stateBytes"].as_u64().expect("a number");
    for full in ["full to the directory", "full to embedded S3", "restore from the directory"] {
        assert!((state * 9 / 10..state * 13 / 10).contains(&bytes(full)), "{full}: {report}");
    }
    assert!(bytes("incremental to the directory") < state / 2, "{report}");
    // A hundredth of the keys, drawn at random, touches a sixth of the pages, and more must not be shipped.
    let share = report["wholeIncrementalShare"].as_f64().expect("a number");
    assert!(share < 0.2, "{report}");
    // With deltas it is near what changed: a leaf's delta takes twice that, the pages above it as much again.
    let ratio = report["bytesRatio"].as_f64().expect("a number");
    assert!(ratio < 4.0, "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing is left");
}

/// The formula is that of docs/architecture.md; what is counted must not be a fifth away from it.
#[test]
fn an_hour_of_the_object_store_is_what_the_formula_says() {
    // Checkpoints as often as an operator makes them, so that they count for something.
    let output = run(&mut vr([
        "bench",
        "object-store",
        "--keys",
        "20000",
        "--log-interval",
        "2s",
        "--shipments",
        "4",
        "--checkpoint-interval",
        "5m",
        "--replicas",
        "1",
        "-o",
        "json",
    ]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON object on stdout");
    for what in ["writes", "lists", "reads", "bytes"] {
        let of = |which: &str| report[which][what].as_f64().expect("a number");
        let ratio = of("hour") / of("formula");
        assert!((0.8..=1.2).contains(&ratio), "{what}: {ratio}: {report}");
    }
}
