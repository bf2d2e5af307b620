//! Sessions that call a server without a pause (closed loop) or at a fixed rate, and what they measured.
//!
//! Everything runs on the thread of the caller: a second thread would only move work about on the machine that the
//! servers share. A session is one task for the whole run, an operation starts none.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::Status;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_proto::etcdserverpb::{PutRequest, RangeRequest};

use super::histogram::Histogram;
use super::pace::Pacer;
use super::wire::{Wire, WireError};
use crate::endpoint::Endpoint;
use vr_replica::tls::Connector;

/// How long a session rests after a failed operation, so that a server that is down is not hammered.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// For the first answer over a native connection.
const REACHED: Duration = Duration::from_secs(4);

/// What each operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a value of so many bytes.
    Put {
        /// The value's length.
        size: usize,
    },
    /// Reads one key.
    Get {
        /// From the replica at hand, without asking the primary.
        serializable: bool,
    },
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so many operations.
    Total(u64),
    /// After so long.
    Duration(Duration),
}

/// A load.
#[derive(Clone)]
pub struct Load {
    /// What each operation does.
    pub operation: Operation,
    /// Where to; connections go round these.
    pub endpoints: Vec<Endpoint>,
    /// How connections are opened.
    pub connector: Connector,
    /// Operations in flight at most.
    pub sessions: usize,
    /// Connections that the sessions share.
    pub connections: usize,
    /// Operations a second; as many as the sessions can without it.
    pub rate: Option<f64>,
    /// Different keys, drawn evenly.
    pub keys: u64,
    /// Over the native protocol instead of gRPC; each connection is a client of its own.
    pub native: bool,
    /// Not measured, before what is.
    pub warmup: Duration,
    /// When to stop measuring.
    pub until: Until,
    /// When to give up on an operation.
    pub timeout: Duration,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Latencies of the operations that succeeded.
    pub latencies: Histogram,
    /// Failed operations by kind.
    pub errors: BTreeMap<String, u64>,
    /// The first error's text.
    pub first_error: Option<String>,
    /// Reads that found their key.
    pub found: u64,
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
}

impl Load {
    /// A client that may go to any endpoint; it stays with the primary.
    fn native_client(&self) -> vr_client::Client {
        let endpoints = self.endpoints.iter().map(|e| format!("{}:{}", e.host(), e.port()));
        let in_flight = self.sessions.div_ceil(self.connections);
        let tls = self.connector.tls().cloned();
        vr_client::Client::new(vr_client::Options { in_flight, tls, ..vr_client::Options::to(endpoints) })
    }

    /// Runs the load; calls `at_edges` at the end of the warm-up and at the end of the run (for CPU times).
    ///
    /// # Errors
    /// When a first connection cannot be opened. Later errors are counted.
    pub async fn run<E: From<WireError> + From<std::io::Error>>(
        &self,
        mut at_edges: impl FnMut() -> Result<(), E>,
    ) -> Result<Measured, E> {
        let mut links = Vec::with_capacity(self.connections);
        for n in 0..self.connections {
            links.push(Rc::new(if self.native {
                let client = self.native_client();
                reached(&client).await?;
                Link::Native(client)
            } else {
                let endpoint = self.endpoints[n % self.endpoints.len()].clone();
                Link::Grpc(Channel::open(endpoint, self.connector.clone()).await?)
            }));
        }
        let start = Instant::now();
        let run = Rc::new(Run {
            load: self.clone(),
            pacer: self.rate.map(|rate| Pacer::new(rate, start)).transpose()?,
            phase: Cell::new(Phase::Warmup),
            left: Cell::new(u64::MAX),
            over: Notify::new(),
            last_answer: Cell::new(start),
            measured: RefCell::new(Measured::default()),
        });
        let sessions = tokio::task::LocalSet::new();
        sessions
            .run_until(async {
                let mut running = JoinSet::new();
                for n in 0..self.sessions {
                    let (run, link) = (Rc::clone(&run), Rc::clone(&links[n % links.len()]));
                    running.spawn_local(async move { run.session(n as u64, link).await });
                }
                tokio::time::sleep(self.warmup).await;
                at_edges()?;
                let begin = Instant::now();
                run.phase.set(Phase::Measuring);
                match self.until {
                    Until::Total(total) => run.left.set(total),
                    Until::Duration(duration) => {
                        tokio::time::sleep(duration).await;
                        run.end();
                    }
                }
                while let Some(session) = running.join_next().await {
                    session.map_err(std::io::Error::other)?;
                }
                run.measured.borrow_mut().elapsed = run.last_answer.get().saturating_duration_since(begin);
                at_edges()
            })
            .await?;
        Ok(run.measured.take())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measuring,
    Over,
}

/// What the sessions of a run share.
struct Run {
    load: Load,
    pacer: Option<Pacer>,
    phase: Cell<Phase>,
    left: Cell<u64>,
    /// Told when no further operation is to start, for sessions that wait for their turn.
    over: Notify,
    last_answer: Cell<Instant>,
    measured: RefCell<Measured>,
}

impl Run {
    fn end(&self) {
        self.phase.set(Phase::Over);
        self.over.notify_waiters();
    }

