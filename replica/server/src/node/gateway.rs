//! This replica's clients in front of the protocol: what they wrote and wait for, what they read and wait for.
//!
//! A write gets the next number of this start's session and waits for its reply, which this replica computes itself
//! when it executes the entry. Reads wait together: one confirmation round serves all that arrived before it began.

use super::Node;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use vr_core::{Input, RequestNumber};
use vr_store::Reply;

/// How long a client waits before it is told that the outcome is not known: etcd's 5 s and two elections.
const PATIENCE: Duration = Duration::from_secs(7);

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Surely not executed: too much is queued, or this replica does not serve.
    NotExecuted,
    /// It may have been executed; nobody here knows.
    Unknown,
    /// It took too long; it may still be executed.
    Timeout,
    /// Nobody is primary as far as this replica knows.
    NoPrimary,
    /// Not executed: a tier is too far behind, and the configuration says that writes then stop.
    Behind,
}

type Answer = Result<Reply, Failure>;

/// What this replica's clients wait for.
#[derive(Default)]
pub(super) struct Gateway {
    /// Requests by number, beginning at `first`; answered ones are `None` until those before them are answered.
    waiting: VecDeque<Option<oneshot::Sender<Answer>>>,
    first: u64,
    /// Reads that no round covers yet.
    reads: Vec<oneshot::Sender<bool>>,
    rounds: BTreeMap<u64, Vec<oneshot::Sender<bool>>>,
    last_round: u64,
}

impl Gateway {
    pub(super) fn new() -> Gateway {
        Gateway { first: 1, ..Gateway::default() }
    }

    fn enqueue(&mut self) -> (RequestNumber, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let number = RequestNumber(self.first + self.waiting.len() as u64);
        self.waiting.push_back(Some(sender));
        (number, receiver)
    }

    pub(super) fn answer(&mut self, number: RequestNumber, answer: Answer) {
        let Some(place) = number.0.checked_sub(self.first) else { return };
        if let Some(sender) = self.waiting.get_mut(place as usize).and_then(Option::take) {
            // The client may have gone away meanwhile.
            let _ = sender.send(answer);
        }
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
    }

    /// The token of a round for all reads that wait, if any do.
    pub(super) fn begin_round(&mut self) -> Option<u64> {
        if self.reads.is_empty() {
            return None;
        }
        self.last_round += 1;
        self.rounds.insert(self.last_round, std::mem::take(&mut self.reads));
        Some(self.last_round)
    }

    pub(super) fn round_ended(&mut self, token: u64, confirmed: bool) {
        for reader in self.rounds.remove(&token).into_iter().flatten() {
            let _ = reader.send(confirmed);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Node {
    /// Requests of this replica's clients that wait for their reply.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.gateway.waiting()
    }

    pub(super) fn submit(&mut self, body: Bytes) -> Result<oneshot::Receiver<Answer>, Failure> {
        if !self.serves() {
            return Err(Failure::NoPrimary);
        }
        let (number, receiver) = self.gateway.enqueue();
        self.step(Input::Submit { number, body });
        self.turn_soon();
        Ok(receiver)
    }
}

/// Has `body` (an encoded command) executed by the cluster and waits for the reply.
///
/// # Errors
/// See [`Failure`]; only [`Failure::Timeout`] and [`Failure::Unknown`] leave it open whether it was executed.
pub async fn propose(body: Bytes) -> Answer {
    let wait = super::with(|node| node.let_in(body.len()))?;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let receiver = super::with(|node| node.submit(body))?;
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Failure::Unknown),
        Err(_) => Err(Failure::Timeout),
    }
}

/// Waits until this replica's state holds everything that was acknowledged before the call.
///
/// # Errors
/// There is no primary that a quorum confirms.
pub async fn read_index() -> Result<(), Failure> {
    let receiver = super::with(|node| {
        if !node.serves() {
            return Err(Failure::NoPrimary);
        }
        let (sender, receiver) = oneshot::channel();
        node.gateway.reads.push(sender);
        node.turn_soon();
        Ok(receiver)
    })?;
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(true)) => Ok(()),
        Ok(_) => Err(Failure::NoPrimary),
        Err(_) => Err(Failure::Timeout),
    }
}
