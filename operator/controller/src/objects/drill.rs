//! The pod of a drill, and a policy that lets it do nothing but its work: a copy reads the object store and is restored,
//! a probe is a client of the cluster that is harmed.
//!
//! Both belong to the VRDrill and go with it.

use super::errand::{self, Errand, TOLD, Way, mounted, owned_by};
use super::*;
use crate::drill::DEADLINE;
use k8s_openapi::api::core::v1::{KeyToPath, Pod, SecretVolumeSource, Volume};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vr_api::{DrillScenario, VRDrill};

/// Label: which drill.
pub const DRILL_LABEL: &str = "vr-operator.io/drill";
/// The key below which drills leave their canary, in every cluster that is drilled.
pub const CANARY: &str = "vr-operator.io/canary";
/// The container of the pod.
pub const DRILL: &str = "drill";
const NAME: &str = "vr-drill";
/// What a probe gets where the drill says nothing: it remembers what it has written.
const PROBE_MEMORY: &str = "256Mi";
/// Where a probe finds whom to trust.
const AUTHORITY: &str = "/etc/vr-authority";
const WORK: &str = "/var/lib/vr/drill";

/// Name of everything that is made for a drill.
#[must_use]
pub fn copy_name(drill: &VRDrill) -> String {
    format!("{}-drill", drill.metadata.name.as_deref().unwrap_or_default())
}

/// What the pods of all drills have, so that the policy of a cluster can let probes in.
pub(super) fn of_drills() -> BTreeMap<String, String> {
    BTreeMap::from([(errand::NAME_LABEL.to_owned(), NAME.to_owned())])
}

fn label(drill: &VRDrill) -> (&'static str, String) {
    (DRILL_LABEL, drill.metadata.name.clone().unwrap_or_default())
}

fn metadata(drill: &VRDrill) -> ObjectMeta {
    owned_by(("VRDrill", &drill.metadata), copy_name(drill), label(drill), NAME)
}

/// What a probe writes is below this.
#[must_use]
pub fn probe_prefix(drill: &VRDrill) -> String {
    format!("vr-operator.io/drill/{}/", drill.metadata.uid.as_deref().unwrap_or_default())
}

/// The pod of a drill. What is to be found is what `status.source` of the drill says.
#[must_use]
pub fn drill_pod(drill: &VRDrill, cluster: &VRCluster) -> Pod {
    let errand = if drill.spec.scenario.is_live() { probe(drill, cluster) } else { copy(drill, cluster) };
    errand.pod(cluster)
}

fn copy<'a>(drill: &'a VRDrill, cluster: &'a VRCluster) -> Errand<'a> {
    let store = &cluster.spec.storage.object_store;
    let (account, keys) = match &drill.spec.reader {
        Some(reader) => (&reader.service_account_name, &reader.credentials_secret_ref),
        None => (&store.service_account_name, &store.credentials_secret_ref),
    };
    Errand {
        metadata: metadata(drill),
        container: DRILL,
        command: restores(drill, cluster),
        account: account.as_ref(),
        keys: keys.as_ref(),
        memory: Quantity(drill.spec.memory_limit.as_ref().unwrap_or(&cluster.spec.memory.limit).text()),
        deadline: drill.spec.deadline_seconds.unwrap_or(DEADLINE),
        work: WORK,
        given: Vec::new(),
    }
}

fn probe<'a>(drill: &'a VRDrill, cluster: &'a VRCluster) -> Errand<'a> {
    let naming = Naming::of(cluster);
    let plain = speaks_plainly(cluster);
    let scheme = if plain { "http" } else { "https" };
    let endpoint = format!("{scheme}://{}.{}.svc:{CLIENT_PORT}", naming.name(), naming.namespace());
    let mut command: Vec<String> = ["vr", "drill", "probe", "--endpoints"].map(str::to_owned).to_vec();
    command.push(endpoint);
    command.extend(["--prefix".to_owned(), probe_prefix(drill)]);
    let mut given = Vec::new();
    if !plain {
        // The authority's certificate and nothing else of that Secret.
        let item = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None };
        let source = SecretVolumeSource {
            secret_name: Some(naming.authority_secret()),
            items: Some(vec![item]),
            ..SecretVolumeSource::default()
        };
        let volume = Volume { name: "authority".to_owned(), secret: Some(source), ..Volume::default() };
        given.push(mounted(volume, AUTHORITY));
        command.extend(["--cacert".to_owned(), format!("{AUTHORITY}/ca.crt")]);
    }
    let objectives = cluster.spec.objectives.as_ref();
    let mut flag = |name: &str, seconds: Option<i32>| {
        if let Some(seconds) = seconds {
            command.extend([format!("--{name}"), format!("{seconds}s")]);
        }
    };
    flag("rto", objectives.and_then(|o| o.rto_seconds));
    if drill.spec.scenario == DrillScenario::LoseAllMemory {
        flag("rpo", objectives.and_then(|o| o.rpo_seconds));
        command.push("--may-lose".to_owned());
    }
    command.extend(["--report".to_owned(), TOLD.to_owned()]);
    let memory = drill.spec.memory_limit.as_ref().map(vr_api::MemorySize::text);
    Errand {
        metadata: metadata(drill),
        container: DRILL,
        command,
        account: None,
        keys: None,
        memory: Quantity(memory.unwrap_or_else(|| PROBE_MEMORY.to_owned())),
        deadline: drill.spec.deadline_seconds.unwrap_or(DEADLINE),
        work: WORK,
        given,
    }
}

fn restores(drill: &VRDrill, cluster: &VRCluster) -> Vec<String> {
    let source = drill.status.as_ref().and_then(|status| status.source.clone()).unwrap_or_default();
    let canary = drill.metadata.uid.as_deref().unwrap_or_default();
    let mut command: Vec<String> = ["vr", "drill", "restore"].map(str::to_owned).to_vec();
    command.extend(errand::place(cluster, &source.lineage));
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

/// Nobody reaches the pod, and it reaches names and its work, nothing else: a copy the object store, a probe the replicas.
#[must_use]
pub fn copy_network_policy(drill: &VRDrill, cluster: &VRCluster) -> NetworkPolicy {
    let way = if drill.spec.scenario.is_live() { Way::Replicas } else { Way::ObjectStore };
    errand::closed(metadata(drill), label(drill), way, cluster)
}
