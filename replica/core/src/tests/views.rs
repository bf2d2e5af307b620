//! View changes.

use super::world::{Outcome, World};
use crate::*;

#[test]
fn the_next_one_leads_when_the_primary_is_gone() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(0);
    world.run(1_000);
    let then = world.now;
    for id in [1, 2] {
        world.input(id, Input::PeerLost(ReplicaId(0)));
    }
    assert!(world.commit(2, "b") > Op(1));
    assert!(world.now - then < 250_000, "a lost connection hastens it: {} us", world.now - then);
    assert_eq!(world.leader(), Some(1));
    assert_eq!(world.lines(2), ["a", "b"]);
}

#[test]
fn without_a_hint_the_timeout_decides() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(0);
    let then = world.now;
    world.commit(1, "b");
    assert!(world.now - then < 500_000, "{} us", world.now - then);
}

//= R9
#[test]
fn one_replica_that_hears_nothing_deposes_nobody() {
    let mut world = World::new(3);
    world.commit(0, "a");
    // It can speak, and does, but hears nothing.
    world.hold = |_, to, _| to == 2;
    world.run(5_000_000);
    world.commit(1, "b");
    assert_eq!((world.leader(), world.replica(0).ballot().view), (Some(0), View(0)));
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("it is back", 2_000_000, World::all_equal);
    assert_eq!(world.replica(2).ballot().view, View(0));
}

#[test]
fn requests_in_flight_survive_the_primary_and_run_once() {
    let mut world = World::new(3);
    world.commit(0, "a");
    // The primary prepares, the backups acknowledge, but nobody learns that it is committed.
    world.hold = |_, to, m| to == 0 && matches!(m, Message::PrepareOk { .. });
    let number = world.submit(1, "b");
    world.run(5_000);
    world.crash(0);
    world.until("an answer", 3_000_000, |w| w.nodes[&1].outcomes.contains_key(&number));
    world.until("both agree", 1_000_000, World::all_equal);
    assert_eq!(world.lines(2), ["a", "b"]);
}

//= R11
#[test]
fn a_new_primary_fetches_the_bodies_it_lacks() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    // Only replica 2 gets the entries; replica 1, who will lead, gets none.
    world.hold = |_, to, m| to == 1 && matches!(m, Message::Prepare { .. } | Message::Commit { .. });
    let number = world.submit(0, "b");
    world.until("the answer", 1_000_000, |w| w.nodes[&0].outcomes.contains_key(&number));
    assert_eq!(world.replica(1).op(), Op(1));
    world.crash(0);
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("replica 1 leads", 3_000_000, |w| w.leader() == Some(1));
    world.until("both agree", 1_000_000, World::all_equal);
    assert_eq!(world.lines(1), ["a", "b"]);
    assert!(world.replica(1).counters().entries_fetched > 0);
}

//= R10
#[test]
fn a_deposed_primary_gives_up_what_only_it_had() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.cut_off.insert(0);
    let number = world.submit(0, "never");
    world.until("another leads", 3_000_000, |w| w.leader().is_some());
    world.commit(1, "b");
    assert!(!world.nodes[&0].outcomes.contains_key(&number));
    world.cut_off.clear();
    world.until("all agree", 3_000_000, |w| w.all_equal() && w.replica(0).pending() == 0);
    // Its gateway's request was not lost: it went to the new primary.
    assert!(matches!(world.nodes[&0].outcomes[&number], Outcome::Reply(_)));
    assert_eq!(world.lines(0), ["a", "b", "never"]);
}

#[test]
fn five_members_bear_two_losses() {
    let mut world = World::new(5);
    world.commit(0, "a");
    world.crash(0);
    world.crash(1);
    world.commit(3, "b");
    assert_eq!(world.leader(), Some(2));
}

//= R1
#[test]
fn nothing_of_a_ballot_is_said_before_the_promise_is_durable() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.crash(0);
    world.vote_delay = 10_000_000;
    world.run(3_000_000);
    let promised = |m: &Message| matches!(m, Message::DoViewChange { .. } | Message::StartView { .. });
    assert!(!world.mail.iter().any(|letter| promised(&letter.envelope.message)));
    assert!(world.leader().is_none());
    assert_eq!(world.replica(1).status(), Status::ViewChange);
}

