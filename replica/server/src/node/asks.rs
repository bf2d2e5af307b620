//! Control calls between replicas: a question to one peer, its answer, or nothing. And what is learned by the way: how
//! far away a peer is, what its tiers hold, and the highest fencing token that any of them has seen.
//!
//! Nothing is repeated here: whoever asks knows whether a call may be carried out twice.

use super::Node;
use crate::control;
use crate::peer;
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use vr_core::ReplicaId;
use vr_proto::control as pb;
use vr_proto::control::forwarded::Call;
use vr_proto::control::forwarded_answer::Answer;

/// Questions of this replica that may wait for an answer.
const WAITING: usize = 1024;
/// Questions of others that may be answered at a time; what comes beyond is dropped.
const ANSWERING: usize = 64;
/// Between two measurements of the round trip.
const MEASURE: Duration = Duration::from_secs(1);

/// What this replica waits for from its peers.
#[derive(Default)]
pub(super) struct Asks {
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// The measurement under way with each peer.
    measuring: BTreeMap<ReplicaId, (u64, Instant)>,
    round_trips: BTreeMap<ReplicaId, Duration>,
    measured: Option<Instant>,
    last_token: u64,
    answering: usize,
}

impl Asks {
    fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }
}

impl Node {
    /// Asks a peer; the receiver ends without an answer when there is none, or too much is waited for already.
    pub(crate) fn ask(&mut self, to: ReplicaId, call: Call) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.asks.waiting.retain(|_, sender| !sender.is_closed());
        if self.asks.waiting.len() < WAITING {
            let token = self.asks.token();
            self.asks.waiting.insert(token, sender);
            self.send_ask(to, token, call);
        }
        receiver
    }

    /// The smoothed round trip to a peer, once it was measured.
    #[must_use]
    pub fn round_trip(&self, to: ReplicaId) -> Option<Duration> {
        self.asks.round_trips.get(&to).copied()
    }

    /// Now and then: measures the way to every peer, tells it the highest fencing token, and asks what its tiers hold.
    pub(super) fn measure(&mut self) {
        let now = Instant::now();
        if self.asks.measured.is_some_and(|at| now - at < MEASURE) {
            return;
        }
        self.asks.measured = Some(now);
        self.tell_fence();
        for to in self.links.ids() {
            let token = self.asks.token();
            self.send_ask(to, token, Call::RecoveryPoints(pb::RecoveryPointsRequest {}));
        }
    }

    /// Tells every peer the highest fencing token, at once.
    pub(crate) fn tell_fence(&mut self) {
        let (now, fence) = (Instant::now(), self.fence.highest());
        for to in self.links.ids() {
            let token = self.asks.token();
            self.asks.measuring.insert(to, (token, now));
            self.send_ask(to, token, Call::Fence(fence));
        }
    }

    fn send_ask(&mut self, to: ReplicaId, token: u64, call: Call) {
        let call = pb::Forwarded { call: Some(call) }.encode_to_vec().into();
        peer::encode_control_ask(self.sender(), token, call, &mut self.encoder);
        let frame = self.encoder.split().freeze();
        self.push(to, frame);
    }

    fn send_answer(&mut self, to: ReplicaId, token: u64, answer: Answer) {
        let answer = pb::ForwardedAnswer { answer: Some(answer) }.encode_to_vec().into();
        peer::encode_control_answer(self.sender(), token, answer, &mut self.encoder);
        let frame = self.encoder.split().freeze();
        self.push(to, frame);
    }

    /// A peer asks.
    pub(super) fn control_ask(&mut self, from: ReplicaId, token: u64, call: Bytes) -> Result<(), String> {
        let call = pb::Forwarded::decode(call).map_err(|e| format!("a control call: {e}"))?;
        match call.call {
            // Of another version: its asker gives up after a while.
            None => {}
            Some(Call::Fence(seen)) => {
                self.fence.learn(seen);
                let fence = self.fence.highest();
                self.send_answer(from, token, Answer::Fence(fence));
            }
            Some(_) if self.asks.answering >= ANSWERING => {}
            Some(call) => {
                self.asks.answering += 1;
                tokio::task::spawn_local(async move {
                    let answer = control::answer_peer(call).await;
                    super::try_with(|node| {
                        node.asks.answering -= 1;
                        node.send_answer(from, token, answer);
                    });
                });
            }
        }
        Ok(())
    }

    /// A peer has answered.
    pub(super) fn control_answer(
        &mut self,
        from: ReplicaId,
        token: u64,
        answer: Bytes,
    ) -> Result<(), String> {
        let answer = pb::ForwardedAnswer::decode(answer).map_err(|e| format!("a control answer: {e}"))?;
        match answer.answer {
            Some(Answer::Fence(seen)) => {
                self.fence.learn(seen);
                if let Some((_, began)) = self.asks.measuring.remove(&from).filter(|(t, _)| *t == token) {
                    let (now, before) = (began.elapsed(), self.asks.round_trips.get(&from));
                    // As TCP does: an eighth of the newest.
                    let smoothed = before.map_or(now, |before| (*before * 7 + now) / 8);
                    self.asks.round_trips.insert(from, smoothed);
                }
            }
            Some(Answer::RecoveryPoints(points)) => self.learn_recovery_points(from, &points),
            Some(answer) => {
                if let Some(sender) = self.asks.waiting.remove(&token) {
                    // The asker may have given up.
                    let _ = sender.send(answer);
                }
            }
            None => {}
        }
        Ok(())
    }
}
