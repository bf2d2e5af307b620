//! A tree on its way in from elsewhere, beside one that is here: only pages that differ are asked for.
//!
//! The caller carries wants to a [`Snapshot::answer`] somewhere and portions back. Several wants may be under way at once,
//! in any order. Every page is verified by its id when it arrives, every inner page by the rule when all below it is there:
//! what comes out has the root that was asked for and is the tree that writing the same entries would have made.
//!
//! It knows no clock and repeats nothing by itself: a want that is lost is the caller's to carry again.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::assemble::{self, Built};
use crate::entry::Entry;
use crate::hash::{self, PageId};
use crate::like::{self, Like};
use crate::node::Node;
use crate::page::{Hex, InnerPage, Page, PageError};
use crate::read::Snapshot;
use crate::want::{self, Group, PAGES_MAX};

/// A want that has grown beyond this many bytes takes no further group.
const WANT_BYTES: usize = 4 << 10;

/// Why a portion was not taken in as a whole. What came before the fault in it is kept; the rest is wanted again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// Nobody waits for it.
    #[error("the portion answers nothing that is waited for")]
    NotAsked,
    /// No page, or more than were asked for.
    #[error("the portion has {found} pages, {asked} were asked for")]
    Pages {
        /// Pages asked for.
        asked: usize,
        /// Pages that came.
        found: usize,
    },
    /// The bytes end inside a page.
    #[error("the portion is cut short after {0} pages")]
    Truncated(usize),
    /// Not the page asked for, or not a page that the rule gives.
    #[error("page {} is not valid: {error}; fetch it from another source", Hex(id))]
    Page {
        /// Which page.
        id: PageId,
        /// What is wrong with it.
        error: PageError,
    },
    /// The caller does not accept an entry.
    #[error("page {} holds an entry that cannot be there; fetch from another source", Hex(.0))]
    Entry(PageId),
    /// Pages are missing.
    #[error("{0} pages have not arrived")]
    Incomplete(usize),
}

/// A tree on its way in.
#[derive(Debug)]
pub struct Fetch {
    op: u64,
    leaf_max: u64,
    /// Complete pages that arrived: found again when the tree that is wanted becomes another one.
    arrived: BTreeMap<PageId, Arc<Node>>,
    /// Inner pages that lack pages below them.
    frames: BTreeMap<u64, Frame>,
    next_frame: u64,
    /// The next one to ask for is the last: that way whole subtrees are complete soon.
    missing: Vec<Missing>,
    asked: Vec<(Vec<u8>, Vec<Missing>)>,
    done: Option<Snapshot>,
    /// Why the tree asked for can never be complete.
    broken: Option<FetchError>,
    pages: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    frame: u64,
    slot: u16,
}

#[derive(Debug)]
struct Missing {
    id: PageId,
    /// Entries that the page above claims; not known for the top page.
    count: Option<u64>,
    /// `None` for the top page.
    place: Option<Place>,
    /// What is about there in the tree here.
    like: Option<Arc<Node>>,
}

struct Frame {
    id: PageId,
    page: InnerPage,
    below: Vec<Option<Built>>,
    lacking: usize,
    place: Option<Place>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {} lacking {} of {}", Hex(&self.id), self.lacking, self.below.len())
    }
}

impl Fetch {
    /// The tree of this root is wanted; `here` is what is there already. Pages that arrive count as changed by `op`.
    #[must_use]
    pub fn new(root: &PageId, here: &Snapshot, op: u64) -> Fetch {
        let mut fetch = Fetch {
            op,
            leaf_max: here.leaf_max,
            arrived: BTreeMap::new(),
            frames: BTreeMap::new(),
            next_frame: 0,
            missing: Vec::new(),
            asked: Vec::new(),
            done: None,
            broken: None,
            pages: 0,
            bytes: 0,
        };
        fetch.begin(root, here, op);
        fetch
    }

    /// Another tree is wanted instead. What has arrived is used for it as far as it fits; what is asked is forgotten.
    #[must_use]
    pub fn instead(mut self, root: &PageId, here: &Snapshot, op: u64) -> Fetch {
        self.stop();
        self.begin(root, here, op);
        self
    }

    fn stop(&mut self) {
        self.frames.clear();
        self.missing.clear();
        self.asked.clear();
    }

