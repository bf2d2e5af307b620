//! Writers that go on whatever happens to the cluster, and the account of what they were told.
//!
//! Each key is written by one writer, once. Half of the writers require that the key does not exist, so that a write
//! which is carried out a second time shows as one that failed; the others put it as it is, so that the key's version
//! shows it. Writers try again until they have an answer.

use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tonic::transport::Channel;
use vr::client::Client;
use vr::endpoint::Endpoint;
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_replica::tls::Connector;

use crate::running::PATIENCE;

/// For one answer, until the write is tried elsewhere.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(5);
/// What a step lasts at least, after what it does.
const STEP: Duration = Duration::from_millis(1500);
const VALUE: usize = 256;

/// A write that was acknowledged.
struct Acknowledged {
    key: String,
    revision: i64,
    began: Instant,
    at: Instant,
    /// Tries whose outcome was not told.
    uncertain: u32,
}

#[derive(Default)]
struct Shared {
    endpoints: RwLock<Vec<Endpoint>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    stop: std::sync::atomic::AtomicBool,
}

/// What one step meant to those who wrote.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The longest time in which nobody's write was acknowledged.
    pub(crate) pause: Duration,
    /// All but a hundredth of the writes took no longer.
    #[allow(dead_code, reason = "not every test compares")]
    pub(crate) p99: Duration,
    /// Tries that ended with an error.
    pub(crate) untold: u32,
}

/// Writers under way.
pub(crate) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
    steps: Vec<(&'static str, Instant)>,
}

impl Load {
    pub(crate) fn start(endpoints: &[Endpoint], writers: usize) -> Load {
        let shared = Arc::new(Shared { endpoints: RwLock::new(endpoints.to_vec()), ..Shared::default() });
        let writers = (0..writers).map(|number| tokio::spawn(write(shared.clone(), number))).collect();
        Load { shared, writers, steps: Vec::new() }
    }

    /// Clients know of one more replica.
    pub(crate) fn also_at(&self, endpoint: Endpoint) {
        self.shared.endpoints.write().expect("not poisoned").push(endpoint);
    }

    /// Clients do not try the `number`th replica any more.
    pub(crate) fn no_longer_at(&self, number: usize) {
        self.shared.endpoints.write().expect("not poisoned").remove(number);
    }

    /// What happens from here on is told under this name. The step before is over when writes go on.
    pub(crate) async fn step(&mut self, name: &'static str) {
        tokio::time::sleep(STEP).await;
        let (before, deadline) = (self.count(), Instant::now() + PATIENCE);
        while self.count() == before {
            assert!(Instant::now() < deadline, "no write is acknowledged any more, before the step `{name}`");
            tokio::time::sleep(AGAIN).await;
        }
        self.steps.push((name, Instant::now()));
    }

    fn count(&self) -> usize {
        self.shared.acknowledged.lock().expect("not poisoned").len()
    }

    /// Stops the writers, checks every write, prints and returns what each step meant to them.
    pub(crate) async fn finish(self) -> Vec<Step> {
        self.shared.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("no writer fails");
        }
        let endpoints = self.shared.endpoints.read().expect("not poisoned").clone();
        let mut all = std::mem::take(&mut *self.shared.acknowledged.lock().expect("not poisoned"));
        verify(&endpoints, &all).await;
        all.sort_by_key(|write| write.at);
        let uncertain = all.iter().map(|write| write.uncertain).sum::<u32>();
        eprintln!("{} writes acknowledged, {uncertain} tries had no answer; per step, ms:", all.len());
        eprintln!("{:>8} {:>8} {:>8} {:>8} {:>8}", "pause", "slowest", "p99", "writes", "untold");
        let mut steps = Vec::new();
        for pair in self.steps.windows(2) {
            let ((name, from), (_, to)) = (pair[0], pair[1]);
            let within: Vec<&Acknowledged> = all.iter().filter(|w| w.at >= from && w.at < to).collect();
            let pauses = within.windows(2).map(|pair| pair[1].at - pair[0].at);
            let pause = pauses.max().unwrap_or(to - from);
            let mut took: Vec<Duration> = within.iter().map(|w| w.at - w.began).collect();
            took.sort_unstable();
            let slowest = took.last().copied().unwrap_or_default();
            let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
            let untold = within.iter().map(|write| write.uncertain).sum();
            eprintln!(
                "{:>8.1} {:>8.1} {:>8.1} {:>8} {untold:>8}  {name}",
                pause.as_secs_f64() * 1e3,
                slowest.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3,
                within.len()
            );
            steps.push(Step { name, pause, p99, untold });
        }
        steps
    }
}

