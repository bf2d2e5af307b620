//! A replica that is frozen, and the one that is made of it.

use super::world::{Ledger, World};
use crate::*;

fn frozen_at(world: &mut World, id: u64, earlier: Option<&Frozen<Ledger>>) -> Frozen<Ledger> {
    world.node(id).replica.freeze_since(earlier).expect("no state is on its way in")
}

fn commit(world: &mut World, what: &str, times: usize) {
    for number in 0..times {
        world.commit(0, &format!("{what}-{number}"));
    }
    world.run(300_000);
}

fn a_cut(world: &mut World) {
    let before: Vec<usize> = world.nodes.values().map(|node| node.certified.len()).collect();
    world.input(0, Input::Cut);
    world.until("certified", 1_000_000, |world| {
        world.nodes.values().zip(&before).all(|(node, before)| node.certified.len() > *before)
    });
}

/// What came of a frozen replica has executed what the one that runs has.
fn is_the_same(world: &World, id: u64, frozen: &Frozen<Ledger>) {
    let thawed =
        Replica::thaw(&frozen.apart, frozen.state.clone(), &frozen.cuts).expect("it belongs together");
    assert_eq!(thawed.commit(), world.replica(id).commit());
    assert_eq!(thawed.state().lines, world.replica(id).state().lines);
    assert_eq!(thawed.fingerprint(), world.replica(id).fingerprint());
}

#[test]
fn it_stands_on_a_state_that_is_kept_anyway() {
    let mut world = World::new(3);
    commit(&mut world, "before", 3);
    // Nothing was cut yet: the first has to take the state as it is, those after it lean on the first.
    let first = frozen_at(&mut world, 1, None);
    assert_eq!(first.state.lines.len(), 3);
    is_the_same(&world, 1, &first);
    commit(&mut world, "more", 4);
    let second = frozen_at(&mut world, 1, Some(&first));
    assert_eq!(second.state, first.state, "the state was copied");
    is_the_same(&world, 1, &second);
    a_cut(&mut world);
    commit(&mut world, "after", 5);
    let third = frozen_at(&mut world, 1, Some(&second));
    assert_eq!(
        (third.state.lines.len(), third.cuts.len()),
        (7, 1),
        "there is a newer state: that of the cut"
    );
    is_the_same(&world, 1, &third);
    // When the log does not go back so far any more, what was kept before is of no use.
    for round in 0..3 {
        commit(&mut world, &format!("round-{round}"), 2);
        a_cut(&mut world);
    }
    let fourth = frozen_at(&mut world, 1, Some(&first));
    assert_eq!(fourth.state.lines.len(), 18);
    is_the_same(&world, 1, &fourth);
}

#[test]
fn what_does_not_belong_together_is_not_put_together() {
    let mut world = World::new(3);
    commit(&mut world, "before", 3);
    a_cut(&mut world);
    let early = frozen_at(&mut world, 0, None);
    commit(&mut world, "between", 2);
    a_cut(&mut world);
    commit(&mut world, "after", 2);
    a_cut(&mut world);
    let frozen = frozen_at(&mut world, 0, None);
    let thaw = |state: &Ledger, cuts: &[Ledger]| Replica::thaw(&frozen.apart, state.clone(), cuts).err();
    assert_eq!(thaw(&frozen.state, &frozen.cuts), None);
    assert_eq!(thaw(&frozen.state, &frozen.cuts[..1]), Some(ThawError::Cuts));
    let gap = thaw(&early.state, &frozen.cuts);
    assert!(matches!(gap, Some(ThawError::Log(ReplayError::Gap { .. }))), "{gap:?}");
    let ahead = Replica::thaw(&early.apart, frozen.state.clone(), &early.cuts).err();
    assert!(matches!(ahead, Some(ThawError::State(_))), "{ahead:?}");
}