    fn begin(&mut self, root: &PageId, here: &Snapshot, op: u64) {
        self.op = op;
        self.broken = None;
        if *root == hash::empty_root() {
            self.done = Some(Snapshot { changed: op, leaf_max: self.leaf_max, ..Snapshot::default() });
            return;
        }
        self.done = None;
        let top = Missing { id: *root, count: None, place: None, like: here.root.clone() };
        match self.known(&top) {
            Some(built) => self.top(built),
            None => self.missing.push(top),
        }
    }

    /// What to ask for next, at most `max_pages` pages; `None` when nothing is known to be missing that is not asked for.
    pub fn want(&mut self, max_pages: usize) -> Option<Vec<u8>> {
        let (mut bytes, mut named) = (Vec::new(), Vec::new());
        while named.len() < max_pages.clamp(1, PAGES_MAX) && bytes.len() < WANT_BYTES {
            let Some(first) = self.missing.pop() else { break };
            let Some(Place { frame, slot }) = first.place else {
                Group { path: Vec::new(), slots: Vec::new() }.encode(&mut bytes);
                named.push(first);
                break;
            };
            let mut group = Group { path: self.path(frame), slots: vec![slot] };
            named.push(first);
            while named.len() < max_pages.min(PAGES_MAX)
                && let Some(next) = self.missing.pop_if(|next| next.place.is_some_and(|at| at.frame == frame))
            {
                group.slots.extend(next.place.map(|at| at.slot));
                named.push(next);
            }
            group.encode(&mut bytes);
        }
        if named.is_empty() {
            return None;
        }
        self.asked.push((bytes.clone(), named));
        Some(bytes)
    }

    /// From the top page down to the page of a frame.
    fn path(&self, frame: u64) -> Vec<u16> {
        let mut path = Vec::new();
        let mut above = self.frame(frame).place;
        while let Some(place) = above {
            path.push(place.slot);
            above = self.frame(place.frame).place;
        }
        path.reverse();
        path
    }

    fn frame(&self, number: u64) -> &Frame {
        self.frames.get(&number).expect("a frame stays until all below it is there")
    }

    /// Takes in the answer to a want. `accepts` says of every entry that arrives whether it may be there.
    ///
    /// # Errors
    /// See [`FetchError`]; pages before the fault are kept. Whatever is still missing is part of a later want.
    pub fn take(
        &mut self,
        want: &[u8],
        portion: &[u8],
        mut accepts: impl FnMut(&Entry) -> bool,
    ) -> Result<(), FetchError> {
        let at = self.asked.iter().position(|(bytes, _)| bytes == want).ok_or(FetchError::NotAsked)?;
        let (_, named) = self.asked.remove(at);
        let asked = named.len();
        let mut named = named.into_iter();
        let mut found = 0;
        let mut outcome = Ok(());
        // What is found missing below goes behind what was asked here: deeper first.
        let mut below = Vec::new();
        for page in want::pages(portion) {
            let Some(bytes) = page else {
                outcome = Err(FetchError::Truncated(found));
                break;
            };
            found += 1;
            let Some(missing) = named.next() else {
                outcome = Err(FetchError::Pages { asked, found });
                break;
            };
            if let Err(error) = self.page(&missing, bytes, &mut accepts, &mut below) {
                if self.broken.is_some() {
                    return Err(error);
                }
                outcome = Err(error);
                self.missing.push(missing);
                break;
            }
            self.pages += 1;
            self.bytes += bytes.len() as u64;
        }
        if found == 0 && outcome.is_ok() {
            outcome = Err(FetchError::Pages { asked, found });
        }
        // In the order in which they would have been popped.
        let left: Vec<_> = named.collect();
        self.missing.extend(left.into_iter().rev());
        self.missing.append(&mut below);
        outcome
    }

