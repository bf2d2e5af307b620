//! What clients see while replicas are killed and frozen: every write once, every event in order, and a word when
//! nobody leads.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::rpc::{Watching, everything};
use cluster::{Cluster, PATIENCE, eventually, http, rpc};
use rustix::process::Signal;
use tonic::Code;
use tonic::transport::Channel;
use vr_proto::etcdserverpb as pb;

/// One change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    revision: i64,
    key: Bytes,
    value: Bytes,
    version: i64,
}

fn changes(response: pb::WatchResponse) -> Vec<Change> {
    let change = |event: vr_proto::mvccpb::Event| {
        let kv = event.kv.expect("an event has its key");
        Change { revision: kv.mod_revision, key: kv.key, value: kv.value, version: kv.version }
    };
    response.events.into_iter().map(change).collect()
}

/// Everything since the beginning through `end`, as this replica tells it; begins again behind what it knows whenever
/// the stream breaks.
async fn told(channel: Channel, end: Arc<AtomicUsize>) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    let last = |all: &[Change]| all.last().map_or(1, |change| change.revision);
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        assert!(Instant::now() < until, "only told of {} changes", all.len());
        let Ok(mut watching) = Watching::open(&channel, everything(last(&all) + 1), false).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let end = end.load(Ordering::SeqCst);
            if end > 0 && last(&all) >= end as i64 {
                return all;
            }
            // A frozen look at the end is enough: it is known only when everything has been written.
            match tokio::time::timeout(Duration::from_millis(100), watching.next()).await {
                Ok(Ok(response)) => all.extend(changes(response)),
                Ok(Err(_)) => break,
                Err(_) => {}
            }
        }
    }
}

/// What became of a client's requests, by its own record.
#[derive(Default)]
struct Record {
    /// Number of the request, and the revision it was acknowledged with.
    acknowledged: BTreeMap<u32, i64>,
    /// Requests whose outcome it was not told.
    unknown: BTreeSet<u32>,
    /// Values of the shared counter that it was told it has set.
    counted: Vec<u64>,
    counts_unknown: u64,
}

const CLIENTS: usize = 8;
const KILLS: usize = 4;

/// Writes `own/<client>` = 1, 2, 3… without looking, each number once, and adds one to `shared` by comparing first.
async fn work(client: usize, channels: Vec<Channel>, over: Arc<AtomicBool>) -> Record {
    let mut record = Record::default();
    let mut place = client;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let channel = &channels[place % channels.len()];
        number += 1;
        let own = format!("own/{client}");
        let txn = pb::TxnRequest {
            success: vec![rpc::put_op(own.clone(), number.to_string()), rpc::put_op(format!("{own}/at"), "")],
            ..Default::default()
        };
        match rpc::kv(channel).txn(txn).await {
            Ok(answer) => {
                record.acknowledged.insert(number, rpc::revision(answer.into_inner().header));
            }
            Err(_) => {
                record.unknown.insert(number);
                place += 1;
            }
        }
        match count(channel).await {
            Ok(Some(value)) => record.counted.push(value),
            Ok(None) => {}
            Err(_) => record.counts_unknown += 1,
        }
    }
    record
}

/// Adds one, unless somebody else was quicker; the value set.
async fn count(channel: &Channel) -> Result<Option<u64>, tonic::Status> {
    let Ok(found) = rpc::get(channel, "shared").await else { return Ok(None) };
    let (before, at) = found.map_or((0, 0), |kv| {
        let text = std::str::from_utf8(&kv.value).expect("written as text");
        (text.parse::<u64>().expect("a number"), kv.mod_revision)
    });
    let unchanged = pb::Compare {
        key: Bytes::from_static(b"shared"),
        target: pb::compare::CompareTarget::Mod as i32,
        result: pb::compare::CompareResult::Equal as i32,
        target_union: Some(pb::compare::TargetUnion::ModRevision(at)),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![unchanged],
        success: vec![rpc::put_op("shared", (before + 1).to_string())],
        ..Default::default()
    };
    let answer = rpc::kv(channel).txn(txn).await?.into_inner();
    Ok(answer.succeeded.then_some(before + 1))
}

