//! A tree put together again from its pages, from the root down and checked from the leaves up.
//!
//! Every page must hash to the id that it was asked for by, and the whole must be the canonical shape of its
//! contents: then, and only then, is the loaded tree one that writing the same entries would have made.

use thiserror::Error;

use crate::assemble::{self, Built};
use crate::hash::{self, PageId};
use crate::page::{Hex, InnerPage, Page, PageError, VerifiedPage};
use crate::read::Snapshot;
use crate::shape::LEAF_MAX;

/// Why a tree could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError<E> {
    /// The source did not give a page.
    #[error("page {} could not be fetched: {source}", Hex(id))]
    Fetch {
        /// Which page.
        id: PageId,
        /// What the source said.
        source: E,
    },
    /// The source gave something that is not that page.
    #[error("page {} is not valid: {error}; fetch it from another source", Hex(id))]
    Page {
        /// Which page.
        id: PageId,
        /// What is wrong with it.
        error: PageError,
    },
}

impl Snapshot {
    /// The tree whose top page is `root`; every page is asked for once, a page before those below it.
    ///
    /// Its pages count as changed by op 0. The root of an empty tree asks for nothing.
    pub fn load<E>(
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<Vec<u8>, E>,
    ) -> Result<Snapshot, LoadError<E>> {
        Snapshot::load_with(LEAF_MAX, root, |id| {
            let bytes = fetch(id).map_err(|source| LoadError::Fetch { id: *id, source })?;
            Page::verify(id, &bytes).map_err(|error| LoadError::Page { id: *id, error })
        })
    }

    /// As [`Snapshot::load`], from pages that were verified elsewhere, on several threads for instance.
    pub fn load_verified<E>(
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<VerifiedPage, E>,
    ) -> Result<Snapshot, LoadError<E>> {
        Snapshot::load_with(LEAF_MAX, root, |id| {
            let page = fetch(id).map_err(|source| LoadError::Fetch { id: *id, source })?;
            if page.id != *id {
                return Err(LoadError::Page { id: *id, error: PageError::Id(page.id) });
            }
            Ok(page)
        })
    }

    pub(crate) fn load_with<E>(
        leaf_max: u64,
        root: &PageId,
        mut fetch: impl FnMut(&PageId) -> Result<VerifiedPage, LoadError<E>>,
    ) -> Result<Snapshot, LoadError<E>> {
        if *root == hash::empty_root() {
            return Ok(Snapshot { leaf_max, ..Snapshot::default() });
        }
        let mut path: Vec<Frame> = Vec::new();
        let mut wanted = *root;
        loop {
            let verified = fetch(&wanted)?;
            let mut built = match verified.page {
                Page::Leaf(leaf) => Built::leaf(wanted, leaf.entries, 0),
                Page::Inner(page) => {
                    let below = Vec::with_capacity(page.children.len());
                    wanted = page.children[0].id;
                    path.push(Frame { id: verified.id, page, below });
                    continue;
                }
            };
            // Hands the finished page upwards until some page still lacks one.
            wanted = loop {
                let Some(frame) = path.last_mut() else {
                    return Ok(Snapshot { root: Some(built.node), changed: 0, leaf_max });
                };
                frame.below.push(built);
                if let Some(next) = frame.page.children.get(frame.below.len()) {
                    break next.id;
                }
                let frame = path.pop().expect("the frame just looked at");
                let id = frame.id;
                built = assemble::inner(id, &frame.page, frame.below, 0, leaf_max)
                    .map_err(|error| LoadError::Page { id, error })?;
            };
        }
    }
}

/// An inner page that waits for the pages below it.
struct Frame {
    id: PageId,
    page: InnerPage,
    below: Vec<Built>,
}
