//! Changes of who takes part and of who leads, as the driver sees them: asked for, answered, made durable, and the
//! connections that follow from them.

use super::{Node, Promise};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use vr_core::{Ballot, Begun, Configuration, Digest, Epoch, HandOffRefusal, Input, Refusal, ReplicaId};

/// How long members of the epoch before stay connected: they fetch what they lack, and are told that they left (R18).
const LEAVING: Duration = Duration::from_secs(60);

type Reconfigured = Result<Epoch, Refusal>;
type HandedOff = Result<Ballot, HandOffRefusal>;

/// Who waits for a change.
#[derive(Default)]
pub(super) struct Changes {
    reconfiguring: BTreeMap<u64, oneshot::Sender<Reconfigured>>,
    handing_off: BTreeMap<u64, oneshot::Sender<HandedOff>>,
    last_token: u64,
}

impl Changes {
    fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    pub(super) fn reconfigured(&mut self, token: u64, outcome: Reconfigured) {
        if let Some(sender) = self.reconfiguring.remove(&token) {
            // Whoever asked may have gone away.
            let _ = sender.send(outcome);
        }
    }

    pub(super) fn handed_off(&mut self, token: u64, outcome: HandedOff) {
        if let Some(sender) = self.handing_off.remove(&token) {
            let _ = sender.send(outcome);
        }
    }
}

impl Node {
    /// The members, as far as this replica knows.
    #[must_use]
    pub fn members(&self) -> &Configuration {
        self.replica.configuration()
    }

    /// Proposes the next members.
    pub(crate) fn reconfigure(
        &mut self,
        replaces: Digest,
        next: Configuration,
    ) -> oneshot::Receiver<Reconfigured> {
        let (sender, receiver) = oneshot::channel();
        let token = self.changes.token();
        self.changes.reconfiguring.insert(token, sender);
        self.step(Input::Reconfigure { token, replaces, next });
        self.turn_soon();
        receiver
    }

    /// Moves the primary, if this is one.
    pub(crate) fn hand_off(&mut self, to: ReplicaId) -> oneshot::Receiver<HandedOff> {
        let (sender, receiver) = oneshot::channel();
        let token = self.changes.token();
        self.changes.handing_off.insert(token, sender);
        self.step(Input::HandOff { token, to });
        self.turn_soon();
        receiver
    }

    /// Other members than before are in force.
    pub(super) fn reconfigured(&mut self, next: Configuration, begun: Option<Begun>) {
        let ids = |members: &[vr_core::Member]| members.iter().map(|m| m.id.0).collect::<Vec<_>>();
        tracing::info!(
            epoch = %next.epoch, order = ?ids(&next.order), learners = ?ids(&next.learners), "members"
        );
        // The writer outlives the node; if it is gone the process is stopping.
        let _ = self.promises.send(Promise::Members(next.clone(), begun));
        if let Some(before) = self.connected.replace(next) {
            self.left = Some((before, Instant::now() + LEAVING));
        }
        self.connect();
    }

    /// After a while, those who left are left alone.
    pub(super) fn forget_the_left(&mut self) {
        if self.left.as_ref().is_some_and(|(_, until)| Instant::now() >= *until) {
            self.left = None;
            self.connect();
        }
    }

    /// Connects to those in force and, for a while, to those before them.
    pub(super) fn connect(&mut self) {
        let me = self.config.id;
        let now = self.connected.get_or_insert_with(|| self.replica.configuration().clone());
        let left = self.left.iter().flat_map(|(before, _)| before.members());
        // Whoever is in both is at its newest address.
        let peers = left.chain(now.members()).filter(|m| m.id != me && !m.peer.is_empty());
        self.links.set(peers.map(|m| (m.id, m.peer.clone())).collect());
    }
}
