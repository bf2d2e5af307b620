//! The pages of one checkpoint on their way into packs.

use super::frames::Maker;
use super::known;
use super::pace::Pace;
use super::{Frames, WriteError, Writer, Written};
use crate::format::{Index, Names, PackBuilder, Part};
use crate::store::Created;
use std::collections::BTreeSet;
use std::time::Instant;
use ulid::Ulid;
use vr_tree::{NodeRef, Snapshot};

/// Pages in packs that hold little else by now are shipped again, up to so many bytes a run: this empties old packs.
const REPACK_BYTES: u64 = 32 << 20;
/// Pages walked before other tiers of the same thread get their turn.
const BREATH: u64 = 4096;

impl Writer {
    /// Ships the pages that the tier lacks, and empties packs that would take less than half of what they take; the new packs,
    /// and which old ones are relied on. The state is walked once, and once more only if there is something to empty.
    pub(super) async fn ship(
        &self,
        names: Names,
        upload: Ulid,
        (snapshot, frames): (&Snapshot, &Frames),
        written: &mut Written,
    ) -> Result<(Index, BTreeSet<usize>), WriteError> {
        let mut shipment = Shipment::new(self, names, upload, frames, written);
        let mut needs = vec![Need::default(); self.known.packs().len()];
        let mut stack: Vec<NodeRef<'_>> = snapshot.node().into_iter().collect();
        while let Some(node) = stack.pop() {
            stack.extend(node.children().rev());
            shipment.written.pages += 1;
            if shipment.written.pages.is_multiple_of(BREATH) {
                tokio::task::yield_now().await;
            }
            let relied = match self.known.page(&node.id()) {
                Some(frames) => Some(frames),
                None => {
                    let base = self.base(&node);
                    let delta = shipment.add(&node, base.map(|(leaf, _)| leaf)).await?;
                    base.filter(|_| delta).map(|(_, frames)| frames)
                }
            };
            let Some(frames) = relied else { continue };
            let again = again(&node, &frames);
            frames.iter().for_each(|stored| needs[stored.pack as usize].add(again));
        }
        let sparse: BTreeSet<u32> = (0..)
            .zip(needs.iter().zip(self.known.packs()))
            .filter(|(_, (need, pack))| need.pages > 0 && need.again * 2 < pack.named.bytes)
            .map(|(pack, _)| pack)
            .collect();
        if !sparse.is_empty() {
            let mut repack = REPACK_BYTES;
            stack.extend(snapshot.node());
            while let Some(node) = stack.pop() {
                stack.extend(node.children().rev());
                let Some(frames) = self.known.page(&node.id()) else { continue };
                let again = again(&node, &frames);
                if frames.iter().any(|stored| sparse.contains(&stored.pack)) && repack >= again {
                    repack -= again;
                    frames.iter().for_each(|stored| needs[stored.pack as usize].pages -= 1);
                    shipment.add(&node, None).await?;
                }
            }
        }
        let used =
            needs.iter().enumerate().filter(|(_, need)| need.pages > 0).map(|(pack, _)| pack).collect();
        Ok((shipment.finish().await?, used))
    }

    /// The leaf that the tier got last where this one is now, and the frames that make it there; none if a delta on it would
    /// be too far from a page that is whole.
    fn base<'a>(&'a self, node: &NodeRef<'_>) -> Option<(NodeRef<'a>, known::Frames)> {
        let last = self.last.as_ref()?;
        let leaf = last.leaf_near(node.entries().first()?.key())?;
        let frames = self.known.page(&leaf.id())?;
        (frames.len() <= self.deltas).then_some((leaf, frames))
    }

    fn pack_builder(&self) -> PackBuilder {
        PackBuilder::new(self.identity.lineage.0, self.identity.generation)
    }
}

/// What the state needs of a pack.
#[derive(Clone, Copy, Default)]
struct Need {
    /// So many of its pages stand on a frame there, a delta's base among them.
    pages: u64,
    /// Bytes that shipping these again would take.
    again: u64,
}

impl Need {
    fn add(&mut self, again: u64) {
        self.pages += 1;
        self.again += again;
    }
}

/// Bytes that a page takes that is shipped again: whole, whatever it stands on now.
fn again(node: &NodeRef<'_>, frames: &known::Frames) -> u64 {
    match **frames {
        [whole] => u64::from(whole.bytes),
        _ => node.encoded_len() as u64,
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

    /// Adds a page, as a delta on `base` if that is worth it; whether it was.
    async fn add(&mut self, node: &NodeRef<'_>, base: Option<NodeRef<'_>>) -> Result<bool, WriteError> {
        let place = usize::from(node.is_leaf());
        let (header, frame) = self.frames.frame(node, base, &mut self.maker);
        let delta = header.codec.base().is_some();
        self.written.shipped_pages += 1;
        self.written.shipped_deltas += u64::from(delta);
        let (part, builder) = &mut self.parts[place];
        builder.copy(header, &frame);
        if builder.is_full() {
            let (part, full) = (*part, std::mem::replace(builder, self.writer.pack_builder()));
            self.put(part, full).await?;
        }
        Ok(delta)
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
