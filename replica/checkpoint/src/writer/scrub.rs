//! Reading again what HEAD relies on, one object at a time, while nobody needs it; and what follows when it is not whole.
//!
//! Whoever ships a page once never looks at it again: what rots afterwards is found when it is needed, unless somebody
//! looks before. What is found damaged is relied upon no more until it was made whole where it stands ([`super::repair`]);
//! where that cannot be, the next checkpoint ships its pages again, from memory. A damaged segment of the log that no other
//! tier has is passed over by the next checkpoint, which then comes at once.

use super::{WriteError, Writer, now_micros};
use crate::format::{Names, Segment};
use crate::store::StoreError;
use crate::verify;
use std::collections::BTreeSet;

/// What became of one object.
#[derive(Debug)]
pub enum Scrubbed {
    /// There is none behind the one that was named.
    End,
    /// It is as it was written.
    Whole {
        /// Its key.
        key: String,
        /// Bytes read.
        bytes: u64,
    },
    /// It is not.
    Damaged {
        /// Its key.
        key: String,
        /// Bytes read.
        bytes: u64,
        /// The first thing that is wrong with it.
        reason: String,
    },
    /// Nobody can tell.
    Unread {
        /// Its key.
        key: String,
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
        let key = named.key.clone();
        let bytes = match self.store.get(&key).await {
            Err(error) => return Scrubbed::Unread { key, error },
            Ok(None) => return Scrubbed::Damaged { key, bytes: 0, reason: "it is missing".to_owned() },
            Ok(Some(bytes)) => bytes,
        };
        let read = bytes.len() as u64;
        // Hashing a pack takes as long as other tiers of this thread would wait.
        let looked = tokio::task::spawn_blocking(move || verify::problem_in(&named, &bytes)).await;
        match looked.unwrap_or_else(|e| Some(e.to_string())) {
            None => Scrubbed::Whole { key, bytes: read },
            Some(reason) => Scrubbed::Damaged { key, bytes: read, reason },
        }
    }

    /// First and last ops of the segments of this generation, in order of their keys.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn segments(&self) -> Result<Vec<(u64, u64)>, WriteError> {
        let names = Names { generation: self.identity.generation };
        let listed = self.store.list(&names.segments()).await?;
        Ok(listed.iter().filter_map(|object| names.segment_range(&object.key)).collect())
    }

    /// Reads a segment. One that is gone has been collected.
    pub async fn scrub_segment(&self, (first, last): (u64, u64)) -> Scrubbed {
        let key = Names { generation: self.identity.generation }.segment(first, last);
        let bytes = match self.store.get(&key).await {
            Err(error) => return Scrubbed::Unread { key, error },
            Ok(None) => return Scrubbed::Whole { key, bytes: 0 },
            Ok(Some(bytes)) => bytes,
        };
        let read = bytes.len() as u64;
        let reason = match Segment::parse(&key, &bytes) {
            Err(error) => error.to_string(),
            Ok(Segment { lineage, generation, entries }) => {
                let ops = (entries.first().map(|e| e.op), entries.last().map(|e| e.op));
                let ours = (lineage, generation) == (self.identity.lineage.0, self.identity.generation);
                if ours && ops == (Some(first), Some(last)) {
                    return Scrubbed::Whole { key, bytes: read };
                }
                format!("{key} holds another piece of log than its name says")
            }
        };
        Scrubbed::Damaged { key, bytes: read, reason }
    }

    /// Notes in HEAD that everything was read again.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn scrub_ended(&mut self) -> Result<(), WriteError> {
        let now = now_micros();
        self.update(move |head, _| head.scrubbed_micros = now, &[]).await
    }

    /// From now on no checkpoint relies on these packs. Other objects among them are passed over.
    pub fn distrust(&mut self, packs: &BTreeSet<String>) {
        self.known.distrust(packs);
    }

    /// Whether a retained checkpoint needs this pack, or the log that leads on from one this segment.
    #[must_use]
    pub fn needs(&self, key: &str) -> bool {
        let names = Names { generation: self.identity.generation };
        if let Some((_, last)) = names.segment_range(key) {
            let mut leads_on = self.keep.with_log(&self.head.retained).iter();
            return leads_on.any(|r| Names::of(&r.manifest) == Some(names) && r.op < last);
        }
        self.known.packs().iter().any(|known| known.named.key == key)
    }

    /// Manifests and indexes that HEAD retains and nobody can read.
    #[must_use]
    pub fn unreadable(&self) -> &BTreeSet<String> {
        &self.unreadable
    }
}
