//! `VRCluster`: what a cluster is to be.

use crate::common::{LocalReference, MemorySize};
use crate::status::VRClusterStatus;
use crate::storage::{CheckpointPolicy, Storage};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One cluster, and where its checkpoints go.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "vr-operator.io",
    version = "v1alpha1",
    kind = "VRCluster",
    plural = "vrclusters",
    shortname = "vrc",
    category = "vr",
    namespaced,
    derive = "PartialEq",
    status = "VRClusterStatus",
    doc = "A replicated etcd v3 store in memory, with checkpoints on NVMe, volumes and S3.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas", description = "Voting members wanted"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Members that can commit"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary.podName"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".status.primary.zone", description = "Zone of the primary"),
    printcolumn(name = "Tolerates", type_ = "integer", json_path = ".status.faultTolerance", description = "Members that may be lost now without an outage"),
    printcolumn(name = "Recoverable", type_ = "string", json_path = ".status.conditions[?(@.type==\"Recoverable\")].reason"),
    printcolumn(name = "Recovery Point", type_ = "date", json_path = ".status.recoveryPoint.time", description = "Age of the newest state that a restore would reach"),
    printcolumn(name = "Last Drill", type_ = "date", json_path = ".status.lastDrill.finishedAt", priority = 1),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name: at most 40 characters, pods and volumes are named after it")
)]
#[x_kube(
    validation = Rule::new("self.replicas >= 3 || (has(self.unsafeFlags) && has(self.unsafeFlags.singleReplica) && self.unsafeFlags.singleReplica)")
        .message("replicas: 1 survives no failure; use 3, or set unsafeFlags.singleReplica to accept that"),
    validation = Rule::new("self.replicas - oldSelf.replicas <= 2 && oldSelf.replicas - self.replicas <= 2")
        .message("replicas: change it by at most 2 at a time"),
    validation = Rule::new("has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)")
        .message("bootstrap: used once, when the cluster is made; to go back to an earlier state create a VRRestore"),
    validation = Rule::new("has(self.storage.volume) || (has(self.unsafeFlags) && has(self.unsafeFlags.noVolume) && self.unsafeFlags.noVolume)")
        .message("storage.volume: without it a lost node takes a vote record along; set it, or unsafeFlags.noVolume to accept that")
)]
#[serde(rename_all = "camelCase")]
pub struct VRClusterSpec {
    /// Voting members: 1, 3, 5, 7 or 9. 2f+1 members survive the loss of f.
    #[schemars(range(min = 1, max = 9))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("replicas: an odd number; an even one survives no more failures"))]
    pub replicas: i32,
    /// The image; by digest, so that all run the same.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Memory of a replica.
    pub memory: Memory,
    /// Across what the replicas are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// Where the primary should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The tiers below memory.
    pub storage: Storage,
    /// How often checkpoints are taken and how many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointPolicy>,
    /// What is promised; alerts go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,
    /// What the cluster begins with; empty if absent. Used once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What happens when a majority has lost its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// When a lost replica is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Replacement>,
    /// How changes reach the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
    /// Where certificates come from; made by the operator if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Which pods may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// Scheduling of the pods and what is put on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Replica ids that must not take part any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub fenced_replicas: Vec<i64>,
    /// Whether the cluster runs, or rests in its checkpoints without pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation: Option<Hibernation>,
    /// Nothing but status is written while this is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Deleting is refused while this is set.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
    /// Risks taken knowingly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_flags: Option<UnsafeFlags>,
}

fn yes() -> bool {
    true
}

/// Memory of a replica.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!quantity(string(self.stateLimit)).isGreaterThan(quantity(string(self.limit)))")
    .message("memory.stateLimit: must not be above memory.limit; 70 % of it is a good value"))]
pub struct Memory {
    /// Request and limit of the container.
    pub limit: MemorySize,
    /// Above this, writes that grow the state are refused (NOSPACE).
    pub state_limit: MemorySize,
}

/// Across what the replicas are spread.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// Node label that names a domain. Default: `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub zone_key: Option<String>,
    /// Whether a replica waits for a node in a domain of its own, or takes any. Default: Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// The domains to use; all that nodes name if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(min = 1, max = 63)))]
    pub zones: Vec<String>,
}

/// How strictly replicas are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Spread {
    /// A replica waits for a node that keeps the spread.
    Required,
    /// A replica takes any node if there is none.
    Preferred,
}

/// Where the primary should be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Failure domains, most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9), inner(length(min = 1, max = 63)))]
    pub preferred_zones: Vec<String>,
    /// How long a replica in a better domain is healthy first. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub handback_delay_seconds: Option<i32>,
    /// Keys of node taints before which the primary leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 317)))]
    pub drain_taints: Vec<String>,
}

/// What is promised to users.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// At most this much may be lost when everything in memory is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub rpo_seconds: Option<i32>,
    /// By then writes are served again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub rto_seconds: Option<i32>,
    /// A drill must have passed within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub drill_max_age_hours: Option<i32>,
}

