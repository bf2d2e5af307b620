//! Operators, several of whom do not know of each other: they propose other members and other orders, let the primary
//! move, start new replicas, and replace those whose disks are lost.
//!
//! They make every mistake that a person can make: propose what was decided long ago, the same thing twice, an id that
//! was used before, a voter that was never a learner, or start a replica that lost its disk as if it were new.

use super::node::Members;
use super::{Event, World, packed};
use crate::coverage::{Fault, Seen};
use crate::machine::Machine;
use crate::oracle::{Broken, Check, require};
use crate::plan::{MS, Plan};
use crate::rng::{Ppm, Rng, Stream};
use crate::trace::What;
use std::collections::BTreeMap;
use std::rc::Rc;
use vr_core::{
    Ballot, Begun, BootError, Configuration, Digest, Entry, Epoch, HandOffRefusal, Input, Kind, Member,
    Refusal, ReplicaId,
};

/// In a healed world, this often somebody proposes again to do without those that are gone.
const PATIENCE: u64 = 500 * MS;

/// A proposal.
#[derive(Clone, Debug)]
struct Change {
    replaces: Digest,
    next: Configuration,
}

/// A proposal that waits at a process to be decided.
#[derive(Debug)]
struct Waiting {
    index: usize,
    life: u32,
    change: Change,
}

/// What they have asked for.
#[derive(Debug)]
pub(super) struct Operators {
    rng: Rng,
    tokens: u64,
    waiting: BTreeMap<u64, Waiting>,
    moves: BTreeMap<u64, ReplicaId>,
    last: Option<Change>,
    tended_at: u64,
}

impl Operators {
    pub(super) fn new(seed: u64) -> Operators {
        let rng = Rng::new(seed, Stream::Operators);
        let (waiting, moves) = Default::default();
        Operators { rng, tokens: 0, waiting, moves, last: None, tended_at: 0 }
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn chance(&mut self, of: u32) -> bool {
        self.rng.chance(Ppm(of))
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.rng.index(from.len())].clone())
    }
}

/// A member, in its failure domain where the world has some.
pub(super) fn member(plan: &Plan, id: ReplicaId) -> Member {
    let domain = id.0.checked_rem(plan.members.domains).map(|domain| format!("domain {domain}"));
    Member { domain: domain.unwrap_or_default(), ..Member::bare(id) }
}

