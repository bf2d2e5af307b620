//! What a resource beside a cluster (a recovery, a drill, a named checkpoint) is about: which cluster, and what is known of
//! that one.

use super::bucket::Bucket;
use super::control::Slots;
use crate::ids::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use vr_api::{LocalReference, VRCluster};

/// A cluster, and what is known of it.
pub(super) struct Subject<'a> {
    pub(super) cluster: &'a VRCluster,
    pub(super) slots: &'a Slots,
    pub(super) bucket: Option<&'a Bucket>,
}

impl<'a> Subject<'a> {
    /// Its place in the object store.
    pub(super) fn bucket(&self) -> anyhow::Result<&'a Bucket> {
        self.bucket.ok_or_else(|| anyhow::anyhow!("the object store cannot be used"))
    }

    /// The database, once it has begun.
    pub(super) fn lineage(&self) -> Option<(Lineage, Generation)> {
        let known = self.cluster.status.as_ref()?.lineage.as_ref()?;
        Some((Lineage(known.id.clone()), Generation(u64::try_from(known.generation).unwrap_or_default())))
    }
}

/// Whether an object that names a cluster means this one: a reference is to the same namespace.
pub(super) fn means(object: &ObjectMeta, named: &LocalReference, cluster: &VRCluster) -> bool {
    object.namespace == cluster.metadata.namespace && Some(&named.name) == cluster.metadata.name.as_ref()
}
