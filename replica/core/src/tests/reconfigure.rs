//! Reconfiguration: the corner cases that the paper leaves open, learners, new ids, orders, and the hand-off.

use super::world::{Outcome, World};
use crate::*;

fn learner(id: u64) -> impl FnOnce(&mut Configuration) {
    move |next| next.learners.push(Member::bare(ReplicaId(id)))
}

fn promote(id: u64) -> impl FnOnce(&mut Configuration) {
    move |next| {
        let at = next.learners.iter().position(|m| m.id == ReplicaId(id)).expect("it learns");
        next.order.push(next.learners.remove(at));
    }
}

fn remove(id: u64) -> impl FnOnce(&mut Configuration) {
    move |next| {
        next.order.retain(|m| m.id != ReplicaId(id));
        next.learners.retain(|m| m.id != ReplicaId(id));
    }
}

/// Three voters and a learner that has caught up.
fn with_a_learner(id: u64) -> World {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.join(id, 0);
    assert_eq!(world.reconfigure(0, learner(id)), Ok(Epoch(1)));
    world.until("the learner is there", 3_000_000, World::settled);
    world
}

//= R19
#[test]
fn another_order_is_in_force_at_once_and_nothing_is_fetched() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let before = world.now;
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    world.until("the new primary", 1_000_000, |w| w.leader() == Some(1));
    world.commit(2, "b");
    assert!(world.now - before < 50_000, "{} us", world.now - before);
    world.until("all there", 1_000_000, World::settled);
    for id in 0..3 {
        let counters = world.replica(id).counters();
        assert_eq!((counters.entries_fetched, counters.states_fetched), (0, 0), "replica {id}");
    }
    assert_eq!(world.replica(0).ballot(), Ballot { epoch: Epoch(1), view: View(0) });
}

#[test]
fn a_replica_is_replaced_by_a_new_one() {
    let mut world = with_a_learner(3);
    assert!(!world.replica(3).is_voter());
    world.crash(2);
    let replace = |next: &mut Configuration| {
        promote(3)(next);
        remove(2)(next);
    };
    assert_eq!(world.reconfigure(1, replace), Ok(Epoch(2)));
    world.commit(3, "b");
    world.until("all there", 2_000_000, World::settled);
    // It counts: with another one gone, it and the last of the first three go on.
    world.crash(1);
    world.commit(0, "c");
    world.until("it is there", 1_000_000, |w| w.lines(3) == ["a", "b", "c"]);
}

//= R17
#[test]
fn a_learner_counts_nowhere() {
    let mut world = with_a_learner(3);
    world.crash(1);
    world.crash(2);
    let number = world.submit(0, "b");
    world.run(2_000_000);
    assert!(
        !world.nodes[&0].outcomes.contains_key(&number),
        "one voter of three and a learner are no quorum"
    );
    assert!(world.replica(3).ballot().view == View(0), "it intends nothing");
}

/// Corner: reconfiguration while partitioned. The minority cannot commit; its epoch is dead on contact.
#[test]
fn a_minority_cannot_reconfigure() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.cut_off.insert(0);
    let token = world.propose(0, remove(2));
    world.until("another leads", 3_000_000, |w| w.leader().is_some());
    assert_eq!(world.reconfigure(1, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    world.commit(2, "b");
    assert_eq!(world.replica(0).configuration().epoch, Epoch(0));
    world.cut_off.clear();
    world.until("all there", 5_000_000, World::settled);
    world.until("its answer", 8_000_000, |w| w.nodes[&0].reconfigured.contains_key(&token));
    assert!(world.nodes[&0].reconfigured[&token].is_err());
    assert_eq!(world.lines(0), ["a", "b"]);
    assert_eq!(world.replica(0).configuration().order.len(), 3);
}

/// Corner: the primary dies mid-way. The view change of e finds it last in the log and may only commit it.
//= R15
#[test]
fn a_reconfiguration_that_was_begun_is_finished_by_the_next_primary() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    // It is prepared everywhere, and nobody hears that it is committed.
    world.hold = |_, to, m| to == 0 && matches!(m, Message::PrepareOk { .. });
    let token = world.propose(1, remove(0));
    world.run(20_000);
    let last = world.replica(1).op();
    assert_eq!(world.replica(1).entry(last).map(|entry| entry.header.kind), Some(Kind::Reconfigure));
    world.crash(0);
    let number = world.submit(2, "b");
    world.until("the epoch", 5_000_000, |w| w.replica(1).configuration().epoch == Epoch(1));
    world.until("both there", 5_000_000, World::settled);
    assert_eq!(world.nodes[&1].reconfigured[&token], Ok(Epoch(1)));
    world.until("an answer", 3_000_000, |w| w.nodes[&2].outcomes.contains_key(&number));
    let entry = world.replica(1).entry(last.next()).expect("it is held");
    assert_eq!(entry.header.ballot.epoch, Epoch(1), "nothing follows it in its epoch");
}

