//! What a tier holds that may be relied upon: some 60 bytes of memory a page.

use crate::format::{Index, Manifest, Named};
use crate::mutants::{Mutant, on};
use std::collections::{BTreeSet, HashMap};

/// Pages, and the packs in which they stand.
#[derive(Default)]
pub(super) struct Known {
    pages: HashMap<[u8; 32], Stored>,
    packs: Vec<Pack>,
    indexes: BTreeSet<String>,
    /// Packs that were found damaged: their pages are not there.
    distrusted: BTreeSet<String>,
}

/// Where a page stands, and how many bytes it takes there.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) pack: u32,
    pub(super) bytes: u32,
}

/// A pack and the index that says where its frames are.
pub(super) struct Pack {
    pub(super) named: Named,
    pub(super) index: Named,
}

impl Known {
    pub(super) fn page(&self, id: &[u8; 32]) -> Option<Stored> {
        self.pages.get(id).copied()
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
        for (key, bytes, entries) in &parsed.packs {
            let pack = u32::try_from(self.packs.len()).expect("packs are large, so they are few");
            self.packs.push(Pack { named: Named { key: key.clone(), bytes: *bytes }, index: index.clone() });
            if self.distrusted.contains(key) {
                continue;
            }
            for entry in entries {
                let bytes = u32::try_from(entry.header.len()).unwrap_or(u32::MAX);
                self.pages.insert(entry.header.id, Stored { pack, bytes });
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
        }
        self.distrusted.retain(|pack| held.contains(pack.as_str()));
        // One that went is read again if a manifest of another writer brings it back.
        let indexes: BTreeSet<&str> =
            manifests.flat_map(|m| m.indexes.iter().map(|i| i.key.as_str())).collect();
        self.indexes.retain(|key| indexes.contains(key.as_str()));
    }
}
