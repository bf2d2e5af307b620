//! What a roll-back needs before it begins: the pod that looks for its target, and the VRCheckpoint that holds what was
//! found.
//!
//! All of it belongs to the VRRestore and goes with it: what was found stays held as long as the VRRestore is there.

use super::errand::{self, Errand, TOLD, Way, owned_by};
use super::*;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use vr_api::{LocalReference, RestoreTarget, VRCheckpoint, VRCheckpointSpec, VRRestore};

/// Label: which VRRestore, by its UID, since its name may be too long for a label.
pub const RESTORE_LABEL: &str = "vr-operator.io/restore";
/// The container of the pod that looks.
pub const SEARCH: &str = "search";
const WORK: &str = "/var/lib/vr/search";
/// Longer than the operator waits for it.
const DEADLINE: i32 = 3600;

/// Name of everything that is made for a roll-back.
#[must_use]
pub fn search_name(restore: &VRRestore) -> String {
    format!("{}-target", restore.metadata.name.as_deref().unwrap_or_default())
}

fn label(restore: &VRRestore) -> (&'static str, String) {
    (RESTORE_LABEL, restore.metadata.uid.clone().unwrap_or_default())
}

fn metadata(restore: &VRRestore) -> ObjectMeta {
    owned_by(("VRRestore", &restore.metadata), search_name(restore), label(restore), "vr-restore")
}

/// The pod. `checkpoint` is the name of the checkpoint that `target.checkpointRef` means.
#[must_use]
pub fn search(
    restore: &VRRestore,
    target: &RestoreTarget,
    checkpoint: Option<String>,
    lineage: &Lineage,
    cluster: &VRCluster,
) -> Pod {
    let mut command: Vec<String> = ["vr", "checkpoint", "locate"].map(str::to_owned).to_vec();
    command.extend(errand::place(cluster, &lineage.0));
    let targets = [
        ("--to-time", target.before_time.clone()),
        ("--to-op", target.op_number.map(|op| op.to_string())),
        ("--to-revision", target.revision.map(|revision| revision.to_string())),
        ("--checkpoint", checkpoint),
        ("--report", Some(TOLD.to_owned())),
    ];
    for (flag, value) in targets {
        command.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    let errand = Errand::that_loads(cluster, metadata(restore), SEARCH, command, DEADLINE, WORK);
    errand.pod(cluster)
}

/// Nobody reaches the pod, and it reaches names and the port of the object store, nothing else.
#[must_use]
pub fn search_network_policy(restore: &VRRestore, cluster: &VRCluster) -> NetworkPolicy {
    errand::closed(metadata(restore), label(restore), Way::ObjectStore, cluster)
}

/// The VRCheckpoint that holds the checkpoint of an op.
#[must_use]
pub fn held(restore: &VRRestore, cluster: &VRCluster, op: i64) -> VRCheckpoint {
    let cluster_ref = LocalReference { name: Naming::of(cluster).name().to_owned() };
    let spec = VRCheckpointSpec { cluster_ref, op_number: Some(op), expire_after_hours: None };
    VRCheckpoint { metadata: metadata(restore), ..VRCheckpoint::new("", spec) }
}
