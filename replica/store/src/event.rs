//! What watchers are told.

use crate::key_value::KeyValue;
use crate::types::Revision;

/// Whether a key was set or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Set.
    Put,
    /// Deleted.
    Delete,
}

/// One change of one key. The changes of a revision follow each other in the order they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which kind.
    pub kind: EventKind,
    /// What it is now; of a deletion the key and the revision only.
    pub kv: KeyValue,
    /// What it was at the revision before, if it was and that is still known.
    pub prev: Option<KeyValue>,
}

impl Event {
    /// The revision it belongs to.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }
}
