//! HEAD as one writer sees it: read, compared, swapped, and read back until it is known what became of it.

use super::{Beginning, Identity, WriteError, Writer};
use crate::format::{FORMAT, FormatError, Head, HeadState, Index, Manifest, Named, Names};
use crate::mutants::{Mutant, on};
use crate::store::{ObjectStore, Swapped, Tag};
use std::collections::BTreeSet;
use ulid::Ulid;

/// Attempts at moving HEAD before a run gives up until the next one.
pub(super) const ATTEMPTS: usize = 5;

impl Writer {
    /// Changes HEAD, again and again until the change is in, or it no longer holds all of the packs `relied` upon.
    pub(super) async fn update(
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
                    self.known.forget_all_but(self.manifests.values());
                    return Ok(());
                }
                // Others have written between: learn anew what the tier has.
                Ok(()) => return self.reload().await,
                Err(WriteError::Contended { .. }) => {
                    self.head = before;
                    self.reload().await?;
                    let held: BTreeSet<&str> = self
                        .manifests
                        .values()
                        .flat_map(|m| m.packs.iter().map(|p| p.key.as_str()))
                        .collect();
                    if !on(Mutant::ReliesOnGone) && !relied.iter().all(|pack| held.contains(pack.as_str())) {
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
    pub(super) async fn swap(&mut self, expected: Option<&Tag>) -> Result<(), WriteError> {
        let contended = WriteError::Contended { store: self.store.describe() };
        let outcome = self.store.swap_head(expected, self.head.encode().into()).await?;
        // The tag of what was written is only known by reading; so is what an unknown outcome was.
        let Some((bytes, tag)) = self.store.head().await? else {
            return Err(if outcome == Swapped::Unknown { contended } else { self.gone() });
        };
        let found = self.parse_head(&bytes)?;
        let ours = found.nonce == self.head.nonce
            || (on(Mutant::SwapBelieved) && outcome == Swapped::Unknown)
            || (on(Mutant::DeniedSwapBelieved) && outcome == Swapped::Lost);
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

    /// HEAD as it stands, if this writer may go on from it.
    pub(super) async fn standing_head(&self) -> Result<Head, WriteError> {
        let Some((bytes, _)) = self.store.head().await? else { return Err(self.gone()) };
        let head = self.parse_head(&bytes)?;
        self.fence(&head)?;
        self.has_not_gone_back(&head)?;
        Ok(head)
    }

    /// Reads HEAD again, and the manifests and indexes that are new in it.
    pub(super) async fn reload(&mut self) -> Result<(), WriteError> {
        let Some((bytes, tag)) = self.store.head().await? else { return Err(self.gone()) };
        let head = self.parse_head(&bytes)?;
        self.fence(&head)?;
        self.has_not_gone_back(&head)?;
        self.unreadable.clear();
        for retained in &head.retained {
            if !self.manifests.contains_key(&retained.manifest) {
                match self.manifest(&retained.manifest).await {
                    Ok(manifest) => drop(self.manifests.insert(retained.manifest.clone(), manifest)),
                    Err(error) => self.cannot_read(&retained.manifest, error)?,
                }
            }
        }
        self.manifests.retain(|key, _| head.retained.iter().any(|r| r.manifest == *key));
        (self.head, self.tag) = (head, tag);
        let wanted: BTreeSet<Named> =
            self.manifests.values().flat_map(|m| m.indexes.iter().cloned()).collect();
        for index in wanted {
            if !self.known.has_index(&index.key) {
                match self.index(&index.key).await {
                    Ok((index, parsed)) => self.known.learn(&index, &parsed),
                    Err(error) => self.cannot_read(&index.key, error)?,
                }
            }
        }
        self.known.forget_all_but(self.manifests.values());
        Ok(())
    }

    /// What is damaged cannot be relied upon, and is no reason to write nothing any more: what the tier needs of it is
    /// shipped again.
    fn cannot_read(&mut self, key: &str, error: WriteError) -> Result<(), WriteError> {
        if !matches!(error, WriteError::Format { .. } | WriteError::Broken { .. }) {
            return Err(error);
        }
        tracing::warn!(%error, "what a retained checkpoint needs cannot be read");
        self.unreadable.insert(key.to_owned());
        Ok(())
    }

    /// An index, and its size: one that was made anew may have fewer packs than when a manifest named it.
    async fn index(&self, key: &str) -> Result<(Named, Index), WriteError> {
        let bytes = self.store.get(key).await?.ok_or_else(|| self.missing(key))?;
        let parsed = Index::parse(key, &bytes).map_err(|source| self.format(source))?;
        Ok((Named { key: key.to_owned(), bytes: bytes.len() as u64 }, parsed))
    }

    pub(super) async fn manifest(&self, key: &str) -> Result<Manifest, WriteError> {
        let bytes = self.store.get(key).await?.ok_or_else(|| self.missing(key))?;
        let manifest = Manifest::parse(key, &bytes).map_err(|source| self.format(source))?;
        let names = Names { generation: manifest.generation };
        if manifest.root().is_none_or(|root| names.manifest(manifest.op, &root) != key) {
            let reason = "it is of another checkpoint than its name says".to_owned();
            return Err(self.format(FormatError::Invalid { file: key.to_owned(), what: "manifest", reason }));
        }
        Ok(manifest)
    }

    pub(super) fn parse_head(&self, bytes: &[u8]) -> Result<Head, WriteError> {
        parse(&*self.store, &self.identity, bytes)
    }

    pub(super) fn fence(&self, found: &Head) -> Result<(), WriteError> {
        let token = match &self.beginning {
            Some(beginning) => Some(&*beginning.token),
            // Nothing was read yet, or only what this generation did not write.
            None if self.tag.0.is_empty() || self.head.generation != self.identity.generation => None,
            None => Some(&*self.head.token),
        };
        fence(&*self.store, &self.identity, found, token)
    }

    /// Whether a HEAD is at least as new as the one that this writer goes by.
    pub(super) fn has_not_gone_back(&self, found: &Head) -> Result<(), WriteError> {
        let (is, was) = (found.version, self.head.version);
        if is >= was || on(Mutant::OlderHeadOverlooked) {
            return Ok(());
        }
        Err(self.broken(&format!(
            "HEAD has version {is} and had {was}: the newer one was damaged or an older one put back. What is there is \
             learned anew, and the next checkpoint closes the gap"
        )))
    }

    pub(super) fn format(&self, source: FormatError) -> WriteError {
        WriteError::Format { store: self.store.describe(), source }
    }
    pub(super) fn broken(&self, reason: &str) -> WriteError {
        WriteError::Broken { store: self.store.describe(), reason: reason.to_owned() }
    }
    pub(super) fn gone(&self) -> WriteError {
        self.broken("HEAD is gone: somebody deleted it. Nothing is written here until it is restored or bootstrapped anew")
    }
    fn missing(&self, key: &str) -> WriteError {
        self.broken(&format!("{key} is missing although HEAD retains it: verify the tier"))
    }
}

/// Reads a HEAD that must be of this lineage.
pub(super) fn parse(store: &dyn ObjectStore, identity: &Identity, bytes: &[u8]) -> Result<Head, WriteError> {
    let head = Head::parse("HEAD", bytes)
        .map_err(|source| WriteError::Format { store: store.describe(), source })?;
    if head.lineage != identity.lineage.to_string() {
        let reason = format!("HEAD belongs to lineage {}, not {}", head.lineage, identity.lineage);
        return Err(WriteError::Broken { store: store.describe(), reason });
    }
    Ok(head)
}

/// Whether whoever has this identity, and this token where it knows one, may go on.
pub(super) fn fence(
    store: &dyn ObjectStore,
    identity: &Identity,
    found: &Head,
    token: Option<&str>,
) -> Result<(), WriteError> {
    let (head, mine) = (found.generation, identity.generation);
    let another = head == mine && token.is_some_and(|token| token != found.token);
    if (head > mine || another) && !on(Mutant::FenceIgnored) {
        return Err(WriteError::Fenced { store: store.describe(), head, mine });
    }
    Ok(())
}

pub(super) fn first_head(identity: &Identity, beginning: Option<&Beginning>) -> Head {
    Head {
        format: FORMAT.to_owned(),
        lineage: identity.lineage.to_string(),
        version: 1,
        nonce: Ulid::generate().to_string(),
        generation: identity.generation,
        token: beginning.map_or_else(|| Ulid::generate().to_string(), |beginning| beginning.token.clone()),
        state: if beginning.is_some() { HeadState::Restoring } else { HeadState::Active },
        parent: beginning.map(|beginning| beginning.parent.clone()),
        owner: identity.replica,
        retained: Vec::new(),
        reserved_revision: 0,
        scrubbed_micros: 0,
    }
}
