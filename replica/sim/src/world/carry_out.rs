//! Carrying out what a step asked for, in order, and showing it to the oracles.

use super::node::{Kept, NEVER};
use super::{Event, World, packed};
use crate::coverage::{Fault, Seen, StatusKind};
use crate::machine::{Machine, Tapped};
use crate::oracle::{Broken, Check, Outcome, require};
use crate::plan::Sabotage;
use crate::trace::What;
use vr_core::{Ballot, Effect, Op, Replica, Status};

impl<M: Machine> World<M> {
    /// Carries out the effects of the step just taken, all of them or, if the process dies in the middle, the first.
    pub(super) fn carry_out(&mut self, index: usize) -> Check {
        for execution in self.nodes[index].tap.take() {
            self.history.executed(self.nodes[index].id, &execution, &mut self.gateways)?;
        }
        // A status is reported when a step ends: what is said on the way may belong to either.
        let node = &mut self.nodes[index];
        node.status_after = node.replica.as_ref().map_or(node.status, vr_core::Replica::status);
        let mut effects = std::mem::take(&mut self.effects.0);
        let dies_after = self.dies_within(index, effects.len());
        let life = self.nodes[index].life;
        for (done, effect) in effects.drain(..).enumerate() {
            if dies_after == Some(done) {
                self.coverage.fault(Fault::CrashMidStep);
                self.crash(index);
                break;
            }
            self.carry_out_one(index, effect)?;
            if self.nodes[index].life != life {
                break;
            }
        }
        effects.clear();
        self.effects.0 = effects;
        self.rearm(index);
        Ok(())
    }

    fn dies_within(&mut self, index: usize, effects: usize) -> Option<usize> {
        let dies = effects > 1 && self.faults_rng.chance(self.plan.faults.crash_mid_step);
        (dies && self.may_forget(index)).then(|| self.faults_rng.index(effects))
    }

    pub(super) fn rearm(&mut self, index: usize) {
        let late = self.process_rng.below(self.plan.turn + 1);
        let node = &mut self.nodes[index];
        if let Some(replica) = &node.replica {
            node.tick_due = match replica.next_deadline() {
                None => NEVER,
                Some(deadline) => node.clock.when(deadline).saturating_add(late).max(self.time + 1),
            };
        }
    }

