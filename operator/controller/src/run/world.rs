//! What the API server holds of all clusters, and each cluster's part of it as the plan reads it.
//!
//! A process counts as over only when the kubelet says so of each container: a pod that somebody else has declared
//! failed (because its node is silent, say) may still run.

use crate::ids::*;
use crate::objects::{
    CLUSTER_LABEL, GENERATION_LABEL, LINEAGE_ANNOTATION, REPLICA_LABEL, SLOT_LABEL, TEMPLATE_ANNOTATION,
    ZONE_ANNOTATION,
};
use crate::snapshot::{self, Process, Trouble};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vr_api::{VRCheckpoint, VRCluster, VRDrill, VRDrillSchedule, VRRestore};

/// So long a list may take.
const ANSWERS: Duration = Duration::from_secs(10);
/// Starts of a container after which it counts as ending again and again.
const STARTS: i32 = 5;
/// How a replica says that it has found no vote record (`vr-replica serve`).
const NO_VOTE_RECORD: &str = "has no vote record on";

/// Everything of all clusters.
pub(super) struct World {
    pub(super) at: Moment,
    pub(super) clusters: Vec<Arc<VRCluster>>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) volumes: Vec<Arc<PersistentVolumeClaim>>,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) restores: Vec<Arc<VRRestore>>,
    pub(super) checkpoints: Vec<Arc<VRCheckpoint>>,
    pub(super) drills: Vec<Arc<VRDrill>>,
    pub(super) schedules: Vec<Arc<VRDrillSchedule>>,
}

/// The time now.
pub(super) fn now() -> Moment {
    Moment(jiff::Timestamp::now().as_second())
}

impl World {
    #[cfg(test)]
    pub(super) fn of_nothing(at: Moment) -> World {
        World {
            at,
            clusters: Vec::new(),
            pods: Vec::new(),
            volumes: Vec::new(),
            nodes: Vec::new(),
            restores: Vec::new(),
            checkpoints: Vec::new(),
            drills: Vec::new(),
            schedules: Vec::new(),
        }
    }

    /// Lists it all, eight requests for however many clusters. `at` is the time before the first question: nothing in it is older than that.
    pub(super) async fn look(client: &Client, namespace: Option<&str>) -> anyhow::Result<World> {
        let at = now();
        let ours = ListParams::default().labels(CLUSTER_LABEL);
        let everything = async {
            tokio::try_join!(
                list(api::<VRCluster>(client, namespace), ListParams::default()),
                list(api::<Pod>(client, namespace), ours.clone()),
                list(api::<PersistentVolumeClaim>(client, namespace), ours.clone()),
                list(Api::<Node>::all(client.clone()), ListParams::default()),
                list(api::<VRRestore>(client, namespace), ListParams::default()),
                list(api::<VRCheckpoint>(client, namespace), ListParams::default()),
                list(api::<VRDrill>(client, namespace), ListParams::default()),
                list(api::<VRDrillSchedule>(client, namespace), ListParams::default()),
            )
        };
        let (clusters, pods, volumes, nodes, restores, checkpoints, drills, schedules) =
            tokio::time::timeout(ANSWERS, everything)
                .await
                .map_err(|_| anyhow::anyhow!("the API server does not answer"))??;
        Ok(World { at, clusters, pods, volumes, nodes, restores, checkpoints, drills, schedules })
    }

    /// The pods of one cluster, by slot, as they are.
    pub(super) fn pods_of<'a>(&'a self, cluster: &'a VRCluster) -> BTreeMap<Slot, &'a Pod> {
        let ours = self.pods.iter().filter(|pod| belongs(&pod.metadata, cluster));
        ours.filter_map(|pod| Some((Slot(label(&pod.metadata, SLOT_LABEL)?), &**pod))).collect()
    }
}

/// A kind in one namespace, or in all.
pub(super) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn list<K>(api: Api<K>, what: ListParams) -> Result<Vec<Arc<K>>, kube::Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    Ok(api.list(&what).await?.items.into_iter().map(Arc::new).collect())
}

