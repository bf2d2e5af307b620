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
