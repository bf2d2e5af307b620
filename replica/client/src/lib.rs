//! A native client: the store's own operations, thousands in flight on one connection, each executed once however often
//! the connection breaks.
//!
//! For programs that need more than gRPC carries. The operations, their checks and their answers are etcd's
//! (`vr_proto::etcdserverpb`); what differs is the way there: many requests to a frame, and a session of the client's
//! own, in which each request has a number. When a connection breaks, the client turns to the next replica and sends
//! again what is unanswered under the same numbers; the cluster knows which of them it has executed.
//!
//! It promises for each call one of three: the store's answer; [`Error::Rejected`], surely not executed; or
//! [`Error::Unknown`], executed at most once and nobody can say what it answered (the replicas that could have are gone,
//! or the session was forgotten while the client was away). It never repeats a write on its own under another number
//! unless the first was surely without effect.
//!
//! A call waits for as long as no replica can be reached ([`Client::problem`] says why); whoever has no patience puts a
//! timeout around it. What was sent by then may be executed nevertheless.
//!
//! It does not watch, and it does not keep leases alive: use gRPC beside it.
//!
//! ```no_run
//! # async fn example() -> Result<(), vr_client::Error> {
//! let endpoints = ["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"].map(String::from);
//! let client = vr_client::Client::new(vr_client::Options::to(endpoints));
//! client.put("greeting", "hello").await?;
//! let greeting = client.get("greeting").await?.kvs;
//! # Ok(())
//! # }
//! ```

mod connection;
mod session;

use bytes::Bytes;
use session::{Call, Session};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
pub use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::request_op::Request;
use vr_proto::etcdserverpb::response_op::Response;

/// How a client is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of the replicas' client ports. The client stays with one; the primary, if it is among them.
    pub endpoints: Vec<String>,
    /// Calls that wait for their answer at most; more wait their turn before they are sent. Up to 8192.
    pub in_flight: usize,
    /// With TLS, as the client ports have it: whom to trust, and with mutual TLS what to show.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// After this long in which no waiting call was settled, the client turns to the next replica.
    pub silence: Duration,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn to(endpoints: impl IntoIterator<Item = String>) -> Options {
        Options {
            endpoints: endpoints.into_iter().collect(),
            in_flight: 1024,
            tls: None,
            silence: Duration::from_secs(2),
        }
    }
}

/// Why a call has no answer of the store's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store refused it; it had no effect.
    #[error("{text}")]
    Refused {
        /// The gRPC code that etcd gives it.
        code: u32,
        /// etcd's text.
        text: String,
    },
    /// Surely not executed: it was not sent, because the client was closed or has no endpoint.
    #[error("not executed: the client was closed before it was sent, or has no endpoint")]
    Rejected,
    /// Executed at most once; its answer is lost. Read what it should have changed before doing it again.
    #[error("executed or not, the answer is lost; read what it should have changed before repeating it")]
    Unknown,
    /// The answer is of another kind than the question: the server is no replica of this version.
    #[error("the answer does not fit the question; is the server of another version?")]
    Mismatch,
}

/// A client. Clones share its session and its connection.
#[derive(Clone, Debug)]
pub struct Client {
    calls: mpsc::Sender<Call>,
    problem: Problem,
}

/// Why there is no connection; `None` while there is one.
#[derive(Clone, Debug, Default)]
struct Problem(Arc<Mutex<Option<String>>>);

impl Problem {
    fn is(&self, problem: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Client {
    /// A client that connects when it is first used, and again whenever it has to. Must be called inside a tokio runtime;
    /// the connection is a task of it. It ends when the last clone is gone and everything is answered, or nobody waits for
    /// an answer any more.
    #[must_use]
    pub fn new(options: Options) -> Client {
        let in_flight = options.in_flight.clamp(1, 8192);
        let (calls, asked) = mpsc::channel(in_flight);
        let session = Session::new(asked, in_flight);
        let problem = Problem::default();
        tokio::spawn(connection::run(Options { in_flight, ..options }, session, problem.clone()));
        Client { calls, problem }
    }

    /// Why calls wait: what the newest attempt to connect came to, for a person. `None` while it is connected, and before
    /// it was first used.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.now()
    }

    /// Does one operation, whatever it is.
    ///
    /// # Errors
    /// See [`Error`]. To drop the future withdraws nothing: what was sent may be executed.
    pub async fn call(&self, request: Request) -> Result<Response, Error> {
        self.start(request).await?.await.unwrap_or(Err(Error::Unknown))
    }

    /// Hands an operation in, waiting only while too many are in flight; the answer comes through the receiver.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the client's task is gone.
    pub async fn start(&self, request: Request) -> Result<oneshot::Receiver<Result<Response, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let op = pb::RequestOp { request: Some(request) };
        self.calls.send(Call { op, answer }).await.map_err(|_closed| Error::Rejected)?;
        Ok(answered)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<pb::PutResponse, Error> {
        let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        match self.call(Request::RequestPut(put)).await? {
            Response::ResponsePut(response) => Ok(response),
            _ => Err(Error::Mismatch),
        }
    }

    /// Reads a key: everything acknowledged before the call is in the answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<pb::RangeResponse, Error> {
        self.range(pb::RangeRequest { key: key.into(), ..Default::default() }).await
    }

    /// Reads keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn range(&self, range: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        match self.call(Request::RequestRange(range)).await? {
            Response::ResponseRange(response) => Ok(response),
            _ => Err(Error::Mismatch),
        }
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<pb::DeleteRangeResponse, Error> {
        let delete = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
        match self.call(Request::RequestDeleteRange(delete)).await? {
            Response::ResponseDeleteRange(response) => Ok(response),
            _ => Err(Error::Mismatch),
        }
    }

    /// Compares, then does one branch or the other, all at one revision.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn txn(&self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        match self.call(Request::RequestTxn(txn)).await? {
            Response::ResponseTxn(response) => Ok(response),
            _ => Err(Error::Mismatch),
        }
    }
}