    fn page(
        &mut self,
        missing: &Missing,
        bytes: &[u8],
        accepts: &mut impl FnMut(&Entry) -> bool,
        below: &mut Vec<Missing>,
    ) -> Result<(), FetchError> {
        let id = missing.id;
        let invalid = |error| FetchError::Page { id, error };
        let verified = Page::verify_with(&id, bytes, self.leaf_max).map_err(invalid)?;
        let count = match &verified.page {
            Page::Leaf(leaf) => leaf.entries.len() as u64,
            Page::Inner(page) => page.children.iter().map(|child| child.count).sum(),
        };
        if let (Some(claimed), Some(place)) = (missing.count, missing.place)
            && claimed != count
        {
            let slot = usize::from(place.slot);
            return Err(invalid(PageError::CountBelow { slot, claimed, found: count }));
        }
        match verified.page {
            Page::Leaf(leaf) => {
                if !leaf.entries.iter().all(accepts) {
                    return Err(FetchError::Entry(id));
                }
                let built = Built::leaf(id, leaf.entries, self.op);
                self.arrived.insert(id, Arc::clone(&built.node));
                self.complete(built, missing.place)
            }
            Page::Inner(page) => self.open(missing, page, below),
        }
    }

    /// An inner page has arrived: what of the pages below it is here, and what is missing.
    fn open(
        &mut self,
        missing: &Missing,
        page: InnerPage,
        below: &mut Vec<Missing>,
    ) -> Result<(), FetchError> {
        let number = self.next_frame;
        self.next_frame += 1;
        let like = Like::find(missing.like.as_ref(), &page);
        let mut slots = Vec::with_capacity(page.children.len());
        let mut lacking = 0;
        for (slot, child) in page.children.iter().enumerate().rev() {
            let place = Some(Place { frame: number, slot: slot as u16 });
            let like = like.at(child.range).cloned();
            let child = Missing { id: child.id, count: Some(child.count), place, like };
            let known = self.known(&child);
            if known.is_none() {
                lacking += 1;
                below.push(child);
            }
            slots.push(known);
        }
        slots.reverse();
        let frame = Frame { id: missing.id, page, below: slots, lacking, place: missing.place };
        if lacking > 0 {
            self.frames.insert(number, frame);
            return Ok(());
        }
        let place = frame.place;
        let built = self.close(frame)?;
        self.complete(built, place)
    }

    /// The page, if it is here or has arrived before.
    fn known(&self, missing: &Missing) -> Option<Built> {
        let here = missing.like.as_ref().and_then(|like| like::same(like, &missing.id));
        here.or_else(|| self.arrived.get(&missing.id)).map(|node| Built::of(Arc::clone(node)))
    }

    fn close(&mut self, frame: Frame) -> Result<Built, FetchError> {
        let below = frame.below.into_iter().map(|built| built.expect("nothing is lacking")).collect();
        match assemble::inner(frame.id, &frame.page, below, self.op, self.leaf_max) {
            Ok(built) => {
                self.arrived.insert(frame.id, Arc::clone(&built.node));
                Ok(built)
            }
            Err(error) => {
                // Every page is what was asked for, so it is the root that is none of a tree.
                let error = FetchError::Page { id: frame.id, error };
                self.stop();
                self.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    /// A page is complete; so may be those above it.
    fn complete(&mut self, mut built: Built, mut place: Option<Place>) -> Result<(), FetchError> {
        while let Some(Place { frame: number, slot }) = place {
            let frame = self.frames.get_mut(&number).expect("a frame stays until all below it is there");
            frame.below[usize::from(slot)] = Some(built);
            frame.lacking -= 1;
            if frame.lacking > 0 {
                return Ok(());
            }
            let frame = self.frames.remove(&number).expect("the frame just looked at");
            place = frame.place;
            built = self.close(frame)?;
        }
        self.top(built);
        Ok(())
    }

    fn top(&mut self, built: Built) {
        let changed = self.op.max(built.node.changed);
        self.done = Some(Snapshot { root: Some(built.node), changed, leaf_max: self.leaf_max });
    }

    /// Whether all of it is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done.is_some()
    }

    /// Pages that have arrived, and their bytes, since the very beginning.
    #[must_use]
    pub fn arrived(&self) -> (u64, u64) {
        (self.pages, self.bytes)
    }

    /// The tree.
    ///
    /// # Errors
    /// [`FetchError::Incomplete`] as long as [`Fetch::is_complete`] does not hold, and the fault that was found when the
    /// tree asked for turned out not to be one.
    pub fn finish(self) -> Result<Snapshot, FetchError> {
        let asked: usize = self.asked.iter().map(|(_, named)| named.len()).sum();
        let incomplete = FetchError::Incomplete(self.missing.len() + asked);
        self.done.ok_or(self.broken.unwrap_or(incomplete))
    }
}
