//! Tiers in trouble: every promise of the writer, the restore and the chain that only shows when something goes wrong.

mod chain;
mod claims;
mod collect;
mod crashes;
mod deltas;
#[cfg(feature = "s3")]
mod foreign;
mod power;
mod repair;
mod retention;
#[cfg(feature = "s3-server")]
mod s3;
mod support;
mod whole;
