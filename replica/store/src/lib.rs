//! etcd's data model as a deterministic state machine on the state tree: keys with all their versions, transactions,
//! leases, compaction, watches.
//!
//! It promises that the same log gives the same tree, the same root and the same answers on every replica, and that
//! the answers are etcd's, texts of errors included. It knows no clock, no socket and no protobuf: deadlines of leases,
//! streams of watchers and the wire format are the server's.

mod codec;
mod command;
mod error;
mod key_value;
mod layout;
mod reply;
mod types;
mod varint;

pub use codec::{MAX_DEPTH, MAX_ITEMS, encode_delete, encode_put, encode_txn};
pub use command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, RangeQuery, SortOrder, SortTarget, Txn,
    TxnOp,
};
pub use error::{Code, StoreError};
pub use key_value::KeyValue;
pub use reply::{Body, RangeBody, RangeResult, Reply, Response};
pub use types::{LeaseId, Revision, Span};
