//! Moving the primary on purpose: a cooperative hand-off to the smallest higher view that the target leads.
//!
//! Nobody waits for a timeout, and nothing is asked of the vote that a view change does not ask: every view may be
//! entered at any time, the word of the primary only makes all do it at once. It promises that the target holds the
//! whole log before anybody moves; that it lives on after that, nobody can.

use super::peer::{Memory, Role};
use super::{Effect, Effects, HandOffRefusal, Replica, Status};
use crate::ids::*;
use crate::message::Message;
use crate::state_machine::StateMachine;

/// A move that is under way.
#[derive(Clone, Copy, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Moving {
    token: u64,
    to: ReplicaId,
    deadline: u64,
    /// The ballot that everybody was sent to.
    sent: Option<Ballot>,
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn hand_off(&mut self, token: u64, to: ReplicaId, out: &mut Effects<S>) {
        match self.may_hand_off(to) {
            Ok(()) => {
                let deadline = self.now.mono + self.options.view_timeout;
                self.epochs.moving = Some(Moving { token, to, deadline, sent: None });
                self.go_on_moving(out);
                if self.is_primary() {
                    // Its answer says how far it is, also where the acknowledgement of that was lost.
                    self.lead.round += 1;
                    self.send_commit(out);
                }
            }
            Err(refusal) => out.push(Effect::HandedOff { token, outcome: Err(refusal) }),
        }
    }

    fn may_hand_off(&self, to: ReplicaId) -> Result<(), HandOffRefusal> {
        if !self.is_primary() {
            return Err(HandOffRefusal::NotPrimary(self.primary()));
        }
        if to == self.id {
            return Err(HandOffRefusal::AlreadyLeads(to));
        }
        let peer = self.peers.iter().find(|peer| peer.id == to && peer.role == Role::Voter);
        let peer = peer.ok_or(HandOffRefusal::NotAVoter(to))?;
        if self.closes() || self.epochs.proposed.is_some() {
            return Err(HandOffRefusal::Busy("a reconfiguration"));
        }
        if self.epochs.moving.is_some() {
            return Err(HandOffRefusal::Busy("another hand-off"));
        }
        let not_ready = |why: String| Err(HandOffRefusal::NotReady { id: to, why });
        // Who has only just begun to lead has had no answer yet from anybody: as a backup it heard nobody but the primary.
        let heard = peer.heard.unwrap_or(0).max(self.lead.since);
        if self.now.mono.saturating_sub(heard) > self.options.view_timeout {
            return not_ready("it has not been heard for a while".to_owned());
        }
        if peer.memory == Memory::Lost {
            return not_ready("it has lost its memory and not got it back yet".to_owned());
        }
        // Of one that has not said anything in this ballot yet it is not known: it will be asked.
        let has = peer.acked.max(peer.held);
        let lag = self.commit().0.saturating_sub(has.0);
        if has > Op(0) && lag > self.options.pipeline as u64 {
            return not_ready(format!("it lacks {lag} entries"));
        }
        Ok(())
    }

    /// Nothing new is proposed meanwhile; once the target has everything, all go.
    pub(super) fn go_on_moving(&mut self, out: &mut Effects<S>) {
        let Some(moving) = self.epochs.moving.filter(|moving| moving.sent.is_none()) else { return };
        // That it says so is enough: which log the next view has is decided by votes, and they name digests.
        let has = self.peers.iter().find(|peer| peer.id == moving.to).map(|peer| peer.acked.max(peer.held));
        if has.is_some_and(|has| has >= self.log.op()) && self.is_primary() {
            let next = Ballot { view: View(self.ballot.view.0 + 1), ..self.ballot };
            let target = self.configuration.next_led_by(next, |id| id == moving.to);
            self.epochs.moving = Some(Moving { sent: Some(target), ..moving });
            out.push(Effect::Broadcast(Message::HandOff { ballot: self.ballot, view: target.view }));
            self.enter_view(target, true, out);
        } else if self.now.mono >= moving.deadline || !self.is_primary() {
            self.epochs.moving = None;
            let why = "it did not say in time that it has the end of the log".to_owned();
            let outcome = Err(HandOffRefusal::NotReady { id: moving.to, why });
            out.push(Effect::HandedOff { token: moving.token, outcome });
        }
    }

    /// When something is to be done about a move.
    pub(super) fn moving_deadline(&self) -> Option<u64> {
        self.epochs.moving.filter(|moving| moving.sent.is_none()).map(|moving| moving.deadline)
    }

    /// Answers a move once it is known who leads instead of this replica.
    pub(super) fn moved(&mut self, out: &mut Effects<S>) {
        let Some(moving) = self.epochs.moving.filter(|moving| moving.sent.is_some()) else { return };
        if !matches!(self.status, Status::ViewChange | Status::Syncing) {
            self.epochs.moving = None;
            let (leads, ballot) = (self.primary(), self.ballot);
            let there = leads == moving.to && self.status == Status::Normal;
            let outcome = if there { Ok(ballot) } else { Err(HandOffRefusal::Missed { leads, ballot }) };
            out.push(Effect::HandedOff { token: moving.token, outcome });
        }
    }

    /// The primary sends everybody to another view of its epoch.
    pub(super) fn on_hand_off(&mut self, from: ReplicaId, ballot: Ballot, view: View, out: &mut Effects<S>) {
        if ballot != self.ballot || from != self.primary() || view <= ballot.view || !self.acts() {
            self.counters.dropped_ballot += 1;
            return;
        }
        self.enter_view(Ballot { view, ..ballot }, true, out);
    }
}
