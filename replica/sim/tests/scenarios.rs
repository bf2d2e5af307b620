//! Shortest stories of what sweeps once found wrong in the core.

use vr_sim::coverage::MessageKind::Prepare;
use vr_sim::machine::Toy;
use vr_sim::oracle::Outcome;
use vr_sim::plan::{Plan, SECOND};
use vr_sim::trace::Trace;
use vr_sim::world::World;

#[test]
fn first_entries_that_no_backup_received_are_sent_again() {
    let mut world = World::<Toy>::new(Plan::calm(2), Trace::quiet());
    world.run_until(SECOND).expect("no rule is broken");
    world.hold_messages();
    let number = world.write(0).expect("no rule is broken");
    world.lose(0, 1, Prepare);
    world.lose(0, 2, Prepare);
    world.let_messages_flow().expect("no rule is broken");
    world.run_until(3 * SECOND).expect("no rule is broken");
    assert_eq!(world.outcome_of(0, number), Some(Outcome::Replied));
}