fn belongs(object: &ObjectMeta, cluster: &VRCluster) -> bool {
    let named = object.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL));
    object.namespace == cluster.metadata.namespace
        && named.is_some()
        && named == cluster.metadata.name.as_ref()
}

fn label(object: &ObjectMeta, name: &str) -> Option<u64> {
    object.labels.as_ref()?.get(name)?.parse().ok()
}

fn annotation(object: &ObjectMeta, name: &str) -> String {
    object.annotations.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default()
}

/// Which object.
pub(super) fn uid(object: &ObjectMeta) -> Uid {
    Uid(object.uid.clone().unwrap_or_default())
}

/// When an object was made.
pub(super) fn made_at(meta: &ObjectMeta) -> Moment {
    moment(meta.creation_timestamp.as_ref())
}

fn moment(time: Option<&Time>) -> Moment {
    time.map_or(Moment(0), |time| Moment(time.0.as_second()))
}

/// A pod as the plan reads it; nothing if it does not say whose it is.
pub(super) fn pod(pod: &Pod) -> Option<snapshot::Pod> {
    Some(snapshot::Pod {
        uid: uid(&pod.metadata),
        replica: ReplicaId(label(&pod.metadata, REPLICA_LABEL)?),
        generation: Generation(label(&pod.metadata, GENERATION_LABEL)?),
        template: Template(annotation(&pod.metadata, TEMPLATE_ANNOTATION)),
        zone: Zone(annotation(&pod.metadata, ZONE_ANNOTATION)),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).map(NodeName),
        process: process(pod),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        created: moment(pod.metadata.creation_timestamp.as_ref()),
        trouble: trouble(pod),
    })
}

fn process(pod: &Pod) -> Process {
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !placed {
        return Process::Unplaced;
    }
    let Some(status) = &pod.status else { return Process::MayRun };
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let terminated =
        containers.iter().all(|c| c.state.as_ref().is_some_and(|state| state.terminated.is_some()));
    // A pod that the kubelet has turned away has no containers, and a reason.
    let turned_away = !containers.is_empty() || status.reason.is_some();
    if ended && terminated && turned_away { Process::Over } else { Process::MayRun }
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let unschedulable = status.conditions.iter().flatten().any(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    });
    if unschedulable {
        return Some(Trouble::Unschedulable);
    }
    let container = status.container_statuses.as_ref()?.first()?;
    let state = container.state.as_ref()?;
    if state.running.is_some() {
        return None;
    }
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    match waiting {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => return Some(Trouble::Image),
        "CreateContainerConfigError" | "CreateContainerError" => return Some(Trouble::Configuration),
        _ => {}
    }
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last)?;
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Some(Trouble::OutOfMemory);
    }
    if ended.message.as_deref().is_some_and(|text| text.contains(NO_VOTE_RECORD)) {
        return Some(Trouble::NoVoteRecord);
    }
    match ended.exit_code {
        2 => Some(Trouble::Configuration),
        _ if container.restart_count >= STARTS && waiting == "CrashLoopBackOff" => Some(Trouble::CrashLoop),
        _ => None,
    }
}

/// The volumes of one cluster, by slot.
pub(super) fn volumes(world: &World, cluster: &VRCluster) -> BTreeMap<Slot, snapshot::Volume> {
    let ours = world.volumes.iter().map(|claim| &claim.metadata).filter(|meta| belongs(meta, cluster));
    ours.filter_map(|meta| {
        let volume = snapshot::Volume {
            uid: uid(meta),
            zone: Zone(annotation(meta, ZONE_ANNOTATION)),
            replica: ReplicaId(label(meta, REPLICA_LABEL)?),
            generation: Generation(label(meta, GENERATION_LABEL)?),
            lineage: Lineage(annotation(meta, LINEAGE_ANNOTATION)),
            deleting: meta.deletion_timestamp.is_some(),
        };
        Some((Slot(label(meta, SLOT_LABEL)?), volume))
    })
    .collect()
}

