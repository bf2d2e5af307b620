//! The records of `vrckpt/1` and `vrckpt/2` as they were once written: a tier of each in `tests/golden` that every release
//! must read, and that today's writer must still write byte for byte.
//!
//! `VR_BLESS=1` writes it anew; whoever does that for anything but a new kind of record has changed the format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use ulid::Ulid;
use vr_checkpoint::format::{
    DELTA_FORMAT, FORMAT, Head, HeadState, Index, Kind, LogEntry, Manifest, ManifestState, Named, Names,
    PackBuilder, Parent, Part, Retained, Segment, hex,
};
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::{DirStore, ObjectStore};
use vr_checkpoint::verify::{Depth, Only, verify};
use vr_tree::{NodeRef, Snapshot, Tree};

/// One checkpoint, of version 1.
const PLAIN: [u8; 16] = [7; 16];
/// Two, the second with deltas on the first.
const DELTAS: [u8; 16] = [8; 16];
const GENERATION: u64 = 2;

fn uuid(lineage: [u8; 16]) -> String {
    vr_checkpoint::writer::Lineage(lineage).to_string()
}

fn golden(lineage: [u8; 16]) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(uuid(lineage))
}

/// Values that do not compress: which bytes zstd makes of a page is no part of the format.
fn tree() -> Tree {
    let mut tree = Tree::new();
    for i in 0..200u32 {
        let mut noise = vec![0; 90];
        blake3::Hasher::new().update(&i.to_le_bytes()).finalize_xof().fill(&mut noise);
        tree.put(&noise[..6 + (i % 3) as usize], &noise[10..], 1);
    }
    // One key ends where the others differ, and one entry is larger than a leaf.
    tree.put(b"", b"the end alone", 1);
    let mut large = vec![0; 9000];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut large);
    tree.put(b"large", &large, 1);
    tree
}

/// The same after one leaf has changed in every way that a leaf can.
fn changed() -> Tree {
    let mut tree = tree();
    let before = tree.snapshot();
    let leaf = before.leaf_near(&[0x40]).expect("there are leaves").entries();
    tree.put(leaf[1].key(), b"changed", 2);
    tree.put(&[leaf[3].key(), b"/new"].concat(), b"new", 2);
    tree.remove(leaf[6].key(), 2);
    tree
}

/// The packs and the index of one upload: the pages of a state that are not among those of the one before, leaves as deltas
/// on those where that is short.
fn upload(
    (lineage, upload): ([u8; 16], Ulid),
    state: &Snapshot,
    before: &Snapshot,
    records: &mut BTreeMap<String, Vec<u8>>,
) -> (u64, Named, Vec<Named>) {
    let names = Names { generation: GENERATION };
    let known: BTreeSet<[u8; 32]> = before.changed_since(0).map(|node| node.id()).collect();
    let mut builders = [Part::Tree, Part::Data].map(|part| (part, PackBuilder::new(lineage, GENERATION)));
    let mut stack: Vec<NodeRef<'_>> = state.node().into_iter().collect();
    let mut pages = 0;
    while let Some(node) = stack.pop() {
        stack.extend(node.children().rev());
        pages += 1;
        if known.contains(&node.id()) {
            continue;
        }
        let builder = &mut builders[usize::from(node.is_leaf())].1;
        let base = node.entries().first().and_then(|entry| before.leaf_near(entry.key()));
        let (mut page, mut delta) = (Vec::new(), Vec::new());
        if let Some(base) = base.filter(|base| node.delta(base, 1_000, &mut delta)) {
            builder.add_delta(node.id(), node.encoded_len(), base.id(), &delta);
            continue;
        }
        node.encode(&mut page);
        let kind = if node.is_leaf() { Kind::Leaf } else { Kind::Inner };
        builder.add(node.id(), kind, &page);
    }
    let mut index = Index::default();
    for (n, (part, builder)) in (0..).zip(builders) {
        let (bytes, places) = builder.finish();
        let key = names.pack(part, upload, n);
        index.packs.push((key.clone(), bytes.len() as u64, places));
        records.insert(key, bytes);
    }
    let packs = index.packs.iter().map(|(key, bytes, _)| Named { key: key.clone(), bytes: *bytes }).collect();
    let body = index.encode();
    let named = Named { key: names.index(upload), bytes: body.len() as u64 };
    records.insert(names.index(upload), body);
    (pages, named, packs)
}

