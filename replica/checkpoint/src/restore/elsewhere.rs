//! Where other sources have the pages that one lacks.

use super::{Source, open_frame, read_manifest};
use crate::format::{Frame, FrameHeader, Framer, Head, Index};
use bytes::{Bytes, BytesMut};
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

impl<'a> Elsewhere<'a> {
    /// Reads HEAD, manifests and indexes of every source once, for the pages that are wanted. What cannot be read there is no help, and no harm.
    pub(crate) async fn look(
        sources: impl IntoIterator<Item = &'a Source>,
        wanted: impl Fn(&[u8; 32]) -> bool,
    ) -> Elsewhere<'a> {
        let mut elsewhere = Elsewhere::default();
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
                    for entry in entries.iter().filter(|entry| wanted(&entry.header.id)) {
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
    pub(crate) async fn page(&self, id: &[u8; 32]) -> Option<VerifiedPage> {
        for copy in self.0.get(id)? {
            let frame = copy.source.store.get_range(&copy.pack, copy.offset, copy.len).await;
            let Ok(Some(frame)) = frame else { continue };
            if let Ok(page) = open_frame(&copy.pack, id, &frame) {
                return Some(page);
            }
        }
        None
    }

    /// A whole frame of a page that fits where one with this header stood.
    pub(crate) async fn frame(&self, header: &FrameHeader) -> Option<Bytes> {
        for copy in self.0.get(&header.id)? {
            let frame = copy.source.store.get_range(&copy.pack, copy.offset, copy.len).await;
            let Ok(Some(bytes)) = frame else { continue };
            if open_frame(&copy.pack, &header.id, &bytes).is_err() {
                continue;
            }
            let Ok((frame, _)) = Frame::parse(&copy.pack, &bytes) else { continue };
            if frame.header == *header {
                return Some(bytes);
            }
            // Another release may have compressed it otherwise.
            let Ok(page) = frame.page(&copy.pack) else { continue };
            let mut again = BytesMut::new();
            if Framer::new().frame(header.id, header.kind, &page, &mut again) == *header {
                return Some(again.freeze());
            }
        }
        None
    }
}
