//! The writers and the reader of a drill, all through the client API.
//!
//! Every answer goes into the [`Record`]; what a write was to do is noted as unknown when no clear answer came. The
//! input is then sent again, heartbeats go on with the next number.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tonic::{Code, Status};
use vr_proto::etcdserverpb::request_op::Request;
use vr_proto::etcdserverpb::{
    DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::input::Batch;
use super::proof::{Shown, View};
use super::record::{Effect, Record, ValueHash};
use crate::client::Client;

/// Everything that a drill on one machine writes begins with this.
pub const PREFIX: &str = "drill/";
/// A value that only this run can know.
pub const CANARY: &str = "drill/canary";
/// Transactions of the input in flight.
const LOADERS: usize = 32;
/// Between two heartbeats of one writer.
const BEAT: Duration = Duration::from_millis(5);
/// What [`Writers::keeps`] is on one machine.
const HEARTBEATS_KEPT: u64 = 200;
/// After a failed write.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);
/// Keys read at once: even of the largest values, a page stays below 100 MB.
const PAGE: i64 = 64;

/// What all writers of a drill share.
#[derive(Clone)]
pub struct Writers {
    client: Client,
    prefix: Rc<str>,
    /// A heartbeat ends the one that came so many before it.
    keeps: u64,
    record: Rc<RefCell<Record>>,
    stop: Rc<Cell<bool>>,
    stretch: Rc<Cell<Stretch>>,
}

/// What became of the writes of a stretch of time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stretch {
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Requests that were not.
    pub failed: u64,
    /// The longest that one of either took.
    pub slowest: Duration,
}

/// A write that goes into a transaction.
type Write = (Bytes, Option<Bytes>);

impl Writers {
    /// Writers that use `client`.
    #[must_use]
    pub fn new(client: Client) -> Writers {
        Writers {
            client,
            prefix: PREFIX.into(),
            keeps: HEARTBEATS_KEPT,
            record: Rc::default(),
            stop: Rc::default(),
            stretch: Rc::default(),
        }
    }

    /// Writers in a cluster of others, whose keys all begin with `prefix`; every heartbeat stays.
    #[must_use]
    pub fn below(client: Client, prefix: &str) -> Writers {
        Writers { prefix: prefix.into(), keeps: u64::MAX, ..Writers::new(client) }
    }

