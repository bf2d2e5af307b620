//! Writes one tier of one lineage: ships what the tier lacks, and moves HEAD last.
//!
//! It promises that HEAD only ever names manifests whose every frame was durable before, that two writers of one
//! generation cannot harm each other, and that a writer of an older generation stops for good. It holds the ids of what
//! the tier has in memory (some 60 bytes a page).

use crate::format::{
    FORMAT, FormatError, Head, HeadState, Index, Kind, LogEntry, Manifest, ManifestState, Named, Names,
    PackBuilder, Parent, Part, Retained, Segment, hex,
};
use crate::store::{Created, ObjectStore, StoreError, Swapped, Tag};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use ulid::Ulid;
use vr_tree::{NodeRef, Snapshot};

/// Attempts at moving HEAD before a run gives up until the next one.
const ATTEMPTS: usize = 5;
/// Frames of packs that are less than half alive are shipped again, up to so many bytes a run: this empties old packs.
const REPACK_BYTES: u64 = 32 << 20;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the database.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: u64,
    /// The replica.
    pub replica: u64,
}

/// What a checkpoint says beside its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The op it was cut at.
    pub op: u64,
    /// View of that entry.
    pub view: u64,
    /// Epoch of that entry.
    pub epoch: u64,
    /// Time of that entry, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// Chained digest of the log through it.
    pub log_digest: [u8; 32],
    /// The store's revision.
    pub revision: i64,
    /// No revision above this one was handed out by then.
    pub reserved_revision: i64,
    /// The members.
    pub configuration: serde_json::Value,
}

/// What a checkpoint took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Key of its manifest.
    pub manifest: String,
    /// Root of the state.
    pub root: [u8; 32],
    /// Pages of the state.
    pub pages: u64,
    /// Pages shipped.
    pub shipped_pages: u64,
    /// Bytes shipped.
    pub shipped_bytes: u64,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This process belongs to the past.
    #[error(
        "{store}: fenced: HEAD is of generation {head}{}, this process is of generation {mine}. The lineage was restored \
         elsewhere: stop this cluster for good",
        if .head == .mine { " with another token" } else { "" }
    )]
    Fenced {
        /// The tier.
        store: String,
        /// Generation of HEAD.
        head: u64,
        /// Generation of the writer.
        mine: u64,
    },
    /// The tier is not as it was left; a person must look.
    #[error("{store}: {reason}")]
    Broken {
        /// The tier.
        store: String,
        /// What was found and what to do.
        reason: String,
    },
    /// Others are moving HEAD all the time; the next run tries again.
    #[error("{store}: HEAD moved under each of {ATTEMPTS} attempts; the next run tries again")]
    Contended {
        /// The tier.
        store: String,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object on the tier.
    #[error("{store}: {source}")]
    Format {
        /// The tier.
        store: String,
        /// What is wrong with it.
        source: FormatError,
    },
}

/// A lineage's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub [u8; 16]);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

/// One tier, being written.
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    identity: Identity,
    keep: usize,
    head: Head,
    tag: Tag,
    manifests: BTreeMap<String, Manifest>,
    indexes: BTreeSet<String>,
    /// Where each page stands: which pack.
    known: HashMap<[u8; 32], Stored>,
    packs: Vec<PackInfo>,
}

#[derive(Clone, Copy)]
struct Stored {
    pack: u32,
    bytes: u32,
}

struct PackInfo {
    named: Named,
    index: Named,
}