/// Corner: it removes the primary. The primary finishes; the first of the new order leads.
#[test]
fn a_primary_finishes_its_own_removal() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let number = world.submit(1, "b");
    assert_eq!(world.reconfigure(0, remove(0)), Ok(Epoch(1)));
    world.until("the next one leads", 500_000, |w| w.replica(1).is_primary());
    assert_eq!(world.replica(1).ballot(), Ballot { epoch: Epoch(1), view: View(0) });
    world.until("it is released", 2_000_000, |w| w.nodes[&0].retired == Some(Epoch(1)));
    assert_eq!(world.replica(0).status(), Status::Retiring);
    world.until("an answer", 2_000_000, |w| w.nodes[&1].outcomes.contains_key(&number));
    world.crash(0);
    world.commit(2, "c");
    assert_eq!(world.lines(1), ["a", "b", "c"]);
}

/// Corner: the one that is to be removed is the only one that knows that it was agreed. It serves until the others act.
#[test]
fn a_removed_primary_brings_the_others_along() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let before = world.replica(0).op();
    world.propose(0, remove(0));
    world.until("it is proposed", 1_000_000, |w| w.replica(0).op() > before);
    world.hold = |from, _, m| from == 0 && matches!(m, Message::Commit { .. } | Message::NewEpoch { .. });
    world.until("it knows", 1_000_000, |w| w.replica(0).status() == Status::Retiring);
    world.run(10_000);
    assert_eq!(world.nodes[&0].retired, None, "nobody acts in the new epoch yet");
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("the others", 2_000_000, World::settled);
    world.until("it is released", 2_000_000, |w| w.nodes[&0].retired.is_some());
}

/// Corner: a learner loses its memory after it has proved to be ready. It comes to the epoch by fetching the log.
//= R16
#[test]
fn a_promoted_learner_without_memory_acts_only_with_the_log() {
    let mut world = with_a_learner(3);
    world.hold = |_, to, m| to == 3 && matches!(m, Message::Prepare { .. } | Message::Commit { .. });
    let token = world.propose(0, promote(3));
    world.hold = |_, to, m| to == 3 && matches!(m, Message::Prepare { .. });
    world.held.clear();
    world.until("agreed", 2_000_000, |w| w.nodes[&0].reconfigured.contains_key(&token));
    assert_eq!(world.nodes[&0].reconfigured[&token], Ok(Epoch(2)));
    world.crash(3);
    world.hold = |_, _, _| false;
    world.held.clear();
    world.recover(3);
    assert!(matches!(world.replica(3).status(), Status::Recovering | Status::Transitioning));
    world.commit(0, "b");
    world.until("it is there", 3_000_000, World::settled);
    assert_eq!(world.lines(3), ["a", "b"]);
    assert!(world.votes[&3].ballot.epoch == Epoch(2));
}

/// Corner: two propose at once. One compare-and-swap wins.
//= R15
#[test]
fn one_of_two_proposals_wins() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let first = world.propose(1, |next| next.order.rotate_left(1));
    let second = world.propose(2, |next| next.order.rotate_left(2));
    world.until("both are answered", 8_000_000, |w| {
        w.nodes[&1].reconfigured.contains_key(&first) && w.nodes[&2].reconfigured.contains_key(&second)
    });
    let outcomes = [&world.nodes[&1].reconfigured[&first], &world.nodes[&2].reconfigured[&second]];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|o| matches!(o, Err(Refusal::Pending { .. } | Refusal::Stale { .. }))));
    world.until("all there", 2_000_000, World::settled);
    let stale = world.propose_instead(0, world.configuration().id(), Configuration::default());
    world.until("an answer", 6_000_000, |w| w.nodes[&0].reconfigured.contains_key(&stale));
    assert!(matches!(world.nodes[&0].reconfigured[&stale], Err(Refusal::Stale { epoch: Epoch(1), .. })));
}

