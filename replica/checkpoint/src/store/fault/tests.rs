//! Every fault strikes when it is told to, as often as it is told to, and leaves what it must.

use super::*;
use crate::store::MemStore;
use crate::store::tests::keeps_the_contract;
use futures_util::future::join_all;

fn store() -> FaultStore<MemStore> {
    FaultStore::new(MemStore::new())
}

fn once(on: On, key: &str, act: Act) -> Rule {
    Rule { on, key_contains: key.to_owned(), skip: 0, times: 1, act }
}

fn body() -> Bytes {
    Bytes::from_static(b"body")
}

#[tokio::test]
async fn without_rules_it_keeps_the_contract() {
    keeps_the_contract(&store()).await;
}

#[tokio::test]
async fn a_rule_strikes_its_requests_after_those_it_lets_pass_and_no_more() {
    let store = store();
    store.add(Rule { skip: 1, times: 2, ..once(On::Create, "/a", Act::Fail) });
    let mut failed = Vec::new();
    for key in ["g/a1", "g/b1", "g/a2", "g/a3", "g/a4"] {
        match store.create(key, body()).await {
            Ok(outcome) => assert_eq!(outcome, Created::Yes, "{key}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Transient { .. }), "{error}");
                assert!(error.to_string().contains(key), "{error}");
                failed.push(key);
            }
        }
    }
    assert_eq!(failed, ["g/a2", "g/a3"]);
    assert_eq!(store.pending(), 0);
    assert_eq!(store.inner().get("g/a2").await.expect("works"), None, "what fails does not happen");
}

#[tokio::test]
async fn refused_and_full_are_told_apart() {
    let store = store();
    store.add(once(On::Write, "", Act::NoSpace));
    store.add(once(On::Read, "", Act::Refuse));
    let full = store.create("g/a", body()).await.expect_err("full");
    assert!(
        matches!(&full, StoreError::Transient { reason, .. } if reason.contains("no free space")),
        "{full}"
    );
    let refused = store.head().await.expect_err("refused");
    assert!(matches!(refused, StoreError::Permanent { .. }), "{refused}");
    assert_eq!(store.create("g/a", body()).await.expect("works again"), Created::Yes);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_it_has_happened() {
    let store = store();
    store.add(once(On::Create, "", Act::LoseAnswer));
    assert_eq!(store.create("g/a", body()).await.expect("an outcome"), Created::Unknown);
    assert_eq!(store.get("g/a").await.expect("works"), Some(body()));
    store.add(once(On::SwapHead, "", Act::LoseAnswer));
    assert_eq!(store.swap_head(None, body()).await.expect("an outcome"), Swapped::Unknown);
    assert_eq!(store.head().await.expect("works").map(|(read, _)| read), Some(body()));
    store.add(once(On::Delete, "", Act::LoseAnswer));
    let error = store.delete("g/a").await.expect_err("no answer");
    assert!(matches!(error, StoreError::Transient { .. }), "{error}");
    assert_eq!(store.get("g/a").await.expect("works"), None);
}

#[tokio::test]
async fn after_the_stop_nothing_happens_until_it_is_revived() {
    for n in 1..=4 {
        let store = store();
        store.stop_at_write(n);
        for key in ["g/1", "g/2", "g/3"] {
            let _ = store.create(key, body()).await;
            // Reads are no writes: they must not bring the stop nearer.
            let _ = store.get(key).await;
        }
        let swapped = store.swap_head(None, body()).await;
        assert!(swapped.is_err() && store.is_stopped(), "{n}: {swapped:?}");
        assert!(store.get("g/1").await.is_err(), "a dead process does not read either");
        let there = store.inner().list("g/").await.expect("works").len();
        assert_eq!(there, n as usize - 1, "just the writes before the stop happened");
        store.revive();
        assert_eq!(store.swap_head(None, body()).await.expect("works"), Swapped::Yes);
    }
}

#[tokio::test]
async fn a_stalled_write_waits_for_its_release_and_holds_nothing_else_up() {
    let store = store();
    store.add(once(On::Create, "slow", Act::Stall));
    let mut slow = store.create("g/slow", body());
    assert!((&mut slow).now_or_never().is_none());
    store.wait_until_stalled(1).await;
    assert_eq!(store.create("g/other", body()).await.expect("works"), Created::Yes);
    assert_eq!(store.get("g/slow").await.expect("works"), None, "it has not happened yet");
    store.release();
    assert_eq!(slow.await.expect("works"), Created::Yes);
    assert_eq!(*store.stalled.borrow(), 0);
    store.add(once(On::Create, "slow", Act::Stall));
    let mut given_up = store.create("g/slow2", body());
    assert!((&mut given_up).now_or_never().is_none(), "an earlier release does not count");
    drop(given_up);
    assert_eq!(*store.stalled.borrow(), 0, "who gave up does not stall");
}

#[tokio::test]
async fn of_eight_racing_creators_one_wins_though_it_is_not_told() {
    let store = store();
    store.add(once(On::Create, "", Act::LoseAnswer));
    let outcomes = join_all((0..8u8).map(|i| store.create("g/a", Bytes::from(vec![i])))).await;
    let count =
        |wanted| outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|o| *o == wanted)).count();
    assert_eq!(
        (count(Created::Yes), count(Created::Exists), count(Created::Unknown)),
        (0, 7, 1),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn what_stalls_when_the_stop_comes_never_happens() {
    let store = store();
    store.add(once(On::Create, "slow", Act::Stall));
    let mut slow = store.create("g/slow", body());
    assert!((&mut slow).now_or_never().is_none());
    store.stop_at_write(1);
    assert!(store.create("g/other", body()).await.is_err());
    store.release();
    assert!(slow.await.is_err());
    assert_eq!(store.inner().list("g/").await.expect("works"), []);
}

#[tokio::test]
async fn a_request_that_is_lost_does_not_happen_and_nobody_is_told() {
    let store = store();
    for on in [On::Create, On::SwapHead, On::Delete, On::Read] {
        store.add(once(on, "", Act::Drop));
    }
    assert_eq!(store.create("g/a", body()).await.expect("unknown"), Created::Unknown);
    assert_eq!(store.swap_head(None, body()).await.expect("unknown"), Swapped::Unknown);
    assert!(store.delete("g/a").await.is_err() && store.get("g/a").await.is_err());
    assert_eq!((store.inner().usage().written, store.head().await.expect("works")), (0, None));
    assert_eq!(store.forget(), [Act::Drop; 4]);
    assert_eq!(store.forget(), [], "once");
}

#[tokio::test]
async fn what_is_read_arrives_damaged_and_is_whole_where_it_stands() {
    let store = store();
    store.create("g/a", body()).await.expect("creates");
    store.add(once(On::Read, "", Act::Garble));
    store.add(once(On::Read, "", Act::Shorten));
    assert_eq!(store.get("g/a").await.expect("arrives").expect("there"), Bytes::from_static(b"boey"));
    assert_eq!(store.get("g/a").await.expect("arrives").expect("there"), Bytes::from_static(b"bo"));
    assert_eq!(store.get("g/a").await.expect("arrives"), Some(body()));
    store.add(once(On::Create, "", Act::Garble));
    store.add(once(On::Read, "", Act::Garble));
    assert!(
        store.create("g/b", body()).await.is_err(),
        "no answer can be damaged that is checked on its way"
    );
    assert!(store.head().await.is_err(), "the same");
    store.add(once(On::Read, "", Act::Fail));
    assert_eq!(store.forget().len(), 4);
    assert_eq!(store.pending(), 0, "what has not struck is taken away");
}
