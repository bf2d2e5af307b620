//! One checkpoint: what the tier lacks, then its index, then its manifest, and HEAD last.

use super::{Cut, Frames, WriteError, Writer, Written, now_micros};
use crate::format::{DELTA_FORMAT, FORMAT, HeadState, Manifest, ManifestState, Named, Names, Retained, hex};
use crate::store::Created;
use std::collections::BTreeSet;
use ulid::Ulid;
use vr_tree::Snapshot;

impl Writer {
    /// Ships a checkpoint.
    ///
    /// # Errors
    /// See [`WriteError`]; HEAD then names what it named before.
    pub async fn checkpoint(&mut self, cut: &Cut, snapshot: &Snapshot) -> Result<Written, WriteError> {
        self.checkpoint_of(cut, snapshot, &Frames::alone()).await
    }

    /// As [`Writer::checkpoint`], with frames that other tiers may have made of the same cut, and may use.
    ///
    /// # Errors
    /// As there.
    pub async fn checkpoint_of(
        &mut self,
        cut: &Cut,
        snapshot: &Snapshot,
        frames: &Frames,
    ) -> Result<Written, WriteError> {
        let names = Names { generation: self.identity.generation };
        let root = snapshot.root();
        let mut written = Written { manifest: names.manifest(cut.op, &root), root, ..Written::default() };
        if self.head.retained.iter().any(|r| r.manifest == written.manifest) {
            self.check_fence().await?;
            self.shipped(snapshot);
            return Ok(written);
        }
        let upload = Ulid::generate();
        let (packs, used) = self.ship(names, upload, (snapshot, frames), &mut written).await?;
        let first_new = self.known.packs().len();
        if !packs.packs.is_empty() {
            let body = packs.encode();
            let index = Named { key: names.index(upload), bytes: body.len() as u64 };
            written.shipped_bytes += body.len() as u64;
            self.create(&index.key, body.into()).await?;
            self.known.learn(&index, &packs);
        }
        let live =
            || self.known.packs().iter().enumerate().filter(|(n, _)| *n >= first_new || used.contains(n));
        let mut indexes: Vec<Named> = live().map(|(_, pack)| pack.index.clone()).collect();
        indexes.sort();
        indexes.dedup();
        let deltas = live().any(|(_, pack)| pack.deltas);
        let mut manifest = Manifest {
            format: if deltas { DELTA_FORMAT } else { FORMAT }.to_owned(),
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
            packs: live().map(|(_, pack)| pack.named.clone()).collect(),
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
        let retained = Retained {
            manifest: written.manifest.clone(),
            op: cut.op,
            time_micros: cut.time_micros,
            pins: Vec::new(),
        };
        self.manifests.insert(written.manifest.clone(), manifest);
        self.update(
            move |head, identity| {
                head.state = HeadState::Active;
                head.owner = identity.replica;
                // Our swap may have happened and another one after it: then it is in already.
                if !head.retained.iter().any(|r| r.manifest == retained.manifest) {
                    // Another shipper may have been ahead: what it shipped stays the newest, from which the log leads on.
                    let newer = |r: &Retained| Names::of(&r.manifest) == Some(names) && r.op > retained.op;
                    let place = head.retained.iter().position(newer).unwrap_or(head.retained.len());
                    head.retained.insert(place, retained.clone());
                }
                keep.apply(&mut head.retained);
            },
            &relied,
        )
        .await?;
        self.shipped(snapshot);
        Ok(written)
    }
}
