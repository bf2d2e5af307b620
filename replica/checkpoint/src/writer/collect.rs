//! Deletion of what no retained manifest needs any more.

use super::{WriteError, Writer, now_micros};
use crate::format::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Writer {
    /// Deletes what no retained manifest needs and nobody has written for `grace`; how many objects.
    ///
    /// # Errors
    /// See [`WriteError`]; what was not deleted is found again by the next run.
    pub async fn collect(&mut self, grace: Duration) -> Result<usize, WriteError> {
        self.reload().await?;
        // Nobody knows what such a checkpoint needs: nothing is deleted until it is not retained any more.
        if self.head.retained.iter().any(|retained| !self.manifests.contains_key(&retained.manifest)) {
            return Ok(0);
        }
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        let mut oldest: BTreeMap<u64, u64> = BTreeMap::new();
        for retained in &self.head.retained {
            let manifest = &self.manifests[&retained.manifest];
            needed.insert(&retained.manifest);
            needed.extend(manifest.indexes.iter().chain(&manifest.packs).map(|n| n.key.as_str()));
        }
        for retained in self.keep.with_log(&self.head.retained) {
            let manifest = &self.manifests[&retained.manifest];
            let op = oldest.entry(manifest.generation).or_insert(manifest.op);
            *op = manifest.op.min(*op);
        }
        let young = (now_micros() / 1_000_000).saturating_sub(grace.as_secs());
        let mut deleted = 0;
        for object in self.store.list("g/").await? {
            let Some(names) = Names::of(&object.key) else { continue };
            // Segments are needed from the oldest cut of their generation on that the log leads on from; of the own
            // generation always.
            let segment_needed = names.segment_range(&object.key).is_some_and(|(_, last)| {
                oldest
                    .get(&names.generation)
                    .map_or(names.generation >= self.head.generation, |op| last > *op)
            });
            if segment_needed || needed.contains(object.key.as_str()) || object.modified > young {
                continue;
            }
            self.store.delete(&object.key).await?;
            deleted += 1;
        }
        Ok(deleted)
    }
}
