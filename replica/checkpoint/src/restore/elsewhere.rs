//! Where other sources have the pages that one lacks.

use super::{Pages, Source, open_frame, read_manifest};
use crate::format::{Head, Index};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use vr_tree::VerifiedPage;

/// Where other sources have the pages that one lacks.
#[derive(Default)]
pub(super) struct Elsewhere<'a>(HashMap<[u8; 32], Vec<Spare<'a>>>);

/// A frame on one of them.
struct Spare<'a> {
    source: &'a Source,
    pack: Arc<str>,
    offset: u64,
    len: u64,
}

impl<'a> Elsewhere<'a> {
    /// Reads HEAD, manifests and indexes of every other source once. What cannot be read there is no help, and no harm.
    pub(super) async fn look(not: &Source, sources: &'a [Source], pages: &Pages) -> Elsewhere<'a> {
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
    pub(super) async fn page(&self, id: &[u8; 32]) -> Option<VerifiedPage> {
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
