//! One valid input or more for every target, made by the product's own encoders, and the files in `corpus/` that hold
//! them. An encoder that writes something else than before fails here: the old file stays (it is what disks hold), the
//! new one is added under a new name by `VR_FUZZ_WRITE=1 cargo test -p vr-fuzz --test samples`.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::fs;
use std::path::Path;
use vr_checkpoint::format;
use vr_core::{
    Ballot, Configuration, CoreState, Digest, Entry, Envelope, Epoch, Generation, Incarnation, Kind, Lineage,
    Member, Message, Op, Proposal, Refusal, ReplicaId, RequestNumber, SessionId, View, VoteRecord, batch,
};
use vr_proto::client::{Answer, Fate, Hello, Request, ToClient, ToReplica, Welcome, answer::Outcome};
use vr_proto::etcdserverpb as pb;
use vr_proto::frame;
use vr_store::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, LeaseId, Put, RangeQuery, Revision, Span,
    Txn, TxnOp,
};
use vr_tree::Tree;

type Samples = Vec<(&'static str, &'static str, Vec<u8>)>;

#[test]
fn the_encoders_write_what_the_corpus_holds() {
    let write = std::env::var_os("VR_FUZZ_WRITE").is_some();
    for (target, name, bytes) in samples() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target).join(name);
        if write {
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("the corpus can be written");
            fs::write(&path, &bytes).expect("the corpus can be written");
        }
        let kept = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(kept == bytes, "corpus/{target}/{name} is not what the encoder writes today");
    }
}

fn samples() -> Samples {
    let mut samples = Samples::new();
    protocol(&mut samples);
    peers(&mut samples);
    clients(&mut samples);
    commands(&mut samples);
    checkpoints(&mut samples);
    people(&mut samples);
    samples
}

fn clients(samples: &mut Samples) {
    let framed = |message: &[u8]| {
        let mut out = BytesMut::new();
        let start = frame::begin(&mut out);
        out.extend_from_slice(message);
        frame::end(&mut out, start);
        out.to_vec()
    };
    let put = pb::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    let hello = ToReplica { hello: Some(Hello { client: 1 << 63 | 5, opened: 7 }), requests: Vec::new() };
    let requests = ToReplica { hello: None, requests: vec![Request { number: 9, op: Some(op) }] };
    let mut cut_short = framed(&requests.encode_to_vec());
    cut_short.pop();
    let welcome = Welcome { lineage: vec![1; 16].into(), generation: 2, replica: 1, ..Welcome::default() };
    let answers = ToClient {
        welcome: Some(welcome),
        answers: vec![Answer { number: 9, outcome: Some(Outcome::Fate(Fate::Unknown as i32)) }],
        forgotten: true,
        refused: "no more of this".to_owned(),
    };
    samples.push(("client-frame", "valid-hello", framed(&hello.encode_to_vec())));
    samples.push(("client-frame", "valid-requests", framed(&requests.encode_to_vec())));
    samples.push(("client-frame", "bad-cut-short", cut_short));
    samples.push(("client-frame", "bad-what-a-replica-says", framed(&answers.encode_to_vec())));
}

fn ballot() -> Ballot {
    Ballot { epoch: Epoch(2), view: View(7) }
}

fn entries() -> Vec<(&'static str, Entry)> {
    let entry =
        |op, kind, body| Entry::new(Op(op), ballot(), kind, 1_700_000_000_000_000, Digest([9; 32]), body);
    let mut body = Vec::new();
    let session = SessionId { client: 3, incarnation: Incarnation(5) };
    batch::push(&mut body, session, RequestNumber(1), &put(b"key", b"value"));
    batch::push(&mut body, session, RequestNumber(2), b"");
    let reconfigure = Proposal { replaces: Digest([6; 32]), highest_id: ReplicaId(9), next: members() };
    vec![
        ("valid-requests", entry(12, Kind::Requests, body.into())),
        ("valid-new-view", entry(13, Kind::NewView, Bytes::new())),
        ("valid-checkpoint", entry(14, Kind::Checkpoint, Bytes::new())),
        ("valid-reconfigure", entry(15, Kind::Reconfigure, reconfigure.encode().into())),
    ]
}

fn members() -> Configuration {
    let mut it = Configuration::bare(Epoch(2), [3, 1, 2].map(ReplicaId));
    it.learners.push(Member { domain: "b".to_owned(), ..Member::bare(ReplicaId(4)) });
    it
}

