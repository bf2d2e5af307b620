//! What is sent to both: one unary request, or one keepalive.

use vr_proto::etcdserverpb as pb;

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Leases(pb::LeaseLeasesRequest),
    KeepAlive(pb::LeaseKeepAliveRequest),
    HashKv(pb::HashKvRequest),
}

impl Call {
    /// Sets one key.
    pub(crate) fn put(key: &str, value: &str, lease: i64) -> Call {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        Call::Put(pb::PutRequest { key, value, lease, ..Default::default() })
    }

    /// Reads everything there is.
    pub(crate) fn everything() -> Call {
        let all: &'static [u8] = &[0];
        Call::Range(pb::RangeRequest { key: all.into(), range_end: all.into(), ..Default::default() })
    }
}
