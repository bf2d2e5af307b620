//! etcd's data model as a deterministic state machine on the state tree: keys with all their versions, transactions,
//! leases, compaction, watches.
//!
//! It promises that the same log gives the same tree, the same root and the same answers on every replica, and that
//! the answers are etcd's, texts of errors included. It knows no clock, no socket and no protobuf: deadlines of leases,
//! streams of watchers and the wire format are the server's.

mod catch_up;
mod codec;
mod command;
mod error;
mod event;
mod hash_kv;
mod import;
mod key_value;
mod layout;
mod lease;
mod lease_book;
mod numbers;
mod range;
mod reply;
mod state_machine;
mod store;
mod sweep;
mod txn;
mod types;
mod validate;
mod varint;
mod view;
mod watch;
mod write;

pub use catch_up::{CatchUp, Compacted};
pub use codec::{MAX_DEPTH, MAX_ITEMS, encode_delete, encode_put, encode_txn};
pub use command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Put, RangeQuery, SortOrder, SortTarget, Txn,
    TxnOp,
};
pub use error::{Code, StoreError};
pub use event::{Event, EventKind};
pub use hash_kv::HashKv;
pub use import::StoreImport;
pub use key_value::KeyValue;
pub use lease::LeaseChange;
pub use lease_book::LeaseBook;
pub use reply::{Body, RangeBody, RangeResult, Reply, Response};
pub use store::{OpenError, Options, Store};
pub use types::{LeaseId, Revision, Span};
pub use view::View;
pub use watch::{Delivery, Watch, WatchSet, WatcherId};
