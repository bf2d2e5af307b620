//! `vr drill restore`: a copy of a tier passes, and everything that would keep a restore from coming back turns it red.

mod common;
#[path = "common/dev.rs"]
mod running;
#[path = "common/s3.rs"]
mod s3;

use std::path::{Path, PathBuf};

use common::{operators_command, run, vr};
use running::{Dev, put, settled, tiers};
use s3::S3Server;
use serde_json::Value;
use vr_checkpoint::format::Manifest;
use vr_checkpoint::s3_server::{Act, Faults, Options, Rule, Server, Verb};
use vr_checkpoint::store::{DirStore, ObjectStore};
use vr_evidence::chain::{self, Drill};
use vr_evidence::envelope::SigningKey;
use vr_evidence::report::{Outcome, Report};

const BUCKET: &str = "somebodys";

/// What the drill says: exit status and report, and the brief report the same in short.
fn drill(arguments: &[&str]) -> (i32, Value) {
    let dir = tempfile::tempdir().expect("a directory");
    let brief = dir.path().join("report");
    let output = run(vr(["drill", "restore", "-o", "json", "--report"]).arg(&brief).args(arguments));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = std::fs::read_to_string(brief).expect("it was written");
    assert!(text.len() <= 4_000);
    let short: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(short["result"], report["result"]);
    (output.status.code().expect("an exit status"), report)
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copied(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copied");
        }
    }
}