impl Writer {
    /// Opens the tier: creates FORMAT and HEAD where there is none and `may_create`, takes over a HEAD of an older
    /// generation where `parent` says that this generation began in it, and learns what the tier has.
    ///
    /// # Errors
    /// [`WriteError::Fenced`] if HEAD is of a newer generation; otherwise what is in the way.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        identity: Identity,
        parent: Option<Parent>,
        may_create: bool,
        keep: usize,
    ) -> Result<Writer, WriteError> {
        let mut writer = Writer {
            head: first_head(&identity, parent.clone()),
            store,
            identity,
            keep: keep.max(1),
            tag: Tag(String::new()),
            manifests: BTreeMap::new(),
            indexes: BTreeSet::new(),
            known: HashMap::new(),
            packs: Vec::new(),
        };
        match writer.store.head().await? {
            None if may_create => {
                let format = Bytes::from(format!("{FORMAT}\n"));
                writer.create("FORMAT", format).await?;
                writer.swap(None).await?;
            }
            None => {
                return Err(writer.broken(
                    "there is no HEAD: it was deleted, or this is another place. Restore from \
                                          another tier, or bootstrap a new lineage",
                ));
            }
            Some(_) => {}
        }
        writer.reload().await?;
        if writer.head.generation < writer.identity.generation {
            let Some(parent) = parent else {
                return Err(writer.broken(&format!(
                    "HEAD is of generation {}, this process of {}, and nothing says how that began",
                    writer.head.generation, writer.identity.generation
                )));
            };
            writer
                .update(
                    move |head, identity| {
                        head.generation = identity.generation;
                        head.token = Ulid::generate().to_string();
                        head.state = HeadState::Restoring;
                        head.parent = Some(parent.clone());
                    },
                    &[],
                )
                .await?;
        }
        Ok(writer)
    }

    /// The newest HEAD this writer knows.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Ships a checkpoint.
    ///
    /// # Errors
    /// See [`WriteError`]; HEAD then names what it named before.
    pub async fn checkpoint(&mut self, cut: &Cut, snapshot: &Snapshot) -> Result<Written, WriteError> {
        let names = Names { generation: self.identity.generation };
        let root = snapshot.root();
        let mut written = Written { manifest: names.manifest(cut.op, &root), root, ..Written::default() };
        if self.head.retained.iter().any(|r| r.manifest == written.manifest) {
            return Ok(written);
        }
        let upload = Ulid::generate();
        let (packs, used) = self.ship(names, upload, snapshot, &mut written).await?;
        let first_new = self.packs.len() as u32;
        if !packs.packs.is_empty() {
            let body = packs.encode();
            let index = Named { key: names.index(upload), bytes: body.len() as u64 };
            written.shipped_bytes += body.len() as u64;
            self.create(&index.key, body.into()).await?;
            self.learn(&index, &packs);
        }
        let live = || self.packs.iter().zip(0u32..).filter(|(_, n)| *n >= first_new || used.contains(n));
        let mut indexes: Vec<Named> = live().map(|(pack, _)| pack.index.clone()).collect();
        indexes.sort();
        indexes.dedup();
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            lineage: self.identity.lineage.to_string(),
            generation: self.identity.generation,
            parent: self.head.parent.clone(),
            incremental: written.shipped_pages < written.pages,
            op: cut.op,
            view: cut.view,
            epoch: cut.epoch,
            time_micros: cut.time_micros,
            written_micros: now_micros(),
            configuration: cut.configuration.clone(),
            revision: cut.revision,
            reserved_revision: cut.reserved_revision,
            log_digest: hex(&cut.log_digest),
            state: ManifestState {
                root: hex(&root),
                entries: snapshot.len(),
                pages: written.pages,
                bytes: snapshot.bytes(),
            },
            indexes,
            packs: live().map(|(pack, _)| pack.named.clone()).collect(),
            writer: self.identity.replica,
            nonce: Ulid::generate().to_string(),
            hash: String::new(),
        };
        let body = manifest.encode();
        written.shipped_bytes += body.len() as u64;
        // Another shipper may have put the same cut there: then that one counts.
        if self.create(&written.manifest, body.into()).await? == Created::Exists {
            manifest = self.manifest(&written.manifest).await?;
        }
        let new: BTreeSet<&str> = packs.packs.iter().map(|(key, ..)| key.as_str()).collect();
        let relied: Vec<String> =
            manifest.packs.iter().filter(|p| !new.contains(p.key.as_str())).map(|p| p.key.clone()).collect();
        let keep = self.keep;
        let retained =
            Retained { manifest: written.manifest.clone(), op: cut.op, time_micros: cut.time_micros };
        self.manifests.insert(written.manifest.clone(), manifest);
        self.update(
            move |head, identity| {
                head.state = HeadState::Active;
                head.owner = identity.replica;
                // Our swap may have happened and another one after it: then it is in already.
                if !head.retained.contains(&retained) {
                    head.retained.push(retained.clone());
                }
                let surplus = head.retained.len().saturating_sub(keep);
                head.retained.drain(..surplus);
            },
            &relied,
        )
        .await?;
        Ok(written)
    }

    /// Ships the pages that the tier lacks, and empties packs of which less than half is alive; the new packs, and which
    /// old ones are relied on. The state is walked once, and once more only if there is something to empty.
    async fn ship(
        &self,
        names: Names,
        upload: Ulid,
        snapshot: &Snapshot,
        written: &mut Written,
    ) -> Result<(Index, BTreeSet<u32>), WriteError> {
        let mut shipment = Shipment::new(self, names, upload, written);
        let mut alive = vec![0u64; self.packs.len()];
        let mut stack: Vec<NodeRef<'_>> = snapshot.node().into_iter().collect();
        while let Some(node) = stack.pop() {
            stack.extend(node.children().rev());
            shipment.written.pages += 1;
            match self.known.get(&node.id()) {
                Some(stored) => alive[stored.pack as usize] += u64::from(stored.bytes),
                None => shipment.add(&node).await?,
            }
        }
        let sparse: BTreeSet<u32> = (0..)
            .zip(alive.iter().zip(&self.packs))
            .filter(|(_, (alive, pack))| **alive > 0 && **alive * 2 < pack.named.bytes)
            .map(|(pack, _)| pack)
            .collect();
        if !sparse.is_empty() {
            let mut repack = REPACK_BYTES;
            stack.extend(snapshot.node());
            while let Some(node) = stack.pop() {
                stack.extend(node.children().rev());
                let Some(stored) = self.known.get(&node.id()) else { continue };
                let bytes = u64::from(stored.bytes);
                if sparse.contains(&stored.pack) && repack >= bytes {
                    repack -= bytes;
                    alive[stored.pack as usize] -= bytes;
                    shipment.add(&node).await?;
                }
            }
        }
        let used = (0..).zip(alive).filter(|(_, alive)| *alive > 0).map(|(pack, _)| pack).collect();
        Ok((shipment.finish().await?, used))
    }

    /// Ships consecutive committed entries as one segment; its bytes.
    ///
    /// # Errors
    /// See [`WriteError`]. A segment that stands there already is no error: committed is committed.
    pub async fn ship_log(&mut self, entries: &[LogEntry]) -> Result<u64, WriteError> {
        let [first, ..] = entries else { return Ok(0) };
        self.check_fence().await?;
        let names = Names { generation: self.identity.generation };
        let key = names.segment(first.op, first.op + entries.len() as u64 - 1);
        let (lineage, generation) = (self.identity.lineage.0, self.identity.generation);
        let body = Segment { lineage, generation, entries: entries.to_vec() }.encode();
        let bytes = body.len() as u64;
        self.create(&key, body.into()).await?;
        Ok(bytes)
    }

    /// Makes "no revision above this one has been handed out" durable.
    ///
    /// # Errors
    /// See [`WriteError`]: the revision must then not be used.
    pub async fn reserve(&mut self, revision: i64) -> Result<(), WriteError> {
        if self.head.reserved_revision >= revision {
            return Ok(());
        }
        self.update(move |head, _| head.reserved_revision = head.reserved_revision.max(revision), &[]).await
    }

    /// The newest retained checkpoint of this very generation.
    #[must_use]
    pub fn newest_own(&self) -> Option<&Retained> {
        let own = Names { generation: self.identity.generation };
        self.head.retained.iter().rev().find(|r| Names::of(&r.manifest) == Some(own))
    }

    /// How far the shipped log of this generation leads on from `op`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn log_reach(&self, op: u64) -> Result<u64, WriteError> {
        let names = Names { generation: self.identity.generation };
        let mut ranges: Vec<(u64, u64)> = self
            .store
            .list(&names.segments())
            .await?
            .iter()
            .filter_map(|o| names.segment_range(&o.key))
            .collect();
        ranges.sort_unstable();
        Ok(crate::restore::reach(op, &ranges))
    }

    /// Whether HEAD still is of this generation.
    ///
    /// # Errors
    /// [`WriteError::Fenced`] if not.
    pub async fn check_fence(&mut self) -> Result<(), WriteError> {
        let Some((bytes, _)) = self.store.head().await? else { return Err(self.gone()) };
        let head = self.parse_head(&bytes)?;
        self.fence(&head)
    }

    /// Deletes what no retained manifest needs and nobody has written for `grace`; how many objects.
    ///
    /// # Errors
    /// See [`WriteError`]; what was not deleted is found again by the next run.
    pub async fn collect(&mut self, grace: Duration) -> Result<usize, WriteError> {
        self.reload().await?;
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        let mut oldest: BTreeMap<u64, u64> = BTreeMap::new();
        for retained in &self.head.retained {
            let manifest = &self.manifests[&retained.manifest];
            needed.insert(&retained.manifest);
            needed.extend(manifest.indexes.iter().chain(&manifest.packs).map(|n| n.key.as_str()));
            let op = oldest.entry(manifest.generation).or_insert(manifest.op);
            *op = manifest.op.min(*op);
        }
        let young = (now_micros() / 1_000_000).saturating_sub(grace.as_secs());
        let mut deleted = 0;
        for object in self.store.list("g/").await? {
            let Some(names) = Names::of(&object.key) else { continue };
            // Segments are needed from the oldest retained cut of their generation on; of the own one always.
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

    fn pack_builder(&self) -> PackBuilder {
        PackBuilder::new(self.identity.lineage.0, self.identity.generation)
    }

    /// Creates an object; an unknown outcome is read back. [`Created::Exists`] if it stood there before.
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, WriteError> {
        for _ in 0..ATTEMPTS {
            match self.store.create(key, body.clone()).await? {
                Created::Unknown => match self.store.get(key).await? {
                    Some(found) if found == body => return Ok(Created::Yes),
                    Some(_) => return Ok(Created::Exists),
                    None => {}
                },
                known => return Ok(known),
            }
        }
        Err(WriteError::Contended { store: self.store.describe() })
    }

    /// Changes HEAD, again and again until the change is in, or it no longer holds all of the packs `relied` upon.
    async fn update(
        &mut self,
        change: impl Fn(&mut Head, &Identity),
        relied: &[String],
    ) -> Result<(), WriteError> {
        let contended = WriteError::Contended { store: self.store.describe() };
        for attempt in 0..ATTEMPTS {
            let before = self.head.clone();
            change(&mut self.head, &self.identity);
            self.head.version += 1;
            self.head.nonce = Ulid::generate().to_string();
            let tag = self.tag.clone();
            match self.swap(Some(&tag)).await {
                Ok(()) if attempt == 0 => {
                    self.manifests.retain(|key, _| self.head.retained.iter().any(|r| r.manifest == *key));
                    self.forget();
                    return Ok(());
                }
                // Others have written between: learn anew what the tier has.
                Ok(()) => return self.reload().await,
                Err(WriteError::Contended { .. }) => {
                    self.head = before;
                    self.reload().await?;
                    let held = self.held();
                    if !relied.iter().all(|pack| held.contains(pack.as_str())) {
                        return Err(contended);
                    }
                }
                Err(other) => {
                    self.head = before;
                    return Err(other);
                }
            }
        }
        Err(contended)
    }

    /// One swap of HEAD to `self.head`; `Contended` if another one stands there.
    async fn swap(&mut self, expected: Option<&Tag>) -> Result<(), WriteError> {
        let contended = WriteError::Contended { store: self.store.describe() };
        let outcome = self.store.swap_head(expected, self.head.encode().into()).await?;
        // The tag of what was written is only known by reading; so is what an unknown outcome was.
        let Some((bytes, tag)) = self.store.head().await? else {
            return Err(if outcome == Swapped::Unknown { contended } else { self.gone() });
        };
        let found = self.parse_head(&bytes)?;
        let ours = found.nonce == self.head.nonce;
        self.fence(&found)?;
        if outcome == Swapped::Gone {
            return Err(self.gone());
        }
        if !ours {
            return Err(contended);
        }
        self.tag = tag;
        Ok(())
    }

    /// Reads HEAD again, and the manifests and indexes that are new in it.
    async fn reload(&mut self) -> Result<(), WriteError> {
        let Some((bytes, tag)) = self.store.head().await? else { return Err(self.gone()) };
        let head = self.parse_head(&bytes)?;
        self.fence(&head)?;
        for retained in &head.retained {
            if !self.manifests.contains_key(&retained.manifest) {
                let manifest = self.manifest(&retained.manifest).await?;
                self.manifests.insert(retained.manifest.clone(), manifest);
            }
        }
        self.manifests.retain(|key, _| head.retained.iter().any(|r| r.manifest == *key));
        (self.head, self.tag) = (head, tag);
        let wanted: BTreeSet<Named> =
            self.manifests.values().flat_map(|m| m.indexes.iter().cloned()).collect();
        for index in wanted {
            if !self.indexes.contains(&index.key) {
                let bytes = self.store.get(&index.key).await?.ok_or_else(|| self.missing(&index.key))?;
                let parsed = Index::parse(&index.key, &bytes).map_err(|source| self.format(source))?;
                self.learn(&index, &parsed);
            }
        }
        self.forget();
        Ok(())
    }

    /// Packs that a retained manifest holds.
    fn held(&self) -> BTreeSet<&str> {
        self.manifests.values().flat_map(|m| m.packs.iter().map(|p| p.key.as_str())).collect()
    }

    fn learn(&mut self, index: &Named, parsed: &Index) {
        self.indexes.insert(index.key.clone());
        for (key, bytes, entries) in &parsed.packs {
            let pack = self.packs.len() as u32;
            self.packs
                .push(PackInfo { named: Named { key: key.clone(), bytes: *bytes }, index: index.clone() });
            for entry in entries {
                let bytes = u32::try_from(entry.header.len()).unwrap_or(u32::MAX);
                self.known.insert(entry.header.id, Stored { pack, bytes });
            }
        }
    }

    /// Forgets pages in packs that no retained manifest holds: they may be deleted at any time.
    fn forget(&mut self) {
        let held = self.held();
        let kept: Vec<bool> = self.packs.iter().map(|p| held.contains(p.named.key.as_str())).collect();
        let indexes: BTreeSet<String> =
            self.manifests.values().flat_map(|m| m.indexes.iter().map(|i| i.key.clone())).collect();
        self.known.retain(|_, stored| kept[stored.pack as usize]);
        // An index is read again if a manifest of another writer brings it back.
        self.indexes = indexes;
    }

    async fn manifest(&self, key: &str) -> Result<Manifest, WriteError> {
        let bytes = self.store.get(key).await?.ok_or_else(|| self.missing(key))?;
        Manifest::parse(key, &bytes).map_err(|source| self.format(source))
    }

    fn parse_head(&self, bytes: &[u8]) -> Result<Head, WriteError> {
        let head = Head::parse("HEAD", bytes).map_err(|source| self.format(source))?;
        if head.lineage != self.identity.lineage.to_string() {
            return Err(self.broken(&format!(
                "HEAD belongs to lineage {}, not {}",
                head.lineage, self.identity.lineage
            )));
        }
        Ok(head)
    }

    fn fence(&self, found: &Head) -> Result<(), WriteError> {
        let (head, mine) = (found.generation, self.identity.generation);
        let same_token =
            self.tag.0.is_empty() || self.head.generation != mine || found.token == self.head.token;
        if head > mine || (head == mine && !same_token) {
            return Err(WriteError::Fenced { store: self.store.describe(), head, mine });
        }
        Ok(())
    }

    fn format(&self, source: FormatError) -> WriteError {
        WriteError::Format { store: self.store.describe(), source }
    }
    fn broken(&self, reason: &str) -> WriteError {
        WriteError::Broken { store: self.store.describe(), reason: reason.to_owned() }
    }
    fn gone(&self) -> WriteError {
        self.broken("HEAD is gone: somebody deleted it. Nothing is written here until it is restored or bootstrapped anew")
    }
    fn missing(&self, key: &str) -> WriteError {
        self.broken(&format!("{key} is missing although HEAD retains it: verify the tier"))
    }
}

/// Pages on their way into the packs of one upload.
struct Shipment<'a> {
    writer: &'a Writer,
    names: Names,
    upload: Ulid,
    written: &'a mut Written,
    parts: Vec<(Part, PackBuilder)>,
    packs: u32,
    index: Index,
    page: Vec<u8>,
}

