//! Random faults over many seeds: loss, repetition and reordering of messages, crashes with loss of memory, one at a
//! time. Whatever was acknowledged stays, once; in the end all agree.

use super::world::{Ledger, Outcome, World};
use crate::*;
use std::collections::BTreeMap;

fn run(seed: u64) -> (u64, Digest) {
    let options = Options { log_bytes: 600, window: 64, pipeline: 4, ..Options::default() };
    let mut world = World::empty(3, options);
    (0..3).for_each(|id| world.start_complete(id, Ledger::default()));
    world.random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    world.noise = [0, 10, 50, 150][(seed % 4) as usize];
    let mut acknowledged: BTreeMap<String, Op> = BTreeMap::new();
    let mut submitted: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut down: Option<(u64, u64)> = None;
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
        match world.random(12) {
            0 if down.is_none() => {
                // Only when the others have memory: one loss at a time is what this cluster must bear.
                let whole = world.nodes.values().all(|n| n.replica.status() == Status::Normal);
                if whole {
                    let id = world.random(3);
                    world.crash(id);
                    submitted.retain(|(gateway, _), _| *gateway != id);
                    down = Some((id, world.now + world.random / 1_000_000 % 600_000));
                }
            }
            1 => {
                let id = world.random(3);
                if world.cut_off.is_empty() && down.is_none() {
                    world.cut_off.insert(id);
                } else {
                    world.cut_off.clear();
                }
            }
            _ => {
                let id = world.random(3);
                if world.nodes.contains_key(&id) {
                    counter += 1;
                    let body = format!("r{counter}");
                    let number = world.submit(id, &body);
                    submitted.insert((id, number), body);
                }
            }
        }
        if let Some((id, at)) = down
            && world.now >= at
        {
            world.recover(id);
            down = None;
        }
    }
    if let Some((id, _)) = down {
        world.recover(id);
    }
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
    (0..3000).for_each(|seed| {
        run(seed);
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(run(7), run(7));
}
