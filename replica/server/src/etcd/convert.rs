//! Protobuf to commands and answers to protobuf. Requests are borrowed, never copied: the command's encoder writes
//! straight from the received bytes into the log entry's body.

use tonic::Status;
use vr_proto::etcdserverpb as pb;
use vr_proto::mvccpb;
use vr_store::{
    Body, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, LeaseId, Put, RangeBody, RangeQuery,
    RangeResult, Response, Revision, SortOrder, SortTarget, Span, StoreError, Txn, TxnOp,
};

/// An error as clients know it: etcd's code and text.
#[must_use]
pub(super) fn status(error: StoreError) -> Status {
    Status::new(tonic::Code::from_i32(error.code() as i32), error.text())
}

/// # Errors
/// As etcd: an empty key, a sort option that does not exist.
pub(super) fn range_query(r: &pb::RangeRequest) -> Result<RangeQuery<'_>, StoreError> {
    if r.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    Ok(RangeQuery {
        span: Span { key: &r.key, end: &r.range_end },
        limit: r.limit,
        revision: Revision(r.revision),
        sort_order: SortOrder::from_wire(r.sort_order).ok_or(StoreError::InvalidSortOption)?,
        sort_target: SortTarget::from_wire(r.sort_target).ok_or(StoreError::InvalidSortOption)?,
        keys_only: r.keys_only,
        count_only: r.count_only,
        min_mod: Revision(r.min_mod_revision),
        max_mod: Revision(r.max_mod_revision),
        min_create: Revision(r.min_create_revision),
        max_create: Revision(r.max_create_revision),
    })
}

/// A put as it stands in the request.
#[must_use]
pub(super) fn put(r: &pb::PutRequest) -> Put<'_> {
    Put {
        key: &r.key,
        value: &r.value,
        lease: LeaseId(r.lease),
        prev_kv: r.prev_kv,
        ignore_value: r.ignore_value,
        ignore_lease: r.ignore_lease,
    }
}

/// A deletion as it stands in the request.
#[must_use]
pub(super) fn delete(r: &pb::DeleteRangeRequest) -> DeleteRange<'_> {
    DeleteRange { span: Span { key: &r.key, end: &r.range_end }, prev_kv: r.prev_kv }
}

/// # Errors
/// What cannot be written as a command: a sort option or a relation that does not exist.
pub(super) fn txn(r: &pb::TxnRequest) -> Result<Txn<'_>, StoreError> {
    Ok(Txn {
        compare: r.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: r.success.iter().map(txn_op).collect::<Result<_, _>>()?,
        failure: r.failure.iter().map(txn_op).collect::<Result<_, _>>()?,
    })
}

fn compare(c: &pb::Compare) -> Result<Compare<'_>, StoreError> {
    use pb::compare::{CompareTarget as Target, TargetUnion as U};
    // The target decides what is compared; a union that holds something else (or nothing) counts as zero, as for etcd.
    let number = |of: fn(&U) -> Option<i64>| c.target_union.as_ref().and_then(of).unwrap_or(0);
    let target = match Target::try_from(c.target).map_err(|_| StoreError::Malformed)? {
        Target::Version => {
            CompareTarget::Version(number(|u| if let U::Version(n) = u { Some(*n) } else { None }))
        }
        Target::Create => {
            CompareTarget::Create(number(|u| if let U::CreateRevision(n) = u { Some(*n) } else { None }))
        }
        Target::Mod => {
            CompareTarget::Mod(number(|u| if let U::ModRevision(n) = u { Some(*n) } else { None }))
        }
        Target::Lease => CompareTarget::Lease(number(|u| if let U::Lease(n) = u { Some(*n) } else { None })),
        Target::Value => CompareTarget::Value(match &c.target_union {
            Some(U::Value(value)) => value,
            _ => &[],
        }),
    };
    Ok(Compare {
        span: Span { key: &c.key, end: &c.range_end },
        result: CompareResult::from_wire(c.result).ok_or(StoreError::Malformed)?,
        target,
    })
}

fn txn_op(op: &pb::RequestOp) -> Result<TxnOp<'_>, StoreError> {
    use pb::request_op::Request;
    Ok(match &op.request {
        None => TxnOp::Empty,
        Some(Request::RequestRange(r)) => TxnOp::Range(range_query(r)?),
        Some(Request::RequestPut(r)) => TxnOp::Put(put(r)),
        Some(Request::RequestDeleteRange(r)) => TxnOp::DeleteRange(delete(r)),
        Some(Request::RequestTxn(r)) => TxnOp::Txn(txn(r)?),
    })
}

/// One version of a key for the wire.
#[must_use]
pub(super) fn key_value(kv: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key_bytes(),
        value: kv.value_bytes(),
        create_revision: kv.create_revision().0,
        mod_revision: kv.mod_revision().0,
        version: kv.version(),
        lease: kv.lease().0,
    }
}

/// A range's answer under a header.
#[must_use]
pub(super) fn range_response(header: Option<pb::ResponseHeader>, found: &RangeResult) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: found.kvs.iter().map(key_value).collect(),
        more: found.more,
        count: found.count,
    }
}

/// A put's answer under a header.
#[must_use]
pub(super) fn put_response(header: pb::ResponseHeader, body: &Body) -> pb::PutResponse {
    let Body::Put { prev } = body else { unreachable!("a put answers as one") };
    pb::PutResponse { header: Some(header), prev_kv: prev.as_ref().map(key_value) }
}

/// A deletion's answer under a header.
#[must_use]
pub(super) fn delete_response(header: pb::ResponseHeader, body: &Body) -> pb::DeleteRangeResponse {
    let Body::DeleteRange { deleted, prev } = body else { unreachable!("a deletion answers as one") };
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: i64::try_from(*deleted).unwrap_or(i64::MAX),
        prev_kvs: prev.iter().map(key_value).collect(),
    }
}

/// A transaction's answer under a header.
#[must_use]
pub(super) fn txn_response(header: pb::ResponseHeader, body: &Body) -> pb::TxnResponse {
    let Body::Txn { succeeded, responses } = body else { unreachable!("a transaction answers as one") };
    pb::TxnResponse {
        header: Some(header),
        succeeded: *succeeded,
        responses: responses.iter().map(response_op).collect(),
    }
}

pub(crate) fn response_op(response: &Response) -> pb::ResponseOp {
    use pb::response_op::Response as R;
    // Inside a transaction a header carries its revision and nothing else.
    let header = pb::ResponseHeader { revision: response.revision.0, ..Default::default() };
    let response = match &response.body {
        body @ Body::Put { .. } => R::ResponsePut(put_response(header, body)),
        body @ Body::DeleteRange { .. } => R::ResponseDeleteRange(delete_response(header, body)),
        body @ Body::Txn { .. } => R::ResponseTxn(txn_response(header, body)),
        Body::Range(RangeBody { kvs, more, count }) => R::ResponseRange(pb::RangeResponse {
            header: Some(header),
            kvs: kvs.iter().map(key_value).collect(),
            more: *more,
            count: *count,
        }),
        Body::Compact
        | Body::LeaseGrant { .. }
        | Body::LeaseRevoke
        | Body::LeaseExpire { .. }
        | Body::Reserve { .. } => {
            unreachable!("no branch of a transaction can do this")
        }
    };
    pb::ResponseOp { response: Some(response) }
}
