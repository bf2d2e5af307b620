//! Loss of memory: of one, of the primary, of all; and the trace that the paper's recovery does not survive.

use super::world::{Ledger, Outcome, World};
use crate::*;

//= R2
#[test]
fn a_backup_comes_back_from_the_primary_alone() {
    let mut world = World::new(3);
    (0..10).for_each(|i| {
        world.commit(0, &format!("{i}"));
    });
    world.crash(2);
    world.crash(1);
    world.recover(2);
    world.until("it is back", 2_000_000, |w| w.replica(2).status() == Status::Normal);
    assert_eq!(world.replica(2).ballot().view, View(0));
    world.commit(2, "more");
    assert_eq!(world.lines(2).len(), 11);
}

#[test]
fn a_primary_comes_back_as_a_backup() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(0);
    world.recover(0);
    world.until("all agree", 3_000_000, World::all_equal);
    assert!(world.replica(0).ballot() > Ballot::default());
    world.commit(0, "b");
    assert_eq!(world.lines(0), ["a", "b"]);
}

/// The finding on the protocol's page, step by step: with never more than one replica down, slow messages of a view
/// change that both parties have forgotten must not lose the acknowledged X.
//= R1
#[test]
fn forgotten_votes_do_not_lose_an_acknowledged_write() {
    let votes = |m: &Message| {
        matches!(m, Message::StartViewChange { .. } | Message::DoViewChange { .. } | Message::Standing { .. })
    };
    let mut world = World::new(3);
    world.run(120_000);
    // 1. Replicas 1 and 2 hear nothing of the primary; their intents are slow.
    world.hold =
        |from, _, m| from == 0 || matches!(m, Message::StartViewChange { .. } | Message::Standing { .. });
    world.run(400_000);
    // 2. Replica 1 crashes and recovers in view 0, having forgotten its intent. Replica 2 hears nothing of it.
    world.crash(1);
    world.hold = |from, to, m| {
        to == 2 || matches!(m, Message::StartViewChange { .. } | Message::Standing { .. }) || from == 2
    };
    world.recover(1);
    world.until("replica 1 is back", 1_000_000, |w| w.replica(1).status() == Status::Normal);
    assert_eq!(world.replica(1).ballot().view, View(0));
    // 3. The old intent reaches replica 2: it votes for view 1, without X, and the vote is slow.
    world.release(|from, to, m| (from, to) == (1, 2) && matches!(m, Message::StartViewChange { .. }));
    world.until("the vote", 500_000, |w| {
        w.held.iter().any(|l| matches!(l.envelope.message, Message::DoViewChange { .. }))
    });
    // 4. Replica 2 crashes and asks for the view; replica 1 does not hear of it.
    world.crash(2);
    world.recover(2);
    world.hold = |from, to, m| {
        matches!(m, Message::StartViewChange { .. } | Message::DoViewChange { .. } | Message::Standing { .. })
            || (from == 2 && to == 1)
            || (from == 0 && to == 1)
    };
    world.run(500_000);
    // 5. X is proposed; only replica 2 could acknowledge it.
    let number = world.submit(0, "X");
    world.run(500_000);
    assert!(!world.nodes[&0].outcomes.contains_key(&number), "replica 2 has promised not to");
    // 6. The old messages arrive at last, and everything after them.
    world.release(|from, to, m| (from, to) == (2, 1) && votes(m));
    world.run(100_000);
    world.hold = |_, _, _| false;
    world.release(|_, _, _| true);
    world.until("all agree", 10_000_000, |w| w.all_equal() && w.replica(0).pending() == 0);
    assert!(matches!(world.nodes[&0].outcomes[&number], Outcome::Reply(_)));
    (0..3).for_each(|id| assert_eq!(world.lines(id), ["X"], "replica {id}"));
}

/// The core of the same finding, with the messages made by hand: a replica whose vote is durable does not come back
/// below it, so what it voted for cannot be undone by what it acknowledges later.
//= R2
#[test]
fn a_replica_does_not_recover_below_its_promise() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.crash(2);
    world.votes.get_mut(&2).expect("it has one").ballot.view = View(1);
    world.crash(1);
    world.recover(2);
    world.run(2_000_000);
    assert_eq!(world.replica(2).status(), Status::Recovering, "view 0 is below its promise");
    let number = world.submit(0, "X");
    world.run(1_000_000);
    assert!(!world.nodes[&0].outcomes.contains_key(&number), "its acknowledgement must not count in view 0");
}