    fn carry_out_one(&mut self, index: usize, effect: Effect<Tapped<M>>) -> Check {
        let id = self.nodes[index].id;
        let session = self.nodes[index].session();
        match effect {
            Effect::Send(to, message) => {
                let to = self.index_of(to);
                let to = to.ok_or_else(|| Broken::new("known-peers", format!("{id} sends to a stranger")))?;
                require!(to != index, "known-peers", "replica {id} sends to itself: {message:?}");
                self.post(index, to, message)
            }
            Effect::Broadcast(message) => self.post_to_all(index, &message),
            Effect::WriteVote(record) => {
                self.write_vote(index, record);
                if self.faults_rng.chance(self.plan.faults.crash_voting) && self.may_forget(index) {
                    self.coverage.fault(Fault::CrashVoting);
                    self.crash(index);
                }
                Ok(())
            }
            Effect::Reply { number, op, reply } => {
                self.coverage.seen(Seen::Reply);
                self.note(index, What::Reply, "", number.0, 0, op.0);
                if let Some(seen) = M::seen(&reply) {
                    self.coverage.seen(seen);
                }
                self.gateways.replied(session, number, op, M::reply_digest(&reply))?;
                if let (Some(call), Some(saw)) = (self.nodes[index].calls.remove(&number), M::cell_of(&reply))
                {
                    self.cells.saw(call, saw);
                }
                self.answered(index, number)
            }
            Effect::Rejected { number } => {
                self.coverage.seen(Seen::Rejected);
                self.note(index, What::Rejected, "", number.0, 0, 0);
                self.gateways.given_up(session, number, Outcome::Rejected)?;
                if let Some(call) = self.nodes[index].calls.remove(&number) {
                    self.cells.rejected(call);
                }
                self.answered(index, number)
            }
            Effect::Unknown { number } => {
                self.coverage.seen(Seen::Unknown);
                self.note(index, What::Unknown, "", number.0, 0, 0);
                self.gateways.given_up(session, number, Outcome::Unknown)?;
                self.answered(index, number)
            }
            Effect::Answers { op, answers } => answers.iter().try_for_each(|(session, number, reply)| {
                self.session_answer(index, *session, *number, op, reply)
            }),
            Effect::Declined { session, number, fate } => self.declined(index, session, number, fate),
            Effect::Registered { session } => self.registered(index, session),
            Effect::Forgotten { session } => self.forgotten(index, session),
            Effect::ReadReady { token } => self.read_over(index, token, true),
            Effect::ReadFailed { token } => self.read_over(index, token, false),
            Effect::Committed(entry) => self.committed(index, &entry),
            Effect::Cut { op, snapshot, .. } => self.cut(index, op, snapshot),
            Effect::Certified { op, root, by } => {
                self.coverage.seen(Seen::Certified);
                require!(
                    by.len() >= self.nodes[index].members.configuration.quorum(),
                    "certified-by-quorum",
                    "replica {id} calls the root at {op} certified, reported by {by:?} only"
                );
                self.note(index, What::Certified, "", 0, 0, op.0);
                self.history.certified(id, op, root)
            }
            Effect::Diverged { op, certified, ours } => Err(Broken::new(
                "never-diverges",
                format!(
                    "replica {id} at cut {op}: certified {}, its own {}",
                    certified.short(),
                    ours.short()
                ),
            )),
            Effect::Standing(status, ballot) => self.stands(index, status, ballot),
            Effect::StateReplaced(op) => {
                self.coverage.seen(Seen::StateReplaced);
                self.note(index, What::StateReplaced, "", 0, 0, op.0);
                let node = &mut self.nodes[index];
                if let Some(counters) = node.replica.as_ref().map(Replica::counters) {
                    if counters.transfers_resumed > 0 {
                        self.coverage.seen(Seen::TransferResumed);
                    }
                    if counters.transfers_moved_on > 0 {
                        self.coverage.seen(Seen::TransferMovedOn);
                    }
                }
                require!(
                    op > node.executed,
                    "state-never-goes-back",
                    "replica {id} replaced its state at op {} by one at op {op}",
                    node.executed
                );
                node.executed = op;
                Ok(())
            }
            Effect::Release(_) | Effect::ReleaseState(_) | Effect::ReleaseImport(_) => Ok(()),
            Effect::Reconfigured { token, outcome } => self.decided(index, token, &outcome),
            Effect::HandedOff { token, outcome } => self.handed_off(index, token, &outcome),
            Effect::Configuration(configuration, begun) => self.told_of(index, configuration, begun),
            Effect::Retired(epoch) => self.released(index, epoch),
            Effect::Fatal(reason) => self.stopped_for_good(index, &reason),
        }
    }

    fn committed(&mut self, index: usize, entry: &vr_core::Entry) -> Check {
        let node = &mut self.nodes[index];
        let op = entry.header.op;
        require!(
            op == node.executed.next(),
            "executes-in-order",
            "replica {} executed op {op} after op {}",
            node.id,
            node.executed
        );
        node.executed = op;
        let ballot = node.replica.as_ref().map_or(node.ballot, Replica::ballot);
        if self.seen_committed(index, entry, ballot)? {
            self.revives(index)?;
        }
        Ok(())
    }

