//! The pages of one checkpoint on their way into packs.

use super::frames::Maker;
use super::pace::Pace;
use super::{Frames, WriteError, Writer, Written};
use crate::format::{Index, Names, PackBuilder, Part};
use crate::store::Created;
use std::collections::BTreeSet;
use std::time::Instant;
use ulid::Ulid;
use vr_tree::{NodeRef, Snapshot};

/// Frames of packs that are less than half alive are shipped again, up to so many bytes a run: this empties old packs.
const REPACK_BYTES: u64 = 32 << 20;
/// Pages walked before other tiers of the same thread get their turn.
const BREATH: u64 = 4096;

impl Writer {
    /// Ships the pages that the tier lacks, and empties packs of which less than half is alive; the new packs, and which
    /// old ones are relied on. The state is walked once, and once more only if there is something to empty.
    pub(super) async fn ship(
        &self,
        names: Names,
        upload: Ulid,
        (snapshot, frames): (&Snapshot, &Frames),
        written: &mut Written,
    ) -> Result<(Index, BTreeSet<usize>), WriteError> {
        let mut shipment = Shipment::new(self, names, upload, frames, written);
        let mut alive = vec![0u64; self.known.packs().len()];
        let mut stack: Vec<NodeRef<'_>> = snapshot.node().into_iter().collect();
        while let Some(node) = stack.pop() {
            stack.extend(node.children().rev());
            shipment.written.pages += 1;
            if shipment.written.pages.is_multiple_of(BREATH) {
                tokio::task::yield_now().await;
            }
            match self.known.page(&node.id()) {
                Some(stored) => alive[stored.pack as usize] += u64::from(stored.bytes),
                None => shipment.add(&node).await?,
            }
        }
        let sparse: BTreeSet<u32> = (0..)
            .zip(alive.iter().zip(self.known.packs()))
            .filter(|(_, (alive, pack))| **alive > 0 && **alive * 2 < pack.named.bytes)
            .map(|(pack, _)| pack)
            .collect();
        if !sparse.is_empty() {
            let mut repack = REPACK_BYTES;
            stack.extend(snapshot.node());
            while let Some(node) = stack.pop() {
                stack.extend(node.children().rev());
                let Some(stored) = self.known.page(&node.id()) else { continue };
                let bytes = u64::from(stored.bytes);
                if sparse.contains(&stored.pack) && repack >= bytes {
                    repack -= bytes;
                    alive[stored.pack as usize] -= bytes;
                    shipment.add(&node).await?;
                }
            }
        }
        let used = alive.iter().enumerate().filter(|(_, alive)| **alive > 0).map(|(pack, _)| pack).collect();
        Ok((shipment.finish().await?, used))
    }

    fn pack_builder(&self) -> PackBuilder {
        PackBuilder::new(self.identity.lineage.0, self.identity.generation)
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
    frames: &'a Frames,
    maker: Maker,
    pace: Pace,
}

impl<'a> Shipment<'a> {
    fn new(
        writer: &'a Writer,
        names: Names,
        upload: Ulid,
        frames: &'a Frames,
        written: &'a mut Written,
    ) -> Shipment<'a> {
        let parts = [Part::Tree, Part::Data].map(|part| (part, writer.pack_builder())).into();
        Shipment {
            writer,
            names,
            upload,
            written,
            parts,
            packs: 0,
            index: Index::default(),
            frames,
            maker: Maker::new(),
            pace: Pace::new(writer.rate, Instant::now()),
        }
    }

    async fn add(&mut self, node: &NodeRef<'_>) -> Result<(), WriteError> {
        let place = usize::from(node.is_leaf());
        let (header, frame) = self.frames.frame(node, &mut self.maker);
        self.written.shipped_pages += 1;
        let (part, builder) = &mut self.parts[place];
        builder.copy(header, &frame);
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
        self.pace.wait(bytes).await;
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
