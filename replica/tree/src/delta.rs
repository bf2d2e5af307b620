//! A leaf as what differs from an earlier one: which entries stay, which go, which are new.
//!
//! ```text
//! per run   keep u16, drop u16, add u16, then `add` entries as in a leaf
//! ```
//!
//! Integers are little endian. A run keeps so many entries of the base, leaves out so many after them, and puts its own
//! there; what the runs do not reach is kept. The same two leaves give the same bytes, whatever memory they share.
//!
//! What comes out is believed for its id alone: a delta on another base, or a damaged one, is not that page.

use crate::entry::Entry;
use crate::hash::{self, PageId};
use crate::page::{self, LeafPage, Page, PageError, Reader, VerifiedPage};
use crate::shape::LEAF_MAX;
use crate::walk::NodeRef;

impl NodeRef<'_> {
    /// Appends what makes this leaf out of the leaf `base`, if that is at most so many bytes; whether it did.
    pub fn delta(&self, base: &NodeRef<'_>, most: usize, out: &mut Vec<u8>) -> bool {
        self.is_leaf() && base.is_leaf() && encode(base.entries(), self.entries(), most, out)
    }
}

impl VerifiedPage {
    /// As [`NodeRef::delta`], for pages that were loaded.
    pub fn delta(&self, base: &VerifiedPage, most: usize, out: &mut Vec<u8>) -> bool {
        match (&base.page, &self.page) {
            (Page::Leaf(base), Page::Leaf(leaf)) => encode(&base.entries, &leaf.entries, most, out),
            _ => false,
        }
    }

    /// The leaf of this id, made from this one by deltas, each on what the one before made. Entries that stay are shared.
    ///
    /// # Errors
    /// A delta asks for what is not there, or what comes out is not that page.
    pub fn apply<'d>(
        &self,
        deltas: impl IntoIterator<Item = &'d [u8]>,
        id: &PageId,
    ) -> Result<VerifiedPage, PageError> {
        let Page::Leaf(base) = &self.page else { return Err(PageError::DeltaBase) };
        let mut entries = None;
        for delta in deltas {
            entries = Some(changed(entries.as_deref().unwrap_or(&base.entries), delta)?);
        }
        let entries = entries.unwrap_or_else(|| base.entries.clone());
        let mut bytes = Vec::with_capacity(LEAF_MAX as usize);
        page::encode_leaf(&entries, &mut bytes);
        let found = hash::leaf_id(&bytes);
        if found != *id {
            return Err(PageError::Id(found));
        }
        Ok(VerifiedPage { id: found, page: Page::Leaf(LeafPage::checked(entries, LEAF_MAX)?) })
    }
}

fn same(a: Option<&Entry>, b: Option<&Entry>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.is_same(b) || a == b)
}

fn encode(base: &[Entry], leaf: &[Entry], most: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (mut old, mut new) = (0, 0);
    loop {
        let kept = old;
        while same(base.get(old), leaf.get(new)) {
            (old, new) = (old + 1, new + 1);
        }
        if (old, new) == (base.len(), leaf.len()) {
            return true;
        }
        let (dropped, added) = (old, new);
        while !same(base.get(old), leaf.get(new)) {
            let (goes, comes) = match (base.get(old), leaf.get(new)) {
                (None, None) => break,
                (Some(_), None) => (1, 0),
                (None, Some(_)) => (0, 1),
                (Some(old), Some(new)) => match old.key().cmp(new.key()) {
                    std::cmp::Ordering::Less => (1, 0),
                    std::cmp::Ordering::Greater => (0, 1),
                    std::cmp::Ordering::Equal => (1, 1),
                },
            };
            (old, new) = (old + goes, new + comes);
        }
        for count in [dropped - kept, old - dropped, new - added] {
            let Ok(count) = u16::try_from(count) else {
                out.truncate(start);
                return false;
            };
            out.extend_from_slice(&count.to_le_bytes());
        }
        leaf[added..new].iter().for_each(|entry| entry.encode(out));
        if out.len() - start > most {
            out.truncate(start);
            return false;
        }
    }
}

fn changed(base: &[Entry], delta: &[u8]) -> Result<Vec<Entry>, PageError> {
    let mut reader = Reader::new(delta);
    let (mut rest, mut entries) = (base, Vec::with_capacity(base.len() + 1));
    let mut run = 0;
    while !reader.is_empty() {
        let (keep, drop, add) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let kept = rest.split_at_checked(usize::from(keep));
        let kept = kept.and_then(|(kept, rest)| Some((kept, rest.get(usize::from(drop)..)?)));
        let (kept, after) = kept.filter(|_| drop > 0 || add > 0).ok_or(PageError::DeltaRun(run))?;
        entries.extend_from_slice(kept);
        for _ in 0..add {
            entries.push(reader.entry()?);
        }
        (rest, run) = (after, run + 1);
    }
    entries.extend_from_slice(rest);
    Ok(entries)
}
