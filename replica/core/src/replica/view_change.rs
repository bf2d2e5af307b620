//! Views: intents, votes, the choice of the log, the start of a view.

use super::peer::Memory;
use super::sync::{CatchUp, Purpose};
use super::{Effects, Replica, Status};
use crate::ids::*;
use crate::log::chained;
use crate::message::{Header, Kind, Message};
use crate::mutants::{Mutant, on};
use crate::quorum;
use crate::select::{Vote, select};
use crate::state_machine::StateMachine;
use bytes::Bytes;

/// Entries that may be uncommitted in a vote; more is malformed.
const MAX_HEADERS: usize = 1 << 16;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Views {
    /// The ballot this replica would rather be in (R9).
    pub(super) intent: Option<Ballot>,
    /// The highest promise of another that it has learned of and owes a view change to (R3).
    owed: Ballot,
    /// Views entered since one last worked.
    pub(super) attempts: u64,
    /// When it gives up on the view it has entered.
    pub(super) deadline: u64,
    /// It entered the view to vote in it, not to follow a primary that already leads it.
    voting: bool,
    /// The vote it cast in the view it has entered; the same each time it is sent (R11).
    own: Option<Vote>,
    /// It has asked the primary of the view how far that is, since the last retry.
    pub(super) asked: bool,
}

impl Views {
    pub(super) fn new() -> Views {
        Views {
            intent: None,
            owed: Ballot::default(),
            attempts: 0,
            deadline: 0,
            voting: false,
            own: None,
            asked: false,
        }
    }
}

impl<S: StateMachine> Replica<S> {
    /// Everything is in hand, but who leads must be agreed anew.
    pub(super) fn resume_after_clean_stop(&mut self, out: &mut Effects<S>) {
        self.views.deadline = self.now.mono + self.patience();
        self.intend(Ballot { view: View(self.ballot.view.0 + 1), ..self.ballot }, out);
    }

    /// The primary is not heard.
    pub(super) fn suspect(&mut self, out: &mut Effects<S>) {
        if self.is_backup() {
            self.intend(Ballot { view: View(self.ballot.view.0 + 1), ..self.ballot }, out);
        }
    }

    /// Says that it would rather be in a view of at least `least`. This is no vote: it stays where it is until a
    /// quorum says the same (R9).
    //= R4
    //= R9
    pub(super) fn intend(&mut self, least: Ballot, out: &mut Effects<S>) {
        let invisible = self.amnesiac && !on(Mutant::AmnesiacVotes);
        //= R17
        // Learners vote nowhere, nor does whoever is between two epochs; and another epoch has other voters.
        let outside = !self.is_voter() || least.epoch != self.configuration.epoch;
        let between = matches!(self.status, Status::Halted | Status::Transitioning | Status::Retiring);
        if invisible || outside || between || least <= self.ballot {
            return;
        }
        let intent = self.configuration.next_led_by(least, |id| {
            self.peers.iter().all(|peer| peer.id != id || peer.memory != Memory::Lost)
        });
        if self.views.intent.is_none_or(|known| known < intent) {
            self.views.intent = Some(intent);
            out.push(super::Effect::Broadcast(Message::StartViewChange { ballot: intent }));
        }
        self.count_intents(out);
    }

    /// The primary is there after all: what is left are promises owed to others (R3).
    pub(super) fn withdraw_intent(&mut self) {
        if self.views.intent.is_some() && self.views.owed <= self.ballot {
            self.views.intent = None;
        }
    }

    //= R9
    fn count_intents(&mut self, out: &mut Effects<S>) {
        let Some(own) = self.views.intent else { return };
        //= R7
        self.judge_quorum();
        if self.lost {
            return;
        }
        let fresh_since = self.now.mono.saturating_sub(2 * self.options.view_timeout);
        let mut intents: Vec<Ballot> = self
            .peers
            .iter()
            .filter(|peer| peer.is_voter())
            .map(|peer| match peer.intent {
                Some((ballot, at)) if at >= fresh_since => ballot,
                _ => Ballot::default(),
            })
            .collect();
        intents.push(own);
        if on(Mutant::LonelyIntent) {
            intents.fill(own);
        }
        match quorum::largest_shared(&mut intents) {
            Some(agreed) if agreed > self.ballot => self.enter_view(agreed, true, out),
            _ => {}
        }
    }

    /// Leaves the ballot it is in, for good. Nothing of the new one is said before the promise is durable (R1).
    //= R1
    pub(super) fn enter_view(&mut self, ballot: Ballot, voting: bool, out: &mut Effects<S>) {
        let visible = !self.amnesiac || on(Mutant::AmnesiacVotes);
        assert!(ballot > self.ballot && visible, "ballots only grow, and only for those with memory");
        self.counters.view_changes += 1;
        self.abandon_catch_up(out);
        self.lose_the_lead();
        self.ballot = ballot;
        self.status = Status::ViewChange;
        self.ahead.clear();
        self.ack_due = false;
        self.round_seen = 0;
        self.views.attempts += 1;
        self.views.deadline = self.now.mono + self.patience_with_view();
        self.views.voting = voting;
        self.views.own = None;
        self.views.asked = false;
        self.views.intent = self.views.intent.filter(|&intent| intent > ballot);
        self.reads.primary_changed();
        self.promise(ballot, out);
        if self.durable() {
            self.promise_is_durable(out);
        }
    }

