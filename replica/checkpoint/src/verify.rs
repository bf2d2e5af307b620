//! Whether what HEAD retains could be restored, found out without restoring it.
//!
//! It only reads, one tier alone, and names every object and frame that is not what it should be instead of stopping at
//! the first. It says nothing of what no manifest refers to, and nothing of what another tier could help out with:
//! that is [`crate::restore::load`].

mod pack;

use crate::format::{Head, Index, Manifest, Named, Names, PackEntry, Segment, hex};
use crate::restore::{Held, Source, reach};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
pub(crate) use pack::problem_in;
use pack::{PackFound, look_into};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use vr_tree::Snapshot;

/// Packs read at a time.
const FETCH: usize = 4;

/// How much is read. Each includes what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Depth {
    /// HEAD, the manifests, and the log that leads on from them.
    Manifests,
    /// Every index, and every frame of some packs.
    Sample(Sample),
    /// Every index, and every frame of every pack.
    Frames,
    /// The state is built and its root compared; this takes as much memory as the state.
    Root,
}

/// Some packs of a checkpoint, at least one: a little now and a little the next time costs less than all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    /// So many of a hundred.
    pub percent: u8,
    /// Which ones; the same seed chooses the same.
    pub seed: u64,
}

impl Sample {
    fn of(self, packs: &[Named]) -> Vec<Named> {
        let rank = |pack: &Named| {
            let hash =
                blake3::Hasher::new().update(&self.seed.to_le_bytes()).update(pack.key.as_bytes()).finalize();
            *hash.as_bytes()
        };
        let mut chosen = packs.to_vec();
        chosen.sort_by_cached_key(rank);
        chosen.truncate((packs.len() * usize::from(self.percent)).div_ceil(100).max(1));
        chosen
    }
}

/// Which checkpoints; by default all that are retained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// The newest of them.
    pub newest: bool,
    /// Those of this generation.
    pub generation: Option<u64>,
    /// The one cut at this op.
    pub op: Option<u64>,
}

/// What was found on one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The tier, for people.
    pub source: String,
    /// The lineage that was asked for.
    pub lineage: String,
    /// How much was read.
    pub depth: Depth,
    /// Generation of HEAD, if it could be read.
    pub generation: Option<u64>,
    /// What is wrong with HEAD or with the choice of checkpoints.
    pub problems: Vec<Problem>,
    /// Newest first.
    pub checkpoints: Vec<Verified>,
}

/// What was found of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Key of its manifest.
    pub manifest: String,
    /// Its generation.
    pub generation: u64,
    /// Its cut.
    pub op: u64,
    /// Root of its state, hexadecimal, if the manifest could be read.
    pub root: Option<String>,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// The op that the whole segments on this tier lead to.
    pub reaches_op: u64,
    /// What was read for it.
    pub read: Read,
    /// What is wrong, object by object.
    pub problems: Vec<Problem>,
}

/// How much was read for one checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// Whole frames.
    pub frames: u64,
    /// Log entries.
    pub log_entries: u64,
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Key of the object; `HEAD` for HEAD.
    pub object: String,
    /// Id of the page whose frame it is, hexadecimal, if it is about one.
    pub frame: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl Report {
    /// Whether there is at least one checkpoint and nothing is wrong with any.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.problems.is_empty() && !self.checkpoints.is_empty() && self.checkpoints.iter().all(|c| c.ok)
    }
}

/// Reads what HEAD retains of a lineage. What is wrong is part of the report, never an error.
pub async fn verify(source: &Source, lineage: &str, only: Only, depth: Depth) -> Report {
    let mut report = Report {
        source: source.name.clone(),
        lineage: lineage.to_owned(),
        depth,
        generation: None,
        problems: Vec::new(),
        checkpoints: Vec::new(),
    };
    let head = match head(source, lineage).await {
        Ok(head) => head,
        Err(reason) => {
            report.problems.push(problem("HEAD", None, reason));
            return report;
        }
    };
    report.generation = Some(head.generation);
    let mut segments = Segments::default();
    for retained in head.retained.iter().rev() {
        let names = Names::of(&retained.manifest);
        let generation = names.map_or(0, |names| names.generation);
        if only.newest && !report.checkpoints.is_empty() {
            break;
        }
        let chosen = only.op.is_none_or(|op| op == retained.op)
            && only.generation.is_none_or(|wanted| wanted == generation);
        if !chosen {
            continue;
        }
        let mut check = Check { source, read: Read::default(), problems: Vec::new() };
        let manifest = check.manifest(&retained.manifest, lineage, generation, retained.op).await;
        let mut reaches_op = retained.op;
        if let Some(manifest) = &manifest {
            reaches_op = check.log(&mut segments, manifest).await;
            if depth > Depth::Manifests {
                check.frames(manifest, depth).await;
            }
        }
        report.checkpoints.push(Verified {
            manifest: retained.manifest.clone(),
            generation,
            op: retained.op,
            root: manifest.map(|manifest| manifest.state.root),
            ok: check.problems.is_empty(),
            reaches_op,
            read: check.read,
            problems: check.problems,
        });
    }
    if report.checkpoints.is_empty() {
        let reason = match (head.retained.len(), only.op) {
            (0, _) => "it retains no checkpoint yet".to_owned(),
            (count, Some(op)) => {
                format!("none of the {count} checkpoints that it retains was cut at op {op}")
            }
            (count, None) => format!("none of the {count} checkpoints that it retains is of that generation"),
        };
        report.problems.push(problem("HEAD", None, reason));
    }
    report
}

