//! Recovery: a start without memory finds the primary of a ballot at least as high as its promise, or finds that
//! nobody can be one.

use super::peer::{Memory, Peer, Role};
use super::survey::{Answer, ROUND};
use super::sync::{CatchUp, Purpose};
use super::{Effect, Effects, Replica, Status};
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;

/// Retries without an answer from the primary it was catching up with, after which it asks everybody again.
const GIVE_UP_AFTER: u32 = 5;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Recovery {
    /// Echoed by answers to this start's questions; no answer to an earlier start can carry it (R2). Its last bits
    /// count the rounds of questions.
    pub(super) nonce: u64,
    /// Where the checkpoint it started from stood (R5).
    base: Op,
    /// The highest ballot it has begun to catch up with, or has executed entries of: what it holds belongs to no lower
    /// one, and whoever leads a lower one was left behind.
    floor: Ballot,
}

impl Recovery {
    pub(super) fn new(seed: u64, incarnation: Incarnation, base: Op, executed: Ballot) -> Recovery {
        let mixed = blake3::hash(&[seed.to_le_bytes(), incarnation.0.to_le_bytes()].concat());
        let mixed = u64::from_le_bytes(mixed.as_bytes()[..8].try_into().expect("eight of 32 bytes"));
        // Never 0, which answers no question.
        let nonce = mixed & !ROUND | (ROUND + 1);
        Recovery { nonce, base, floor: executed }
    }

    /// Whether a nonce is one of this start's, of whatever round.
    pub(super) fn is_ours(&self, nonce: u64) -> bool {
        nonce & !ROUND == self.nonce & !ROUND || on(Mutant::AnyNonce)
    }
}

impl<S: StateMachine> Replica<S> {
    /// Asks everybody who leads. Said again until it is answered.
    //= R2
    pub(super) fn ask_for_view(&mut self, out: &mut Effects<S>) {
        if self.peers.is_empty() {
            return;
        }
        self.ask_in_a_round(out);
        out.push(Effect::Broadcast(self.standing_message(0)));
    }

    /// Asks also those who have left: one of them may be the only one that can show where this epoch begins.
    pub(super) fn ask_in_a_round(&mut self, out: &mut Effects<S>) {
        self.next_round();
        let question = self.get_view();
        for peer in self.peers.iter().filter(|peer| peer.role == Role::Former) {
            out.push(Effect::Send(peer.id, question.clone()));
        }
        out.push(Effect::Broadcast(question));
    }

    pub(super) fn get_view(&self) -> Message {
        let promised = self.vote.ballot;
        Message::GetView {
            nonce: self.recovery.nonce,
            promised,
            checkpoint: self.commit(),
            epoch: self.epoch_in_hand(),
        }
    }

    pub(super) fn standing_message(&self, nonce: u64) -> Message {
        let holds = self.executor.core.configuration.epoch;
        Message::Standing { nonce, promised: self.vote.ballot, amnesiac: self.amnesiac, holds }
    }

    pub(super) fn on_get_view(
        &mut self,
        from: ReplicaId,
        nonce: u64,
        promised: Ballot,
        out: &mut Effects<S>,
    ) {
        let peer = self.peer(from);
        peer.promised = peer.promised.max(promised);
        let unborn = on(Mutant::AnyoneAnswers) && self.primary() == self.id && !self.amnesiac;
        let answer = if self.is_primary() || unborn {
            Message::ViewIs {
                nonce,
                ballot: self.ballot,
                commit: self.commit(),
                op: self.log.op(),
                digest: self.log.digest(),
            }
        } else {
            // Whoever is being brought back may succeed or fail: that counts in no round of questions.
            let returning = self.amnesiac && self.status == Status::Syncing;
            self.standing_message(if returning { 0 } else { nonce })
        };
        out.push(Effect::Send(from, answer));
        self.learn_promise(promised, out);
        if self.status != Status::ViewChange && from == self.primary() {
            // A primary that asks who leads does not.
            self.suspect(out);
        }
    }