    /// A process of a replica says in some ballot that an entry is committed. Whether it is the first to say so.
    pub(super) fn seen_committed(
        &mut self,
        index: usize,
        entry: &vr_core::Entry,
        ballot: Ballot,
    ) -> Result<bool, Broken> {
        let (id, op) = (self.nodes[index].id, entry.header.op);
        self.coverage.seen(Seen::Committed);
        let first = self.history.committed(id, &entry.header, ballot)?;
        if first {
            self.coverage.seen(Seen::CommittedFirst);
            require!(
                entry.check().is_ok(),
                "body-fits-header",
                "the body of entry {op} is not the one its header names"
            );
            self.acknowledged.committed(&self.epochs, &entry.header)?;
            if self.epochs.newest().span_domains {
                self.coverage.seen(Seen::CommittedSpanning);
            }
            self.agreed(entry)?;
        }
        let digest = u64::from_le_bytes(entry.header.body.0[..8].try_into().expect("eight of thirty-two"));
        self.note(
            index,
            What::Committed,
            if first { "first" } else { "" },
            digest,
            packed(entry.header.ballot),
            op.0,
        );
        Ok(first)
    }

    /// After QuorumLost a cluster comes to life again only through a replica that had its memory then, elected by
    /// votes that were cast before and were still on their way: those who forgot elect nobody.
    fn revives(&mut self, index: usize) -> Check {
        let without = std::mem::take(&mut self.without_memory_when_lost);
        require!(
            !without.get(index).is_some_and(|without| *without),
            "lost-is-lost",
            "replica {} had no memory when QuorumLost was reported, and is the first to commit again",
            self.nodes[index].id
        );
        Ok(())
    }

    fn cut(&mut self, index: usize, op: Op, snapshot: M::Snapshot) -> Check {
        self.coverage.seen(Seen::Cut);
        let root = M::root(&snapshot);
        let id = self.nodes[index].id;
        self.note(index, What::Cut, "", 0, 0, op.0);
        self.history.cut(id, op, root)?;
        let delay = self.disks_rng.below(self.plan.disks.root_delay + 1);
        if delay > 100_000 {
            self.coverage.fault(Fault::LateRoot);
        }
        let durable = self.disks_rng.chance(self.plan.disks.checkpoint);
        let node = &mut self.nodes[index];
        if durable {
            node.checkpoint = Some(Kept { op, root, snapshot });
        }
        let life = node.life;
        self.queue.push(self.time + delay, Event::Root { node: index, life, op, root });
        Ok(())
    }

    fn read_over(&mut self, index: usize, token: u64, ready: bool) -> Check {
        let node = &mut self.nodes[index];
        let Some(reading) = node.reads.remove(&token) else {
            return Err(Broken::new("one-answer", format!("replica {}: no read {token} waits", node.id)));
        };
        let (session, executed) = (node.session(), node.executed);
        let asker = node.asked_reads.remove(&token);
        if ready {
            self.nodes[index].served_token = token;
            self.coverage.seen(Seen::ReadReady);
            let replica = self.nodes[index].replica.as_ref();
            if replica.is_some_and(|replica| replica.counters().leased_reads > 0) {
                self.coverage.seen(Seen::LeasedRead);
            }
            self.note(index, What::ReadReady, "", token, 0, executed.0);
            self.gateways.read(session, reading.floor, executed)?;
            let machine = self.nodes[index].replica.as_ref().map(|replica| replica.state().inner());
            if let (Some(machine), Some((key, call))) = (machine, reading.cell)
                && let Some(saw) = machine.cell(key)
            {
                self.cells.saw(call, if self.plan.breaks(Sabotage::EmptyReads) { (0, 0) } else { saw });
            }
        } else {
            self.coverage.seen(Seen::ReadFailed);
            self.note(index, What::ReadFailed, "", token, 0, executed.0);
        }
        asker.map_or(Ok(()), |asker| self.content(asker))
    }

