//! Which of several things wrong with a transaction is named: the one that etcd finds first.
//!
//! A transaction that cannot be written as a command (a sort option that does not exist) never reaches the store, whose
//! own checks go in the same order. This is asked only then: it costs nothing on the way of a sound request.

use super::convert;
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::request_op::Request;
use vr_store::StoreError;

/// What etcd says of the shape of this transaction: the limit of operations, then comparisons, then operation by
/// operation, nested ones in their place. Nothing if all of it is well formed.
pub(super) fn fault(txn: &pb::TxnRequest, max_ops: usize) -> Option<StoreError> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let Some(left) = max_ops.checked_sub(longest) else { return Some(StoreError::TooManyOps) };
    if txn.compare.iter().any(|c| c.key.is_empty()) {
        return Some(StoreError::EmptyKey);
    }
    txn.success.iter().chain(&txn.failure).find_map(|op| match &op.request {
        None => Some(StoreError::KeyNotFound),
        Some(Request::RequestRange(r)) => convert::range_query(r).err(),
        Some(Request::RequestPut(p)) if p.key.is_empty() => Some(StoreError::EmptyKey),
        Some(Request::RequestPut(p)) if p.ignore_value && !p.value.is_empty() => {
            Some(StoreError::ValueProvided)
        }
        Some(Request::RequestPut(p)) if p.ignore_lease && p.lease != 0 => Some(StoreError::LeaseProvided),
        Some(Request::RequestPut(_)) => None,
        Some(Request::RequestDeleteRange(d)) => d.key.is_empty().then_some(StoreError::EmptyKey),
        Some(Request::RequestTxn(t)) => fault(t, left),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn both_wrong() -> Vec<pb::RequestOp> {
        let value_given =
            pb::PutRequest { key: "a".into(), value: "1".into(), ignore_value: true, ..Default::default() };
        vec![op(Request::RequestPut(value_given)), op(Request::RequestRange(pb::RangeRequest::default()))]
    }

    #[test]
    fn the_first_of_two_faults_is_named() {
        let mut txn = pb::TxnRequest { success: both_wrong(), ..Default::default() };
        assert_eq!(fault(&txn, 128), Some(StoreError::ValueProvided));
        txn.success.reverse();
        assert_eq!(fault(&txn, 128), Some(StoreError::EmptyKey));
        txn.success.truncate(0);
        assert_eq!(fault(&txn, 128), None);
    }

    #[test]
    fn each_level_takes_its_longest_list_off_the_limit() {
        let inner = pb::TxnRequest { failure: both_wrong(), ..Default::default() };
        let txn = pb::TxnRequest { failure: vec![op(Request::RequestTxn(inner))], ..Default::default() };
        assert_eq!(fault(&txn, 3), Some(StoreError::ValueProvided));
        assert_eq!(fault(&txn, 2), Some(StoreError::TooManyOps));
    }
}
