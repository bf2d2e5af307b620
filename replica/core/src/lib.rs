//! Viewstamped Replication (Liskov and Cowling, 2012) as a pure state machine, with the repairs that model checking
//! has shown to be needed.
//!
//! A [`Replica`] takes one [`Input`] at a time and writes what is to be done into [`Effects`]. It opens no socket,
//! reads no clock, starts no thread and draws no random number: whoever drives it owns all of these, and so does the
//! simulator, which drives exactly this code.
//!
//! What is replicated is opaque: implement [`StateMachine`] and the rest is yours to keep.
//!
//! It does not promise that an acknowledged write survives the simultaneous loss of a majority's memory. That is
//! detected ([`Status::QuorumLost`]) and left to the checkpoints.

pub mod batch;
pub mod codec;
pub mod configuration;
pub mod core_state;
pub mod execute;
pub mod ids;
mod import;
pub mod log;
pub mod message;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
mod order;
pub mod placement;
pub mod proposal;
pub mod quorum;
pub mod replica;
pub mod select;
mod sequence;
pub mod sessions;
pub mod state_machine;

pub use codec::DecodeError;
pub use configuration::{Configuration, Member};
pub use core_state::CoreState;
pub use execute::{ReplayEnd, ReplayError, replay};
pub use ids::*;
pub use import::{Import, ImportError, import_from};
pub use message::{Entry, Envelope, Header, Kind, Message};
pub use proposal::{Proposal, Refusal};
pub use replica::{
    Boot, BootError, Counters, Effect, Effects, Fate, HandOffRefusal, Input, Leaving, Now, Options,
    PeerStanding, Replica, Start, Status, VoteRecord,
};
pub use sequence::Sequence;
pub use sessions::WINDOW;
pub use state_machine::{Accepted, At, StateMachine};

/// Whether rules can be broken on purpose in this build: never in a product.
pub const HAS_MUTANTS: bool = cfg!(feature = "mutants");

#[cfg(test)]
mod tests;
