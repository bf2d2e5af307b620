//! From one epoch to the next: leaving the old one, getting its whole log, acting in the new one (R16, R18), and the
//! end of a replica that is no member any more.
//!
//! It promises that nobody acts in an epoch before it holds the log through the entry that began it and its promise
//! there is durable. Which configuration follows is decided elsewhere, by the log.
//!
//! Who holds that log has forgotten nothing of the new epoch unless its vote record names that epoch: before that it
//! has promised nothing in it, whatever it lost of the epochs before. So a replica that comes to an epoch for the first
//! time acts in it as one that was bootstrapped there. One whose record names the epoch already goes through recovery.

use super::peer::{Peer, Role};
use super::reconfigure::Asked;
use super::sync::{CatchUp, Purpose};
use super::{Begun, Effect, Effects, Replica, Status, hand_off, reconfigure};
use crate::configuration::Configuration;
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::proposal;
use crate::state_machine::StateMachine;
use std::collections::{BTreeMap, BTreeSet};

/// What belongs to no single ballot.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Epochs {
    /// Proposals that were handed in here and are not answered.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// As the primary: the one that is being made.
    pub(super) proposed: Option<reconfigure::Proposed>,
    /// As the primary: the move to another that is under way.
    pub(super) moving: Option<hand_off::Moving>,
    /// A start of a new id that has made no promise yet: what it has learned of whether it may.
    joining: Option<Joining>,
    /// Voters of the new epoch that act in it, as heard by one who is no member any more (R18).
    started: BTreeSet<ReplicaId>,
    retired: bool,
    /// The primary of an epoch just begun has not been heard: what was sent to it before may have come too early.
    pub(super) unheard: bool,
    /// Where the epoch it is in begins, as somebody who holds that has told.
    begun: Option<Begun>,
    /// Since when it is in its epoch, as far as it knows in this start.
    since: u64,
    /// When somebody was last asked for a newer epoch.
    asked_at: u64,
    /// Which stranger was last told of this epoch, and when. Only one is remembered: two that ask in turns are both
    /// answered, or one of them might never be.
    told: (ReplicaId, u64),
}

/// The question that a new id must have answered before its first promise (R6).
#[derive(Clone, Copy, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Joining {
    /// Everything committed when the question was asked lies at or below this op.
    confirmed: Option<Op>,
}

impl Epochs {
    pub(super) fn new(joining: bool, begun: Option<Begun>, since: u64) -> Epochs {
        Epochs {
            asked: BTreeMap::new(),
            proposed: None,
            moving: None,
            joining: joining.then(Joining::default),
            started: BTreeSet::new(),
            retired: false,
            unheard: false,
            begun,
            since,
            asked_at: 0,
            told: Default::default(),
        }
    }
}

/// The epoch in which a message means something; `None` if in any.
pub(super) fn epoch_of(message: &Message) -> Option<Epoch> {
    match message {
        Message::Prepare { ballot, .. }
        | Message::PrepareOk { ballot, .. }
        | Message::Commit { ballot, .. }
        | Message::CommitOk { ballot, .. }
        | Message::StartViewChange { ballot }
        | Message::DoViewChange { ballot, .. }
        | Message::StartView { ballot, .. }
        | Message::ViewIs { ballot, .. }
        | Message::GetEntries { ballot, .. }
        | Message::Entries { ballot, .. }
        | Message::GetState { ballot, .. }
        | Message::State { ballot, .. }
        | Message::HandOff { ballot, .. } => Some(ballot.epoch),
        Message::GetView { epoch, .. } => Some(*epoch),
        Message::Standing { .. }
        | Message::Forward { .. }
        | Message::Refused { .. }
        | Message::ReadIndex { .. }
        | Message::ReadIndexIs { .. }
        | Message::Root { .. }
        | Message::NewEpoch { .. }
        | Message::EpochStarted { .. }
        | Message::Reconfigure { .. }
        | Message::ReconfigureIs { .. } => None,
    }
}

