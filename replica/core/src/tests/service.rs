//! The normal case and what a client sees of it.

use super::world::{Outcome, World};
use crate::*;

#[test]
fn a_request_is_executed_everywhere_and_answered_by_its_gateway() {
    let mut world = World::new(3);
    assert_eq!(world.commit(0, "a"), Op(1));
    assert_eq!(world.commit(1, "b"), Op(2));
    assert_eq!(world.commit(2, "c"), Op(3));
    world.until("all have executed", 1_000_000, World::all_equal);
    (0..3).for_each(|id| assert_eq!(world.lines(id), ["a", "b", "c"]));
    assert_eq!(world.replica(0).ballot().view, View(0), "nobody had a reason to move");
}

#[test]
fn backups_execute_without_waiting_for_a_heartbeat() {
    let mut world = World::new(3);
    world.commit(0, "a");
    let then = world.now;
    world.until("all have executed", 1_000_000, World::all_equal);
    assert!(world.now - then < 5_000, "it took {} us", world.now - then);
}

#[test]
fn one_member_commits_at_once() {
    let mut world = World::new(1);
    assert_eq!(world.commit(0, "a"), Op(1));
    world.input(0, Input::Read { token: 1 });
    assert!(world.nodes[&0].reads[&1]);
}

#[test]
fn what_comes_in_one_turn_goes_in_one_entry() {
    let mut world = World::new(3);
    let now = Now { mono: world.now, wall: 0 };
    let mut out = Effects::new();
    let replica = &mut world.nodes.get_mut(&0).expect("it runs").replica;
    for number in 1..=100 {
        let body = bytes::Bytes::from_static(b"x");
        replica.step(now, Input::Submit { number: RequestNumber(number), body }, &mut out);
    }
    assert_eq!(replica.op(), Op(0));
    replica.step(now, Input::Turn, &mut out);
    assert_eq!(replica.op(), Op(1));
}

#[test]
fn lost_messages_are_said_again() {
    let mut world = World::new(3);
    world.commit(0, "a");
    for lost in [
        (|_, _, m| matches!(m, Message::Prepare { .. })) as fn(u64, u64, &Message) -> bool,
        |_, _, m| matches!(m, Message::PrepareOk { .. }),
        |_, _, m| matches!(m, Message::Forward { .. }),
    ] {
        world.hold = lost;
        let number = world.submit(1, "b");
        world.run(20_000);
        world.held.clear();
        world.hold = |_, _, _| false;
        world.until("the answer", 2_000_000, |w| {
            matches!(w.nodes[&1].outcomes.get(&number), Some(Outcome::Reply(_)))
        });
    }
    world.until("all have executed", 1_000_000, World::all_equal);
    assert_eq!(world.lines(2), ["a", "b", "b", "b"]);
}

#[test]
fn a_repeated_forward_is_executed_once() {
    let mut world = World::new(3);
    world.hold = |_, _, m| matches!(m, Message::Forward { .. });
    world.submit(1, "once");
    world.run(500_000);
    assert!(world.held.len() > 2, "the gateway says it again");
    world.hold = |_, _, _| false;
    world.release(|_, _, _| true);
    world.until("all have executed", 1_000_000, |w| w.replica(1).op() > Op(0) && w.all_equal());
    world.run(500_000);
    assert_eq!(world.lines(0), ["once"]);
}

#[test]
fn a_full_window_refuses_at_once() {
    let mut world = World::empty(3, Options { window: 4, ..Options::default() });
    (0..3).for_each(|id| world.start_complete(id, super::world::Ledger::default()));
    world.cut_off.insert(1);
    (0..5).for_each(|_| {
        world.submit(1, "x");
    });
    let outcomes = &world.nodes[&1].outcomes;
    assert_eq!(outcomes.iter().collect::<Vec<_>>(), [(&5, &Outcome::Rejected)]);
}

