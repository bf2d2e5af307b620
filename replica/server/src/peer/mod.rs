//! Replicas among themselves: one TCP connection in each direction, an envelope to a frame.
//!
//! The replica that dialled sends. Whoever it has dialled answers over the same connection only if it keeps none in the
//! other direction: it does not know where a replica is that it has never heard of, or that left long ago. Messages may be
//! lost (a connection that breaks takes its queue with it); the protocol repeats what matters. Frames that are malformed,
//! or from a peer of another lineage or generation, end the connection; the one that is refused is told why in words
//! before that.
//!
//! ```text
//! connection: 8 bytes "VRPEER" 0 1, then frames
//! back:       the same, if there are answers; then, where it ends for a reason: an empty frame, unless there were none,
//!             and the reason as text
//! frame:      as in vr_proto::frame; its payload is a vr.peer.v1.Envelope
//! ```

pub mod codec;
mod link;
mod outbox;
mod refused;

pub use codec::{
    DriverMessage, Incoming, LeaseMessage, Sender, decode, encode, encode_control_answer, encode_control_ask,
    encode_cut_wanted, encode_lease,
};
pub use link::{accept, dial};
pub use outbox::{Outbox, WeakOutbox};
pub use refused::Refused;

/// First on every connection; the last byte is the version.
pub const MAGIC: &[u8; 8] = b"VRPEER\0\x01";
