//! Who writes, what is written, and what that took.

use crate::format::Parent;
use std::fmt;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the database.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: u64,
    /// The replica.
    pub replica: u64,
}

/// How a generation began, unless it is the first. Everybody who belongs to it knows the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Where.
    pub parent: Parent,
    /// What the restore chose at random: HEAD with another one is of another restore that took the same number.
    pub token: String,
}

/// What a checkpoint says beside its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The op it was cut at.
    pub op: u64,
    /// View of that entry.
    pub view: u64,
    /// Epoch of that entry.
    pub epoch: u64,
    /// Time of that entry, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// Chained digest of the log through it.
    pub log_digest: [u8; 32],
    /// The store's revision.
    pub revision: i64,
    /// No revision above this one was handed out by then.
    pub reserved_revision: i64,
    /// The members.
    pub configuration: serde_json::Value,
}

/// What a checkpoint took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Key of its manifest.
    pub manifest: String,
    /// Root of the state.
    pub root: [u8; 32],
    /// Pages of the state.
    pub pages: u64,
    /// Pages shipped.
    pub shipped_pages: u64,
    /// Those of them that were shipped as deltas.
    pub shipped_deltas: u64,
    /// Bytes shipped.
    pub shipped_bytes: u64,
}

/// A lineage's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub [u8; 16]);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}