/// Corner: new members are unreachable. It is not proposed.
//= R17
#[test]
fn a_learner_that_does_not_answer_is_not_promoted() {
    let mut world = with_a_learner(3);
    world.crash(3);
    assert_eq!(world.reconfigure(0, promote(3)), Err(Refusal::NotReady { id: ReplicaId(3), lag: None }));
    assert_eq!(world.replica(0).configuration().epoch, Epoch(1));
    world.commit(1, "b");
}

/// Corner: new members die right after. Those of the epoch before still give what they have.
//= R18
#[test]
fn removed_members_serve_until_the_new_epoch_has_started() {
    let mut world = with_a_learner(3);
    // All of the first three go; the one that stays alone hears nothing of it at first.
    world.hold = |_, to, m| to == 3 && !matches!(m, Message::Commit { .. });
    let alone = |next: &mut Configuration| {
        next.order = std::mem::take(&mut next.learners);
    };
    let token = world.propose(0, alone);
    world.until("agreed", 2_000_000, |w| w.nodes[&0].reconfigured.contains_key(&token));
    world.run(300_000);
    assert!((0..3).all(|id| world.nodes[&id].retired.is_none()), "nobody has begun the new epoch");
    world.hold = |_, _, _| false;
    world.held.clear();
    world.until("it goes on alone", 3_000_000, |w| w.replica(3).is_primary());
    world.until("all are released", 3_000_000, |w| (0..3).all(|id| w.nodes[&id].retired.is_some()));
    world.commit(3, "b");
    assert_eq!(world.lines(3), ["a", "b"]);
}

/// Corner: a returning member of an old epoch is redirected, and votes nowhere.
//= R18
#[test]
fn a_returning_member_of_an_old_epoch_is_told_and_ends() {
    let mut world = with_a_learner(3);
    world.crash(2);
    assert_eq!(
        world.reconfigure(0, |next| {
            promote(3)(next);
            remove(2)(next)
        }),
        Ok(Epoch(2))
    );
    world.until("all there", 2_000_000, World::settled);
    // Another change on top: those that are left no longer know it as one of the epoch before.
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(3)));
    world.until("all there", 2_000_000, World::settled);
    world.recover(2);
    world.until("it is told", 3_000_000, |w| w.nodes[&2].retired.is_some());
    assert_eq!(world.replica(2).status(), Status::Retiring);
    let sent = world.mail.len();
    world.run(1_000_000);
    assert!(!world.mail.iter().any(|letter| letter.envelope.from == ReplicaId(2)), "{sent}");
    world.commit(1, "b");
}

/// The same with its memory: it was only cut off.
#[test]
fn a_member_that_was_cut_off_finds_itself_removed() {
    let mut world = World::new(4);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    world.cut_off.insert(0);
    world.until("another leads", 3_000_000, |w| w.leader().is_some());
    let number = world.submit(0, "lost");
    assert_eq!(world.reconfigure(1, remove(0)), Ok(Epoch(1)));
    world.commit(2, "b");
    world.cut_off.clear();
    world.until("it is told", 3_000_000, |w| w.nodes[&0].retired.is_some());
    assert_eq!(world.nodes[&0].outcomes[&number], Outcome::Unknown);
    world.until("the rest", 1_000_000, World::settled);
    assert_eq!(world.lines(3), ["a", "b"]);
}

#[test]
fn a_replica_without_memory_finds_an_epoch_that_it_has_promised_and_forgotten() {
    let mut world = World::new(3);
    world.commit(0, "a");
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    world.until("all there", 2_000_000, World::settled);
    world.crash(2);
    // The disk with the configuration is gone, that with the vote record is not.
    world.configurations.remove(&2);
    world.recover(2);
    assert_eq!(
        (world.replica(2).status(), world.replica(2).configuration().epoch),
        (Status::Recovering, Epoch(0))
    );
    world.until("it is back", 3_000_000, World::settled);
    world.commit(2, "b");
}

