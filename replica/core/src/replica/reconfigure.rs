//! Proposing another configuration (R15, R17): compare-and-swap on the one in force, one at a time, and only when those
//! it needs have just shown that they are there and up to date.
//!
//! An order-only change (R19) is a proposal like any other: its members are up to date by being members, so it is made
//! at once, and nobody has anything to fetch. Moving into the epoch that it begins is `epoch.rs`.

use super::peer::{Peer, Role};
use super::{Effect, Effects, Replica, Status};
use crate::configuration::Configuration;
use crate::ids::*;
use crate::message::{Kind, Message};
use crate::mutants::{Mutant, on};
use crate::proposal::{self, Proposal, Refusal};
use crate::quorum;
use crate::state_machine::StateMachine;

/// Proposals that wait at one replica, at most, and askers of the one being made.
const MAX_WAITING: usize = 16;
/// A proposal that no primary has answered for this long is given up. Microseconds.
const PATIENCE: u64 = 5_000_000;

/// A proposal that was handed in at this replica.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Asked {
    replaces: Digest,
    next: Configuration,
    since: u64,
}

/// A proposal that this primary is making.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Proposed {
    proposal: Proposal,
    /// Who is to be told, under which token.
    waiting: Vec<(ReplicaId, u64)>,
    /// What those whom it needs have to confirm to be ready: a round that began after it, and this op.
    round: u64,
    op: Op,
    deadline: u64,
    in_log: bool,
}

impl<S: StateMachine> Replica<S> {
    /// Whether the log ends with an entry that ends the epoch: nothing may follow it (R15).
    //= R15
    pub(super) fn closes(&self) -> bool {
        let last = self.log.entry(self.log.op()).map(|entry| &entry.header);
        self.executor.core.configuration.epoch != self.configuration.epoch
            || last.is_some_and(|last| last.kind == Kind::Reconfigure && last.op > self.commit())
                && !on(Mutant::AfterTheEnd)
    }

    pub(super) fn reconfigure(
        &mut self,
        token: u64,
        replaces: Digest,
        next: Configuration,
        out: &mut Effects<S>,
    ) {
        if self.epochs.asked.len() >= MAX_WAITING || self.status == Status::Retiring {
            return out.push(Effect::Reconfigured { token, outcome: Err(Refusal::Unanswered) });
        }
        self.epochs.asked.insert(token, Asked { replaces, next, since: self.now.mono });
        self.ask_primary(token, out);
    }

    fn ask_primary(&mut self, token: u64, out: &mut Effects<S>) {
        let Some(Asked { replaces, next, .. }) = self.epochs.asked.get(&token).cloned() else { return };
        if self.is_primary() {
            self.consider(self.id, token, replaces, next, out);
        } else if self.is_backup() {
            out.push(Effect::Send(self.primary(), Message::Reconfigure { token, replaces, next }));
        }
    }

    /// Asks again for what was not answered: the compare-and-swap makes it safe.
    pub(super) fn retry_proposals(&mut self, out: &mut Effects<S>) {
        let before = self.now.mono.saturating_sub(PATIENCE);
        for token in self.epochs.asked.keys().copied().collect::<Vec<_>>() {
            if self.epochs.asked.get(&token).is_some_and(|asked| asked.since <= before && before > 0) {
                self.proposal_is(token, Err(Refusal::Unanswered), out);
            } else {
                self.ask_primary(token, out);
            }
        }
    }

    /// A proposal of this replica's own has been decided.
    pub(super) fn proposal_is(&mut self, token: u64, outcome: Result<Epoch, Refusal>, out: &mut Effects<S>) {
        let Some(Asked { next, .. }) = self.epochs.asked.remove(&token) else { return };
        let outcome = match outcome {
            // It was made, and the answer lost.
            Err(Refusal::Stale { now, .. }) if now == next.id() => Ok(next.epoch),
            outcome => outcome,
        };
        out.push(Effect::Reconfigured { token, outcome });
    }

    pub(super) fn on_reconfigure(
        &mut self,
        from: ReplicaId,
        token: u64,
        replaces: Digest,
        next: Configuration,
        out: &mut Effects<S>,
    ) {
        // Whoever asked a replica that does not lead will ask again.
        if self.is_primary() {
            self.consider(from, token, replaces, next, out);
        }
    }

    fn answer(&mut self, to: ReplicaId, token: u64, outcome: Result<Epoch, Refusal>, out: &mut Effects<S>) {
        if to == self.id {
            self.proposal_is(token, outcome, out);
        } else {
            out.push(Effect::Send(to, Message::ReconfigureIs { token, outcome }));
        }
    }