    pub(super) fn promise_is_durable(&mut self, out: &mut Effects<S>) {
        if self.status == Status::ViewChange
            && self.views.voting
            && self.views.own.is_none()
            && self.is_voter()
        {
            self.cast_vote(out);
        }
        self.advance_catch_up(out);
    }

    //= R10
    //= R11
    fn cast_vote(&mut self, out: &mut Effects<S>) {
        self.views.own = Some(Vote {
            from: self.id,
            last_normal: if on(Mutant::AlwaysNormal) { self.vote.ballot } else { self.last_normal },
            commit: self.commit(),
            op: self.log.op(),
            headers: self.log.headers_above(self.commit()),
        });
        self.repeat_vote(out);
    }

    /// Sends the vote (again), or counts it if it is this replica's to count.
    pub(super) fn repeat_vote(&mut self, out: &mut Effects<S>) {
        if on(Mutant::FreshVote) && self.views.own.is_some() {
            let (commit, op) = (self.commit(), self.log.op());
            let headers = self.log.headers_above(commit);
            self.views.own = Some(Vote { from: self.id, last_normal: self.last_normal, commit, op, headers });
        }
        let Some(vote) = &self.views.own else { return };
        if self.primary() == self.id {
            return self.count_votes(out);
        }
        let message = Message::DoViewChange {
            ballot: self.ballot,
            last_normal: vote.last_normal,
            commit: vote.commit,
            op: vote.op,
            headers: vote.headers.clone(),
        };
        out.push(super::Effect::Send(self.primary(), message));
    }

    pub(super) fn on_start_view_change(&mut self, from: ReplicaId, ballot: Ballot, out: &mut Effects<S>) {
        let now = self.now.mono;
        let peer = self.peer(from);
        // Repeated intents keep it fresh; a reordered older one does not lower it.
        let newest = peer.intent.filter(|(known, at)| *known > ballot && now - at < 1_000_000);
        peer.intent = Some((newest.map_or(ballot, |(known, _)| known), now));
        if self.amnesiac && on(Mutant::AmnesiacVotes) {
            return self.intend(ballot, out);
        }
        if self.amnesiac || !self.acts() {
            self.counters.dropped_invisible += 1;
            return;
        }
        if ballot <= self.ballot {
            return;
        }
        let silent = self.is_backup() && now - self.heard >= 2 * self.options.heartbeat;
        if self.status == Status::ViewChange || silent {
            self.intend(ballot, out);
        } else {
            self.count_intents(out);
        }
    }

    /// Somebody has promised `ballot` and will take part in nothing below it.
    //= R3
    pub(super) fn learn_promise(&mut self, ballot: Ballot, out: &mut Effects<S>) {
        if ballot > self.ballot && !self.amnesiac && !on(Mutant::PromisesIgnored) {
            self.views.owed = self.views.owed.max(ballot);
            self.intend(ballot, out);
        }
    }

    pub(super) fn on_do_view_change(&mut self, ballot: Ballot, vote: Vote, out: &mut Effects<S>) {
        let from = vote.from;
        let well_formed = vote.last_normal <= ballot
            && vote.headers.len() <= MAX_HEADERS
            && vote.op.0.checked_sub(vote.commit.0) == Some(vote.headers.len() as u64)
            && chained(&vote.headers, vote.op);
        if !well_formed {
            self.counters.dropped_malformed += 1;
            return;
        }
        if ballot < self.ballot || self.configuration.primary(ballot.view) != self.id {
            self.counters.dropped_ballot += 1;
            return;
        }
        //= R4
        if self.amnesiac {
            self.counters.dropped_invisible += 1;
            return;
        }
        let now = self.now.mono;
        let peer = self.peer(from);
        peer.promised = peer.promised.max(ballot);
        peer.intent = Some((ballot.max(peer.intent.map_or(ballot, |(known, _)| known)), now));
        if peer.vote.as_ref().is_none_or(|(known, _)| *known < ballot) {
            peer.vote = Some((ballot, vote));
        }
        if ballot > self.ballot {
            return self.learn_promise(ballot, out);
        }
        match self.status {
            Status::ViewChange => self.count_votes(out),
            // It asks for a view that has begun: it missed the start.
            Status::Normal => out.push(super::Effect::Send(from, self.start_view_message())),
            _ => {}
        }
    }

