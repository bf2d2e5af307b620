//! Processes: how they start, take a step, lose their memory, stop cleanly; and their vote records.

use super::healing::Phase;
use super::node::{Kept, Marker, NEVER, Writing};
use super::{EPOCH, Event, GENERATION, LINEAGE, World, packed};
use crate::coverage::{Fault, Seen};
use crate::machine::{Machine, Tap, Tapped};
use crate::oracle::{Broken, Check, require};
use crate::plan::Sabotage;
use crate::trace::What;
use std::rc::Rc;
use vr_core::{
    Ballot, Boot, BootError, Digest, Incarnation, Input, Leaving, Op, Replica, ReplicaId, Start, Status,
    View, VoteRecord,
};

impl<M: Machine> World<M> {
    /// Whether this process may lose its memory now.
    pub(super) fn may_forget(&self, node: usize) -> bool {
        self.phase == Phase::Faults
            && (self.plan.mode == crate::plan::Mode::Loss
                || self.epochs.bear_the_loss_of(self.nodes[node].id, |id| self.is_forgetful(id)))
    }

    fn is_forgetful(&self, id: ReplicaId) -> bool {
        self.index_of(id).is_some_and(|index| self.nodes[index].forgetful)
    }

    /// A start begins: the incarnation is written before anything else.
    pub(super) fn start(&mut self, index: usize, life: u32) -> Check {
        let node = &mut self.nodes[index];
        if node.life != life || node.is_up() || node.gone || !node.votes.in_flight.is_empty() {
            return Ok(());
        }
        (node.members, node.former) = (node.votes.members.clone(), None);
        if node.votes.durable.is_none() && !node.bootstraps {
            return self.join(index);
        }
        let first = VoteRecord {
            lineage: LINEAGE,
            generation: GENERATION,
            ballot: Ballot { epoch: EPOCH, view: View(0) },
            replica: node.id,
            incarnation: Incarnation(0),
        };
        let record = self.found_vote(index).unwrap_or(first);
        let node = &mut self.nodes[index];
        let again = self.plan.breaks(Sabotage::SameIncarnation) && record.incarnation > Incarnation(0);
        let incarnation = Incarnation(record.incarnation.0 + u64::from(!again));
        let (vote, members) = (VoteRecord { incarnation, ..record }, node.members.clone());
        node.votes.in_flight.push_back(Writing { vote, members });
        let at = self.time + self.vote_delay();
        self.queue.push(at, Event::Booted { node: index, life });
        Ok(())
    }

    /// What a start finds on its devices.
    fn found_vote(&mut self, index: usize) -> Option<VoteRecord> {
        let worse = self.votes_rng.chance(self.plan.disks.one_vote).then(|| {
            let (device, all) = (self.votes_rng.index(2), self.votes_rng.below(2) == 0);
            (device, all)
        });
        let votes = &self.nodes[index].votes;
        if let (Some((_, all)), Some(_)) = (worse, votes.before) {
            self.coverage.fault(if all { Fault::VoteGone } else { Fault::VotesDisagree });
        }
        let shown = votes.show(worse);
        if self.plan.breaks(Sabotage::FirstVote) {
            return shown.into_iter().flatten().next();
        }
        VoteRecord::newest(shown.into_iter().flatten())
    }

