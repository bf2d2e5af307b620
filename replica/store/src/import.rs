//! The store of another replica on its way in, by the tree pages that this one lacks.
//!
//! Its keys, history and leases are checked entry by entry as pages arrive. What is derived from the tree, which keys hang
//! on which lease, is brought up to date at the end from what differs between the two trees: the cost is a copy of the
//! index that is here, and a walk over the difference.

use crate::layout;
use crate::lease::Leases;
use crate::store::{Options, Store, numbers_of};
use bytes::Bytes;
use vr_core::{Digest, Import, ImportError, Op};
use vr_tree::{Fetch, FetchError, PageError, Snapshot, Tree};

/// Pages that one want names: about what fits a portion.
const PAGES: usize = 32;

/// A store on its way in.
#[derive(Debug)]
pub struct StoreImport {
    fetch: Fetch,
    /// What is here, and the leases that belong to it.
    here: Snapshot,
    leases: Leases,
    options: Options,
}

impl StoreImport {
    pub(crate) fn begin(store: &Store, cut: Op, root: Digest, earlier: Option<StoreImport>) -> StoreImport {
        let here = store.tree.snapshot();
        // Pages that arrive are newer than any checkpoint taken here before.
        let fetch = match earlier {
            Some(earlier) => earlier.fetch.instead(&root.0, &here, cut.0),
            None => Fetch::new(&root.0, &here, cut.0),
        };
        StoreImport { fetch, here, leases: store.leases.clone(), options: store.options }
    }

    /// Pages that have arrived, and their bytes.
    #[must_use]
    pub fn arrived(&self) -> (u64, u64) {
        self.fetch.arrived()
    }
}

impl Import for StoreImport {
    type Machine = Store;

    fn want(&mut self) -> Option<Bytes> {
        self.fetch.want(PAGES).map(Bytes::from)
    }

    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        let valid = |entry: &vr_tree::Entry| layout::is_valid(entry.key(), entry.value());
        self.fetch.take(want, portion, valid).map_err(refused)
    }

    fn end(self) -> Result<Store, ImportError> {
        let StoreImport { fetch, here, mut leases, options } = self;
        let snapshot = fetch.finish().map_err(refused)?;
        let numbers = numbers_of(&snapshot).map_err(|error| ImportError::Malformed(error.to_string()))?;
        leases.follow(&here, &snapshot).map_err(|error| ImportError::Malformed(error.to_string()))?;
        Ok(Store { tree: Tree::from(snapshot), numbers, leases, ..Store::new(options) })
    }
}

fn refused(error: FetchError) -> ImportError {
    match error {
        FetchError::Incomplete(_) => ImportError::Incomplete,
        FetchError::Page { error: PageError::Id(_), .. } => ImportError::Digest(error.to_string()),
        error => ImportError::Malformed(error.to_string()),
    }
}
