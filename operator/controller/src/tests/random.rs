//! Worlds that nobody wrote: everything that can happen, in any order, while the operator acts and sometimes cannot
//! see. What must never be is asserted by the world itself; what must come, after all is well again, is asserted
//! here.

use super::world::{Source, World, wanted};
use crate::*;

/// A small generator of its own: equal seeds, equal worlds.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() {
            None
        } else {
            all.get(usize::try_from(self.roll(all.len() as u64)).ok()?).cloned()
        }
    }
}

const NODES: [&str; 6] = ["a1", "a2", "b1", "b2", "c1", "c2"];

/// One thing happens. `gentle`: nothing that takes a quorum's memory or disks.
fn happens(world: &mut World, dice: &mut Dice, gentle: bool) {
    let node = dice.of(&NODES).expect("there are nodes");
    let slot = dice.of(&world.slots());
    match dice.roll(if gentle { 8 } else { 15 }) {
        0 => world.wanted.replicas = [1, 3, 5][usize::try_from(dice.roll(3)).expect("few")].max(3),
        1 => world.wanted.template = Template(format!("v{}", dice.roll(4))),
        2 => world.wanted.preferred = dice.of(&["a", "b", "c"]).map(Zone::from).into_iter().collect(),
        3 => drop(dice.of(&Source::ALL).map(|source| world.blind.insert(source))),
        4 | 5 => world.blind.clear(),
        6 => {
            if let Some(node) = world.nodes.get_mut(&NodeName::from(node)) {
                node.draining = !node.draining;
            }
        }
        7 => world.wanted.paused = dice.roll(4) == 0,
        8 => drop(slot.map(|slot| world.kill(slot))),
        9 => drop(slot.map(|slot| world.delete_pod(slot))),
        10 => world.cut(node, dice.roll(2) == 0),
        11 => drop(slot.map(|slot| world.delete_volume(slot))),
        12 => world.wanted.hibernated = dice.roll(2) == 0,
        13 => world.slots().into_iter().for_each(|slot| world.kill(slot)),
        _ => world.power(node, dice.roll(3) > 0),
    }
}

/// All is well again, and stays so.
fn heal(world: &mut World) {
    world.blind.clear();
    world.wanted.paused = false;
    world.wanted.hibernated = false;
    for node in NODES {
        world.power(node, true);
        world.cut(node, false);
    }
    world.nodes.values_mut().for_each(|n| n.draining = false);
}

fn settled(world: &mut World, seed: u64) {
    world.run(3000);
    let log = world.log.join("\n");
    assert!(world.serving(), "seed {seed}: nobody serves\n{log}");
    assert_eq!(world.voters().len(), world.wanted.replicas, "seed {seed}\n{log}");
    assert_eq!(world.learners(), 0, "seed {seed}\n{log}");
    assert_eq!(world.pods(), world.wanted.replicas, "seed {seed}\n{log}");
    // Nobody is moved to another zone for its own sake: a crowded one is reported.
    let spread = world.status.conditions.iter().find(|c| c.type_ == "TopologySatisfied");
    let said = spread.is_some_and(|c| c.status == "False");
    assert!(
        world.zones_of_voters().len() == 3 || said,
        "seed {seed}: a zone is missing and not reported\n{log}"
    );
    let ready = world.status.conditions.iter().find(|c| c.type_ == "Ready").expect("it is always said");
    assert_eq!(ready.reason, "Healthy", "seed {seed}: {}\n{log}", ready.message);
    assert_eq!(world.status.operation, None, "seed {seed}");
    // At rest nothing is done or said.
    let before = (world.log.len(), world.status.conditions.clone());
    world.run(300);
    assert_eq!(
        (world.log.len(), world.status.conditions.clone()),
        before,
        "seed {seed}\n{}",
        world.log.join("\n")
    );
}

/// What people and views do: the cluster ends as it was wanted.
#[test]
fn what_was_wanted_comes_about() {
    for seed in 1..=60 {
        let mut dice = Dice::new(seed);
        let mut world = World::new(wanted(3));
        world.run(90);
        for _ in 0..25 {
            happens(&mut world, &mut dice, true);
            world.run(i64::try_from(dice.roll(200)).expect("few"));
            assert!(world.serving(), "seed {seed}: an outage without a fault\n{}", world.log.join("\n"));
        }
        heal(&mut world);
        settled(&mut world, seed);
    }
}

/// Faults as well, from the very beginning: it ends as wanted, or the quorum's memory is lost and that is said.
#[test]
fn after_faults_it_serves_or_says_what_was_lost() {
    let (mut served, mut lost) = (0, 0);
    for seed in 1..=150 {
        let mut dice = Dice::new(seed);
        let mut world = World::new(wanted(3));
        world.run(i64::try_from(dice.roll(60)).expect("few"));
        for _ in 0..20 {
            happens(&mut world, &mut dice, false);
            world.run(i64::try_from(dice.roll(150)).expect("few"));
        }
        heal(&mut world);
        world.run(600);
        if world.serving() {
            served += 1;
            settled(&mut world, seed);
        } else {
            lost += 1;
            let said =
                world.status.conditions.iter().find(|c| c.type_ == "Available").expect("it is always said");
            assert_eq!(said.reason, "TotalLoss", "seed {seed}: {}\n{}", said.message, world.log.join("\n"));
        }
    }
    assert!(served > 20 && lost > 5, "{served} served and {lost} lost: the worlds are all alike");
}
