//! Replicas talking to each other in memory: a deterministic world small enough to script single traces in.

mod data;
mod freeze;
mod reconfigure;
mod reconfigure_swarm;
mod recovery;
mod service;
mod sessions;
mod swarm;
mod transfer;
mod views;
mod world;
