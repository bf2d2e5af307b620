//! What is only read, for whoever asks: the same answers over gRPC and to native clients.

use super::convert;
use crate::node::{self, Failure};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::request_op::Request;
use vr_store::{StoreError, Txn};

/// What a read that waits for its round comes to.
type Answer<T> = Result<Result<T, StoreError>, Failure>;

/// Keys of a range.
///
/// # Errors
/// No round could be confirmed, or there is no memory to read from.
pub(super) async fn range(request: &pb::RangeRequest) -> Answer<pb::RangeResponse> {
    let query = match convert::range_query(request) {
        Ok(query) => query,
        Err(error) => return Ok(Err(error)),
    };
    ready(request.serializable).await?;
    Ok(node::with(|node| {
        node.counters.ranges += 1;
        let found = node.store().range(&query)?;
        Ok(convert::range_response(Some(node.header(found.revision)), &found))
    }))
}

/// A transaction that only reads, as it was asked and as it was understood.
///
/// # Errors
/// As [`range`].
pub(super) async fn txn(request: &pb::TxnRequest, txn: &Txn<'_>) -> Answer<pb::TxnResponse> {
    ready(is_serializable(request)).await?;
    Ok(node::with(|node| {
        let answer = node.store().read_txn(txn)?;
        Ok(convert::txn_response(node.header(answer.revision), &answer.body))
    }))
}

/// As for etcd, serializable only if every read in it says so.
fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// Waits for a confirmed round, unless an old state will do.
async fn ready(serializable: bool) -> Result<(), Failure> {
    if serializable {
        node::with(|node| if node.serves() { Ok(()) } else { Err(Failure::NoPrimary) })
    } else {
        node::read_index().await
    }
}
