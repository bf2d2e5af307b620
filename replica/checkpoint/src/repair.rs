//! What was lost or has rotted on a tier, made anew where it stood.
//!
//! It touches nothing that is whole. Indexes come from the ends of the packs, which say where their frames stand, without
//! a frame being read; they are what stood there, byte for byte, as long as all packs of the upload are there (where a
//! collection has deleted some, their places are left out, which nobody needs). Packs, segments and manifests come from
//! other tiers, as far as those have what is missing: see the modules below.

mod manifest;
mod pack;
mod segment;

pub(crate) use manifest::repair_manifest;
pub(crate) use pack::repair_pack;
pub(crate) use segment::repair_segment;

use crate::format::{FormatError, Head, Index, Manifest, Names, PackEnd, PackEntry};
use crate::store::{Created, Listed, ObjectStore, StoreError};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why nothing, or not everything, could be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The tier.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// HEAD cannot be read: nobody knows what is needed.
    #[error("{store}: {source}")]
    Head {
        /// The tier.
        store: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// There is no HEAD, or it is of another lineage.
    #[error("{store}: {reason}")]
    Foreign {
        /// The tier.
        store: String,
        /// What was found.
        reason: String,
    },
}

/// What became of one index that was not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// Its key.
    pub index: String,
    /// What was wrong with it.
    pub problem: String,
    /// Packs whose frames it names now, or would.
    pub packs: usize,
    /// Frames that it names.
    pub frames: usize,
    /// Why it is not whole now; none if it is (or would be, if nothing was to be written).
    pub failed: Option<String>,
}

/// What was found on a tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repairs {
    /// Indexes that retained checkpoints need.
    pub indexes: usize,
    /// Those that were not whole.
    pub repairs: Vec<Repair>,
    /// Manifests that cannot be read, so that nobody knows what they need.
    pub unreadable: Vec<String>,
}

impl Repairs {
    /// Whether every index that is needed is whole now.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.unreadable.is_empty() && self.repairs.iter().all(|repair| repair.failed.is_none())
    }
}

/// Looks at every index that a retained checkpoint needs, and makes those anew that are not whole; only looks, if nothing
/// is to be `write`n.
///
/// # Errors
/// See [`RepairError`]; what was repaired before stays.
pub async fn repair_indexes(
    store: &dyn ObjectStore,
    lineage: &str,
    write: bool,
) -> Result<Repairs, RepairError> {
    let foreign = |reason: String| RepairError::Foreign { store: store.describe(), reason };
    let (bytes, _) = store.head().await?.ok_or_else(|| foreign("there is no HEAD".to_owned()))?;
    let head = Head::parse("HEAD", &bytes)
        .map_err(|source| RepairError::Head { store: store.describe(), source })?;
    if head.lineage != lineage {
        return Err(foreign(format!("HEAD belongs to lineage {}, not {lineage}", head.lineage)));
    }
    let mut found = Repairs::default();
    // Of every index the packs that somebody needs.
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for retained in &head.retained {
        let key = &retained.manifest;
        let manifest = match store.get(key).await? {
            None => Err(format!("{key}: it is missing")),
            Some(bytes) => Manifest::parse(key, &bytes).map_err(|e| e.to_string()),
        };
        match manifest {
            Err(problem) => found.unreadable.push(problem),
            Ok(manifest) => {
                for index in &manifest.indexes {
                    let upload = Names::upload(&index.key).map(|(upload, _)| upload);
                    let of_it = |key: &String| Names::upload(key).map(|(upload, _)| upload) == upload;
                    let packs = manifest.packs.iter().map(|pack| pack.key.clone()).filter(of_it);
                    wanted.entry(index.key.clone()).or_default().extend(packs);
                }
            }
        }
    }
    found.indexes = wanted.len();
    for (index, packs) in wanted {
        let problem = match store.get(&index).await? {
            None => "it is missing".to_owned(),
            Some(bytes) => match Index::parse(&index, &bytes) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
        };
        found.repairs.push(repair_index(store, index, problem, &packs, write).await?);
    }
    Ok(found)
}

