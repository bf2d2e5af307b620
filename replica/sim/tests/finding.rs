//! The six steps by which the recovery of the paper loses an acknowledged write, on the real core: once in a world
//! where a crash takes the vote record along, once in one where it does not.

use vr_core::{RequestNumber, Status};
use vr_sim::coverage::MessageKind::{
    DoViewChange, GetView, Prepare, PrepareOk, Standing, StartViewChange, ViewIs,
};
use vr_sim::machine::Toy;
use vr_sim::oracle::{Broken, Outcome};
use vr_sim::plan::{MS, Plan, SECOND, Sabotage};
use vr_sim::trace::Trace;
use vr_sim::world::World;

/// Longer than any replica bears silence (a timeout and a half), shorter than an intent stays fresh (two).
const PATIENCE: u64 = 350 * MS;

/// A start without memory asks only `from`, and takes the answer.
fn recover_from(world: &mut World<Toy>, replica: usize, from: usize) -> Result<(), Broken> {
    world.crash_and_start(replica)?;
    for other in (0..3).filter(|&other| other != replica) {
        world.lose(replica, other, Standing);
        if other != from {
            world.lose(replica, other, GetView);
        }
    }
    assert!(world.release(replica, from, GetView)? > 0, "a start without memory asks for the view");
    world.release(from, replica, ViewIs)?;
    Ok(())
}

/// Steps 1 to 5; the number of X at replica 0.
fn through_step_five(world: &mut World<Toy>) -> Result<RequestNumber, Broken> {
    world.run_until(SECOND)?;
    assert!((0..3).all(|replica| world.standing(replica).0 == Status::Normal), "a calm world begins");
    world.hold_messages();

    // 1. R1 times out; what it sends to R2 is slow.
    world.advance_clock(1, PATIENCE)?;
    // 2. It crashes and recovers from R0, in view 0.
    recover_from(world, 1, 0)?;
    assert_eq!(world.standing(1).0, Status::Normal);
    // 3. R2 joins view change 1; what it sends to R1 is slow.
    assert!(world.release(1, 2, StartViewChange)? > 0);
    world.advance_clock(2, PATIENCE)?;
    assert!(world.waiting().contains(&(2, 1, DoViewChange)), "R2 has voted: {:?}", world.waiting());
    // 4. It crashes and asks R0. Its vote is still on its way.
    recover_from(world, 2, 0)?;
    // 5. R0 prepares X; R2 may acknowledge.
    world.release(0, 2, Prepare)?;
    let x = world.write(0)?;
    world.release(0, 2, Prepare)?;
    world.release(2, 0, PrepareOk)?;
    Ok(x)
}

/// Step 6: R1 times out, and receives what was slow.
fn step_six(world: &mut World<Toy>) -> Result<(), Broken> {
    world.advance_clock(1, PATIENCE)?;
    assert!(world.release(2, 1, StartViewChange)? > 0);
    assert!(world.release(2, 1, DoViewChange)? > 0);
    Ok(())
}

fn world(sabotage: Option<Sabotage>) -> World<Toy> {
    World::new(Plan { sabotage, ..Plan::calm(1) }, Trace::quiet())
}

#[test]
fn without_the_vote_record_an_acknowledged_write_is_lost() {
    let mut world = world(Some(Sabotage::ForgetVotes));
    let x = through_step_five(&mut world).expect("nothing is broken yet");
    assert_eq!(world.standing(2).0, Status::Normal, "it has forgotten its vote");
    assert_eq!(world.outcome_of(0, x), Some(Outcome::Replied), "X is acknowledged");
    let broken = step_six(&mut world).expect_err("R1 leads view 1 without X");
    assert_eq!(broken.oracle, "leader-has-all");
}

#[test]
fn with_the_vote_record_it_stays() {
    let mut world = world(None);
    let x = through_step_five(&mut world).expect("no rule is broken");
    assert_eq!(world.standing(2).0, Status::Recovering, "view 0 is below its promise");
    assert_eq!(world.outcome_of(0, x), Some(Outcome::Pending), "R2 acknowledges nothing");
    step_six(&mut world).expect("no rule is broken");
    world.let_messages_flow().expect("no rule is broken");
    world.run_until(60 * SECOND).expect("no rule is broken");
    assert_eq!(world.outcome_of(0, x), Some(Outcome::Replied), "X is acknowledged in the end");
    let standings: Vec<_> = (0..3).map(|replica| world.standing(replica)).collect();
    assert!(standings.iter().all(|s| s.0 == Status::Normal && *s == standings[0]), "{standings:?}");
}
