//! From tiers back to a state: what there is, what of it is best, and the loading of it, checked.
//!
//! An inventory never fails as a whole: a tier that is empty, foreign, damaged or out of reach is a finding. A load
//! takes each page from whichever source has it whole, and ends with exactly the root that the manifest names, or with
//! an error that says why not.

mod elsewhere;
mod fence;
mod held;
mod inventory;
mod located;
mod log;
mod target;

pub use fence::fence;
pub use inventory::inventory;
pub(crate) use inventory::reach;
pub use located::{Answer, Located};
pub use target::{Target, TargetError};

use crate::format::{LogEntry, Manifest, hex};
use crate::store::ObjectStore;
pub(crate) use elsewhere::Elsewhere;
use futures_util::stream::{self, StreamExt};
pub(crate) use held::{Held, Opened, OpenedPack, open_frame, open_pack};
pub(crate) use log::log;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use vr_tree::Snapshot;

/// Packs fetched at a time.
const FETCH: usize = 4;
/// Single pages fetched at a time.
const FETCH_PAGES: usize = 16;

/// Which kind of tier, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TierKind {
    /// Local NVMe.
    Nvme,
    /// An EBS volume.
    Volume,
    /// S3.
    ObjectStore,
}

impl TierKind {
    /// How long what nothing retains stays: as long as a reader may take that found it before.
    #[must_use]
    pub fn grace(self) -> Duration {
        Duration::from_secs(if self == TierKind::ObjectStore { 24 * 3600 } else { 60 })
    }
}

/// Somewhere to look.
#[derive(Clone)]
pub struct Source {
    /// For people: `nvme of replica 1`.
    pub name: String,
    /// Which kind.
    pub tier: TierKind,
    /// The tier.
    pub store: Arc<dyn ObjectStore>,
}

/// A state that could be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Where its checkpoint stands.
    pub source: String,
    /// Which kind of tier that is.
    pub tier: TierKind,
    /// Its generation.
    pub generation: u64,
    /// Op of its checkpoint.
    pub checkpoint_op: u64,
    /// The op that the shipped log reaches from there, on any source.
    pub reachable_op: u64,
    /// Time of the checkpoint's entry, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// The store's revision there.
    pub revision: i64,
    /// Root of its state, hexadecimal.
    pub root: String,
    /// Key of its manifest.
    pub manifest: String,
    /// Its bytes of state.
    pub bytes: u64,
}

/// What was found in one place.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The place.
    pub source: String,
    /// Which kind.
    pub tier: TierKind,
    /// Its generation, if there is a HEAD.
    pub generation: Option<u64>,
    /// How many checkpoints it retains.
    pub checkpoints: usize,
    /// What is wrong with it, if anything.
    pub problem: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Place by place.
    pub findings: Vec<Finding>,
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// The newest generation anywhere.
    pub generation: u64,
    /// The highest reservation anywhere: no revision above it was handed out.
    pub reserved_revision: i64,
}

/// Why a candidate could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{candidate}: {reason}")]
pub struct LoadError {
    candidate: String,
    reason: String,
}

/// A state, checked.
pub struct Loaded {
    /// The state at the checkpoint.
    pub snapshot: Snapshot,
    /// Its manifest.
    pub manifest: Manifest,
    /// The committed log above it, consecutive.
    pub entries: Vec<LogEntry>,
    /// Pages that had to come from another source than the candidate's.
    pub repaired_pages: usize,
    /// Why the log ends before the op that the names of its segments promise, if it does.
    pub cut_short: Option<String>,
}

pub(crate) async fn read_manifest(store: &dyn ObjectStore, key: &str) -> Result<Manifest, String> {
    let bytes = store.get(key).await.map_err(|e| e.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("{key} is missing although HEAD retains it"))?;
    Manifest::parse(key, &bytes).map_err(|e| e.to_string())
}