#[test]
fn what_waits_is_bounded_by_its_bytes_as_well() {
    let mut world = World::empty(3, Options { window_bytes: 10, ..Options::default() });
    (0..3).for_each(|id| world.start_complete(id, super::world::Ledger::default()));
    world.cut_off.insert(1);
    let long = "longer than ten bytes";
    assert_eq!(["1234567", "123", "1", long].map(|body| world.submit(1, body)), [1, 2, 3, 4]);
    let refused = |world: &World| world.nodes[&1].outcomes.keys().copied().collect::<Vec<_>>();
    assert_eq!(refused(&world), [3, 4], "ten bytes, and no more");
    world.cut_off.clear();
    world.until("what waited is executed", 3_000_000, |w| w.replica(1).op() > Op(0) && w.all_equal());
    let alone = world.submit(1, long);
    world.until("one alone may have any length", 3_000_000, |w| {
        matches!(w.nodes[&1].outcomes.get(&alone), Some(Outcome::Reply(_)))
    });
    assert_eq!(world.lines(0), ["1234567", "123", long]);
}

#[test]
fn a_number_that_no_request_has_is_refused() {
    let mut world = World::new(1);
    for number in [RequestNumber(0), RequestNumber(RequestNumber::HIGHEST.0 + 1), RequestNumber(u64::MAX)] {
        world.input(0, Input::Submit { number, body: "x".into() });
        assert_eq!(world.nodes[&0].outcomes.get(&number.0), Some(&Outcome::Rejected), "{number}");
    }
    world.commit(0, "a");
    assert_eq!(world.lines(0), ["a"]);
}

#[test]
fn reads_are_confirmed_at_the_primary_and_at_backups() {
    let mut world = World::new(3);
    let op = world.commit(0, "a");
    for id in 0..3 {
        world.input(id, Input::Read { token: 9 });
        assert!(!world.nodes[&id].reads.contains_key(&9), "not before a round");
        world.until("the read", 1_000_000, |w| w.nodes[&id].reads.get(&9) == Some(&true));
        assert!(world.replica(id).commit() >= op);
    }
}

#[test]
fn a_deposed_primary_confirms_no_read() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.cut_off.insert(0);
    world.until("another leads", 3_000_000, |w| w.leader().is_some_and(|id| id != 0));
    world.commit(1, "b");
    assert!(world.replica(0).is_primary(), "it does not know");
    world.input(0, Input::Read { token: 1 });
    world.run(2_000_000);
    assert!(!world.nodes[&0].reads.contains_key(&1));
    world.run(4_000_000);
    assert_eq!(world.nodes[&0].reads.get(&1), Some(&false), "it gives up in the end");
}

#[test]
fn a_round_begun_before_a_read_does_not_count_for_it() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.hold = |_, _, m| matches!(m, Message::CommitOk { .. });
    world.run(60_000);
    assert!(!world.held.is_empty(), "a heartbeat's round is on its way");
    let before = world.held.len();
    // No new message reaches the backups from here on, so only the old round can be confirmed.
    world.hold = |_, _, _| true;
    world.input(0, Input::Read { token: 1 });
    let old: Vec<_> = world.held.drain(..before).collect();
    for letter in old {
        world.input(letter.to, Input::Message(letter.envelope));
    }
    assert!(!world.nodes[&0].reads.contains_key(&1));
}

#[test]
fn cuts_are_certified_and_the_log_is_trimmed() {
    let mut world = World::new(3);
    for round in 0..4 {
        (0..5).for_each(|i| {
            world.commit(0, &format!("{round}-{i}"));
        });
        world.input(0, Input::Cut);
        world.until("certified", 1_000_000, |w| w.nodes.values().all(|n| n.certified.len() > round));
    }
    for id in 0..3 {
        assert!(world.replica(id).oldest() > Op(1), "the log goes back to the cut before the last one");
        assert!(world.replica(id).oldest() <= world.nodes[&id].certified[2].next());
    }
}

#[test]
fn a_full_log_asks_for_a_cut_by_itself() {
    let mut world = World::empty(3, Options { log_bytes: 1_000, ..Options::default() });
    (0..3).for_each(|id| world.start_complete(id, super::world::Ledger::default()));
    (0..20).for_each(|i| {
        world.commit(0, &format!("some sixty bytes of request that fill the log little by little {i}"));
    });
    world.until("certified", 1_000_000, |w| w.nodes.values().all(|n| !n.certified.is_empty()));
}