#[test]
fn a_cluster_in_which_all_lost_their_memory_says_so_in_any_epoch() {
    let mut world = World::new(3);
    world.commit(0, "a");
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    world.until("all there", 2_000_000, World::settled);
    (0..3).for_each(|id| world.crash(id));
    (0..3).for_each(|id| world.recover(id));
    world.until("all say so", 3_000_000, |w| {
        w.nodes.values().all(|n| n.replica.status() == Status::QuorumLost)
    });
}

/// R6: a new id that starts a second time with an empty disk may go on as a learner, but never as a voter.
#[test]
fn a_new_id_whose_disk_is_lost_goes_on_only_while_it_learns() {
    let mut world = with_a_learner(3);
    world.lose_disk(3);
    world.run(10_000);
    world.join(3, 0);
    world.until("it learns again", 3_000_000, World::settled);
    assert_eq!(world.reconfigure(0, promote(3)), Ok(Epoch(2)));
    world.until("it votes", 2_000_000, World::settled);
    world.lose_disk(3);
    world.run(10_000);
    // What it is told at this start is old: it says that it learns.
    let old = world.lineage[&Epoch(1)].clone();
    world.configurations.insert(9, old);
    world.join(3, 9);
    world.until("it stops", 3_000_000, |w| w.nodes[&3].fatal.is_some());
    assert_eq!(world.replica(3).status(), Status::Halted);
    assert!(!world.votes.contains_key(&3), "it has promised nothing");
    let reason = world.nodes[&3].fatal.clone().expect("it has one");
    assert!(reason.contains("new replica id"), "{reason}");
}

/// The same while those that it can reach are behind: their word that it learns is not enough.
#[test]
fn a_new_id_does_not_trust_those_who_are_behind() {
    let mut world = with_a_learner(3);
    world.cut_off.insert(2);
    assert_eq!(world.reconfigure(0, promote(3)), Ok(Epoch(2)));
    world.run(500_000);
    world.lose_disk(3);
    world.cut_off = [0, 1].into();
    assert_eq!(world.replica(2).configuration().epoch, Epoch(1));
    world.join(3, 2);
    world.run(2_000_000);
    assert_eq!(world.replica(3).status(), Status::Transitioning, "no primary has confirmed that it may act");
    assert!(!world.votes.contains_key(&3));
    world.cut_off.clear();
    world.until("it stops", 5_000_000, |w| w.nodes[&3].fatal.is_some());
}

#[test]
fn ids_are_not_used_again() {
    let mut world = with_a_learner(3);
    assert_eq!(world.reconfigure(0, remove(3)), Ok(Epoch(2)));
    world.until("there", 2_000_000, World::settled);
    assert_eq!(world.reconfigure(0, learner(3)), Err(Refusal::ReusedId(ReplicaId(3))));
    assert_eq!(world.reconfigure(0, learner(4)), Ok(Epoch(3)));
}

#[test]
fn a_state_that_is_fetched_brings_its_epoch() {
    let mut world = World::new(3);
    world.options.log_bytes = 600;
    world.commit(0, "a");
    world.crash(2);
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    for round in 0..3 {
        (0..8).for_each(|i| {
            world.commit(1, &format!("{round}-{i}"));
        });
        let primary = world.leader().expect("one leads");
        world.input(primary, Input::Cut);
        world.run(200_000);
    }
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(2)));
    world.recover(2);
    world.until("it is back", 5_000_000, World::settled);
    assert_eq!(world.replica(2).counters().states_fetched, 1);
    assert_eq!(world.lines(2), world.lines(0));
}

#[test]
fn a_commit_waits_for_a_second_domain_if_it_must() {
    let mut world = World::new(3);
    world.commit(0, "a");
    let spread = |next: &mut Configuration| {
        next.span_domains = true;
        for (member, domain) in next.order.iter_mut().zip(["x", "x", "y"]) {
            member.domain = domain.to_owned();
        }
    };
    assert_eq!(world.reconfigure(0, spread), Ok(Epoch(1)));
    world.until("there", 2_000_000, World::settled);
    world.commit(0, "b");
    world.cut_off.insert(2);
    let number = world.submit(0, "c");
    world.run(2_000_000);
    assert!(!world.nodes[&0].outcomes.contains_key(&number), "both of x are a majority, but of one domain");
    world.cut_off.clear();
    world.until("an answer", 2_000_000, |w| w.nodes[&0].outcomes.contains_key(&number));
}

