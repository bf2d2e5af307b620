//! Where other sources have the pages that one lacks.

use super::held::{Delta, Held, Opened, open_frame};
use super::{Source, read_manifest};
use crate::format::{Codec, DELTAS_MAX, Frame, FrameHeader, Framer, Head, Index, PackEntry, frame_delta};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use vr_tree::VerifiedPage;

/// Where other sources have the pages that one lacks.
#[derive(Default)]
pub(crate) struct Elsewhere<'a>(HashMap<[u8; 32], Vec<Spare<'a>>>);

/// A frame on one of them.
struct Spare<'a> {
    source: &'a Source,
    pack: Arc<str>,
    offset: u64,
    len: u64,
}

impl Spare<'_> {
    async fn fetch(&self) -> Option<Bytes> {
        self.source.store.get_range(&self.pack, self.offset, self.len).await.ok().flatten()
    }
}

impl<'a> Elsewhere<'a> {
    /// Reads HEAD, manifests and indexes of every source once, for the pages that are wanted, and again for what these are
    /// deltas on. What cannot be read there is no help, and no harm.
    pub(crate) async fn look(
        sources: impl IntoIterator<Item = &'a Source> + Clone,
        wanted: impl Fn(&[u8; 32]) -> bool,
    ) -> Elsewhere<'a> {
        let mut elsewhere = Elsewhere::default();
        let mut bases = elsewhere.add(sources.clone(), &wanted).await;
        let mut asked = bases.clone();
        for _ in 0..DELTAS_MAX {
            bases.retain(|base| !wanted(base));
            if bases.is_empty() {
                break;
            }
            bases = elsewhere.add(sources.clone(), &|id| bases.contains(id)).await;
            bases.retain(|base| asked.insert(*base));
        }
        elsewhere
    }

    /// Adds the frames of these pages; the bases of those that are deltas.
    async fn add(
        &mut self,
        sources: impl IntoIterator<Item = &'a Source>,
        wanted: &impl Fn(&[u8; 32]) -> bool,
    ) -> BTreeSet<[u8; 32]> {
        let mut bases = BTreeSet::new();
        for source in sources {
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
                    for PackEntry { header, offset } in
                        entries.iter().filter(|entry| wanted(&entry.header.id))
                    {
                        bases.extend(header.codec.base());
                        let copies = self.0.entry(header.id).or_default();
                        let (offset, len) = (*offset, header.len());
                        copies.push(Spare { source, pack: Arc::clone(&pack), offset, len });
                    }
                }
            }
        }
        bases
    }

    /// A page from the first of them that has it whole, with the help of what is here.
    pub(crate) async fn page(&self, id: &[u8; 32], here: &Held) -> Option<VerifiedPage> {
        self.find(*id, here, DELTAS_MAX).await
    }

    /// As [`Elsewhere::page`], over so many deltas at most.
    fn find<'s>(
        &'s self,
        id: [u8; 32],
        here: &'s Held,
        deltas: usize,
    ) -> BoxFuture<'s, Option<VerifiedPage>> {
        Box::pin(async move {
            if let Some(page) = here.page(&id) {
                return Some(page.clone());
            }
            if let Some(delta) = here.delta(&id)
                && let Some(page) = self.applied(delta, id, here, deltas).await
            {
                return Some(page);
            }
            for copy in self.0.get(&id)? {
                let Some(frame) = copy.fetch().await else { continue };
                match open_frame(&copy.pack, &id, &frame) {
                    Ok(Opened::Page(page)) => return Some(page),
                    Ok(Opened::Delta(delta)) => match self.applied(&delta, id, here, deltas).await {
                        Some(page) => return Some(page),
                        None => continue,
                    },
                    Err(_) => continue,
                }
            }
            None
        })
    }

    async fn applied(&self, delta: &Delta, id: [u8; 32], here: &Held, deltas: usize) -> Option<VerifiedPage> {
        let base = self.find(delta.base, here, deltas.checked_sub(1)?).await?;
        delta.apply(&base, &id).ok()
    }

    /// A whole frame of a page that fits where one with this header stood.
    pub(crate) async fn frame(&self, header: &FrameHeader) -> Option<Bytes> {
        let page = self.page(&header.id, &Held::default()).await?;
        for copy in self.0.get(&header.id)? {
            let Some(bytes) = copy.fetch().await else { continue };
            let same = Frame::parse(&copy.pack, &bytes).is_ok_and(|(frame, _)| frame.header == *header);
            let whole = match open_frame(&copy.pack, &header.id, &bytes) {
                Ok(Opened::Page(_)) => true,
                Ok(Opened::Delta(delta)) => {
                    self.applied(&delta, header.id, &Held::default(), DELTAS_MAX).await.is_some()
                }
                Err(_) => false,
            };
            if same && whole {
                return Some(bytes);
            }
        }
        // Another tier has it on another base, or another release has compressed it otherwise.
        self.framed(header, &page).await
    }

    /// The frame of a page, made anew, if it is the one of this header.
    async fn framed(&self, header: &FrameHeader, page: &VerifiedPage) -> Option<Bytes> {
        let (mut plain, mut frame) = (Vec::new(), BytesMut::new());
        page.page().encode(&mut plain);
        let made = match header.codec {
            Codec::Raw | Codec::Zstd => Framer::new().frame(header.id, header.kind, &plain, &mut frame),
            Codec::Delta { base } => {
                let (mut delta, below) = (Vec::new(), self.page(&base, &Held::default()).await?);
                if !page.delta(&below, usize::MAX, &mut delta) {
                    return None;
                }
                frame_delta(header.id, plain.len(), base, &delta, &mut frame)
            }
        };
        (made == *header).then(|| frame.freeze())
    }
}