async fn write(shared: Arc<Shared>, number: usize) {
    let connect =
        |endpoints: &[Endpoint]| Client::new(endpoints, ANSWER, &Connector::default()).beginning_at(number);
    let mut known = shared.endpoints.read().expect("not poisoned").clone();
    let mut client = connect(&known);
    for count in 0.. {
        if shared.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let now = shared.endpoints.read().expect("not poisoned").clone();
        if now != known {
            known = now;
            client = connect(&known);
        }
        let key = format!("{number}/{count}");
        let (began, mut uncertain) = (Instant::now(), 0);
        let revision = loop {
            let outcome = if number.is_multiple_of(2) {
                create(client.kv(), &key, uncertain).await
            } else {
                put(client.kv(), &key).await
            };
            match outcome {
                Ok(revision) => break revision,
                Err(status) => {
                    assert!(began.elapsed() < PATIENCE, "{key} is not written: {status}");
                    eprintln!("{key} is tried again: {:?}, {}", status.code(), status.message());
                    uncertain += 1;
                    client.go_on();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        let write = Acknowledged { key, revision, began, at: Instant::now(), uncertain };
        shared.acknowledged.lock().expect("not poisoned").push(write);
    }
}

fn request(key: &str) -> pb::PutRequest {
    let mut value = key.as_bytes().to_vec();
    value.resize(VALUE, b'.');
    pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..pb::PutRequest::default() }
}

async fn put(mut kv: KvClient<Channel>, key: &str) -> Result<i64, tonic::Status> {
    let answer = kv.put(request(key)).await?.into_inner();
    Ok(answer.header.expect("a header").revision)
}

/// Puts it if it does not exist.
async fn create(mut kv: KvClient<Channel>, key: &str, uncertain: u32) -> Result<i64, tonic::Status> {
    let absent = pb::Compare {
        key: key.to_owned().into(),
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Version.into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..pb::Compare::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let look = pb::RangeRequest { key: key.to_owned().into(), ..pb::RangeRequest::default() };
    let request = pb::TxnRequest {
        compare: vec![absent],
        success: vec![op(pb::request_op::Request::RequestPut(request(key)))],
        failure: vec![op(pb::request_op::Request::RequestRange(look))],
    };
    let answer = kv.txn(request).await?.into_inner();
    if answer.succeeded {
        return Ok(answer.header.expect("a header").revision);
    }
    assert!(uncertain > 0, "{key} was there before it was written: its write was carried out twice");
    match answer.responses.first().and_then(|response| response.response.clone()) {
        Some(pb::response_op::Response::ResponseRange(found)) => Ok(found.kvs[0].mod_revision),
        other => panic!("{key}: {other:?}"),
    }
}

/// Every acknowledged write is there, and was carried out no more often than it was asked for.
async fn verify(endpoints: &[Endpoint], all: &[Acknowledged]) {
    let client = Client::new(endpoints, ANSWER, &Connector::default());
    // All keys that begin with a digit: others may have written beside these.
    let everything = pb::RangeRequest {
        key: bytes::Bytes::from_static(b"0"),
        range_end: bytes::Bytes::from_static(b":"),
        ..pb::RangeRequest::default()
    };
    let deadline = Instant::now() + PATIENCE;
    let kvs = loop {
        match client.kv().range(everything.clone()).await {
            Ok(answer) => break answer.into_inner().kvs,
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        client.go_on();
    };
    let found: std::collections::HashMap<&[u8], &vr_proto::mvccpb::KeyValue> =
        kvs.iter().map(|kv| (kv.key.as_ref(), kv)).collect();
    for write in all {
        let Acknowledged { key, revision, uncertain, .. } = write;
        let kv = found.get(key.as_bytes()).unwrap_or_else(|| panic!("{key} was acknowledged and is lost"));
        assert_eq!(kv.value, request(key).value, "{key}");
        assert!(kv.mod_revision >= *revision && kv.version <= i64::from(*uncertain) + 1, "{key}: {kv:?}");
        if *uncertain == 0 {
            assert_eq!((kv.mod_revision, kv.version), (*revision, 1), "{key} was carried out again");
        }
    }
    assert_eq!(found.len(), all.len(), "keys that nobody was told of");
}