#[test]
fn the_primary_hands_over_within_a_few_round_trips() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    let before = world.now;
    let ballot = world.hand_off(0, 2).expect("it is ready");
    assert_eq!((ballot.view, world.leader()), (View(2), Some(2)));
    world.commit(1, "b");
    assert!(world.now - before < 20_000, "{} us", world.now - before);
    world.until("all agree", 1_000_000, World::all_equal);
    assert_eq!(world.lines(0), ["a", "b"]);
    // And on to one that stands before it in the order.
    assert_eq!(world.hand_off(2, 1).expect("it is ready").view, View(4));
}

#[test]
fn a_hand_off_is_refused_with_the_reason() {
    let mut world = World::new(3);
    world.commit(0, "a");
    world.until("quiet", 1_000_000, World::all_equal);
    assert_eq!(world.hand_off(1, 2), Err(HandOffRefusal::NotPrimary(ReplicaId(0))));
    assert_eq!(world.hand_off(0, 0), Err(HandOffRefusal::AlreadyLeads(ReplicaId(0))));
    assert_eq!(world.hand_off(0, 7), Err(HandOffRefusal::NotAVoter(ReplicaId(7))));
    world.crash(2);
    world.run(1_000_000);
    assert!(matches!(world.hand_off(0, 2), Err(HandOffRefusal::NotReady { id: ReplicaId(2), .. })));
    world.commit(1, "b");
    assert_eq!(world.leader(), Some(0));
    // One that lives, but does not have the end of the log in time: the primary goes on.
    world.hold = |_, to, m| to == 1 && matches!(m, Message::Prepare { .. } | Message::Entries { .. });
    let number = world.submit(0, "c");
    assert!(matches!(world.hand_off(0, 1), Err(HandOffRefusal::NotReady { id: ReplicaId(1), .. })));
    world.hold = |_, _, _| false;
    world.held.clear();
    world.until("an answer", 2_000_000, |w| w.nodes[&0].outcomes.contains_key(&number));
    assert_eq!(world.leader(), Some(0));
}

/// Nobody repeats the acknowledgement of a log that does not grow, and a new primary has heard none yet.
#[test]
fn the_primary_hands_over_although_an_acknowledgement_was_lost() {
    let mut world = World::new(3);
    for _ in 0..100 {
        world.commit(0, "a");
    }
    world.until("quiet", 1_000_000, World::all_equal);
    world.hold = |_, to, m| to == 1 && matches!(m, Message::PrepareOk { .. });
    assert_eq!(world.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(1)));
    world.until("the new primary", 1_000_000, |w| w.leader() == Some(1));
    world.held.clear();
    world.hold = |_, _, _| false;
    world.until("all there", 1_000_000, World::settled);
    world.hand_off(1, 2).expect("it is ready");
    assert_eq!(world.leader(), Some(2));
}

/// 0 acts in the next epoch. 1 has the entry that began it and does not know that it is committed; 2 has been told of the
/// epoch, and has not its log.
fn end_an_epoch_by_halves(world: &mut World) {
    world.until("quiet", 1_000_000, World::all_equal);
    world.hold = |from, to, m| match (from, to) {
        (0, 1) => matches!(m, Message::Commit { .. } | Message::NewEpoch { .. }),
        (_, 2) => !matches!(m, Message::Commit { .. } | Message::NewEpoch { .. }),
        _ => false,
    };
    world.propose(0, |next| next.order.rotate_left(1));
    world.until("2 has heard", 1_000_000, |w| w.replica(2).status() == Status::Transitioning);
    world.until("0 acts", 1_000_000, |w| w.votes[&0].ballot.epoch > w.votes[&2].ballot.epoch);
}

