//! What came back, brought into a form in which equal means equal.

use tonic::{Response, Status};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vr_proto::etcdserverpb::request_op::Request;
use vr_proto::etcdserverpb::response_op::Response as OpResponse;
use vr_proto::mvccpb::KeyValue;

/// An answer without what may differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compact(pb::CompactionResponse),
    Grant(pb::LeaseGrantResponse),
    Revoke(pb::LeaseRevokeResponse),
    TimeToLive(pb::LeaseTimeToLiveResponse),
    Leases(pb::LeaseLeasesResponse),
    KeepAlive(pb::LeaseKeepAliveResponse),
    HashKv(pb::HashKvResponse),
    Refused { code: tonic::Code, message: String },
}

impl Answer {
    /// From a unary call's outcome.
    pub(crate) fn of<T>(outcome: Result<Response<T>, Status>, make: impl FnOnce(T) -> Answer) -> Answer {
        match outcome {
            Ok(response) => make(response.into_inner()),
            Err(status) => Answer::Refused { code: status.code(), message: status.message().to_owned() },
        }
    }

    /// The store's revision at the answer, where it says one.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(r) => &r.header,
            Answer::Put(r) => &r.header,
            Answer::Delete(r) => &r.header,
            Answer::Txn(r) => &r.header,
            Answer::Compact(r) => &r.header,
            Answer::Grant(r) => &r.header,
            Answer::Revoke(r) => &r.header,
            Answer::TimeToLive(r) => &r.header,
            Answer::Leases(r) => &r.header,
            Answer::KeepAlive(r) => &r.header,
            Answer::HashKv(r) => &r.header,
            Answer::Refused { .. } => return None,
        };
        header.as_ref().map(|h| h.revision)
    }
}

/// Takes out who answered.
pub(crate) fn anonymous(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        *header = pb::ResponseHeader { revision: header.revision, ..Default::default() };
    }
}

/// Brings entries that the requested sort finds equal into the order of their keys, and blanks those of a last group
/// that a limit may have cut in two: which of them are shown is then anybody's choice.
pub(crate) fn settle_order(request: &pb::RangeRequest, response: &mut pb::RangeResponse) {
    let asked_for_key = request.sort_target == SortTarget::Key as i32;
    if asked_for_key || (request.sort_order == SortOrder::None as i32 && request.sort_target == 0) {
        return;
    }
    if request.keys_only && request.sort_target == SortTarget::Value as i32 {
        // The values that were sorted by are not in the answer: all may be equal.
        settle_group(&mut response.kvs, response.more);
        return;
    }
    let target = request.sort_target;
    let rank = |kv: &KeyValue| match target {
        t if t == SortTarget::Version as i32 => (kv.version, bytes::Bytes::new()),
        t if t == SortTarget::Create as i32 => (kv.create_revision, bytes::Bytes::new()),
        t if t == SortTarget::Mod as i32 => (kv.mod_revision, bytes::Bytes::new()),
        _ => (0, kv.value.clone()),
    };
    let mut start = 0;
    while start < response.kvs.len() {
        let here = rank(&response.kvs[start]);
        let length = response.kvs[start..].iter().take_while(|kv| rank(kv) == here).count();
        let end = start + length;
        let cut = response.more && end == response.kvs.len();
        settle_group(&mut response.kvs[start..end], cut);
        start = end;
    }
}

fn settle_group(group: &mut [KeyValue], cut: bool) {
    if cut {
        group.fill(KeyValue::default());
    } else {
        group.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// The same for the ranges inside a transaction.
pub(crate) fn settle_txn(request: &pb::TxnRequest, response: &mut pb::TxnResponse) {
    let branch = if response.succeeded { &request.success } else { &request.failure };
    for (op, answer) in branch.iter().zip(&mut response.responses) {
        match (&op.request, &mut answer.response) {
            (Some(Request::RequestRange(request)), Some(OpResponse::ResponseRange(response))) => {
                settle_order(request, response);
            }
            (Some(Request::RequestTxn(request)), Some(OpResponse::ResponseTxn(response))) => {
                settle_txn(request, response);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, version: i64) -> KeyValue {
        KeyValue { key: key.into(), version, ..Default::default() }
    }

    fn settled(more: bool, kvs: &[KeyValue]) -> Vec<KeyValue> {
        let request = pb::RangeRequest {
            sort_target: SortTarget::Version as i32,
            sort_order: SortOrder::Descend as i32,
            ..Default::default()
        };
        let mut response = pb::RangeResponse { kvs: kvs.to_vec(), more, ..Default::default() };
        settle_order(&request, &mut response);
        response.kvs
    }

    #[test]
    fn equals_are_brought_into_the_order_of_keys() {
        let [a, b, c] = [kv("a", 2), kv("b", 2), kv("c", 1)];
        assert_eq!(settled(false, &[b.clone(), a.clone(), c.clone()]), [a, b, c]);
    }

    #[test]
    fn another_order_of_different_ones_stays() {
        let [a, c] = [kv("a", 2), kv("c", 1)];
        assert_eq!(settled(false, &[c.clone(), a.clone()]), [c, a]);
    }

    #[test]
    fn a_group_cut_by_a_limit_is_only_counted() {
        let blank = KeyValue::default();
        assert_eq!(settled(true, &[kv("c", 3), kv("b", 1), kv("a", 1)]), [kv("c", 3), blank.clone(), blank]);
    }
}