/// The others of a configuration, with what is known of those that were there before; who left stays known until the
/// next change: it may still have something to ask or to give.
pub(super) fn peers_of(configuration: &Configuration, own: ReplicaId, before: Vec<Peer>) -> Vec<Peer> {
    let mut before: BTreeMap<ReplicaId, Peer> = before.into_iter().map(|peer| (peer.id, peer)).collect();
    let mut domains: Vec<&str> = configuration.members().map(|member| member.domain.as_str()).collect();
    domains.sort_unstable();
    domains.dedup();
    let mut peers = Vec::new();
    for member in configuration.members().filter(|member| member.id != own) {
        let mut peer = before.remove(&member.id).unwrap_or_else(|| Peer::new(member.id));
        peer.new_epoch();
        peer.role = if configuration.is_voter(member.id) { Role::Voter } else { Role::Learner };
        peer.domain = domain_of(&domains, &member.domain);
        peers.push(peer);
    }
    for mut peer in before.into_values().filter(|peer| peer.role != Role::Former) {
        peer.new_epoch();
        peer.role = Role::Former;
        peers.push(peer);
    }
    peers
}

fn domain_of(domains: &[&str], domain: &str) -> u16 {
    domains.iter().position(|known| *known == domain).expect("it is one of them") as u16
}

/// The number of this replica's own failure domain, as [`peers_of`] numbers them.
pub(super) fn own_domain(configuration: &Configuration, own: ReplicaId) -> u16 {
    let mut domains: Vec<&str> = configuration.members().map(|member| member.domain.as_str()).collect();
    domains.sort_unstable();
    domains.dedup();
    configuration.member(own).map_or(u16::MAX, |member| domain_of(&domains, &member.domain))
}

