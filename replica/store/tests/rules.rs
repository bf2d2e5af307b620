//! Rules that the recordings of a real etcd do not reach: leases, reservation, memory, restore, removal.

mod common;

use common::{Driven, encoded, put};
use vr_core::{Op, StateMachine};
use vr_store::{
    Body, Command, DeleteRange, EventKind, LeaseChange, LeaseId, OpenError, Options, Put, RangeQuery, Reply,
    Response, Revision, Span, Store, StoreError, Txn, TxnOp, View,
};

fn driven() -> Driven {
    Driven::new(Options::default())
}

fn grant(id: i64, ttl: i64) -> Command<'static> {
    Command::LeaseGrant { id: LeaseId(id), ttl }
}

fn leased(key: &str, lease: i64) -> Command<'_> {
    Command::Put(Put { key: key.as_bytes(), lease: LeaseId(lease), ..Put::default() })
}

fn ok(revision: i64, body: Body) -> Reply {
    Ok(Response { revision: Revision(revision), body })
}

fn keys_of(store: &Store, lease: i64) -> Vec<String> {
    store.lease_keys(LeaseId(lease)).map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}

#[test]
fn a_lease_gets_at_least_the_minimum_and_at_most_the_maximum() {
    let table: &[(i64, i64, Result<i64, StoreError>)] = &[
        (1, 0, Ok(2)),
        (2, -5, Ok(2)),
        (3, 2, Ok(2)),
        (4, 60, Ok(60)),
        (5, 9_000_000_000, Ok(9_000_000_000)),
        (6, 9_000_000_001, Err(StoreError::LeaseTTLTooLarge)),
        (4, 60, Err(StoreError::LeaseExist)),
        (0, 60, Err(StoreError::LeaseNotFound)),
        (-7, 60, Ok(60)),
    ];
    let mut driven = driven();
    for (id, asked, expected) in table {
        let got = driven.run(&grant(*id, *asked)).map(|response| match response.body {
            Body::LeaseGrant { ttl, .. } => ttl,
            other => panic!("{other:?}"),
        });
        assert_eq!(got, *expected, "lease {id} for {asked} s");
    }
    assert_eq!(driven.store.revision(), Revision(1), "a grant is no change of the keys");
    let ids: Vec<i64> = driven.store.leases().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [-7, 1, 2, 3, 4, 5]);
}

#[test]
fn a_key_hangs_on_the_lease_it_was_put_with_last() {
    let mut driven = driven();
    driven.entry(&[grant(1, 60), grant(2, 60), leased("b", 1), leased("a", 1), leased("c", 2)]);
    assert_eq!(keys_of(&driven.store, 1), ["a", "b"]);
    driven.run(&leased("a", 2)).expect("the lease exists");
    driven.put("b", "no lease any more");
    assert_eq!(
        (keys_of(&driven.store, 1), keys_of(&driven.store, 2)),
        (vec![], vec!["a".into(), "c".into()])
    );
    driven.delete("c", "");
    assert_eq!(keys_of(&driven.store, 2), ["a"]);
    let keep = Put { key: b"a", value: b"v", ignore_lease: true, ..Put::default() };
    driven.run(&Command::Put(keep)).expect("the key exists");
    assert_eq!(keys_of(&driven.store, 2), ["a"]);

    let snapshot = driven.store.cut(driven.op, b"");
    let store = Store::from_snapshot(snapshot, Options::default()).expect("just cut");
    assert_eq!(keys_of(&store, 2), ["a"]);
    assert_eq!(store.leases().collect::<Vec<_>>(), driven.store.leases().collect::<Vec<_>>());
}

#[test]
fn revoking_is_one_revision_for_all_keys_in_order_and_none_without_keys() {
    let mut driven = driven();
    driven.entry(&[grant(1, 60), grant(2, 60), leased("b", 1), leased("a", 1)]);
    driven.events();
    assert_eq!(driven.run(&Command::LeaseRevoke { id: LeaseId(2) }), ok(3, Body::LeaseRevoke));
    assert_eq!(driven.run(&Command::LeaseRevoke { id: LeaseId(2) }), Err(StoreError::LeaseNotFound));
    assert_eq!(driven.run(&Command::LeaseRevoke { id: LeaseId(1) }), ok(4, Body::LeaseRevoke));
    let events = driven.events();
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.kv.key(), e.revision().0)).collect();
    assert_eq!(told, [(EventKind::Delete, &b"a"[..], 4), (EventKind::Delete, &b"b"[..], 4)]);
    assert_eq!(driven.store.keys(), 0);

    let mut changes = Vec::new();
    driven.store.drain_lease_changes(&mut changes);
    let granted = |id| LeaseChange::Granted { id: LeaseId(id), ttl: 60 };
    let ended = |id| LeaseChange::Ended { id: LeaseId(id) };
    assert_eq!(changes, [granted(1), granted(2), ended(2), ended(1)]);
}