/// The nodes, with the failure domains that this cluster goes by.
pub(super) fn nodes(world: &World, cluster: &VRCluster) -> BTreeMap<NodeName, snapshot::Node> {
    let spec = &cluster.spec;
    let key =
        spec.topology.as_ref().and_then(|t| t.zone_key.as_deref()).unwrap_or("topology.kubernetes.io/zone");
    let drains = spec.placement.as_ref().map(|p| p.drain_taints.as_slice()).unwrap_or_default();
    let all = world.nodes.iter().filter_map(|node| {
        let name = NodeName(node.metadata.name.clone()?);
        let labels = node.metadata.labels.as_ref();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let conditions =
            node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let silent = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "Unknown");
        let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let node = snapshot::Node {
            zone: Zone(labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()),
            silent_since: silent.map(|c| moment(c.last_transition_time.as_ref())),
            out_of_service: taints.iter().any(|t| t.key == "node.kubernetes.io/out-of-service"),
            draining: unschedulable || taints.iter().any(|t| drains.contains(&t.key)),
        };
        Some((name, node))
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(status: Value) -> snapshot::Pod {
        let object = json!({
            "metadata": {"uid": "u", "labels": {REPLICA_LABEL: "2", GENERATION_LABEL: "1", SLOT_LABEL: "1"}},
            "spec": {"nodeName": "n1", "containers": []},
            "status": status,
        });
        pod(&serde_json::from_value(object).expect("a pod")).expect("it says whose it is")
    }

    fn container(state: Value, last: Value, restarts: i32) -> Value {
        json!({"name": "replica", "image": "i", "imageID": "i", "ready": false, "restartCount": restarts,
               "state": state, "lastState": last})
    }

    #[test]
    fn only_the_kubelet_ends_a_process() {
        let running = container(json!({"running": {}}), json!({}), 0);
        let over = container(json!({"terminated": {"exitCode": 0}}), json!({}), 0);
        for (status, expected) in [
            (json!({"phase": "Running", "containerStatuses": [running.clone()]}), Process::MayRun),
            // Whoever collects the pods of silent nodes says "Failed" and knows nothing of the process.
            (json!({"phase": "Failed", "containerStatuses": [running]}), Process::MayRun),
            (json!({"phase": "Failed", "containerStatuses": [over.clone()]}), Process::Over),
            (json!({"phase": "Running", "containerStatuses": [over]}), Process::MayRun),
            (json!({"phase": "Failed", "reason": "NodeAffinity"}), Process::Over),
            (json!({"phase": "Failed"}), Process::MayRun),
        ] {
            assert_eq!(made(status.clone()).process, expected, "{status}");
        }
    }

    #[test]
    fn trouble_is_read_from_what_the_kubelet_says() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |code: i32, text: &str| json!({"terminated": {"exitCode": code, "message": text}});
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let lost =
            "vr-replica: replica 2: replica 2 has no vote record on /var/lib/vr/volume: what it promised";
        for (state, last, restarts, expected) in [
            (waiting("ImagePullBackOff"), json!({}), 0, Some(Trouble::Image)),
            (waiting("CrashLoopBackOff"), ended(2, ""), 1, Some(Trouble::Configuration)),
            (waiting("CrashLoopBackOff"), ended(1, lost), 1, Some(Trouble::NoVoteRecord)),
            (waiting("CrashLoopBackOff"), killed, 9, Some(Trouble::OutOfMemory)),
            (waiting("CrashLoopBackOff"), ended(1, "disk"), 4, None),
            (waiting("CrashLoopBackOff"), ended(1, "disk"), 5, Some(Trouble::CrashLoop)),
            // It runs again: what was, was.
            (json!({"running": {}}), ended(1, lost), 1, None),
            (waiting("ContainerCreating"), json!({}), 0, None),
        ] {
            let status = json!({"phase": "Running", "containerStatuses": [container(state, last, restarts)]});
            assert_eq!(made(status.clone()).trouble, expected, "{status}");
        }
    }
}
