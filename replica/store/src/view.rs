//! The state at one moment, to be read on any thread: ranges, history for watchers, etcd's hash.

use crate::command::RangeQuery;
use crate::error::StoreError;
use crate::range::{self, Horizon};
use crate::reply::RangeResult;
use crate::store::{self, OpenError};
use crate::types::Revision;
use vr_tree::Snapshot;

/// A snapshot together with the revisions it can be read at. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Snapshot,
    horizon: Horizon,
}

impl View {
    pub(crate) fn new(snapshot: Snapshot, horizon: Horizon) -> View {
        View { snapshot, horizon }
    }

    /// Of a snapshot that a cut took. Does not check the entries: that is [`crate::Store::from_snapshot`]'s work, so
    /// only give it snapshots of this process or checked ones.
    ///
    /// # Errors
    /// If the snapshot is of another format, or no store at all.
    pub fn of_cut(snapshot: &Snapshot) -> Result<View, OpenError> {
        let numbers = store::numbers_of(snapshot)?;
        let horizon = Horizon { revision: numbers.revision, compacted: numbers.compacted };
        Ok(View { snapshot: snapshot.clone(), horizon })
    }

    /// The newest revision in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.horizon.revision
    }

    /// The oldest revision that can be read; -1 before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.horizon.compacted
    }

    /// Reads a range.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`], [`StoreError::FutureRev`], [`StoreError::Compacted`].
    pub fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResult, StoreError> {
        crate::validate::range(query)?;
        range::range(&self.snapshot, self.horizon, query)
    }

    pub(crate) fn tree(&self) -> &Snapshot {
        &self.snapshot
    }
}
