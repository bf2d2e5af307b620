//! The copy that a drill restores: one pod that reads the object store, and a policy that lets it do nothing else.
//!
//! Both belong to the VRDrill and go with it.

use super::reader::{self, Reader, TOLD, owned_by};
use super::*;
use crate::drill::DEADLINE;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vr_api::VRDrill;

/// Label: which drill.
pub const DRILL_LABEL: &str = "vr-operator.io/drill";
/// The key below which drills leave their canary, in every cluster that is drilled.
pub const CANARY: &str = "vr-operator.io/canary";
/// The container of the copy.
pub const COPY: &str = "copy";
const WORK: &str = "/var/lib/vr/drill";

/// Name of everything that is made for a drill.
#[must_use]
pub fn copy_name(drill: &VRDrill) -> String {
    format!("{}-drill", drill.metadata.name.as_deref().unwrap_or_default())
}

fn label(drill: &VRDrill) -> (&'static str, String) {
    (DRILL_LABEL, drill.metadata.name.clone().unwrap_or_default())
}

fn metadata(drill: &VRDrill) -> ObjectMeta {
    owned_by(("VRDrill", &drill.metadata), copy_name(drill), label(drill), "vr-drill")
}

/// The pod. What is to be found is what `status.source` of the drill says.
#[must_use]
pub fn copy(drill: &VRDrill, cluster: &VRCluster) -> Pod {
    let spec = &cluster.spec;
    let store = &spec.storage.object_store;
    let (account, keys) = match &drill.spec.reader {
        Some(reader) => (&reader.service_account_name, &reader.credentials_secret_ref),
        None => (&store.service_account_name, &store.credentials_secret_ref),
    };
    let reader = Reader {
        metadata: metadata(drill),
        container: COPY,
        command: command(drill, cluster),
        account: account.as_ref(),
        keys: keys.as_ref(),
        memory: Quantity(drill.spec.memory_limit.as_ref().unwrap_or(&spec.memory.limit).text()),
        deadline: drill.spec.deadline_seconds.unwrap_or(DEADLINE),
        work: WORK,
    };
    reader.pod(cluster)
}

fn command(drill: &VRDrill, cluster: &VRCluster) -> Vec<String> {
    let source = drill.status.as_ref().and_then(|status| status.source.clone()).unwrap_or_default();
    let canary = drill.metadata.uid.as_deref().unwrap_or_default();
    let mut command: Vec<String> = ["vr", "drill", "restore"].map(str::to_owned).to_vec();
    command.extend(reader::place(cluster, &source.lineage));
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.extend([format!("--{name}"), value]);
        }
    };
    flag("canary", Some(format!("{CANARY}={canary}")));
    flag("source-op", source.op.map(|op| op.to_string()));
    flag("source-time", source.time);
    let objectives = cluster.spec.objectives.as_ref();
    let seconds = |given: Option<i32>| given.map(|seconds| format!("{seconds}s"));
    flag("rpo", seconds(objectives.and_then(|o| o.rpo_seconds)));
    flag("rto", seconds(objectives.and_then(|o| o.rto_seconds)));
    flag("dir", Some(format!("{WORK}/copy")));
    flag("report", Some(TOLD.to_owned()));
    command
}

/// Nobody reaches the copy, and it reaches names and the port of the object store, nothing else.
#[must_use]
pub fn copy_network_policy(drill: &VRDrill, cluster: &VRCluster) -> NetworkPolicy {
    reader::closed(metadata(drill), label(drill), cluster)
}
