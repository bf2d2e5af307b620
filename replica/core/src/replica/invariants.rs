//! What holds after every step, in release builds too. Each is cheap; a broken one means a bug here, and a replica
//! that has one must not go on talking to others.

use super::{Replica, Status};
use crate::state_machine::StateMachine;

impl<S: StateMachine> Replica<S> {
    pub(super) fn check_invariants(&self) {
        self.commit_is_held();
        self.log_and_execution_agree();
        self.promises_cover_what_is_done();
        self.memory_comes_before_votes();
        self.epochs_are_held();
    }

    /// base <= commit <= op.
    fn commit_is_held(&self) {
        assert!(
            self.log.base() <= self.commit() && self.commit() <= self.log.op(),
            "commit {} lies outside the log {}..={}",
            self.commit(),
            self.log.base(),
            self.log.op()
        );
    }

    /// What was executed is what the log says.
    fn log_and_execution_agree(&self) {
        assert!(
            self.log.digest_at(self.commit()) == Some(self.digest()),
            "what was executed through op {} is not what the log holds",
            self.commit()
        );
    }

    /// R1: nobody is Normal in a ballot that is not durably promised or that comes before what it has executed, and
    /// promises only grow.
    fn promises_cover_what_is_done(&self) {
        if self.status == Status::Normal {
            assert!(
                self.durable() && self.last_normal == self.ballot,
                "Normal in {} with a durable promise of {} and last Normal in {}",
                self.ballot,
                self.vote.ballot,
                self.last_normal
            );
            assert!(
                self.ballot >= self.executor.core.ballot,
                "Normal in {}, although what was executed through op {} is of {}",
                self.ballot,
                self.commit(),
                self.executor.core.ballot
            );
        }
        assert!(self.promised >= self.vote.ballot, "a promise went back");
    }

    /// R4: without memory nobody is Normal or changes views.
    fn memory_comes_before_votes(&self) {
        if self.amnesiac {
            assert!(
                matches!(
                    self.status,
                    Status::Recovering
                        | Status::Syncing
                        | Status::Transitioning
                        | Status::Retiring
                        | Status::Halted
                ),
                "without memory, yet {:?}",
                self.status
            );
        }
    }

    /// R16: nobody acts in an epoch whose log it does not hold, and every ballot it is in is one of that epoch.
    fn epochs_are_held(&self) {
        let (ours, executed) = (self.configuration.epoch, self.executor.core.configuration.epoch);
        assert!(self.ballot.epoch == ours, "in ballot {} of epoch {ours}", self.ballot);
        if self.status == Status::Normal {
            assert!(executed == ours, "Normal in epoch {ours} with the log of epoch {executed}");
        }
    }
}