/// Replica 1 holds the entry that ends the epoch, but nobody has told it that this is committed; replica 2 has been told of
/// the new epoch, but not its log; and replica 0, which knew both, loses its memory. What 2 was told is all that 1 lacks,
/// also if 2 has been started anew since.
//= R18
#[test]
fn what_was_only_heard_of_an_epoch_is_passed_on() {
    for restarted in [false, true] {
        let mut world = World::new(3);
        world.commit(0, "a");
        end_an_epoch_by_halves(&mut world);
        assert_eq!((world.replica(1).op(), world.replica(1).commit()), (Op(2), Op(1)));
        assert_eq!(world.replica(2).op(), Op(1));
        world.crash(0);
        world.mail.clear();
        world.held.clear();
        world.hold = |_, _, _| false;
        if restarted {
            let left = world.node(2).replica.leave().expect("it has its memory");
            world.crash(2);
            world.restart_clean(2, left.snapshot, left.tail, left.op, left.last_normal);
        }
        world.recover(0);
        world.until("all act in the new epoch", 5_000_000, World::settled);
        world.commit(2, "b");
        assert_eq!(world.lines(1), ["a", "b"]);
    }
}

/// Replica 2 has heard of an epoch, without its log, when the two that had that lose their memory; 0 had acted there.
fn lost_between_two_epochs(mut world: World) -> World {
    end_an_epoch_by_halves(&mut world);
    (0..2).for_each(|id| world.crash(id));
    world.mail.clear();
    world.held.clear();
    world.hold = |_, _, _| false;
    (0..2).for_each(|id| world.recover(id));
    world
}

/// Found by the simulator (seed 73551823 of its day): nobody can show the beginning of the epoch, and all waited for it.
//= R7
#[test]
fn a_majority_that_is_lost_between_two_epochs_is_said_to_be() {
    let mut world = World::new(3);
    world.commit(0, "a");
    let mut world = lost_between_two_epochs(world);
    world.until("all say so", 5_000_000, |w| {
        w.nodes.values().all(|n| n.replica.status() == Status::QuorumLost)
    });
    world.run(5_000_000);
    assert!(world.nodes.values().all(|n| n.replica.status() == Status::QuorumLost));
}

//= R7
//= R16
#[test]
fn a_learner_that_has_the_beginning_of_an_epoch_brings_its_voters_to_it() {
    let mut world = lost_between_two_epochs(with_a_learner(3));
    world.hold = |from, _, _| from == 3;
    for _ in 0..100 {
        world.run(20_000);
        let lost = world.nodes.values().any(|n| n.replica.status() == Status::QuorumLost);
        assert!(!lost, "the learner has not answered");
    }
    world.hold = |_, _, _| false;
    world.held.clear();
    world.until("all act in the new epoch", 5_000_000, World::settled);
    world.commit(2, "b");
    assert_eq!(world.lines(1), ["a", "b"]);
}

/// Found by the simulator (seed 56072 of its day): who has started anew does not know the members of the epoch before,
/// and one of those may be the only one that has the entry which began this epoch.
#[test]
fn one_on_its_way_to_an_epoch_is_served_by_one_who_has_left_it() {
    //= R18
    let mut w = World::new(1);
    w.join(1, 0);
    w.reconfigure(0, learner(1)).expect("a learner is taken");
    w.until("the learner follows", 2_000_000, World::settled);
    w.hold =
        |from, _, message| from == 0 && matches!(message, Message::Prepare { .. } | Message::Entries { .. });
    w.reconfigure(0, |next| next.order = std::mem::take(&mut next.learners))
        .expect("one takes the other's place");
    w.run(200_000);
    assert_eq!(w.replica(1).status(), Status::Transitioning);
    let left = w.node(1).replica.leave().expect("it has its memory");
    w.crash(1);
    w.restart_clean(1, left.snapshot, left.tail, left.op, left.last_normal);
    w.hold = |_, _, _| false;
    w.held.clear();
    w.until("the new epoch acts", 3_000_000, |w| w.replica(1).status() == Status::Normal);
}

/// Found by the simulator (seed 43738 of its day): a learner suspects nobody, and would never have asked.
#[test]
fn a_learner_that_did_not_hear_of_its_removal_asks() {
    //= R18
    let mut w = with_a_learner(3);
    w.cut_off.insert(3);
    w.reconfigure(0, |next| next.learners.clear()).expect("a learner can go at any time");
    w.run(1_000_000);
    w.cut_off.clear();
    w.until("it is let go", 3_000_000, |w| w.nodes[&3].retired.is_some());
}