impl<S: StateMachine> Replica<S> {
    /// Whether it votes in the epoch it is in, or will once it acts there.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.configuration.is_voter(self.id)
    }

    /// Whether it has executed the entry that began its epoch (R16).
    pub(super) fn holds_epoch(&self) -> bool {
        self.executor.core.configuration.epoch >= self.configuration.epoch
    }

    /// Whether somebody who has left, and whom nobody may know any more, has had time to show how its epoch begins.
    pub(super) fn has_waited_for_its_epoch(&self) -> bool {
        self.status != Status::Transitioning
            || self.now.mono >= self.epochs.since.saturating_add(self.options.view_timeout)
    }

    /// Whether it takes part in its epoch, in whatever role.
    pub(super) fn acts(&self) -> bool {
        !self.amnesiac && matches!(self.status, Status::Normal | Status::ViewChange | Status::Syncing)
    }

    /// The epoch that it can show the log of; what it asks to be told the next of.
    pub(super) fn epoch_in_hand(&self) -> Epoch {
        if self.epochs.joining.is_some() {
            // Not even the newest is enough: it wants to hear again how far that has come.
            Epoch(0)
        } else if self.status == Status::Transitioning {
            self.executor.core.configuration.epoch
        } else {
            self.configuration.epoch
        }
    }

    /// The door's second half: messages of another epoch. `true` if this one is to be looked at.
    pub(super) fn of_this_epoch(&mut self, from: ReplicaId, message: &Message, out: &mut Effects<S>) -> bool {
        let former = || self.peers.iter().any(|peer| peer.id == from && peer.role == Role::Former);
        let Some(epoch) = epoch_of(message) else {
            // A learner suspects nobody: it would never ask for the epoch in which it is no member any more.
            let asks = matches!(message, Message::Forward { .. } | Message::ReadIndex { .. });
            if asks && former() {
                self.tell_epoch(from, out);
            }
            return true;
        };
        let ours = self.configuration.epoch;
        if epoch == ours {
            let former = former();
            return !former || !self.released(from, message, out);
        }
        let asks = matches!(message, Message::GetView { .. });
        if epoch < ours && (self.amnesiac || !self.holds_epoch()) {
            // It can show nothing newer itself, but what it was told is true of whoever holds it: that one may not have
            // heard that its last entry is committed. Whoever counts answers still counts this one.
            self.tell_epoch(from, out);
            self.counters.dropped_epoch += u64::from(!asks);
            return asks;
        }
        self.counters.dropped_epoch += 1;
        if epoch < ours {
            self.tell_epoch(from, out);
        } else {
            self.ask_epoch(from, out);
        }
        false
    }

    /// Somebody that the configuration does not name, of this lineage and generation.
    pub(super) fn hear_stranger(&mut self, from: ReplicaId, message: Message, out: &mut Effects<S>) {
        match message {
            Message::NewEpoch { configuration, op, digest, hearsay } => {
                self.on_new_epoch(from, configuration, op, digest, hearsay, out);
            }
            // Who is on its way to an epoch fetches the log of those before it from somebody who may be no member of this
            // one; after a start it does not know them any more.
            //= R18
            Message::Entries { ballot, oldest, entries } if self.transits_by(from) => {
                self.on_entries(from, ballot, oldest, entries, out);
            }
            Message::State { ballot, cut, root, number, portion } if self.transits_by(from) => {
                self.on_state(from, ballot, cut, root, number, &portion, out);
            }
            message => {
                self.counters.dropped_foreign += 1;
                if self.released(from, &message, out) {
                    return;
                }
                match epoch_of(&message) {
                    Some(epoch) if epoch > self.configuration.epoch => self.ask_epoch(from, out),
                    _ => self.tell_epoch(from, out),
                }
            }
        }
    }

    /// Whether it fetches from this replica what it lacks to act in its epoch.
    fn transits_by(&self, source: ReplicaId) -> bool {
        self.catch_up.as_ref().is_some_and(|it| it.purpose == Purpose::Transition && it.source == source)
    }

    /// Whether it was the question of one who knows that it is no member any more; it waits to hear that the epoch goes
    /// on without it.
    //= R18
    fn released(&mut self, from: ReplicaId, message: &Message, out: &mut Effects<S>) -> bool {
        let epoch = self.configuration.epoch;
        // In the first epoch nobody has been released: who asks there is new.
        let asks =
            matches!(message, Message::GetView { epoch: asked, .. } if *asked == epoch && epoch > Epoch(0));
        if asks && self.acts() && self.durable() && self.is_voter() {
            out.push(Effect::Send(from, Message::EpochStarted { epoch }));
        }
        asks
    }

    /// Answers a lower epoch; not more often than it makes sense to ask.
    //= R18
    fn tell_epoch(&mut self, to: ReplicaId, out: &mut Effects<S>) {
        if on(Mutant::EpochUntold) {
            return;
        }
        let Some(message) = self.new_epoch_message() else { return };
        let now = self.now.mono;
        let told = self.peers.iter_mut().find(|peer| peer.id == to).map(|peer| &mut peer.told_at);
        let (stranger, at) = self.epochs.told;
        let last = told.as_ref().map_or(if stranger == to { at } else { 0 }, |at| **at);
        if last > 0 && now < last + self.options.heartbeat / 2 {
            return;
        }
        match told {
            Some(told) => *told = now.max(1),
            None => self.epochs.told = (to, now.max(1)),
        }
        out.push(Effect::Send(to, message));
    }

    /// What it can say of the epoch it is in: how far it has executed that itself, or where it begins as it was told.
    fn new_epoch_message(&self) -> Option<Message> {
        let holds = !self.amnesiac && self.holds_epoch();
        let own = Begun { op: self.commit(), digest: self.digest() };
        let Begun { op, digest } = if holds { own } else { self.epochs.begun? };
        Some(Message::NewEpoch { configuration: self.configuration.clone(), op, digest, hearsay: !holds })
    }

    fn ask_epoch(&mut self, to: ReplicaId, out: &mut Effects<S>) {
        if self.epochs.asked_at > 0 && self.now.mono < self.epochs.asked_at + self.options.heartbeat / 2 {
            return;
        }
        self.epochs.asked_at = self.now.mono.max(1);
        out.push(Effect::Send(to, self.get_view()));
    }

    pub(super) fn on_new_epoch(
        &mut self,
        from: ReplicaId,
        configuration: Configuration,
        op: Op,
        digest: Digest,
        hearsay: bool,
        out: &mut Effects<S>,
    ) {
        if proposal::well_formed(&configuration).is_err() {
            self.counters.dropped_malformed += 1;
            return;
        }
        if configuration.epoch < self.configuration.epoch {
            return self.tell_epoch(from, out);
        }
        if configuration.epoch > self.configuration.epoch {
            self.enter_epoch(configuration, Begun { op, digest }, out);
        } else if self.acts() && self.durable() && self.is_voter() {
            return out.push(Effect::Send(from, Message::EpochStarted { epoch: self.configuration.epoch }));
        }
        if !self.holds_epoch() {
            self.epochs.begun = Some(Begun { op, digest });
        }
        // Who has all of it, but did not know that it was committed, needs nobody to show it.
        let helps = !hearsay || self.log.digest_at(op) == Some(digest);
        let behind = self.status == Status::Transitioning && op > self.commit();
        if behind && helps && self.catch_up.is_none() {
            let ballot = Ballot { epoch: self.configuration.epoch, view: View(0) };
            let mut catch_up = CatchUp::new(Purpose::Transition, ballot, from, self.commit());
            catch_up.aim(op, op, Vec::new());
            catch_up.digest = Some(digest);
            self.catch_up = Some(catch_up);
            self.advance_catch_up(out);
        }
    }

    /// What was executed may have begun an epoch; and whoever holds its log may begin to act in it. Called at the end
    /// of each step, so that nothing in the middle of one has the ground taken away.
    pub(super) fn follow_epoch(&mut self, out: &mut Effects<S>) {
        self.ends_what_it_left(out);
        if self.executor.core.configuration.epoch > self.configuration.epoch {
            if self.is_primary() && !self.peers.is_empty() {
                // The last word of this epoch.
                self.send_commit(out);
            }
            let begun = Begun { op: self.commit(), digest: self.digest() };
            self.enter_epoch(self.executor.core.configuration.clone(), begun, out);
        }
        let holds = self.holds_epoch() || on(Mutant::ActsWithoutLog);
        if self.status == Status::Transitioning && holds && self.catch_up.is_none() {
            self.begin_epoch(out);
        }
    }

    /// Who has left may hold the whole log of the epoch before without having heard that its last entry is committed: where
    /// the next epoch begins says so. Others may have nobody else to show it to them.
    //= R18
    fn ends_what_it_left(&mut self, out: &mut Effects<S>) {
        let Some(begun) = self.epochs.begun.filter(|_| self.status == Status::Retiring && !self.amnesiac)
        else {
            return;
        };
        if begun.op > self.commit() && self.log.digest_at(begun.op) == Some(begun.digest) {
            self.execute_to(begun.op, out);
        }
    }

    /// Another configuration is in force: the epoch it was in is over for it.
    fn enter_epoch(&mut self, configuration: Configuration, begun: Begun, out: &mut Effects<S>) {
        let epoch = configuration.epoch;
        assert!(epoch > self.configuration.epoch, "epochs only grow");
        self.abandon_catch_up(out);
        self.lose_the_lead();
        out.push(Effect::Configuration(configuration.clone(), Some(begun)));
        let before = std::mem::take(&mut self.peers);
        self.peers = peers_of(&configuration, self.id, before);
        if on(Mutant::OrderKept)
            && self.id == ReplicaId(1)
            && configuration.voters().all(|id| self.configuration.is_voter(id))
        {
            self.configuration.epoch = epoch;
        } else {
            self.configuration = configuration;
        }
        self.place();
        self.ballot = Ballot { epoch, view: View(0) }.max(if self.vote.ballot.epoch == epoch {
            self.vote.ballot
        } else {
            Ballot::default()
        });
        self.views = super::view_change::Views::new();
        self.lost = false;
        self.ack_due = false;
        self.round_seen = 0;
        self.shipper = None;
        self.commit_heard = self.commit();
        self.epochs.started.clear();
        self.epochs.begun = Some(begun);
        self.epochs.retired = false;
        self.epochs.since = self.now.mono;
        self.reads.primary_changed();
        if self.epochs.joining.is_some() && self.is_voter() && !on(Mutant::JoinerUnasked) {
            return self.refuse_to_forget(out);
        }
        if self.configuration.member(self.id).is_none() {
            if self.epochs.joining.is_none() {
                self.retire(out);
            }
        } else if self.vote.ballot.epoch < epoch {
            self.status = Status::Transitioning;
        } else if self.amnesiac {
            self.status = Status::Recovering;
            self.ask_for_view(out);
        } else {
            self.status = Status::ViewChange;
            self.resume_after_clean_stop(out);
        }
    }

    /// Where this replica stands in its configuration.
    pub(super) fn place(&mut self) {
        self.position = self.configuration.position(self.id).unwrap_or(self.configuration.order.len());
        self.domain = own_domain(&self.configuration, self.id);
    }

    /// The log of the epoch before is in hand, all of it: with a durable promise it acts.
    //= R1
    //= R16
    fn begin_epoch(&mut self, out: &mut Effects<S>) {
        if self.configuration.member(self.id).is_none() || !self.may_promise(out) {
            return;
        }
        // What is above is of the epoch before, and was never committed: its last entry is.
        self.log.truncate(self.commit());
        // One that joins may have had to fetch what a later view of the epoch has committed. In an earlier one it would
        // follow a primary whose log is another.
        self.ballot = self.ballot.max(self.executor.core.ballot);
        self.promise(self.ballot, out);
        if !self.durable() {
            return;
        }
        self.amnesiac = false;
        self.becomes_normal(out);
        let epoch = self.configuration.epoch;
        if self.is_voter() {
            let former = self.peers.iter().filter(|peer| peer.role == Role::Former);
            former.for_each(|peer| out.push(Effect::Send(peer.id, Message::EpochStarted { epoch })));
        }
        if self.primary() == self.id {
            self.lead.serves_from = self.log.op();
            self.take_the_lead(out);
        } else {
            self.epochs.unheard = true;
        }
    }

    /// A new id may be the second start of one whose disk was lost after it had become a voter; what that one promised
    /// is not known. So before its first promise it asks a primary for an op, as a read does: whatever was committed
    /// before the question is executed by then. If that names it as a learner, no start of this id before this one can
    /// ever have voted, because none had become a voter before it died.
    //= R6
    fn may_promise(&mut self, out: &mut Effects<S>) -> bool {
        let Some(joining) = self.epochs.joining else { return true };
        if on(Mutant::JoinerUnasked) {
            self.epochs.joining = None;
            return true;
        }
        if self.is_voter() {
            self.refuse_to_forget(out);
            return false;
        }
        if joining.confirmed.is_some_and(|op| op <= self.commit()) {
            self.epochs.joining = None;
            return true;
        }
        false
    }

    fn refuse_to_forget(&mut self, out: &mut Effects<S>) {
        let reason = format!(
            "replica {} was started as a new one, but epoch {} has it as a voter: what an earlier start of it promised \
             is not known, so it must not act under this id. Replace it by a new replica id",
            self.id, self.configuration.epoch
        );
        self.fatal(reason, out);
    }

    /// `true` if the answer was for a new id's question.
    pub(super) fn confirm_joining(&mut self, token: u64, op: Option<Op>) -> bool {
        match &mut self.epochs.joining {
            Some(joining) if self.recovery.is_ours(token) => {
                joining.confirmed = joining.confirmed.or(op);
                true
            }
            _ => false,
        }
    }

    /// Says again what one who is between two epochs, or outside of them, waits for.
    pub(super) fn retry_epoch(&mut self, out: &mut Effects<S>) {
        match self.status {
            Status::Transitioning => {
                if self.epochs.joining.is_some() && self.holds_epoch() {
                    out.push(Effect::Broadcast(Message::ReadIndex { token: self.recovery.nonce }));
                }
                if self.catch_up.is_none() {
                    self.ask_for_view(out);
                }
            }
            Status::Retiring if !self.epochs.retired => self.tell_everybody(out),
            _ => {}
        }
    }

    //= R18
    pub(super) fn retire(&mut self, out: &mut Effects<S>) {
        self.status = Status::Retiring;
        self.gateway.abandon(out);
        self.tell_everybody(out);
    }

    /// Hands the new epoch to its voters, and hears from those that have begun it. Everybody else is told as well, and
    /// those that have begun it again and again: if its voters were replaced in turn before a quorum of them answered,
    /// only somebody who has gone on since can say that it is over.
    fn tell_everybody(&mut self, out: &mut Effects<S>) {
        let message = self.new_epoch_message().unwrap_or_else(|| self.get_view());
        for peer in &self.peers {
            out.push(Effect::Send(peer.id, message.clone()));
        }
    }

    /// A voter acts in `epoch`.
    //= R18
    pub(super) fn on_epoch_started(&mut self, from: ReplicaId, epoch: Epoch, out: &mut Effects<S>) {
        if epoch > self.configuration.epoch {
            return self.ask_epoch(from, out);
        }
        if self.status != Status::Retiring || epoch < self.configuration.epoch {
            return;
        }
        if self.configuration.is_voter(from) {
            self.epochs.started.insert(from);
        }
        let quorum = if on(Mutant::ReleasedByOne) { 1 } else { self.configuration.quorum() };
        if self.epochs.started.len() >= quorum && !self.epochs.retired {
            self.epochs.retired = true;
            out.push(Effect::Retired(epoch));
        }
    }
}