fn protocol(samples: &mut Samples) {
    for (name, entry) in entries() {
        samples.push(("core-header", name, entry.header.encode().to_vec()));
        samples.push(("core-entry", name, entry.encode()));
    }
    samples.push(("core-batch", "valid-two", entries()[0].1.body.to_vec()));
    samples.push(("core-batch", "valid-empty", Vec::new()));
    let mut state = CoreState { configuration: members(), highest_id: ReplicaId(9), ..CoreState::empty() };
    (state.op, state.ballot, state.time, state.digest) = (Op(99), ballot(), 17, Digest([4; 32]));
    for number in [1, 2, 3, 70, 200] {
        let session = SessionId { client: number % 2, incarnation: Incarnation(1) };
        state.sessions.admit(Op(number), session, RequestNumber(number));
    }
    samples.push(("core-state", "valid-learner", state.encode()));
    let record = VoteRecord {
        lineage: Lineage([7; 16]),
        generation: Generation(2),
        ballot: ballot(),
        replica: ReplicaId(3),
        incarnation: Incarnation((2 << 32) + 4),
    };
    samples.push(("vote-record", "valid-record", vr_replica::vote::encode(record).to_vec()));
}

fn peers(samples: &mut Samples) {
    let (ballot, digest) = (ballot(), Digest([5; 32]));
    let entry = entries().remove(0).1;
    let headers = vec![entry.header];
    let messages = vec![
        ("valid-forward", Message::Forward { requests: entry.body.clone() }),
        (
            "valid-refused",
            Message::Refused {
                session: SessionId { client: 3, incarnation: Incarnation(5) },
                numbers: vec![RequestNumber(1), RequestNumber(9)],
            },
        ),
        ("valid-prepare", Message::Prepare { ballot, commit: Op(11), entry: entry.clone() }),
        ("valid-prepare-ok", Message::PrepareOk { ballot, op: Op(12), digest }),
        (
            "valid-commit",
            Message::Commit { ballot, commit: Op(12), digest, round: 4, shipper: Some(ReplicaId(2)) },
        ),
        ("valid-commit-ok", Message::CommitOk { ballot, round: 4, op: Op(12) }),
        ("valid-read-index", Message::ReadIndex { token: 8 }),
        ("valid-read-index-is", Message::ReadIndexIs { token: 8, op: Some(Op(3)) }),
        ("valid-start-view-change", Message::StartViewChange { ballot }),
        (
            "valid-do-view-change",
            Message::DoViewChange {
                ballot,
                last_normal: Ballot::default(),
                commit: Op(11),
                op: Op(12),
                headers: headers.clone(),
            },
        ),
        ("valid-start-view", Message::StartView { ballot, commit: Op(11), op: Op(12), headers }),
        (
            "valid-get-view-of-an-epoch",
            Message::GetView { nonce: 77, promised: ballot, checkpoint: Op(5), epoch: Epoch(2) },
        ),
        ("valid-view-is", Message::ViewIs { nonce: 77, ballot, commit: Op(11), op: Op(12), digest }),
        (
            "valid-standing",
            Message::Standing { nonce: 77, promised: ballot, amnesiac: true, holds: Epoch(0) },
        ),
        (
            "valid-standing-between-epochs",
            Message::Standing { nonce: 77, promised: ballot, amnesiac: false, holds: Epoch(2) },
        ),
        ("valid-get-entries", Message::GetEntries { ballot, from: Op(1), to: Op(12) }),
        ("valid-entries", Message::Entries { ballot, oldest: Op(2), entries: vec![entry] }),
        (
            "valid-new-epoch",
            Message::NewEpoch { configuration: members(), op: Op(12), digest, hearsay: false },
        ),
        ("valid-epoch-started", Message::EpochStarted { epoch: Epoch(2) }),
        ("valid-reconfigure", Message::Reconfigure { token: 1, replaces: digest, next: members() }),
        ("valid-reconfigure-is", Message::ReconfigureIs { token: 1, outcome: Ok(Epoch(2)) }),
        (
            "valid-reconfigure-refused",
            Message::ReconfigureIs {
                token: 1,
                outcome: Err(Refusal::NotReady { id: ReplicaId(4), lag: None }),
            },
        ),
        ("valid-hand-off", Message::HandOff { ballot, view: View(9) }),
        ("valid-root", Message::Root { op: Op(12), root: digest }),
    ];
    for (name, message) in messages {
        let envelope = Envelope {
            lineage: Lineage([7; 16]),
            generation: Generation(2),
            from: ReplicaId(3),
            incarnation: Incarnation(6),
            message,
        };
        let mut frame = BytesMut::new();
        vr_replica::peer::codec::encode(&envelope, &mut frame);
        samples.push(("peer-frame", name, frame[8..].to_vec()));
    }
}

fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    encoded(&Command::Put(Put {
        key,
        value,
        lease: LeaseId(0),
        prev_kv: true,
        ignore_value: false,
        ignore_lease: false,
    }))
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    command.encode(&mut body);
    body
}

fn commands(samples: &mut Samples) {
    let span = Span { key: b"a", end: b"z" };
    let delete = DeleteRange { span, prev_kv: true };
    let compare = Compare { span, target: CompareTarget::Version(3), result: CompareResult::Greater };
    let plain = Put { key: b"k", value: b"v", lease: LeaseId(7), ..Put::default() };
    let range = RangeQuery { span, limit: 10, ..RangeQuery::default() };
    let inner = Txn { compare: vec![], success: vec![TxnOp::Put(plain)], failure: vec![] };
    let txn = Txn {
        compare: vec![compare],
        success: vec![TxnOp::Range(range), TxnOp::Txn(inner), TxnOp::Empty],
        failure: vec![TxnOp::DeleteRange(delete)],
    };
    for (name, body) in [
        ("valid-put", put(b"key", b"value")),
        ("valid-delete", encoded(&Command::DeleteRange(delete))),
        ("valid-txn", encoded(&Command::Txn(txn))),
        ("valid-compact", encoded(&Command::Compact { revision: Revision(5) })),
        ("valid-grant", encoded(&Command::LeaseGrant { id: LeaseId(7), ttl: 60 })),
        ("valid-revoke", encoded(&Command::LeaseRevoke { id: LeaseId(7) })),
        ("valid-expire", encoded(&Command::LeaseExpire { ids: vec![LeaseId(7), LeaseId(8)] })),
        ("valid-reserve", encoded(&Command::Reserve { revision: Revision(1 << 40) })),
    ] {
        samples.push(("store-command", name, body.clone()));
        samples.push(("store-execute", name, body));
    }
}

fn checkpoints(samples: &mut Samples) {
    let (lineage, uuid) = ([7; 16], "07070707-0707-0707-0707-070707070707".to_owned());
    let mut tree = Tree::new();
    for number in 0..900u32 {
        tree.put(&blake3::hash(&number.to_le_bytes()).as_bytes()[..12], number.to_string().as_bytes(), 1);
    }
    let snapshot = tree.snapshot();
    let mut pack = format::PackBuilder::new(lineage, 2);
    for node in snapshot.changed_since(0) {
        let mut page = Vec::new();
        node.encode(&mut page);
        let kind = if node.is_leaf() { format::Kind::Leaf } else { format::Kind::Inner };
        pack.add(node.id(), kind, &page);
        let name = if node.is_leaf() { "valid-leaf" } else { "valid-inner" };
        if !samples.iter().any(|(target, known, _)| (*target, *known) == ("tree-page", name)) {
            samples.push(("tree-page", name, page));
        }
    }
    let (bytes, places) = pack.finish();
    let first = &bytes[places[0].offset as usize..][..places[0].header.len() as usize];
    samples.push(("checkpoint-frame", "valid-frame", first.to_vec()));
    let index = format::Index { packs: vec![("g/2/data/07/a.pk".to_owned(), bytes.len() as u64, places)] };
    samples.push(("checkpoint-index", "valid-one-pack", index.encode()));
    samples.push(("checkpoint-pack", "valid-small-tree", bytes));
    deltas(samples, tree, lineage);
    let logged = |(number, (_, entry)): (u64, (&str, Entry))| format::LogEntry {
        op: 12 + number,
        time_micros: entry.header.time,
        digest: entry.digest().0,
        bytes: entry.encode().into(),
    };
    let entries = (0..).zip(entries()).map(logged).collect();
    samples.push((
        "checkpoint-segment",
        "valid-with-a-reconfiguration",
        format::Segment { lineage, generation: 2, entries }.encode().to_vec(),
    ));
    let parent = format::Parent { generation: 1, op: 10, root: "ab".repeat(32) };
    let mut manifest = format::Manifest {
        format: format::FORMAT.to_owned(),
        lineage: uuid.clone(),
        generation: 2,
        parent: Some(parent.clone()),
        incremental: true,
        op: 14,
        view: 7,
        epoch: 2,
        time_micros: 1_700_000_000_000_000,
        written_micros: 1_700_000_000_500_000,
        configuration: serde_json::json!({ "epoch": 2, "order": [3, 1, 2] }),
        revision: 900,
        reserved_revision: 1_000_000,
        log_digest: "cd".repeat(32),
        state: format::ManifestState {
            root: format::hex(&snapshot.root()),
            entries: snapshot.len(),
            pages: 3,
            bytes: snapshot.bytes(),
        },
        indexes: vec![format::Named { key: "g/2/index/14.ix".to_owned(), bytes: 400 }],
        packs: vec![format::Named { key: "g/2/data/07/a.pk".to_owned(), bytes: 20_000 }],
        writer: 3,
        nonce: "ef".repeat(16),
        hash: String::new(),
    };
    samples.push(("checkpoint-manifest", "valid-second-generation", manifest.encode()));
    manifest.format = format::DELTA_FORMAT.to_owned();
    samples.push(("checkpoint-manifest", "valid-with-deltas", manifest.encode()));
    let head = format::Head {
        format: format::FORMAT.to_owned(),
        lineage: uuid,
        version: 9,
        nonce: "ef".repeat(16),
        generation: 2,
        token: "01".repeat(16),
        state: format::HeadState::Active,
        parent: Some(parent),
        owner: 3,
        retained: vec![format::Retained {
            manifest: "g/2/m/14.json".to_owned(),
            op: 14,
            time_micros: 17,
            pins: Vec::new(),
        }],
        reserved_revision: 1_000_000,
        scrubbed_micros: 0,
    };
    samples.push(("checkpoint-head", "valid-active", head.encode()));
}