#[test]
fn after_a_clean_stop_all_begin_a_new_view_with_everything() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.input(0, Input::Cut);
    world.until("a cut", 1_000_000, |w| w.nodes.values().all(|n| n.cut.is_some()));
    world.commit(1, "b");
    world.until("quiet", 1_000_000, World::all_equal);
    let stopped: Vec<_> = (0..3)
        .map(|id| {
            let node = &world.nodes[&id];
            let r = &node.replica;
            let state = node.cut.clone().expect("it was cut");
            let base = CoreState::decode(&state.core_state()).expect("a cut stores it").op;
            let log =
                (base.0 + 1..=r.op().0).map(|op| r.entry(Op(op)).expect("it is held").clone()).collect();
            (state, log, r.commit(), r.last_normal())
        })
        .collect();
    (0..3).for_each(|id| world.crash(id));
    world.mail.clear();
    for (id, (state, log, commit, last_normal)) in stopped.into_iter().enumerate() {
        world.restart_clean(id as u64, state, log, commit, last_normal);
    }
    world.commit(2, "c");
    world.until("all agree", 1_000_000, World::all_equal);
    assert_eq!(world.lines(0), ["a", "b", "c"]);
    assert_eq!(world.replica(0).ballot().view, View(1));
}

/// R13: a replacement that has arrived in part replaces nothing.
//= R13
#[test]
fn nothing_is_cut_off_before_its_replacement_is_in_hand() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.cut_off.insert(0);
    (0..3).for_each(|_| {
        world.submit(0, "alone");
    });
    world.until("another leads", 3_000_000, |w| w.leader().is_some());
    ["b", "c", "d"].iter().for_each(|body| {
        world.commit(1, body);
    });
    let own = world.replica(0).digest();
    world.hold = |_, to, m| to == 0 && matches!(m, Message::Entries { .. });
    world.cut_off.clear();
    world.until("the replacement", 1_000_000, |w| !w.held.is_empty());
    let mut letter = world.held.remove(0);
    if let Message::Entries { entries, .. } = &mut letter.envelope.message {
        assert!(entries.len() > 1);
        entries.truncate(1);
    }
    world.input(0, Input::Message(letter.envelope));
    assert_eq!((world.replica(0).op(), world.replica(0).digest()), (Op(4), own));
    world.hold = |_, _, _| false;
    world.release(|_, _, _| true);
    world.until("all agree", 3_000_000, |w| w.all_equal() && w.replica(0).pending() == 0);
}

/// R13: a replica that was Normal in its ballot, acknowledged entries of it and stopped cleanly, comes back into the same
/// ballot with all of them. A StartView of it that was on its way since before them takes nothing away again.
//= R13
#[test]
fn a_late_start_of_its_own_ballot_takes_nothing_back() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.hold = |_, to, m| to == 2 && matches!(m, Message::StartView { .. });
    world.crash(0);
    world.until("another leads", 3_000_000, |w| w.leader() == Some(1));
    world.commit(1, "b");
    world.until("both agree", 1_000_000, World::all_equal);
    let r = world.replica(2);
    let log = (1..=r.op().0).map(|op| r.entry(Op(op)).expect("it is held").clone()).collect();
    let (op, digest, last_normal) = (r.op(), r.digest(), r.last_normal());
    assert_eq!((r.ballot(), r.commit()), (last_normal, op));
    world.crash(2);
    world.cut_off.insert(1);
    // It had all of it, but did not know yet that it is committed.
    world.restart_clean(2, super::world::Ledger::default(), log, Op(1), last_normal);
    assert_eq!((world.replica(2).status(), world.replica(2).op()), (Status::ViewChange, op));
    world.release(|_, to, m| to == 2 && matches!(m, Message::StartView { .. }));
    assert_eq!(world.replica(2).op(), op, "{}", world.describe(2));
    world.cut_off.clear();
    world.until("both agree", 3_000_000, World::all_equal);
    assert_eq!(world.lines(2), ["a", "b"]);
    assert!(world.replica(2).digest() == digest || world.replica(2).op() > op);
}

/// R12: what was acknowledged in an earlier term does not count in a later one.
//= R12
#[test]
fn acknowledgements_belong_to_one_ballot() {
    let mut world = World::new(3);
    world.commit(0, "a");
    for gone in [0, 1, 2] {
        world.until("quiet", 3_000_000, World::all_equal);
        if gone == 2 {
            world.hold = |_, to, m| to == 0 && matches!(m, Message::PrepareOk { .. });
        }
        world.cut_off.insert(gone);
        world.until("another leads", 3_000_000, |w| w.leader().is_some_and(|id| id != gone));
        if gone < 2 {
            world.cut_off.clear();
        }
    }
    assert_eq!(world.leader(), Some(0));
    assert!(world.replica(0).peers().all(|peer| peer.acknowledged == Op(0)));
}

#[test]
fn a_single_member_goes_on_after_a_clean_stop() {
    let mut world = World::new(1);
    world.commit(0, "a");
    let replica = world.replica(0);
    let log = vec![replica.entry(Op(1)).expect("it is held").clone()];
    world.crash(0);
    world.restart_clean(0, super::world::Ledger::default(), log, Op(0), Ballot::default());
    world.commit(0, "b");
    assert_eq!(world.lines(0), ["a", "b"]);
    assert_eq!(world.replica(0).ballot().view, View(1));
}
