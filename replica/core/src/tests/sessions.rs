//! Clients with sessions of their own: opened by a Register, carried from replica to replica, forgotten, never repeated.

use super::world::{Told, World};
use crate::sessions::MAX_SESSIONS;
use crate::*;
use bytes::Bytes;

const CLIENT: u64 = SessionId::CLIENT | 77;

fn register(world: &mut World, id: u64, client: u64) -> SessionId {
    let opened = move |told: &Told| match told {
        Told::Registered(session) if session.client == client => Some(*session),
        _ => None,
    };
    world.input(id, Input::Register { client });
    world.until("a session", 5_000_000, |w| w.nodes[&id].told.iter().any(|told| opened(told).is_some()));
    world.nodes[&id].told.iter().find_map(opened).expect("it was just seen")
}

fn ask(world: &mut World, id: u64, session: SessionId, number: u64, line: &str) {
    let requests = vec![(RequestNumber(number), Bytes::copy_from_slice(line.as_bytes()))];
    world.input(id, Input::Requests { session, requests });
}

fn answered(world: &World, id: u64, session: SessionId, number: u64) -> usize {
    let is = |told: &&Told| matches!(told, Told::Answer(s, n, _) if (*s, *n) == (session, number));
    world.nodes[&id].told.iter().filter(is).count()
}

fn until_answered(world: &mut World, id: u64, session: SessionId, number: u64) {
    world.until("the answer", 5_000_000, |w| answered(w, id, session, number) > 0);
}

#[test]
fn a_client_registers_once_and_is_answered_by_every_replica() {
    let mut world = World::new(3);
    for id in [1, 0, 2] {
        let session = register(&mut world, id, CLIENT | (id << 8));
        assert!(session.is_client() && session.incarnation > Incarnation(0));
        assert_eq!(register(&mut world, (id + 1) % 3, session.client), session, "asked again elsewhere");
        ask(&mut world, id, session, 1, &format!("by {id}"));
        (0..3).for_each(|replica| until_answered(&mut world, replica, session, 1));
    }
    assert_eq!(world.lines(0), ["by 1", "by 0", "by 2"]);
    assert!((0..3).all(|id| world.replica(id).pending() == 0));
}

#[test]
fn a_request_without_a_session_is_never_executed() {
    let mut world = World::new(3);
    world.commit(0, "a");
    let never_opened = SessionId { client: CLIENT, incarnation: Incarnation(1) };
    for id in 0..3 {
        world.until("it is executed here", 1_000_000, |w| w.replica(id).commit() == Op(1));
        ask(&mut world, id, never_opened, 1, "stray");
        assert!(world.nodes[&id].told.contains(&Told::Forgotten(never_opened)), "replica {id}");
    }
    // One that a gateway cannot judge yet, because the op it is named by lies ahead: the primary does not take it.
    let ahead = SessionId { client: CLIENT, incarnation: Incarnation(100) };
    ask(&mut world, 1, ahead, 1, "stray");
    world.run(1_000_000);
    assert_eq!(world.lines(0), ["a"]);
    assert_eq!(world.replica(1).pending(), 1, "it waits until that op is executed here");
    for _ in world.replica(1).commit().0..100 {
        world.commit(0, "b");
    }
    world.until("it is told", 1_000_000, |w| w.nodes[&1].told.contains(&Told::Forgotten(ahead)));
    assert_eq!(world.replica(1).pending(), 0);
    assert!(!world.lines(0).contains(&"stray".to_owned()));
}

/// Found by the simulator (seed 2620058540 of its day): the client has its session from a replica that had executed the
/// Register, and turns with it to the next primary, which had not when it took the lead. Nobody ever queued the request.
#[test]
fn a_primary_serves_sessions_that_it_had_not_executed_when_it_took_the_lead() {
    let mut world = World::new(3);
    world.hold = |from, to, m| match m {
        Message::Commit { .. } => from == 0,
        Message::Forward { .. } => (from, to) == (1, 0),
        _ => false,
    };
    let session = register(&mut world, 0, CLIENT);
    ask(&mut world, 1, session, 1, "early");
    assert_eq!((world.replica(1).commit(), world.replica(1).pending()), (Op(0), 1));
    world.crash(0);
    world.held.clear();
    world.hold = |_, _, _| false;
    until_answered(&mut world, 1, session, 1);
    assert_eq!((world.leader(), world.lines(1)), (Some(1), vec!["early".to_owned()]));
}

