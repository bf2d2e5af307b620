//! Deletion of what no retained manifest needs any more, in two steps: what is found is written into a plan, and what a
//! plan names is deleted once the plan is as old as the longest reader takes. One run deletes a bounded share of the tier,
//! so that a mistake would be seen before much is gone.

use super::{Retention, WriteError, Writer};
use crate::format::{FORMAT, Head, Manifest, Named, Names, Plan};
use crate::mutants::{Mutant, on};
use crate::store::{Created, Listed};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use ulid::Ulid;

/// One run deletes no more than a fifth of the objects, or so many.
const SWEEP: (usize, usize) = (5, 256);

/// A plan on the tier.
pub(super) struct Planned {
    key: String,
    /// When it was written, by the store's clock, seconds since the Unix epoch.
    written: u64,
    objects: Vec<Named>,
}

impl Writer {
    /// Plans the deletion of what no retained manifest needs and nobody has written for `grace`, and carries out plans
    /// that are as old; how many objects were deleted.
    ///
    /// # Errors
    /// See [`WriteError`]; what was not deleted is found again by the next run.
    pub async fn collect(&mut self, grace: Duration) -> Result<usize, WriteError> {
        self.reload().await?;
        // Nobody knows what such a checkpoint needs: nothing is deleted until it is not retained any more.
        if self.head.retained.iter().any(|retained| !self.manifests.contains_key(&retained.manifest)) {
            return Ok(0);
        }
        let listed = self.store.list("g/").await?;
        let garbage = garbage(&self.head, &self.manifests, self.keep, &listed);
        let mut plans = match self.plans.take() {
            Some(plans) => plans,
            None => self.read_plans(&listed).await?,
        };
        // The store's clock, as far as one can tell: this machine's may be wrong.
        let times = listed.iter().map(|object| object.modified).chain(plans.iter().map(|plan| plan.written));
        let mut now = times.max().unwrap_or(0);
        let planned: BTreeSet<&str> =
            plans.iter().flat_map(|plan| &plan.objects).map(|object| object.key.as_str()).collect();
        let grace = if on(Mutant::GraceIgnored) { 0 } else { grace.as_secs() };
        let old = |written: u64, now: u64| written.saturating_add(grace) <= now;
        let found: Vec<Named> = garbage
            .values()
            .filter(|object| old(object.modified, now) && !planned.contains(object.key.as_str()))
            .map(|object| Named { key: object.key.clone(), bytes: object.size })
            .collect();
        if !found.is_empty() {
            let plan = self.write_plan(found).await?;
            now = now.max(plan.written);
            plans.push(plan);
        }
        let most = most(listed.len());
        let (mut deleted, mut left) = (0, Vec::new());
        if plans.iter().any(|plan| old(plan.written, now)) {
            self.check_fence().await?;
        }
        for mut plan in plans {
            if old(plan.written, now) {
                while let Some(object) = plan.objects.pop_if(|_| deleted < most) {
                    // What is needed by now, or gone already, is none.
                    if garbage.contains_key(object.key.as_str()) {
                        self.store.delete(&object.key).await?;
                        deleted += 1;
                    }
                }
                if plan.objects.is_empty() {
                    self.store.delete(&plan.key).await?;
                    continue;
                }
                tracing::info!(
                    plan = plan.key,
                    left = plan.objects.len(),
                    "more to delete than one run may: later"
                );
            }
            left.push(plan);
        }
        self.plans = Some(left);
        Ok(deleted)
    }

    /// The plans that stand on the tier. One that cannot be read is as good as none.
    async fn read_plans(&self, listed: &[Listed]) -> Result<Vec<Planned>, WriteError> {
        let mut plans = Vec::new();
        for Listed { key, modified, .. } in listed.iter().filter(|object| Names::is_plan(&object.key)) {
            let Some(bytes) = self.store.get(key).await? else { continue };
            match Plan::parse(key, &bytes) {
                Ok(Plan { objects, .. }) => {
                    plans.push(Planned { key: key.clone(), written: *modified, objects })
                }
                Err(error) => {
                    tracing::warn!(%error, "deleted: what it named is found again");
                    self.store.delete(key).await?;
                }
            }
        }
        Ok(plans)
    }

    async fn write_plan(&self, objects: Vec<Named>) -> Result<Planned, WriteError> {
        let key = Names { generation: self.identity.generation }.plan(Ulid::generate());
        let plan = Plan {
            format: FORMAT.to_owned(),
            lineage: self.identity.lineage.to_string(),
            generation: self.identity.generation,
            writer: self.identity.replica,
            objects,
        };
        if self.create(&key, Bytes::from(plan.encode())).await? == Created::Exists {
            return Err(self.broken(&format!("{key} exists although its name was made a moment ago")));
        }
        let listed = self.store.list(&key).await?;
        let Some(Listed { modified, .. }) = listed.into_iter().find(|object| object.key == key) else {
            return Err(self.broken(&format!("{key} was written and is not listed")));
        };
        Ok(Planned { key, written: modified, objects: plan.objects })
    }
}

/// What no retained checkpoint needs, of what is listed. The manifests are those of all that is retained.
pub(super) fn garbage<'a>(
    head: &Head,
    manifests: &BTreeMap<String, Manifest>,
    keep: Retention,
    listed: &'a [Listed],
) -> BTreeMap<&'a str, &'a Listed> {
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut oldest: BTreeMap<u64, u64> = BTreeMap::new();
    let from = if on(Mutant::OldestSwept) { head.retained.len().saturating_sub(1) } else { 0 };
    for retained in &head.retained[from..] {
        let manifest = &manifests[&retained.manifest];
        needed.insert(&retained.manifest);
        needed.extend(manifest.indexes.iter().chain(&manifest.packs).map(|n| n.key.as_str()));
    }
    for retained in keep.with_log(&head.retained) {
        let manifest = &manifests[&retained.manifest];
        let op = oldest.entry(manifest.generation).or_insert(manifest.op);
        *op = manifest.op.min(*op);
    }
    // Segments are needed from the oldest cut of their generation on that the log leads on from; of the own generation
    // always.
    let segment_needed = |names: Names, key: &str| {
        !on(Mutant::LogSwept)
            && names.segment_range(key).is_some_and(|(_, last)| {
                oldest.get(&names.generation).map_or(names.generation >= head.generation, |op| last > *op)
            })
    };
    let garbage = listed.iter().filter(|object| {
        let key = object.key.as_str();
        let spare = |names| !needed.contains(key) && !segment_needed(names, key);
        !Names::is_plan(key) && Names::of(key).is_some_and(spare)
    });
    garbage.map(|object| (object.key.as_str(), object)).collect()
}

/// How many objects one run may delete, of so many.
pub(super) fn most(objects: usize) -> usize {
    SWEEP.1.max(objects / SWEEP.0)
}