#[test]
fn a_different_root_quarantines_the_one_that_differs() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let now = Now { mono: world.now, wall: 0 };
    let mut out = Effects::new();
    let replica = &mut world.nodes.get_mut(&2).expect("it runs").replica;
    replica.step(now, Input::CutRoot { op: Op(1), root: Digest([1; 32]) }, &mut out);
    for from in [0, 1] {
        let envelope = Envelope {
            lineage: Lineage([7; 16]),
            generation: Generation(1),
            from: ReplicaId(from),
            incarnation: Incarnation(1),
            message: Message::Root { op: Op(1), root: Digest([2; 32]) },
        };
        replica.step(now, Input::Message(envelope), &mut out);
    }
    assert!(out.0.iter().any(|e| matches!(e, Effect::Diverged { op: Op(1), .. })));
    assert_eq!(replica.status(), Status::Halted);
    out.0.clear();
    replica.step(now, Input::Submit { number: RequestNumber(1), body: bytes::Bytes::new() }, &mut out);
    assert!(matches!(out.0[..], [Effect::Rejected { .. }]));
}

//= R20
#[test]
fn foreign_and_outdated_messages_stop_at_the_door() {
    let mut world = World::new(3);
    world.run(200_000);
    let vote = world.votes[&0];
    let good = Envelope {
        lineage: vote.lineage,
        generation: vote.generation,
        from: ReplicaId(0),
        incarnation: vote.incarnation,
        message: Message::StartViewChange { ballot: Ballot { epoch: Epoch(0), view: View(9) } },
    };
    let before = world.replica(1).counters();
    for envelope in [
        Envelope { lineage: Lineage([8; 16]), ..good.clone() },
        Envelope { generation: Generation(2), ..good.clone() },
        Envelope { from: ReplicaId(9), ..good.clone() },
        Envelope { from: ReplicaId(1), ..good.clone() },
        Envelope { incarnation: Incarnation(0), ..good.clone() },
    ] {
        world.input(1, Input::Message(envelope));
    }
    let after = world.replica(1).counters();
    assert_eq!(after.dropped_foreign - before.dropped_foreign, 4);
    assert_eq!(after.dropped_stale_incarnation - before.dropped_stale_incarnation, 1);
}

#[test]
fn a_replay_ends_where_the_replica_stands() {
    let mut world = World::new(3);
    (0..10).for_each(|i| {
        world.commit(i % 3, &format!("{i}"));
    });
    world.until("quiet", 1_000_000, World::all_equal);
    let replica = world.replica(1);
    let entries: Vec<Entry> =
        (1..=replica.op().0).map(|op| replica.entry(Op(op)).expect("nothing was trimmed").clone()).collect();
    let mut state = super::world::Ledger::default();
    let end = replay(&mut state, &[], entries.clone()).expect("the log is whole");
    assert_eq!((end.op, end.digest, end.time), (replica.commit(), replica.digest(), replica.time()));
    assert_eq!(&state, replica.state());
    let mut gap = entries.clone();
    gap.remove(4);
    let mut state = super::world::Ledger::default();
    assert!(matches!(replay(&mut state, &[], gap), Err(ReplayError::Gap { after: Op(4), found: Op(6) })));
    let mut damaged = entries;
    damaged[3].body = bytes::Bytes::from_static(b"other");
    let mut state = super::world::Ledger::default();
    assert!(matches!(replay(&mut state, &[], damaged), Err(ReplayError::Entry(_))));
}

#[test]
fn a_request_that_stands_in_the_log_twice_is_executed_once() {
    let mut body = Vec::new();
    crate::batch::push(&mut body, SessionId::default(), RequestNumber::REGISTER, b"");
    crate::batch::push(&mut body, SessionId::default(), RequestNumber(1), b"once");
    let entry =
        |op, parent| Entry::new(Op(op), Ballot::default(), Kind::Requests, 0, parent, body.clone().into());
    let first = entry(1, Digest::default());
    let second = entry(2, first.digest());
    let mut state = super::world::Ledger::default();
    let end = replay(&mut state, &[], [first, second]).expect("the log is whole");
    assert_eq!((end.op, end.entries, state.lines.len()), (Op(2), 2, 1));
}
