//! From tiers back to a state: what there is, what of it is best, and the loading of it, checked.
//!
//! An inventory never fails as a whole: a tier that is empty, foreign, damaged or out of reach is a finding. A load
//! takes each page from whichever source has it whole, and ends with exactly the root that the manifest names, or with
//! an error that says why not.

use crate::format::{Frame, Head, HeadState, Index, LogEntry, Manifest, Names, Pack, Parent, Segment, hex};
use crate::store::{ObjectStore, Swapped};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use ulid::Ulid;
use vr_tree::{Page, Snapshot, VerifiedPage};

/// Packs fetched at a time.
const FETCH: usize = 4;
/// Single pages fetched at a time.
const FETCH_PAGES: usize = 16;
/// Attempts at moving HEAD to a new generation.
const ATTEMPTS: usize = 20;

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
#[derive(Clone, Debug, Serialize)]
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

/// Looks everywhere.
pub async fn inventory(sources: &[Source], lineage: &str) -> Inventory {
    let mut inventory = Inventory::default();
    let mut parents: BTreeMap<u64, Parent> = BTreeMap::new();
    let mut segments: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for source in sources {
        let mut finding = Finding {
            source: source.name.clone(),
            tier: source.tier,
            generation: None,
            checkpoints: 0,
            problem: None,
        };
        match look(source, lineage).await {
            Ok(None) => finding.problem = Some("empty: there is no HEAD".to_owned()),
            Err(problem) => finding.problem = Some(problem),
            Ok(Some(look)) => {
                finding.generation = Some(look.head.generation);
                finding.checkpoints = look.candidates.len();
                finding.problem = look.problem;
                inventory.generation = inventory.generation.max(look.head.generation);
                parents.extend(look.parents);
                // A HEAD is behind its own manifests where another replica's reservation came with the state.
                inventory.reserved_revision = inventory.reserved_revision.max(look.reserved_revision);
                inventory.candidates.extend(look.candidates);
                for (generation, range) in look.segments {
                    segments.entry(generation).or_default().push(range);
                }
            }
        }
        inventory.findings.push(finding);
    }
    for ranges in segments.values_mut() {
        ranges.sort_unstable();
    }
    for candidate in &mut inventory.candidates {
        // What a generation did beyond the point where a later one forked off is abandoned.
        let fork = fork_of(candidate.generation, &parents);
        let ranges = segments.get(&candidate.generation).map_or(&[][..], Vec::as_slice);
        candidate.reachable_op = reach(candidate.checkpoint_op, ranges).min(fork);
    }
    inventory.candidates.retain(|c| c.checkpoint_op <= fork_of(c.generation, &parents));
    inventory.candidates.sort_by_key(|c| {
        let newest = std::cmp::Reverse((c.generation, c.reachable_op, c.checkpoint_op));
        (newest, c.tier, c.source.clone())
    });
    inventory
}

/// The last op of a generation that is not abandoned.
fn fork_of(generation: u64, parents: &BTreeMap<u64, Parent>) -> u64 {
    parents.values().filter(|p| p.generation == generation).map(|p| p.op).max().unwrap_or(u64::MAX)
}

/// How far sorted segments lead on from `op`.
pub(crate) fn reach(op: u64, ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().fold(op, |at, (first, last)| if *first <= at + 1 { at.max(*last) } else { at })
}

struct Look {
    head: Head,
    parents: BTreeMap<u64, Parent>,
    candidates: Vec<Candidate>,
    segments: Vec<(u64, (u64, u64))>,
    reserved_revision: i64,
    problem: Option<String>,
}