fn parent() -> Parent {
    Parent { generation: 1, op: 10, root: "ab".repeat(32) }
}

fn manifest(lineage: [u8; 16], op: u64, state: &Snapshot, nonce: Ulid) -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        lineage: uuid(lineage),
        generation: GENERATION,
        parent: Some(parent()),
        incremental: false,
        op,
        view: 3,
        epoch: 1,
        time_micros: 1_700_000_000_000_000,
        written_micros: 1_700_000_000_500_000,
        configuration: serde_json::json!({"order": [3, 1, 2], "name": "Zürich"}),
        revision: 900,
        reserved_revision: 10_000_000,
        log_digest: "cd".repeat(32),
        state: ManifestState {
            root: hex(&state.root()),
            entries: state.len(),
            pages: 0,
            bytes: state.bytes(),
        },
        indexes: Vec::new(),
        packs: Vec::new(),
        writer: 3,
        nonce: nonce.to_string(),
        hash: String::new(),
    }
}

/// What stands on the tier of a lineage, but for HEAD, where it is retained as JSON.
fn records(lineage: [u8; 16]) -> BTreeMap<String, Vec<u8>> {
    let names = Names { generation: GENERATION };
    let states = match lineage {
        DELTAS => vec![tree().snapshot(), changed().snapshot()],
        _ => vec![tree().snapshot()],
    };
    let mut records = BTreeMap::from([("FORMAT".to_owned(), format!("{FORMAT}\n").into_bytes())]);
    let (mut before, mut indexes, mut packs) = (Snapshot::default(), Vec::new(), Vec::new());
    let (mut retained, first) = (Vec::new(), Ulid::from_parts(1_700_000_000_000, 77));
    for (n, state) in (0..).zip(states) {
        let this = Ulid::from_parts(1_700_000_000_000, 77 + u128::from(n));
        let (pages, index, new) = upload((lineage, this), &state, &before, &mut records);
        indexes.push(index);
        packs.extend(new);
        let mut manifest = Manifest {
            incremental: n > 0,
            indexes: indexes.clone(),
            packs: packs.clone(),
            ..manifest(lineage, 20 + n, &state, this)
        };
        manifest.state.pages = pages;
        if n > 0 {
            manifest.format = DELTA_FORMAT.to_owned();
        }
        let key = names.manifest(20 + n, &state.root());
        records.insert(key.clone(), manifest.encode());
        retained.push(Retained {
            manifest: key,
            op: 20 + n,
            time_micros: 1_700_000_000_000_000,
            pins: vec![],
        });
        before = state;
    }
    let entry = |op: u64| LogEntry {
        op,
        time_micros: 1_700_000_000_000_000 + op,
        digest: [op as u8; 32],
        bytes: vec![op as u8; op as usize - 20].into(),
    };
    let entries = (21..24).map(entry).collect();
    let segment = Segment { lineage, generation: GENERATION, entries };
    records.insert(names.segment(21, 23), segment.encode().to_vec());
    let head = Head {
        format: FORMAT.to_owned(),
        lineage: uuid(lineage),
        version: 5,
        nonce: first.to_string(),
        generation: GENERATION,
        token: "token".to_owned(),
        state: HeadState::Active,
        parent: Some(parent()),
        owner: 3,
        retained,
        reserved_revision: 10_000_000,
        scrubbed_micros: 0,
    };
    records.insert("HEAD".to_owned(), head.encode());
    records
}

#[tokio::test]
async fn todays_writer_writes_the_golden_records() {
    for lineage in [PLAIN, DELTAS] {
        let (golden, mut records) = (golden(lineage), records(lineage));
        // The file around HEAD is the directory's own.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = DirStore::open(dir.path()).expect("opens");
        let head = records.remove("HEAD").expect("just put");
        store.swap_head(None, head.into()).await.expect("writes");
        records.insert("HEAD.0".to_owned(), std::fs::read(dir.path().join("HEAD.0")).expect("written"));
        if std::env::var_os("VR_BLESS").is_some() {
            for (key, bytes) in &records {
                let path = golden.join(key);
                std::fs::create_dir_all(path.parent().expect("below a directory")).expect("made");
                std::fs::write(path, bytes).expect("written");
            }
        }
        for (key, bytes) in &records {
            let found = std::fs::read(golden.join(key)).unwrap_or_else(|e| panic!("{key}: {e}"));
            assert!(found == *bytes, "{key} is not what was once written: the format has changed");
        }
        let listed = DirStore::read_only(&golden).list("g/").await.expect("lists");
        assert_eq!(listed.len(), records.len() - 2, "a record in the tree that no writer writes");
    }
}