/// Every file of a kind below a tier.
fn files(below: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).expect("readable").flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path, kind));
        } else if path.components().any(|part| part.as_os_str() == kind) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_copy_passes_and_what_is_wrong_turns_it_red() {
    let (dir, objects) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let s3 = S3Server::start(objects.path(), &["--bucket", BUCKET]);
    let flags = ["--s3-endpoint", &s3.endpoint, "--s3-bucket", BUCKET, "--s3-prefix", "prod"];
    let dev = Dev::start(dir.path(), &[&["--replicas", "1"], &flags[..]].concat());
    settled(&dev).await;
    let client = dev.client();
    for number in 0..200 {
        put(&client, &format!("key/{number}")).await;
    }
    // The log follows a checkpoint every ten seconds.
    tiers(&dev, |report, tier| {
        let shipped = tier.recovery_op >= report.commit && report.revision > 200;
        tier.tier != "objectStore" || shipped
    })
    .await;
    let commit = vr::dev::cluster::status(dev.admins()[0]).await.expect("it runs").commit;
    dev.interrupt();

    let place = format!("s3://{BUCKET}/prod");
    let endpoint = ["--s3-endpoint", &*s3.endpoint];
    let before = files(objects.path(), "objects");
    assert!(!before.is_empty());
    let (op, now) = (commit.to_string(), jiff::Timestamp::now().to_string());
    let source = ["--source-op", &*op, "--source-time", &*now];
    let (status, report) = drill(
        &[
            &[&*place],
            &endpoint[..],
            &source[..],
            &["--canary", "key/199=value", "--rpo", "1s", "--rto", "1m"],
        ]
        .concat(),
    );
    assert_eq!((status, &report["result"]), (0, &Value::from("Passed")), "{report:#}");
    for name in [
        "restore",
        "canary",
        "rootIsManifests",
        "recoveryPoint",
        "recoveryTime",
        "newestIsWhole",
        "selfTestStaleCanary",
        "selfTestFlippedBit",
        "selfTestMissingPack",
    ] {
        assert_eq!(check(&report, name)["passed"], true, "{name}: {report:#}");
    }
    assert_eq!((&report["rpoOps"], &report["lostOps"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(report["expectedRoot"], report["restoredFrom"]["root"]);
    assert!(report["rtoSeconds"].as_f64().expect("a number") > 0.0);
    assert!(report["candidates"].as_array().is_some_and(|all| !all.is_empty()), "{report:#}");
    assert_eq!(files(objects.path(), "objects"), before, "the source is as it was");

    let failed = |arguments: &[&str], name: &str, says: &str| {
        let (status, report) = drill(arguments);
        assert_eq!((status, &report["result"]), (1, &Value::from("Failed")), "{report:#}");
        let check = check(&report, name);
        assert_eq!(check["passed"], false, "{report:#}");
        assert!(check["detail"].as_str().expect("text").contains(says), "{name}: {report:#}");
        assert!(report["reason"].as_str().expect("text").contains(name), "{report:#}");
    };
    let with = |more: &[&'static str]| {
        let arguments = [&[&*place], &endpoint[..], more].concat();
        arguments.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    for (more, name, says) in [
        (&["--canary", "key/199=newer"][..], "canary", "the state is a stale one"),
        (&["--canary", "key/200=value"], "canary", "key/200 is not there"),
        (
            &["--source-op", "1000000", "--source-time", "2100-01-01T00:00:00Z", "--rpo", "1h"],
            "recoveryPoint",
            "of 1000000",
        ),
        (&["--rto", "1ms"], "recoveryTime", "1ms allowed"),
    ] {
        let arguments = with(more);
        failed(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), name, says);
    }

    // A tier of disks is as good a source, and can be damaged.
    let nvme = dir.path().join("r1/nvme");
    let damaged = |kind: &str, damage: fn(&Path)| {
        let copy = tempfile::tempdir().expect("a directory");
        copied(&nvme, copy.path());
        let found = files(copy.path(), kind);
        assert!(!found.is_empty(), "{kind}");
        found.iter().for_each(|path| damage(path));
        copy
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    let flipped = damaged("data", flip);
    failed(&[&flipped.path().to_string_lossy()], "restore", "checkpoint at op");
    let missing = damaged("data", |path| std::fs::remove_file(path).expect("removed"));
    failed(&[&missing.path().to_string_lossy()], "restore", "checkpoint at op");

    let errored = |arguments: &[&str], says: &str| {
        let (status, report) = drill(arguments);
        assert_eq!((status, &report["result"]), (2, &Value::from("Errored")), "{report:#}");
        assert!(report["reason"].as_str().expect("text").contains(says), "{report:#}");
    };
    let empty = tempfile::tempdir().expect("a directory");
    errored(&[&empty.path().to_string_lossy()], "no lineage stands in");
    errored(
        &[&nvme.to_string_lossy(), "--dir", &dir.path().to_string_lossy()],
        "a drill needs a directory of its own",
    );
    let elsewhere = format!("s3://nobodys/{}", "prod");
    errored(&[&[&*elsewhere], &endpoint[..]].concat(), "nobodys");

    // A second checkpoint beside the first, and manifests that somebody has written anew, with hashes that fit.
    let dev = Dev::start(dir.path(), &[]);
    settled(&dev).await;
    put(&dev.client(), "key/200").await;
    dev.interrupt();
    let unknown = forged(&nvme, |newest, _| newest.state.root = "11".repeat(32));
    failed(&[&unknown.path().to_string_lossy()], "newestIsWhole", "page 1111111111111111 is missing");
    let older = forged(&nvme, |newest, older| {
        newest.state = older.state.clone();
        newest.packs.extend(older.packs.clone());
    });
    failed(&[&older.path().to_string_lossy()], "newestIsWhole", "names the root of a state at op");

    // The same bucket, with credentials that end while the copy is fetched: nothing is said about the data.
    drop(s3);
    let options = Options {
        access_key: "vr".to_owned(),
        secret_key: "only-on-this-machine".to_owned(),
        buckets: vec![BUCKET.to_owned()],
        faults: Faults::default(),
    };
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = Server::start(objects.path(), any, options).await.expect("nobody else has it");
    let (verb, path_contains) = (Verb::Get, "/data/".to_owned());
    server.faults().add(Rule { verb, path_contains, skip: 0, times: u32::MAX, act: Act::Expired });
    errored(&[&place, "--s3-endpoint", &server.endpoint()], "the credentials have expired: get new ones");
    server.stop().await;
}

/// A copy of a tier in which the newest checkpoint says something else than was written, given one with another state
/// beside it.
fn forged(tier: &Path, forge: fn(&mut Manifest, &Manifest)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copied(tier, copy.path());
    let mut all: Vec<(Manifest, PathBuf)> = files(copy.path(), "ckpt")
        .into_iter()
        .map(|path| (Manifest::parse("it", &std::fs::read(&path).expect("readable")).expect("whole"), path))
        .collect();
    all.sort_by_key(|(manifest, _)| manifest.op);
    let (mut newest, path) = all.pop().expect("there are checkpoints");
    let (older, _) =
        all.iter().rfind(|(older, _)| older.state.root != newest.state.root).expect("another state");
    forge(&mut newest, older);
    std::fs::write(path, newest.encode()).expect("written");
    copy
}

/// Keys that the store does not know: what S3 says, and that it says nothing about the data.
#[test]
fn who_may_not_read_is_told_so() {
    let objects = tempfile::tempdir().expect("a directory");
    let s3 = S3Server::start(objects.path(), &["--bucket", BUCKET]);
    let place = format!("s3://{BUCKET}/prod");
    let output = run(vr(["drill", "restore", "-o", "json"])
        .args([&*place, "--s3-endpoint", &*s3.endpoint])
        .env("AWS_ACCESS_KEY_ID", "somebody-else"));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &report["result"]), (Some(2), &Value::from("Errored")));
    let reason = report["reason"].as_str().expect("text");
    assert!(reason.contains("list") && reason.contains("check the credentials"), "{reason}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, says) in [
        (&["s3://"][..], "names no bucket"),
        (&[".", "--canary", "key"][..], "give KEY=VALUE"),
        (&[".", "--source-time", "2026-01-01T00:00:00Z"][..], "--source-op"),
        (&[".", "--source-op", "1", "--source-time", "yesterday"][..], "--source-time"),
        (&[".", "--rpo", "1s"][..], "--source-time"),
        (&[".", "--rto", "soon"][..], "--rto"),
        (&[".", "--replicas", "2"][..], "1, 3, 5, 7 or 9"),
        (&[][..], "<LOCATION>"),
    ] {
        let output = run(vr(["drill", "restore"]).args(arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

/// Records as an operator keeps them, read by whoever has the bucket and the public key.
#[tokio::test]
async fn evidence_is_listed_shown_and_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let (key, _) = SigningKey::generate().expect("a key");
    let public = dir.path().join("public.pem");
    std::fs::write(&public, key.public().pem()).expect("written");
    let place = dir.path().join("bucket");
    let store = DirStore::open(&place).expect("a directory");
    let place = place.to_string_lossy().into_owned();
    let evidence = |arguments: &[&str]| {
        let output = run(vr(["drill", "evidence"]).args(arguments).arg(&place));
        let said =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code().expect("an exit status"), said)
    };
    assert_eq!(evidence(&["verify"]), (0, "there is no record here\n".to_owned()));
    let (status, said) = evidence(&["show"]);
    assert!(status != 0 && said.contains("no drill of a cluster with this prefix has ended yet"), "{said}");

    for (number, outcome) in [(1, Outcome::Passed), (2, Outcome::Failed)] {
        let report = Report {
            result: outcome,
            reason: Some("a|b".to_owned()),
            ..Report::of("restore-from-object-store")
        };
        let drill = Drill {
            cluster: "prod".to_owned(),
            namespace: "shop".to_owned(),
            drill: format!("nightly-{number}"),
            uid: number.to_string(),
            lineage: "l".to_owned(),
            scenario: "RestoreFromObjectStore".to_owned(),
            finished_at: format!("2026-01-0{number}T00:00:00Z"),
            report,
        };
        chain::append(&store, &key, drill).await.expect("it is kept");
    }
    let (status, said) = evidence(&["ls"]);
    assert!(status == 0 && said.contains("shop/prod") && said.contains("nightly-2"), "{said}");
    let public = public.to_string_lossy().into_owned();
    let (status, said) = evidence(&["verify", "--public-key", &public]);
    assert!(status == 0 && said.starts_with("2 records, none missing, the newest of 2026-01-02"), "{said}");
    assert!(said.contains(&key.public().id()), "{said}");
    assert!(evidence(&["verify"]).1.contains("signatures were not checked"));
    assert!(evidence(&["show"]).1.contains("# Drill 2 of prod: Failed"));
    assert!(evidence(&["show", "--sequence", "1"]).1.contains("| Drill | nightly-1 (UID 1) |"));
    assert!(evidence(&["show", "-o", "html"]).1.contains("<title>Drill 2 of prod: Failed</title>"));
    let (status, said) = evidence(&["show", "--sequence", "7"]);
    assert!(status != 0 && said.contains("there is no record 7"), "{said}");
    let (status, said) = evidence(&["verify", "--public-key", "/dev/null"]);
    assert!(status != 0 && said.contains("/dev/null cannot be used"), "{said}");

    store.delete("evidence/000000000001.json").await.expect("it can be deleted");
    let (status, said) = evidence(&["verify", "--public-key", &public]);
    assert_eq!((status, said.contains("record 1 is missing before it")), (1, true), "{said}");
}

/// What the operator writes into the pod of a copy is a command line that this tool takes.
#[test]
fn the_operators_command_line_is_taken() {
    let command = operators_command(["vr", "drill", "restore"]);
    // The same flags, for a place without a bucket and below a directory of this test.
    let empty = tempfile::tempdir().expect("a directory");
    let here = |name: &str| empty.path().join(name).to_string_lossy().into_owned();
    let arguments = command[1..].iter().map(|word| match word.as_str() {
        word if word.starts_with("s3://") => empty.path().to_string_lossy().into_owned(),
        word if word.ends_with("/copy") => here("copy"),
        "/dev/termination-log" => here("report"),
        word => word.to_owned(),
    });
    let output = run(vr([]).args(arguments));
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value =
        serde_json::from_slice(&std::fs::read(here("report")).expect("written")).expect("JSON");
    assert!(
        report["reason"].as_str().expect("text").contains("nothing was ever shipped there"),
        "{report:#}"
    );
}