    /// When the next operation is due; none when the run is over.
    async fn next_turn(&self) -> Option<Instant> {
        if self.phase.get() == Phase::Over {
            return None;
        }
        let Some(pacer) = &self.pacer else {
            return Some(Instant::now());
        };
        tokio::select! {
            due = pacer.next() => Some(due),
            () = self.over.notified() => None,
        }
    }

    /// Takes one of the operations that are to be measured.
    fn take(&self) {
        let left = self.left.get() - 1;
        self.left.set(left);
        if left == 0 {
            self.end();
        }
    }

    async fn session(&self, number: u64, link: Rc<Link>) {
        let mut random = Random::new(number);
        let value = match self.load.operation {
            Operation::Put { size } => random.bytes(size),
            Operation::Get { .. } => Bytes::new(),
        };
        while let Some(due) = self.next_turn().await {
            let measuring = self.phase.get() == Phase::Measuring;
            if measuring {
                self.take();
            }
            let key = key(random.below(self.load.keys));
            let answer = tokio::time::timeout(self.load.timeout, self.call(&link, key, &value)).await;
            let latency = due.elapsed();
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            if measuring {
                self.last_answer.set(Instant::now());
                self.measured.borrow_mut().count(latency, &answer);
            }
            if answer.is_err() {
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                if let Link::Grpc(channel) = &*link {
                    channel.reopen().await;
                }
            }
        }
    }

    async fn native_call(
        &self,
        client: &vr_client::Client,
        key: Bytes,
        value: &Bytes,
    ) -> Result<bool, Status> {
        let found = match self.load.operation {
            Operation::Put { .. } => client.put(key, value.clone()).await.map(|_| false),
            Operation::Get { serializable } => {
                let range = RangeRequest { key, serializable, ..RangeRequest::default() };
                client.range(range).await.map(|answer| answer.count > 0)
            }
        };
        found.map_err(|error| match error {
            vr_client::Error::Refused { code, text } => {
                Status::new(tonic::Code::from_i32(i32::try_from(code).unwrap_or_default()), text)
            }
            other => Status::unavailable(other.to_string()),
        })
    }

    /// Whether the key was there, for a read.
    async fn call(&self, link: &Link, key: Bytes, value: &Bytes) -> Result<bool, Status> {
        let mut client = match link {
            Link::Native(client) => return self.native_call(client, key, value).await,
            Link::Grpc(channel) => channel.client.borrow().clone(),
        };
        match self.load.operation {
            Operation::Put { .. } => client
                .put(PutRequest { key, value: value.clone(), ..PutRequest::default() })
                .await
                .map(|_| false),
            Operation::Get { serializable } => {
                let range = RangeRequest { key, serializable, ..RangeRequest::default() };
                client.range(range).await.map(|answer| answer.get_ref().count > 0)
            }
        }
    }
}

impl Measured {
    fn count(&mut self, latency: Duration, answer: &Result<bool, Status>) {
        match answer {
            Ok(found) => {
                self.latencies.record(latency);
                self.found += u64::from(*found);
            }
            Err(status) => {
                *self.errors.entry(format!("{:?}", status.code())).or_default() += 1;
                self.first_error.get_or_insert_with(|| status.message().to_owned());
            }
        }
    }
}

/// Asks something, so that what keeps a native client from connecting is known before anything is measured.
async fn reached(client: &vr_client::Client) -> Result<(), std::io::Error> {
    let asked = RangeRequest { key: Bytes::from_static(b"x"), serializable: true, ..RangeRequest::default() };
    if tokio::time::timeout(REACHED, client.range(asked)).await.is_ok() {
        return Ok(());
    }
    let problem = client.problem().unwrap_or_else(|| format!("no answer within {REACHED:?}"));
    Err(std::io::Error::other(format!("no native connection to any endpoint; {problem}")))
}

/// What sessions share.
enum Link {
    Grpc(Channel),
    /// Keeps its connection by itself.
    Native(vr_client::Client),
}

/// A gRPC connection that is opened anew when it broke.
struct Channel {
    endpoint: Endpoint,
    connector: Connector,
    client: RefCell<KvClient<Wire>>,
    wire: RefCell<Wire>,
}

impl Channel {
    async fn open(endpoint: Endpoint, connector: Connector) -> Result<Channel, WireError> {
        let wire = Wire::open(&endpoint, &connector).await?;
        let client = RefCell::new(client(&endpoint, wire.clone()));
        Ok(Channel { endpoint, connector, client, wire: RefCell::new(wire) })
    }

    /// Opens the connection anew if it broke. When that fails, the next call says why.
    async fn reopen(&self) {
        if !self.wire.borrow().is_closed() {
            return;
        }
        if let Ok(wire) = Wire::open(&self.endpoint, &self.connector).await {
            *self.client.borrow_mut() = client(&self.endpoint, wire.clone());
            *self.wire.borrow_mut() = wire;
        }
    }
}

fn client(endpoint: &Endpoint, wire: Wire) -> KvClient<Wire> {
    let origin = endpoint.to_string().parse().expect("an endpoint is a valid URI");
    KvClient::with_origin(wire, origin).max_decoding_message_size(usize::MAX)
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{number:016}"))
}

/// splitmix64: quick, and the same keys in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xa076_1d64_78bd_642f))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Bytes that do not compress, so that a server's compression is not flattered.
    fn bytes(&mut self, length: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        Bytes::from(bytes)
    }
}