    /// What has been written so far.
    #[must_use]
    pub fn record(&self) -> std::cell::Ref<'_, Record> {
        self.record.borrow()
    }

    /// Ends the heartbeats; each finishes what it has sent.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// What became of the writes that ended since this was last asked for.
    pub fn stretch(&self) -> Stretch {
        self.stretch.take()
    }

    /// Loads all batches, many at once, and calls `progress` with the entries and bytes of each that was acknowledged.
    ///
    /// # Errors
    /// The answer to the first write that was refused, or that did not succeed with all `patience`.
    pub async fn load(
        &self,
        batches: &mut mpsc::Receiver<Batch>,
        patience: Duration,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(), Status> {
        let batches = Mutex::new(batches);
        let loaders = (0..LOADERS).map(|number| {
            let client = self.client.beginning_at(number);
            let batches = &batches;
            async move {
                loop {
                    let Some(batch) = batches.lock().await.recv().await else { return Ok(()) };
                    let bytes = batch.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
                    let entries = batch.len() as u64;
                    let writes = batch.into_iter().map(|(key, value)| (key, Some(value))).collect();
                    self.write_with(&client, patience, writes).await?;
                    progress(entries, bytes);
                }
            }
        });
        futures_util::future::try_join_all(loaders).await.map(drop)
    }

    /// One numbered heartbeat after another until [`Writers::stop`]; `name` tells writers apart.
    pub async fn heartbeats(&self, name: &str, endpoint: usize) {
        let client = self.client.beginning_at(endpoint);
        let key = |number: u64| Bytes::from(format!("{}heartbeat/{name}/{number:08}", self.prefix));
        for number in 0.. {
            if self.stop.get() {
                return;
            }
            let mut writes = vec![(key(number), Some(Bytes::from(format!("{name} {number}"))))];
            if number >= self.keeps {
                writes.push((key(number - self.keeps), None));
            }
            let pause = match self.write(&client, writes).await {
                Ok(_) => BEAT,
                Err(_) => {
                    client.go_on();
                    PAUSE_AFTER_ERROR
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes one key and returns its revision; again, while the server says that it cannot yet.
    ///
    /// # Errors
    /// The server's last answer, when it was refused or `patience` is over.
    pub async fn put_patiently(&self, key: &str, value: Bytes, patience: Duration) -> Result<i64, Status> {
        let writes = vec![(Bytes::from(key.to_owned()), Some(value))];
        self.write_with(&self.client, patience, writes).await
    }

    /// Writes one key and returns its revision.
    ///
    /// # Errors
    /// The server's answer; the outcome is then noted as unknown unless it says that nothing was done.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<i64, Status> {
        self.write(&self.client, vec![(Bytes::from(key.to_owned()), Some(value))]).await
    }

    /// Tries, round all endpoints, until one write succeeds: `key/0`, `key/1`, …
    ///
    /// # Errors
    /// The last answer, when nothing succeeded in time.
    pub async fn put_until_served(&self, key: &str, patience: Duration) -> Result<i64, Status> {
        let deadline = Instant::now() + patience;
        for attempt in 0u64.. {
            match self.put(&format!("{key}/{attempt}"), Bytes::from_static(b"served")).await {
                Ok(revision) => return Ok(revision),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {
                    self.client.go_on();
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
        unreachable!("the loop ends by its deadline")
    }

    async fn write_with(
        &self,
        client: &Client,
        patience: Duration,
        writes: Vec<Write>,
    ) -> Result<i64, Status> {
        let deadline = Instant::now() + patience;
        loop {
            match self.write(client, writes.clone()).await {
                Err(status) if !surely_not_executed(&status) && Instant::now() < deadline => {
                    client.go_on();
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// One transaction; a single put goes as a Put, so that both ways are rehearsed.
    async fn write(&self, client: &Client, writes: Vec<Write>) -> Result<i64, Status> {
        let effects: Vec<(Bytes, Effect)> =
            writes.iter().map(|(key, value)| (key.clone(), value.as_deref().map(ValueHash::of))).collect();
        let began = Instant::now();
        let answer = match <[Write; 1]>::try_from(writes) {
            Ok([(key, Some(value))]) => {
                let put = PutRequest { key, value, ..PutRequest::default() };
                client.kv().put(put).await.map(|answer| answer.into_inner().header)
            }
            Ok(single) => transaction(client, Vec::from(single)).await,
            Err(several) => transaction(client, several).await,
        };
        let answer = answer.and_then(|header| {
            header.map(|header| header.revision).ok_or_else(|| Status::internal("an answer without a header"))
        });
        let mut stretch = self.stretch.get();
        stretch.acknowledged += u64::from(answer.is_ok());
        stretch.failed += u64::from(answer.is_err());
        stretch.slowest = stretch.slowest.max(began.elapsed());
        self.stretch.set(stretch);
        let mut record = self.record.borrow_mut();
        match answer {
            Ok(revision) => {
                let now = Instant::now();
                record.answered(revision);
                for (key, effect) in effects {
                    record.acknowledge(key, effect, revision, now);
                }
                Ok(revision)
            }
            Err(status) => {
                if !surely_not_executed(&status) {
                    for (key, effect) in effects {
                        record.unknown(key, effect);
                    }
                }
                Err(status)
            }
        }
    }
}

async fn transaction(
    client: &Client,
    writes: Vec<Write>,
) -> Result<Option<vr_proto::etcdserverpb::ResponseHeader>, Status> {
    let operation = |(key, value): Write| RequestOp {
        request: Some(match value {
            Some(value) => Request::RequestPut(PutRequest { key, value, ..PutRequest::default() }),
            None => Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
        }),
    };
    let txn = TxnRequest { success: writes.into_iter().map(operation).collect(), ..TxnRequest::default() };
    client.kv().txn(txn).await.map(|answer| answer.into_inner().header)
}

/// Refused for what it is, before anything was done. Everything else may have been carried out.
fn surely_not_executed(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::Unimplemented
            | Code::PermissionDenied
            | Code::OutOfRange
    )
}

/// The end of the range of all keys that begin with `prefix`, which does not end with the highest byte.
#[must_use]
pub fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// Everything below `prefix` as the service shows it now, linearizably and at one revision; and the canary's value.
///
/// # Errors
/// The server's answer, or the end of `patience` while no server answers.
pub async fn read_all(
    client: &Client,
    prefix: &str,
    patience: Duration,
) -> Result<(View, Option<Bytes>), Status> {
    let deadline = Instant::now() + patience;
    let mut view = View::new();
    let mut canary = None;
    let mut revision = 0;
    let mut from = Bytes::copy_from_slice(prefix.as_bytes());
    loop {
        let request = RangeRequest {
            key: from.clone(),
            range_end: end_of(prefix),
            limit: PAGE,
            revision,
            ..RangeRequest::default()
        };
        let page = match client.kv().range(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if Instant::now() >= deadline || surely_not_executed(&status) => return Err(status),
            Err(_) => {
                client.go_on();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        revision = page.header.map_or(revision, |header| header.revision.max(revision));
        // The next page begins right behind the last key of this one.
        let last = page.kvs.last().map(|kv| Bytes::from([&kv.key[..], b"\0"].concat()));
        for kv in page.kvs {
            if kv.key == CANARY.as_bytes() {
                canary = Some(Bytes::copy_from_slice(&kv.value));
            }
            // A copy: the key is a slice of the whole page.
            let shown = Shown { mod_revision: kv.mod_revision, value: ValueHash::of(&kv.value) };
            view.insert(Bytes::copy_from_slice(&kv.key), shown);
        }
        match last {
            Some(next) if page.more => from = next,
            _ => return Ok((view, canary)),
        }
    }
}

/// The hash over the whole history up to the present revision, from each server; servers that lag are waited for.
///
/// # Errors
/// The answer of a server that does not come to it in time.
pub async fn hash_everywhere(client: &Client, patience: Duration) -> Result<Vec<u32>, Status> {
    let deadline = Instant::now() + patience;
    let now = loop {
        let request = RangeRequest { key: Bytes::from_static(b"\0"), limit: 1, ..RangeRequest::default() };
        match client.kv().range(request).await {
            Ok(answer) => break answer.into_inner().header.map_or(0, |header| header.revision),
            Err(status) if Instant::now() >= deadline => return Err(status),
            Err(_) => {
                client.go_on();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    };
    let mut hashes = Vec::with_capacity(client.endpoints());
    for server in 0..client.endpoints() {
        hashes.push(loop {
            match client.maintenance(server).hash_kv(HashKvRequest { revision: now }).await {
                Ok(answer) => break answer.into_inner().hash,
                Err(status) if Instant::now() >= deadline => return Err(status),
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
            }
        });
    }
    Ok(hashes)
}