#[test]
fn a_client_that_turns_to_another_replica_has_its_requests_executed_once() {
    let mut world = World::new(3);
    let session = register(&mut world, 1, CLIENT);
    world.hold = |_, _, m| matches!(m, Message::Forward { .. });
    (1..=3).for_each(|n| ask(&mut world, 1, session, n, &format!("{n}")));
    world.run(400_000);
    assert!(world.held.len() > 3, "sent again and again");
    world.input(1, Input::Leave { session });
    assert_eq!(world.replica(1).pending(), 0);
    // The client asks the primary itself, in another order; then everything that was under way arrives.
    [2, 1, 3].into_iter().for_each(|n| ask(&mut world, 0, session, n, &format!("{n}")));
    world.hold = |_, _, _| false;
    world.release(|_, _, _| true);
    (1..=3).for_each(|n| until_answered(&mut world, 0, session, n));
    world.run(1_000_000);
    let mut lines = world.lines(2);
    lines.sort();
    assert_eq!(lines, ["1", "2", "3"]);
    assert!((1..=3).all(|n| answered(&world, 0, session, n) == 1));
    // What is executed is not taken again, and nobody claims that it was not.
    ask(&mut world, 2, session, 2, "2");
    assert!(world.nodes[&2].told.contains(&Told::Declined(session, 2, Fate::Unknown)));
}

#[test]
fn a_client_s_requests_survive_the_primary_and_run_once() {
    let mut world = World::new(3);
    let session = register(&mut world, 1, CLIENT);
    world.hold = |from, _, m| from == 0 && matches!(m, Message::Prepare { .. } | Message::Commit { .. });
    ask(&mut world, 1, session, 1, "once");
    world.run(5_000);
    world.crash(0);
    world.hold = |_, _, _| false;
    until_answered(&mut world, 1, session, 1);
    world.release(|_, _, _| true);
    world.run(1_000_000);
    assert_eq!(world.lines(1), ["once"]);
    assert_eq!(world.lines(2), ["once"]);
}

#[test]
fn a_forgotten_session_is_said_to_be_and_none_of_its_requests_runs() {
    let mut world = World::new(3);
    let session = register(&mut world, 1, CLIENT);
    ask(&mut world, 1, session, 1, "kept");
    until_answered(&mut world, 1, session, 1);
    world.hold = |from, _, m| from == 1 && matches!(m, Message::Forward { .. });
    ask(&mut world, 1, session, 2, "late");
    world.run(10_000);
    for other in 0..MAX_SESSIONS as u64 {
        world.input(0, Input::Register { client: SessionId::CLIENT | (1 << 32) | other });
        if other % 512 == 0 {
            world.run(5_000);
        }
    }
    world.until("it is forgotten", 5_000_000, |w| w.nodes[&1].told.contains(&Told::Forgotten(session)));
    assert_eq!(world.replica(1).pending(), 0);
    world.hold = |_, _, _| false;
    world.release(|_, _, _| true);
    ask(&mut world, 2, session, 1, "kept");
    ask(&mut world, 2, session, 3, "later");
    world.run(1_000_000);
    assert!(world.nodes[&2].told.contains(&Told::Forgotten(session)));
    assert_eq!(world.lines(0), ["kept"]);
    // The client opens another, under the same number even, and goes on.
    let next = register(&mut world, 2, CLIENT);
    assert_ne!(next, session);
    ask(&mut world, 2, next, 1, "anew");
    until_answered(&mut world, 2, next, 1);
    assert_eq!(world.lines(0), ["kept", "anew"]);
}

#[test]
fn a_replica_whose_state_jumped_says_that_it_does_not_know() {
    let options = Options { log_bytes: 2_000, ..Options::default() };
    let mut world = World::empty(3, options);
    (0..3).for_each(|id| world.start_complete(id, super::world::Ledger::default()));
    let session = register(&mut world, 2, CLIENT);
    world.hold = |from, to, m| {
        (from == 2 || to == 2) && !matches!(m, Message::Forward { .. } | Message::StartViewChange { .. })
    };
    ask(&mut world, 2, session, 1, "unheard");
    world.until("it is executed", 1_000_000, |w| w.lines(0).contains(&"unheard".to_owned()));
    for n in 0..400 {
        world.commit(0, &format!("line {n} of many, long enough to fill a log"));
    }
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("the word on it", 10_000_000, |w| {
        w.nodes[&2].told.contains(&Told::Declined(session, 1, Fate::Unknown))
    });
    assert_eq!(world.replica(2).counters().states_fetched, 1);
    assert_eq!(answered(&world, 2, session, 1), 0);
    ask(&mut world, 2, session, 2, "after");
    until_answered(&mut world, 2, session, 2);
}

#[test]
fn clients_are_bounded_at_a_gateway() {
    let mut world = World::new(3);
    let session = register(&mut world, 1, CLIENT);
    world.cut_off.insert(1);
    let window = u64::try_from(Options::default().window).expect("small");
    ask(&mut world, 1, session, 1, "oldest");
    ask(&mut world, 1, session, window, "inside");
    ask(&mut world, 1, session, window + 1, "outside");
    assert!(world.nodes[&1].told.ends_with(&[Told::Declined(session, window + 1, Fate::Rejected)]));
    assert_eq!(world.replica(1).pending(), 2);
    let own = SessionId { client: 1, incarnation: Incarnation(1) };
    ask(&mut world, 1, own, 1, "in the gateway's own session");
    assert!(matches!(world.nodes[&1].told[..], [.., Told::Declined(..) | Told::Forgotten(..)]));
    assert_eq!(world.replica(1).pending(), 2);
}
