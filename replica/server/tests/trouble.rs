//! What goes wrong while a replica serves: it says so, goes on, and nothing is lost.

mod cluster;

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use cluster::object_store::ObjectStore;
use cluster::rpc::{Watching, everything};
use cluster::{Cluster, PATIENCE, Replica, eventually, http, rpc};
use tonic::{Code, Status};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_client::WatchClient;
use vr_replica::status::TierReport;

async fn tier(replica: &Replica, name: &str) -> TierReport {
    let report = replica.status().await.expect("it runs");
    report.tiers.into_iter().find(|tier| tier.tier == name).expect("it has this tier")
}

/// Waits until the tier is in trouble; what it says.
async fn in_trouble(replica: &Replica, name: &str) -> String {
    let error =
        eventually("the tier says that it is in trouble", async || tier(replica, name).await.error).await;
    let metrics = http::get(replica.admin, "/metrics").await.expect("it answers").1;
    assert!(metrics.contains(&format!("vr_checkpoint_failing{{tier=\"{name}\"}} 1")), "{metrics}");
    assert!(!error.contains('\n') && error.len() < 400, "one line with the cause would do: {error}");
    error
}

/// Waits until the tier has everything that was committed when this was called.
async fn caught_up(replica: &Replica, name: &str) {
    let commit = replica.status().await.expect("it runs").commit;
    eventually("the tier has everything", async || {
        let tier = tier(replica, name).await;
        (tier.error.is_none() && tier.recovery_op >= commit).then_some(())
    })
    .await;
}

async fn put(replica: &Replica, key: &str) -> Result<i64, Status> {
    rpc::put(&replica.channel(), key.to_owned(), "value").await
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "it does not say `{word}`: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_is_away_at_the_start_and_later() {
    let mut store = ObjectStore::away();
    let mut cluster = Cluster::start_as(1, |raw| store.join(raw)).await;
    let endpoint = store.endpoint();
    put(&cluster.replicas[0], "before").await.expect("it serves without its last tier");
    let error = in_trouble(&cluster.replicas[0], "objectStore").await;
    says(&error, &["s3://checkpoints/tests/", &endpoint, "it is not reached", "onnection refused"]);

    store.come().await;
    caught_up(&cluster.replicas[0], "objectStore").await;

    store.go().await;
    put(&cluster.replicas[0], "meanwhile").await.expect("it goes on");
    let error = in_trouble(&cluster.replicas[0], "objectStore").await;
    says(&error, &[&endpoint, "it is not reached"]);
    put(&cluster.replicas[0], "still").await.expect("it goes on");

    store.come().await;
    caught_up(&cluster.replicas[0], "objectStore").await;
    assert_eq!(cluster.replicas[0].stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_ignores_conditions_and_comes_late() {
    let mut store = ObjectStore::away();
    let cluster = Cluster::start_as(1, |raw| store.join(raw)).await;
    let replica = &cluster.replicas[0];
    in_trouble(replica, "objectStore").await;
    store.faults().ignore_conditions(true);
    store.come().await;
    eventually("the tier says why it is not written", async || {
        let error = tier(replica, "objectStore").await.error?;
        error.contains("ignored If-None-Match").then_some(())
    })
    .await;
    put(replica, "key").await.expect("it goes on");
    assert_eq!(tier(replica, "objectStore").await.checkpoint_op, 0);
    store.faults().ignore_conditions(false);
    caught_up(replica, "objectStore").await;
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let mut cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    caught_up(replica, "volume").await;
    let switch = replica.disk("volume").join(cluster::LINEAGE).join("full");
    fs::write(&switch, "").expect("the tier was begun");
    put(replica, "key").await.expect("it goes on");
    let error = in_trouble(replica, "volume").await;
    says(&error, &["directory ", "/volume/", "No space left", "make room; what is there stays valid"]);
    put(replica, "another").await.expect("it goes on");
    caught_up(replica, "nvme").await;
    fs::remove_file(&switch).expect("made a moment ago");
    caught_up(replica, "volume").await;
    assert_eq!(cluster.replicas[0].stop().await, Some(0));
}

#[tokio::test]
async fn a_tier_of_a_newer_format() {
    let mut cluster = Cluster::start(3).await;
    let last = (cluster.settled().await + 1) % 3;
    put(&cluster.replicas[0], "key").await.expect("it is ready");
    let replica = &mut cluster.replicas[last];
    caught_up(replica, "volume").await;
    replica.kill();
    let place = replica.disk("volume").join(cluster::LINEAGE);
    newer_head(place.clone()).await;
    replica.start();
    replica.ready().await.expect("the others know everything");
    let error = in_trouble(replica, "volume").await;
    says(&error, &["/volume/", "HEAD", "vrckpt/99"]);
    caught_up(replica, "nvme").await;
    put(replica, "another").await.expect("it goes on");
}

/// As a program of the future would leave it.
async fn newer_head(place: PathBuf) {
    use vr_checkpoint::store::{DirStore, ObjectStore, Swapped};
    let store = DirStore::open(&place).expect("nobody writes there");
    let (body, tag) = store.head().await.expect("readable").expect("it was begun");
    let text = String::from_utf8(body.to_vec()).expect("JSON");
    let newer = text.replace("vrckpt/1", "vrckpt/99");
    assert_ne!(text, newer);
    assert_eq!(store.swap_head(Some(&tag), newer.into()).await.expect("writable"), Swapped::Yes);
}

async fn counter(replica: &Replica, name: &str) -> f64 {
    let (_, page) = http::get(replica.admin, "/metrics").await.expect("it answers");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("it is counted").parse().expect("a number")
}

#[tokio::test]
async fn garbage_on_every_port() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let magic = &vr_replica::peer::MAGIC[..];
    let framed = |payload: &[u8]| {
        [magic, &(payload.len() as u32).to_le_bytes(), &crc32c::crc32c(payload).to_le_bytes(), payload]
            .concat()
    };
    let garbage: Vec<(&str, Vec<u8>)> = vec![
        ("not a peer", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("zeroes", vec![0; 100_000]),
        ("another magic", b"VRPEER\0\xff".to_vec()),
        ("a frame of four gigabytes", [magic, &[0xff; 64]].concat()),
        ("a wrong checksum", [magic, &8u32.to_le_bytes(), &[1; 12]].concat()),
        ("a message that is none", framed(&[0xff; 100])),
    ];
    for (number, (what, bytes)) in (1..).zip(&garbage) {
        let answer = http::exchange(replica.peer, bytes).await;
        // It is told why, unless the connection is closed while there is more to come.
        assert!(answer.is_ok() || reset(&answer), "{what}: {answer:?}");
        eventually("it is counted", async || {
            (counter(replica, "vr_peer_connections_refused_total").await >= f64::from(number)).then_some(())
        })
        .await;
        put(replica, "key").await.expect("it goes on");
    }
    says(&replica.log(), &["connection refused", "only members connect here"]);

    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let garbage: Vec<(&str, Vec<u8>)> = vec![
        ("no protocol at all", vec![0xfe; 1000]),
        ("frames that are none", [&preface[..], &[0xff; 1000]].concat()),
        ("a frame on no stream", [&preface[..], &[0, 0, 4, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]].concat()),
    ];
    for (what, bytes) in &garbage {
        let before = counter(replica, "vr_client_connections_broken_total").await;
        let answer = http::exchange(replica.client, bytes).await;
        assert!(answer.is_ok() || reset(&answer), "{what}: {answer:?}");
        eventually("it is counted", async || {
            (counter(replica, "vr_client_connections_broken_total").await > before).then_some(())
        })
        .await;
        put(replica, "key").await.expect("it goes on");
    }
}

fn reset(answer: &std::io::Result<Vec<u8>>) -> bool {
    answer.as_ref().is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    })
}