async fn look(source: &Source, lineage: &str) -> Result<Option<Look>, String> {
    let store = &source.store;
    let Some((bytes, _)) = store.head().await.map_err(|e| e.to_string())? else { return Ok(None) };
    let head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
    if head.lineage != lineage {
        return Err(format!("it belongs to lineage {}, not {lineage}", head.lineage));
    }
    let mut look = Look {
        parents: BTreeMap::new(),
        candidates: Vec::new(),
        segments: Vec::new(),
        reserved_revision: head.reserved_revision,
        problem: None,
        head,
    };
    let remember = |parents: &mut BTreeMap<u64, Parent>, generation, parent: &Option<Parent>| {
        parents.extend(parent.clone().map(|parent| (generation, parent)));
    };
    remember(&mut look.parents, look.head.generation, &look.head.parent);
    let mut generations = vec![look.head.generation];
    for retained in &look.head.retained {
        match read_manifest(&**store, &retained.manifest).await {
            Err(problem) => look.problem = Some(problem),
            Ok(manifest) => {
                remember(&mut look.parents, manifest.generation, &manifest.parent);
                generations.push(manifest.generation);
                look.reserved_revision = look.reserved_revision.max(manifest.reserved_revision);
                look.candidates.push(Candidate {
                    source: source.name.clone(),
                    tier: source.tier,
                    generation: manifest.generation,
                    checkpoint_op: manifest.op,
                    reachable_op: manifest.op,
                    time_micros: manifest.time_micros,
                    root: manifest.state.root.clone(),
                    manifest: retained.manifest.clone(),
                    bytes: manifest.state.bytes,
                });
            }
        }
    }
    generations.sort_unstable();
    generations.dedup();
    for generation in generations {
        let names = Names { generation };
        let listed = store.list(&names.segments()).await.map_err(|e| e.to_string())?;
        let ranges = listed.iter().filter_map(|object| names.segment_range(&object.key));
        look.segments.extend(ranges.map(|range| (generation, range)));
    }
    Ok(Some(look))
}

async fn read_manifest(store: &dyn ObjectStore, key: &str) -> Result<Manifest, String> {
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
    let (mut pages, problems) = fetch_packs(source, &manifest).await;
    let mut repaired_pages = 0;
    let mut missing = missing_pages(&root, &pages);
    if !missing.is_empty() {
        let elsewhere = Elsewhere::look(source, sources, &pages).await;
        while !missing.is_empty() {
            let fetches = missing.iter().map(|id| async { (*id, elsewhere.page(id).await) });
            let mut fetched = stream::iter(fetches.collect::<Vec<_>>()).buffer_unordered(FETCH_PAGES);
            while let Some((id, page)) = fetched.next().await {
                let page = page.ok_or_else(|| {
                    let why = problems.first().map_or(String::new(), |p| format!(" ({p})"));
                    failed(format!(
                        "page {} is missing or corrupt, and no other source has it{why}",
                        hex(&id[..8])
                    ))
                })?;
                pages.insert(id, page);
                repaired_pages += 1;
            }
            drop(fetched);
            missing = missing_pages(&root, &pages);
        }
    }
    let snapshot = Snapshot::load_verified(&root, |id| pages.remove(id).ok_or("fetched a moment ago"))
        .map_err(|e| failed(e.to_string()))?;
    if snapshot.root() != root {
        return Err(failed(format!("its root is {} instead of {}", hex(&snapshot.root()), hex(&root))));
    }
    let goal = to_op.unwrap_or(candidate.reachable_op);
    let (entries, cut_short) = log(manifest.generation, manifest.op, goal, source, sources).await;
    match cut_short {
        // Whoever names an op wants exactly that; whoever names none wants as much as is whole.
        Some(reason) if to_op.is_some() => Err(failed(reason)),
        cut_short => Ok(Loaded { snapshot, manifest, entries, repaired_pages, cut_short }),
    }
}

pub(crate) type Pages = HashMap<[u8; 32], VerifiedPage>;

/// All whole pages of a manifest's packs, and what was wrong with the rest.
async fn fetch_packs(source: &Source, manifest: &Manifest) -> (Pages, Vec<String>) {
    let fetches = manifest.packs.iter().map(|pack| async move {
        match source.store.get(&pack.key).await {
            Ok(Some(bytes)) => {
                let key = pack.key.clone();
                // Decompression and hashing are worth another thread.
                tokio::task::spawn_blocking(move || open_pack(&key, &bytes))
                    .await
                    .unwrap_or_else(|e| (Vec::new(), vec![e.to_string()]))
            }
            Ok(None) => (Vec::new(), vec![format!("pack {} is missing on {}", pack.key, source.name)]),
            Err(error) => (Vec::new(), vec![error.to_string()]),
        }
    });
    let (mut pages, mut problems) = (Pages::new(), Vec::new());
    let mut fetched = stream::iter(fetches).buffer_unordered(FETCH);
    while let Some((found, wrong)) = fetched.next().await {
        pages.extend(found);
        problems.extend(wrong);
    }
    (pages, problems)
}

