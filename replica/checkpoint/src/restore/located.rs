//! Where a target lies, as whoever has loaded it tells whoever decides about a restore.
//!
//! A moment or a revision is a place in the log that only a load finds. The answer names what a restore is told
//! (`restore` in a replica's configuration) but for the reservation, which grows until the fence.

use serde::{Deserialize, Serialize};

/// Where a target lies. What leads there was loaded whole, and the log executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Located {
    /// The database.
    pub lineage: String,
    /// The generation that holds it.
    pub generation: u64,
    /// Op of the checkpoint that leads there.
    pub checkpoint: u64,
    /// Root of that checkpoint, hexadecimal.
    pub root: String,
    /// The op that it is.
    pub op: u64,
    /// Time of that op, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// The store's revision there.
    pub revision: i64,
}

/// What there is to say about a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is there.
    Located(Located),
    /// Nothing whole leads to it, and why.
    Nowhere(String),
}