    /// The incarnation is durable: the replica comes to life.
    pub(super) fn booted(&mut self, index: usize, life: u32) -> Check {
        let node = &mut self.nodes[index];
        if node.life != life {
            return Ok(());
        }
        let Writing { vote, .. } = node.votes.in_flight.pop_front().expect("a start writes its incarnation");
        node.votes.keep(vote, node.votes.members.clone());
        node.bootstraps = false;
        self.promises.durable(&vote)?;
        let kept = node.marker.clone().filter(|_| self.plan.breaks(Sabotage::MarkerKept));
        let marker = node.marker.take();
        node.marker = kept;
        let first = vote.incarnation == Incarnation(1);
        let (start, base) = if let Some(Marker { state, log, last_normal }) = marker {
            self.coverage.seen(Seen::BootComplete);
            node.continued = true;
            let (state, commit) = load(Some(state), node.tap.clone())?;
            (Start::Complete { state, log, commit, last_normal }, commit)
        } else if first || self.plan.breaks(Sabotage::ClaimComplete) {
            node.continued = first;
            node.forgetful = false;
            let state = Tapped::empty(node.tap.clone());
            (Start::Complete { state, log: Vec::new(), commit: Op(0), last_normal: vote.ballot }, Op(0))
        } else {
            node.continued = false;
            let found = self.disks_rng.chance(self.plan.disks.from_checkpoint);
            let kept = node.checkpoint.clone().filter(|_| found);
            self.coverage.fault(if kept.is_some() { Fault::FromCheckpoint } else { Fault::FromNothing });
            let (state, base) = load(kept, node.tap.clone())?;
            (Start::Amnesiac { state }, base)
        };
        self.boot(index, vote, start, base)
    }

    /// A new replica starts, which has made no promise yet and has nothing (R6).
    fn join(&mut self, index: usize) -> Check {
        let node = &mut self.nodes[index];
        let vote = VoteRecord {
            lineage: LINEAGE,
            generation: GENERATION,
            ballot: Ballot::default(),
            replica: node.id,
            incarnation: Incarnation(node.incarnation.0 + 1),
        };
        node.continued = false;
        node.marker = None;
        let state = Tapped::empty(node.tap.clone());
        self.coverage.seen(Seen::Joining);
        self.boot(index, vote, Start::Joining { state }, Op(0))
    }

    /// A replica comes to life.
    fn boot(&mut self, index: usize, vote: VoteRecord, start: Start<Tapped<M>>, base: Op) -> Check {
        let node = &mut self.nodes[index];
        node.incarnation = vote.incarnation;
        node.released = false;
        node.executed = base;
        node.ballot = vote.ballot;
        node.status = if node.forgetful { Status::Recovering } else { Status::ViewChange };
        let name = match start {
            Start::Complete { .. } => "complete",
            Start::Amnesiac { .. } => "amnesiac",
            Start::Joining { .. } => "joining",
        };
        let boot = Boot {
            id: node.id,
            vote,
            configuration: node.members.configuration.clone(),
            begun: node.members.begun,
            start,
            seed: self.process_rng.next(),
        };
        let now = node.clock.at(self.time);
        let mut options = self.plan.options.clone();
        if self.plan.narrow_first && index == 0 {
            options.window = 1;
        }
        match Replica::new(boot, options, now, &mut self.effects) {
            Ok(replica) => node.replica = Some(replica),
            Err(error @ BootError::Forgotten(_)) => return self.may_not_start(index, &error),
            Err(e) => return Err(Broken::new("boots", format!("replica {}: {e}", node.id))),
        }
        self.coverage.seen(Seen::Boot);
        self.note(index, What::Boot, name, vote.incarnation.0, packed(vote.ballot), base.0);
        self.carry_out(index)
    }

    /// A process takes one input.
    pub(super) fn step(&mut self, index: usize, input: Input) -> Check {
        let node = &mut self.nodes[index];
        let now = node.clock.at(self.time);
        let ends_turn = matches!(input, Input::Turn | Input::Tick);
        let replica = node.replica.as_mut().expect("only a living process takes a step");
        replica.step(now, input, &mut self.effects);
        if !ends_turn && node.turn_due == NEVER {
            node.turn_due = self.time + self.process_rng.below(self.plan.turn + 1);
        }
        self.carry_out(index)
    }

    /// A process has something to do of its own: the end of its turn, or a deadline.
    pub(super) fn wake(&mut self, index: usize) -> Check {
        let node = &mut self.nodes[index];
        if node.turn_due <= self.time {
            node.turn_due = NEVER;
            self.step(index, Input::Turn)
        } else {
            node.tick_due = NEVER;
            self.note(index, What::Tick, "", 0, 0, 0);
            self.step(index, Input::Tick)
        }
    }

