//! What a tier holds that may be relied upon: some 60 bytes of memory a page, and as much again for one that is a delta.
//!
//! A delta is there only if what it is applied to is: whoever relies on a page relies on all the frames that make it, so
//! their packs stay as long as that page is needed.

use crate::format::{DELTAS_MAX, Index, Manifest, Named};
use crate::mutants::{Mutant, on};
use std::collections::{BTreeSet, HashMap};

/// Pages, and the packs in which they stand.
#[derive(Default)]
pub(super) struct Known {
    pages: HashMap<[u8; 32], Stored>,
    /// What those pages are applied to that are deltas.
    bases: HashMap<[u8; 32], [u8; 32]>,
    packs: Vec<Pack>,
    indexes: BTreeSet<String>,
    /// Packs that were found damaged: their pages are not there.
    distrusted: BTreeSet<String>,
}

/// Where a page stands, and how many bytes it takes there.
#[derive(Clone, Copy, Default)]
pub(super) struct Stored {
    pub(super) pack: u32,
    pub(super) bytes: u32,
}

/// The frames that make a page: its own, and below a delta those that it leads to, up to one that is whole.
#[derive(Clone, Copy, Default)]
pub(super) struct Frames {
    stored: [Stored; DELTAS_MAX + 1],
    len: usize,
}

impl std::ops::Deref for Frames {
    type Target = [Stored];

    fn deref(&self) -> &[Stored] {
        &self.stored[..self.len]
    }
}

/// A pack and the index that says where its frames are.
pub(super) struct Pack {
    pub(super) named: Named,
    pub(super) index: Named,
    /// Whether that index has deltas.
    pub(super) deltas: bool,
}

impl Known {
    /// The frames that make this page, if all of them are there.
    pub(super) fn page(&self, id: &[u8; 32]) -> Option<Frames> {
        let (mut frames, mut at) = (Frames::default(), id);
        loop {
            *frames.stored.get_mut(frames.len)? = *self.pages.get(at)?;
            frames.len += 1;
            match self.bases.get(at) {
                Some(base) => at = base,
                None => return Some(frames),
            }
        }
    }

    /// All packs; a [`Stored::pack`] is a place in them.
    pub(super) fn packs(&self) -> &[Pack] {
        &self.packs
    }

    pub(super) fn has_index(&self, key: &str) -> bool {
        self.indexes.contains(key)
    }

    pub(super) fn learn(&mut self, index: &Named, parsed: &Index) {
        self.indexes.insert(index.key.clone());
        let deltas = parsed.has_deltas();
        for (key, bytes, entries) in &parsed.packs {
            let pack = u32::try_from(self.packs.len()).expect("packs are large, so they are few");
            self.packs.push(Pack {
                named: Named { key: key.clone(), bytes: *bytes },
                index: index.clone(),
                deltas,
            });
            if self.distrusted.contains(key) {
                continue;
            }
            for entry in entries {
                let bytes = u32::try_from(entry.header.len()).unwrap_or(u32::MAX);
                let id = entry.header.id;
                match entry.header.codec.base() {
                    // It is nearer at hand where it stands whole.
                    Some(_) if self.pages.contains_key(&id) && !self.bases.contains_key(&id) => continue,
                    Some(base) => drop(self.bases.insert(id, base)),
                    None => drop(self.bases.remove(&id)),
                }
                self.pages.insert(id, Stored { pack, bytes });
            }
        }
    }

    /// Relies on these packs no more.
    pub(super) fn distrust(&mut self, packs: &BTreeSet<String>) {
        if on(Mutant::DamageForgotten) {
            return;
        }
        self.distrusted.extend(packs.iter().cloned());
        let lost: Vec<bool> = self.packs.iter().map(|pack| packs.contains(&pack.named.key)).collect();
        if lost.contains(&true) {
            self.pages.retain(|_, stored| !lost[stored.pack as usize]);
            self.bases.retain(|id, _| self.pages.contains_key(id));
        }
    }

    pub(super) fn is_distrusted(&self, pack: &str) -> bool {
        self.distrusted.contains(pack)
    }

    /// Forgets what none of these manifests holds: it may be deleted at any time.
    pub(super) fn forget_all_but<'a>(&mut self, manifests: impl Iterator<Item = &'a Manifest> + Clone) {
        let packs = manifests.clone().flat_map(|m| m.packs.iter().map(|p| p.key.as_str()));
        let held: BTreeSet<&str> = packs.collect();
        let (mut moved, mut next) = (Vec::with_capacity(self.packs.len()), 0);
        for pack in &self.packs {
            let kept = held.contains(pack.named.key.as_str());
            moved.push(kept.then_some(next));
            next += u32::from(kept);
        }
        if moved.contains(&None) {
            self.packs.retain(|pack| held.contains(pack.named.key.as_str()));
            self.pages.retain(|_, stored| {
                let place = moved[stored.pack as usize];
                stored.pack = place.unwrap_or(stored.pack);
                place.is_some()
            });
            self.bases.retain(|id, _| self.pages.contains_key(id));
        }
        self.distrusted.retain(|pack| held.contains(pack.as_str()));
        // One that went is read again if a manifest of another writer brings it back.
        let indexes: BTreeSet<&str> =
            manifests.flat_map(|m| m.indexes.iter().map(|i| i.key.as_str())).collect();
        self.indexes.retain(|key| indexes.contains(key.as_str()));
    }
}