    fn stands(&mut self, index: usize, status: Status, ballot: Ballot) -> Check {
        self.note(index, What::Standing, StatusKind::of(status).name(), 0, packed(ballot), 0);
        if self.majority_is_lost() && self.living_primary().is_none() {
            self.lost_at = Some(self.time);
        }
        let node = &mut self.nodes[index];
        (node.status, node.ballot) = (status, ballot);
        let id = node.id;
        match status {
            Status::Normal => {
                require!(
                    ballot <= self.promises.of(id),
                    "durable-before-spoken",
                    "replica {id} is Normal in {ballot}, durable is {}",
                    self.promises.of(id)
                );
                if node.forgetful {
                    node.forgetful = false;
                    self.coverage.seen(if node.acted { Seen::Recovered } else { Seen::Joined });
                }
                (node.acted, node.lost_disk) = (true, false);
                let executed = node.executed;
                self.epochs.acts(id, ballot, executed)?;
                if self.leads(index) {
                    let node = &self.nodes[index];
                    let (incarnation, continued) = (node.incarnation, node.continued);
                    self.promises.leads(ballot, id, incarnation, continued)?;
                    self.coverage.seen(Seen::Primary);
                    self.has_all(index)?;
                }
            }
            // Who was away when its epoch ended says of that what is true: nobody brings it back.
            Status::QuorumLost if !self.epochs.is_in_force(ballot.epoch) => {}
            // Between two epochs it says that no member can show how this one begins. Somebody who has left may, but
            // whoever starts anew may not know that one.
            Status::QuorumLost if !self.epochs.has_begun_with(ballot.epoch, self.nodes[index].executed) => {
                self.coverage.seen(Seen::QuorumLost);
            }
            Status::QuorumLost => {
                self.coverage.seen(Seen::QuorumLost);
                // What it says was true between two rounds of its questions; an answer may have come long after.
                // Who is alone, as far as it knows, asks nobody.
                let alone = self.epochs.of(ballot.epoch).is_some_and(|known| known.order.len() == 1);
                let asked = if alone { self.time } else { self.nodes[index].asks_since.0 };
                if self.there_was_a_twin(asked) {
                    return Ok(());
                }
                let lost_at = self.lost_at;
                require!(
                    lost_at.is_some_and(|at| at >= asked),
                    "lost-only-if-so",
                    "replica {id} reports QuorumLost by what it has asked since {asked}, but that was last so at \
                     {lost_at:?}; replica {:?} leads the highest promised ballot now",
                    self.living_primary()
                );
                // Who had promised nothing in the newest epoch may still come to it, by its log (R16); who says this may
                // not have heard of it.
                let newest = self.epochs.newest().epoch;
                let came = |id| self.promises.of(id).epoch >= newest;
                self.without_memory_when_lost =
                    self.nodes.iter().map(|node| node.forgetful && came(node.id)).collect();
            }
            Status::Halted if !self.nodes[index].lost_disk => {
                return Err(Broken::new("nothing-fatal", format!("replica {id} has halted")));
            }
            Status::ViewChange
            | Status::Recovering
            | Status::Syncing
            | Status::Transitioning
            | Status::Retiring
            | Status::Halted => {}
        }
        Ok(())
    }

    /// Whether this process is the Normal primary of its ballot.
    pub(super) fn leads(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.is_up() && node.status == Status::Normal && self.epochs.primary(node.ballot) == Some(node.id)
    }

    /// A primary's log holds what was committed in any ballot up to its own. The chain makes one comparison enough.
    fn has_all(&self, index: usize) -> Check {
        let node = &self.nodes[index];
        let replica = node.replica.as_ref().expect("it just took a step");
        let Some((newest, by)) = self.history.newest_committed() else { return Ok(()) };
        // A primary that was deposed and does not know it yet commits nothing.
        if node.ballot < by || newest.op <= replica.commit() {
            return Ok(());
        }
        let ours = replica.entry(newest.op).map(|entry| entry.header);
        require!(
            ours.as_ref() == Some(newest),
            "leader-has-all",
            "replica {} leads {} with {ours:?} in its log where {newest:?} was committed",
            node.id,
            node.ballot
        );
        Ok(())
    }

    /// The Normal primary of a ballot that is at least every promise, if there is one.
    pub(super) fn living_primary(&self) -> Option<usize> {
        let highest = self.nodes.iter().map(|node| self.promises.of(node.id)).max()?;
        (0..self.nodes.len()).find(|&i| self.leads(i) && self.nodes[i].ballot >= highest)
    }
}
