//! Native clients while primaries are killed: what was acknowledged stays, and nothing is executed twice.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod authority;
mod cluster;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prost::Message as _;

use cluster::{Cluster, PATIENCE, eventually, http};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vr_client::{Client, Error, Options, pb};
use vr_proto::client::{Hello, MAGIC, Request, ToClient, ToReplica};
use vr_replica::config::{RawPortTls, RawTls};
use vr_replica::tls::ClientFiles;

const CLIENTS: usize = 3;
const IN_FLIGHT: usize = 64;
const KILLS: usize = 3;
/// Writes acknowledged between two kills.
const BETWEEN: usize = 2_000;

fn client(cluster: &Cluster) -> Client {
    Client::new(Options::to(cluster.replicas.iter().map(|replica| replica.client.to_string())))
}

/// What became of a key that was put at most once by its writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Acknowledged,
    Unknown,
}

/// Puts one key after the other, each once.
async fn write(
    client: Client,
    name: String,
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<(String, Told)> {
    let mut told = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let key = format!("{name}/{}", told.len());
        match client.put(key.clone(), name.clone()).await {
            Ok(_) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                told.push((key, Told::Acknowledged));
            }
            Err(Error::Unknown) => told.push((key, Told::Unknown)),
            Err(error) => panic!("{key}: {error}"),
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_and_none_is_executed_twice_when_primaries_die() {
    let mut cluster = Cluster::start(3).await;
    let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let client = client(&cluster);
        for m in 0..IN_FLIGHT {
            writers.spawn(write(client.clone(), format!("{n}/{m}"), over.clone(), acknowledged.clone()));
        }
    }
    let further = async || {
        let before = acknowledged.load(Ordering::Relaxed);
        eventually("writes go on", async || {
            (acknowledged.load(Ordering::Relaxed) >= before + BETWEEN).then_some(())
        })
        .await;
    };
    for _ in 0..KILLS {
        further().await;
        let primary = cluster.settled().await;
        cluster.replicas[primary].kill();
        // One of the two that are left leads now.
        further().await;
        cluster.replicas[primary].start();
        cluster.ready().await.expect("it starts again");
    }
    over.store(true, Ordering::Relaxed);
    let told = tokio::time::timeout(PATIENCE, writers.join_all()).await.expect("every call is answered");
    let reader = client(&cluster);
    let mut unknown = 0;
    for (key, told) in told.into_iter().flatten() {
        let found = reader.get(key.clone()).await.expect("a primary leads");
        // A put that is executed twice makes version 2 of its key.
        match (told, found.kvs.as_slice()) {
            (Told::Acknowledged, [kv]) => assert_eq!(kv.version, 1, "{key} was written twice"),
            (Told::Acknowledged, _) => panic!("{key} was acknowledged and is lost"),
            (Told::Unknown, found) => {
                unknown += 1;
                assert!(found.iter().all(|kv| kv.version == 1), "{key} was written twice");
            }
        }
    }
    // A survivor keeps the answers: a client that comes over is told what its writes became.
    assert_eq!(unknown, 0, "writes whose outcome nobody could tell");
}

#[tokio::test]
async fn calls_are_answered_as_over_grpc() {
    let cluster = Cluster::start(1).await;
    let client = client(&cluster);
    let put = client.put("a", "1").await.expect("put");
    let found = client.get("a").await.expect("get");
    assert_eq!(found.kvs[0].mod_revision, put.header.expect("a header").revision);
    let compare = pb::Compare {
        key: "a".into(),
        target: pb::compare::CompareTarget::Version as i32,
        result: pb::compare::CompareResult::Equal as i32,
        target_union: Some(pb::compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    assert!(client.txn(txn).await.expect("txn").succeeded);
    assert_eq!(client.delete("a").await.expect("delete").deleted, 1);
    // Refused in etcd's words, and the session goes on.
    let future = pb::RangeRequest { key: "a".into(), revision: 1 << 40, ..Default::default() };
    match client.range(future).await {
        Err(Error::Refused { code, text }) => {
            assert_eq!(
                (code, text.as_str()),
                (11, "etcdserver: mvcc: required revision is a future revision")
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(client.put("", "no key").await, Err(Error::Refused { .. })));
    assert_eq!(client.get("a").await.expect("get").count, 0);
    let (_, metrics) = http::get(cluster.replicas[0].admin, "/metrics").await.expect("served");
    let ranges = metrics.lines().find(|line| line.starts_with("vr_ranges_total"));
    assert_eq!(
        ranges,
        Some("vr_ranges_total 3"),
        "counted as those over gRPC; what is refused in its place as well"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_and_answers_go_in_many_frames() {
    let cluster = Cluster::start(1).await;
    let client = client(&cluster);
    // Together more than one frame carries, both ways.
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..64_u8 {
        let client = client.clone();
        puts.spawn(async move { client.put(vec![b'k', n], vec![n; 1_400_000]).await.map(|_| n) });
    }
    assert_eq!(
        tokio::time::timeout(PATIENCE, puts.join_all()).await.expect("in time").iter().flatten().count(),
        64
    );
    let mut gets = tokio::task::JoinSet::new();
    for n in 0..64_u8 {
        let client = client.clone();
        gets.spawn(async move { client.get(vec![b'k', n]).await.map(|found| found.kvs[0].value.len()) });
    }
    let found = tokio::time::timeout(PATIENCE, gets.join_all()).await.expect("in time");
    assert!(found.iter().all(|found| *found == Ok(1_400_000)), "{found:?}");
    let all = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    match client.range(all).await {
        Err(Error::Refused { code, text }) => {
            assert_eq!(code, 8, "{text}");
            assert!(text.contains("ask for fewer keys"), "{text}");
        }
        other => panic!("{:?}", other.map(|found| found.count)),
    }
    client.put("a", "1").await.expect("the session goes on");
}

/// What the replica says to these bytes until it closes.
async fn said(replica: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(replica).await.expect("it listens");
    stream.write_all(bytes).await.expect("it reads");
    let mut said = Vec::new();
    // A reset is an end as well: it closes with our bytes unread.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    let _ = read.expect("the connection is closed");
    said
}

#[tokio::test]
async fn whoever_breaks_the_rules_loses_the_connection_and_nothing_else() {
    let cluster = Cluster::start(1).await;
    let (replica, client) = (cluster.replicas[0].client, client(&cluster));
    client.put("a", "1").await.expect("put");
    let frame = |payload: &[u8]| {
        let mut out = bytes::BytesMut::from(&MAGIC[..]);
        let start = vr_proto::frame::begin(&mut out);
        out.extend_from_slice(payload);
        vr_proto::frame::end(&mut out, start);
        out.to_vec()
    };
    let mut flipped = frame(b"\x0a\x00");
    *flipped.last_mut().expect("not empty") ^= 1;
    // Field 1, Hello; in it field 1 is the client's number, without the highest bit.
    for (bad, reason) in [
        (flipped, "checksum"),
        (frame(b"\xff\xff"), "failed to decode"),
        (frame(b""), "without a Hello"),
        (frame(b"\x0a\x02\x08\x05"), "highest bit"),
        (frame(&[0; 1025]), "the limit is 1024"),
        ([&MAGIC[..], &[0xff; 8]].concat(), "limit"),
    ] {
        let mut said = bytes::BytesMut::from(&said(replica, &bad).await[..]);
        let words = vr_proto::frame::next_payload(&mut said).expect("intact").expect("whole");
        let refused = ToClient::decode(words).expect("a message").refused;
        assert!(refused.contains(reason), "{bad:?}: {refused}");
    }
    // In a session of its own, numbers that nobody comes to by counting.
    let put = pb::PutRequest { key: "x".into(), ..Default::default() };
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    for numbers in [vec![0], vec![u64::MAX, 5], vec![(1 << 62) + 1]] {
        let hello =
            ToReplica { hello: Some(Hello { client: 1 << 63 | 77, opened: 0 }), ..ToReplica::default() };
        let requests = numbers.iter().map(|&number| Request { number, op: Some(op.clone()) }).collect();
        let asks = ToReplica { hello: None, requests };
        let bytes =
            [frame(&hello.encode_to_vec()), frame(&asks.encode_to_vec())[MAGIC.len()..].to_vec()].concat();
        let mut said = bytes::BytesMut::from(&said(replica, &bytes).await[..]);
        let mut refused = String::new();
        while let Some(words) = vr_proto::frame::next_payload(&mut said).expect("intact") {
            refused = ToClient::decode(words).expect("a message").refused;
        }
        assert!(refused.contains("is no number of a request"), "{numbers:?}: {refused}");
    }
    client.put("a", "2").await.expect("the others go on");
    eventually("the reasons are in the log", async || {
        let log = cluster.replicas[0].log();
        ["checksum", "Hello", "highest bit", "limit"].iter().all(|reason| log.contains(reason)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_survives_a_frozen_primary() {
    let cluster = Cluster::start(3).await;
    let client = client(&cluster);
    client.put("a", "1").await.expect("put");
    let primary = cluster.settled().await;
    cluster.replicas[primary].signal(Signal::STOP);
    let put = tokio::time::timeout(PATIENCE, client.put("b", "1")).await;
    cluster.replicas[primary].signal(Signal::CONT);
    put.expect("in time").expect("another replica leads");
    assert_eq!(client.get("b").await.expect("get").kvs[0].version, 1);
}

#[tokio::test]
async fn tls_is_the_client_ports() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = authority::Authority::new("clients");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("writable");
        dir.path().join(name)
    };
    let ca = file("ca.crt", &authority.pem);
    let server = authority.sign(&["127.0.0.1"], None);
    let user = authority.sign(&[], None);
    let (cert_file, key_file) = (file("server.crt", &server.cert), file("server.key", &server.key));
    let pair = (file("user.crt", &user.cert), file("user.key", &user.key));
    let cluster = Cluster::start_as(1, |raw| {
        for member in raw.members.iter_mut().flatten() {
            member.client = member.client.replace("http://", "https://");
        }
        let port = RawPortTls {
            cert_file: Some(cert_file.clone()),
            key_file: Some(key_file.clone()),
            client_ca_file: Some(ca.clone()),
            client_cert_auth: None,
        };
        raw.tls = Some(RawTls { client: Some(port), ..RawTls::default() });
    })
    .await;
    let options = Options::to([cluster.replicas[0].client.to_string()]);
    let with = |pair| {
        let tls = ClientFiles { ca: ca.clone(), pair }.load().expect("usable");
        Client::new(Options { tls: Some(Arc::new(tls)), ..options.clone() })
    };
    let trusted = with(Some(pair));
    trusted.put("a", "1").await.expect("trusted");
    // More than a record of TLS, a write and a read, in both directions.
    let value = bytes::Bytes::from(vec![7; 1_400_000]);
    for n in 0..16_u8 {
        trusted.put(vec![b'k', n], value.clone()).await.expect("put");
    }
    let all = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let found = tokio::time::timeout(PATIENCE, trusted.range(all)).await.expect("in time").expect("range");
    assert!(found.kvs.len() == 16 && found.kvs.iter().all(|kv| kv.value == value));
    let soon = std::time::Duration::from_millis(500);
    assert!(tokio::time::timeout(soon, with(None).put("a", "2")).await.is_err(), "without a certificate");
    assert!(tokio::time::timeout(soon, Client::new(options).put("a", "3")).await.is_err(), "without TLS");
}
