//! The real store under the protocol: few keys, few leases, and every kind of command that a log carries.
//!
//! Little may be written at first, so that reservations decide what is refused. Events for watchers are not looked
//! at: they are derived, and no part of the replicated state.

use super::{Machine, digest};
use crate::coverage::Seen;
use crate::rng::{Rng, mix};
use bytes::Bytes;
use vr_core::Digest;
use vr_store::{
    Body, Command, Compare, CompareResult, CompareTarget, DeleteRange, LeaseId, Options, Put, RangeQuery,
    Reply, Revision, Span, Store, Txn, TxnOp,
};
use vr_tree::Snapshot;

/// Ids are drawn from 1 to this, so that leases are granted, used and ended again and again.
const LEASES: u64 = 4;
/// Writes wait for a reservation beyond this.
const FIRST_RESERVATION: Revision = Revision(20);

fn key(rng: &mut Rng, keys: u64) -> [u8; 8] {
    rng.below(keys).to_be_bytes()
}

fn lease(rng: &mut Rng) -> LeaseId {
    LeaseId(rng.between(1, LEASES) as i64)
}

impl Machine for Store {
    fn empty() -> Store {
        Store::new(Options { first_reservation: FIRST_RESERVATION, ..Options::default() })
    }

    fn request(rng: &mut Rng, unique: u64, keys: u64, padding: usize) -> Bytes {
        let (one, two) = (key(rng, keys), key(rng, keys));
        let mut value = unique.to_le_bytes().to_vec();
        value.resize(8 + padding, 0x5a);
        let put = Put { key: &one, value: &value, prev_kv: rng.below(2) == 0, ..Put::default() };
        let span = Span { key: one.as_slice().min(&two), end: one.as_slice().max(&two) };
        let delete = DeleteRange { span, prev_kv: rng.below(2) == 0 };
        let number = i64::try_from(unique).expect("a world asks for less than that");
        let command = match rng.below(20) {
            0..=5 => Command::Put(put),
            6 => Command::Put(Put { lease: lease(rng), ..put }),
            7 => Command::Put(Put { value: &[], ignore_value: true, ..put }),
            8 => Command::DeleteRange(delete),
            9 => Command::DeleteRange(DeleteRange { span: Span::one(&one), prev_kv: true }),
            10..=13 => {
                let target = match rng.below(4) {
                    0 => CompareTarget::Version(rng.below(3) as i64),
                    1 => CompareTarget::Create(0),
                    2 => CompareTarget::Mod(rng.below(unique + 1) as i64),
                    _ => CompareTarget::Lease(rng.below(LEASES) as i64),
                };
                let result = rng.pick(&[
                    CompareResult::Equal,
                    CompareResult::Greater,
                    CompareResult::Less,
                    CompareResult::NotEqual,
                ]);
                let all = TxnOp::Range(RangeQuery {
                    span: Span { key: &[0], end: &[0] },
                    limit: rng.below(5) as i64,
                    ..RangeQuery::default()
                });
                let other = DeleteRange { span: Span::one(&two), prev_kv: true };
                Command::Txn(Txn {
                    compare: vec![Compare { span: Span::one(&two), result, target }],
                    success: vec![TxnOp::Put(put), all.clone()],
                    failure: vec![all, TxnOp::DeleteRange(other)],
                })
            }
            14 => Command::Compact { revision: Revision(rng.between(1, unique + 1) as i64) },
            15 | 16 => Command::LeaseGrant { id: lease(rng), ttl: number },
            17 => Command::LeaseRevoke { id: lease(rng) },
            18 => Command::LeaseExpire { ids: vec![lease(rng), lease(rng)] },
            _ => Command::Reserve { revision: Revision(number + 50) },
        };
        let mut body = Vec::new();
        command.encode(&mut body);
        body.into()
    }

    fn reply_digest(reply: &Reply) -> u64 {
        digest(format!("{reply:?}").as_bytes())
    }

    fn fingerprint(&self) -> u64 {
        let numbers =
            [self.revision().0, self.compacted().0, self.reserved().0, i64::from(self.is_sweeping())];
        let leases = self.leases().flat_map(|(id, ttl)| [id.0, ttl]);
        numbers.into_iter().chain(leases).fold(mix(self.keys()), |h, number| mix(h ^ number as u64))
    }

    fn root(snapshot: &Snapshot) -> Digest {
        Digest(snapshot.root())
    }

    fn seen(reply: &Reply) -> Option<Seen> {
        Some(match reply.as_ref().map(|response| &response.body) {
            Err(_) => Seen::StoreError,
            Ok(Body::Put { .. }) => Seen::StorePut,
            Ok(Body::DeleteRange { .. }) => Seen::StoreDelete,
            Ok(Body::Txn { succeeded: true, .. }) => Seen::StoreTxnHeld,
            Ok(Body::Txn { succeeded: false, .. }) => Seen::StoreTxnFailed,
            Ok(Body::Compact) => Seen::StoreCompact,
            Ok(Body::LeaseGrant { .. }) => Seen::StoreLeaseGrant,
            Ok(Body::LeaseRevoke) => Seen::StoreLeaseRevoke,
            Ok(Body::LeaseExpire { .. }) => Seen::StoreLeaseExpire,
            Ok(Body::Reserve { .. }) => Seen::StoreReserve,
            Ok(Body::Range(_)) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Tap, Tapped};
    use crate::rng::Stream;
    use vr_core::{Accepted, At, Op, RequestNumber, SessionId, StateMachine};

    #[test]
    fn a_used_store_arrives_whole_in_portions_of_any_size() {
        let (mut store, mut rng) = (Store::empty(), Rng::new(5, Stream::Clients));
        for i in 1..=500 {
            let body = Store::request(&mut rng, i, 8, 3);
            let (session, number) = (SessionId::default(), RequestNumber(i));
            let accepted = Accepted { session, number, body: &body, reply_wanted: true };
            store.execute(At { op: Op(i), time: i }, &[accepted], &mut Vec::new());
        }
        assert!(store.revision() > FIRST_RESERVATION && store.compacted() > Revision(1));
        let snapshot = store.cut(Op(500), b"the core's own");
        for portion in [1, 50, 100_000] {
            let loaded = Tapped::<Store>::load(&snapshot, portion, Tap::default()).expect("its own export");
            assert_eq!(loaded.core_state(), b"the core's own");
            assert_eq!(loaded.inner.fingerprint(), store.fingerprint());
        }
    }
}
