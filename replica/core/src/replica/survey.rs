//! Asking everybody, twice: what all others have said in two rounds, one after the other, was true of all of them at
//! once, between the two.
//!
//! One round is not enough to call a quorum lost: the first to answer may have recovered, and the leader that brought
//! it back may have been deposed, before the last one answers. An answer counts only in the round that asked for it,
//! so nothing that was held up on the way can stand in for an answer now.

use super::peer::Memory;
use super::{Replica, Status};
use crate::ids::*;
use crate::state_machine::StateMachine;

/// What a peer answered to `GetView`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Answer {
    /// It is without memory.
    Amnesiac,
    /// It has its memory and leads nothing.
    Follows,
    /// It is the Normal primary of this ballot.
    Leads(Ballot),
}

/// What one start of a peer has answered in this round and in the one before.
#[derive(Clone, Copy, Debug, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Answers {
    now: Option<Answer>,
    before: Option<Answer>,
    /// The last two rounds that ended had the same answer, and none has contradicted it since.
    pub(super) steady: bool,
}

impl Answers {
    fn take(&mut self, answer: Answer) {
        self.now = Some(answer);
        self.steady &= self.before == Some(answer);
    }

    fn end_round(&mut self) {
        self.steady = self.now.is_some() && self.now == self.before;
        self.before = self.now.take();
    }
}

/// The part of a nonce that counts rounds.
pub(super) const ROUND: u64 = 0xffff;

impl<S: StateMachine> Replica<S> {
    /// A peer answered the question of `nonce`.
    pub(super) fn note_answer(&mut self, from: ReplicaId, nonce: u64, answer: Answer) {
        let (ours, now) = (self.recovery.is_ours(nonce), self.recovery.nonce == nonce);
        let peer = self.peer(from);
        if now {
            peer.answers.take(answer);
        }
        if ours && matches!(answer, Answer::Leads(_)) {
            // Whoever leads has its memory, and no start of it before the question can have answered this.
            peer.memory = Memory::Intact;
        }
    }

    /// Before asking again: once everybody has answered, the next question begins a new round.
    pub(super) fn next_round(&mut self) {
        let mut voters = self.peers.iter().filter(|peer| peer.is_voter());
        if voters.all(|peer| peer.answers.now.is_some()) {
            self.peers.iter_mut().for_each(|peer| peer.answers.end_round());
            self.recovery.nonce = self.recovery.nonce & !ROUND | self.recovery.nonce.wrapping_add(1) & ROUND;
        }
    }

    /// Whether it can do nothing but wait for somebody to lead.
    pub(super) fn waits_for_a_leader(&self) -> bool {
        match self.status {
            Status::Recovering => self.catch_up.is_none(),
            // With an intent it has given up on the view it is in, whatever it was still fetching for it.
            Status::ViewChange => self.catch_up.is_none() || self.views.intent.is_some(),
            // A primary, too, that owes a promise above its ballot.
            Status::Normal | Status::Syncing => !self.amnesiac && self.views.intent.is_some(),
            Status::Transitioning => self.catch_up.is_none() && !self.holds_epoch(),
            Status::Retiring | Status::QuorumLost | Status::Halted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_is_not_enough_and_a_change_starts_over() {
        let mut answers = Answers::default();
        answers.take(Answer::Amnesiac);
        answers.end_round();
        assert!(!answers.steady);
        answers.take(Answer::Amnesiac);
        assert!(!answers.steady, "the round has not ended");
        answers.end_round();
        assert!(answers.steady);
        answers.take(Answer::Follows);
        assert!(!answers.steady);
        answers.end_round();
        answers.take(Answer::Follows);
        answers.end_round();
        assert!(answers.steady);
    }
}