/// 0 and 1 end an epoch that they are not in any more, and end themselves before 2, which is alone in the next one, has
/// heard of it.
fn ended_by_those_who_left() -> World {
    let mut w = World::new(3);
    w.commit(0, "a");
    w.until("quiet", 1_000_000, World::all_equal);
    // It is asked whether it is ready; of the entry itself it hears nothing.
    w.hold = |_, to, message| match message {
        Message::Prepare { .. } | Message::Entries { .. } | Message::NewEpoch { .. } => to == 2,
        Message::Commit { commit, .. } => to == 2 && *commit > Op(1),
        _ => false,
    };
    w.propose(0, |next| next.order.retain(|member| member.id == ReplicaId(2)));
    w.until("both have left", 1_000_000, |w| (0..2).all(|id| w.replica(id).status() == Status::Retiring));
    assert_eq!(w.replica(2).configuration().epoch, Epoch(0));
    w
}

fn let_through(w: &mut World) {
    w.mail.clear();
    w.held.clear();
    w.hold = |_, _, _| false;
}

/// Found by the simulator (seed 1200012052 of its day): who had left was not started again, and 2 waited for its answer
/// for ever, without a word.
//= R7
//= R18
#[test]
fn those_who_left_without_memory_say_that_the_epoch_is_lost() {
    let mut w = ended_by_those_who_left();
    (0..2).for_each(|id| w.crash(id));
    let_through(&mut w);
    w.recover(0);
    w.until("2 says so", 5_000_000, |w| w.replica(2).status() == Status::QuorumLost);
    assert_eq!((w.replica(2).configuration().epoch, w.replica(0).status()), (Epoch(1), Status::Retiring));
}

//= R18
#[test]
fn those_who_left_with_their_memory_bring_the_epoch_when_they_are_started_again() {
    let mut w = ended_by_those_who_left();
    let left = w.node(1).replica.leave().expect("it has its memory");
    (0..2).for_each(|id| w.crash(id));
    let_through(&mut w);
    w.restart_clean(1, left.snapshot, left.tail, left.op, left.last_normal);
    w.until("2 acts", 5_000_000, World::settled);
    w.until("1 is let go", 3_000_000, |w| w.nodes[&1].retired.is_some());
    w.recover(0);
    w.until("0 is let go", 3_000_000, |w| w.nodes[&0].retired.is_some());
    w.commit(2, "b");
}

/// Found by the simulator (seed 2611336385 of its day): 1 has left with the whole log, and has only heard that there is a
/// next epoch. Nobody else has that log any more.
//= R18
#[test]
fn who_left_with_the_log_shows_it_although_it_was_only_told_where_the_epoch_begins() {
    for restarted in [false, true] {
        let mut w = World::new(3);
        w.commit(0, "a");
        w.until("quiet", 1_000_000, World::all_equal);
        w.hold = |_, to, message| match message {
            Message::Prepare { .. } | Message::Entries { .. } | Message::NewEpoch { .. } => to == 2,
            Message::Commit { commit, .. } => *commit > Op(1),
            _ => false,
        };
        w.propose(0, |next| next.order.retain(|member| member.id == ReplicaId(2)));
        w.until("both have left", 1_000_000, |w| (0..2).all(|id| w.replica(id).status() == Status::Retiring));
        w.crash(0);
        let_through(&mut w);
        if restarted {
            let left = w.node(1).replica.leave().expect("it has its memory");
            w.crash(1);
            w.restart_clean(1, left.snapshot, left.tail, left.op, left.last_normal);
        }
        w.until("2 acts", 5_000_000, World::settled);
        w.commit(2, "b");
        assert_eq!(w.lines(2), ["a", "b"]);
    }
}

/// Found by the simulator (seed 2221076282 of its day): who joined had fetched what a later view of the epoch committed,
/// and began in the first one, where it followed a primary with another log.
#[test]
fn who_joins_acts_in_no_view_before_what_it_has_executed() {
    //= R16
    let mut w = with_a_learner(3);
    w.cut_off.insert(3);
    assert_eq!(w.reconfigure(0, |next| next.order.rotate_left(1)), Ok(Epoch(2)));
    w.commit(1, "b");
    w.crash(1);
    w.until("another leads", 3_000_000, |w| w.leader().is_some_and(|leader| leader != 1));
    w.commit(0, "c");
    w.cut_off.clear();
    w.until("it acts", 3_000_000, |w| w.replica(3).status() == Status::Normal && w.lines(3).len() == 3);
    assert_eq!(w.replica(3).ballot(), Ballot { epoch: Epoch(2), view: View(1) });
}
