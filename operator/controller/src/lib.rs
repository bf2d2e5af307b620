//! Decides what happens to a `VRCluster`.
//!
//! [`plan`] is a pure function: what is wanted ([`Wanted`]), what was said last (the status of the resource), what
//! was seen ([`Snapshot`]) and the time go in; the next status and at most one [`Step`] come out. It reads no clock,
//! draws no random number and asks nobody, so that tables and random worlds can try it.
//!
//! A step is carried out with a precondition and may fail or be forgotten: the next look decides anew. What must not be
//! forgotten is written to the status before it is acted on, so that another process of the operator goes on with it.
//!
//! [`objects`] are the pods, volumes, services and policies that the steps speak of, as the API server gets them.
//!
//! [`run`] is the program: it looks at a real Kubernetes and carries the steps out.

mod drill;
mod evidence;
mod ids;
mod named;
pub mod objects;
mod plan;
mod protection;
mod proven;
mod report;
mod rollback;
mod rotation;
pub mod run;
mod schedule;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;
mod wanted;

pub use evidence::{Ended, Look, Members, Silence, Standing, Unused};
pub use ids::{
    ConfigurationId, Epoch, Generation, Lineage, Moment, NodeName, Op, ReplicaId, Seconds, Slot, Template,
    Uid, Zone,
};
pub use plan::{Plan, plan};
pub use rotation::Rotation;
pub use snapshot::*;
pub use step::{Change, Start, Step};
pub use wanted::{Update, Volumes, Wanted};
