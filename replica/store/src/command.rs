//! What the log carries: one write (or transaction) of a client, or a decision of the primary.
//!
//! A command borrows its bytes: from the received protobuf when it is encoded, from the log entry when it is
//! executed. Nothing here is checked against etcd's rules; that happens at execution, the same on every replica.

use crate::types::{LeaseId, Revision, Span};

/// One request to the replicated store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Sets one key.
    Put(Put<'a>),
    /// Deletes the keys of a range.
    DeleteRange(DeleteRange<'a>),
    /// Compares, then does one branch or the other, all at one revision.
    Txn(Txn<'a>),
    /// Makes history below a revision unreadable.
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
    /// Creates a lease. Whoever proposes it has chosen the id.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Seconds that it lives without a keepalive; raised to the minimum.
        ttl: i64,
    },
    /// Ends a lease and deletes its keys, because a client said so.
    LeaseRevoke {
        /// Which.
        id: LeaseId,
    },
    /// Ends leases whose time is over, by the primary's clock. Those that are gone already are passed over.
    LeaseExpire {
        /// Which.
        ids: Vec<LeaseId>,
    },
    /// Allows writes up to and including this revision. Proposed once that is durable outside of memory.
    Reserve {
        /// The highest revision that may now be handed out; lower than before changes nothing.
        revision: Revision,
    },
}

/// Sets one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The lease that it is to hang on.
    pub lease: LeaseId,
    /// Whether the answer is to carry what stood there.
    pub prev_kv: bool,
    /// Keep the value that stands there.
    pub ignore_value: bool,
    /// Keep the lease that stands there.
    pub ignore_lease: bool,
}

/// Deletes the keys of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange<'a> {
    /// Which keys.
    pub span: Span<'a>,
    /// Whether the answer is to carry what was deleted.
    pub prev_kv: bool,
}

/// Reads the keys of a range, now or at an old revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeQuery<'a> {
    /// Which keys.
    pub span: Span<'a>,
    /// At most so many; 0 or less is all.
    pub limit: i64,
    /// At which revision; 0 or less is now.
    pub revision: Revision,
    /// In which direction.
    pub sort_order: SortOrder,
    /// By what.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave everything but the count out.
    pub count_only: bool,
    /// Drop keys modified before this revision (0: none).
    pub min_mod: Revision,
    /// Drop keys modified after this revision (0: none).
    pub max_mod: Revision,
    /// Drop keys created before this revision (0: none).
    pub min_create: Revision,
    /// Drop keys created after this revision (0: none).
    pub max_create: Revision,
}

/// The direction of a sorted range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SortOrder {
    /// Not asked for: by key, or ascending where a target is named.
    #[default]
    None = 0,
    /// Lowest first.
    Ascend = 1,
    /// Highest first.
    Descend = 2,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key = 0,
    /// How often it was written since it was created.
    Version = 1,
    /// When it was created.
    Create = 2,
    /// When it was written last.
    Mod = 3,
    /// The value.
    Value = 4,
}

impl SortOrder {
    /// From its number in the protobuf; `None` is answered [`crate::StoreError::InvalidSortOption`].
    #[must_use]
    pub fn from_wire(number: i32) -> Option<SortOrder> {
        [SortOrder::None, SortOrder::Ascend, SortOrder::Descend].get(usize::try_from(number).ok()?).copied()
    }
}

impl SortTarget {
    /// From its number in the protobuf; `None` is answered [`crate::StoreError::InvalidSortOption`].
    #[must_use]
    pub fn from_wire(number: i32) -> Option<SortTarget> {
        use SortTarget::{Create, Key, Mod, Value, Version};
        [Key, Version, Create, Mod, Value].get(usize::try_from(number).ok()?).copied()
    }
}

/// Compares, then does one branch or the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    /// All must hold for the first branch.
    pub compare: Vec<Compare<'a>>,
    /// Done when they do.
    pub success: Vec<TxnOp<'a>>,
    /// Done when one does not.
    pub failure: Vec<TxnOp<'a>>,
}

impl Txn<'_> {
    /// Whether neither branch can write, so that the log need not carry it. (A nested transaction counts as a
    /// write, as it does for etcd.)
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, TxnOp::Range(_)))
    }
}

/// One step of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp<'a> {
    /// Reads.
    Range(RangeQuery<'a>),
    /// Sets a key.
    Put(Put<'a>),
    /// Deletes keys.
    DeleteRange(DeleteRange<'a>),
    /// Compares again, then one of two further branches. All comparisons are made before the first write.
    Txn(Txn<'a>),
    /// Names nothing; it is refused.
    Empty,
}

/// One comparison; it holds when it holds for every key of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// Which keys.
    pub span: Span<'a>,
    /// What must be so between the key's side and the given one.
    pub result: CompareResult,
    /// What of the key, and what it is compared with.
    pub target: CompareTarget<'a>,
}

/// The relation that a comparison asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CompareResult {
    /// The same.
    #[default]
    Equal = 0,
    /// The key's is greater.
    Greater = 1,
    /// The key's is less.
    Less = 2,
    /// Different.
    NotEqual = 3,
}

impl CompareResult {
    /// From its number in the protobuf.
    #[must_use]
    pub fn from_wire(number: i32) -> Option<CompareResult> {
        use CompareResult::{Equal, Greater, Less, NotEqual};
        [Equal, Greater, Less, NotEqual].get(usize::try_from(number).ok()?).copied()
    }
}

/// What is compared. A key that does not exist compares as 0, and never by its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareTarget<'a> {
    /// How often it was written since it was created.
    Version(i64),
    /// When it was created.
    Create(i64),
    /// When it was written last.
    Mod(i64),
    /// Its value.
    Value(&'a [u8]),
    /// Its lease.
    Lease(i64),
}