    /// A process is gone, and its memory with it.
    pub(super) fn crash(&mut self, index: usize) {
        drop(self.crash_leaving(index));
    }

    /// The same; what was the process.
    pub(super) fn crash_leaving(&mut self, index: usize) -> Option<Replica<Tapped<M>>> {
        let node = &mut self.nodes[index];
        let booting = !node.is_up() && !node.votes.in_flight.is_empty();
        self.coverage.fault(if booting { Fault::CrashBooting } else { Fault::Crash });
        if let Some(writing) = node.votes.in_flight.pop_front() {
            if self.disks_rng.chance(self.plan.disks.landed) {
                self.coverage.fault(Fault::VoteLanded);
                let Writing { vote: writing, members } = writing;
                node.votes.keep(writing, members);
                node.bootstraps = false;
                // It can only be newer than what was durable; the next start reports a regression if not.
                let _ = self.promises.durable(&writing);
            } else {
                self.coverage.fault(Fault::VoteLost);
            }
        }
        node.votes.in_flight.clear();
        if !Rc::ptr_eq(&node.members, &node.votes.members) {
            if self.disks_rng.chance(self.plan.disks.landed) {
                node.votes.members = node.members.clone();
            } else {
                self.coverage.fault(Fault::MembersLost);
            }
        }
        // A clean stop's marker is erased before the first message; a crash before that leaves it.
        if node.is_up() || node.marker.is_none() {
            node.forgetful = true;
            node.marker = node.marker.take().filter(|_| self.plan.breaks(Sabotage::MarkerKept));
        }
        if self.plan.breaks(Sabotage::ForgetVotes) {
            if let Some(durable) = &mut node.votes.durable {
                durable.ballot.view = View(0);
            }
            self.promises.forget(node.id);
        }
        let left = node.replica.take();
        node.die();
        let executed = node.executed;
        self.note(index, What::Crash, "", 0, 0, executed.0);
        self.orphan_clients(index);
        self.watch_for_majority_loss();
        self.peers_notice(index);
        self.come_back(index);
        left
    }

    /// A process stops and leaves all it has, unless it has not got its memory back.
    pub(super) fn stop_cleanly(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !node.votes.in_flight.is_empty() || node.paused_until > self.time {
            return;
        }
        let Some(left) = node.replica.as_mut().and_then(Replica::leave) else { return };
        let Leaving { op: commit, snapshot, tail, last_normal, .. } = left;
        node.votes.members = node.members.clone();
        let state = Kept { op: commit, root: M::root(&snapshot), snapshot };
        node.marker = Some(Marker { state, log: tail, last_normal });
        node.die();
        self.coverage.fault(Fault::CleanStop);
        self.note(index, What::Stop, "", 0, packed(last_normal), commit.0);
        self.orphan_clients(index);
        self.peers_notice(index);
        self.come_back(index);
    }

    /// After a while somebody starts it again.
    fn come_back(&mut self, index: usize) {
        let after = self.faults_rng.below(self.plan.faults.down_for + 1);
        let life = self.nodes[index].life;
        self.queue.push(self.time + after, Event::Start { node: index, life });
    }

    fn peers_notice(&mut self, index: usize) {
        for node in (0..self.nodes.len()).filter(|&node| node != index) {
            if self.faults_rng.chance(self.plan.faults.peers_notice) {
                self.coverage.fault(Fault::PeerLostTrue);
                let at = self.time + self.plan.network.latency;
                self.queue.push(at, Event::PeerLost { node, peer: index });
            }
        }
    }

    /// Whether more memories are gone than may be.
    pub(super) fn majority_is_lost(&self) -> bool {
        self.epochs.is_lost(|id| self.is_forgetful(id))
    }

