//! What people decide of a pod, in short: a pod that was made from another template is replaced by an update.

use crate::ids::Template;
use serde_json::json;
use vr_api::VRCluster;

/// The template of a cluster's pods. What is not in it reaches pods without a restart, or only new ones: how many
/// there are, where the primary is, how long something is waited for.
#[must_use]
pub fn template(cluster: &VRCluster) -> Template {
    let spec = &cluster.spec;
    let mut decided = json!({
        "image": spec.image,
        "memory": spec.memory,
        "nvme": spec.storage.nvme,
        "objectStore": spec.storage.object_store,
        "checkpoint": spec.checkpoint,
        "podTemplate": spec.pod_template,
        "tls": spec.tls,
        "unsafeFlags": spec.unsafe_flags,
        "zoneKey": spec.topology.as_ref().and_then(|t| t.zone_key.clone()),
        "spread": spec.topology.as_ref().and_then(|t| t.spread),
    });
    // In one order in every build: a newer operator restarts nothing.
    decided.sort_all_objects();
    let hash = blake3::hash(decided.to_string().as_bytes()).to_hex();
    Template(hash.as_str()[..16].to_owned())
}