impl<'a> Shipment<'a> {
    fn new(writer: &'a Writer, names: Names, upload: Ulid, written: &'a mut Written) -> Shipment<'a> {
        let parts = [Part::Tree, Part::Data].map(|part| (part, writer.pack_builder())).into();
        Shipment {
            writer,
            names,
            upload,
            written,
            parts,
            packs: 0,
            index: Index::default(),
            page: Vec::new(),
        }
    }

    async fn add(&mut self, node: &NodeRef<'_>) -> Result<(), WriteError> {
        self.page.clear();
        node.encode(&mut self.page);
        let (kind, place) = if node.is_leaf() { (Kind::Leaf, 1) } else { (Kind::Inner, 0) };
        self.written.shipped_pages += 1;
        let (part, builder) = &mut self.parts[place];
        builder.add(node.id(), kind, &self.page);
        if builder.is_full() {
            let (part, full) = (*part, std::mem::replace(builder, self.writer.pack_builder()));
            self.put(part, full).await?;
        }
        Ok(())
    }

    async fn put(&mut self, part: Part, pack: PackBuilder) -> Result<(), WriteError> {
        let key = self.names.pack(part, self.upload, self.packs);
        let (body, entries) = pack.finish();
        let bytes = body.len() as u64;
        if self.writer.create(&key, body.into()).await? == Created::Exists {
            return Err(self.writer.broken(&format!("{key} exists although its name was made a moment ago")));
        }
        self.packs += 1;
        self.written.shipped_bytes += bytes;
        self.index.packs.push((key, bytes, entries));
        Ok(())
    }

    /// Ships what is begun; where everything stands.
    async fn finish(mut self) -> Result<Index, WriteError> {
        for (part, rest) in std::mem::take(&mut self.parts) {
            if !rest.is_empty() {
                self.put(part, rest).await?;
            }
        }
        Ok(self.index)
    }
}

fn first_head(identity: &Identity, parent: Option<Parent>) -> Head {
    Head {
        format: FORMAT.to_owned(),
        lineage: identity.lineage.to_string(),
        version: 1,
        nonce: Ulid::generate().to_string(),
        generation: identity.generation,
        token: Ulid::generate().to_string(),
        state: if parent.is_some() { HeadState::Restoring } else { HeadState::Active },
        parent,
        owner: identity.replica,
        retained: Vec::new(),
        reserved_revision: 0,
    }
}

pub(crate) fn now_micros() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}
