//! What to ask next: requests of every kind, many of them wrong on purpose, over few keys, so that they meet.

use bytes::Bytes;
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vr_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vr_proto::etcdserverpb::request_op::Request;

use crate::call::Call;
use crate::dice::Dice;

/// Few, so that operations meet; some are prefixes of others, some are bytes that an encoding may trip over.
const KEYS: &[&[u8]] = &[
    b"a",
    b"a/",
    b"a/1",
    b"a/2",
    b"a/22",
    b"aa",
    b"b",
    b"b\0",
    b"b\0\0",
    b"b\0\x01",
    b"b\xff",
    b"c/x/y",
    b"c/x/z",
    b"\0",
    b"\0\0",
    b"\x01",
    b"\xff",
    b"\xff\xff",
    b"k00",
    b"k01",
    b"k02",
    b"k03",
    b"k04",
    b"k05",
    b"k06",
    b"k07",
    b"k08",
    b"k09",
    b"k10",
    b"k11",
];
/// Enough that transactions, revocations and grants of the same id meet.
const LEASES: &[i64] = &[1, 2, 3, 77, i64::MAX];
/// Long enough that none expires while the test runs.
const TTL: (i64, i64) = (1_000, 9_000);

/// What is known of the store, to aim at its edges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// The newest revision.
    pub(crate) revision: i64,
    /// The last revision that was compacted, 0 if none.
    pub(crate) compacted: i64,
}

/// One request.
pub(crate) fn call(dice: &mut Dice, world: World) -> Call {
    match dice.below(100) {
        0..30 => Call::Put(put(dice)),
        30..38 => Call::Delete(delete(dice)),
        38..64 => Call::Range(range(dice, world)),
        64..84 => Call::Txn(txn(dice, world, 2)),
        84..88 => Call::Grant(pb::LeaseGrantRequest { id: lease(dice), ttl: ttl(dice) }),
        88..91 => Call::Revoke(pb::LeaseRevokeRequest { id: lease(dice) }),
        91..94 => Call::TimeToLive(pb::LeaseTimeToLiveRequest { id: lease(dice), keys: dice.chance(70) }),
        94..96 => Call::KeepAlive(pb::LeaseKeepAliveRequest { id: lease(dice) }),
        96 => Call::Leases(pb::LeaseLeasesRequest {}),
        _ => Call::HashKv(pb::HashKvRequest { revision: revision(dice, world) }),
    }
}

/// A compaction, mostly a legal one.
pub(crate) fn compaction(dice: &mut Dice, world: World) -> Call {
    let revision = if dice.chance(70) && world.revision > world.compacted {
        dice.between(world.compacted + 1, world.revision)
    } else {
        revision(dice, world)
    };
    Call::Compact(pb::CompactionRequest { revision, physical: dice.chance(50) })
}

/// A watch that starts somewhere that can still be read, or soon.
pub(crate) fn watch(dice: &mut Dice, world: World) -> pb::WatchCreateRequest {
    let (key, range_end) = match dice.below(10) {
        0 => (Bytes::new(), Bytes::new()),
        1..4 => (Bytes::new(), Bytes::from_static(&[0])),
        _ => span(dice),
    };
    let start_revision = match dice.below(10) {
        0..3 => 0,
        3 => dice.between(world.revision + 1, world.revision + 5),
        4 => world.compacted.max(1),
        _ => dice.between(world.compacted.max(1), world.revision),
    };
    let mut filters = Vec::new();
    for filter in
        [pb::watch_create_request::FilterType::Noput, pb::watch_create_request::FilterType::Nodelete]
    {
        if dice.chance(20) {
            filters.push(filter as i32);
        }
    }
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: dice.chance(20),
        filters,
        prev_kv: dice.chance(50),
        watch_id: 0,
        fragment: dice.chance(30),
    }
}

fn key(dice: &mut Dice) -> Bytes {
    match dice.below(100) {
        0..2 => Bytes::new(),
        2 => Bytes::from(vec![b'l'; 5_000]),
        _ => Bytes::from_static(KEYS[dice.below(KEYS.len())]),
    }
}

fn value(dice: &mut Dice) -> Bytes {
    match dice.below(100) {
        0..10 => Bytes::new(),
        10..12 => Bytes::from(vec![b'v'; 40_000]),
        _ => Bytes::from(dice.between(0, 30).to_string()),
    }
}

/// A key alone, a prefix, everything from a key on, and ranges that are empty or the wrong way round.
fn span(dice: &mut Dice) -> (Bytes, Bytes) {
    let from = key(dice);
    let end = match dice.below(10) {
        0..4 => Bytes::new(),
        4..6 => Bytes::from_static(&[0]),
        6 => from.clone(),
        7 => {
            let mut end = from.to_vec();
            match end.iter().rposition(|byte| *byte < 0xff) {
                Some(last) => {
                    end.truncate(last + 1);
                    end[last] += 1;
                    Bytes::from(end)
                }
                None => Bytes::from_static(&[0]),
            }
        }
        _ => key(dice),
    };
    (from, end)
}

fn revision(dice: &mut Dice, world: World) -> i64 {
    match dice.below(12) {
        0..5 => 0,
        5 => world.revision,
        6 => world.revision + 1,
        7 => world.compacted,
        8 => world.compacted - 1,
        9 => dice.between(-3, 3),
        _ => dice.between(0, world.revision),
    }
}

fn bound(dice: &mut Dice, world: World) -> i64 {
    if dice.chance(15) { dice.between(-1, world.revision + 1) } else { 0 }
}

