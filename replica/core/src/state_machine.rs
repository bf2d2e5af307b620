//! What is replicated: the trait that a service implements to be run by the protocol.

use crate::ids::{Digest, Op, RequestNumber, SessionId};
use crate::import::Import;
use bytes::Bytes;

/// Where in history requests are executed. Everything in it comes from the log, so it is the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The log entry the requests stand in.
    pub op: Op,
    /// The primary's wall clock when it proposed the entry: microseconds since the Unix epoch, never decreasing
    /// along the log.
    pub time: u64,
}

/// One request that the log carries and that has not been executed before.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// Who asked.
    pub session: SessionId,
    /// Which of its requests this is.
    pub number: RequestNumber,
    /// What was asked, opaque to the protocol.
    pub body: &'a [u8],
    /// Whether this replica needs the reply (it is the asker's gateway). A machine may skip building replies that
    /// nobody here reads; it must execute all the same.
    pub reply_wanted: bool,
}

/// A deterministic service: same requests in the same order, same state and same replies, on every replica.
pub trait StateMachine: Sized {
    /// What a request answers, in whatever form the driver wants to send on.
    type Reply;
    /// The whole state at one op; O(1) to take and to clone, and readable on other threads.
    type Snapshot: Clone;
    /// A state on its way in from another replica.
    type Import: Import<Machine = Self>;

    /// Executes the requests of one entry in order and pushes exactly one reply for each request whose
    /// `reply_wanted` is set, in order. Must not fail and must not panic on any body: a bad request is answered with
    /// an error that is the same everywhere.
    fn execute(&mut self, at: At, requests: &[Accepted<'_>], replies: &mut Vec<Self::Reply>);

    /// Stores the protocol's own state (sessions, configuration, log digest; a few kilobytes) inside the state,
    /// so that its digest covers it, and takes a snapshot of everything.
    fn cut(&mut self, op: Op, core_state: &[u8]) -> Self::Snapshot;

    /// The bytes the last [`StateMachine::cut`] stored; empty for a new state.
    fn core_state(&self) -> Vec<u8>;

    /// Answers a want of [`Import::want`], made by an import of this very state: with about `max_bytes`, or with the least
    /// that helps if that is more. Empty when the want is not one; never panics, whatever the bytes.
    ///
    /// It runs on the thread that serves requests: its work must be bounded by `max_bytes` and the length of the want.
    fn export(snapshot: &Self::Snapshot, want: &[u8], max_bytes: usize) -> Bytes;

    /// Begins to take in the state of another replica: the one cut at `cut`, whose digest is `root`. What this machine
    /// holds may stand in for what is the same there, and so may what an earlier import had brought when its source or
    /// its cut went away.
    fn import(&self, cut: Op, root: Digest, earlier: Option<Self::Import>) -> Self::Import;
}
