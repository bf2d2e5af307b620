//! What a native client asks, told apart into what the log must carry and what is only read: the same requests, checks
//! and answers as over gRPC.

use super::{convert, shape};
use crate::node::{self, Failure};
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
pub(crate) async fn read(op: &pb::RequestOp) -> Result<Result<pb::ResponseOp, StoreError>, Failure> {
    let serializable = matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable);
    if serializable {
        node::with(|node| if node.serves() { Ok(()) } else { Err(Failure::NoPrimary) })?;
    } else {
        node::read_index().await?;
    }
    Ok(node::with(|node| {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => {
                let found = node.store().range(&convert::range_query(range)?)?;
                let header = Some(node.header(found.revision));
                Response::ResponseRange(convert::range_response(header, &found))
            }
            Some(Request::RequestTxn(txn)) => {
                let answer = node.store().read_txn(&convert::txn(txn)?)?;
                Response::ResponseTxn(convert::txn_response(node.header(answer.revision), &answer.body))
            }
            _ => return Err(StoreError::Malformed),
        };
        Ok(pb::ResponseOp { response: Some(response) })
    }))
}
