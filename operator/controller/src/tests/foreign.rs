//! Volumes that are not this cluster's, or of another time: they are data for whoever wants it, and never a vote. Nothing
//! is written to them, none is deleted, and what keeps the cluster from going on is said.

use super::world::{World, wanted};
use crate::*;

const OTHER: &str = "another-lineage";

fn ready(world: &World) -> (String, String) {
    let found = world.status.conditions.iter().find(|c| c.type_ == "Ready").expect("it is always said");
    (found.reason.clone(), found.message.clone())
}

#[test]
fn beside_volumes_of_an_earlier_cluster_nothing_begins() {
    let mut world = World::new(wanted(3));
    world.exchange(Slot(1), OTHER, 1);
    let before = world.volume(Slot(1)).cloned();
    world.run(600);
    assert!(world.log.is_empty(), "{:?}", world.log);
    let (reason, says) = ready(&world);
    assert_eq!(reason, "ForeignVolume");
    assert!(
        says.contains("volume prod-1 is of lineage another-lineage")
            && says.contains("kubectl delete pvc prod-1"),
        "{says}"
    );
    assert_eq!(world.volume(Slot(1)), before.as_ref());
    // Once it is gone, everything is as at the first time.
    world.delete_volume(Slot(1));
    world.run(90);
    assert!(world.serving(), "{}", world.log.join("\n"));
}

/// The resource is made again, and one of the volumes is of somebody else: what is below the prefix says which.
#[test]
fn what_is_below_the_prefix_says_whose_a_volume_is() {
    let mut world = World::new(wanted(3));
    world.run(60);
    let lineage = world.status.lineage.clone().expect("it has begun");
    // Of a later generation, so that it would be taken for the newest.
    world.exchange(Slot(0), OTHER, 9);
    world.status = vr_api::VRClusterStatus::default();
    world.run(300);
    let now = world.status.lineage.clone().expect("it goes on");
    assert_eq!((&now.id, now.generation), (&lineage.id, lineage.generation));
    assert!(world.serving(), "{}", world.log.join("\n"));
}

/// A disk of another lineage, or of an older generation, is in the place of a running replica's: its replica is replaced by
/// a new one in another slot, and the disk stays as it is.
#[test]
fn a_foreign_volume_is_never_a_vote() {
    let lineage = |world: &World| world.status.lineage.clone().expect("it has begun").id;
    for older in [false, true] {
        let mut world = World::new(wanted(3));
        world.run(60);
        world.roll_back(7);
        world.run(120);
        assert!(world.serving());
        let of = if older { lineage(&world) } else { OTHER.to_owned() };
        world.taken.clear();
        world.exchange(Slot(1), &of, if older { 1 } else { 2 });
        let before = world.volume(Slot(1)).cloned().expect("it is there");
        world.run(600);
        assert!(world.serving(), "{}", world.log.join("\n"));
        assert_eq!(ready(&world).0, "Healthy", "{}", world.log.join("\n"));
        assert_eq!(world.volume(Slot(1)), Some(&before), "{}", world.log.join("\n"));
        assert!(!world.voters().contains(&ReplicaId(2)) && world.voters().len() == 3, "{:?}", world.voters());
        assert!(world.taken.iter().all(|step| !step.contains("volume")), "{:?}", world.taken);
    }
}

/// A generation that begins finds such a disk in a slot that it needs: it waits, and says so.
#[test]
fn a_generation_waits_for_a_slot_that_is_taken() {
    let mut world = World::new(wanted(3));
    world.run(60);
    let slots: Vec<Slot> = world.slots();
    slots.iter().for_each(|slot| world.delete_volume(*slot));
    world.found.push(Find {
        source: "object store: checkpoint 5 of generation 1".to_owned(),
        op: Op(5),
        time: Some(Moment(world.now)),
        flaw: None,
    });
    world.run(90);
    world.exchange(Slot(0), OTHER, 1);
    let nonce = world.status.recovery_plan.clone().expect("there is a plan").nonce;
    world.acknowledged.insert(nonce);
    world.run(300);
    let (reason, says) = ready(&world);
    assert_eq!(reason, "ForeignVolume", "{says}\n{}", world.log.join("\n"));
    assert!(says.contains("kubectl delete pvc prod-0"), "{says}");
    world.delete_volume(Slot(0));
    world.run(120);
    assert!(world.serving(), "{}", world.log.join("\n"));
}