#[tokio::test]
async fn the_golden_tiers_are_whole() {
    let newest = [(PLAIN, tree(), 20), (DELTAS, changed(), 21)];
    for (lineage, tree, op) in newest {
        let store = std::sync::Arc::new(DirStore::read_only(&golden(lineage)));
        let source = Source { name: "golden".to_owned(), tier: TierKind::Nvme, store };
        let report = verify(&source, &uuid(lineage), Only::default(), Depth::Root).await;
        assert!(report.ok(), "{report:?}");
        let checkpoint = &report.checkpoints[0];
        assert_eq!((checkpoint.op, checkpoint.reaches_op), (op, 23));
        assert_eq!(checkpoint.root, Some(hex(&tree.snapshot().root())));
    }
}

/// What a release of before reads, it goes on reading: only what stands on deltas has a later version.
#[test]
fn only_what_has_deltas_is_of_the_later_version() {
    let version = |key: &str, bytes: &[u8]| match key.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => String::from_utf8_lossy(bytes).contains(DELTA_FORMAT),
        Some("idx" | "pk" | "seg") => bytes[4] == 2,
        _ => false,
    };
    let later = |lineage| {
        let records = records(lineage);
        let mut later: Vec<String> =
            records.into_iter().filter(|(k, b)| version(k, b)).map(|(k, _)| k).collect();
        later.iter_mut().for_each(|key| *key = key.split('/').nth(2).unwrap_or_default().to_owned());
        later
    };
    assert_eq!(later(PLAIN), [""; 0]);
    assert_eq!(later(DELTAS), ["ckpt", "data", "idx"]);
}

#[tokio::test]
async fn every_record_of_a_newer_format_is_refused_with_the_remedy() {
    let remedy = "is vrckpt/3, this release reads vrckpt/2: use a release that reads vrckpt/3";
    for (key, mut bytes) in [records(PLAIN), records(DELTAS)].into_iter().flatten() {
        let refusal = match key.rsplit_once('.').map_or(key.as_str(), |(_, ending)| ending) {
            "FORMAT" => continue,
            "HEAD" | "json" => {
                let text = String::from_utf8(bytes).expect("JSON");
                let text = text.replace(FORMAT, "vrckpt/3").replace(DELTA_FORMAT, "vrckpt/3");
                let error = match key.as_str() {
                    "HEAD" => Head::parse(&key, text.as_bytes()).err(),
                    _ => Manifest::parse(&key, text.as_bytes()).err(),
                };
                error.expect("refused").to_string()
            }
            ending => {
                // Not even its checksum needs to be one that this release knows.
                bytes[4] = 3;
                let error = match ending {
                    "idx" => Index::parse(&key, &bytes).err(),
                    "pk" => vr_checkpoint::format::Pack::parse(&key, &bytes).err(),
                    "seg" => Segment::parse(&key, &bytes.into()).err(),
                    other => panic!("a new kind of record: {other}"),
                };
                error.expect("refused").to_string()
            }
        };
        assert_eq!(refusal, format!("{key} {remedy}"));
    }
}

/// Records that have no second version.
#[test]
fn a_version_that_a_record_does_not_have_is_refused() {
    for (key, bytes) in records(PLAIN) {
        let error = if key == "HEAD" {
            let text = String::from_utf8(bytes).expect("JSON").replace(FORMAT, DELTA_FORMAT);
            Head::parse(&key, text.as_bytes()).expect_err("refused").to_string()
        } else if key.ends_with(".seg") {
            let later = [&bytes[..4], &[2], &bytes[5..]].concat();
            Segment::parse(&key, &later.into()).expect_err("refused").to_string()
        } else {
            continue;
        };
        assert!(
            error.contains("there is none of vrckpt/2") || error.contains("version 2 does not exist"),
            "{error}"
        );
    }
}