#[test]
fn expiry_passes_over_what_is_gone_and_gives_each_lease_its_revision() {
    let mut driven = driven();
    driven.entry(&[grant(1, 60), grant(2, 60), grant(3, 60), leased("a", 1), leased("b", 3)]);
    let ids = [3, 9, 2, 1, 1].map(LeaseId).to_vec();
    let expired = [3, 2, 1].map(LeaseId).to_vec();
    assert_eq!(driven.run(&Command::LeaseExpire { ids }), ok(5, Body::LeaseExpire { expired }));
    assert_eq!((driven.store.keys(), driven.store.leases().count()), (0, 0));
}

#[test]
fn no_write_passes_the_reserved_revision() {
    let mut driven = Driven::new(Options { first_reservation: Revision(3), ..Options::default() });
    let delete = |key| Command::DeleteRange(DeleteRange { span: Span::one(key), prev_kv: false });
    let put_in_txn = || TxnOp::Put(Put { key: b"t", ..Put::default() });
    driven.run(&grant(1, 60)).expect("no revision needed");
    driven.run(&leased("a", 1)).expect("revision 2");
    driven.put("b", "");
    let exhausted = Err(StoreError::ReservationExhausted);
    assert_eq!(driven.run(&put("c", "")), exhausted);
    assert_eq!(driven.run(&delete(b"a")), exhausted);
    assert_eq!(driven.run(&Command::Txn(Txn { success: vec![put_in_txn()], ..Txn::default() })), exhausted);
    assert_eq!(driven.run(&Command::LeaseRevoke { id: LeaseId(1) }), exhausted);
    assert_eq!(driven.run(&Command::LeaseExpire { ids: vec![LeaseId(1)] }), exhausted);
    assert_eq!(driven.store.leases().count(), 1);
    assert!(driven.run(&delete(b"nothing there")).is_ok(), "it needs no revision");
    assert!(driven.compact(2).is_ok());

    let reserve = |revision| Command::Reserve { revision: Revision(revision) };
    let reserved = |revision| Body::Reserve { reserved: Revision(revision) };
    assert_eq!(driven.run(&reserve(4)), ok(3, reserved(4)));
    assert_eq!(driven.run(&reserve(2)), ok(3, reserved(4)));
    assert_eq!(driven.put("c", ""), Revision(4));
    assert_eq!(driven.run(&put("d", "")), exhausted);
}

#[test]
fn a_restored_store_begins_after_everything_that_was_handed_out() {
    let mut driven = driven();
    driven.entry(&[grant(1, 60), leased("a", 1), put("a", "2"), put("b", "1")]);
    let snapshot = driven.store.cut(driven.op, b"sessions");
    let mut store = Store::from_snapshot(snapshot, Options::default()).expect("just cut");
    store.after_restore(Revision(1_000));
    let mut restored = Driven { store, op: driven.op };

    assert_eq!(restored.store.core_state(), b"sessions");
    assert_eq!((restored.store.revision(), restored.store.compacted()), (Revision(1_000), Revision(1_000)));
    assert_eq!(restored.run(&put("c", "")), Err(StoreError::ReservationExhausted));
    restored.run(&Command::Reserve { revision: Revision(2_000) }).expect("always allowed");
    assert_eq!(restored.put("c", ""), Revision(1_001));

    let at = |revision| RangeQuery {
        span: Span::one(b"a"),
        revision: Revision(revision),
        ..RangeQuery::default()
    };
    assert_eq!(restored.store.range(&at(999)), Err(StoreError::Compacted));
    assert_eq!(restored.store.range(&at(1_000)).expect("the horizon itself").kvs[0].value(), b"2");
    assert_eq!(restored.store.leases().collect::<Vec<_>>(), [(LeaseId(1), 60)]);
    restored.settle();
    assert_eq!(restored.store.cut(Op(99), b"").len(), 3 + 1 + 2, "keys, lease, numbers: no history is left");

    // Never backwards, even when told so.
    restored.store.after_restore(Revision(5));
    assert_eq!(restored.store.revision(), Revision(1_001));
}

#[test]
fn growth_stops_at_the_limit_and_shrinking_never_does() {
    let mut driven = Driven::new(Options { memory_limit: 4_000, ..Options::default() });
    let value = "v".repeat(500);
    let mut written = 0;
    while driven.run(&put(&format!("key-{written}"), &value)).is_ok() {
        written += 1;
    }
    assert!((5..8).contains(&written), "{written} puts of 500 bytes fit 4,000");
    assert_eq!(driven.run(&put("another", &value)), Err(StoreError::NoSpace));
    let ops = vec![TxnOp::Put(Put { key: b"k", value: value.as_bytes(), ..Put::default() })];
    assert_eq!(driven.run(&Command::Txn(Txn { success: ops, ..Txn::default() })), Err(StoreError::NoSpace));
    // How often a replica cuts is its own affair.
    driven.store.cut(driven.op, &[7; 4_000]);
    assert_eq!(driven.delete("key-", "key."), written);
    let now = driven.store.revision();
    driven.compact(now.0).expect("always allowed");
    driven.settle();
    driven.put("another", &value);
}

