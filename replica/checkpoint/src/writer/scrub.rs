//! Reading again what HEAD relies on, one pack at a time, while nobody needs it; and what follows when it is not whole.
//!
//! Whoever ships a page once never looks at it again: what rots afterwards is found when it is needed, unless somebody
//! looks before. What is found damaged is relied upon no more, so the next checkpoint ships its pages again, from memory.
//! It does not make older checkpoints whole that need pages which the state no longer has: a restore of those takes them
//! from another tier.

use super::Writer;
use crate::store::StoreError;
use crate::verify;
use std::collections::BTreeSet;

/// What became of one pack.
#[derive(Debug)]
pub enum Scrubbed {
    /// There is none behind the one that was named.
    End,
    /// It is as it was written.
    Whole {
        /// Its key.
        pack: String,
        /// Bytes read.
        bytes: u64,
    },
    /// It is not.
    Damaged {
        /// Its key.
        pack: String,
        /// Bytes read.
        bytes: u64,
        /// The first thing that is wrong with it.
        reason: String,
    },
    /// Nobody can tell.
    Unread {
        /// Its key.
        pack: String,
        /// Why it could not be read.
        error: StoreError,
    },
}

impl Writer {
    /// Reads the pack that comes after this key, of those that retained checkpoints need and that are trusted.
    pub async fn scrub(&self, after: &str) -> Scrubbed {
        let packs = self.known.packs().iter().map(|pack| &pack.named);
        let behind = packs.filter(|pack| *pack.key > *after && !self.known.is_distrusted(&pack.key));
        let Some(named) = behind.min().cloned() else { return Scrubbed::End };
        let pack = named.key.clone();
        let bytes = match self.store.get(&pack).await {
            Err(error) => return Scrubbed::Unread { pack, error },
            Ok(None) => return Scrubbed::Damaged { pack, bytes: 0, reason: "it is missing".to_owned() },
            Ok(Some(bytes)) => bytes,
        };
        let read = bytes.len() as u64;
        // Hashing a pack takes as long as other tiers of this thread would wait.
        let looked = tokio::task::spawn_blocking(move || verify::problem_in(&named, &bytes)).await;
        match looked.unwrap_or_else(|e| Some(e.to_string())) {
            None => Scrubbed::Whole { pack, bytes: read },
            Some(reason) => Scrubbed::Damaged { pack, bytes: read, reason },
        }
    }

    /// From now on no checkpoint relies on these packs.
    pub fn distrust(&mut self, packs: &BTreeSet<String>) {
        self.known.distrust(packs);
    }

    /// Whether a retained checkpoint needs this pack.
    #[must_use]
    pub fn needs(&self, pack: &str) -> bool {
        self.known.packs().iter().any(|known| known.named.key == pack)
    }

    /// Manifests and indexes that HEAD retains and nobody can read.
    #[must_use]
    pub fn unreadable(&self) -> &BTreeSet<String> {
        &self.unreadable
    }
}
