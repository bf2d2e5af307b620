//! What is damaged on the tier, made whole in its place.
//!
//! The fence is looked at before anything is written. What cannot be had from any source stays as it is.

use super::{WriteError, Writer};
use crate::format::Names;
use crate::repair::{put, repair_index, repair_manifest, repair_pack, repair_segment};
use crate::restore::Source;
use bytes::Bytes;
use std::collections::BTreeSet;

impl Writer {
    /// Puts a piece of log that is still in memory in the place of one that was lost or is damaged; why not, if that failed.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn replace_segment(
        &mut self,
        key: &str,
        body: Bytes,
    ) -> Result<Result<(), String>, WriteError> {
        self.check_fence().await?;
        Ok(put(&*self.store, key, body).await)
    }

    /// Makes one object whole; why not, if that failed. What this writer knows of the tier stays as it was: whoever goes
    /// on relying on the object opens the tier anew. `sources` are all tiers that may help; `own` of them is this one.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn repair(
        &mut self,
        key: &str,
        own: &Source,
        sources: &[Source],
    ) -> Result<Result<(), String>, WriteError> {
        self.check_fence().await?;
        let store = &*self.store;
        let lineage = self.identity.lineage;
        let names = Names { generation: self.identity.generation };
        if self.head.retained.iter().any(|retained| retained.manifest == key) {
            if self.manifest(key).await.is_ok() {
                // It only arrived damaged.
                return Ok(Ok(()));
            }
            return Ok(repair_manifest(store, &lineage.to_string(), key, sources).await);
        }
        if names.segment_range(key).is_some() {
            return Ok(repair_segment(store, lineage.0, key, own, sources).await);
        }
        match Names::upload(key) {
            Some((upload, None)) => {
                let packs = self.manifests.values().flat_map(|manifest| &manifest.packs);
                let of_it = |key: &str| Names::upload(key).is_some_and(|(of, _)| of == upload);
                let needed: BTreeSet<String> =
                    packs.filter(|p| of_it(&p.key)).map(|p| p.key.clone()).collect();
                let repaired = repair_index(store, key.to_owned(), String::new(), &needed, true).await?;
                Ok(repaired.failed.map_or(Ok(()), Err))
            }
            Some((_, Some(_))) => {
                let Some(known) = self.known.packs().iter().find(|known| known.named.key == key) else {
                    return Ok(Err("nothing that is retained needs it".to_owned()));
                };
                Ok(repair_pack(store, lineage.0, &known.named, &known.index.key, sources).await)
            }
            None => Ok(Err(format!("{key} is nothing that could be made whole"))),
        }
    }
}