/// Clients write through every replica while one primary after the other is killed, and a watcher sits on each
/// replica. In the end the history says what was executed, and every watcher must have seen the same one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_happen_once_and_events_come_in_order_while_primaries_are_killed() {
    let mut cluster = Cluster::start(3).await;
    let end = Arc::new(AtomicUsize::new(0));
    let watchers: Vec<_> =
        cluster.channels().into_iter().map(|channel| tokio::spawn(told(channel, end.clone()))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(work(client, cluster.channels(), over.clone()))).collect();
    for _ in 0..KILLS {
        let primary = cluster.settled().await;
        let before = cluster.replicas[primary].status().await.expect("it was ready").revision;
        let survivor = (primary + 1) % 3;
        eventually("clients write", async || {
            (cluster.replicas[primary].status().await?.revision > before + 200).then_some(())
        })
        .await;
        cluster.replicas[primary].kill();
        let then = cluster.replicas[survivor].status().await.expect("it runs").revision;
        eventually("clients write without it", async || {
            (cluster.replicas[survivor].status().await?.revision > then + 200).then_some(())
        })
        .await;
        cluster.replicas[primary].start();
    }
    cluster.settled().await;
    over.store(true, Ordering::Relaxed);
    let mut records = Vec::new();
    for client in clients {
        records.push(client.await.expect("it does not panic"));
    }
    // A request whose client was told nothing may still be on its way: the last write is behind all of a gateway's.
    let mut last = 0;
    for replica in &cluster.replicas {
        last = last.max(rpc::put(&replica.channel(), "end", "").await.expect("the cluster is quiet"));
    }
    end.store(usize::try_from(last).expect("positive"), Ordering::SeqCst);
    let mut histories = Vec::new();
    for watcher in watchers {
        histories.push(watcher.await.expect("it is told everything"));
    }

    let history = &histories[0];
    assert!(history.iter().map(|c| c.revision).is_sorted(), "events out of order");
    let revisions: BTreeSet<i64> = history.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (2..=last).collect(), "a revision was left out");
    for (place, other) in histories.iter().enumerate() {
        let differs = history.iter().zip(other).find(|(a, b)| a != b);
        assert!(
            differs.is_none() && history.len() == other.len(),
            "watcher {place} saw another: {differs:?}"
        );
    }

    let (mut acknowledged, mut unknown) = (0, 0);
    for (client, record) in records.iter().enumerate() {
        let own = format!("own/{client}");
        let mut executed = BTreeMap::new();
        for (version, change) in (1..).zip(history.iter().filter(|change| change.key == own)) {
            assert_eq!(change.version, version);
            let number: u32 = std::str::from_utf8(&change.value).expect("text").parse().expect("a number");
            let before = executed.insert(number, change.revision);
            assert_eq!(before, None, "write {number} of client {client} was executed twice");
        }
        for (number, revision) in &record.acknowledged {
            assert_eq!(executed.get(number), Some(revision), "write {number} of client {client} was lost");
        }
        for number in executed.keys() {
            let known = record.acknowledged.contains_key(number) || record.unknown.contains(number);
            assert!(known, "client {client} never wrote {number}");
        }
        acknowledged += record.acknowledged.len();
        unknown += record.unknown.len();
    }
    let counter: Vec<u64> = history
        .iter()
        .filter(|change| change.key == "shared")
        .map(|change| std::str::from_utf8(&change.value).expect("text").parse().expect("a number"))
        .collect();
    assert_eq!(counter, (1..=counter.len() as u64).collect::<Vec<_>>(), "the counter jumped");
    let mut counted: Vec<u64> = records.iter().flat_map(|record| record.counted.iter().copied()).collect();
    let told = counted.len();
    counted.sort_unstable();
    counted.dedup();
    assert_eq!(counted.len(), told, "two clients were told that they had set the same value");
    assert!(counted.last().copied().unwrap_or(0) <= counter.len() as u64, "an acknowledged count was lost");
    let most = told as u64 + records.iter().map(|record| record.counts_unknown).sum::<u64>();
    assert!(counter.len() as u64 <= most, "the counter says {}, at most {most} were added", counter.len());
    assert!(acknowledged > 500, "too little happened to show anything: {acknowledged} writes");
    eprintln!(
        "{KILLS} primaries killed: {acknowledged} writes and {told} counts acknowledged, {unknown} and {} unknown, \
         {last} revisions",
        most - told as u64,
    );
}

