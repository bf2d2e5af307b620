//! What the packs of one source hold: pages, and deltas that become pages once what they are applied to is there.
//!
//! A page is made and verified when it is asked for; what only another page's delta needs is not verified by itself, since
//! what comes out of it is.

use crate::format::{DELTAS_MAX, Frame, Pack, hex};
use bytes::Bytes;
use std::collections::HashMap;
use std::thread;
use vr_tree::{Page, Snapshot, VerifiedPage};

/// A delta as it was read.
#[derive(Clone)]
pub(crate) struct Delta {
    pub(crate) base: [u8; 32],
    runs: Box<[u8]>,
}

impl Delta {
    /// The page that it makes out of its base.
    pub(crate) fn apply(&self, base: &VerifiedPage, id: &[u8; 32]) -> Result<VerifiedPage, String> {
        base.apply([&*self.runs], id).map_err(|e| format!("page {}: {e}", hex(&id[..8])))
    }
}

/// What stands in a frame.
pub(crate) enum Opened {
    Page(VerifiedPage),
    Delta(Delta),
}

/// What stands in a pack, and what is wrong with the rest.
#[derive(Default)]
pub(crate) struct OpenedPack {
    pub(crate) frames: Vec<([u8; 32], Opened)>,
    pub(crate) problems: Vec<String>,
}

/// Pages and deltas of one source.
#[derive(Default)]
pub(crate) struct Held {
    pages: HashMap<[u8; 32], VerifiedPage>,
    deltas: HashMap<[u8; 32], Delta>,
}

impl Held {
    pub(crate) fn take_in(&mut self, frames: impl IntoIterator<Item = ([u8; 32], Opened)>) {
        for (id, opened) in frames {
            match opened {
                Opened::Page(page) => drop(self.pages.insert(id, page)),
                Opened::Delta(delta) => drop(self.deltas.insert(id, delta)),
            }
        }
    }

    /// A page that is there as it is.
    pub(crate) fn page(&self, id: &[u8; 32]) -> Option<&VerifiedPage> {
        self.pages.get(id)
    }

    pub(crate) fn delta(&self, id: &[u8; 32]) -> Option<&Delta> {
        self.deltas.get(id)
    }

    pub(crate) fn take(&mut self, id: &[u8; 32]) -> Option<VerifiedPage> {
        self.pages.remove(id)
    }

    /// Pages that the tree below `root` needs and that are not there (as far as can be seen from those that are).
    pub(crate) fn missing(&self, root: &[u8; 32]) -> Vec<[u8; 32]> {
        if *root == Snapshot::default().root() {
            return Vec::new();
        }
        let (mut missing, mut stack) = (Vec::new(), vec![*root]);
        while let Some(id) = stack.pop() {
            match self.pages.get(&id) {
                Some(page) => stack.extend(page.page().child_ids()),
                None => missing.push(id),
            }
        }
        missing
    }

    /// Makes those of the pages that deltas lead to, on all cores; what stood in the way of others.
    pub(crate) fn make(&mut self, wanted: &[[u8; 32]]) -> Vec<String> {
        let wanted: Vec<&[u8; 32]> = wanted.iter().filter(|id| self.deltas.contains_key(*id)).collect();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = wanted.len().div_ceil(cores).max(1);
        let held = &*self;
        let make = |ids: &[&[u8; 32]]| ids.iter().map(|id| held.made(id)).collect::<Vec<_>>();
        let made: Vec<_> = thread::scope(|scope| {
            let parts: Vec<_> = wanted.chunks(share).map(|ids| scope.spawn(move || make(ids))).collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
        });
        let mut problems = Vec::new();
        for page in made {
            match page {
                Ok(page) => drop(self.pages.insert(page.id(), page)),
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    /// A page, made out of the nearest that is there as it is.
    fn made(&self, id: &[u8; 32]) -> Result<VerifiedPage, String> {
        let failed = |reason: String| format!("page {} is a delta: {reason}", hex(&id[..8]));
        let (mut chain, mut at) = (Vec::new(), *id);
        let base = loop {
            if let Some(page) = self.pages.get(&at) {
                break page;
            }
            let lost = || failed(format!("its base {} is missing or corrupt", hex(&at[..8])));
            let delta = self.deltas.get(&at).ok_or_else(lost)?;
            if chain.len() == DELTAS_MAX {
                return Err(failed(format!("its base is more than {DELTAS_MAX} deltas away")));
            }
            chain.push(&*delta.runs);
            at = delta.base;
        };
        base.apply(chain.into_iter().rev(), id).map_err(|e| failed(e.to_string()))
    }
}

pub(crate) fn open_pack(key: &str, bytes: &Bytes) -> OpenedPack {
    let mut opened = OpenedPack::default();
    match Pack::parse(key, bytes) {
        Err(error) => opened.problems.push(error.to_string()),
        Ok(pack) => {
            opened.frames.reserve(pack.entries.len());
            for entry in &pack.entries {
                match open_frame(key, &entry.header.id, pack.frame(entry)) {
                    Ok(frame) => opened.frames.push((entry.header.id, frame)),
                    Err(problem) => opened.problems.push(problem),
                }
            }
        }
    }
    opened
}

/// Reads a frame, which must be that of this page. A page is verified; a delta is what its checksum covers.
pub(crate) fn open_frame(key: &str, id: &[u8; 32], bytes: &[u8]) -> Result<Opened, String> {
    let (frame, _) = Frame::parse(key, bytes).map_err(|e| e.to_string())?;
    let named = |reason: &dyn std::fmt::Display| format!("{key}: page {}: {reason}", hex(&id[..8]));
    if let (Some(base), Some(runs)) = (frame.header.codec.base(), frame.delta()) {
        if frame.header.id != *id {
            return Err(named(&"its frame is that of another page"));
        }
        return Ok(Opened::Delta(Delta { base, runs: runs.into() }));
    }
    let page = frame.page(key).map_err(|e| e.to_string())?;
    Page::verify(id, &page).map(Opened::Page).map_err(|e| named(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why the page 1 cannot be made out of deltas that each stand on another, with no page that is whole.
    fn said(deltas: &[(u8, u8)]) -> String {
        let delta = |base: u8| Opened::Delta(Delta { base: [base; 32], runs: Vec::new().into() });
        let mut held = Held::default();
        held.take_in(deltas.iter().map(|(id, base)| ([*id; 32], delta(*base))));
        let [reason] = &held.make(&[[1; 32]])[..] else { panic!("one page was asked for") };
        reason.clone()
    }

    #[test]
    fn a_chain_that_leads_nowhere_is_told_from_one_that_is_too_long() {
        let lost = said(&[(1, 2), (2, 3)]);
        assert!(lost.contains(&format!("its base {} is missing or corrupt", hex(&[3; 8]))), "{lost}");
        let deep = said(&[(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]);
        assert!(deep.contains("more than 4 deltas away"), "{deep}");
        let circle = said(&[(1, 2), (2, 1)]);
        assert!(circle.contains("more than 4 deltas away"), "{circle}");
    }
}
