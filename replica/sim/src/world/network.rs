//! Links between processes: what gets lost, repeated, late, held, or kept apart.

use super::{Event, GENERATION, LINEAGE, World, packed};
use crate::coverage::{Fault, MessageKind};
use crate::machine::Machine;
use crate::oracle::Check;
use crate::rng::{Rng, Stream};
use crate::trace::What;
use vr_core::{Envelope, Generation, Incarnation, Lineage, Message};

/// The ballot of a message, for the trace.
pub(super) fn ballot_of(message: &Message) -> u64 {
    match message {
        Message::Prepare { ballot, .. }
        | Message::PrepareOk { ballot, .. }
        | Message::Commit { ballot, .. }
        | Message::CommitOk { ballot, .. }
        | Message::StartViewChange { ballot }
        | Message::DoViewChange { ballot, .. }
        | Message::StartView { ballot, .. }
        | Message::ViewIs { ballot, .. }
        | Message::GetEntries { ballot, .. }
        | Message::Entries { ballot, .. }
        | Message::GetState { ballot, .. }
        | Message::State { ballot, .. } => packed(*ballot),
        Message::GetView { promised, .. } | Message::Standing { promised, .. } => packed(*promised),
        _ => 0,
    }
}

/// The op of a message, for the trace.
pub(super) fn op_of(message: &Message) -> u64 {
    match message {
        Message::Prepare { entry, .. } => entry.header.op.0,
        Message::PrepareOk { op, .. } | Message::CommitOk { op, .. } | Message::Root { op, .. } => op.0,
        Message::Commit { commit, .. } => commit.0,
        Message::DoViewChange { op, .. } | Message::StartView { op, .. } | Message::ViewIs { op, .. } => op.0,
        Message::GetEntries { from, .. } => from.0,
        Message::Entries { entries, .. } => entries.first().map_or(0, |e| e.header.op.0),
        Message::GetState { cut, .. } | Message::State { cut, .. } => cut.0,
        Message::ReadIndexIs { op, .. } => op.map_or(0, |op| op.0),
        _ => 0,
    }
}

/// The state of all links.
pub(super) struct Network {
    rng: Rng,
    size: usize,
    /// Per direction: until when nothing gets through.
    shut_until: Vec<u64>,
    /// Per direction: until when everything waits.
    clogged_until: Vec<u64>,
    /// In a scenario written by hand: what waits.
    pub(super) held: Option<super::script::Held>,
}

impl Network {
    pub(super) fn new(seed: u64, size: usize) -> Network {
        let rng = Rng::new(seed, Stream::Network);
        Network {
            rng,
            size,
            shut_until: vec![0; size * size],
            clogged_until: vec![0; size * size],
            held: None,
        }
    }

    pub(super) fn shut(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.shut_until[from * self.size + to];
        *link = until.max(*link);
    }

    pub(super) fn clog(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.clogged_until[from * self.size + to];
        *link = until.max(*link);
    }

    pub(super) fn reopen(&mut self, from: usize, to: usize) {
        self.shut_until[from * self.size + to] = 0;
    }

    pub(super) fn open_all(&mut self) {
        self.shut_until.fill(0);
        self.clogged_until.fill(0);
    }
}

impl<M: Machine> World<M> {
    /// A process sends: the world decides what becomes of it.
    pub(super) fn post(&mut self, from: usize, to: usize, message: Message) -> Check {
        let kind = MessageKind::of(&message);
        let node = &self.nodes[from];
        self.promises.says(node.id, &self.epochs, [node.status, node.status_after], &message)?;
        self.acknowledged.says(node.id, &message);
        self.note(from, What::Send, kind.name(), to as u64, ballot_of(&message), op_of(&message));
        if let Message::GetView { nonce, .. } = message
            && self.nodes[from].nonce != nonce
        {
            let node = &mut self.nodes[from];
            (node.nonce, node.asks_since) = (nonce, (node.asks_since.1, self.time));
        }
        // An answer takes the connection that the other one has made.
        let keeps = |one: usize, other: usize| self.nodes[one].knows(self.nodes[other].id, self.time);
        let connected = keeps(from, to) || keeps(to, from) && self.nodes[to].is_up();
        if !connected {
            self.coverage.fault(Fault::NoWay);
            self.note(from, What::Lost, kind.name(), to as u64, 0, 0);
            return Ok(());
        }
        let incarnation = self.nodes[from].incarnation;
        self.transmit(from, to, incarnation, message);
        Ok(())
    }

    /// What becomes of a message on its way.
    pub(super) fn transmit(&mut self, from: usize, to: usize, incarnation: Incarnation, message: Message) {
        let kind = MessageKind::of(&message);
        let (network, plan, time) = (&mut self.network, &self.plan.network, self.time);
        let link = from * network.size + to;
        if network.shut_until[link] > time {
            self.note(from, What::Lost, kind.name(), to as u64, 0, 0);
            return;
        }
        if network.rng.chance(plan.drop) {
            self.coverage.fault(Fault::Drop);
            self.note(from, What::Lost, kind.name(), to as u64, 0, 0);
            return;
        }
        let mut envelope = Box::new(Envelope {
            lineage: LINEAGE,
            generation: GENERATION,
            from: self.nodes[from].id,
            incarnation,
            message,
        });
        if let Some(held) = &mut network.held {
            held.0.push((from, to, envelope));
            return;
        }
        if network.rng.chance(plan.duplicate) {
            self.coverage.fault(Fault::Duplicate);
            let late = time + plan.latency + network.rng.below(plan.spread * 10 + 1);
            self.queue.push(late, Event::Deliver { to, envelope: envelope.clone() });
        }
        let mut at = time + plan.latency + network.rng.below(plan.spread + 1);
        at = at.max(network.clogged_until[link]);
        if network.rng.chance(plan.hold) {
            self.coverage.fault(Fault::Hold);
            at += network.rng.below(plan.hold_for + 1);
        }
        if network.rng.chance(plan.foreign) {
            self.coverage.fault(Fault::Foreign);
            if network.rng.below(2) == 0 {
                envelope.lineage = Lineage([8; 16]);
            } else {
                envelope.generation = Generation(GENERATION.0 + network.rng.below(2) * 2 - 1);
            }
        }
        self.queue.push(at, Event::Deliver { to, envelope });
    }

    /// A process sends the same to all other members it was told of.
    pub(super) fn post_to_all(&mut self, from: usize, message: &Message) -> Check {
        let members = self.nodes[from].members.clone();
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            if members.configuration.member(self.nodes[to].id).is_some() {
                self.post(from, to, message.clone())?;
            }
        }
        Ok(())
    }
}
