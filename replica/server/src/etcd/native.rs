//! What a native client asks, told apart into what the log must carry and what is only read: the same requests, checks
//! and answers as over gRPC.

use super::{convert, read, shape};
use crate::node::Failure;
use bytes::Bytes;
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::request_op::Request;
use vr_proto::etcdserverpb::response_op::Response;
use vr_store::{Command, StoreError};

/// See [`asked`].
pub(crate) enum Asked {
    /// An encoded command for the log.
    Write(Bytes),
    /// Reads only.
    Read,
}

/// What an operation is.
///
/// # Errors
/// It cannot be executed at all.
pub(crate) fn asked(op: &pb::RequestOp, most: usize) -> Result<Asked, StoreError> {
    let mut body = Vec::new();
    match &op.request {
        None => return Err(StoreError::Malformed),
        Some(Request::RequestRange(range)) => {
            convert::range_query(range)?;
            return Ok(Asked::Read);
        }
        Some(Request::RequestPut(put)) => vr_store::encode_put(&mut body, &convert::put(put)),
        Some(Request::RequestDeleteRange(delete)) => {
            vr_store::encode_delete(&mut body, &convert::delete(delete));
        }
        Some(Request::RequestTxn(request)) => {
            let txn = convert::txn(request)
                .map_err(|error| shape::fault(request, super::kv::MAX_TXN_OPS).unwrap_or(error))?;
            if txn.is_read_only() {
                return Ok(Asked::Read);
            }
            Command::Txn(txn).encode(&mut body);
        }
    }
    if body.len() > most { Err(StoreError::RequestTooLarge) } else { Ok(Asked::Write(body.into())) }
}

/// Answers what only reads, after a confirmed round unless it says that an old state will do.
///
/// # Errors
/// No round could be confirmed.
pub(crate) async fn answer(op: &pb::RequestOp) -> Result<Result<pb::ResponseOp, StoreError>, Failure> {
    let response = match &op.request {
        Some(Request::RequestRange(range)) => read::range(range).await?.map(Response::ResponseRange),
        Some(Request::RequestTxn(request)) => match convert::txn(request) {
            Ok(txn) => read::txn(request, &txn).await?.map(Response::ResponseTxn),
            Err(error) => Err(error),
        },
        _ => Err(StoreError::Malformed),
    };
    Ok(response.map(|response| pb::ResponseOp { response: Some(response) }))
}
