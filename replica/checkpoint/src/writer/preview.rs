//! What collections of a tier would delete, and why, found out without a collection.
//!
//! It only reads, so it may look at a tier that a replica writes. It goes by the rules that it is given: a replica may have
//! others. Times are the store's own, as far as its newest object tells.

use super::Retention;
use super::collect::{garbage, most};
use crate::format::{Head, Manifest, Names, Plan};
use crate::restore::{Source, read_manifest};
use crate::store::Listed;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What collections would delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Ops of the checkpoints that stay, oldest first.
    pub stay: Vec<u64>,
    /// Ops of those that the rules let go of with the next checkpoint.
    pub let_go: Vec<u64>,
    /// Why nothing at all is deleted for now, if so.
    pub held: Option<String>,
    /// How many objects one run may delete.
    pub most: usize,
    /// Objects that go, by their keys.
    pub objects: Vec<Doomed>,
}

/// An object that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Doomed {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// How far it is on its way.
    pub stage: Stage,
    /// Ops of the checkpoints that need it still and are let go of; none if nothing needs it by now.
    pub needed_by: Vec<u64>,
}

/// How far an object is on its way; each collection takes what is old enough one stage on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// A plan that is old enough names it: the next collection deletes it.
    Due,
    /// A plan names it.
    Planned,
    /// Nothing needs it: the next collection writes it into a plan.
    Found,
    /// It was written a moment ago, perhaps by an upload under way: it is left alone until it is older.
    Young,
    /// It is needed until the next checkpoint.
    LetGo,
}

/// Looks at a tier. Without rules, what HEAD retains is what stays, and the log of all of it.
///
/// # Errors
/// Says what could not be read.
pub async fn preview(
    source: &Source,
    lineage: &str,
    keep: Option<Retention>,
    grace: Duration,
) -> Result<Preview, String> {
    let store = &*source.store;
    let (bytes, _) = store.head().await.map_err(|e| e.to_string())?.ok_or("there is no HEAD")?;
    let head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
    if head.lineage != lineage {
        return Err(format!("HEAD belongs to lineage {}, not {lineage}", head.lineage));
    }
    let keep = keep.unwrap_or(head.retained.len().into());
    let mut after = head.clone();
    keep.apply(&mut after.retained);
    let ops = |head: &Head| head.retained.iter().map(|retained| retained.op).collect::<Vec<_>>();
    let stay = ops(&after);
    let let_go = ops(&head).into_iter().filter(|op| !stay.contains(op)).collect();
    let mut manifests = BTreeMap::new();
    let listed = store.list("g/").await.map_err(|e| e.to_string())?;
    let mut found = Preview { stay, let_go, held: None, most: most(listed.len()), objects: Vec::new() };
    for retained in &head.retained {
        match read_manifest(store, &retained.manifest).await {
            Ok(manifest) => drop(manifests.insert(retained.manifest.clone(), manifest)),
            Err(reason) => {
                found.held =
                    Some(format!("nobody knows what the checkpoint at op {} needs: {reason}", retained.op));
                return Ok(found);
            }
        }
    }
    let plans = plans(source, &listed).await?;
    let now = listed.iter().map(|object| object.modified).max().unwrap_or(0);
    let old = |written: u64| written.saturating_add(grace.as_secs()) <= now;
    let before = garbage(&head, &manifests, keep, &listed);
    for (key, object) in garbage(&after, &manifests, keep, &listed) {
        let stage = match plans.get(key) {
            _ if !before.contains_key(key) => Stage::LetGo,
            Some(written) if old(*written) => Stage::Due,
            Some(_) => Stage::Planned,
            None if old(object.modified) => Stage::Found,
            None => Stage::Young,
        };
        let needed_by = if stage == Stage::LetGo { needed_by(key, &manifests) } else { Vec::new() };
        found.objects.push(Doomed { key: key.to_owned(), bytes: object.size, stage, needed_by });
    }
    Ok(found)
}

/// The checkpoints that need an object: those which hold it, or from which the log leads on through it.
fn needed_by(key: &str, manifests: &BTreeMap<String, Manifest>) -> Vec<u64> {
    let needs = |(name, manifest): &(&String, &Manifest)| {
        let names = Names { generation: manifest.generation };
        let leads = names.segment_range(key).is_some_and(|(_, last)| last > manifest.op);
        let holds = manifest.indexes.iter().chain(&manifest.packs).any(|named| named.key == key);
        leads || holds || *name == key
    };
    manifests.iter().filter(needs).map(|(_, manifest)| manifest.op).collect()
}

/// What plans name, and when they were written, seconds since the Unix epoch.
async fn plans(source: &Source, listed: &[Listed]) -> Result<BTreeMap<String, u64>, String> {
    let mut planned = BTreeMap::new();
    let keys: BTreeSet<(&str, u64)> =
        listed.iter().filter(|o| Names::is_plan(&o.key)).map(|o| (o.key.as_str(), o.modified)).collect();
    for (key, written) in keys {
        let Some(bytes) = source.store.get(key).await.map_err(|e| e.to_string())? else { continue };
        // A collection deletes one that it cannot read, and finds anew what that named.
        let Ok(plan) = Plan::parse(key, &bytes) else { continue };
        planned.extend(plan.objects.into_iter().map(|object| (object.key, written)));
    }
    Ok(planned)
}
