//! Random faults over many seeds: loss, repetition and reordering of messages, crashes with loss of memory of fewer
//! than a majority. Whatever was acknowledged stays, once; in the end all agree.

use super::world::{Ledger, Outcome, World};
use crate::*;
use std::collections::BTreeMap;

fn run(seed: u64, members: u64) -> (u64, Digest) {
    let bearable = (members - 1) / 2;
    let options = Options { log_bytes: 600, window: 64, pipeline: 4, ..Options::default() };
    let mut world = World::empty(members, options);
    (0..members).for_each(|id| world.start_complete(id, Ledger::default()));
    world.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    world.noise = [0, 10, 50, 150][(seed % 4) as usize];
    let mut acknowledged: BTreeMap<String, Op> = BTreeMap::new();
    let mut submitted: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut down: BTreeMap<u64, u64> = BTreeMap::new();
    let mut reads: BTreeMap<(u64, u64), Op> = BTreeMap::new();
    let mut newest = Op(0);
    let mut counter = 0;
    for _ in 0..120 {
        let span = world.random(80_000);
        world.run(span);
        for (&id, node) in &world.nodes {
            assert_eq!(node.fatal, None, "seed {seed}: replica {id}");
            for (&number, outcome) in &node.outcomes {
                if let (Outcome::Reply(op), Some(body)) = (outcome, submitted.get(&(id, number))) {
                    acknowledged.insert(body.clone(), *op);
                }
            }
        }
        newest = acknowledged.values().copied().fold(newest, Op::max);
        match world.random(14) {
            0 => {
                // One loss more than may be borne would be quorum lost: only those with memory count.
                let without = world.nodes.values().filter(|n| n.replica.is_amnesiac()).count() + down.len();
                let id = world.random(members);
                if (without as u64) < bearable && world.nodes.contains_key(&id) {
                    world.crash(id);
                    submitted.retain(|(gateway, _), _| *gateway != id);
                    reads.retain(|(gateway, _), _| *gateway != id);
                    let at = world.now + world.random(600_000);
                    down.insert(id, at);
                }
            }
            1 if world.cut_off.is_empty() => {
                let id = world.random(members);
                world.cut_off.insert(id);
            }
            1 => world.cut_off.clear(),
            2 | 3 => {
                let id = world.random(members);
                if world.nodes.contains_key(&id) {
                    counter += 1;
                    reads.insert((id, counter), newest);
                    world.input(id, Input::Read { token: counter });
                }
            }
            _ => {
                let id = world.random(members);
                if world.nodes.contains_key(&id) {
                    counter += 1;
                    let body = format!("r{counter}");
                    let number = world.submit(id, &body);
                    submitted.insert((id, number), body);
                }
            }
        }
        for (&(id, token), &op) in &reads {
            if let Some(&(ready, commit)) = world.nodes[&id].read_at.get(&token) {
                assert!(!ready || commit >= op, "seed {seed}: a read at {commit} missed an answer at {op}");
            }
        }
        let due: Vec<u64> = down.iter().filter(|(_, at)| **at <= world.now).map(|(id, _)| *id).collect();
        for id in due {
            down.remove(&id);
            world.recover(id);
        }
    }
    down.into_keys().for_each(|id| world.recover(id));
    world.cut_off.clear();
    world.noise = 0;
    world.run(2_000_000);
    world.until(&format!("seed {seed}: all agree"), 20_000_000, |w| {
        w.all_equal() && w.nodes.values().all(|n| n.replica.pending() == 0)
    });
    let lines = world.lines(0);
    for body in acknowledged.keys() {
        let times = lines.iter().filter(|line| *line == body).count();
        assert_eq!(times, 1, "seed {seed}: {body} was acknowledged and is there {times} times");
    }
    let mut sorted = lines.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), lines.len(), "seed {seed}: something was executed twice");
    (world.now, world.replica(0).digest())
}

#[test]
fn acknowledged_writes_survive_random_faults() {
    (0..800).for_each(|seed| {
        run(seed, 3);
    });
    (0..200).for_each(|seed| {
        run(seed, 5);
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(run(7, 3), run(7, 3));
}
