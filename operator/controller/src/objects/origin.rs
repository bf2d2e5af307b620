//! The pod that brings along what a cluster begins with (`spec.bootstrap`): it copies a state from another place into the
//! prefix of the cluster, as the beginning of the cluster's own lineage.
//!
//! It goes with the cluster. One that has ended is left for whoever wants to know why; deleted, it is made again.

use super::errand::{self, Errand, TOLD, Way, owned_by};
use super::search::RESTORE_LABEL;
use super::*;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;

/// The container of the pod that copies.
pub const COPY: &str = "copy";
const WORK: &str = "/var/lib/vr/copy";
/// A state of 200 GB at 10 MB a second.
const DEADLINE: i32 = 6 * 3600;

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bucket and prefix.
    pub place: (String, String),
    /// Which of the lineages there; the only one if absent.
    pub lineage: Option<String>,
    /// The flag by which the tool is told the moment, and the moment; the newest state if absent.
    pub moment: Option<(&'static str, String)>,
}

/// Name of everything that is made for the copy.
#[must_use]
pub fn copy_of_origin_name(cluster: &VRCluster) -> String {
    format!("{}-bootstrap", Naming::of(cluster).name())
}

fn label(cluster: &VRCluster) -> (&'static str, String) {
    (RESTORE_LABEL, cluster.metadata.uid.clone().unwrap_or_default())
}

fn metadata(cluster: &VRCluster) -> ObjectMeta {
    let owner = ("VRCluster", &cluster.metadata);
    owned_by(owner, copy_of_origin_name(cluster), label(cluster), "vr-bootstrap")
}

/// The pod. The copy is to be of this lineage.
#[must_use]
pub fn copy_of_origin(cluster: &VRCluster, copied: &Copied, lineage: &Lineage) -> Pod {
    let store = &cluster.spec.storage.object_store;
    let mut command: Vec<String> = ["vr", "checkpoint", "copy"].map(str::to_owned).to_vec();
    command.push(errand::url(&copied.place.0, &copied.place.1));
    command.extend(errand::reach(cluster));
    let given = [
        ("--lineage", copied.lineage.clone()),
        ("--to", Some(errand::url(&store.bucket, store.prefix.as_deref().unwrap_or_default()))),
        ("--new-lineage", Some(lineage.0.clone())),
        ("--report", Some(TOLD.to_owned())),
    ];
    for (flag, value) in given.into_iter().chain(copied.moment.clone().map(|(flag, at)| (flag, Some(at)))) {
        command.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    let errand = Errand::that_loads(cluster, metadata(cluster), COPY, command, DEADLINE, WORK);
    errand.pod(cluster)
}

/// Nobody reaches the pod, and it reaches names and the port of the object store, nothing else.
#[must_use]
pub fn copy_of_origin_network_policy(cluster: &VRCluster) -> NetworkPolicy {
    errand::closed(metadata(cluster), label(cluster), Way::ObjectStore, cluster)
}
