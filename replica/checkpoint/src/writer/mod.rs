//! Writes one tier of one lineage: ships what the tier lacks, and moves HEAD last.
//!
//! It promises that HEAD only ever names manifests whose every frame was durable before, that two writers of one
//! generation cannot harm each other, and that a writer of an older generation stops for good. It holds the ids of what
//! the tier has in memory (some 60 bytes a page).

mod checkpoint;
mod collect;
mod deltas;
mod error;
mod frames;
mod head;
mod identity;
mod known;
mod pace;
mod preview;
mod reach;
mod repair;
mod retention;
mod scrub;
mod ship;

pub use error::WriteError;
pub use frames::Frames;
pub use identity::{Beginning, Cut, Identity, Lineage, Written};
pub use pace::LEAST_RATE;
pub use preview::{Doomed, Preview, Stage, preview};
pub use retention::Retention;
pub use scrub::Scrubbed;

use crate::format::{FORMAT, Head, HeadState, LogEntry, Manifest, Names, Retained, Segment};
use crate::mutants::{Mutant, on};
use crate::store::{Created, ObjectStore, Tag};
use bytes::Bytes;
use collect::Planned;
use head::{ATTEMPTS, first_head};
use known::Known;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vr_tree::Snapshot;

/// One tier, being written.
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    identity: Identity,
    beginning: Option<Beginning>,
    keep: Retention,
    head: Head,
    tag: Tag,
    manifests: BTreeMap<String, Manifest>,
    known: Known,
    /// Manifests and indexes that HEAD retains and nobody can read.
    unreadable: BTreeSet<String>,
    /// Plans of collections on the tier, once they were read.
    plans: Option<Vec<Planned>>,
    /// How fast packs may follow each other, bytes a second.
    rate: Option<u64>,
    /// How many deltas may stand between a page and one that is whole.
    deltas: usize,
    /// The state that this writer shipped last: what deltas are made on.
    last: Option<Snapshot>,
}

impl Writer {
    /// Opens the tier: creates FORMAT and HEAD where there is none and `may_create`, takes over a HEAD of an older
    /// generation where `beginning` says how this generation began in it, and learns what the tier has.
    ///
    /// # Errors
    /// [`WriteError::Fenced`] if HEAD is of a newer generation, or of another restore; otherwise what is in the way.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        identity: Identity,
        beginning: Option<Beginning>,
        may_create: bool,
        keep: impl Into<Retention>,
    ) -> Result<Writer, WriteError> {
        let mut writer = Writer {
            head: first_head(&identity, beginning.as_ref()),
            store,
            identity,
            beginning,
            keep: keep.into(),
            tag: Tag(String::new()),
            manifests: BTreeMap::new(),
            known: Known::default(),
            unreadable: BTreeSet::new(),
            plans: None,
            rate: None,
            deltas: 0,
            last: None,
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
            let Some(Beginning { parent, token }) = writer.beginning.clone() else {
                return Err(writer.broken(&format!(
                    "HEAD is of generation {}, this process of {}, and nothing says how that began",
                    writer.head.generation, writer.identity.generation
                )));
            };
            writer
                .update(
                    move |head, identity| {
                        head.generation = identity.generation;
                        head.token.clone_from(&token);
                        head.state = HeadState::Restoring;
                        head.scrubbed_micros = 0;
                        head.parent = Some(parent.clone());
                    },
                    &[],
                )
                .await?;
        }
        Ok(writer)
    }

    /// From now on the packs of a checkpoint follow each other at so many bytes a second at most, or as fast as they can.
    pub fn limit_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// The newest HEAD this writer knows.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Ships consecutive committed entries as one segment; its bytes. Where there is none to ship, it has looked whether
    /// what was shipped before still counts.
    ///
    /// # Errors
    /// See [`WriteError`]. A segment that stands there already is no error: committed is committed.
    pub async fn ship_log(&mut self, entries: &[LogEntry]) -> Result<u64, WriteError> {
        let [first, ..] = entries else { return self.check_fence().await.map(|()| 0) };
        let (lineage, generation) = (self.identity.lineage.0, self.identity.generation);
        let last = first.op + entries.len() as u64 - 1;
        let body = Segment { lineage, generation, entries: entries.to_vec() }.encode();
        self.ship_segment(first.op, last, body).await
    }

    /// Ships a segment of the ops `first..=last` as it is; its bytes.
    ///
    /// # Errors
    /// As [`Writer::ship_log`].
    pub async fn ship_segment(&mut self, first: u64, last: u64, body: Bytes) -> Result<u64, WriteError> {
        self.check_fence().await?;
        let key = Names { generation: self.identity.generation }.segment(first, last);
        let bytes = body.len() as u64;
        self.create(&key, body).await?;
        Ok(bytes)
    }

    /// Makes "no revision above this one has been handed out" durable.
    ///
    /// # Errors
    /// See [`WriteError`]: the revision must then not be used.
    pub async fn reserve(&mut self, revision: i64) -> Result<(), WriteError> {
        if self.head.reserved_revision >= revision {
            return self.check_fence().await;
        }
        self.update(move |head, _| head.reserved_revision = head.reserved_revision.max(revision), &[]).await
    }

    /// The newest retained checkpoint of this very generation whose manifest can be read.
    #[must_use]
    pub fn newest_own(&self) -> Option<&Retained> {
        let own = Some(Names { generation: self.identity.generation });
        let readable = |retained: &&Retained| self.manifests.contains_key(&retained.manifest);
        self.head.retained.iter().rev().filter(readable).find(|r| Names::of(&r.manifest) == own)
    }

    /// How far the shipped log of this generation leads on from `op`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn log_reach(&self, op: u64) -> Result<u64, WriteError> {
        let mut ranges = self.segments().await?;
        ranges.sort_unstable();
        Ok(crate::restore::reach(op, &ranges))
    }

    /// Whether HEAD still is of this generation, and not older than it was: whoever goes on from a HEAD that was lost would
    /// leave a gap in the log, and whoever says from memory that something is there would speak for what is not any more.
    ///
    /// # Errors
    /// [`WriteError::Fenced`], [`WriteError::Broken`] if not.
    pub async fn check_fence(&mut self) -> Result<(), WriteError> {
        self.standing_head().await.map(drop)
    }

    /// Creates an object; an unknown outcome is read back. [`Created::Exists`] if it stood there before.
    async fn create(&self, key: &str, body: Bytes) -> Result<Created, WriteError> {
        for _ in 0..ATTEMPTS {
            match self.store.create(key, body.clone()).await? {
                Created::Unknown if on(Mutant::CreateBelieved) => return Ok(Created::Yes),
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
}

/// The newest retained checkpoint of a generation.
pub(crate) fn newest_of(head: &Head, generation: u64) -> Option<&Retained> {
    head.retained.iter().rev().find(|r| Names::of(&r.manifest) == Some(Names { generation }))
}

/// HEAD of a tier that another process writes; `None` where there is none yet. Only reads.
///
/// # Errors
/// [`WriteError::Fenced`] if HEAD is of a newer generation, or of another restore; otherwise why it cannot be read.
pub async fn observe(
    store: &dyn ObjectStore,
    identity: &Identity,
    beginning: Option<&Beginning>,
) -> Result<Option<Head>, WriteError> {
    let Some((bytes, _)) = store.head().await? else { return Ok(None) };
    let head = head::parse(store, identity, &bytes)?;
    head::fence(store, identity, &head, beginning.map(|beginning| &*beginning.token))?;
    Ok(Some(head))
}

pub(crate) fn now_micros() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0)
}
