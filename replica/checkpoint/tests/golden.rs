//! The records of `vrckpt/1` as they were once written: a tier in `tests/golden` that every release must read, and that
//! today's writer must still write byte for byte.
//!
//! `VR_BLESS=1` writes it anew; whoever does that for anything but a new kind of record has changed the format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ulid::Ulid;
use vr_checkpoint::format::{
    FORMAT, Head, HeadState, Index, Kind, LogEntry, Manifest, ManifestState, Named, Names, PackBuilder,
    Parent, Part, Retained, Segment, hex,
};
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::{DirStore, ObjectStore};
use vr_checkpoint::verify::{Depth, Only, verify};
use vr_tree::{NodeRef, Tree};

const UUID: &str = "07070707-0707-0707-0707-070707070707";
const LINEAGE: [u8; 16] = [7; 16];
const GENERATION: u64 = 2;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(UUID)
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

fn records() -> BTreeMap<String, Vec<u8>> {
    let (names, upload) = (Names { generation: GENERATION }, Ulid::from_parts(1_700_000_000_000, 77));
    let snapshot = tree().snapshot();
    let mut builders = [Part::Tree, Part::Data].map(|part| (part, PackBuilder::new(LINEAGE, GENERATION)));
    let mut stack: Vec<NodeRef<'_>> = snapshot.node().into_iter().collect();
    let mut pages = 0;
    while let Some(node) = stack.pop() {
        stack.extend(node.children().rev());
        let mut page = Vec::new();
        node.encode(&mut page);
        let kind = if node.is_leaf() { Kind::Leaf } else { Kind::Inner };
        builders[usize::from(node.is_leaf())].1.add(node.id(), kind, &page);
        pages += 1;
    }
    let mut records = BTreeMap::from([("FORMAT".to_owned(), format!("{FORMAT}\n").into_bytes())]);
    let mut index = Index::default();
    for (n, (part, builder)) in (0..).zip(builders) {
        let (bytes, places) = builder.finish();
        let key = names.pack(part, upload, n);
        index.packs.push((key.clone(), bytes.len() as u64, places));
        records.insert(key, bytes);
    }
    let packs = index.packs.iter().map(|(key, bytes, _)| Named { key: key.clone(), bytes: *bytes }).collect();
    let body = index.encode();
    let indexes = vec![Named { key: names.index(upload), bytes: body.len() as u64 }];
    records.insert(names.index(upload), body);
    let parent = Parent { generation: 1, op: 10, root: "ab".repeat(32) };
    let root = snapshot.root();
    let state = ManifestState { root: hex(&root), entries: snapshot.len(), pages, bytes: snapshot.bytes() };
    let mut manifest = Manifest {
        format: FORMAT.to_owned(),
        lineage: UUID.to_owned(),
        generation: GENERATION,
        parent: Some(parent.clone()),
        incremental: false,
        op: 20,
        view: 3,
        epoch: 1,
        time_micros: 1_700_000_000_000_000,
        written_micros: 1_700_000_000_500_000,
        configuration: serde_json::json!({"order": [3, 1, 2], "name": "Zürich"}),
        revision: 900,
        reserved_revision: 10_000_000,
        log_digest: "cd".repeat(32),
        state,
        indexes,
        packs,
        writer: 3,
        nonce: upload.to_string(),
        hash: String::new(),
    };
    let key = names.manifest(20, &root);
    records.insert(key.clone(), manifest.encode());
    let entry = |op: u64| LogEntry {
        op,
        time_micros: 1_700_000_000_000_000 + op,
        digest: [op as u8; 32],
        bytes: vec![op as u8; op as usize - 20].into(),
    };
    let entries = (21..24).map(entry).collect();
    let segment = Segment { lineage: LINEAGE, generation: GENERATION, entries };
    records.insert(names.segment(21, 23), segment.encode().to_vec());
    let head = Head {
        format: FORMAT.to_owned(),
        lineage: UUID.to_owned(),
        version: 5,
        nonce: upload.to_string(),
        generation: GENERATION,
        token: "token".to_owned(),
        state: HeadState::Active,
        parent: Some(parent),
        owner: 3,
        retained: vec![Retained { manifest: key, op: 20, time_micros: 1_700_000_000_000_000, pins: vec![] }],
        reserved_revision: 10_000_000,
        scrubbed_micros: 0,
    };
    records.insert("HEAD".to_owned(), head.encode());
    records
}

#[tokio::test]
async fn todays_writer_writes_the_golden_records() {
    let mut records = records();
    // The file around HEAD is the directory's own.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = DirStore::open(dir.path()).expect("opens");
    let head = records.remove("HEAD").expect("just put");
    store.swap_head(None, head.into()).await.expect("writes");
    records.insert("HEAD.0".to_owned(), std::fs::read(dir.path().join("HEAD.0")).expect("written"));
    if std::env::var_os("VR_BLESS").is_some() {
        for (key, bytes) in &records {
            let path = golden().join(key);
            std::fs::create_dir_all(path.parent().expect("below a directory")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
    }
    for (key, bytes) in &records {
        let found = std::fs::read(golden().join(key)).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert!(found == *bytes, "{key} is not what was once written: the format has changed");
    }
    let listed = DirStore::read_only(&golden()).list("g/").await.expect("lists");
    assert_eq!(listed.len(), records.len() - 2, "a record in the tree that no writer writes");
}

#[tokio::test]
async fn the_golden_tier_is_whole() {
    let store = std::sync::Arc::new(DirStore::read_only(&golden()));
    let source = Source { name: "golden".to_owned(), tier: TierKind::Nvme, store };
    let report = verify(&source, UUID, Only::default(), Depth::Root).await;
    assert!(report.ok(), "{report:?}");
    let [checkpoint] = &report.checkpoints[..] else { panic!("{report:?}") };
    assert_eq!((checkpoint.op, checkpoint.reaches_op), (20, 23));
    assert_eq!(checkpoint.root, Some(hex(&tree().snapshot().root())));
}

#[tokio::test]
async fn every_record_of_a_newer_format_is_refused_with_the_remedy() {
    let remedy = "is vrckpt/2, this release reads vrckpt/1: use a release that reads vrckpt/2";
    for (key, mut bytes) in records() {
        let refusal = match key.rsplit_once('.').map_or(key.as_str(), |(_, ending)| ending) {
            "FORMAT" => continue,
            "HEAD" | "json" => {
                let text = String::from_utf8(bytes).expect("JSON").replace(FORMAT, "vrckpt/2");
                let error = match key.as_str() {
                    "HEAD" => Head::parse(&key, text.as_bytes()).err(),
                    _ => Manifest::parse(&key, text.as_bytes()).err(),
                };
                error.expect("refused").to_string()
            }
            ending => {
                // Not even its checksum needs to be one that this release knows.
                bytes[4] = 2;
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
