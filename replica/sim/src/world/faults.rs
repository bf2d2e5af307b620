//! When what breaks.

use super::healing::Phase;
use super::{Event, World};
use crate::coverage::Fault;
use crate::machine::Machine;
use crate::oracle::Check;
use crate::trace::{Line, What};
use vr_core::Input;

/// Faults that come by themselves, again and again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Crash,
    MajorityLoss,
    CleanStop,
    Pause,
    Partition,
    OneWay,
    Clog,
    WallJump,
    PeerLost,
    Cut,
    Propose,
    HandOff,
    LoseDisk,
    Freeze,
}

const REPEATED: [Kind; 13] = [
    Kind::Crash,
    Kind::CleanStop,
    Kind::Pause,
    Kind::Partition,
    Kind::OneWay,
    Kind::Clog,
    Kind::WallJump,
    Kind::PeerLost,
    Kind::Cut,
    Kind::Propose,
    Kind::HandOff,
    Kind::LoseDisk,
    Kind::Freeze,
];

impl<M: Machine> World<M> {
    fn mean(&self, kind: Kind) -> u64 {
        let faults = &self.plan.faults;
        match kind {
            Kind::Crash => faults.crash,
            Kind::MajorityLoss => 0,
            Kind::CleanStop => faults.clean_stop,
            Kind::Pause => faults.pause,
            Kind::Partition => faults.partition,
            Kind::OneWay => faults.one_way,
            Kind::Clog => faults.clog,
            Kind::WallJump => faults.wall_jump,
            Kind::PeerLost => faults.peer_lost,
            Kind::Cut => faults.cut,
            Kind::Propose => self.plan.members.propose,
            Kind::HandOff => self.plan.members.hand_off,
            Kind::LoseDisk => self.plan.members.lose_disk,
            Kind::Freeze => faults.freeze,
        }
    }

    pub(super) fn begin_faults(&mut self) {
        REPEATED.into_iter().for_each(|kind| self.schedule(kind));
        if self.plan.faults.majority_at > 0 {
            self.queue.push(self.plan.faults.majority_at, Event::Fault(Kind::MajorityLoss));
        }
    }

    fn schedule(&mut self, kind: Kind) {
        let mean = self.mean(kind);
        if mean > 0 {
            let after = 1 + self.faults_rng.below(2 * mean);
            self.queue.push(self.time + after, Event::Fault(kind));
        }
    }

    /// How long a fault lasts: mostly about a timeout, sometimes many.
    fn duration(&mut self) -> u64 {
        let timeout = self.plan.options.view_timeout;
        let longest = self.faults_rng.pick(&[timeout / 4, timeout * 2, timeout * 10]);
        self.faults_rng.below(longest) + 1
    }

    /// A fault strikes.
    pub(super) fn strike(&mut self, kind: Kind) -> Check {
        if self.phase != Phase::Faults {
            return Ok(());
        }
        self.schedule(kind);
        let index = self.faults_rng.index(self.nodes.len());
        match kind {
            Kind::Crash => {
                let node = &self.nodes[index];
                let exists = node.is_up() || !node.votes.in_flight.is_empty();
                if exists && self.may_forget(index) {
                    self.crash_or_leave_a_twin(index);
                }
            }
            Kind::MajorityLoss => self.lose_majority(),
            Kind::CleanStop => self.stop_cleanly(index),
            Kind::Pause => {
                let until = self.time + self.duration();
                self.coverage.fault(Fault::Pause);
                self.note(index, What::Pause, "", 0, 0, until);
                let node = &mut self.nodes[index];
                node.paused_until = node.paused_until.max(until);
            }
            Kind::Partition => self.partition(),
            Kind::OneWay => self.one_way(),
            Kind::Clog => {
                let to = self.faults_rng.index(self.nodes.len());
                if to != index {
                    let until = self.time + self.duration();
                    self.coverage.fault(Fault::Clog);
                    self.note(index, What::Clog, "", to as u64, 0, until);
                    self.network.clog(index, to, until);
                }
            }
            Kind::WallJump => {
                let most = self.faults_rng.pick(&[1_000, 5_000_000, 4_000_000_000_000_u64]);
                let by = self.faults_rng.below(2 * most) as i64 - most as i64;
                self.coverage.fault(Fault::WallJump);
                self.note(index, What::Jump, "", 0, 0, by.unsigned_abs());
                self.nodes[index].clock.jump(by);
            }
            Kind::PeerLost => {
                let peer = self.faults_rng.index(self.nodes.len());
                if peer != index {
                    self.coverage.fault(Fault::PeerLostFalse);
                    return self.peer_lost(index, peer);
                }
            }
            Kind::Cut => return self.want_cut(),
            Kind::Propose => return self.propose(),
            Kind::HandOff => return self.hand_off(),
            Kind::LoseDisk => self.lose_disk(index),
            Kind::Freeze => {
                let until = self.time + self.duration();
                self.coverage.fault(Fault::Freeze);
                self.note(index, What::Freeze, "", 0, 0, until);
                self.nodes[index].clock.freeze(self.time, until);
                self.rearm(index);
            }
        }
        Ok(())
    }

    /// Every replica's tiers want a cut; only the primary's core listens.
    pub(super) fn want_cut(&mut self) -> Check {
        for index in 0..self.nodes.len() {
            if self.is_awake(index) {
                self.step(index, Input::Cut)?;
            }
        }
        Ok(())
    }

    fn lose_majority(&mut self) {
        let n = self.nodes.len();
        let majority = n / 2 + 1;
        let how_many = majority + self.faults_rng.index(n - majority + 1);
        let first = self.faults_rng.index(n);
        for index in (0..how_many).map(|i| (first + i) % n) {
            if self.nodes[index].is_up() || !self.nodes[index].votes.in_flight.is_empty() {
                self.crash(index);
            }
        }
    }

    fn cut_off(&mut self, from: usize, to: usize, until: u64) {
        self.note(from, What::Partition, "", to as u64, 0, until);
        self.network.shut(from, to, until);
        self.queue.push(until, Event::Reopen { from, to });
    }

    fn partition(&mut self) {
        let n = self.nodes.len();
        let sides = self.faults_rng.next();
        let until = self.time + self.duration();
        let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
        let apart: Vec<_> = pairs.filter(|(a, b)| (sides >> a ^ sides >> b) & 1 == 1).collect();
        if !apart.is_empty() {
            self.coverage.fault(Fault::Partition);
            apart.into_iter().for_each(|(a, b)| self.cut_off(a, b, until));
        }
    }

    fn one_way(&mut self) {
        let n = self.nodes.len();
        let links = self.faults_rng.next();
        let until = self.time + self.duration();
        let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).filter(|(a, b)| a != b);
        let dead: Vec<_> = pairs.filter(|(a, b)| links >> (a * n + b) & 1 == 1).collect();
        if !dead.is_empty() {
            self.coverage.fault(Fault::OneWay);
            dead.into_iter().for_each(|(a, b)| self.cut_off(a, b, until));
        }
    }

    /// A line about the whole world.
    pub(super) fn note_world(&mut self, what: What, name: &'static str, c: u64) {
        self.trace.line(Line { time: self.time, node: Line::WORLD, what, name, a: 0, b: 0, c });
    }
}
