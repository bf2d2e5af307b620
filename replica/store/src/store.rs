//! The store: the tree, the numbers, and what is derived from the tree for speed.

use crate::command::{RangeQuery, Txn};
use crate::error::StoreError;
use crate::event::Event;
use crate::layout;
use crate::lease::{LeaseChange, Leases};
use crate::numbers::{Numbers, Sweep, Unreadable};
use crate::range::{self, Horizon};
use crate::reply::{RangeResult, Reply};
use crate::types::{LeaseId, Revision};
use crate::view::View;
use vr_tree::{Snapshot, Tree};

/// What all replicas of a cluster must be told alike: it decides what execution does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// At most so many compares or operations in a transaction (etcd's default: 128).
    pub max_txn_ops: usize,
    /// Leases live at least so many seconds. etcd takes three half election timeouts, rounded up: 2 by default.
    pub min_lease_ttl: i64,
    /// Writes that grow the state are refused above so many bytes; 0 is no limit.
    pub memory_limit: u64,
    /// The highest revision that a new store may hand out before the first reservation.
    pub first_reservation: Revision,
}

impl Default for Options {
    /// etcd's defaults, no memory limit, and no reservation to wait for.
    fn default() -> Options {
        Options { max_txn_ops: 128, min_lease_ttl: 2, memory_limit: 0, first_reservation: Revision(i64::MAX) }
    }
}

/// Why a snapshot is no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It has none of the store's own numbers.
    #[error("the snapshot holds no store (entry `!n` is missing or broken): choose another checkpoint")]
    NotAStore,
    /// Written by another release.
    #[error("the snapshot has store format {found}, this release reads {known}: use a release that reads it")]
    Format {
        /// What stands in it.
        found: u64,
        /// What this release knows.
        known: u64,
    },
    /// An entry that no store writes.
    #[error("the snapshot's entry {key} is not what a store writes: choose another checkpoint")]
    Broken {
        /// Its tree key, in hexadecimal.
        key: String,
    },
}

/// etcd's data model on a state tree. Written to through [`vr_core::StateMachine`] only.
#[derive(Debug)]
pub struct Store {
    pub(crate) tree: Tree,
    pub(crate) options: Options,
    pub(crate) numbers: Numbers,
    pub(crate) leases: Leases,
    pub(crate) events: Vec<Event>,
    pub(crate) lease_changes: Vec<LeaseChange>,
    pub(crate) scratch: Scratch,
}

/// Buffers of the hot path, kept so that a put allocates nothing but its entries.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) live: Vec<u8>,
    pub(crate) past: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Store {
    /// An empty store at revision 1.
    #[must_use]
    pub fn new(options: Options) -> Store {
        Store {
            tree: Tree::new(),
            numbers: Numbers::new(options.first_reservation),
            options,
            leases: Leases::default(),
            events: Vec::new(),
            lease_changes: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// The store of a snapshot that [`vr_core::StateMachine::cut`] took. Reads every entry once.
    ///
    /// # Errors
    /// If the snapshot is of another format, or no store at all.
    pub fn from_snapshot(snapshot: Snapshot, options: Options) -> Result<Store, OpenError> {
        let numbers = numbers_of(&snapshot)?;
        let leases = Leases::of(&snapshot)?;
        Ok(Store { tree: Tree::from(snapshot), numbers, leases, ..Store::new(options) })
    }

    /// To be called on every replica after the state was restored from a checkpoint, before anything is executed.
    ///
    /// The next write gets the revision after `reserved`, the highest that the lost cluster may have handed out
    /// (a store that is further already stays where it is); everything below counts as compacted, so that no watcher
    /// takes the restored history for the one it knew. Nothing can be written until a further
    /// [`crate::Command::Reserve`] is executed. Leases have their full time again because deadlines are not stored.
    pub fn after_restore(&mut self, reserved: Revision) {
        let revision = reserved.max(self.numbers.revision);
        self.numbers.revision = revision;
        self.numbers.compacted = revision;
        self.numbers.reserved = revision;
        self.numbers.sweep = Some(Sweep::default());
        self.events.clear();
        self.lease_changes.clear();
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.numbers.revision
    }

    /// The oldest revision that can be read; -1 before the first compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.numbers.compacted
    }

    /// The highest revision that may be handed out. Ask for more long before it is reached.
    #[must_use]
    pub fn reserved(&self) -> Revision {
        self.numbers.reserved
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of state: what etcd calls the size of its database.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tree.view().bytes()
    }

    /// Number of live keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        let tree = self.tree.view();
        tree.rank(&[layout::LIVE + 1]) - tree.rank(&[layout::LIVE])
    }

    /// Whether the removal of compacted versions is still under way.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        self.numbers.sweep.is_some()
    }

    /// Reads a range of what is executed.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`], [`StoreError::FutureRev`], [`StoreError::Compacted`].
    pub fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResult, StoreError> {
        crate::validate::range(query)?;
        range::range(self.tree.view(), self.horizon(), query)
    }

    /// Answers a transaction that only reads, without the log.
    ///
    /// # Errors
    /// As for the transaction in the log; [`StoreError::NotReadOnly`] if it is not [`Txn::is_read_only`].
    pub fn read_txn(&self, txn: &Txn<'_>) -> Reply {
        crate::txn::read(self.tree.view(), self.horizon(), txn, self.options.max_txn_ops)
    }

    /// Everything as it is now, to be read on any thread, with the history that goes with it.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.tree.snapshot(), self.horizon())
    }

    /// The seconds a lease was granted; `None` if there is no such lease.
    #[must_use]
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.ttl(id)
    }

    /// The keys that hang on a lease, in order; none if there is no such lease.
    pub fn lease_keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        self.leases.keys(id)
    }

    /// Every lease with the seconds it was granted, by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.leases.all()
    }

    /// Moves the changes since the last call to the end of `into`, in order, whole revisions. Whoever executes must
    /// also drain: what is not taken stays.
    pub fn drain_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    /// Moves the leases granted and ended since the last call to the end of `into`: what a
    /// [`crate::LeaseBook`] must hear. Whoever executes must also drain.
    pub fn drain_lease_changes(&mut self, into: &mut Vec<LeaseChange>) {
        into.append(&mut self.lease_changes);
    }

    pub(crate) fn horizon(&self) -> Horizon {
        Horizon { revision: self.numbers.revision, compacted: self.numbers.compacted }
    }
}

/// The numbers that a cut left in a snapshot.
pub(crate) fn numbers_of(snapshot: &Snapshot) -> Result<Numbers, OpenError> {
    let entry = snapshot.get(layout::NUMBERS_KEY).ok_or(OpenError::NotAStore)?;
    Numbers::decode(entry.value()).map_err(|unreadable| match unreadable {
        Unreadable::Format(found) => OpenError::Format { found, known: layout::FORMAT },
        Unreadable::Broken => OpenError::NotAStore,
    })
}
