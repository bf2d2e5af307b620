//! The door through which messages come in, and to whom each goes.

use super::{Effects, Replica};
use crate::message::{Envelope, Message};
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;

impl<S: StateMachine> Replica<S> {
    /// What is foreign, from a stranger, or from a start of the sender that is over, goes no further (R20).
    pub(super) fn receive(&mut self, envelope: Envelope, out: &mut Effects<S>) {
        let Envelope { lineage, generation, from, incarnation, message } = envelope;
        let known = self.peers.iter_mut().find(|peer| peer.id == from);
        let ours = lineage == self.vote.lineage && generation == self.vote.generation;
        if !ours && !on(Mutant::ForeignLineage) {
            self.counters.dropped_foreign += 1;
            return;
        }
        let Some(peer) = known else { return self.hear_stranger(from, message, out) };
        //= R20
        if incarnation < peer.incarnation && !on(Mutant::StaleIncarnation) {
            self.counters.dropped_stale_incarnation += 1;
            return;
        }
        if incarnation > peer.incarnation && on(Mutant::RestartUnnoticed) {
            peer.incarnation = incarnation;
        } else if incarnation > peer.incarnation {
            peer.restarted(incarnation);
        }
        peer.heard = Some(self.now.mono);
        // Who has just lost its memory does not know which starts of the others are over.
        peer.note(&message, !self.amnesiac);
        //= R8
        if !self.of_this_epoch(from, &message, out) {
            return;
        }
        match message {
            Message::Forward { requests } => self.on_forward(from, &requests, out),
            Message::Refused { session, numbers } => {
                self.gateway.refused(session, &numbers, self.now.mono + self.options.retry)
            }
            Message::Prepare { ballot, commit, entry } => self.on_prepare(from, ballot, commit, entry, out),
            Message::PrepareOk { ballot, op, digest } => self.on_prepare_ok(from, ballot, op, digest, out),
            Message::Commit { ballot, commit, digest, round, shipper } => {
                self.on_commit(from, ballot, commit, digest, round, shipper, out);
            }
            Message::CommitOk { ballot, round, op } => self.on_commit_ok(from, ballot, round, op, out),
            Message::ReadIndex { token } => self.on_read_index(from, token),
            Message::ReadIndexIs { token, op } => self.on_read_index_is(token, op, out),
            Message::StartViewChange { ballot } => self.on_start_view_change(from, ballot, out),
            Message::DoViewChange { ballot, last_normal, commit, op, headers } => {
                let vote = crate::select::Vote { from, last_normal, commit, op, headers };
                self.on_do_view_change(ballot, vote, out);
            }
            Message::StartView { ballot, commit, op, headers } => {
                self.on_start_view(from, ballot, commit, op, headers, out);
            }
            Message::GetView { nonce, promised, checkpoint: _, epoch: _ } => {
                self.on_get_view(from, nonce, promised, out)
            }
            Message::ViewIs { nonce, ballot, commit, op, digest } => {
                self.on_view_is(from, nonce, ballot, commit, op, digest, out);
            }
            Message::Standing { nonce, promised, amnesiac, holds } => {
                self.on_standing(from, nonce, promised, amnesiac, holds, out);
            }
            Message::GetEntries { ballot: _, from: first, to } => self.on_get_entries(from, first, to, out),
            Message::Entries { ballot, oldest, entries } => {
                self.on_entries(from, ballot, oldest, entries, out);
            }
            Message::GetState { ballot, cut, number, want } => {
                self.on_get_state(from, ballot, cut, number, &want, out);
            }
            Message::State { ballot, cut, root, number, portion } => {
                self.on_state(from, ballot, cut, root, number, &portion, out);
            }
            Message::Root { op, root } => self.on_root(from, op, root, out),
            Message::NewEpoch { configuration, op, digest, hearsay } => {
                self.on_new_epoch(from, configuration, op, digest, hearsay, out);
            }
            Message::EpochStarted { epoch } => self.on_epoch_started(from, epoch, out),
            Message::Reconfigure { token, replaces, next } => {
                self.on_reconfigure(from, token, replaces, next, out);
            }
            Message::ReconfigureIs { token, outcome } => self.proposal_is(token, outcome, out),
            Message::HandOff { ballot, view } => self.on_hand_off(from, ballot, view, out),
        }
    }
}