/// A leaf that has changed, as a delta on what it was.
fn deltas(samples: &mut Samples, mut tree: Tree, lineage: [u8; 16]) {
    let before = tree.snapshot();
    let key = before.range(b"", None).nth(5).expect("there are entries").key().to_vec();
    let base = before.leaf_near(&key).expect("there are leaves");
    tree.put(&key, b"changed", 2);
    tree.put(&[key.clone(), b"/new".to_vec()].concat(), b"new", 2);
    tree.remove(base.entries()[7].key(), 2);
    let leaf = tree.view().leaf_near(&key).expect("there are leaves");
    let (mut page, mut delta) = (Vec::new(), Vec::new());
    base.encode(&mut page);
    assert!(leaf.delta(&base, usize::MAX, &mut delta));
    let mut pack = format::PackBuilder::new(lineage, 2);
    pack.add(base.id(), format::Kind::Leaf, &page);
    pack.add_delta(leaf.id(), leaf.encoded_len(), base.id(), &delta);
    let (bytes, places) = pack.finish();
    let frame = &bytes[places[1].offset as usize..][..places[1].header.len() as usize];
    samples.push(("checkpoint-frame", "valid-delta", frame.to_vec()));
    let index = format::Index { packs: vec![("g/2/data/08/b.pk".to_owned(), bytes.len() as u64, places)] };
    samples.push(("checkpoint-index", "valid-with-a-delta", index.encode()));
    samples.push(("checkpoint-pack", "valid-with-a-delta", bytes));
    let on = |page: &[u8], delta: &[u8]| [&(page.len() as u32).to_le_bytes(), page, delta].concat();
    samples.push(("tree-delta", "valid-changed-added-and-removed", on(&page, &delta)));
    samples.push(("tree-delta", "bad-cut-short", on(&page, &delta[..delta.len() - 1])));
    samples.push(("tree-delta", "bad-keeps-too-much", on(&page, &[255, 255, 1, 0, 0, 0])));
    samples.push(("tree-delta", "bad-changes-nothing", on(&page, &[1, 0, 0, 0, 0, 0])));
}

fn people(samples: &mut Samples) {
    let request = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: Bytes::from_static(b"k"),
                ..pb::PutRequest::default()
            })),
        }],
        ..pb::TxnRequest::default()
    };
    samples.push(("etcd-requests", "valid-txn", request.encode_to_vec()));
    let yaml = "\
lineage: 6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b
generation: 1
replicaId: 1
members:
  - { id: 1, peer: 127.0.0.1:2380, client: http://127.0.0.1:2379 }
  - { id: 2, peer: 127.0.0.1:2480, client: http://127.0.0.1:2479 }
  - { id: 3, peer: 127.0.0.1:2580, client: http://127.0.0.1:2579 }
clientAddress: 127.0.0.1:2379
peerAddress: 127.0.0.1:2380
adminAddress: 127.0.0.1:2381
tiers:
  nvme: { path: /var/lib/vr/nvme, checkpointInterval: 10s }
";
    samples.push(("configuration", "valid-three-members", yaml.as_bytes().to_vec()));
}