/// R3: the promise of one that lost its memory brings the others up to it.
//= R3
#[test]
fn a_forgotten_promise_moves_the_others() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(2);
    world.votes.get_mut(&2).expect("it has one").ballot.view = View(4);
    world.recover(2);
    world.until("all agree", 5_000_000, World::all_equal);
    assert!(world.replica(2).ballot().view >= View(4));
    assert_eq!(world.lines(2), ["a"]);
}

//= R7
#[test]
fn all_without_memory_is_quorum_lost_and_nobody_is_elected() {
    let mut world = World::new(3);
    world.commit(0, "a");
    (0..3).for_each(|id| world.crash(id));
    world.recover(0);
    world.recover(1);
    world.run(2_000_000);
    assert_eq!(world.replica(0).status(), Status::Recovering, "the third might be the primary");
    world.recover(2);
    world.until("all say so", 2_000_000, |w| {
        w.nodes.values().all(|n| n.replica.status() == Status::QuorumLost)
    });
    let number = world.submit(1, "b");
    assert_eq!(world.nodes[&1].outcomes[&number], Outcome::Rejected);
    world.input(1, Input::Read { token: 1 });
    assert!(!world.nodes[&1].reads[&1]);
    world.run(5_000_000);
    assert!(world.nodes.values().all(|n| n.replica.status() == Status::QuorumLost));
}

#[test]
fn a_survivor_that_does_not_lead_cannot_save_a_majority_and_says_so() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.crash(0);
    world.crash(1);
    world.recover(0);
    world.recover(1);
    world.until("all say so", 5_000_000, |w| {
        w.nodes.values().all(|n| n.replica.status() == Status::QuorumLost)
    });
    assert_eq!(world.lines(2), ["a"], "the survivor keeps what it has for a restore");
}

#[test]
fn a_surviving_primary_brings_back_a_majority() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(1);
    world.crash(2);
    world.recover(1);
    world.recover(2);
    world.until("all agree", 3_000_000, World::all_equal);
    assert_eq!(world.lines(1), ["a"]);
}

#[test]
fn one_member_without_memory_is_quorum_lost() {
    let mut world = World::new(1);
    world.commit(0, "a");
    world.crash(0);
    world.recover(0);
    assert_eq!(world.replica(0).status(), Status::QuorumLost);
}

pub(super) fn fill_and_cut(world: &mut World, rounds: usize) {
    for round in 0..rounds {
        (0..8).for_each(|i| {
            world.commit(0, &format!("{round}-{i}"));
        });
        let before = world.nodes[&0].certified.len();
        world.input(0, Input::Cut);
        world.until("certified", 2_000_000, |w| w.nodes[&0].certified.len() > before);
    }
}

#[test]
fn a_state_is_fetched_where_the_log_is_gone() {
    let mut world = World::new(3);
    fill_and_cut(&mut world, 3);
    world.crash(2);
    world.recover(2);
    world.until("all agree", 3_000_000, World::all_equal);
    assert_eq!(world.replica(2).counters().states_fetched, 1);
    assert_eq!(world.lines(2), world.lines(0));
    world.commit(2, "more");
}

#[test]
fn a_checkpoint_saves_fetching_the_state() {
    let mut world = World::new(3);
    fill_and_cut(&mut world, 3);
    let checkpoint = world.nodes[&2].cut.clone().expect("it was cut");
    world.crash(2);
    world.recover_from(2, checkpoint);
    world.until("all agree", 3_000_000, World::all_equal);
    assert_eq!(world.replica(2).counters().states_fetched, 0);
    assert_eq!(world.lines(2), world.lines(0));
}

#[test]
fn a_lagging_backup_fetches_the_state_and_answers_unknown() {
    let mut world = World::new(3);
    world.commit(2, "first");
    // Its request is executed, but it hears nothing of it.
    world.hold = |from, to, _| to == 2 && from < 2;
    let number = world.submit(2, "mine");
    world.run(50_000);
    fill_and_cut(&mut world, 3);
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("all agree", 5_000_000, World::all_equal);
    assert_eq!(world.replica(2).counters().states_fetched, 1);
    assert_eq!(world.nodes[&2].outcomes[&number], Outcome::Unknown);
    assert_eq!(world.lines(2), world.lines(0));
    assert_eq!(world.lines(2).iter().filter(|line| *line == "mine").count(), 1);
}