/// What a cluster begins with.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// A state to begin with.
    pub restore: BootstrapRestore,
}

/// A state to begin with.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("has(self.checkpointRef) != has(self.lineage)")
    .message("bootstrap.restore: checkpointRef or lineage, one of the two"))]
pub struct BootstrapRestore {
    /// A VRCheckpoint in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_ref: Option<LocalReference>,
    /// A place in a bucket, with nothing else left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<LineageSource>,
}

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("[has(self.beforeTime), has(self.opNumber), has(self.manifest)].filter(x, x).size() <= 1")
    .message("bootstrap.restore.lineage: at most one of beforeTime, opNumber and manifest"))]
pub struct LineageSource {
    /// The bucket.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// The prefix under which the lineages are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub prefix: Option<String>,
    /// Which lineage, a UUID; needed when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 36))]
    pub lineage_id: Option<String>,
    /// The newest state of this time or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub before_time: Option<String>,
    /// The state through this op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub op_number: Option<i64>,
    /// The checkpoint of this manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub manifest: Option<String>,
}

/// What happens when a majority has lost its memory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.onTotalLoss != 'Automatic' || has(self.maxDataLossSeconds)")
    .message("recovery.maxDataLossSeconds: needed with onTotalLoss Automatic, it bounds what may be lost"))]
pub struct Recovery {
    /// Who decides.
    pub on_total_loss: OnTotalLoss,
    /// With Automatic: a plan that may lose more waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub max_data_loss_seconds: Option<i32>,
    /// How long the loss is seen before anything follows. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 3600))]
    pub confirmation_seconds: Option<i32>,
}

/// Who decides about a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnTotalLoss {
    /// A person, by a VRRestore that names the plan.
    Manual,
    /// The operator, within `maxDataLossSeconds`.
    Automatic,
}

/// When a replica that is gone is replaced.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replacement {
    /// Whether it is at all. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A replica silent this long counts as failed. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 3600))]
    pub failure_detection_seconds: Option<i32>,
    /// A node silent this long counts as gone. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 86400))]
    pub node_gone_seconds: Option<i32>,
}

/// How changes reach the pods.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Which pods are replaced by the operator.
    #[serde(rename = "type")]
    pub kind: UpdateKind,
    /// What happens to the primary, the last of them. Default: Switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<PrimaryUpdate>,
    /// A new pod must be healthy this long before the next. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: Option<i32>,
}

/// Which pods are replaced by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UpdateKind {
    /// All, one at a time, the primary last.
    BackupsFirst,
    /// None; a pod changes when somebody deletes it.
    OnDelete,
}

/// What happens to the primary in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PrimaryUpdate {
    /// It hands over, then its pod is replaced.
    Switchover,
    /// It waits for a person to move it (`kubectl vr promote`).
    Supervised,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("[has(self.operatorManaged), has(self.issuerRef), has(self.secretRef)].filter(x, x).size() == 1")
    .message("tls: exactly one of operatorManaged, issuerRef and secretRef"))]
pub struct Tls {
    /// The operator's own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_managed: Option<OperatorManagedTls>,
    /// An issuer of cert-manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerReference>,
    /// A Secret with `ca.crt`, `tls.crt` and `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// The operator's own CA.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorManagedTls {
    /// Life of a certificate; renewed at two thirds of it. Default: 720.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub validity_hours: Option<i32>,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` or `ClusterIssuer`. Default: Issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
}

/// Which pods may connect.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether one is made. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Labels of pods that may use the client port; all of the namespace if empty.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub client_pod_labels: std::collections::BTreeMap<String, String>,
}

/// Scheduling of the pods and what is put on them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels in addition to the operator's.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('vr-operator.io/') && !key.startsWith('app.kubernetes.io/'))").message("podTemplate.labels: vr-operator.io/ and app.kubernetes.io/ are the operator's"))]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Labels of the nodes to use.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: std::collections::BTreeMap<String, String>,
    /// Taints that the pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Their priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// CPU request; there is no limit. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9]+(\\.[0-9]+)?m?$"))]
    pub cpu_request: Option<String>,
    /// Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalReference>,
}

/// A taint that the pods bear.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Its key; every key if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// Exists or Equal. Default: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub effect: Option<String>,
}

/// How a taint is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TolerationOperator {
    /// Whatever its value.
    Exists,
    /// With this value.
    Equal,
}

/// Whether the cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Hibernation {
    /// It runs.
    Running,
    /// It rests in its checkpoints, without pods.
    Hibernated,
}

/// Risks taken knowingly.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnsafeFlags {
    /// One replica: no failure is survived without a restore.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_replica: bool,
    /// Fewer than three failure domains: losing one may lose the quorum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_zones: bool,
    /// Ports without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plaintext: bool,
    /// No volume: a lost node takes its replica's vote record along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_volume: bool,
}