async fn head(source: &Source, lineage: &str) -> Result<Head, String> {
    let found = source.store.head().await.map_err(|e| e.to_string())?;
    let (bytes, _) = found.ok_or("there is none: nothing was ever checkpointed here, or it was deleted")?;
    let head = Head::parse("HEAD", &bytes).map_err(|e| e.to_string())?;
    if head.lineage == lineage {
        Ok(head)
    } else {
        Err(format!("it belongs to lineage {}, not {lineage}", head.lineage))
    }
}

fn problem(object: &str, frame: Option<&[u8; 32]>, reason: impl Into<String>) -> Problem {
    Problem { object: object.to_owned(), frame: frame.map(|id| hex(id)), reason: reason.into() }
}

/// Segments that were read already, by generation: its checkpoints share them.
#[derive(Default)]
struct Segments(HashMap<u64, Vec<SegmentFound>>);

struct SegmentFound {
    key: String,
    range: (u64, u64),
    bytes: u64,
    problem: Option<String>,
}

/// One checkpoint being looked at.
struct Check<'a> {
    source: &'a Source,
    read: Read,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, object: &str, reason: impl Into<String>) {
        self.problems.push(problem(object, None, reason));
    }

    /// An object that must be there.
    async fn fetch(&mut self, key: &str) -> Option<Bytes> {
        match self.source.store.get(key).await {
            Ok(Some(bytes)) => {
                self.read.objects += 1;
                self.read.bytes += bytes.len() as u64;
                return Some(bytes);
            }
            Ok(None) => self.wrong(key, "it is missing"),
            Err(error) => self.wrong(key, error.to_string()),
        }
        None
    }

    async fn manifest(&mut self, key: &str, lineage: &str, generation: u64, op: u64) -> Option<Manifest> {
        let bytes = self.fetch(key).await?;
        let manifest = match Manifest::parse(key, &bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.wrong(key, error.to_string());
                return None;
            }
        };
        let named = manifest.root().map(|root| Names { generation }.manifest(op, &root));
        let says = (manifest.generation, manifest.op);
        if manifest.lineage != lineage || says != (generation, op) || named.as_deref() != Some(key) {
            self.wrong(
                key,
                "it is a checkpoint of another lineage, generation, op or root than HEAD and its name say",
            );
            return None;
        }
        Some(manifest)
    }

    /// Where the log leads from the cut; a damaged segment in its way is a problem.
    async fn log(&mut self, segments: &mut Segments, manifest: &Manifest) -> u64 {
        let found = match segments.0.entry(manifest.generation) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(self.segments(manifest).await),
        };
        let above = || found.iter().filter(|segment| segment.range.1 > manifest.op);
        let mut whole: Vec<(u64, u64)> =
            above().filter(|segment| segment.problem.is_none()).map(|segment| segment.range).collect();
        whole.sort_unstable();
        let reached = reach(manifest.op, &whole);
        for segment in above() {
            self.read.objects += 1;
            self.read.bytes += segment.bytes;
            match &segment.problem {
                // Where another segment covers the same ops nothing is lost.
                Some(reason) if segment.range.1 > reached => {
                    self.problems.push(problem(&segment.key, None, reason.clone()));
                }
                Some(_) => {}
                None => self.read.log_entries += segment.range.1 - segment.range.0 + 1,
            }
        }
        reached
    }

    async fn segments(&mut self, manifest: &Manifest) -> Vec<SegmentFound> {
        let names = Names { generation: manifest.generation };
        let listed = match self.source.store.list(&names.segments()).await {
            Ok(listed) => listed,
            Err(error) => {
                self.wrong(&names.segments(), error.to_string());
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for object in listed {
            let Some(range) = names.segment_range(&object.key) else { continue };
            let problem = match self.source.store.get(&object.key).await {
                Ok(Some(bytes)) => segment_problem(&object.key, &bytes, manifest, range),
                // A collection is free to delete it at any time.
                Ok(None) => continue,
                Err(error) => Some(error.to_string()),
            };
            found.push(SegmentFound { key: object.key, range, bytes: object.size, problem });
        }
        found
    }

    /// All indexes and packs, and with [`Depth::Root`] the state that they make.
    async fn frames(&mut self, manifest: &Manifest, depth: Depth) {
        let before = self.problems.len();
        let mut places: HashMap<String, Vec<PackEntry>> = HashMap::new();
        for named in &manifest.indexes {
            let Some(bytes) = self.fetch(&named.key).await else { continue };
            // One that was made anew has another size where a collection had been: which packs it names is what counts.
            match Index::parse(&named.key, &bytes) {
                Ok(index) => places.extend(index.packs.into_iter().map(|(key, _, entries)| (key, entries))),
                Err(error) => self.wrong(&named.key, error.to_string()),
            }
        }
        let whole_indexes = self.problems.len() == before;
        let keep = depth >= Depth::Root;
        let packs = match depth {
            Depth::Sample(sample) => sample.of(&manifest.packs),
            _ => manifest.packs.clone(),
        };
        let fetches = packs.iter().map(|named| {
            let store = &self.source.store;
            let expected = places.remove(&named.key);
            async move {
                let bytes = match store.get(&named.key).await {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => return PackFound::absent(&named.key, "it is missing".to_owned()),
                    Err(error) => return PackFound::absent(&named.key, error.to_string()),
                };
                let named = named.clone();
                let key = named.key.clone();
                // Decompression and hashing are worth another thread.
                let looked = tokio::task::spawn_blocking(move || {
                    look_into(&named, &bytes, expected.as_deref(), whole_indexes, keep)
                });
                looked.await.unwrap_or_else(|error| PackFound::absent(&key, error.to_string()))
            }
        });
        let fetches: Vec<_> = fetches.collect();
        let mut held = Held::default();
        let mut fetched = stream::iter(fetches).buffered(FETCH);
        while let Some(found) = fetched.next().await {
            self.read.objects += found.read.objects;
            self.read.bytes += found.read.bytes;
            self.read.frames += found.read.frames;
            self.problems.extend(found.problems);
            held.take_in(found.frames);
        }
        drop(fetched);
        if keep {
            self.root(manifest, held);
        }
    }

    fn root(&mut self, manifest: &Manifest, mut held: Held) {
        let Some(root) = manifest.root() else { return };
        let key = Names { generation: manifest.generation }.manifest(manifest.op, &root);
        let wanted = held.missing(&root);
        for reason in held.make(&wanted) {
            self.wrong(&key, reason);
        }
        let missing = if wanted.is_empty() { wanted } else { held.missing(&root) };
        let state = &manifest.state;
        for id in &missing {
            self.problems.push(problem(&key, Some(id), "no whole frame of this page is in any of its packs"));
        }
        if !missing.is_empty() {
            return;
        }
        match Snapshot::load_verified(&root, |id| held.take(id).ok_or("it is needed twice")) {
            Err(error) => self.wrong(&key, error.to_string()),
            Ok(snapshot) => {
                let found = (hex(&snapshot.root()), snapshot.len(), snapshot.bytes());
                if found != (state.root.clone(), state.entries, state.bytes) {
                    let (root, entries, bytes) = found;
                    self.wrong(
                        &key,
                        format!(
                            "it has root {root}, {entries} entries and {bytes} bytes instead of root {}, {} and {}",
                            state.root, state.entries, state.bytes
                        ),
                    );
                }
            }
        }
    }
}

fn segment_problem(key: &str, bytes: &Bytes, manifest: &Manifest, range: (u64, u64)) -> Option<String> {
    let segment = match Segment::parse(key, bytes) {
        Ok(segment) => segment,
        Err(error) => return Some(error.to_string()),
    };
    let ops = segment.entries.first().map(|e| e.op).zip(segment.entries.last().map(|e| e.op));
    let lineage = crate::writer::Lineage(segment.lineage).to_string();
    let right =
        lineage == manifest.lineage && segment.generation == manifest.generation && ops == Some(range);
    (!right).then(|| "it is of another lineage or generation, or of other ops, than its name says".to_owned())
}