#[test]
fn removal_keeps_step_with_the_log_and_survives_a_snapshot() {
    let mut driven = driven();
    for i in 0..2_000 {
        driven.put(&format!("{:03}", i % 500), "v");
    }
    assert!(driven.compact(1_500).is_ok());
    assert!(driven.store.is_sweeping(), "2,000 versions are more than one step");
    let snapshot = driven.store.cut(driven.op, b"");
    let view = View::of_cut(&snapshot).expect("just cut");
    let before = view.hash_kv(Revision(0)).expect("now");
    let mut reopened = Driven {
        store: Store::from_snapshot(snapshot, Options::default()).expect("just cut"),
        op: driven.op,
    };
    // Another compaction while the first is under way.
    for other in [&mut driven, &mut reopened] {
        other.entry(&[]);
        other.compact(1_900).expect("it lies ahead");
        let mut entries = 0;
        while other.store.is_sweeping() && entries < 1_000 {
            other.entry(&[]);
            entries += 1;
        }
        assert!(!other.store.is_sweeping(), "it ends");
        assert!(entries > 10, "{entries} entries for the whole removal");
    }
    assert_eq!(driven.store.cut(Op(1), b"").root(), reopened.store.cut(Op(1), b"").root());
    // 500 live keys; of the rest what ended after revision 1,900.
    assert_eq!(driven.store.cut(Op(1), b"").len(), 500 + 101 + 2);
    assert_eq!(view.hash_kv(Revision(0)).expect("a view does not change"), before);
}

#[test]
fn a_foreign_snapshot_is_refused() {
    let options = Options::default();
    let tree = vr_tree::Tree::new();
    assert_eq!(Store::from_snapshot(tree.snapshot(), options).err(), Some(OpenError::NotAStore));

    let mut driven = driven();
    driven.put("a", "1");
    let cut = driven.store.cut(driven.op, b"");
    let with = |key: &[u8], value: &[u8]| {
        let mut tree = vr_tree::Tree::from(cut.clone());
        tree.put(key, value, 9);
        Store::from_snapshot(tree.snapshot(), options).err()
    };
    assert_eq!(with(b"!n", &[2]), Some(OpenError::Format { found: 2, known: 1 }));
    assert_eq!(with(b"!n", b""), Some(OpenError::NotAStore));
    let broken = |key: &str| Some(OpenError::Broken { key: key.into() });
    assert_eq!(with(b"kb\0", b""), broken("6b6200"));
    assert_eq!(with(b"x", b"y"), broken("78"));
    assert_eq!(with(b"l1", b"y"), broken("6c31"));
    // A key that names a lease nobody granted.
    let mut lost = driven.store.cut(driven.op, b"").get(b"ka\0").expect("a live key").value().to_vec();
    lost[4] = 5;
    assert_eq!(with(b"ka\0", &lost), broken("6b6100"));
}

#[test]
fn a_request_without_an_asker_here_is_executed_and_not_answered() {
    use vr_core::{Accepted, At, RequestNumber, SessionId};
    let mut store = Store::new(Options::default());
    let body = encoded(&put("a", "1"));
    let request = |reply_wanted| Accepted {
        session: SessionId::default(),
        number: RequestNumber(1),
        body: &body,
        reply_wanted,
    };
    let mut replies = Vec::new();
    store.execute(At { op: Op(1), time: 0 }, &[request(false), request(true), request(false)], &mut replies);
    assert_eq!(replies, [ok(3, Body::Put { prev: None })]);
    assert_eq!(store.revision(), Revision(4));
}

#[test]
fn a_read_only_transaction_needs_no_log() {
    let mut driven = driven();
    driven.put("a", "1");
    let range = |revision| {
        TxnOp::Range(RangeQuery {
            span: Span::one(b"a"),
            revision: Revision(revision),
            ..RangeQuery::default()
        })
    };
    let txn = Txn { success: vec![range(0), range(2)], ..Txn::default() };
    assert_eq!(driven.store.read_txn(&txn), driven.run(&Command::Txn(txn.clone())));
    let future = Txn { success: vec![range(9)], ..Txn::default() };
    assert_eq!(driven.store.read_txn(&future), Err(StoreError::FutureRev));
    let writes = Txn { failure: vec![TxnOp::Put(Put::default())], ..Txn::default() };
    assert_eq!(driven.store.read_txn(&writes), Err(StoreError::NotReadOnly));
}

#[test]
fn a_large_value_is_shared_with_the_tree() {
    let mut driven = driven();
    let value = "v".repeat(10_000);
    driven.put("a", &value);
    let found =
        driven.store.range(&RangeQuery { span: Span::one(b"a"), ..RangeQuery::default() }).expect("now");
    let bytes = found.kvs[0].value_bytes();
    assert_eq!(bytes, value);
    assert_eq!(bytes.as_ptr(), found.kvs[0].value().as_ptr(), "no copy");
    assert_eq!(found.kvs[0].key_bytes(), "a");
}
