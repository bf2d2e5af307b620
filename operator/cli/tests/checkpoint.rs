//! `vr checkpoint` on tiers that a writer left behind: whole ones, and such on which something is damaged.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use common::{run, vr};
use serde_json::Value;
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::store::DirStore;
use vr_checkpoint::writer::{Cut, Identity, Lineage, Writer};

const LINEAGE: Lineage = Lineage([7; 16]);
/// A tier with one checkpoint, kept with the format's tests.
const GOLDEN: &str = "../../replica/checkpoint/tests/golden";

/// A tier with two checkpoints of the golden state, at ops 3 and 6.
fn tier(dir: &Path) -> PathBuf {
    let root = dir.join(LINEAGE.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN).join(LINEAGE.to_string());
        let store = Arc::new(DirStore::read_only(&golden));
        let golden = [Source { name: "golden".to_owned(), tier: TierKind::Volume, store }];
        let inventory = restore::inventory(&golden, &LINEAGE.to_string()).await;
        let state = restore::load(&inventory.candidates[0], &golden, None).await.expect("golden").snapshot;

        let store = Arc::new(DirStore::open(&root).expect("opens"));
        let identity = Identity { lineage: LINEAGE, generation: 1, replica: 1 };
        let mut writer = Writer::open(store, identity, None, true, 3).await.expect("opens");
        for op in [3, 6] {
            let cut = Cut {
                op,
                view: 0,
                epoch: 0,
                time_micros: op,
                log_digest: [0; 32],
                revision: 1,
                reserved_revision: 10,
                configuration: serde_json::Value::Null,
            };
            writer.checkpoint(&cut, &state).await.expect("ships");
        }
    });
    root
}

fn verify(tier: &Path, arguments: &[&str]) -> Output {
    run(vr(["checkpoint", "verify"]).arg(tier).args(arguments))
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on stdout")
}

/// The largest file of a kind.
fn largest(tier: &Path, kind: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![tier.join("g")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            match entry.metadata().expect("there") {
                of if of.is_dir() => folders.push(path),
                of if path.to_string_lossy().contains(kind) => found.push((of.len(), path)),
                _ => {}
            }
        }
    }
    found.into_iter().max().expect("one of that kind").1
}

#[test]
fn a_whole_tier_is_whole_at_every_depth() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = tier(dir.path());
    for arguments in
        [&["--depth", "manifests"][..], &["--depth", "frames"], &[], &["--sample", "50"], &["--all"]]
    {
        let output = verify(&tier, arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(said.contains("whole") && !said.contains("PROBLEM"), "{said}");
        let ops = report(&verify(&tier, &[arguments, &["-o", "json"]].concat()));
        let ops: Vec<_> =
            ops["checkpoints"].as_array().expect("a list").iter().map(|c| c["op"].clone()).collect();
        assert_eq!(ops, if arguments == ["--all"] { vec![6, 3] } else { vec![6] });
    }
    let wrong = verify(&tier, &["--op", "4"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("cut at op 4"));
    for refused in [&["--sample", "0"][..], &["--sample", "5", "--depth", "root"], &["--op", "3", "--all"]] {
        assert_eq!(verify(&tier, refused).status.code(), Some(2), "{refused:?}");
    }
}

#[test]
fn every_damaged_object_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = tier(dir.path());
    let pack = largest(&tier, "/data/");
    let mut bytes = std::fs::read(&pack).expect("readable");
    bytes[5_000] ^= 1;
    bytes[16_000] ^= 1;
    std::fs::write(&pack, bytes).expect("written");
    std::fs::remove_file(largest(&tier, "/tree/")).expect("removed");

    assert_eq!(verify(&tier, &["--depth", "manifests"]).status.code(), Some(0), "no pack is read");
    let output = verify(&tier, &["--all", "--depth", "frames"]);
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    let key = pack.strip_prefix(&tier).expect("below").to_string_lossy().into_owned();
    for expected in ["DAMAGED", "PROBLEM", &key, "its checksum is wrong", "it is missing"] {
        assert!(said.contains(expected), "{expected:?} is not said:\n{said}");
    }
    assert!(told.contains("checkpoints are damaged"), "{told}");

    let json = report(&verify(&tier, &["--all", "-o", "json"]));
    let problems: Vec<&Value> = json["checkpoints"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|checkpoint| checkpoint["problems"].as_array().expect("a list"))
        .collect();
    let frames =
        problems.iter().filter(|problem| problem["object"] == key.as_str() && !problem["frame"].is_null());
    assert!(frames.count() >= 2, "both frames: {problems:?}");
}

