//! Linearizable reads: a round that confirms the primary (or the lease that an earlier round gave it), then the wait for
//! execution.
//!
//! A round begun before a read arrived does not count for it; every round has a number of its own.

use super::{Effect, Effects, Replica, Status};
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;
use std::collections::VecDeque;

/// A read that cannot be confirmed for this long fails: its client may ask elsewhere. Microseconds.
const PATIENCE: u64 = 5_000_000;
/// Reads that wait at this replica, at most; more fail at once.
const MAX_WAITING: usize = 1 << 16;

#[derive(Clone, Copy, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Waiting {
    token: u64,
    since: u64,
}

/// Reads that were sent on their way together.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Asked {
    /// The round (at a primary) or the question's token (at a backup).
    id: u64,
    sent: u64,
    op: Op,
    own: Vec<Waiting>,
    /// Questions of other gateways.
    others: Vec<(ReplicaId, u64)>,
}

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Reads {
    fresh: Vec<Waiting>,
    fresh_others: Vec<(ReplicaId, u64)>,
    asked: VecDeque<Asked>,
    /// Confirmed; may be served once this op is executed.
    confirmed: VecDeque<(Op, Waiting)>,
    next_question: u64,
    waiting: usize,
}

impl Reads {
    pub(super) fn new(origin: u64) -> Reads {
        Reads {
            fresh: Vec::new(),
            fresh_others: Vec::new(),
            asked: VecDeque::new(),
            confirmed: VecDeque::new(),
            // Answers to the questions of an earlier start must not be taken for answers to this one's.
            next_question: origin,
            waiting: 0,
        }
    }

    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty() || !self.fresh_others.is_empty()
    }

    /// Nobody will answer what was asked: it is asked again.
    pub(super) fn primary_changed(&mut self) {
        self.fresh_others.clear();
        for asked in self.asked.drain(..) {
            self.fresh.extend(asked.own);
        }
    }

    pub(super) fn ask_again_older_than(&mut self, before: u64) {
        while self.asked.front().is_some_and(|asked| asked.sent <= before) {
            let asked = self.asked.pop_front().expect("it was just seen");
            self.fresh.extend(asked.own);
            self.fresh_others.extend(asked.others);
        }
    }

    pub(super) fn release<S: StateMachine>(&mut self, executed: Op, out: &mut Effects<S>) {
        while self.confirmed.front().is_some_and(|(op, _)| *op <= executed) {
            let (_, Waiting { token, .. }) = self.confirmed.pop_front().expect("it was just seen");
            self.waiting -= 1;
            out.push(Effect::ReadReady { token });
        }
    }

    pub(super) fn fail_all<S: StateMachine>(&mut self, out: &mut Effects<S>) {
        self.primary_changed();
        let tokens = self.fresh.drain(..).map(|read| read.token);
        for token in tokens.chain(self.confirmed.drain(..).map(|(_, read)| read.token)) {
            out.push(Effect::ReadFailed { token });
        }
        self.waiting = 0;
    }

    pub(super) fn fail_old<S: StateMachine>(&mut self, now: u64, out: &mut Effects<S>) {
        let Some(before) = now.checked_sub(PATIENCE) else { return };
        let waiting = &mut self.waiting;
        let mut keep = |read: &Waiting| {
            let young = read.since > before;
            if !young {
                *waiting -= 1;
                out.push(Effect::ReadFailed { token: read.token });
            }
            young
        };
        self.fresh.retain(&mut keep);
        self.asked.iter_mut().for_each(|asked| asked.own.retain(&mut keep));
        self.confirmed.retain(|(_, read)| keep(read));
    }

    fn confirm(&mut self, op: Op, reads: Vec<Waiting>) {
        // Later confirmations never name a smaller op within a ballot, and a larger one only makes a read wait longer.
        let op = self.confirmed.back().map_or(op, |(last, _)| op.max(*last));
        self.confirmed.extend(reads.into_iter().map(|read| (op, read)));
    }
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn read(&mut self, token: u64, out: &mut Effects<S>) {
        if self.cannot_serve() || self.reads.waiting >= MAX_WAITING {
            return out.push(Effect::ReadFailed { token });
        }
        self.reads.waiting += 1;
        self.reads.fresh.push(Waiting { token, since: self.now.mono });
    }

    /// One round for all reads that have come since the last.
    pub(super) fn begin_read_round(&mut self, out: &mut Effects<S>) {
        if !self.reads.has_fresh() {
            return;
        }
        //= R14
        let op = self.commit().max(self.lead.serves_from);
        let own = std::mem::take(&mut self.reads.fresh);
        let others = std::mem::take(&mut self.reads.fresh_others);
        if self.holds_a_lease() {
            self.counters.leased_reads += (own.len() + others.len()) as u64;
            self.confirm(op, own, others, out);
            return;
        }
        self.counters.read_rounds += 1;
        self.next_confirmation();
        self.reads.asked.push_back(Asked { id: self.lead.round, sent: self.now.mono, op, own, others });
        if self.alone() || on(Mutant::UnconfirmedReads) {
            self.confirm_rounds(out);
        } else {
            self.send_commit(out);
        }
    }

    pub(super) fn on_commit_ok(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        round: u64,
        op: Op,
        out: &mut Effects<S>,
    ) {
        if !self.is_primary() || ballot != self.ballot || round > self.lead.round {
            self.counters.dropped_ballot += 1;
            return;
        }
        let peer = self.peer(from);
        peer.held = peer.held.max(op);
        if round > peer.round {
            peer.round = round;
            self.confirm_rounds(out);
        }
        self.go_on_proposing(out);
        self.go_on_moving(out);
    }

    fn confirm_rounds(&mut self, out: &mut Effects<S>) {
        if self.reads.asked.is_empty() && self.configuration.read_lease == 0 {
            return;
        }
        let confirmed = self.confirmed_round();
        while let Some(asked) = self.reads.asked.pop_front_if(|asked| asked.id <= confirmed) {
            self.confirm(asked.op, asked.own, asked.others, out);
        }
    }

    /// These reads may be served once `op` is executed.
    fn confirm(&mut self, op: Op, own: Vec<Waiting>, others: Vec<(ReplicaId, u64)>, out: &mut Effects<S>) {
        self.reads.confirm(op, own);
        for (peer, token) in others {
            out.push(Effect::Send(peer, Message::ReadIndexIs { token, op: Some(op) }));
        }
    }

    pub(super) fn on_read_index(&mut self, from: ReplicaId, token: u64) {
        // Whoever asked a replica that does not lead will ask again.
        if self.is_primary() && self.reads.fresh_others.len() < MAX_WAITING {
            self.reads.fresh_others.push((from, token));
        }
    }

    /// One question for all reads that have come since the last.
    pub(super) fn ask_read_index(&mut self, out: &mut Effects<S>) {
        if self.status != Status::Normal || self.reads.fresh.is_empty() {
            return;
        }
        self.reads.next_question = self.reads.next_question.wrapping_add(1);
        let id = self.reads.next_question;
        let own = std::mem::take(&mut self.reads.fresh);
        self.reads.asked.push_back(Asked { id, sent: self.now.mono, op: Op(0), own, others: Vec::new() });
        out.push(Effect::Send(self.primary(), Message::ReadIndex { token: id }));
    }

    pub(super) fn on_read_index_is(&mut self, token: u64, op: Option<Op>, out: &mut Effects<S>) {
        if self.confirm_joining(token, op) {
            return;
        }
        let Some(at) = self.reads.asked.iter().position(|asked| asked.id == token) else { return };
        if self.is_primary() {
            return;
        }
        // The answer to a later question holds for the earlier ones, too: it is of a later moment.
        for asked in self.reads.asked.drain(..=at).collect::<Vec<_>>() {
            match op {
                Some(op) => self.reads.confirm(op, asked.own),
                None => self.reads.fresh.extend(asked.own),
            }
        }
        self.reads.release(self.executor.op(), out);
    }
}
