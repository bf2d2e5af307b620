//! Nothing destructive follows from not knowing: each source of observation is taken away in turn, and then all of
//! them, in every situation that would have consequences if it were seen.

use super::world::{Source, World, wanted};
use crate::*;

/// Something that happens, and its name.
type Situation = (&'static str, fn(&mut World));

/// Each would have consequences if it were seen.
fn situations() -> Vec<Situation> {
    vec![
        ("a node is off", |w| w.power("a1", false)),
        ("a node is removed", |w| w.remove_node("b1")),
        ("a zone is cut off", |w| ["a1", "a2"].iter().for_each(|n| w.cut(n, true))),
        ("two zones are cut off", |w| ["a1", "a2", "b1", "b2"].iter().for_each(|n| w.cut(n, true))),
        ("all is cut off", |w| ["a1", "a2", "b1", "b2", "c1", "c2"].iter().for_each(|n| w.cut(n, true))),
        ("a volume is gone", |w| w.delete_volume(Slot(1))),
        ("fewer are wanted", |w| w.wanted.replicas = 1),
        ("the template changes", |w| w.wanted.template = Template::from("v2")),
        ("it is to rest", |w| w.wanted.hibernated = true),
        ("nothing happens", |_| {}),
    ]
}

#[test]
fn without_a_source_nothing_is_taken_away() {
    for (name, happens) in situations() {
        for source in [Source::Pods, Source::Volumes, Source::Replicas] {
            let mut world = World::new(wanted(3));
            world.run(60);
            assert!(world.serving(), "{name}");
            world.blind.insert(source);
            // What was seen before counts for a while; then it does not.
            world.run(FRESH.0 + INTERVAL.0);
            happens(&mut world);
            world.taken.clear();
            world.run(900);
            assert!(world.taken.is_empty(), "{name}, without {source:?}: {:?}", world.taken);
        }
    }
}

/// Nodes and the object store say why something may be hurried or begun; without them it takes longer or waits.
#[test]
fn without_nodes_nobody_is_replaced_early_and_without_the_store_nothing_begins() {
    let mut world = World::new(wanted(3));
    world.run(60);
    world.blind.insert(Source::Nodes);
    world.run(FRESH.0 + INTERVAL.0);
    world.log.clear();
    world.remove_node("a1");
    world.run(world.wanted.node_gone.0 - 10);
    assert!(world.log.is_empty(), "{:?}", world.log);

    let mut world = World::new(wanted(3));
    world.blind.insert(Source::Store);
    world.run(300);
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert_eq!(world.status.lineage, None);
}

/// Everything away at once is what an operator sees that was cut off itself: afterwards all is as it was.
#[test]
fn an_operator_that_sees_nothing_does_nothing() {
    let mut world = World::new(wanted(3));
    world.run(60);
    let voters = world.voters();
    world.blind.extend(Source::ALL);
    world.log.clear();
    world.run(3600);
    let stale = world.status.conditions.iter().find(|c| c.type_ == "Available").expect("it is always said");
    assert_eq!((stale.status.as_str(), stale.reason.as_str()), ("Unknown", "StatusStale"));
    world.blind.clear();
    world.run(60);
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert_eq!(world.voters(), voters);
}

/// A roll-back gives up what is newest: without a source of what it rests on it waits.
#[test]
fn without_a_source_nothing_is_rolled_back() {
    for source in [Source::Pods, Source::Volumes, Source::Store] {
        let mut world = World::new(wanted(3));
        world.run(60);
        world.blind.insert(source);
        world.run(FRESH_STORE.0 + INTERVAL.0);
        world.roll_back(7);
        world.taken.clear();
        world.run(900);
        assert!(world.taken.is_empty(), "without {source:?}: {:?}", world.taken);
        assert_eq!(world.status.lineage.as_ref().map(|l| l.generation), Some(1), "without {source:?}");
        world.blind.clear();
        world.run(120);
        assert_eq!(world.status.lineage.as_ref().map(|l| l.generation), Some(2), "{source:?} is back");
        assert!(world.serving(), "{}", world.log.join("\n"));
    }
}

/// What a survivor has in memory is on its way to the object store: whatever cannot be seen meanwhile, nobody is fenced
/// and nothing ends. Who is not heard any more is asked for again, by another plan.
#[test]
fn without_a_source_nothing_is_given_up_while_a_survivor_is_saved() {
    let sources = Source::ALL.into_iter().map(|source| vec![source]).chain([Source::ALL.to_vec()]);
    for blind in sources {
        let mut world = World::new(wanted(3));
        world.run(60);
        world.found.push(Find {
            source: "object store: checkpoint 5 of generation 1".to_owned(),
            op: Op(5),
            time: Some(Moment(world.now)),
            flaw: None,
        });
        [Slot(0), Slot(1)].into_iter().for_each(|slot| world.delete_volume(slot));
        world.saves = false;
        world.run(90);
        let acknowledge = |world: &mut World| {
            let plan = world.status.recovery_plan.clone().expect("there is a plan");
            world.acknowledged.insert(plan.nonce.clone());
            plan
        };
        let plan = acknowledge(&mut world);
        assert!(plan.candidates[0].source.starts_with("memory of"), "{plan:?}");
        world.run(30);
        let step = |world: &World| world.status.operation.as_ref().map(|o| o.step.clone());
        assert_eq!(step(&world).as_deref(), Some("Saving"), "{blind:?}");
        world.blind.extend(blind.clone());
        world.taken.clear();
        world.run(900);
        assert!(world.taken.is_empty(), "without {blind:?}: {:?}", world.taken);
        assert_eq!(world.status.lineage.as_ref().map(|l| l.generation), Some(1), "without {blind:?}");
        world.blind.clear();
        world.saves = true;
        world.run(120);
        if world.status.lineage.as_ref().map(|l| l.generation) == Some(1) {
            acknowledge(&mut world);
            world.run(120);
        }
        assert_eq!(world.status.lineage.as_ref().map(|l| l.generation), Some(2), "{blind:?} is back");
        assert!(world.serving(), "{}", world.log.join("\n"));
    }
}

/// Whoever restored elsewhere was first: the object store says so, and nothing here is given up for it.
#[test]
fn what_was_restored_elsewhere_is_not_rolled_back() {
    let mut world = World::new(wanted(3));
    world.run(60);
    world.restored_elsewhere();
    world.roll_back(7);
    world.taken.clear();
    world.run(900);
    assert!(world.taken.is_empty(), "{:?}", world.taken);
}

/// A replica that says it is another one is not heard as either: it counts for nothing, and nobody is ended for it.
#[test]
fn a_replica_that_lies_about_its_id_is_not_heard() {
    let mut world = World::new(wanted(3));
    world.run(60);
    world.liars.insert(ReplicaId(2), ReplicaId(1));
    world.taken.clear();
    world.run(FRESH.0 + INTERVAL.0);
    assert_eq!((world.status.ready_replicas, world.serving()), (2, true));
    let of = |id: i64| world.status.replica_statuses.iter().find(|r| r.id == id).map(|r| r.state.as_str());
    assert_eq!((of(1), of(2)), (Some("Normal"), Some("Unreachable")));
    // All of them: nothing is known, and nothing follows.
    world.liars = [(1, 2), (2, 3), (3, 1)].map(|(id, says)| (ReplicaId(id), ReplicaId(says))).into();
    world.run(3600);
    assert!(world.taken.is_empty(), "{:?}", world.taken);
    let said = world.status.conditions.iter().find(|c| c.type_ == "Available").expect("it is always said");
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("Unknown", "StatusStale"));
}
