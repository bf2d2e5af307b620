//! Read leases: for a while after a quorum has confirmed it, a primary answers reads without another round.
//!
//! Nobody promises the holder anything. Whoever leads a later view waits, before it commits anything, as long as any
//! lease of an earlier view of its epoch could last: a lease counts from when its round was sent, the wait from when
//! a quorum had voted for the new view, and one of those voters confirmed the round before it voted. An epoch ends with
//! a commit, so whoever holds a lease in it ends it itself or has been waited for. A lease is looked at in the step
//! that serves the read, whose clock is read after the question came.
//!
//! It promises linearizable reads as long as no monotonic clock runs by more than an eighth faster or slower than
//! another, and none stands still while its process runs: the one thing here that rests on clocks, which is why a
//! configuration has no lease unless it names one.

use super::{Effects, Replica};
use crate::mutants::{Mutant, on};
use crate::quorum;
use crate::state_machine::StateMachine;
use std::collections::VecDeque;

/// Rounds on their way whose times are kept; the oldest are worth least.
const ON_THEIR_WAY: usize = 64;

/// What a primary knows of its lease. Monotonic microseconds.
#[derive(Clone, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Lease {
    /// Rounds that nobody has confirmed yet, and when they were sent.
    sent: VecDeque<(u64, u64)>,
    /// Reads may be answered before this.
    until: u64,
    /// Nothing is committed before this, so that leases of earlier views run out.
    pub(super) commits_from: Option<u64>,
}

impl<S: StateMachine> Replica<S> {
    /// A round begins that also asks for a lease, where there are leases.
    pub(super) fn next_confirmation(&mut self) {
        self.lead.round += u64::from(!on(Mutant::EarlierRound));
        if self.configuration.read_lease > 0 {
            self.lead.lease.sent.push_back((self.lead.round, self.now.mono));
            if self.lead.lease.sent.len() > ON_THEIR_WAY {
                self.lead.lease.sent.pop_front();
            }
        }
    }

    /// The newest round that a quorum has confirmed.
    pub(super) fn confirmed_round(&mut self) -> u64 {
        let mut rounds: Vec<u64> = self.voters().map(|peer| peer.round).collect();
        rounds.push(self.lead.round);
        if on(Mutant::UnconfirmedReads) {
            rounds.fill(self.lead.round);
        }
        let confirmed = quorum::largest_shared(&mut rounds).unwrap_or_default();
        let length = self.configuration.read_lease;
        let lease = &mut self.lead.lease;
        while let Some((_, sent)) = lease.sent.pop_front_if(|(round, _)| *round <= confirmed) {
            // The clock of whoever waits may be faster.
            lease.until = sent + length - length / 8;
        }
        confirmed
    }

    /// Whether reads may be answered without a round.
    pub(super) fn holds_a_lease(&self) -> bool {
        let expires = if on(Mutant::LeaseForEver) { u64::MAX } else { self.lead.lease.until };
        self.lead.lease.until > 0 && self.now.mono < expires
    }

    /// A view begins whose predecessors' primaries may hold leases.
    pub(super) fn wait_for_leases(&mut self) {
        let length = self.configuration.read_lease;
        if length > 0 && self.configuration.order.len() > 1 && !on(Mutant::LeaseNotAwaited) {
            self.lead.lease.commits_from = Some(self.now.mono + length);
        }
    }

    /// Whether a lease of an earlier view may still be in force.
    pub(super) fn waits_for_leases(&self) -> bool {
        self.lead.lease.commits_from.is_some_and(|from| self.now.mono < from)
    }

    /// All leases of earlier views are over: what has a quorum is committed.
    pub(super) fn leases_run_out(&mut self, out: &mut Effects<S>) {
        if self.is_primary() && self.lead.lease.commits_from.is_some() && !self.waits_for_leases() {
            self.lead.lease.commits_from = None;
            self.advance_commit(out);
        }
    }
}
