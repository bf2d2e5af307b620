//! Transfers of states whose source answers wrongly, for a while: nothing is taken over, nothing loops, and the first right
//! answers bring the state.

use super::recovery::fill_and_cut;
use super::world::World;
use crate::{Digest, Message, Status};
use bytes::Bytes;

/// A replica without memory fetches a state while `spoil` is done to every message; then it is left alone. Answers how
/// many questions it asked meanwhile.
fn spoilt(spoil: fn(&mut Message)) -> u64 {
    let mut world = World::new(3);
    fill_and_cut(&mut world, 3);
    world.crash(2);
    world.spoil = spoil;
    world.recover(2);
    world.run(2_000_000);
    let counters = world.replica(2).counters();
    assert_eq!(counters.states_fetched, 0);
    assert_ne!(world.replica(2).status(), Status::Normal);
    assert!(world.lines(2).is_empty(), "what is there stays as it is (R13)");
    let asked = world.replica(0).counters().portions_sent;
    world.commit(0, "meanwhile");
    world.spoil = |_| {};
    world.until("all agree", 5_000_000, World::all_equal);
    assert_eq!(world.replica(2).counters().states_fetched, 1);
    assert_eq!(world.lines(2), world.lines(0));
    asked
}

/// So many questions in two seconds are some at each retry, not one after the other.
const FEW: u64 = 2_000;

#[test]
fn portions_that_are_cut_short_are_refused() {
    let asked = spoilt(|message| {
        if let Message::State { portion, .. } = message {
            portion.truncate(5);
        }
    });
    assert!((10..FEW).contains(&asked), "{asked}");
}

#[test]
fn portions_that_bring_nothing_for_ever_are_refused() {
    let asked = spoilt(|message| {
        if let Message::State { portion, .. } = message {
            portion.truncate(8);
        }
    });
    assert!((10..FEW).contains(&asked), "{asked}");
}

#[test]
fn a_sequence_that_claims_no_end_is_refused() {
    let asked = spoilt(|message| {
        if let Message::State { portion, .. } = message
            && !portion.is_empty()
        {
            *portion = [&u64::MAX.to_le_bytes()[..], &portion[8..]].concat().into();
        }
    });
    assert!((10..FEW).contains(&asked), "{asked}");
}

#[test]
fn a_state_of_another_root_is_refused_at_the_end() {
    let asked = spoilt(|message| {
        if let Message::State { root, .. } = message {
            *root = Digest([7; 32]);
        }
    });
    assert!(asked > 10, "{asked}");
}

#[test]
fn a_portion_whose_bytes_have_changed_makes_another_state_and_is_refused() {
    let asked = spoilt(|message| {
        if let Message::State { portion, .. } = message
            && portion.len() > 20
        {
            let mut bytes = portion.to_vec();
            bytes[20] ^= 1;
            *portion = Bytes::from(bytes);
        }
    });
    assert!(asked > 10, "{asked}");
}

#[test]
fn an_answer_to_another_question_is_not_taken_for_this_one() {
    let asked = spoilt(|message| {
        if let Message::State { number, portion, .. } = message
            && !portion.is_empty()
        {
            *number += 1;
        }
    });
    assert!((1..FEW).contains(&asked), "{asked}");
}