    //= R15
    fn consider(
        &mut self,
        from: ReplicaId,
        token: u64,
        replaces: Digest,
        next: Configuration,
        out: &mut Effects<S>,
    ) {
        if self.closes() && self.epochs.proposed.is_none() {
            // Inherited: it is last in the log, and all that is left to do is to commit it.
            let inherited =
                self.log.entry(self.log.op()).and_then(|entry| Proposal::decode(&entry.body).ok());
            self.epochs.proposed = inherited.map(|proposal| Proposed::new(proposal, true));
        }
        if let Some(proposed) = &mut self.epochs.proposed {
            let same = proposed.proposal.replaces == replaces && proposed.proposal.next == next;
            if !same || proposed.waiting.len() >= MAX_WAITING {
                let epoch = proposed.proposal.next.epoch;
                return self.answer(from, token, Err(Refusal::Pending { epoch }), out);
            }
            if !proposed.waiting.contains(&(from, token)) {
                proposed.waiting.push((from, token));
            }
            return;
        }
        if self.closes() || self.epochs.moving.is_some() {
            // Between two epochs, or two primaries: whoever leads next will be asked again.
            return;
        }
        if next == self.configuration {
            return self.answer(from, token, Ok(next.epoch), out);
        }
        if next.epoch.0 > self.configuration.epoch.0 + 1 && replaces != self.configuration.id() {
            // Of an epoch that this primary has not heard of, or of none: whoever leads there will be asked again.
            return;
        }
        let highest = self.executor.core.highest_id.max(self.configuration.highest_id());
        if let Err(refusal) = proposal::check(&self.configuration, highest, replaces, &next) {
            return self.answer(from, token, Err(refusal), out);
        }
        let proposal = Proposal { replaces, highest_id: highest.max(next.highest_id()), next };
        //= R17
        self.lead.round += 1;
        self.epochs.proposed = Some(Proposed {
            waiting: vec![(from, token)],
            round: self.lead.round,
            op: self.commit(),
            deadline: self.now.mono + 4 * self.options.view_timeout,
            ..Proposed::new(proposal, false)
        });
        if !self.peers.is_empty() {
            self.send_commit(out);
        }
        self.go_on_proposing(out);
    }

    /// Proposes once everybody whom the next epoch needs has confirmed a round that began after it was asked for.
    //= R17
    pub(super) fn go_on_proposing(&mut self, out: &mut Effects<S>) {
        let Some(proposed) = &self.epochs.proposed else { return };
        if proposed.in_log || !self.is_primary() {
            return;
        }
        let ready = |id: ReplicaId| {
            id == self.id
                || on(Mutant::UnreadyPromoted)
                || self.peers.iter().any(|peer| peer.id == id && proposed.has(peer))
        };
        //= R19
        // Where nobody is promoted, nobody has anything to fetch: a quorum that answers is all there is to wait for.
        let next = &proposed.proposal.next;
        let promoted = next.voters().filter(|&id| !self.configuration.is_voter(id));
        let missing = promoted.chain(next.voters()).find(|&id| !ready(id));
        let all_promoted = next.voters().all(|id| self.configuration.is_voter(id) || ready(id));
        let alive = next.voters().filter(|&id| ready(id)).count();
        if all_promoted && alive >= quorum::majority(next.order.len()) {
            let body = proposed.proposal.encode();
            self.epochs.proposed.as_mut().expect("it was just seen").in_log = true;
            self.propose(Kind::Reconfigure, body.into(), out);
        } else if self.now.mono >= proposed.deadline {
            let id = missing.expect("a quorum is not ready");
            let lag = self.peers.iter().find(|peer| peer.id == id && peer.round >= proposed.round);
            let lag = lag.map(|peer| self.commit().0.saturating_sub(peer.acked.max(peer.held).0));
            self.drop_proposal(&Err(Refusal::NotReady { id, lag }), out);
        }
    }

    /// When something is to be done about the proposal.
    pub(super) fn proposing_deadline(&self) -> Option<u64> {
        self.epochs.proposed.as_ref().filter(|proposed| !proposed.in_log).map(|proposed| proposed.deadline)
    }

    fn drop_proposal(&mut self, outcome: &Result<Epoch, Refusal>, out: &mut Effects<S>) {
        let waiting = self.epochs.proposed.take().map(|proposed| proposed.waiting);
        for (to, token) in waiting.into_iter().flatten() {
            self.answer(to, token, outcome.clone(), out);
        }
    }

    /// A Reconfigure entry has just been executed here: it is agreed, whoever proposed it.
    pub(super) fn reconfiguration_agreed(&mut self, out: &mut Effects<S>) {
        let agreed = &self.executor.core.configuration;
        let epoch = agreed.epoch;
        if self.epochs.proposed.as_ref().is_some_and(|proposed| proposed.proposal.next == *agreed) {
            self.drop_proposal(&Ok(epoch), out);
        }
        let agreed = &self.executor.core.configuration;
        let asked = self.epochs.asked.iter().filter(|(_, asked)| asked.next == *agreed);
        for token in asked.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.proposal_is(token, Ok(epoch), out);
        }
    }
}

impl Proposed {
    fn new(proposal: Proposal, in_log: bool) -> Proposed {
        Proposed { proposal, waiting: Vec::new(), round: 0, op: Op(0), deadline: 0, in_log }
    }

    fn has(&self, peer: &Peer) -> bool {
        peer.role != Role::Former && peer.round >= self.round && peer.acked.max(peer.held) >= self.op
    }
}
