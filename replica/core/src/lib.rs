//! Viewstamped Replication (Liskov and Cowling, 2012) as a pure state machine, with the repairs that model checking
//! has shown to be needed.
//!
//! A [`Replica`] takes one [`Input`] at a time and writes what is to be done into [`Effects`]. It opens no socket,
//! reads no clock, starts no thread and draws no random number: whoever drives it owns all of these, and so does the
//! simulator, which drives exactly this code.
//!
//! What is replicated is opaque: implement [`StateMachine`] and the rest is yours to keep.
//!
//! # A service of your own
//!
//! Implement [`StateMachine`] (execute requests, take snapshots) and [`Import`] (take in the state of another replica; with
//! [`Sequence`] for a state of some megabytes, with something like `vr-tree` where only what differs should travel). Then
//! drive the replica: one thread, one loop, in which every message, request, tick and finished write is an [`Input`].
//!
//! The driver owes the protocol three things: [`Effect::WriteVote`] is durable before [`Input::VoteWritten`] says so;
//! effects are carried out in their order; and [`Input::Tick`] comes when [`Replica::next_deadline`] has passed. Messages may
//! be lost, doubled and reordered. A cluster of one, whose driver has no socket to write:
//!
//! ```
//! use bytes::Bytes;
//! use vr_core::*;
//!
//! /// Counts what it is sent.
//! #[derive(Clone, Default)]
//! struct Counter { total: u64, core: Vec<u8> }
//!
//! impl Counter {
//!     fn encode(&self) -> Vec<u8> {
//!         [&self.total.to_le_bytes()[..], &self.core].concat()
//!     }
//! }
//!
//! impl StateMachine for Counter {
//!     type Reply = u64;
//!     type Snapshot = Counter;
//!     type Import = Arriving;
//!
//!     fn execute(&mut self, _at: At, requests: &[Accepted<'_>], replies: &mut Vec<u64>) {
//!         for request in requests {
//!             self.total += request.body.len() as u64;
//!             if request.reply_wanted {
//!                 replies.push(self.total);
//!             }
//!         }
//!     }
//!     fn cut(&mut self, _op: Op, core_state: &[u8]) -> Counter {
//!         self.core = core_state.to_vec();
//!         self.clone()
//!     }
//!     fn core_state(&self) -> Vec<u8> {
//!         self.core.clone()
//!     }
//!     fn export(snapshot: &Counter, want: &[u8], max_bytes: usize) -> Bytes {
//!         Sequence::portion(&snapshot.encode(), want, max_bytes)
//!     }
//!     fn import(&self, _cut: Op, root: Digest, _earlier: Option<Arriving>) -> Arriving {
//!         Arriving { root, bytes: Sequence::new(1 << 20) }
//!     }
//! }
//!
//! struct Arriving { root: Digest, bytes: Sequence }
//!
//! impl Import for Arriving {
//!     type Machine = Counter;
//!
//!     fn want(&mut self) -> Option<Bytes> {
//!         self.bytes.want()
//!     }
//!     fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
//!         self.bytes.take(want, portion)
//!     }
//!     fn end(self) -> Result<Counter, ImportError> {
//!         let bytes = self.bytes.end()?;
//!         if blake3::hash(&bytes).as_bytes() != &self.root.0 {
//!             return Err(ImportError::Digest("another root".to_owned()));
//!         }
//!         let Some((total, core)) = bytes.split_first_chunk() else { return Err(ImportError::Incomplete) };
//!         Ok(Counter { total: u64::from_le_bytes(*total), core: core.to_vec() })
//!     }
//! }
//!
//! let id = ReplicaId(1);
//! let vote = VoteRecord {
//!     lineage: Lineage([1; 16]),
//!     generation: Generation(1),
//!     ballot: Ballot::default(),
//!     replica: id,
//!     incarnation: Incarnation(1),
//! };
//! let configuration = Configuration::bare(Epoch(0), [id]);
//! let (log, commit, last_normal) = (Vec::new(), Op(0), Ballot::default());
//! let start = Start::Complete { state: Counter::default(), log, commit, last_normal };
//! let mut out = Effects::new();
//! let mut now = Now { mono: 0, wall: 0 };
//! let boot = Boot { id, vote, configuration, begun: None, start, seed: 7 };
//! let mut replica = Replica::new(boot, Options::default(), now, &mut out)?;
//!
//! let body = Bytes::from_static(b"four");
//! let mut inputs = vec![Input::Submit { number: RequestNumber(1), body }];
//! let mut answer = None;
//! while answer.is_none() {
//!     // What has arrived meanwhile: messages of peers, requests of clients, writes that are durable.
//!     for input in inputs.drain(..) {
//!         replica.step(now, input, &mut out);
//!     }
//!     replica.step(now, Input::Turn, &mut out);
//!     for effect in out.0.drain(..) {
//!         match effect {
//!             Effect::Send(_to, _message) => { /* to one peer */ }
//!             Effect::Broadcast(_message) => { /* to every peer: encode it once */ }
//!             Effect::WriteVote(record) => inputs.push(Input::VoteWritten(record)), // once it is durable
//!             Effect::Reply { reply, .. } => answer = Some(reply),
//!             Effect::Cut { op, snapshot, .. } => { // hash it on another thread, then:
//!                 let root = Digest(*blake3::hash(&snapshot.encode()).as_bytes());
//!                 inputs.push(Input::CutRoot { op, root });
//!             }
//!             Effect::Fatal(reason) => panic!("{reason}"),
//!             _ => {}
//!         }
//!     }
//!     // Sleep until the deadline or until something arrives; here, time just passes.
//!     now.mono = replica.next_deadline().unwrap_or(now.mono).max(now.mono);
//!     inputs.push(Input::Tick);
//! }
//! assert_eq!(answer, Some(4));
//! # Ok::<(), BootError>(())
//! ```
//!
//! A cluster of three over TCP, with a log as its service, is `vr-example-log` in this repository.
//!
//! # What it does not promise
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
pub use configuration::{Configuration, MAX_READ_LEASE, Member};
pub use core_state::CoreState;
pub use execute::{ReplayEnd, ReplayError, replay};
pub use ids::*;
pub use import::{Import, ImportError, import_from};
pub use message::{Entry, Envelope, Header, Kind, Message};
pub use proposal::{Proposal, Refusal};
pub use replica::{
    Apart, Begun, Boot, BootError, Counters, Effect, Effects, Executed, Fate, Frozen, HandOffRefusal, Input,
    Leaving, Now, Options, PeerStanding, Replica, Start, Status, ThawError, VoteRecord,
};
pub use sequence::Sequence;
pub use sessions::WINDOW;
pub use state_machine::{Accepted, At, StateMachine};

/// Whether rules can be broken on purpose in this build: never in a product.
pub const HAS_MUTANTS: bool = cfg!(feature = "mutants");

#[cfg(test)]
mod tests;
