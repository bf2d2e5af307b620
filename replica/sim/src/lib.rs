//! A seeded world of faults around the very same core and state machine as the servers.
//!
//! One number decides everything: cluster, load, network, clocks, disks and faults ([`plan`]). A [`world::World`]
//! plays it out and shows all it sees to the oracles ([`oracle`]); [`sweep`] does so for many seeds and refuses to call
//! a sweep good in which something expected never happened ([`coverage`]).
//!
//! It promises that equal seeds give equal traces, on every machine. It does not cover the wire format, sockets or
//! threads: those have tests of their own where they live.

pub mod coverage;
pub mod machine;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod oracle;
pub mod plan;
pub mod recording;
pub mod report;
pub mod rng;
pub mod run;
pub mod search;
pub mod shrink;
pub mod sweep;
pub mod tiers;
pub mod trace;
pub mod world;
