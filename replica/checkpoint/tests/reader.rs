//! The second reader (`tests/reader/vrckpt.py`, written from `docs/checkpoint-format.md`) and this crate agree.
//!
//! It needs Python 3 with `blake3` and `zstandard` from PyPI: `VR_PYTHON` names the interpreter, otherwise it is
//! `python3`. Without them these tests say so and pass, unless `VR_READER_REQUIRED` is set.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use vr_checkpoint::format::LogEntry;
use vr_checkpoint::store::{DirStore, ObjectStore};
use vr_checkpoint::writer::{Cut, Identity, Lineage, Writer};
use vr_tree::{Snapshot, Tree};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The interpreter; none if it, or one of its packages, is not here.
fn python() -> Option<String> {
    let python = std::env::var("VR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let tried = Command::new(&python).args(["-c", "import blake3, zstandard"]).output();
    let here = tried.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        here || std::env::var_os("VR_READER_REQUIRED").is_none(),
        "VR_READER_REQUIRED is set, but {python} does not run with blake3 and zstandard: {tried:?}"
    );
    if !here {
        eprintln!("skipped: no Python with blake3 and zstandard (set VR_PYTHON to one)");
    }
    here.then_some(python)
}

fn read(python: &str, what: &str, lineage: &Path) -> Output {
    let reader = tests().join("reader/vrckpt.py");
    Command::new(python).arg(reader).arg(what).arg(lineage).output().expect("it ran a moment ago")
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn refusal(python: &str, lineage: &Path) -> String {
    let output = read(python, "verify", lineage);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Three checkpoints, the second and third incremental and with deltas, and the log above: keys that share much, that end in
/// others, and of all bytes.
async fn written(dir: &Path) -> Snapshot {
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::open(dir).expect("opens"));
    let identity = Identity { lineage: Lineage([9; 16]), generation: 1, replica: 1 };
    let mut writer = Writer::open(store, identity, None, true, 4).await.expect("opens");
    writer.limit_deltas(4);
    let mut tree = Tree::new();
    for i in 0..1_500u32 {
        let noise = blake3::hash(&i.to_le_bytes());
        tree.put(format!("key/{i:08}").as_bytes(), noise.to_hex().as_bytes(), 1);
        tree.put(&noise.as_bytes()[..(i % 5) as usize], &noise.as_bytes()[..(i % 30) as usize], 1);
    }
    tree.put(b"key", &[b'x'; 9_000], 1);
    for op in [1, 2, 3] {
        let cut = Cut {
            op,
            view: 0,
            epoch: 0,
            time_micros: op,
            log_digest: [0; 32],
            revision: 1,
            reserved_revision: 10,
            configuration: serde_json::json!({"order": ["\u{e9}\n", 1.5, null]}),
        };
        let written = writer.checkpoint(&cut, &tree.snapshot()).await.expect("ships");
        assert_eq!(written.shipped_deltas > 0, op > 1);
        if op < 3 {
            tree.put(b"key/00000007", format!("changed by {op}").as_bytes(), op + 1);
            tree.remove(format!("key/{:08}", 8 + op).as_bytes(), op + 1);
        }
    }
    let entry = |op: u64| LogEntry { op, time_micros: op, digest: [op as u8; 32], bytes: vec![1; 9].into() };
    for ops in [4..7, 6..9] {
        let entries: Vec<LogEntry> = ops.map(entry).collect();
        writer.ship_log(&entries).await.expect("ships");
    }
    tree.snapshot()
}

#[tokio::test]
async fn it_lists_verifies_and_dumps_what_this_crate_wrote() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = written(dir.path()).await;
    let root = vr_checkpoint::format::hex(&state.root());
    let listed = lines(&read(&python, "list", dir.path()));
    let ops: Vec<_> = listed.iter().map(|line| line["op"].as_u64()).collect();
    assert_eq!(ops, [Some(3), Some(2), Some(1)]);
    let verified = lines(&read(&python, "verify", dir.path()));
    assert_eq!(verified.len(), 3);
    assert_eq!(
        verified[0],
        serde_json::json!({
            "op": 3, "root": root, "entries": state.len(), "reachesOp": 8, "whole": true
        })
    );
    let dumped = lines(&read(&python, "dump", dir.path()));
    let keys = dumped.iter().filter(|line| line.get("key").is_some()).count();
    assert_eq!((keys as u64, dumped.len() - keys), (state.len(), 5));
}

#[test]
fn it_reads_the_golden_tiers() {
    let Some(python) = python() else { return };
    for (lineage, newest, checkpoints) in [("07", 20, 1), ("08", 21, 2)] {
        let uuid = [4, 2, 2, 2, 6].map(|bytes| lineage.repeat(bytes)).join("-");
        let verified = lines(&read(&python, "verify", &tests().join("golden").join(uuid)));
        assert_eq!(verified.len(), checkpoints);
        assert_eq!((&verified[0]["op"], &verified[0]["reachesOp"]), (&newest.into(), &23.into()));
    }
}

#[tokio::test]
async fn it_finds_every_damaged_object() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    written(dir.path()).await;
    let listed = DirStore::read_only(dir.path()).list("g/").await.expect("lists");
    assert!(listed.len() >= 8, "{listed:?}");
    for object in listed {
        let path = dir.path().join(&object.key);
        let whole = std::fs::read(&path).expect("reads");
        let mut bad = whole.clone();
        bad[whole.len() / 2] ^= 0x10;
        std::fs::write(&path, bad).expect("writes");
        let said = refusal(&python, dir.path());
        assert!(said.contains(&object.key), "{}: {said}", object.key);
        std::fs::write(&path, whole).expect("writes");
    }
    let format = dir.path().join("FORMAT");
    std::fs::write(&format, "vrckpt/2\n").expect("writes");
    assert!(refusal(&python, dir.path()).contains("FORMAT"));
}