fn open_pack(key: &str, bytes: &Bytes) -> (Vec<([u8; 32], VerifiedPage)>, Vec<String>) {
    let pack = match Pack::parse(key, bytes) {
        Ok(pack) => pack,
        Err(error) => return (Vec::new(), vec![error.to_string()]),
    };
    let (mut pages, mut problems) = (Vec::with_capacity(pack.entries.len()), Vec::new());
    for entry in &pack.entries {
        match open_frame(key, &entry.header.id, pack.frame(entry)) {
            Ok(page) => pages.push((entry.header.id, page)),
            Err(problem) => problems.push(problem),
        }
    }
    (pages, problems)
}

pub(crate) fn open_frame(key: &str, id: &[u8; 32], bytes: &[u8]) -> Result<VerifiedPage, String> {
    let (frame, _) = Frame::parse(key, bytes).map_err(|e| e.to_string())?;
    let page = frame.page(key).map_err(|e| e.to_string())?;
    Page::verify(id, &page).map_err(|e| format!("{key}: page {}: {e}", hex(&id[..8])))
}

/// Pages that the tree below `root` needs and that are not there (as far as can be seen from those that are).
pub(crate) fn missing_pages(root: &[u8; 32], pages: &Pages) -> Vec<[u8; 32]> {
    if *root == Snapshot::default().root() {
        return Vec::new();
    }
    let (mut missing, mut stack) = (Vec::new(), vec![*root]);
    while let Some(id) = stack.pop() {
        match pages.get(&id) {
            Some(page) => stack.extend(page.page().child_ids()),
            None => missing.push(id),
        }
    }
    missing
}

/// Where other sources have the pages that one lacks.
#[derive(Default)]
struct Elsewhere<'a>(HashMap<[u8; 32], Vec<Spare<'a>>>);

/// A frame on one of them.
struct Spare<'a> {
    source: &'a Source,
    pack: Arc<str>,
    offset: u64,
    len: u64,
}

