//! A moment of the past comes back: as a file from any tier, and as the next generation of the cluster.

mod common;
#[path = "common/dev.rs"]
mod running;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{run, vr};
use running::{Dev, put, settled, tiers, wait_until};
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;
use vr_proto::etcdserverpb::RangeRequest;
use vr_replica::status::{Report, TierReport};

fn key(number: usize) -> String {
    format!("key/{number:02}")
}

/// `vr checkpoint restore`; the keys that it wrote, or what it said.
fn restored(arguments: &[&str]) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("out.jsonl");
    let output = run(vr(["checkpoint", "restore", "--to"]).arg(&file).args(arguments));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(0) {
        assert!(!file.exists(), "a file that is not whole");
        return Err(said);
    }
    assert!(said.contains("VERDICT") && said.contains("chosen"), "{said}");
    let lines = std::fs::read_to_string(&file).expect("readable");
    let key = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line["key"].as_str().expect("text").to_owned()
    };
    Ok(lines.lines().map(key).collect())
}

/// Everything of a kind that stands on a tier.
fn remove(tier: &Path, kind: &str) {
    let lineage = std::fs::read_dir(tier).expect("readable").flatten().map(|entry| entry.path());
    let lineage = lineage.filter(|path| path.join("g").is_dir()).last().expect("one");
    std::fs::remove_dir_all(lineage.join("g/0000000000000001").join(kind)).expect("there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn any_moment_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &["--no-restart"]);
    settled(&dev).await;
    let client = dev.client();
    put(&client, "the first").await;
    let elsewhere = |tier: &TierReport| tier.tier == "objectStore";
    tiers(&dev, |_, tier| elsewhere(tier) || tier.checkpoint_op > 0).await;
    let mut revisions = Vec::new();
    let mut then = SystemTime::now();
    for number in 0..20 {
        revisions.push(put(&client, &key(number)).await);
        if number == 9 {
            then = SystemTime::now();
        }
    }
    let written = revisions[19];
    let has_all =
        |report: &Report, tier: &TierReport| report.revision >= written && tier.recovery_op >= report.commit;
    tiers(&dev, |report, tier| elsewhere(tier) || has_all(report, tier)).await;
    let replicas = dev.pids();
    replicas.iter().for_each(|&pid| kill_process(pid, Signal::KILL).expect("it runs"));
    wait_until("the replicas are dead", || replicas.iter().all(|&pid| test_kill_process(pid).is_err()));
    dev.interrupt();

    let tier = |place: &str| dir.path().join(place).to_string_lossy().into_owned();
    let (nvme, other) = (tier("r1/nvme"), tier("r2/nvme"));
    let listed = run(&mut vr(["checkpoint", "ls", "-o", "json", &nvme]));
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let oldest = listed[0]["checkpoints"].as_array().expect("a list").last().expect("one").clone();
    let reachable = oldest["reachableOp"].as_u64().expect("a number");
    let name = Path::new(oldest["manifest"].as_str().expect("text")).file_stem().expect("a name");
    let name = name.to_str().expect("text").to_owned();

    let first_ten: Vec<String> = (0..10).map(key).collect();
    let all: Vec<String> = (0..20).map(key).collect();
    let with = |keys: &[String]| [keys, &["the first".to_owned()]].concat();
    let revision = revisions[9].to_string();
    let micros = i64::try_from(then.duration_since(UNIX_EPOCH).expect("now").as_micros()).expect("a number");
    let then = jiff::Timestamp::from_microsecond(micros).expect("now").to_string();
    let newest = reachable.to_string();
    assert_eq!(restored(&[&nvme]).as_ref(), Ok(&with(&all)));
    assert_eq!(restored(&[&nvme, "--to-op", &newest]).as_ref(), Ok(&with(&all)));
    assert_eq!(restored(&[&nvme, "--to-revision", &revision]).as_ref(), Ok(&with(&first_ten)));
    assert_eq!(restored(&[&nvme, "--to-time", &then]).as_ref(), Ok(&with(&first_ten)));
    assert!(restored(&[&nvme, "--checkpoint", &name]).expect("the checkpoint alone").len() < 20);

    // Where such a moment lies, without anything being written.
    let located = |arguments: &[&str]| {
        let report = dir.path().join("report.json");
        let output = run(vr(["checkpoint", "locate", "-o", "json", "--report"]).arg(&report).args(arguments));
        let told: Value =
            serde_json::from_slice(&std::fs::read(&report).expect("it is always there")).expect("JSON");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_eq!(output.status.success(), told["located"].is_object(), "{told}");
        assert!(told["located"].is_null() || told["located"] == said, "{told} {said}");
        told
    };
    let by_revision = located(&[&nvme, "--to-revision", &revision]);
    assert_eq!(by_revision["located"]["revision"].as_i64(), Some(revisions[9]), "{by_revision}");
    let op = by_revision["located"]["op"].to_string();
    assert_eq!(restored(&[&nvme, "--to-op", &op]).as_ref(), Ok(&with(&first_ten)));
    let by_time = located(&[&nvme, "--to-time", &then]);
    assert_eq!(by_time["located"]["revision"].as_i64(), Some(revisions[9]), "{by_time}");
    let by_name = located(&[&nvme, "--checkpoint", &name]);
    assert_eq!(by_name["located"]["op"], by_name["located"]["checkpoint"], "{by_name}");
    let nowhere = located(&[&nvme, "--to-revision", "1000"]);
    let why = nowhere["nowhere"].as_str().expect("a text");
    assert!(why.contains("nothing that leads to revision 1000") && why.contains("and not to 1000"), "{why}");
    let unread = run(&mut vr(["checkpoint", "locate", "/nowhere", "--to-op", "1"]));
    assert_eq!(unread.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unread.stderr).contains("cannot read /nowhere"));

    // The same moment as the beginning of another lineage, beside which nothing is needed any more.
    let (copies, id) = (tier("copies"), "0b7c3f52-9f0e-4a36-9d07-3f3f0c1e2a4b");
    let copied = |arguments: &[&str]| {
        run(vr(["checkpoint", "copy", &nvme, "--to", &copies, "--new-lineage", id, "-o", "json"])
            .args(arguments))
    };
    let nowhere = copied(&["--to-revision", "1000"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(!Path::new(&copies).exists(), "nothing is begun for what is not there");
    for _ in 0..2 {
        let made = copied(&["--to-revision", &revision]);
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        assert_eq!(
            (made["lineage"].as_str(), made["revision"].as_i64()),
            (Some(id), Some(revisions[9])),
            "{made}"
        );
        assert_eq!(
            (&made["op"], made["generation"].as_u64()),
            (&by_revision["located"]["op"], Some(1)),
            "{made}"
        );
        assert_eq!(restored(&[&copies]).as_ref(), Ok(&with(&first_ten)));
    }
    let refused = copied(&[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds something else already"), "{refused:?}");
    assert_eq!(restored(&[&copies]).as_ref(), Ok(&with(&first_ten)));
    let lineage = by_time["located"]["lineage"].as_str().expect("text");
    let same = run(&mut vr(["checkpoint", "copy", &nvme, "--to", &copies, "--new-lineage", lineage]));
    assert!(String::from_utf8_lossy(&same.stderr).contains("needs an id of its own"), "{same:?}");

    let beyond = (reachable + 1_000).to_string();
    for (target, expected) in [
        (["--to-op", &*beyond], format!("the newest that leads on is op {reachable}")),
        (["--to-op", "0"], "lies before the oldest checkpoint".to_owned()),
        (["--to-revision", "0"], "lies before the oldest checkpoint".to_owned()),
        (["--to-revision", "1000"], format!("the log leads to revision {} and not to 1000", revisions[19])),
        (["--to-time", "1990-01-01T00:00:00Z"], "lies before the oldest checkpoint".to_owned()),
        (["--to-time", "yesterday"], "is not a time".to_owned()),
        (["--checkpoint", "nobody"], "no checkpoint of the name nobody".to_owned()),
    ] {
        let said = restored(&[&[&*nvme], &target[..]].concat()).expect_err("nothing leads there");
        assert!(said.contains(&expected), "{target:?}: {said}");
    }

    // What one tier lacks comes from another, or is missed by name.
    remove(Path::new(&nvme), "log");
    let said = restored(&[&nvme, "--to-op", &newest]).expect_err("its log is gone");
    assert!(said.contains("lies beyond"), "{said}");
    assert_eq!(restored(&[&nvme, "--also", &other, "--to-op", &newest]).as_ref(), Ok(&with(&all)));
    remove(Path::new(&nvme), "data");
    let said = restored(&[&nvme]).expect_err("its pages are gone");
    assert!(said.contains("is missing on") && said.contains("passed over"), "{said}");
    assert_eq!(
        restored(&[&nvme, "--also", &other, "--to-revision", &revision]).as_ref(),
        Ok(&with(&first_ten))
    );

    // And the cluster itself goes back; what came after is gone, its revisions are not handed out again.
    let place = dir.path().to_string_lossy().into_owned();
    let plain = run(&mut vr(["dev", "--dir", &place, "--to-revision", &revision]));
    assert_eq!(plain.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&plain.stderr).contains("give --restore as well"));
    let dev = Dev::start(dir.path(), &["--restore", "--to-revision", &revision]);
    let client = dev.client();
    let after = put(&client, "after").await;
    assert!(after > revisions[19], "revision {after} after {revisions:?}");
    let everything = RangeRequest { key: "key/".into(), range_end: "key0".into(), ..Default::default() };
    let found = client.kv().range(everything).await.expect("served").into_inner().kvs;
    let found: Vec<_> = found.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
    assert_eq!(found, first_ten);
    dev.interrupt();
}