fn lease(dice: &mut Dice) -> i64 {
    *dice.pick(LEASES)
}

fn ttl(dice: &mut Dice) -> i64 {
    if dice.chance(5) { dice.between(9_000_000_000, 9_000_000_001) } else { dice.between(TTL.0, TTL.1) }
}

fn range(dice: &mut Dice, world: World) -> pb::RangeRequest {
    let (key, range_end) =
        if dice.chance(40) { (Bytes::from_static(&[0]), Bytes::from_static(&[0])) } else { span(dice) };
    let sorted = dice.chance(40);
    let mut pick = |of: &[i32], wrong: i32| if dice.chance(2) { wrong } else { *dice.pick(of) };
    let (sort_order, sort_target) = if sorted {
        (
            pick(&[SortOrder::None as i32, SortOrder::Ascend as i32, SortOrder::Descend as i32], 3),
            pick(
                &[
                    SortTarget::Key as i32,
                    SortTarget::Version as i32,
                    SortTarget::Create as i32,
                    SortTarget::Mod as i32,
                    SortTarget::Value as i32,
                ],
                -1,
            ),
        )
    } else {
        (0, 0)
    };
    pb::RangeRequest {
        key,
        range_end,
        limit: if dice.chance(40) { dice.between(-1, 8) } else { 0 },
        revision: revision(dice, world),
        sort_order,
        sort_target,
        serializable: dice.chance(20),
        keys_only: dice.chance(20),
        count_only: dice.chance(15),
        min_mod_revision: bound(dice, world),
        max_mod_revision: bound(dice, world),
        min_create_revision: bound(dice, world),
        max_create_revision: bound(dice, world),
    }
}

fn put(dice: &mut Dice) -> pb::PutRequest {
    let (ignore_value, ignore_lease) = (dice.chance(8), dice.chance(8));
    // With `ignore_…` the field must be empty; now and then it is not.
    let give_value = !ignore_value || dice.chance(20);
    let give_lease = dice.chance(25) && (!ignore_lease || dice.chance(20));
    pb::PutRequest {
        key: key(dice),
        value: if give_value { value(dice) } else { Bytes::new() },
        lease: if give_lease { lease(dice) } else { 0 },
        prev_kv: dice.chance(30),
        ignore_value,
        ignore_lease,
    }
}

fn delete(dice: &mut Dice) -> pb::DeleteRangeRequest {
    let (key, range_end) = if dice.chance(60) { (key(dice), Bytes::new()) } else { span(dice) };
    pb::DeleteRangeRequest { key, range_end, prev_kv: dice.chance(40) }
}

fn txn(dice: &mut Dice, world: World, depth: usize) -> pb::TxnRequest {
    if dice.chance(1) {
        return crowded(dice);
    }
    let compare = (0..dice.below(3)).map(|_| compare(dice, world)).collect();
    let mut branch = |most| (0..dice.below(most)).map(|_| op(dice, world, depth)).collect();
    let mut txn = pb::TxnRequest { compare, success: branch(5), failure: branch(4) };
    if deletes_without_end(&txn) {
        ignore_nothing(&mut txn);
    }
    txn
}

/// Whether it deletes a range without an end. etcd does not see that such a range holds a key which the same transaction
/// puts; if that put says `ignore_value` or `ignore_lease`, the key it refers to is gone, and etcd 3.7.3 ends with a
/// panic ("unexpected error during txn with writes").
fn deletes_without_end(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(delete)) => delete.range_end[..] == [0],
        Some(Request::RequestTxn(inner)) => deletes_without_end(inner),
        _ => false,
    })
}

fn ignore_nothing(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => (put.ignore_value, put.ignore_lease) = (false, false),
            Some(Request::RequestTxn(inner)) => ignore_nothing(inner),
            _ => {}
        }
    }
}

/// About as many operations as are allowed: 128.
fn crowded(dice: &mut Dice) -> pb::TxnRequest {
    let success = (0..dice.between(127, 130))
        .map(|n| {
            let request = pb::PutRequest { key: format!("t{n:03}").into(), ..Default::default() };
            pb::RequestOp { request: Some(Request::RequestPut(request)) }
        })
        .collect();
    pb::TxnRequest { success, ..Default::default() }
}

fn op(dice: &mut Dice, world: World, depth: usize) -> pb::RequestOp {
    let request = match dice.below(100) {
        0..40 => Request::RequestPut(put(dice)),
        40..52 => Request::RequestDeleteRange(delete(dice)),
        52..80 => Request::RequestRange(range(dice, world)),
        80..98 if depth > 0 => Request::RequestTxn(txn(dice, world, depth - 1)),
        98 => return pb::RequestOp { request: None },
        _ => Request::RequestPut(put(dice)),
    };
    pb::RequestOp { request: Some(request) }
}

fn compare(dice: &mut Dice, world: World) -> pb::Compare {
    let (key, range_end) = if dice.chance(80) { (key(dice), Bytes::new()) } else { span(dice) };
    let results =
        [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
    let number = if dice.chance(50) { dice.between(0, 3) } else { dice.between(0, world.revision + 1) };
    let (target, union) = match dice.below(5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        3 => (CompareTarget::Value, TargetUnion::Value(value(dice))),
        _ => (CompareTarget::Lease, TargetUnion::Lease(if dice.chance(50) { 0 } else { lease(dice) })),
    };
    pb::Compare {
        result: *dice.pick(&results) as i32,
        target: target as i32,
        key,
        range_end,
        target_union: if dice.chance(3) { None } else { Some(union) },
    }
}
