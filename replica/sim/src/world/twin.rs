//! Two processes with one id: the older one lives on where nobody can reach it to stop it, its disk was attached
//! elsewhere, and another process has been started from it.
//!
//! The older one still hears and is heard, has its clients, and acts in the ballot that it is in. What it wants to promise
//! is never durable again. Whatever it shows to anybody must be as true as what the others show.

use super::node::Members;
use super::{Event, World, packed};
use crate::coverage::{Fault, Seen};
use crate::machine::{Machine, Tapped};
use crate::oracle::linear::Call;
use crate::oracle::{Check, Outcome, require};
use crate::rng::{Ppm, Rng, Stream};
use crate::trace::What;
use std::collections::BTreeMap;
use std::rc::Rc;
use vr_core::{
    Effect, Envelope, Incarnation, Input, Message, Op, Replica, ReplicaId, RequestNumber, SessionId, Status,
};

/// The older process.
struct Twin<M: Machine> {
    index: usize,
    id: ReplicaId,
    incarnation: Incarnation,
    replica: Replica<Tapped<M>>,
    status: Status,
    executed: Op,
    members: Rc<Members>,
    calls: BTreeMap<RequestNumber, Call>,
    /// Where history stood when each of its reads began.
    reads: BTreeMap<u64, Op>,
    last_read: u64,
    until: u64,
    /// Of its newest timer: earlier ones are void.
    timer: u64,
}

impl<M: Machine> Twin<M> {
    fn session(&self) -> SessionId {
        SessionId { client: self.id.0, incarnation: self.incarnation }
    }
}

/// The older process, if there is one now.
pub(super) struct Twins<M: Machine> {
    rng: Rng,
    now: Option<Twin<M>>,
    timers: u64,
    /// When there last was one.
    seen: Option<u64>,
}

impl<M: Machine> Twins<M> {
    pub(super) fn new(seed: u64) -> Twins<M> {
        Twins { rng: Rng::new(seed, Stream::Twins), now: None, timers: 0, seen: None }
    }
}

impl<M: Machine> World<M> {
    /// A process crashes as far as its machine can tell, and lives on elsewhere, perhaps.
    pub(super) fn crash_or_leave_a_twin(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let lives_on = self.twins.now.is_none() && self.twins.rng.chance(self.plan.faults.twin);
        let (id, incarnation) = (node.id, node.incarnation);
        let (status, executed, members) = (node.status, node.executed, node.members.clone());
        let calls = if lives_on { std::mem::take(&mut node.calls) } else { BTreeMap::new() };
        let replica = self.crash_leaving(index);
        let Some(replica) = replica.filter(|_| lives_on) else { return };
        self.coverage.fault(Fault::Twin);
        let until = self.time + 1 + self.twins.rng.below(20 * self.plan.options.view_timeout);
        self.note(index, What::Twin, "", incarnation.0, 0, until);
        self.twins.now = Some(Twin {
            index,
            id,
            incarnation,
            replica,
            status,
            executed,
            members,
            calls,
            reads: BTreeMap::new(),
            last_read: 0,
            until,
            timer: 0,
        });
        self.arm_twin();
    }

    /// When it next does something of its own.
    fn arm_twin(&mut self) {
        let Some(twin) = &mut self.twins.now else { return };
        self.twins.timers += 1;
        twin.timer = self.twins.timers;
        let soon = self.time + 1 + self.twins.rng.below(self.plan.turn + 1);
        let clock = &self.nodes[twin.index].clock;
        let due = twin.replica.next_deadline().map_or(u64::MAX, |deadline| clock.when(deadline));
        self.queue.push(due.max(soon).min(twin.until), Event::Twin { timer: twin.timer });
    }

    /// Its time has come: the end of a turn, a deadline, a question of its clients; or the end.
    pub(super) fn wake_twin(&mut self, timer: u64) -> Check {
        if self.twins.now.as_ref().is_none_or(|twin| twin.timer != timer) {
            return Ok(());
        }
        self.step_twin(Input::Turn)?;
        self.step_twin(Input::Tick)?;
        self.ask_twin()?;
        self.twins.seen = Some(self.time);
        self.twins.now.take_if(|twin| twin.until <= self.time);
        self.arm_twin();
        Ok(())
    }

    /// Whoever is in the way is found and stopped: with the end of all faults, or with the disk that it came from.
    pub(super) fn end_twin(&mut self, of: impl Fn(usize) -> bool) {
        if self.twins.now.take_if(|twin| of(twin.index)).is_some() {
            self.twins.seen = Some(self.time);
        }
    }

    /// Whether there has been one since then. Whoever has just been started believes one that has no memory, until it
    /// hears of the newer process; and one that has its memory may lead where everybody else thinks that nobody does.
    pub(super) fn there_was_a_twin(&self, since: u64) -> bool {
        self.twins.now.is_some() || self.twins.seen.is_some_and(|at| at >= since)
    }

    /// Its clients do not know either.
    fn ask_twin(&mut self) -> Check {
        let Some(twin) = &mut self.twins.now else { return Ok(()) };
        let session = twin.session();
        if self.twins.rng.chance(Ppm(200_000)) {
            twin.last_read += 1;
            // Numbers that the process had not come to before.
            let token = (1 << 40) + twin.last_read;
            twin.reads.insert(token, self.gateways.shown());
            self.step_twin(Input::Read { token })?;
        }
        if self.twins.rng.chance(Ppm(100_000)) {
            let (number, body, call) = self.new_request(session);
            if let Some(twin) = &mut self.twins.now {
                twin.calls.extend(call.map(|call| (number, call)));
            }
            self.step_twin(Input::Submit { number, body })?;
        }
        Ok(())
    }

