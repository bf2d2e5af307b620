//! The resources that people apply: `VRCluster`, `VRCheckpoint`, `VRRestore`, `VRDrill` and `VRDrillSchedule` of
//! `vr-operator.io/v1alpha1`.
//!
//! The types are the one source: `crds/` is generated from them ([`crds`]), and a test compares. What a schema can
//! refuse it refuses, with a sentence that says what would be right: ranges and lengths by the schema itself, what
//! concerns several fields or the value before by a CEL rule. There is no webhook.
//!
//! Not here: what follows from a resource. That is the controller's.

#![allow(clippy::duplicated_attributes, reason = "two printer columns may have one type")]
#![allow(unreachable_pub, reason = "the derives of kube make the types public in modules of their own")]

mod checkpoint;
mod cluster;
mod common;
mod crd;
mod drill;
mod restore;
mod rotation;
mod status;
mod storage;

pub use checkpoint::{VRCheckpoint, VRCheckpointSpec, VRCheckpointStatus};
pub use cluster::*;
pub use common::{LocalReference, MemorySize};
pub use crd::crds;
pub use drill::*;
pub use restore::{LocatedTarget, Phase, RestoreTarget, VRRestore, VRRestoreSpec, VRRestoreStatus};
pub use rotation::{ROTATE_AUTHORITY, ROTATION, ROTATION_BESIDE, ROTATION_SIGNS, authority_secret, settle};
pub use status::*;
pub use storage::*;

/// The API group of every kind.
pub const GROUP: &str = "vr-operator.io";
/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";