    /// As the primary of the view it has entered: with a quorum of votes, its own among them, takes the log.
    //= R10
    fn count_votes(&mut self, out: &mut Effects<S>) {
        let leading = matches!(&self.catch_up, Some(catch_up) if catch_up.purpose == Purpose::Lead);
        let Some(own) = self.views.own.clone() else { return };
        if leading || self.status != Status::ViewChange || self.primary() != self.id {
            return;
        }
        let mut votes = vec![own];
        votes.extend(self.peers.iter().filter(|peer| peer.is_voter()).filter_map(|peer| match &peer.vote {
            Some((ballot, vote)) if *ballot == self.ballot => Some(vote.clone()),
            _ => None,
        }));
        if votes.len() < self.configuration.quorum() {
            return;
        }
        let chosen = select(&votes).expect("a quorum has a vote");
        if chosen.commit > chosen.log.op || self.commit() > chosen.log.op {
            let reason = format!(
                "replica {} was told that op {} is committed, but no vote for view {} has a log beyond op {}: a \
                 replica has lost what it acknowledged; restore from a checkpoint",
                self.id,
                chosen.commit.max(self.commit()),
                self.ballot,
                chosen.log.op
            );
            return self.fatal(reason, out);
        }
        let mut catch_up = CatchUp::new(Purpose::Lead, self.ballot, chosen.log.from, self.commit());
        catch_up.aim(chosen.log.op, chosen.commit, chosen.log.headers.clone());
        catch_up.source_commit = chosen.log.commit;
        self.abandon_catch_up(out);
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    /// The chosen log is in hand, as this replica's own: the view begins.
    //= R14
    pub(super) fn begin_view(&mut self, out: &mut Effects<S>) {
        assert!(self.durable(), "a view is begun by a promise that is durable");
        self.becomes_normal(out);
        let message = self.start_view_message();
        if !self.peers.is_empty() {
            out.push(super::Effect::Broadcast(message));
        }
        self.lead.serves_from = if on(Mutant::InheritedReads) { self.commit() } else { self.log.op().next() };
        if self.closes() {
            //= R15
            // What it inherits ends the epoch: nothing may follow it, and to commit it is all there is to do.
            self.lead.serves_from = self.log.op();
        } else {
            // First the entry of this view, then the requests that waited.
            self.propose(Kind::NewView, Bytes::new(), out);
        }
        self.take_the_lead(out);
        self.wait_for_leases();
    }

    fn start_view_message(&self) -> Message {
        let voters = self.peers.iter().filter_map(|peer| match &peer.vote {
            Some((ballot, vote)) if *ballot == self.ballot => Some(vote.commit),
            _ => None,
        });
        let known = voters.fold(self.commit(), Op::min);
        // One header more than is asked for: it lets a backup check what it holds below.
        let above = Op(known.0.saturating_sub(1));
        let mut headers = self.log.headers_above(above);
        let excess = headers.len().saturating_sub(MAX_HEADERS);
        headers.drain(..excess);
        Message::StartView { ballot: self.ballot, commit: self.commit(), op: self.log.op(), headers }
    }

    pub(super) fn on_start_view(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        commit: Op,
        op: Op,
        headers: Vec<Header>,
        out: &mut Effects<S>,
    ) {
        if self.configuration.primary(ballot.view) != from || ballot < self.ballot {
            self.counters.dropped_ballot += 1;
            return;
        }
        //= R2
        //= R4
        // Without memory only an answer to this start's nonce counts.
        if self.amnesiac {
            self.counters.dropped_invisible += 1;
            return;
        }
        if headers.len() > MAX_HEADERS || !chained(&headers, op) || commit > op {
            self.counters.dropped_malformed += 1;
            return;
        }
        //= R16
        if !self.acts() {
            self.counters.dropped_invisible += 1;
            return;
        }
        if ballot > self.ballot {
            self.enter_view(ballot, false, out);
        }
        if self.status != Status::ViewChange {
            return;
        }
        self.heard = self.now.mono;
        self.follow_to(from, op, commit, headers, out);
    }

    /// The log of its ballot is in hand and the promise durable: it takes part.
    pub(super) fn becomes_normal(&mut self, out: &mut Effects<S>) {
        assert!(self.durable(), "a replica is Normal only in a ballot it has durably promised");
        self.status = Status::Normal;
        self.amnesiac = false;
        self.lost = false;
        self.last_normal = self.ballot;
        self.views.own = None;
        self.views.attempts = 0;
        self.views.intent = self.views.intent.filter(|&intent| intent > self.ballot);
        self.withdraw_intent();
        self.heard = self.now.mono;
        self.suspect_at = self.now.mono + self.patience();
        self.commit_heard = self.commit();
        self.gateway.resend_all();
        if self.primary() != self.id {
            self.use_ahead();
            self.ack_due = true;
            self.acknowledge(out);
        }
    }
}
