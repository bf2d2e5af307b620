//! The volume of one slot. It says whose vote record is on it, and it outlives the resource: who deletes it is the
//! policy.

use super::pod::claim;
use super::*;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// The volume claim of a slot; nothing if the cluster has no volumes.
#[must_use]
pub fn volume(
    cluster: &VRCluster,
    lineage: &Lineage,
    generation: Generation,
    slot: Slot,
    zone: &Zone,
    replica: ReplicaId,
) -> Option<PersistentVolumeClaim> {
    let wanted = cluster.spec.storage.volume.as_ref()?;
    let naming = Naming::of(cluster);
    let mut metadata = naming.kept(naming.slot(slot));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(SLOT_LABEL.to_owned(), slot.to_string());
    labels.insert(REPLICA_LABEL.to_owned(), replica.to_string());
    labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    metadata.annotations = Some(BTreeMap::from([
        (LINEAGE_ANNOTATION.to_owned(), lineage.0.clone()),
        (ZONE_ANNOTATION.to_owned(), zone.0.clone()),
    ]));
    let spec = claim(&wanted.size, wanted.storage_class_name.clone());
    Some(PersistentVolumeClaim { metadata, spec: Some(spec), status: None })
}
