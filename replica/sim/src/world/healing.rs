//! The end of a world: all faults stop, everyone comes back, and within a bounded time all must be well, or `QuorumLost`
//! must be said by all voters if, and only if, a quorum was lost.

use super::{EPOCH, Event, World};
use crate::coverage::{Fault, Seen};
use crate::machine::Machine;
use crate::oracle::{Check, Outcome, require};
use crate::plan::{MS, Mode};
use crate::rng::Ppm;
use crate::trace::What;
use vr_core::{Op, RequestNumber, Status};

/// How far a world has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Things break.
    Faults,
    /// Nothing breaks any more; until when all must be well.
    Healing {
        /// The last moment.
        until: u64,
    },
    /// All is well; now each replica must still serve a write and a read, and all must agree on a cut.
    Probing {
        /// The last moment.
        until: u64,
        /// Per replica: its write, its read, and whether each is done.
        probes: Vec<Probe>,
        /// A certified cut above this is awaited.
        above: Op,
    },
    /// Over.
    Done,
}

/// What is asked of one replica at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    write: Option<RequestNumber>,
    written: bool,
    read: Option<u64>,
    was_read: bool,
}

/// How often a healing world is looked at.
const LOOK: u64 = 20 * MS;

impl<M: Machine> World<M> {
    /// All faults stop.
    pub(super) fn heal(&mut self) -> Check {
        self.note_world(What::Heal, "", self.history.newest().0);
        let until = self.time + self.plan.healing;
        self.phase = Phase::Healing { until };
        self.network.open_all();
        self.end_twin(|_| true);
        let network = &mut self.plan.network;
        (network.drop, network.duplicate, network.hold, network.foreign) = (Ppm(0), Ppm(0), Ppm(0), Ppm(0));
        network.spread = network.spread.min(self.plan.options.heartbeat / 4);
        network.latency = network.latency.min(self.plan.options.heartbeat / 4);
        let faults = &mut self.plan.faults;
        (faults.crash_voting, faults.crash_mid_step, faults.crash_recovering) = (Ppm(0), Ppm(0), Ppm(0));
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            node.paused_until = node.paused_until.min(self.time);
            node.clock.thaw(self.time);
            if !node.is_up() && node.votes.in_flight.is_empty() {
                let life = node.life;
                self.queue.push(self.time, Event::Start { node: index, life });
            }
        }
        self.queue.push(self.time + LOOK, Event::Look);
        Ok(())
    }

    /// Is all well?
    pub(super) fn look(&mut self) -> Check {
        if self.phase != Phase::Done {
            self.replace_those_gone()?;
        }
        let well = self.is_well();
        let lost = self.epochs.all_voters_of_one_in_force(|id| {
            self.index_of(id).is_some_and(|index| {
                let node = &self.nodes[index];
                node.is_up() && node.status == Status::QuorumLost
            })
        });
        let (until, next) = match self.phase.clone() {
            Phase::Faults | Phase::Done => return Ok(()),
            Phase::Healing { until } if well => {
                let above = self.history.newest();
                let probes = vec![Probe::default(); self.nodes.len()];
                let next = Phase::Probing { until: self.time + self.plan.healing, probes, above };
                self.note_world(What::Converged, "", above.0);
                self.want_cut()?;
                (until, next)
            }
            // Without a lost majority it may be said in passing, between two epochs: whoever says it must take it back.
            Phase::Healing { until } if lost && self.majority_was_lost => {
                if self.epochs.newest().epoch > EPOCH {
                    self.coverage.seen(Seen::EpochLost);
                }
                (until, Phase::Done)
            }
            Phase::Probing { until, mut probes, above } => {
                self.probe(&mut probes)?;
                let done = probes.iter().all(|probe| probe.written && probe.was_read);
                if done && self.history.newest_certified().is_none_or(|op| op <= above) {
                    self.want_cut()?;
                }
                let certified = self.history.newest_certified().is_some_and(|op| op > above);
                if done && certified && well {
                    self.coverage.seen(Seen::Converged);
                    if self.majority_was_lost {
                        self.coverage.seen(Seen::SurvivedMajorityLoss);
                    }
                    (until, Phase::Done)
                } else {
                    (until, Phase::Probing { until, probes, above })
                }
            }
            healing @ Phase::Healing { until } => (until, healing),
        };
        require!(
            self.time <= until,
            "heals",
            "{} ms after the last fault all should be well, but: {}",
            (self.time - self.plan.faulty) / MS,
            self.describe()
        );
        self.phase = next;
        self.queue.push(self.time + LOOK, Event::Look);
        Ok(())
    }

    /// All members up, Normal in one ballot of the newest epoch, with the same history executed, and nobody waiting;
    /// and all who are no members any more let go, unless all whom they know have gone as well.
    fn is_well(&self) -> bool {
        let newest = self.history.newest();
        let members = self.epochs.newest();
        let mut ballot = None;
        self.nodes.iter().all(|node| {
            let waits = !node.reads.is_empty() || self.gateways.pending(node.session()) > 0;
            if members.member(node.id).is_none() {
                let asks = members.members().any(|member| node.knows(member.id, self.time));
                let joins = node.votes.durable.is_none();
                return !node.is_up() || node.released || joins || !asks;
            }
            node.status == Status::Normal
                && node.is_up()
                && node.ballot.epoch == members.epoch
                && node.ballot == *ballot.get_or_insert(node.ballot)
                && node.executed == newest
                && !waits
        }) && self.nobody_waits_for_a_decision()
    }

    fn probe(&mut self, probes: &mut [Probe]) -> Check {
        for (index, probe) in probes.iter_mut().enumerate() {
            if self.epochs.newest().member(self.nodes[index].id).is_none() {
                (probe.written, probe.was_read) = (true, true);
                continue;
            }
            let session = self.nodes[index].session();
            match probe.write.map(|number| self.gateways.outcome(session, number)) {
                Some(Some(Outcome::Pending)) => {}
                Some(Some(Outcome::Replied)) => probe.written = true,
                _ => probe.write = Some(self.begin_write(index, None)?),
            }
            match probe.read {
                Some(token) if self.nodes[index].reads.contains_key(&token) => {}
                Some(token) if self.nodes[index].served_token == token => probe.was_read = true,
                _ => probe.read = Some(self.begin_read(index, None)?),
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let lost = if node.forgetful { ", without memory" } else { "" };
            let up = match (node.is_up(), node.gone) {
                (true, _) => "",
                (false, false) => ", down",
                (false, true) => ", gone",
            };
            let log = node.replica.as_ref().map_or(0, |replica| replica.op().0);
            format!(
                "replica {} {:?} in {} (durable {}), log {log}, executed {}, {} requests and {} reads wait{lost}{up}",
                node.id,
                node.status,
                node.ballot,
                self.promises.of(node.id),
                node.executed,
                self.gateways.pending(node.session()),
                node.reads.len(),
            )
        });
        let lost = match self.plan.mode {
            Mode::Loss => format!("; majority lost: {}", self.majority_was_lost),
            Mode::Safety => String::new(),
        };
        let voters: Vec<_> = self.epochs.newest().voters().map(|id| id.0).collect();
        let lost = format!("{lost}; voters of epoch {}: {voters:?}", self.epochs.newest().epoch);
        let lost = format!("{lost}; crashes: {}", self.coverage.faults(Fault::Crash));
        format!("{}; newest op {}{lost}", nodes.collect::<Vec<_>>().join("; "), self.history.newest())
    }
}
