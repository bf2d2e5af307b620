//! Random reconfigurations under random faults: members come, are promoted, change their order, hand over, leave and
//! are replaced, while messages are lost and late and replicas lose their memory, stop cleanly or are cut off. The world asserts one
//! history, one configuration of each epoch and one primary of each ballot at every step; here: whatever was
//! acknowledged stays, once, and in the end the members agree.

use super::world::{Ledger, Outcome, World};
use crate::*;
use std::collections::{BTreeMap, BTreeSet};

struct Run {
    world: World,
    seed: u64,
    acknowledged: BTreeSet<String>,
    submitted: BTreeMap<(u64, u64), String>,
    /// Who is down, and when it comes back.
    down: BTreeMap<u64, u64>,
    /// Who has stopped cleanly, what it left, and when it comes back.
    stopped: BTreeMap<u64, (u64, Leaving<Ledger>)>,
    next_id: u64,
    requests: u64,
    reconfigured: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let options = Options { log_bytes: 900, window: 64, pipeline: 4, ..Options::default() };
        let mut world = World::empty(3, options);
        (0..3).for_each(|id| world.start_complete(id, Ledger::default()));
        world.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        world.noise = [0, 10, 50, 100][(seed % 4) as usize];
        let (acknowledged, submitted, down, stopped) = Default::default();
        Run { world, seed, acknowledged, submitted, down, stopped, next_id: 3, requests: 0, reconfigured: 0 }
    }

    fn newest(&self) -> Configuration {
        let newest = self.world.lineage.last_key_value();
        newest.map_or_else(|| self.world.configuration(), |(_, configuration)| configuration.clone())
    }

    fn pick(&mut self, from: &[u64]) -> Option<u64> {
        let n = from.len() as u64;
        (n > 0).then(|| from[self.world.random(n.max(1)) as usize])
    }

    fn running(&mut self) -> Option<u64> {
        let running: Vec<u64> = self.world.nodes.keys().copied().collect();
        self.pick(&running)
    }

    /// One replica of the newest or the next configuration may be without memory at a time: a bound that every
    /// configuration of three bears, whichever of them turns out to be in force.
    fn may_forget(&self) -> bool {
        let without =
            self.world.nodes.values().filter(|node| {
                node.replica.is_amnesiac() && node.retired.is_none() && node.replica.is_voter()
            });
        without.count() + self.down.len() == 0
    }

    fn observe(&mut self) {
        for (&id, node) in &self.world.nodes {
            assert_eq!(node.fatal, None, "seed {}: replica {id}", self.seed);
            for (&number, outcome) in &node.outcomes {
                if let (Outcome::Reply(_), Some(body)) = (outcome, self.submitted.get(&(id, number))) {
                    self.acknowledged.insert(body.clone());
                }
            }
        }
        // Who was released may go, and nobody misses it.
        let gone = self.world.nodes.iter().filter(|(_, node)| node.retired.is_some()).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u64) {
        self.world.crash(id);
        self.submitted.retain(|(gateway, _), _| *gateway != id);
    }

    fn propose(&mut self) {
        let Some(at) = self.running() else { return };
        let newest = self.world.replica(at).configuration().clone();
        let what = self.world.random(6);
        let voters: Vec<u64> = newest.voters().map(|id| id.0).collect();
        let shift = 1 + self.world.random(voters.len() as u64) as usize;
        let (victim, joiner) = (self.pick(&voters), self.next_id);
        let learner = newest.learners.first().map(|member| member.id);
        if what == 0 && newest.learners.is_empty() && self.next_id < 8 {
            self.next_id += 1;
            self.world.join(joiner, at);
        }
        self.world.propose(at, |next| match (what, learner) {
            (0, None) if joiner < 8 => next.learners.push(Member::bare(ReplicaId(joiner))),
            (1..=3, Some(learner)) => {
                // A replacement, or a fourth one.
                next.order.push(next.learners.remove(0));
                next.order.retain(|member| what == 3 || Some(member.id.0) != victim || member.id == learner);
            }
            (4, None) if next.order.len() > 3 => next.order.retain(|member| Some(member.id.0) != victim),
            _ => {
                let n = next.order.len();
                next.order.rotate_left(shift % n);
            }
        });
    }

    fn turn(&mut self) {
        match self.world.random(18) {
            16 | 17 if self.stopped.len() < 2 => {
                if let Some(id) = self.running().filter(|id| self.world.votes.contains_key(id)) {
                    self.stop_cleanly(id);
                }
            }
            0 if self.may_forget() => {
                let voters: Vec<u64> = self.newest().members().map(|member| member.id.0).collect();
                if let Some(id) = self.pick(&voters).filter(|id| self.world.nodes.contains_key(id)) {
                    // A new id that has made no promise yet has nothing to come back with: it starts anew.
                    let known = self.world.votes.contains_key(&id);
                    self.forget(id);
                    let at = self.world.now + self.world.random(500_000);
                    if known {
                        self.down.insert(id, at);
                    } else {
                        self.world.run(1_000);
                        let through =
                            self.newest().voters().map(|id| id.0).find(|v| self.world.nodes.contains_key(v));
                        self.world.join(id, through.unwrap_or(0));
                    }
                }
            }
            1 if self.world.cut_off.is_empty() => {
                if let Some(id) = self.running() {
                    self.world.cut_off.insert(id);
                }
            }
            1 | 2 => self.world.cut_off.clear(),
            3 | 4 => self.propose(),
            5 => {
                let voters: Vec<u64> = self.newest().voters().map(|id| id.0).collect();
                if let (Some(at), Some(to)) = (self.world.leader(), self.pick(&voters)) {
                    let input = Input::HandOff { token: 1 << 40, to: ReplicaId(to) };
                    self.world.input(at, input);
                }
            }
            _ => {
                if let Some(id) = self.running() {
                    self.requests += 1;
                    let body = format!("r{}", self.requests);
                    let number = self.world.submit(id, &body);
                    self.submitted.insert((id, number), body);
                }
            }
        }
        let now = self.world.now;
        let due: Vec<u64> = self.down.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.come_back(id));
        let due: Vec<u64> =
            self.stopped.iter().filter(|(_, (at, _))| *at <= now).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.go_on(id));
    }

    /// As a driver does: nothing is in flight to the disk, and what it leaves is all it had.
    fn stop_cleanly(&mut self, id: u64) {
        let vote_on_its_way = self.world.replica(id).vote() != &self.world.votes[&id];
        let left = self.world.node(id).replica.leave().filter(|_| !vote_on_its_way);
        if let Some(left) = left {
            self.forget(id);
            let at = self.world.now + self.world.random(800_000);
            self.stopped.insert(id, (at, left));
        }
    }

    fn go_on(&mut self, id: u64) {
        let Some((_, left)) = self.stopped.remove(&id) else { return };
        if self.world.configurations.get(&id).is_none_or(|known| known.member(ReplicaId(id)).is_some()) {
            let Leaving { op, snapshot, tail, last_normal, .. } = left;
            self.world.restart_clean(id, snapshot, tail, op, last_normal);
        }
    }

    fn come_back(&mut self, id: u64) {
        self.down.remove(&id);
        if self.world.configurations.get(&id).is_none_or(|known| known.member(ReplicaId(id)).is_some()) {
            self.world.recover(id);
        }
    }

    fn heal(&mut self) {
        for id in self.down.keys().copied().collect::<Vec<_>>() {
            self.come_back(id);
        }
        for id in self.stopped.keys().copied().collect::<Vec<_>>() {
            self.go_on(id);
        }
        self.world.cut_off.clear();
        self.world.noise = 0;
        self.world.run(2_000_000);
        for id in self.newest().voters().map(|id| id.0) {
            assert!(self.world.nodes.contains_key(&id), "seed {}: voter {id} is gone", self.seed);
        }
        self.world.until(&format!("seed {}: all agree", self.seed), 30_000_000, |w| {
            w.settled() && w.nodes.values().all(|n| n.retired.is_some() || n.replica.pending() == 0)
        });
        self.observe();
    }

    fn judge(&mut self) {
        let first = self.newest().order[0].id.0;
        let lines = self.world.lines(first);
        for body in &self.acknowledged {
            let times = lines.iter().filter(|line| *line == body).count();
            assert_eq!(times, 1, "seed {}: {body} was acknowledged and is there {times} times", self.seed);
        }
        let distinct: BTreeSet<&String> = lines.iter().collect();
        assert_eq!(distinct.len(), lines.len(), "seed {}: something was executed twice", self.seed);
        let epochs: Vec<u64> = self.world.lineage.keys().map(|epoch| epoch.0).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]));
        self.reconfigured = epochs.last().copied().unwrap_or(0);
    }
}

fn run(seed: u64) -> u64 {
    let mut run = Run::new(seed);
    for _ in 0..120 {
        let span = run.world.random(60_000);
        run.world.run(span);
        run.observe();
        run.turn();
    }
    run.heal();
    run.judge();
    run.reconfigured
}

#[test]
fn acknowledged_writes_survive_random_reconfigurations() {
    let epochs: u64 = (0..400).map(run).sum();
    assert!(epochs > 800, "{epochs} reconfigurations in 400 worlds prove little");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "which worlds, told by whoever runs it by hand")]
#[ignore = "minutes: VR_SEED=400 cargo test --release -p vr-core -- --ignored reconfigurations"]
fn acknowledged_writes_survive_many_more_reconfigurations() {
    let from = std::env::var("VR_SEED").map_or(400, |seed| seed.parse().expect("VR_SEED is a number"));
    (from..from + 20_000).for_each(|seed| {
        run(seed);
    });
}