/// Loads a candidate, and the log above it: exactly up to `to_op`, or without one as far as it is whole.
///
/// # Errors
/// Says what could not be had from any source; the next candidate may do.
pub async fn load(
    candidate: &Candidate,
    sources: &[Source],
    to_op: Option<u64>,
) -> Result<Loaded, LoadError> {
    let failed = |reason: String| LoadError {
        candidate: format!("checkpoint at op {} on {}", candidate.checkpoint_op, candidate.source),
        reason,
    };
    let source = sources
        .iter()
        .find(|s| s.name == candidate.source)
        .ok_or_else(|| failed("its source is not among those given".to_owned()))?;
    let manifest = read_manifest(&*source.store, &candidate.manifest).await.map_err(&failed)?;
    let root = manifest.root().ok_or_else(|| failed("it names no root".to_owned()))?;
    let (held, mut problems) = fetch_packs(source, &manifest).await;
    // Deltas are applied here, where both cores may be used for as long as it takes.
    let made = tokio::task::spawn_blocking(move || {
        let mut held = held;
        let wanted = held.missing(&root);
        let problems = held.make(&wanted);
        let missing = if wanted.is_empty() { wanted } else { held.missing(&root) };
        (held, missing, problems)
    });
    let (mut held, mut missing, unmade) = made.await.map_err(|e| failed(e.to_string()))?;
    problems.extend(unmade);
    let mut repaired_pages = 0;
    if !missing.is_empty() {
        let elsewhere = {
            let others = sources.iter().filter(|other| other.name != source.name);
            Elsewhere::look(others, |id| held.page(id).is_none()).await
        };
        while !missing.is_empty() {
            let fetches = missing.iter().map(|id| async { (*id, elsewhere.page(id, &held).await) });
            let mut fetched = stream::iter(fetches.collect::<Vec<_>>()).buffer_unordered(FETCH_PAGES);
            let mut found = Vec::with_capacity(missing.len());
            while let Some((id, page)) = fetched.next().await {
                let page = page.ok_or_else(|| {
                    let why = problems.first().map_or(String::new(), |p| format!(" ({p})"));
                    failed(format!(
                        "page {} is missing or corrupt, and no other source has it{why}",
                        hex(&id[..8])
                    ))
                })?;
                found.push((id, Opened::Page(page)));
                repaired_pages += 1;
            }
            drop(fetched);
            held.take_in(found);
            let wanted = held.missing(&root);
            held.make(&wanted);
            missing = held.missing(&root);
        }
    }
    let snapshot = Snapshot::load_verified(&root, |id| held.take(id).ok_or("fetched a moment ago"))
        .map_err(|e| failed(e.to_string()))?;
    if snapshot.root() != root {
        return Err(failed(format!("its root is {} instead of {}", hex(&snapshot.root()), hex(&root))));
    }
    let goal = to_op.unwrap_or(candidate.reachable_op);
    let (entries, cut_short) = log(manifest.generation, manifest.op, goal, source, sources, u64::MAX).await;
    match cut_short {
        // Whoever names an op wants exactly that; whoever names none wants as much as is whole.
        Some(reason) if to_op.is_some() => Err(failed(reason)),
        cut_short => Ok(Loaded { snapshot, manifest, entries, repaired_pages, cut_short }),
    }
}

/// Everything whole in a manifest's packs, and what was wrong with the rest.
async fn fetch_packs(source: &Source, manifest: &Manifest) -> (Held, Vec<String>) {
    let absent = |problem: String| OpenedPack { problems: vec![problem], ..OpenedPack::default() };
    let fetches = manifest.packs.iter().map(|pack| async move {
        match source.store.get(&pack.key).await {
            Ok(Some(bytes)) => {
                let key = pack.key.clone();
                // Decompression and hashing are worth another thread.
                let opened = tokio::task::spawn_blocking(move || open_pack(&key, &bytes)).await;
                opened.unwrap_or_else(|e| absent(e.to_string()))
            }
            Ok(None) => absent(format!("pack {} is missing on {}", pack.key, source.name)),
            Err(error) => absent(error.to_string()),
        }
    });
    let (mut held, mut problems) = (Held::default(), Vec::new());
    let mut fetched = stream::iter(fetches).buffer_unordered(FETCH);
    while let Some(opened) = fetched.next().await {
        held.take_in(opened.frames);
        problems.extend(opened.problems);
    }
    (held, problems)
}
