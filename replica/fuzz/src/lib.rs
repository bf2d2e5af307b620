//! Every decoder that reads what another process or another time wrote, under inputs that nobody wrote.
//!
//! A [`Target`] is one decoder with what must hold of it beyond "it does not panic": what it accepts, it writes back as
//! the same bytes, so no two files mean the same and nothing of an input is passed over. `corpus/` keeps one directory
//! per target: what `valid-` names must be accepted for ever (it may be on somebody's disk), what `bad-` names must be
//! refused. `tests/decoders.rs` changes these inputs in a repeatable way, as many times as `VR_FUZZ_ROUNDS` says.
//!
//! It promises nothing about inputs whose meaning is wrong although their form is right: that is the simulator's part.

mod mutate;
mod targets;

pub use mutate::{Dice, mutate};
pub use targets::{Target, Verdict, targets};