    pub(super) fn on_standing(
        &mut self,
        from: ReplicaId,
        nonce: u64,
        promised: Ballot,
        amnesiac: bool,
        holds: Epoch,
        out: &mut Effects<S>,
    ) {
        // Without memory one cannot know which start of the sender a message is from: only answers count.
        let fresh = !self.amnesiac || self.recovery.is_ours(nonce);
        self.note_answer(from, nonce, if amnesiac { Answer::Amnesiac } else { Answer::Follows });
        let peer = self.peer(from);
        peer.promised = peer.promised.max(promised);
        if fresh {
            peer.holds = holds;
            if !amnesiac {
                peer.memory = Memory::Intact;
                peer.leads = None;
            } else if peer.memory == Memory::Unknown {
                peer.memory = Memory::Lost;
                peer.leads = None;
            }
        }
        self.learn_promise(promised, out);
        if amnesiac && self.status != Status::ViewChange && from == self.primary() {
            self.suspect(out);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the message's fields")]
    pub(super) fn on_view_is(
        &mut self,
        from: ReplicaId,
        nonce: u64,
        ballot: Ballot,
        commit: Op,
        op: Op,
        digest: Digest,
        out: &mut Effects<S>,
    ) {
        self.note_answer(from, nonce, Answer::Leads(ballot));
        //= R2
        //= R16
        let between = matches!(self.status, Status::Transitioning | Status::Retiring);
        if between
            || !self.recovery.is_ours(nonce)
            || self.configuration.primary(ballot.view) != from
            || (ballot < self.promised.max(self.recovery.floor) && !on(Mutant::LowerView))
        {
            self.counters.dropped_ballot += 1;
            return;
        }
        if commit > op {
            self.counters.dropped_malformed += 1;
            return;
        }
        if !self.amnesiac {
            if ballot > self.ballot {
                self.enter_view(ballot, false, out);
            }
            if ballot == self.ballot && self.status == Status::ViewChange {
                self.heard = self.now.mono;
                self.follow_to(from, op, commit, Vec::new(), out);
            }
            return;
        }
        if let Some(catch_up) = &mut self.catch_up
            && catch_up.ballot == ballot
        {
            return;
        }
        //= R5
        let contradicts = op == self.commit() && digest != self.digest();
        if self.recovery.base > op || contradicts {
            let reason = format!(
                "the local checkpoint of replica {} stands at op {} with log digest {}, but the log of primary {from} \
                 in ballot {ballot} ends at op {op} with digest {digest}: they are different histories. Keep the \
                 checkpoint for inspection, start with an empty data directory",
                self.id,
                self.recovery.base,
                self.digest(),
            );
            return self.fatal(reason, out);
        }
        self.recovery.floor = ballot;
        self.abandon_catch_up(out);
        self.status = Status::Syncing;
        let mut catch_up = CatchUp::new(Purpose::Follow, ballot, from, self.commit());
        catch_up.aim(op, commit, Vec::new());
        catch_up.digest = Some(digest);
        catch_up.source_commit = commit;
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    /// The primary it was catching up with does not answer any more.
    pub(super) fn give_up_on_silent_primary(&mut self, out: &mut Effects<S>) {
        let Some(catch_up) = &self.catch_up else { return };
        let between = self.status == Status::Transitioning;
        if (self.amnesiac || between) && catch_up.silent_retries >= GIVE_UP_AFTER {
            self.abandon_catch_up(out);
            if !between {
                self.status = Status::Recovering;
            }
        }
    }

    /// R7: with a majority without memory and no primary of the highest promise, nobody may ever be elected. Said only
    /// when every other member has answered, and the same twice: one that has not might be the primary.
    //= R7
    pub(super) fn judge_quorum(&mut self) {
        let steady = self.is_voter() && self.voters().all(|peer| peer.answers.steady);
        let steady = (steady || on(Mutant::LossGuessed)) && !on(Mutant::LossDenied);
        let waited = self.waits_for_a_leader() && self.has_waited_for_its_epoch();
        self.lost = steady && waited && self.nobody_can_lead();
    }

    fn nobody_can_lead(&self) -> bool {
        if self.voters().any(|peer| peer.memory == Memory::Unknown) {
            return false;
        }
        let epoch = self.configuration.epoch;
        let leader = self.voters().filter_map(|peer| peer.leads).max();
        let highest = self.voters().map(|peer| peer.promised).fold(self.promised, Ballot::max);
        // A promise of a later epoch: that one has other voters, and somebody knows them.
        if highest.epoch > epoch || leader.is_some_and(|ballot| ballot >= highest) {
            return false;
        }
        // Who can take part in an election: those that act in this epoch with their memory, and those that the leader
        // there is can bring back. Who has promised nothing in this epoch yet can come to it by anybody who can show
        // its beginning (R16), member or not.
        let shown = self.beginning_is_shown();
        let can = |acts: bool, promised: Ballot| {
            acts || leader.is_some_and(|ballot| ballot >= promised) || (shown && promised.epoch < epoch)
        };
        let acts = |peer: &&Peer| {
            let heard_of = peer.promised.max(peer.leads.unwrap_or_default());
            can(peer.memory == Memory::Intact && heard_of.epoch == epoch, peer.promised)
        };
        let own = can(!self.amnesiac && self.promised.epoch == epoch, self.promised);
        self.voters().filter(acts).count() + usize::from(own) < self.configuration.quorum()
    }

    /// Whether somebody can show the beginning of this epoch, or might: of those that have no vote in it, a learner is
    /// waited for, as a member, and who has left if it was heard just now.
    fn beginning_is_shown(&self) -> bool {
        let epoch = self.configuration.epoch;
        let by_self = !self.amnesiac && self.holds_epoch();
        let since = self.now.mono.saturating_sub(self.options.view_timeout);
        let heard = |peer: &Peer| peer.heard.is_some_and(|at| at > since);
        by_self
            || self.peers.iter().any(|peer| {
                let silent = match peer.role {
                    Role::Voter => false,
                    Role::Learner => !peer.answers.steady,
                    Role::Former => !peer.answers.steady && heard(peer),
                };
                silent || (peer.memory == Memory::Intact && peer.holds >= epoch)
            })
    }
}