//= R5
#[test]
fn a_checkpoint_of_another_history_is_fatal() {
    let mut ahead = World::new(3);
    fill_and_cut(&mut ahead, 2);
    let foreign = ahead.nodes[&2].cut.clone().expect("it was cut");
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(2);
    world.recover_from(2, foreign);
    world.run(1_000_000);
    let reason = world.nodes[&2].fatal.clone().expect("it must not go on");
    assert!(reason.contains("different histories"), "{reason}");
    assert_eq!(world.replica(2).status(), Status::Halted);
}

/// Found by the simulator (seed 880000179 of its day): after a majority had lost its memory, a primary of a view that all
/// others had left long ago made the newest checkpoint look like one of another history, to be thrown away.
//= R5
#[test]
fn a_primary_of_a_view_below_the_checkpoint_is_not_believed() {
    let mut later = World::new(3);
    later.hand_off(0, 1).expect("all are well");
    (0..8).for_each(|i| {
        later.commit(0, &format!("{i}"));
    });
    later.input(1, Input::Cut);
    later.until("cut", 2_000_000, |w| w.nodes[&2].cut.is_some());
    let newest = later.nodes[&2].cut.clone().expect("it was cut");
    let mut world = World::new(3);
    world.commit(0, "a");
    world.crash(2);
    world.recover_from(2, newest);
    world.run(2_000_000);
    assert_eq!(world.nodes[&2].fatal, None);
    assert_eq!(
        world.replica(2).status(),
        Status::Recovering,
        "it waits for a primary of its view or a later one"
    );
}

#[test]
fn a_checkpoint_that_the_log_contradicts_is_fatal() {
    let mut other = World::new(3);
    other.commit(1, "other");
    other.input(0, Input::Cut);
    other.until("cut", 1_000_000, |w| w.nodes[&2].cut.is_some());
    let foreign = other.nodes[&2].cut.clone().expect("it was cut");
    let mut world = World::new(3);
    (0..6).for_each(|i| {
        world.commit(0, &format!("{i}"));
    });
    world.crash(2);
    world.recover_from(2, foreign);
    world.run(1_000_000);
    let reason = world.nodes[&2].fatal.clone().expect("it must not go on");
    assert!(reason.contains("contradicts"), "{reason}");
}

//= R6
#[test]
fn a_vote_record_of_somebody_else_is_refused() {
    let mut world = World::new(3);
    let vote = VoteRecord { replica: ReplicaId(1), ..world.votes[&0] };
    let configuration = world.configuration();
    let mut out = Effects::new();
    let mut start = |id: u64, vote: VoteRecord, configuration: Configuration| {
        let start = Start::Amnesiac { state: Ledger::default() };
        let boot = Boot { id: ReplicaId(id), vote, configuration, begun: None, start, seed: 1 };
        Replica::new(boot, Options::default(), Now { mono: 0, wall: 0 }, &mut out).err()
    };
    assert!(matches!(start(0, vote, configuration.clone()), Some(BootError::Vote { .. })));
    assert!(matches!(start(9, vote, configuration.clone()), Some(BootError::NotAMember(_))));
    let twice = Configuration::bare(Epoch(0), [0, 0].map(ReplicaId));
    assert!(matches!(start(0, world.votes[&0], twice), Some(BootError::Members { .. })));
    let later = VoteRecord { ballot: Ballot { epoch: Epoch(3), view: View(0) }, ..world.votes[&0] };
    assert!(start(0, later, configuration.clone()).is_none(), "without memory it asks for that epoch");
    let complete = Start::Complete {
        state: Ledger::default(),
        log: Vec::new(),
        commit: Op(0),
        last_normal: Ballot::default(),
    };
    let boot = Boot {
        id: ReplicaId(0),
        vote: later,
        configuration: configuration.clone(),
        begun: None,
        start: complete,
        seed: 1,
    };
    let error = Replica::new(boot, Options::default(), Now { mono: 0, wall: 0 }, &mut Effects::new()).err();
    assert!(matches!(error, Some(BootError::Epoch { .. })), "it cannot be complete without that epoch");
    world.run(1);
}
