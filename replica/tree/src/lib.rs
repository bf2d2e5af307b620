//! The state tree: a canonical Merkle tree over raw keys with copy-on-write pages and O(1) snapshots.
//!
//! Promises
//! - The shape is a pure function of the contents: the same entries give the same [`Snapshot::root`], whatever
//!   the order of the writes that led there.
//! - A [`Snapshot`] is a clone of one pointer. It never changes, and any thread may read, hash or free it
//!   while the [`Tree`] is written to.
//! - What changed after an op is found by walking changed pages only; removals show as well.
//! - A tree is fetched from elsewhere by the pages that differ from a tree that is here, each verified as it arrives
//!   ([`Fetch`], [`Snapshot::answer`]).
//! - No operation needs stack space in proportion to the data.
//!
//! Any keys work, the empty one and ones that are prefixes of others included. Key and value are limited to
//! `u32::MAX` bytes each, a tree to `u32::MAX` entries below any one page; both are checked.
//!
//! It does not do I/O, know what the entries mean, or spread work over threads by itself.

mod assemble;
mod build;
mod delta;
mod diff;
mod edit;
mod entry;
mod fetch;
mod hash;
mod leaf;
mod like;
mod load;
mod node;
mod page;
mod read;
mod release;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod walk;
mod want;
mod warm;

pub use diff::Difference;
pub use entry::{Entry, EntryKey, EntryValue};
pub use fetch::{Fetch, FetchError};
pub use hash::PageId;
pub use load::LoadError;
pub use page::{InnerPage, LeafPage, Page, PageChild, PageError, VerifiedPage};
pub use read::Snapshot;
pub use release::Release;
pub use shape::LEAF_MAX;
pub use tree::Tree;
pub use walk::NodeRef;
pub use want::{PAGES_MAX, WANT_MAX, WantError};