    /// A message for the id reaches the older process as well, perhaps.
    pub(super) fn deliver_to_twin(&mut self, to: usize, envelope: &Envelope) -> Check {
        let is_there = self.twins.now.as_ref().is_some_and(|twin| twin.index == to);
        if !is_there || self.twins.rng.below(2) == 0 {
            return Ok(());
        }
        self.step_twin(Input::Message(envelope.clone()))?;
        self.arm_twin();
        Ok(())
    }

    fn step_twin(&mut self, input: Input) -> Check {
        let Some(twin) = &mut self.twins.now else { return Ok(()) };
        let now = self.nodes[twin.index].clock.at(self.time);
        let mut effects = vr_core::Effects(Vec::new());
        twin.replica.step(now, input, &mut effects);
        let (id, index) = (twin.id, twin.index);
        for execution in self.nodes[index].tap.take() {
            self.history.executed(id, &execution, &mut self.gateways)?;
        }
        for effect in effects.0 {
            self.carry_out_of_twin(effect)?;
        }
        if let Some(twin) = &mut self.twins.now {
            twin.status = twin.replica.status();
        }
        Ok(())
    }

    fn carry_out_of_twin(&mut self, effect: Effect<Tapped<M>>) -> Check {
        let Some(twin) = &mut self.twins.now else { return Ok(()) };
        let (id, index, session) = (twin.id, twin.index, twin.session());
        match effect {
            Effect::Send(to, message) => self.post_of_twin(to, message),
            Effect::Broadcast(message) => {
                let members = twin.members.clone();
                let others = members.configuration.members().map(|member| member.id).filter(|to| *to != id);
                others.into_iter().try_for_each(|to| self.post_of_twin(to, message.clone()))
            }
            Effect::Committed(entry) => {
                require!(
                    entry.header.op == twin.executed.next(),
                    "executes-in-order",
                    "the older process of replica {id} executed op {} after op {}",
                    entry.header.op,
                    twin.executed
                );
                twin.executed = entry.header.op;
                let ballot = twin.replica.ballot();
                if self.seen_committed(index, &entry, ballot)? {
                    // It has its memory, whatever was lost with the others'.
                    self.without_memory_when_lost.clear();
                }
                Ok(())
            }
            Effect::Reply { number, op, reply } => {
                self.coverage.seen(Seen::TwinReply);
                let call = twin.calls.remove(&number);
                self.gateways.replied(session, number, op, M::reply_digest(&reply))?;
                if let (Some(call), Some(saw)) = (call, M::cell_of(&reply)) {
                    self.cells.saw(call, saw);
                }
                Ok(())
            }
            Effect::Rejected { number } => {
                if let Some(call) = twin.calls.remove(&number) {
                    self.cells.rejected(call);
                }
                self.gateways.given_up(session, number, Outcome::Rejected)
            }
            Effect::Unknown { number } => self.gateways.given_up(session, number, Outcome::Unknown),
            Effect::Answers { op, answers } => answers.iter().try_for_each(|(session, number, reply)| {
                self.gateways.told(*session, *number, op, M::reply_digest(reply))
            }),
            Effect::ReadReady { token } => {
                // Those that began before the other process was started have no reader any more.
                let Some(floor) = twin.reads.remove(&token) else { return Ok(()) };
                self.coverage.seen(Seen::TwinRead);
                self.gateways.read(session, floor, twin.executed)
            }
            Effect::ReadFailed { token } => {
                twin.reads.remove(&token);
                Ok(())
            }
            Effect::Cut { op, snapshot, .. } => self.history.cut(id, op, M::root(&snapshot)),
            Effect::StateReplaced(op) => {
                twin.executed = op;
                Ok(())
            }
            Effect::Configuration(configuration, begun) => {
                self.epochs.taken(id, &configuration)?;
                twin.members = Rc::new(Members { configuration, begun });
                Ok(())
            }
            Effect::Retired(_) | Effect::Fatal(_) => {
                self.end_twin(|_| true);
                Ok(())
            }
            // It has no disk. What it says of itself, nobody asks; those who wait for its word are with the other one.
            Effect::WriteVote(_)
            | Effect::Standing(..)
            | Effect::Certified { .. }
            | Effect::Diverged { .. }
            | Effect::Reconfigured { .. }
            | Effect::HandedOff { .. }
            | Effect::Declined { .. }
            | Effect::Registered { .. }
            | Effect::Forgotten { .. }
            | Effect::Release(_)
            | Effect::ReleaseState(_)
            | Effect::ReleaseImport(_) => Ok(()),
        }
    }

    fn post_of_twin(&mut self, to: ReplicaId, message: Message) -> Check {
        let (Some(twin), Some(to)) = (&self.twins.now, self.index_of(to)) else { return Ok(()) };
        let (id, index, incarnation) = (twin.id, twin.index, twin.incarnation);
        self.promises.says(id, &self.epochs, [twin.status, twin.replica.status()], &message)?;
        self.acknowledged.says(id, &message);
        let ballot = packed(twin.replica.ballot());
        self.note(index, What::Twin, "", to as u64, ballot, 0);
        self.transmit(index, to, incarnation, message);
        Ok(())
    }
}
