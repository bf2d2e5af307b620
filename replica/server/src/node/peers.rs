//! What goes to the other replicas and what comes from them: who may say something here, and the way to each.

use super::Node;
use crate::peer::{self, DriverMessage, Incoming, Outbox};
use crate::tls::Names;
use bytes::Bytes;
use std::time::Instant;
use vr_core::{Envelope, Generation, Input, Lineage, Message, ReplicaId};

impl Node {
    /// A frame from a peer, over a connection that may speak for `names`.
    ///
    /// # Errors
    /// The sender is no peer of this replica, or the frame is malformed: its connection should end.
    pub fn receive(
        &mut self,
        payload: Bytes,
        names: &Names,
        answers: Option<&Outbox>,
    ) -> Result<(), peer::Refused> {
        self.counters.peer_bytes_received += payload.len() as u64;
        let incoming = peer::decode(payload)?;
        let (Incoming::Protocol(Envelope { lineage, generation, from, .. })
        | Incoming::Driver { lineage, generation, from, .. }) = &incoming;
        self.admit(*lineage, *generation, *from, names)?;
        if let Some(answers) = answers {
            self.links.called(*from, answers);
        }
        match incoming {
            Incoming::Protocol(envelope) => {
                let from = envelope.from;
                if let Message::PrepareOk { ballot, .. } | Message::CommitOk { ballot, .. } = envelope.message
                    && ballot == self.replica.ballot()
                {
                    self.followed.insert(from, Instant::now());
                }
                self.step(Input::Message(envelope));
                if from == self.replica.primary() {
                    self.primary_heard = Instant::now();
                }
                // What a message has set free (a pipeline slot, a queued request) leaves with the next turn.
                self.turn_soon();
            }
            Incoming::Driver { from, message, .. } => match message {
                DriverMessage::Lease(message) => self.lease_message(from, message),
                DriverMessage::CutWanted => self.step(Input::Cut),
                DriverMessage::ControlAsk { token, call } => self.control_ask(from, token, call)?,
                DriverMessage::ControlAnswer { token, answer } => self.control_answer(from, token, answer)?,
            },
        }
        Ok(())
    }

    /// Whether a message of this sender may come over a connection that may speak for `names`. The protocol drops what is
    /// foreign as well (R20); here its sender is told.
    //= R20
    fn admit(
        &self,
        theirs: Lineage,
        generation: Generation,
        from: ReplicaId,
        names: &Names,
    ) -> Result<(), peer::Refused> {
        let (id, ours) = (self.config.id, self.config.lineage);
        if !names.allow(from) {
            return Err(peer::Refused::Name { from, names: names.clone() });
        }
        if theirs != ours {
            return Err(peer::Refused::Lineage { from, theirs, id, ours });
        }
        match self.config.generation {
            ours if ours != generation => {
                Err(peer::Refused::Generation { from, theirs: generation, id, ours })
            }
            _ => Ok(()),
        }
    }

    /// Those that this replica is connected to.
    pub(crate) fn peer_ids(&self) -> Vec<ReplicaId> {
        self.links.ids()
    }

    pub(super) fn encode(&mut self, message: Message) -> Bytes {
        let envelope = Envelope {
            lineage: self.config.lineage,
            generation: self.config.generation,
            from: self.config.id,
            incarnation: self.incarnation,
            message,
        };
        peer::encode(&envelope, &mut self.encoder);
        self.encoder.split().freeze()
    }

    pub(super) fn push(&mut self, to: ReplicaId, frame: Bytes) {
        let len = frame.len() as u64;
        if self.links.push(to, frame) {
            self.counters.peer_bytes_sent += len;
        } else {
            self.counters.peer_frames_dropped += 1;
        }
    }

    pub(super) fn sender(&self) -> peer::Sender {
        (self.config.lineage, self.config.generation, self.config.id, self.incarnation)
    }

    /// Only the primary can cut; the tiers of a backup (S3 above all) are behind on their own.
    pub(super) fn ask_for_cut(&mut self) {
        if let Some(primary) = self.primary() {
            peer::encode_cut_wanted(self.sender(), &mut self.encoder);
            let frame = self.encoder.split().freeze();
            self.push(primary, frame);
        }
    }
}