pub(crate) async fn repair_index(
    store: &dyn ObjectStore,
    key: String,
    problem: String,
    needed: &BTreeSet<String>,
    write: bool,
) -> Result<Repair, StoreError> {
    let mut repair = Repair { index: key, problem, packs: 0, frames: 0, failed: None };
    let mut index = Index::default();
    for pack in packs_of(store, &repair.index).await? {
        match places(store, &pack).await? {
            Ok(entries) => {
                repair.packs += 1;
                repair.frames += entries.len();
                index.packs.push((pack.key, pack.size, entries));
            }
            Err(error) => repair.failed = Some(error.to_string()),
        }
    }
    if let Some(lost) = needed.iter().find(|key| !index.packs.iter().any(|(pack, ..)| pack == *key)) {
        repair.failed.get_or_insert_with(|| format!("{lost} is missing, and with it what it held"));
    }
    // An index that leaves out what is needed would be taken for whole.
    if write && repair.failed.is_none() && !names_all(store, &repair.index, needed).await {
        repair.failed = put(store, &repair.index, index.encode().into()).await.err();
    }
    Ok(repair)
}

/// Whether the index that stands there is whole after all, and names these packs.
async fn names_all(store: &dyn ObjectStore, key: &str, needed: &BTreeSet<String>) -> bool {
    let Ok(Some(bytes)) = store.get(key).await else { return false };
    let named = |index: Index| needed.iter().all(|pack| index.packs.iter().any(|(key, ..)| key == pack));
    Index::parse(key, &bytes).is_ok_and(named)
}

/// Puts what was made anew where it stood; an unknown outcome is read back. Where it stands there already it is not touched:
/// it may only have arrived damaged, and in a bucket it would be gone for a moment, or for longer.
pub(crate) async fn put(store: &dyn ObjectStore, key: &str, body: Bytes) -> Result<(), String> {
    if store.get(key).await.is_ok_and(|standing| standing.as_ref() == Some(&body)) {
        return Ok(());
    }
    match store.replace(key, body.clone()).await.map_err(|e| e.to_string())? {
        Created::Yes => Ok(()),
        Created::Exists | Created::Unknown => match store.get(key).await.map_err(|e| e.to_string())? {
            Some(found) if found == body => Ok(()),
            _ => Err(format!("{key} could not be written: later")),
        },
    }
}

/// The packs of the upload that an index belongs to, as they were written.
async fn packs_of(store: &dyn ObjectStore, index: &str) -> Result<Vec<Listed>, StoreError> {
    let (Some(names), Some((upload, None))) = (Names::of(index), Names::upload(index)) else {
        return Ok(Vec::new());
    };
    let listed = store.list(&names.prefix()).await?.into_iter();
    let mut packs: Vec<(u32, Listed)> = listed
        .filter_map(|object| match Names::upload(&object.key)? {
            (of, Some(number)) if of == upload => Some((number, object)),
            _ => None,
        })
        .collect();
    packs.sort_by_key(|(number, _)| *number);
    Ok(packs.into_iter().map(|(_, pack)| pack).collect())
}

/// Where the frames of a pack stand, by its own end.
async fn places(
    store: &dyn ObjectStore,
    pack: &Listed,
) -> Result<Result<Vec<PackEntry>, FormatError>, StoreError> {
    let key = &pack.key;
    let short = |what| FormatError::Invalid { file: key.clone(), what: "pack", reason: what };
    let Some(at) = pack.size.checked_sub(PackEnd::LEN) else {
        return Ok(Err(short("it is cut short".to_owned())));
    };
    let gone = || short("it has just gone".to_owned());
    let Some(bytes) = store.get_range(key, at, PackEnd::LEN).await? else { return Ok(Err(gone())) };
    let end = match PackEnd::parse(key, pack.size, &bytes) {
        Ok(end) => end,
        Err(error) => return Ok(Err(error)),
    };
    let Some(bytes) = store.get_range(key, end.places, end.len).await? else { return Ok(Err(gone())) };
    Ok(end.entries(key, &bytes))
}
