//! A manifest that was lost or has rotted, written anew: what it says of the state stands in the manifest of the same
//! checkpoint on another tier, and where its pages stand in the indexes of this one.
//!
//! Nothing is collected on a tier while nobody knows what a retained checkpoint needs, so all of it is still there. It
//! holds the places of all pages of the tier in memory, and its inner pages. It does not read the leaves.

use super::put;
use crate::format::{DELTA_FORMAT, DELTAS_MAX, FORMAT, Head, Index, Kind, Manifest, Named, Names, hex};
use crate::restore::{Opened, Source, open_pack, read_manifest};
use crate::store::ObjectStore;
use crate::writer::now_micros;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use ulid::Ulid;
use vr_tree::{Snapshot, VerifiedPage};

/// A page's place on the tier.
struct Stands {
    pack: Named,
    index: Named,
    kind: Kind,
    /// What it is a delta on, if it is one.
    base: Option<[u8; 32]>,
    /// Whether its index has deltas.
    deltas: bool,
}

/// Makes a manifest whole.
///
/// # Errors
/// No other tier retains the same checkpoint, or a page of it is not on this one; nothing is written then.
pub(crate) async fn repair_manifest(
    store: &dyn ObjectStore,
    lineage: &str,
    key: &str,
    sources: &[Source],
) -> Result<(), String> {
    let theirs = same_checkpoint(lineage, key, sources).await;
    let theirs = theirs.ok_or_else(|| format!("no other tier retains the checkpoint of {key}"))?;
    let root = theirs.root().ok_or_else(|| format!("the manifest {key} of another tier names no root"))?;
    let tier = stands(store).await.map_err(|e| e.to_string())?;
    let (mut packs, mut indexes, mut pages, mut deltas) = (BTreeMap::new(), BTreeSet::new(), 0u64, false);
    let (mut inner, mut read) = (HashMap::<[u8; 32], VerifiedPage>::new(), BTreeSet::new());
    let mut stack = vec![root];
    if root == Snapshot::default().root() {
        stack.clear();
    }
    while let Some(id) = stack.pop() {
        let lost = || format!("page {} of the checkpoint is not on this tier", hex(&id[..8]));
        let Stands { pack, kind, .. } = tier.get(&id).ok_or_else(lost)?;
        pages += 1;
        let (mut at, mut links) = (id, 0);
        loop {
            let stands = tier.get(&at).filter(|_| links <= DELTAS_MAX).ok_or_else(lost)?;
            packs.insert(Names::upload(&stands.pack.key), stands.pack.clone());
            indexes.insert(stands.index.clone());
            deltas |= stands.deltas;
            let Some(base) = stands.base else { break };
            (at, links) = (base, links + 1);
        }
        if *kind == Kind::Leaf {
            continue;
        }
        if !inner.contains_key(&id) && read.insert(&pack.key) {
            let bytes = store.get(&pack.key).await.map_err(|e| e.to_string())?.ok_or_else(lost)?;
            inner.extend(open_pack(&pack.key, &bytes).frames.into_iter().filter_map(|(id, opened)| {
                match opened {
                    Opened::Page(page) => Some((id, page)),
                    Opened::Delta(_) => None,
                }
            }));
        }
        stack.extend(inner.get(&id).ok_or_else(lost)?.page().child_ids());
    }
    if pages != theirs.state.pages {
        return Err(format!("{key}: {pages} pages are found where {} should be", theirs.state.pages));
    }
    let mut manifest = Manifest {
        format: if deltas { DELTA_FORMAT } else { FORMAT }.to_owned(),
        indexes: indexes.into_iter().collect(),
        packs: packs.into_values().collect(),
        written_micros: now_micros(),
        nonce: Ulid::generate().to_string(),
        ..theirs
    };
    put(store, key, manifest.encode().into()).await
}

/// The manifest of the same name on the first source that retains it: name and state say the same.
async fn same_checkpoint(lineage: &str, key: &str, sources: &[Source]) -> Option<Manifest> {
    let names = Names::of(key)?;
    for source in sources {
        let Ok(Some((head, _))) = source.store.head().await else { continue };
        let Ok(head) = Head::parse("HEAD", &head) else { continue };
        if head.lineage != lineage || !head.retained.iter().any(|retained| retained.manifest == key) {
            continue;
        }
        if let Ok(manifest) = read_manifest(&*source.store, key).await
            && manifest.root().is_some_and(|root| names.manifest(manifest.op, &root) == key)
        {
            return Some(manifest);
        }
    }
    None
}

/// Where every page stands whose index and pack are there; of several places the newest, and one where it is no delta
/// before any where it is.
async fn stands(store: &dyn ObjectStore) -> Result<HashMap<[u8; 32], Stands>, crate::store::StoreError> {
    let listed = store.list("g/").await?;
    let sizes: BTreeMap<&str, u64> = listed.iter().map(|o| (o.key.as_str(), o.size)).collect();
    let uploads = listed.iter().filter_map(|object| match Names::upload(&object.key)? {
        (upload, None) => Some((upload, object)),
        _ => None,
    });
    let uploads: BTreeMap<Ulid, _> = uploads.collect();
    let mut stands = HashMap::new();
    for object in uploads.values() {
        let Some(bytes) = store.get(&object.key).await? else { continue };
        let Ok(parsed) = Index::parse(&object.key, &bytes) else { continue };
        let (index, deltas) = (Named { key: object.key.clone(), bytes: object.size }, parsed.has_deltas());
        for (key, bytes, entries) in parsed.packs {
            if sizes.get(key.as_str()) != Some(&bytes) {
                continue;
            }
            let pack = Named { key, bytes };
            for entry in entries {
                let base = entry.header.codec.base();
                if base.is_some()
                    && stands.get(&entry.header.id).is_some_and(|place: &Stands| place.base.is_none())
                {
                    continue;
                }
                let kind = entry.header.kind;
                let place = Stands { pack: pack.clone(), index: index.clone(), kind, base, deltas };
                stands.insert(entry.header.id, place);
            }
        }
    }
    Ok(stands)
}
