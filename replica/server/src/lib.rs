//! One replica: sockets, clocks, disks and threads around `vr-core` and `vr-store`, and etcd's v3 interface.
//!
//! It makes no protocol decisions. One thread carries everything that a request touches; disks and S3 have threads of
//! their own and never hold one up.

// A build that could break its own rules must never carry anybody's data.
const _: () = assert!(
    !vr_core::HAS_MUTANTS && !vr_checkpoint::HAS_MUTANTS,
    "the product was built with the feature `mutants`; build it alone"
);

pub mod boot;
pub mod command;
pub mod config;
mod control;
pub mod etcd;
pub mod export;
pub mod flight;
mod front;
mod http;
mod keepalive;
mod listen;
mod marker;
pub mod members;
mod memory;
pub mod metrics;
mod native;
pub mod node;
pub mod peer;
mod refusal;
pub mod serve;
pub mod status;
pub mod tls;
pub mod vote;

// For tools that show or propose who leads.
pub use vr_core::{ReplicaId, placement};