impl<M: Machine> World<M> {
    /// Those to whom one can talk.
    fn awake(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.is_awake(index)).collect()
    }

    /// Somebody proposes something at some replica.
    pub(super) fn propose(&mut self) -> Check {
        let Some(at) = self.operators.pick(&self.awake()) else { return Ok(()) };
        let again = self.operators.chance(150_000).then(|| self.operators.last.clone()).flatten();
        let change = match again {
            Some(last) => {
                self.coverage.fault(Fault::ProposeAgain);
                last
            }
            None => {
                let current = self.nodes[at].members.configuration.clone();
                let mut next = Configuration { epoch: Epoch(current.epoch.0 + 1), ..current.clone() };
                self.change(at, &mut next);
                next.order[0].client = format!("proposal {}", self.operators.tokens);
                let replaces = if self.operators.chance(30_000) { next.id() } else { current.id() };
                Change { replaces, next }
            }
        };
        self.hand_in(at, change)
    }

    fn hand_in(&mut self, at: usize, change: Change) -> Check {
        let token = self.operators.token();
        let Change { replaces, next } = change.clone();
        self.operators.last = Some(change.clone());
        self.coverage.fault(Fault::Propose);
        self.note(at, What::Propose, "", token, next.epoch.0, next.order.len() as u64);
        self.epochs.proposed(replaces, &next);
        let life = self.nodes[at].life;
        self.operators.waiting.insert(token, Waiting { index: at, life, change });
        self.step(at, Input::Reconfigure { token, replaces, next })
    }

    /// Makes another configuration of one that replica `at` knows.
    fn change(&mut self, at: usize, next: &mut Configuration) {
        let voters: Vec<ReplicaId> = next.voters().collect();
        let gone = voters.iter().copied().find(|&id| self.is_gone(id));
        let random = self.operators.pick(&voters);
        let victim = if self.operators.chance(750_000) { gone.or(random) } else { random };
        let learner = next.learners.first().map(|member| member.id);
        let remove = |next: &mut Configuration| {
            if next.order.len() > 1 {
                next.order.retain(|member| Some(member.id) != victim);
            }
        };
        match (self.operators.rng.below(16), learner) {
            (0..=5, None) | (0, Some(_)) => self.add_learner(at, next),
            (1..=2, Some(_)) => next.order.push(next.learners.remove(0)),
            (3..=9, Some(_)) => {
                next.order.push(next.learners.remove(0));
                remove(next);
            }
            (10, Some(_)) => _ = next.learners.remove(0),
            (11, _) if next.order.len() > 1 => {
                let place = self.operators.rng.index(next.order.len());
                next.learners.push(next.order.remove(place));
            }
            (12, _) => {
                // A stranger as a voter: never.
                let id = ReplicaId(1 + self.operators.rng.below(self.nodes.len() as u64));
                next.order.push(member(&self.plan, id));
            }
            (13..=15, _) => remove(next),
            _ => {
                let by = self.operators.rng.index(next.order.len());
                next.order.rotate_left(by);
            }
        }
    }

    /// A new replica is started, or one that was used before is named again.
    fn add_learner(&mut self, at: usize, next: &mut Configuration) {
        let spares = self.plan.replicas..self.nodes.len();
        let fresh = spares.clone().find(|&i| !self.epochs.ever_named(self.nodes[i].id));
        let used: Vec<usize> = spares.filter(|&i| next.member(self.nodes[i].id).is_none()).collect();
        let some = if self.operators.chance(100_000) { self.operators.pick(&used) } else { fresh };
        let Some(index) = some else { return };
        let node = &mut self.nodes[index];
        next.learners.push(member(&self.plan, node.id));
        if node.votes.durable.is_none() && !node.is_up() && !node.lost_disk {
            node.gone = false;
            let life = node.life;
            self.nodes[index].votes.members = self.nodes[at].members.clone();
            let after = self.operators.rng.below(self.plan.options.view_timeout);
            self.queue.push(self.time + after, Event::Start { node: index, life });
        }
    }

    fn is_gone(&self, id: ReplicaId) -> bool {
        self.index_of(id).is_some_and(|index| self.nodes[index].gone)
    }

    /// Somebody wants another to lead, and mostly asks the one who does.
    pub(super) fn hand_off(&mut self) -> Check {
        let awake = self.awake();
        let leader = awake.iter().copied().find(|&i| self.leads(i));
        let at = if self.operators.chance(800_000) { leader } else { None };
        let Some(at) = at.or_else(|| self.operators.pick(&awake)) else { return Ok(()) };
        let voters: Vec<ReplicaId> = self.nodes[at].members.configuration.voters().collect();
        let Some(to) = self.operators.pick(&voters) else { return Ok(()) };
        let token = self.operators.token();
        self.coverage.fault(Fault::HandOff);
        self.note(at, What::HandOff, "", to.0, packed(self.nodes[at].ballot), token);
        self.operators.moves.insert(token, to);
        self.step(at, Input::HandOff { token, to })
    }

    /// A disk is gone, and what its replica had promised with it. Somebody may try to start it as if it were new.
    pub(super) fn lose_disk(&mut self, index: usize) {
        let node = &self.nodes[index];
        let exists = node.is_member() && node.votes.durable.is_some() && !node.gone;
        if !exists || !self.may_forget(index) {
            return;
        }
        if node.is_up() || !node.votes.in_flight.is_empty() {
            self.crash(index);
        }
        self.end_twin(|of| of == index);
        self.coverage.fault(Fault::DiskLost);
        self.note(index, What::Wipe, "", 0, 0, 0);
        let told = self.operators.pick(&self.awake()).map(|at| self.nodes[at].members.clone());
        let as_new = self.operators.chance(500_000);
        let id = self.nodes[index].id;
        let voter = self.epochs.newest().is_voter(id);
        let node = &mut self.nodes[index];
        (node.votes.durable, node.votes.before) = (None, None);
        node.votes.members = told.unwrap_or_else(|| node.members.clone());
        (node.marker, node.checkpoint) = (None, None);
        (node.forgetful, node.lost_disk, node.bootstraps) = (true, true, false);
        node.gone = !as_new;
        if !voter {
            // What a learner promised counts nowhere.
            self.promises.forget(id);
        } else if as_new {
            self.coverage.fault(Fault::StartedAsNew);
        }
    }

    /// What a start is told that must not be: it has forgotten what it promised.
    pub(super) fn may_not_start(&mut self, index: usize, error: &BootError) -> Check {
        let node = &mut self.nodes[index];
        node.gone = true;
        let id = node.id;
        require!(self.epochs.ever_voted(id), "boots", "replica {id}: {error}");
        self.coverage.seen(Seen::RefusedToForget);
        Ok(())
    }

    /// A replica says that it must not go on: right for one whose disk is lost (R6), for nobody else.
    pub(super) fn stopped_for_good(&mut self, index: usize, reason: &str) -> Check {
        let node = &self.nodes[index];
        require!(node.lost_disk, "nothing-fatal", "replica {}: {reason}", node.id);
        self.coverage.seen(Seen::RefusedToForget);
        self.go(index);
        Ok(())
    }

    /// A process ends, and nobody starts it again.
    fn go(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.gone = true;
        node.die();
        self.orphan_clients(index);
    }

    /// An entry is committed that nobody had committed before.
    pub(super) fn agreed(&mut self, entry: &Entry) -> Check {
        if entry.header.kind != Kind::Reconfigure {
            return self.epochs.committed(entry);
        }
        let before = self.epochs.newest().clone();
        let primary = self.epochs.primary(entry.header.ballot);
        self.epochs.committed(entry)?;
        let now = self.epochs.newest();
        let ids = |of: &Configuration| {
            let mut ids: Vec<_> = of.voters().collect();
            ids.sort_unstable();
            ids
        };
        self.coverage.seen(Seen::EpochAgreed);
        if primary.is_some_and(|id| !now.is_voter(id)) {
            self.coverage.seen(Seen::PrimaryRemoved);
        }
        if ids(now) == ids(&before) && now.learners == before.learners {
            self.coverage.seen(Seen::OrderChanged);
        }
        if now.voters().any(|id| before.is_learner(id)) {
            self.coverage.seen(Seen::Promoted);
        }
        Ok(())
    }

    /// A replica was told of, or came to, another epoch.
    pub(super) fn told_of(
        &mut self,
        index: usize,
        configuration: Configuration,
        begun: Option<Begun>,
    ) -> Check {
        let id = self.nodes[index].id;
        let before = self.nodes[index].members.configuration.epoch;
        require!(
            configuration.epoch > before,
            "epochs-only-grow",
            "replica {id} goes from epoch {before} to epoch {}",
            configuration.epoch
        );
        self.epochs.taken(id, &configuration)?;
        self.coverage.seen(Seen::EpochTaken);
        self.note(index, What::Epoch, "", 0, configuration.epoch.0, begun.map_or(0, |begun| begun.op.0));
        let node = &mut self.nodes[index];
        let before = std::mem::replace(&mut node.members, Rc::new(Members { configuration, begun }));
        node.former = Some((before, self.time.saturating_add(self.plan.members.remember)));
        Ok(())
    }

    /// A replica that is no member any more says that nobody needs it.
    pub(super) fn released(&mut self, index: usize, epoch: Epoch) -> Check {
        let id = self.nodes[index].id;
        self.epochs.released(id, epoch, |id| self.promises.of(id))?;
        self.coverage.seen(Seen::Released);
        self.note(index, What::Released, "", 0, epoch.0, 0);
        self.nodes[index].released = true;
        if self.operators.chance(500_000) {
            self.go(index);
        }
        Ok(())
    }

    /// A proposer has its answer.
    pub(super) fn decided(&mut self, index: usize, token: u64, outcome: &Result<Epoch, Refusal>) -> Check {
        let Some(Waiting { change: Change { replaces, next }, .. }) = self.operators.waiting.remove(&token)
        else {
            let detail = format!("replica {}: no proposal {token} waits", self.nodes[index].id);
            return Err(Broken::new("one-answer", detail));
        };
        let (seen, name) = match outcome {
            Ok(_) => (Seen::Reconfigured, "made"),
            Err(Refusal::Stale { .. }) => (Seen::RefusedStale, "stale"),
            Err(Refusal::Pending { .. }) => (Seen::RefusedPending, "pending"),
            Err(Refusal::NotReady { .. }) => (Seen::RefusedNotReady, "not ready"),
            Err(Refusal::ReusedId(_)) => (Seen::RefusedReusedId, "reused id"),
            Err(Refusal::Invalid(_)) => (Seen::RefusedInvalid, "invalid"),
            Err(Refusal::Unanswered) => (Seen::RefusedUnanswered, "unanswered"),
        };
        self.coverage.seen(seen);
        self.note(index, What::Decided, name, token, next.epoch.0, 0);
        self.epochs.decided(replaces, &next, outcome)
    }

    /// Whoever wanted another to lead has an answer.
    pub(super) fn handed_off(
        &mut self,
        index: usize,
        token: u64,
        outcome: &Result<Ballot, HandOffRefusal>,
    ) -> Check {
        let id = self.nodes[index].id;
        let Some(to) = self.operators.moves.remove(&token) else {
            return Err(Broken::new("one-answer", format!("replica {id}: no hand-off {token} waits")));
        };
        self.note(index, What::Handed, "", token, outcome.as_ref().map_or(0, |ballot| packed(*ballot)), 0);
        if let Ok(ballot) = outcome {
            self.coverage.seen(Seen::HandedOff);
            let leads = self.epochs.primary(*ballot);
            require!(
                leads == Some(to),
                "handed-where-asked",
                "replica {id} says that {to} leads {ballot}, which {leads:?} does"
            );
        } else {
            self.coverage.seen(Seen::HandOffRefused);
        }
        Ok(())
    }

    /// In a healed world, members that nobody will start again are left out.
    pub(super) fn replace_those_gone(&mut self) -> Check {
        let newest = self.epochs.newest();
        let stays = |member: &Member| !self.is_gone(member.id);
        if newest.members().all(stays) || self.time < self.operators.tended_at {
            return Ok(());
        }
        let (mut next, replaces) = (newest.clone(), newest.id());
        next.order.retain(stays);
        next.learners.retain(stays);
        let left: Vec<ReplicaId> = next.members().map(|member| member.id).collect();
        let Some(first) = next.order.first_mut() else { return Ok(()) };
        // Another may have gone since this was proposed last: that is another proposal.
        first.client = format!("those left after epoch {}: {left:?}", newest.epoch);
        next.epoch = Epoch(next.epoch.0 + 1);
        let awake = self.awake();
        self.operators.tended_at = self.time + PATIENCE;
        match self.operators.pick(&awake) {
            Some(at) => self.hand_in(at, Change { replaces, next }),
            None => Ok(()),
        }
    }

    /// Whether all proposals that still have somebody to answer them are answered.
    pub(super) fn nobody_waits_for_a_decision(&self) -> bool {
        self.operators.waiting.values().all(|waiting| {
            let node = &self.nodes[waiting.index];
            !node.is_up() || node.life != waiting.life
        })
    }
}