#[tokio::test]
async fn a_call_whose_message_is_another_ones() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let mut client = tonic::client::Grpc::new(replica.channel());
    for method in ["Put", "Range", "Txn", "DeleteRange"] {
        client.ready().await.expect("it serves");
        let codec = tonic_prost::ProstCodec::<pb::LeaseGrantRequest, pb::PutResponse>::default();
        let path = format!("/etcdserverpb.KV/{method}").parse().expect("a path");
        // Its first field is a number; theirs is bytes or a message.
        let request = tonic::Request::new(pb::LeaseGrantRequest { ttl: 7, ..Default::default() });
        let refused = client.unary(request, path, codec).await.expect_err("it cannot be read");
        assert_eq!(refused.code(), Code::Internal, "{method}: {refused:?}");
        says(refused.message(), &["failed to decode"]);
    }
    client.ready().await.expect("it serves");
    let codec = tonic_prost::ProstCodec::<pb::PutRequest, pb::PutResponse>::default();
    let path = "/etcdserverpb.KV/Invent".parse().expect("a path");
    let refused = client.unary(tonic::Request::new(pb::PutRequest::default()), path, codec).await;
    assert_eq!(refused.expect_err("there is none").code(), Code::Unimplemented);
    put(replica, "key").await.expect("it goes on");
}

