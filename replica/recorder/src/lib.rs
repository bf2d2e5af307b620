//! The flight recorder: every input of a replica's core, in a bounded ring with a replica to begin from, and a way to
//! tell it all again elsewhere.
//!
//! [`Recorder`] rides along with a running replica: one clone of an input (bodies are shared, not copied) and one hash of
//! the effects a step. [`Tape`] is what it holds at one moment, cheap to take and written out on another thread.
//! [`Recording`] is a tape read back; [`Recording::replay`] takes every step again and compares the effects of each one,
//! the roots of all cuts, and at the end the whole replica and its state.
//!
//! It promises that a replay by the same build comes to the same, or says at which step it does not. It does not promise
//! that of another build: what is recorded are inputs and the replica's own fields, not a format made to last. What is
//! beyond the core (sockets, disks, the clock itself) is not recorded but for what of it was an input.
//!
//! A recording holds client data: keys, values and requests, unencrypted.

mod check;
mod file;
mod recorder;
mod replay;
mod state;

pub use file::{FORMAT, ReadError, Recording};
pub use recorder::{Recorder, Tape};
pub use replay::{Difference, Replayed, Told};
