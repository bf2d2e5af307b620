//! An operator that dies between any two of its writes is followed by one that comes to the same end.

use super::world::{World, wanted};
use crate::*;

/// Everything that an operator does in a life: a beginning, two more, an update, a lost node, two less.
fn life(dies: Option<usize>) -> (Vec<String>, String, usize) {
    let mut world = World::new(wanted(3));
    world.dies = dies;
    world.run(60);
    world.wanted.replicas = 5;
    world.run(120);
    world.wanted.template = Template::from("v2");
    world.run(300);
    world.remove_node("c1");
    world.run(120);
    world.wanted.replicas = 3;
    world.run(300);
    assert!(world.serving(), "dies before write {dies:?}: nobody serves\n{}", world.log.join("\n"));
    let ready = world.status.conditions.iter().find(|c| c.type_ == "Ready").expect("it is always said");
    let voters = world.status.replica_statuses.iter().map(|r| format!("{} in {}", r.id, r.slot)).collect();
    (voters, ready.reason.clone(), world.writes)
}

/// A loss of everything, and the next generation.
fn second_life(dies: Option<usize>) -> (Vec<String>, String, usize) {
    let mut world = World::new(wanted(3));
    world.wanted.automatic = Some(Seconds(600));
    world.run(60);
    let before = world.writes;
    world.dies = dies;
    let time = Some(Moment(world.now));
    world.found.push(Find { source: "objectStore".to_owned(), op: Op(50), time, flaw: None });
    world.slots().into_iter().for_each(|slot| world.kill(slot));
    world.delete_volume(Slot(2));
    world.run(300);
    assert!(world.serving(), "dies before write {dies:?}: nobody serves\n{}", world.log.join("\n"));
    let lineage = world.status.lineage.as_ref().expect("it has begun");
    let lost = world.status.data_loss.as_ref().map(|lost| (lost.generation, lost.kept_op));
    let ready = world.status.conditions.iter().find(|c| c.type_ == "Ready").expect("it is always said");
    let end = format!("generation {}, lost {lost:?}, {}", lineage.generation, ready.reason);
    (world.status.replica_statuses.iter().map(|r| r.slot.clone()).collect(), end, world.writes - before)
}

#[test]
fn the_next_generation_is_the_same_wherever_it_dies() {
    let (slots, end, writes) = second_life(None);
    assert_eq!(end, "generation 2, lost Some((1, 50)), Healthy");
    assert!(writes > 20, "{writes} writes");
    for write in 1..=writes {
        let (others, other, _) = second_life(Some(write));
        assert_eq!((&others, &other), (&slots, &end), "it dies before write {write}");
    }
}

#[test]
fn the_end_is_the_same_wherever_it_dies() {
    let (voters, ready, writes) = life(None);
    assert_eq!(ready, "Healthy");
    assert!(writes > 60, "{writes} writes");
    for write in 1..=writes {
        let (others, ready, _) = life(Some(write));
        assert_eq!((&others, ready.as_str()), (&voters, "Healthy"), "it dies before write {write}");
    }
}

/// A roll-back of a cluster that runs.
fn way_back(dies: Option<usize>) -> (String, usize) {
    let mut world = World::new(wanted(3));
    world.run(60);
    let before = world.writes;
    world.dies = dies;
    world.roll_back(7);
    world.run(300);
    assert!(world.serving(), "dies before write {dies:?}: nobody serves\n{}", world.log.join("\n"));
    let lineage = world.status.lineage.as_ref().expect("it has begun");
    let kept = world.status.data_loss.as_ref().map(|lost| lost.kept_op);
    let ready = world.status.conditions.iter().find(|c| c.type_ == "Ready").expect("it is always said");
    let from = lineage.restored_from.clone().unwrap_or_default();
    (
        format!("generation {} from {from}, kept {kept:?}, {}", lineage.generation, ready.reason),
        world.writes - before,
    )
}

/// It is begun once, by whoever begins it, although it is seen for ever.
#[test]
fn a_roll_back_happens_once_wherever_it_dies() {
    let (end, writes) = way_back(None);
    let from = "object store: checkpoint 5 of generation 1 at op 7";
    assert_eq!(end, format!("generation 2 from {from}, kept Some(7), Healthy"));
    assert!(writes > 15, "{writes} writes");
    for write in 1..=writes {
        assert_eq!(way_back(Some(write)).0, end, "it dies before write {write}");
    }
}