#[tokio::test]
async fn requests_that_are_too_much_or_too_little() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let channel = replica.channel();
    let refused = |answer: Result<i64, Status>| {
        let status = answer.expect_err("it cannot be done");
        (status.code(), status.message().to_owned())
    };
    let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));
    let before = put(replica, "key").await.expect("it is ready");

    let large = rpc::put(&channel, "key", vec![0; 1536 * 1024 + 1]).await;
    assert_eq!(refused(large), invalid("request is too large"));
    let huge = rpc::put(&channel, "key", vec![0; 4 << 20]).await.expect_err("it is not even read");
    assert_eq!(huge.code(), Code::ResourceExhausted, "{huge:?}");
    says(huge.message(), &["received message larger than max", "vs. 2097152)"]);

    assert_eq!(refused(put(replica, "").await), invalid("key is not provided"));
    let empty = rpc::get(&channel, "").await.expect_err("it cannot be done");
    assert_eq!((empty.code(), empty.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));

    let txn = |count: u32| pb::TxnRequest {
        success: (0..count).map(|n| rpc::put_op(format!("many/{n}"), "")).collect(),
        ..Default::default()
    };
    let many = rpc::kv(&channel).txn(txn(129)).await.map(|answer| rpc::revision(answer.into_inner().header));
    assert_eq!(refused(many), invalid("too many operations in txn request"));
    let twice =
        pb::TxnRequest { success: vec![rpc::put_op("a", ""), rpc::put_op("a", "")], ..Default::default() };
    let twice = rpc::kv(&channel).txn(twice).await.map(|answer| rpc::revision(answer.into_inner().header));
    assert_eq!(refused(twice), invalid("duplicate key given in txn request"));

    let after = rpc::kv(&channel).txn(txn(128)).await.expect("as many as are allowed").into_inner();
    assert_eq!(rpc::revision(after.header), before + 1, "a refused request left a trace");
}

/// On a stream, too, and only that stream ends.
#[tokio::test]
async fn a_watch_request_that_is_too_large() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let mut client = WatchClient::new(replica.channel());
    let watch = |key: Vec<u8>| pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.into(),
            ..Default::default()
        })),
    };
    let (asks, asked) = tokio::sync::mpsc::channel(2);
    let mut stream = client
        .watch(tokio_stream::wrappers::ReceiverStream::new(asked))
        .await
        .expect("it serves")
        .into_inner();
    asks.send(watch(b"key".to_vec())).await.expect("the stream is open");
    assert!(stream.message().await.expect("it is taken").expect("an answer").created);
    asks.send(watch(vec![b'k'; 4 << 20])).await.expect("the stream is open");
    let ended = stream.message().await.expect_err("it is not even read");
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended:?}");
    says(ended.message(), &["received message larger than max", "vs. 2097152)"]);
    put(replica, "key").await.expect("it goes on");
}

async fn compact(replica: &Replica, revision: i64) {
    let request = pb::CompactionRequest { revision, physical: true };
    rpc::kv(&replica.channel()).compact(request).await.expect("it is ready");
}

/// What a watch says when its history is gone: one response that ends it.
fn ended(response: &pb::WatchResponse, compacted: i64) {
    assert!(response.canceled, "{response:?}");
    assert_eq!(response.compact_revision, compacted);
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(response.cancel_reason, text);
}

#[tokio::test]
async fn a_watch_on_what_was_compacted() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    for _ in 0..3 {
        put(replica, "key").await.expect("it is ready");
    }
    let last = put(replica, "key").await.expect("it is ready");
    compact(replica, last).await;
    let mut watching = Watching::open(&replica.channel(), everything(2), false).await.expect("it serves");
    assert!(watching.next().await.expect("its first answer").created);
    ended(&watching.next().await.expect("and the end"), last);
    // From the compacted revision on everything is there.
    let mut watching = Watching::open(&replica.channel(), everything(last), false).await.expect("it serves");
    assert!(watching.next().await.expect("its first answer").created);
    assert_eq!(watching.next().await.expect("what there is").events.len(), 1);
}

/// More than all the buffers between a replica and a client that does not read.
const SLOW_EVENTS: usize = 20_000;
const SLOW_VALUE: usize = 2048;

/// What a watcher has not read is kept in the history alone; when that is compacted, the watch ends and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_until_its_history_is_gone() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let mut slow = Watching::open(&replica.channel(), everything(0), false).await.expect("it serves");
    assert!(slow.next().await.expect("its first answer").created);
    let writers: Vec<_> = (0..32u8)
        .map(|writer| {
            let channel = replica.channel();
            tokio::spawn(async move {
                for _ in 0..SLOW_EVENTS / 32 {
                    rpc::put(&channel, "one", vec![writer; SLOW_VALUE]).await.expect("it serves");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("written");
    }
    let last = put(replica, "one").await.expect("it serves");
    compact(replica, last).await;
    let mut told = 0;
    let end = loop {
        let response = tokio::time::timeout(PATIENCE, slow.next()).await.expect("it goes on");
        let response = response.expect("the stream stays");
        if response.canceled {
            break response;
        }
        told += response.events.len();
    };
    ended(&end, last);
    eprintln!("told of {told} of {SLOW_EVENTS} changes before the end");
    assert!(told < SLOW_EVENTS / 2, "what it had not read was kept for it beside the history: {told}");
    let watchers = counter(replica, "vr_watchers").await;
    assert!(watchers == 0.0, "{watchers} watches are left");
    let key = rpc::get(&replica.channel(), Bytes::from_static(b"one")).await.expect("it serves");
    assert!(key.is_some());
}