impl<'a> Elsewhere<'a> {
    /// Reads HEAD, manifests and indexes of every other source once. What cannot be read there is no help, and no harm.
    async fn look(not: &Source, sources: &'a [Source], pages: &Pages) -> Elsewhere<'a> {
        let mut elsewhere = Elsewhere::default();
        for source in sources.iter().filter(|s| s.name != not.name) {
            let store = &*source.store;
            let Ok(Some((head, _))) = store.head().await else { continue };
            let Ok(head) = Head::parse("HEAD", &head) else { continue };
            let mut indexes = BTreeSet::new();
            for retained in &head.retained {
                let Ok(manifest) = read_manifest(store, &retained.manifest).await else { continue };
                indexes.extend(manifest.indexes.into_iter().map(|named| named.key));
            }
            for key in indexes {
                let Ok(Some(bytes)) = store.get(&key).await else { continue };
                let Ok(index) = Index::parse(&key, &bytes) else { continue };
                for (pack, _, entries) in index.packs {
                    let pack: Arc<str> = pack.into();
                    for entry in entries.iter().filter(|entry| !pages.contains_key(&entry.header.id)) {
                        let (offset, len) = (entry.offset, entry.header.len());
                        let copies = elsewhere.0.entry(entry.header.id).or_default();
                        copies.push(Spare { source, pack: Arc::clone(&pack), offset, len });
                    }
                }
            }
        }
        elsewhere
    }

    /// A page from the first of them that has it whole.
    async fn page(&self, id: &[u8; 32]) -> Option<VerifiedPage> {
        for copy in self.0.get(id)? {
            let frame = copy.source.store.get_range(&copy.pack, copy.offset, copy.len).await;
            let Ok(Some(frame)) = frame else { continue };
            if let Ok(page) = open_frame(&copy.pack, id, &frame) {
                return Some(page);
            }
        }
        None
    }
}

/// The entries `after + 1 ..= goal` of a generation, each from whichever source has it; and why they end before `goal`,
/// if they do.
async fn log(
    generation: u64,
    after: u64,
    goal: u64,
    first: &Source,
    sources: &[Source],
) -> (Vec<LogEntry>, Option<String>) {
    let names = Names { generation };
    let mut entries: BTreeMap<u64, LogEntry> = BTreeMap::new();
    let mut problems = Vec::new();
    let others = sources.iter().filter(|s| s.name != first.name);
    for source in std::iter::once(first).chain(others) {
        if (after + 1..=goal).all(|op| entries.contains_key(&op)) {
            break;
        }
        let listed = source.store.list(&names.segments()).await.unwrap_or_default();
        for object in listed {
            let wanted = names.segment_range(&object.key).is_some_and(|(first, last)| {
                last > after
                    && first <= goal
                    && (first..=last).any(|op| op > after && !entries.contains_key(&op))
            });
            if !wanted {
                continue;
            }
            let parsed = match source.store.get(&object.key).await {
                Ok(Some(bytes)) => Segment::parse(&object.key, &bytes).map_err(|e| e.to_string()),
                Ok(None) => Err(format!("{} vanished", object.key)),
                Err(error) => Err(error.to_string()),
            };
            match parsed {
                Ok(segment) if segment.generation == generation => {
                    for entry in segment.entries {
                        entries.entry(entry.op).or_insert(entry);
                    }
                }
                Ok(_) => problems.push(format!("{} is of another generation", object.key)),
                Err(problem) => problems.push(format!("{}: {problem}", source.name)),
            }
        }
    }
    let mut consecutive = Vec::new();
    for op in after + 1..=goal {
        let Some(entry) = entries.remove(&op) else {
            let why = problems.first().map_or(String::new(), |p| format!(" ({p})"));
            return (consecutive, Some(format!("the log entry {op} is on no source{why}")));
        };
        consecutive.push(entry);
    }
    (consecutive, None)
}

/// Makes `generation` the lineage's present on a tier: everything older is fenced from here on. `restore` is the
/// caller's own token, random for each restore: repeating one is no error, while a second restore that chose the same
/// generation is told so, even if it began from the same point.
///
/// # Errors
/// Somebody else made this or a later generation; or the tier cannot be written.
pub async fn fence(
    store: &dyn ObjectStore,
    parent: &Parent,
    generation: u64,
    reserved_revision: i64,
    restore: &str,
) -> Result<(), String> {
    for _ in 0..ATTEMPTS {
        let found = store.head().await.map_err(|e| e.to_string())?;
        let (bytes, tag) = found.ok_or_else(|| format!("{}: there is no HEAD", store.describe()))?;
        let mut head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
        if head.generation == generation && head.token == restore {
            return Ok(());
        }
        if head.generation >= generation {
            return Err(format!(
                "{}: superseded: HEAD is of generation {} already, made by another restore; this one would make \
                 {generation}. Take the inventory again",
                store.describe(),
                head.generation
            ));
        }
        head.version += 1;
        head.nonce = Ulid::generate().to_string();
        head.generation = generation;
        restore.clone_into(&mut head.token);
        head.state = HeadState::Restoring;
        head.parent = Some(parent.clone());
        head.reserved_revision = head.reserved_revision.max(reserved_revision);
        match store.swap_head(Some(&tag), head.encode().into()).await.map_err(|e| e.to_string())? {
            Swapped::Yes => return Ok(()),
            // Read again: it may have been ours.
            Swapped::Lost | Swapped::Unknown => {}
            Swapped::Gone => return Err(format!("{}: HEAD is gone", store.describe())),
        }
    }
    Err(format!("{}: HEAD moved under each of {ATTEMPTS} attempts to fence; try again", store.describe()))
}
