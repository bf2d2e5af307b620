//! Scenarios written by hand: the same world, but messages move only when they are told to.
//!
//! For replaying a story step by step, such as the one in which the paper's recovery loses a write.

use super::{Event, World};
use crate::coverage::MessageKind;
use crate::machine::Machine;
use crate::oracle::{Broken, Check, Outcome};
use vr_core::{Ballot, Envelope, Op, RequestNumber, Status};

/// Messages that wait to be told to move.
#[derive(Default)]
pub(super) struct Held(pub(super) Vec<(usize, usize, Box<Envelope>)>);

impl<M: Machine> World<M> {
    /// From now on messages wait until [`World::release`].
    pub fn hold_messages(&mut self) {
        self.network.held.get_or_insert_with(Held::default);
    }

    /// Delivers, in order, the waiting messages of a kind from one replica (counted from 0) to another; how many.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn release(&mut self, from: usize, to: usize, kind: MessageKind) -> Result<usize, Broken> {
        let mut held = self.network.held.take().unwrap_or_default();
        let wanted = |(f, t, e): &(usize, usize, Box<Envelope>)| {
            *f == from && *t == to && MessageKind::of(&e.message) == kind
        };
        let (out, rest): (Vec<_>, Vec<_>) = held.0.into_iter().partition(wanted);
        held.0 = rest;
        self.network.held = Some(held);
        let count = out.len();
        for (_, to, envelope) in out {
            self.happen(Event::Deliver { to, envelope })?;
            self.settle()?;
        }
        Ok(count)
    }

    /// Loses the waiting messages of a kind between two replicas, in this direction.
    pub fn lose(&mut self, from: usize, to: usize, kind: MessageKind) {
        if let Some(held) = &mut self.network.held {
            held.0.retain(|(f, t, e)| *f != from || *t != to || MessageKind::of(&e.message) != kind);
        }
    }

    /// All that waits is delivered, and messages move by themselves again.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn let_messages_flow(&mut self) -> Check {
        for (_, to, envelope) in self.network.held.take().unwrap_or_default().0 {
            self.happen(Event::Deliver { to, envelope })?;
        }
        Ok(())
    }

    /// Who has something waiting for whom: for a person who writes a scenario.
    #[must_use]
    pub fn waiting(&self) -> Vec<(usize, usize, MessageKind)> {
        let held = self.network.held.iter().flat_map(|held| &held.0);
        held.map(|(from, to, e)| (*from, *to, MessageKind::of(&e.message))).collect()
    }

    /// Lets a moment pass: turns end, disks finish; no timeout runs out.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn settle(&mut self) -> Check {
        self.run_until(self.time + 1_000)
    }

    /// One replica's monotonic clock runs ahead by this many microseconds, and its timers notice.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn advance_clock(&mut self, replica: usize, by: u64) -> Check {
        self.nodes[replica].clock.advance(by);
        self.step(replica, vr_core::Input::Tick)?;
        self.settle()
    }

    /// A replica dies and starts again, without its memory.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn crash_and_start(&mut self, replica: usize) -> Check {
        self.crash(replica);
        let life = self.nodes[replica].life;
        self.happen(Event::Start { node: replica, life })?;
        self.settle()
    }

    /// A client writes through a replica's gateway.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn write(&mut self, replica: usize) -> Result<RequestNumber, Broken> {
        let number = self.begin_write(replica, None)?;
        self.settle()?;
        Ok(number)
    }

    /// What its gateway said of it.
    #[must_use]
    pub fn outcome_of(&self, replica: usize, number: RequestNumber) -> Option<Outcome> {
        self.gateways.outcome(self.nodes[replica].session(), number)
    }

    /// A replica's status, ballot and newest op.
    #[must_use]
    pub fn standing(&self, replica: usize) -> (Status, Ballot, Op) {
        let node = &self.nodes[replica];
        (node.status, node.ballot, node.replica.as_ref().map_or(Op(0), vr_core::Replica::op))
    }
}