/// What keeps a checkpoint from being listed must not keep it from being reported.
#[test]
fn a_newest_manifest_that_cannot_be_read_is_damage_and_not_the_one_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = tier(dir.path());
    let newest = tier.join("g/0000000000000001/ckpt");
    let newest = std::fs::read_dir(newest).expect("readable").flatten().map(|e| e.path()).max().expect("two");
    std::fs::write(&newest, "{}").expect("written");
    let output = verify(&tier, &["-o", "json"]);
    let report = report(&output);
    assert_eq!(
        (output.status.code(), &report["checkpoints"][0]["op"]),
        (Some(1), &Value::from(6)),
        "{report}"
    );

    std::fs::remove_dir_all(&tier).expect("removed");
    std::fs::create_dir(&tier).expect("made");
    let empty = verify(&tier, &[]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("nothing was ever checkpointed here"));
}

#[test]
fn a_lost_index_is_made_anew_and_one_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = tier(dir.path());
    let repair = |arguments: &[&str]| run(vr(["checkpoint", "repair-index"]).arg(&tier).args(arguments));
    let output = repair(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("indexes are whole"));
    let index = largest(&tier, "/idx/");
    let before = std::fs::read(&index).expect("readable");
    std::fs::remove_file(&index).expect("there");
    let looked = repair(&["--dry-run"]);
    assert_eq!((looked.status.code(), index.exists()), (Some(0), false));
    assert!(String::from_utf8_lossy(&looked.stdout).contains("can be repaired"));
    assert_eq!(repair(&[]).status.code(), Some(0));
    assert_eq!(std::fs::read(&index).expect("made anew"), before);
    assert_eq!(verify(&tier, &[]).status.code(), Some(0));

    std::fs::remove_file(&index).expect("there");
    std::fs::remove_file(largest(&tier, "/data/")).expect("there");
    let output = repair(&["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let failed = report(&output)["repairs"][0]["failed"].as_str().expect("a reason").to_owned();
    assert!(failed.contains("is missing, and with it"), "{failed}");
}

#[test]
fn what_collections_would_delete_is_said_and_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let tier = tier(dir.path());
    let garbage = |arguments: &[&str]| run(vr(["checkpoint", "garbage"]).arg(&tier).args(arguments));
    let said = |output: Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let all = said(garbage(&[]));
    assert!(
        all.contains("checkpoints that stay, by op: 3, 6") && all.contains("nothing is to be deleted"),
        "{all}"
    );
    let one = said(garbage(&["--keep", "1"]));
    assert!(one.contains("let go of with the next checkpoint: 3"), "{one}");
    assert!(
        one.contains("only what is let go of needs it: op 3") && one.contains("Nothing was written"),
        "{one}"
    );
    let json = report(&garbage(&["--keep", "1", "-o", "json"]));
    assert_eq!((&json["stay"], &json["letGo"]), (&serde_json::json!([6]), &serde_json::json!([3])));
    assert_eq!(json["objects"][0]["stage"], "letGo");
    assert!(tier.join(json["objects"][0]["key"].as_str().expect("a key")).exists());
    assert_eq!(garbage(&["--keep", "0"]).status.code(), Some(2));
    assert_eq!(garbage(&["--keep-daily", "3"]).status.code(), Some(2), "rules are all or none");
    for head in ["HEAD.0", "HEAD.1"] {
        let _ = std::fs::remove_file(tier.join(head));
    }
    let output = garbage(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no HEAD"));
}