/// More than all the buffers between a replica and a client that does not read.
const SLOW_EVENTS: usize = 30_000;
const SLOW_VALUE: usize = 2048;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_is_neither_dropped_nor_in_the_way() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    let mut slow = Watching::open(&replica.channel(), everything(0), false).await.expect("it serves");
    let mut quick = Watching::open(&replica.channel(), everything(0), false).await.expect("it serves");
    assert!(slow.next().await.expect("its first answer").created);
    assert!(quick.next().await.expect("its first answer").created);
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let channel = replica.channel();
            tokio::spawn(async move {
                for number in (writer..SLOW_EVENTS).step_by(32) {
                    let value = vec![number as u8; SLOW_VALUE];
                    rpc::put(&channel, format!("{number}"), value).await.expect("it serves");
                }
            })
        })
        .collect();
    let seen = drain(&mut quick).await;
    for writer in writers {
        writer.await.expect("written");
    }
    let late = drain(&mut slow).await;
    assert_eq!(late.len(), SLOW_EVENTS);
    let at = seen.iter().zip(&late).position(|(a, b)| a != b);
    assert_eq!(at, None, "the slow one was told something else");
    assert!(late.windows(2).all(|two| two[0].revision + 1 == two[1].revision), "not in order, or not all");
    // And it is one like any other again.
    rpc::put(&replica.channel(), "after", "").await.expect("it serves");
    let after = changes(slow.next().await.expect("still open"));
    assert_eq!(after[0].key, "after");
}

async fn drain(watching: &mut Watching) -> Vec<Change> {
    let mut all = Vec::new();
    while all.len() < SLOW_EVENTS {
        let response = tokio::time::timeout(PATIENCE, watching.next()).await.expect("it goes on");
        let response = response.expect("it is not dropped");
        assert!(!response.canceled, "{response:?}");
        all.extend(changes(response));
    }
    all
}

/// Freezes all but one, primary or not, and looks at what its clients are told.
async fn alone(leads: bool) {
    let cluster = Cluster::start(3).await;
    let primary = cluster.settled().await;
    let left = if leads { primary } else { (primary + 1) % 3 };
    let replica = &cluster.replicas[left];
    let channel = replica.channel();
    let mut anxious = Watching::open(&channel, everything(0), true).await.expect("somebody leads");
    let mut patient = Watching::open(&channel, everything(0), false).await.expect("somebody leads");
    assert!(anxious.next().await.expect("its first answer").created);
    assert!(patient.next().await.expect("its first answer").created);
    let others = || cluster.replicas.iter().filter(|other| other.id != replica.id);
    others().for_each(|other| other.signal(Signal::STOP));

    let began = Instant::now();
    let told = tokio::time::timeout(PATIENCE, anxious.next()).await.expect("it is told in time");
    let told = told.expect_err("nobody leads");
    eprintln!("primary left: {leads}; told that nobody leads after {:?}", began.elapsed());
    assert_eq!((told.code(), told.message()), (Code::Unavailable, "etcdserver: no leader"));
    let refused = Watching::open(&channel, everything(0), true).await.err().expect("nobody leads");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));

    // Alive, which is all that a restart could better; not ready, and not healthy.
    assert_eq!(http::get(replica.admin, "/livez").await.expect("it answers").0, 200);
    let (status, why) = http::get(replica.admin, "/readyz").await.expect("it answers");
    assert!(status == 503 && why.starts_with("not ready: "), "{status} {why}");
    let (status, why) = http::get(replica.client, "/health").await.expect("it answers");
    let unhealthy = r#"{"health":"false","reason":"no primary that a quorum follows"}"#;
    assert_eq!((status, why.as_str()), (503, unhealthy));
    let refused = rpc::put(&channel, "key", "unheard").await.expect_err("no quorum");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");

    others().for_each(|other| other.signal(Signal::CONT));
    cluster.settled().await;
    eventually("it serves again", async || rpc::put(&channel, "key", "heard").await.ok()).await;
    let event = async {
        loop {
            let seen = changes(patient.next().await.expect("it was not asked to end"));
            if seen.iter().any(|change| change.value == "heard") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, event).await.expect("the other stream goes on");
}

#[tokio::test]
async fn a_backup_without_the_others_says_that_nobody_leads() {
    alone(false).await;
}

#[tokio::test]
async fn a_primary_without_the_others_says_that_nobody_leads() {
    alone(true).await;
}
