//! `vrckpt/1`: the state of a lineage on directories and in S3, in a form from which a stranger gets it back.
//!
//! Frames of tree pages in packs, found by indexes, named by manifests, reached from one HEAD; the committed log in
//! segments beside them. A writer ships what a tier lacks and moves HEAD last; a reader goes the other way and checks
//! everything it loads. Nothing here knows the protocol: ops and digests are numbers, log entries are bytes.

pub mod chain;
pub mod format;
pub mod mutants;
pub mod pin;
pub mod repair;
pub mod restore;
#[cfg(feature = "s3-server")]
pub mod s3_server;
pub mod store;
pub mod verify;
pub mod writer;

/// Whether this build has mutants. Nothing that carries anybody's data may.
pub const HAS_MUTANTS: bool = cfg!(feature = "mutants");

// What goes to tiers and comes back.
pub use vr_tree::{Snapshot, Tree};
