//! What a request answers.

use crate::error::StoreError;
use crate::key_value::KeyValue;
use crate::types::{LeaseId, Revision};

/// The answer to one command: a result, or an error that is the same on every replica.
pub type Reply = Result<Response, StoreError>;

/// A result and the revision that its header carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The store's revision when this was answered; for a write the revision it made. 0 in the header of a nested
    /// transaction, as from etcd.
    pub revision: Revision,
    /// The result.
    pub body: Body,
}

/// The result, by kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Of a range inside a transaction.
    Range(RangeBody),
    /// Of a put.
    Put {
        /// What stood there, where that was asked for.
        prev: Option<KeyValue>,
    },
    /// Of a deletion.
    DeleteRange {
        /// How many keys it found.
        deleted: u64,
        /// What stood there, where that was asked for.
        prev: Vec<KeyValue>,
    },
    /// Of a transaction.
    Txn {
        /// Whether all comparisons held.
        succeeded: bool,
        /// The answers of the chosen branch, in its order.
        responses: Vec<Response>,
    },
    /// Of a compaction: done.
    Compact,
    /// Of a grant.
    LeaseGrant {
        /// The lease.
        id: LeaseId,
        /// Seconds that it really got.
        ttl: i64,
    },
    /// Of a revocation: done.
    LeaseRevoke,
    /// Of an expiry.
    LeaseExpire {
        /// The leases that existed and ended, in the order they were named.
        expired: Vec<LeaseId>,
    },
    /// Of a reservation.
    Reserve {
        /// The highest revision that may now be handed out.
        reserved: Revision,
    },
}

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeBody {
    /// The keys, at most as many as asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether there are more.
    pub more: bool,
    /// How many keys there are in the range, whatever the limit and the filters.
    pub count: i64,
}

/// What [`crate::Store::range`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The store's current revision (also when an old one was read).
    pub revision: Revision,
    /// The keys, at most as many as asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether there are more.
    pub more: bool,
    /// How many keys there are in the range, whatever the limit and the filters.
    pub count: i64,
}
