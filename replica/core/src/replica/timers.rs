//! What happens because time has passed.

use super::{Effect, Effects, Replica, Status};
use crate::ids::ReplicaId;
use crate::message::Message;
use crate::state_machine::StateMachine;

/// How often a view's time limit grows before it stays.
const MAX_GROWTH: u64 = 7;

impl<S: StateMachine> Replica<S> {
    /// When [`Input::Tick`](super::Input::Tick) is due: monotonic microseconds, in the past if it is overdue.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.status == Status::Halted {
            return None;
        }
        // A driver that forgets to end its turns must not stall the cluster.
        let flush = self.flush_is_due().then_some(self.now.mono);
        let moves = [self.proposing_deadline(), self.moving_deadline()].into_iter().flatten().min();
        let own = if self.is_primary() {
            let commits = self.lead.lease.commits_from;
            [moves, commits, Some(self.lead.heartbeat_at)].into_iter().flatten().min()
        } else if self.is_backup() && self.is_voter() && self.views.intent.is_none() {
            Some(self.suspect_at)
        } else if self.status == Status::ViewChange {
            Some(self.views.deadline)
        } else {
            None
        };
        [flush, own, Some(self.retry_at)].into_iter().flatten().min()
    }

    /// How long a backup bears silence. The spread keeps replicas from moving all at once.
    pub(super) fn patience(&self) -> u64 {
        self.options.view_timeout
            + self.options.view_timeout / 2 * self.position as u64 / self.members() as u64
    }

    /// How long an entered view may take to begin; longer with every one that did not.
    pub(super) fn patience_with_view(&self) -> u64 {
        self.patience() + self.options.view_timeout * self.views.attempts.min(MAX_GROWTH)
    }

    pub(super) fn peer_lost(&mut self, peer: ReplicaId) {
        if self.is_backup() && peer == self.primary() {
            self.suspect_at = self.suspect_at.min(self.now.mono + self.options.heartbeat);
        }
        if let Some(peer) = self.peers.iter_mut().find(|known| known.id == peer)
            && peer.heard.is_some()
        {
            peer.heard = Some(0);
        }
    }

    pub(super) fn tick(&mut self, out: &mut Effects<S>) {
        let now = self.now.mono;
        if self.is_primary() && now >= self.lead.heartbeat_at {
            self.choose_shipper();
            self.next_confirmation();
            self.lead.heartbeat_at = now + self.options.heartbeat;
            if !self.peers.is_empty() {
                self.send_commit(out);
            }
        }
        self.leases_run_out(out);
        self.go_on_proposing(out);
        self.go_on_moving(out);
        if self.is_backup() && self.is_voter() && self.views.intent.is_none() && now >= self.suspect_at {
            self.suspect(out);
        }
        if self.status == Status::ViewChange && now >= self.views.deadline {
            self.views.attempts += 1;
            self.views.deadline = now + self.patience_with_view();
            let next = self.ballot.max(self.views.intent.unwrap_or_default());
            // An intent that nobody shared is kept; a view that did not begin is skipped.
            let next = if next > self.ballot { next } else { next_view(self.ballot) };
            self.intend(next, out);
        }
        if now >= self.retry_at {
            self.retry_at = now + self.options.retry;
            self.retry(out);
        }
        self.flush(out);
    }

    /// Says again what may have been lost.
    fn retry(&mut self, out: &mut Effects<S>) {
        self.views.asked = false;
        self.retry_catch_up(out);
        self.give_up_on_silent_primary(out);
        match self.status {
            Status::Recovering => self.ask_for_view(out),
            Status::Syncing if self.amnesiac => self.ask_for_view(out),
            Status::ViewChange if !self.is_voter() => self.ask_for_view(out),
            Status::ViewChange if self.durable() => {
                out.push(Effect::Broadcast(Message::StartViewChange { ballot: self.ballot }));
                out.push(Effect::Broadcast(self.standing_message(0)));
                self.repeat_vote(out);
            }
            Status::Normal if self.is_primary() => self.resend_prepares(out),
            // A learner suspects nobody, but may be no member any more, or of a view that is over, without having heard.
            Status::Normal if !self.is_voter() && self.now.mono >= self.suspect_at => {
                out.push(Effect::Broadcast(self.get_view()));
            }
            Status::Normal if self.log.op() > self.commit() => self.ack_due = true,
            _ => {}
        }
        self.retry_epoch(out);
        self.retry_proposals(out);
        let asked = self.status == Status::Transitioning;
        if !self.amnesiac && !asked && self.is_voter() && self.waits_for_a_leader() {
            self.ask_in_a_round(out);
        }
        if let Some(intent) = self.views.intent
            && self.status != Status::Halted
        {
            out.push(Effect::Broadcast(Message::StartViewChange { ballot: intent }));
            out.push(Effect::Broadcast(self.standing_message(0)));
            self.intend(intent, out);
        }
        let before = self.now.mono.saturating_sub(self.options.retry);
        if self.is_backup() {
            self.gateway.resend_older_than(before);
            self.reads.ask_again_older_than(before);
        }
        self.gateway.let_go_of_forgotten(self.executor.sessions(), self.commit(), out);
        self.reads.fail_old(self.now.mono, out);
        self.repeat_root(out);
    }
}

fn next_view(ballot: crate::ids::Ballot) -> crate::ids::Ballot {
    crate::ids::Ballot { view: crate::ids::View(ballot.view.0 + 1), ..ballot }
}
