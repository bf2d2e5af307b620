//! The tiers of a cluster on this machine, opened beside its replicas or without them.

use std::path::PathBuf;
use std::sync::Arc;

use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::{DirStore, S3Keys, S3Location, S3Store, StoreError};

use super::cluster::Cluster;
use super::layout::{Description, Layout, ObjectStore};
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};

/// What a tier is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at it, whoever else writes there.
    Read,
    /// To change it. Fails where a replica still runs.
    Write,
}

/// The disk tiers, fastest first: the directory, and its contents.
///
/// # Errors
/// When a directory that is there cannot be written, or somebody else writes there. Never for reading.
pub fn disks(cluster: &Cluster, access: Access) -> Result<Vec<(PathBuf, Source)>, StoreError> {
    let layout = cluster.layout();
    let lineage = cluster.description().lineage.to_string();
    let kinds = [
        (TierKind::Nvme, "nvme", Layout::nvme as fn(&Layout, u64) -> PathBuf),
        (TierKind::Volume, "volume", Layout::volume),
    ];
    let mut disks = Vec::new();
    for (tier, kind, path) in kinds {
        for id in cluster.ids() {
            let directory = path(layout, id);
            let root = directory.join(&lineage);
            // Opening for writing would make one that is gone.
            let store = match access {
                Access::Write if root.exists() => DirStore::open(&root)?,
                _ => DirStore::read_only(&root),
            };
            disks.push((
                directory,
                Source { name: format!("{kind} of replica {id}"), tier, store: Arc::new(store) },
            ));
        }
    }
    Ok(disks)
}

/// The object store. Opening it says nothing about whether it can be reached.
pub async fn object_store(description: &Description) -> Source {
    let place = &description.object_store;
    let store = Arc::new(below(place, &format!("{}/{}", place.prefix, description.lineage)).await);
    Source { name: "objectStore".to_owned(), tier: TierKind::ObjectStore, store }
}

/// Everything of a prefix of the bucket.
pub async fn below(place: &ObjectStore, prefix: &str) -> S3Store {
    let keys = S3Keys { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() };
    let location = S3Location {
        endpoint: place.endpoint.clone(),
        bucket: place.bucket.clone(),
        prefix: prefix.to_owned(),
        region: Some(place.region.clone()),
        path_style: place.endpoint.is_some(),
        kms_key: None,
        // Somebody else's server wants somebody's credentials: those of the environment.
        keys: place.embedded_port.is_some().then_some(keys),
    };
    S3Store::connect(&location).await
}

/// All of them, fastest first.
///
/// # Errors
/// As [`disks`].
pub async fn all(cluster: &Cluster, access: Access) -> Result<Vec<Source>, StoreError> {
    let disks = disks(cluster, access)?.into_iter().map(|(_, source)| source);
    let object_store = object_store(cluster.description()).await;
    Ok(disks.chain([object_store]).collect())
}
