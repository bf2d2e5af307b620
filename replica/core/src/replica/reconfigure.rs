//! Reconfiguration: from one epoch to the next (R15 to R19).

use super::{Effect, Effects, HandOffRefusal, Replica};
use crate::configuration::Configuration;
use crate::ids::*;
use crate::message::Message;
use crate::proposal::Refusal;
use crate::state_machine::StateMachine;

impl<S: StateMachine> Replica<S> {
    pub(super) fn reconfigure(
        &mut self,
        token: u64,
        _replaces: Digest,
        _next: Configuration,
        out: &mut Effects<S>,
    ) {
        out.push(Effect::Reconfigured { token, outcome: Err(Refusal::Unanswered) });
    }

    pub(super) fn hand_off(&mut self, token: u64, _to: ReplicaId, out: &mut Effects<S>) {
        let outcome = Err(HandOffRefusal::NotPrimary(self.primary()));
        out.push(Effect::HandedOff { token, outcome });
    }

    pub(super) fn on_epoch_message(&mut self, _from: ReplicaId, _message: Message) {
        self.counters.dropped_epoch += 1;
    }
}
