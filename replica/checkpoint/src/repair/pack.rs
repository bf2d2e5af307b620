//! A pack that has rotted or is gone, made anew frame by frame: what of it is whole stays, the rest comes from wherever
//! else the page stands, another pack of the same tier included.
//!
//! What is written is what stood there, frame for frame at the same places, or nothing: indexes and manifests go on being
//! right. It reads the whole pack into memory, and the indexes of all sources.

use super::put;
use crate::format::{Frame, Index, Named, Names, Pack, PackBuilder, PackEntry, hex};
use crate::restore::{Elsewhere, Source, open_frame};
use crate::store::ObjectStore;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Makes a pack whole. `index` says where its frames stood, if it is whole.
///
/// # Errors
/// Says what is on no source; the pack is then as it was.
pub(crate) async fn repair_pack(
    store: &dyn ObjectStore,
    lineage: [u8; 16],
    named: &Named,
    index: &str,
    sources: &[Source],
) -> Result<(), String> {
    let key = &named.key;
    // What a disk cannot read is as good as gone.
    let standing = store.get(key).await.ok().flatten().unwrap_or_default();
    let places = places(store, key, &standing, index).await?;
    let looked = {
        let (key, standing, places) = (key.clone(), standing.clone(), places.clone());
        tokio::task::spawn_blocking(move || damaged(&key, &standing, &places)).await
    };
    let damaged = looked.map_err(|e| e.to_string())?;
    let elsewhere = Elsewhere::look(sources, |id| damaged.contains(id)).await;
    let generation = Names::of(key).ok_or_else(|| format!("{key} is no name of a pack"))?.generation;
    let mut pack = PackBuilder::new(lineage, generation);
    for entry in &places {
        let (id, frame) = (&entry.header.id, slice(&standing, entry));
        match frame.filter(|_| !damaged.contains(id)) {
            Some(frame) => pack.copy(entry.header, &frame),
            None => {
                let frame = elsewhere.frame(&entry.header).await;
                let lost = || format!("page {} of {key} is whole on no tier", hex(&id[..8]));
                pack.copy(entry.header, &frame.ok_or_else(lost)?);
            }
        }
    }
    let (body, entries) = pack.finish();
    if entries != places || body.len() as u64 != named.bytes {
        return Err(format!("{key} would not be what stood there: its index is of another pack"));
    }
    put(store, key, body.into()).await
}

/// Where the frames stood, by an index or else by the pack itself.
async fn places(
    store: &dyn ObjectStore,
    key: &str,
    standing: &Bytes,
    index: &str,
) -> Result<Vec<PackEntry>, String> {
    if let Ok(Some(bytes)) = store.get(index).await
        && let Ok(parsed) = Index::parse(index, &bytes)
        && let Some((.., entries)) = parsed.packs.into_iter().find(|(pack, ..)| pack == key)
    {
        return Ok(entries);
    }
    let own = Pack::parse(key, standing).map(|pack| pack.entries);
    own.map_err(|error| format!("{error}, and its index does not say what it held"))
}

/// Pages whose frames are not whole.
fn damaged(key: &str, standing: &Bytes, places: &[PackEntry]) -> BTreeSet<[u8; 32]> {
    let whole = |entry: &PackEntry| {
        let Some(bytes) = slice(standing, entry) else { return false };
        let same = Frame::parse(key, &bytes).is_ok_and(|(frame, _)| frame.header == entry.header);
        same && open_frame(key, &entry.header.id, &bytes).is_ok()
    };
    places.iter().filter(|entry| !whole(entry)).map(|entry| entry.header.id).collect()
}

fn slice(standing: &Bytes, entry: &PackEntry) -> Option<Bytes> {
    let start = usize::try_from(entry.offset).ok()?;
    let end = start.checked_add(usize::try_from(entry.header.len()).ok()?)?;
    (end <= standing.len()).then(|| standing.slice(start..end))
}