    fn watch_for_majority_loss(&mut self) {
        if self.majority_is_lost() && !self.majority_was_lost {
            self.majority_was_lost = true;
            self.coverage.fault(Fault::MajorityLoss);
        }
    }

    fn vote_delay(&mut self) -> u64 {
        let plan = &self.plan.disks;
        let delay = plan.vote + self.disks_rng.below(plan.vote_spread + 1);
        if self.phase == Phase::Faults && self.disks_rng.chance(plan.slow_vote) {
            self.coverage.fault(Fault::SlowVote);
            return delay * self.disks_rng.between(2, 100);
        }
        delay
    }

    /// The core wants a promise to be durable.
    pub(super) fn write_vote(&mut self, index: usize, record: VoteRecord) {
        self.note(index, What::WriteVote, "", 0, packed(record.ballot), 0);
        let node = &mut self.nodes[index];
        let members = node.members.clone();
        node.votes.in_flight.push_back(Writing { vote: record, members });
        let (life, alone) = (node.life, node.votes.in_flight.len() == 1);
        if self.plan.breaks(Sabotage::EarlyVotes) {
            self.queue.push(self.time, Event::VoteClaimed { node: index, life, record });
        }
        if alone {
            let delay = self.vote_delay();
            self.queue.push(self.time + delay, Event::VoteDone { node: index, life });
        }
    }

    /// A promise is durable.
    pub(super) fn vote_done(&mut self, index: usize, life: u32) -> Check {
        let node = &mut self.nodes[index];
        if node.life != life {
            return Ok(());
        }
        if node.paused_until > self.time {
            let at = node.paused_until;
            self.queue.push(at, Event::VoteDone { node: index, life });
            return Ok(());
        }
        let Writing { vote: record, members } =
            node.votes.in_flight.pop_front().expect("a write that ends was begun");
        node.votes.keep(record, members);
        let more = !node.votes.in_flight.is_empty();
        self.promises.durable(&record)?;
        self.note(index, What::VoteWritten, "", 0, packed(record.ballot), 0);
        if more {
            let delay = self.vote_delay();
            self.queue.push(self.time + delay, Event::VoteDone { node: index, life });
        }
        if self.plan.breaks(Sabotage::EarlyVotes) {
            return Ok(());
        }
        self.step(index, Input::VoteWritten(record))
    }

    /// The root of a cut has been computed.
    pub(super) fn root_done(&mut self, index: usize, life: u32, op: Op, root: Digest) -> Check {
        let node = &self.nodes[index];
        if node.life != life {
            return Ok(());
        }
        if node.paused_until > self.time {
            let at = node.paused_until;
            self.queue.push(at, Event::Root { node: index, life, op, root });
            return Ok(());
        }
        self.note(index, What::CutRoot, "", 0, 0, op.0);
        self.step(index, Input::CutRoot { op, root })
    }

    /// A connection broke.
    pub(super) fn peer_lost(&mut self, index: usize, peer: usize) -> Check {
        if !self.is_awake(index) {
            return Ok(());
        }
        self.note(index, What::PeerLost, "", peer as u64, 0, 0);
        let peer = self.nodes[peer].id;
        self.step(index, Input::PeerLost(peer))
    }
}

type Loaded<M> = (Tapped<M>, Op);

/// A state machine and the op it stands at: from a kept state, or empty.
fn load<M: Machine>(kept: Option<Kept<M>>, tap: Tap) -> Result<Loaded<M>, Broken> {
    let Some(kept) = kept else { return Ok((Tapped::empty(tap), Op(0))) };
    let state = Tapped::load(&kept.snapshot, 4096, tap)
        .map_err(|e| Broken::new("restores", format!("the state kept at op {}: {e}", kept.op)))?;
    require!(M::root(&kept.snapshot) == kept.root, "restores", "a snapshot changed after it was taken");
    Ok((state, kept.op))
}
