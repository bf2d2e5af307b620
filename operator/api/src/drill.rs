//! `VRDrill`: one rehearsal of a disaster, which can fail; `VRDrillSchedule`: drills at given times.

use crate::common::{LocalReference, MemorySize};
use crate::status::Candidate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rehearsal of a disaster. It proves that the data of a cluster would come back, or says why not.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "vr-operator.io",
    version = "v1alpha1",
    kind = "VRDrill",
    plural = "vrdrills",
    shortname = "vrd",
    category = "vr",
    namespaced,
    derive = "PartialEq",
    status = "VRDrillStatus",
    doc = "One rehearsal of a disaster of a VRCluster, which can fail.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Scenario", type_ = "string", json_path = ".spec.scenario"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(name = "RTO", type_ = "integer", json_path = ".status.rtoMilliseconds", description = "Milliseconds to the first served write"),
    printcolumn(name = "RPO", type_ = "integer", json_path = ".status.rpoOperations", description = "Operations that a restore would have lost"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 56").message("metadata.name: at most 56 characters, since the name of a pod is made from it"),
    validation = Rule::new("self.spec == oldSelf.spec").message("spec: a VRDrill is run once, as it was made; make another one")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.scenario == 'RestoreFromObjectStore' || (has(self.allowLiveImpact) && self.allowLiveImpact)")
    .message("allowLiveImpact: this scenario harms the running cluster; set it to accept that"))]
#[x_kube(validation = Rule::new("self.scenario != 'LoseAllMemory' || (has(self.allowDataLoss) && self.allowDataLoss)")
    .message("allowDataLoss: LoseAllMemory loses acknowledged writes that no tier holds yet; set it to accept that"))]
pub struct VRDrillSpec {
    /// Of which cluster.
    pub cluster_ref: LocalReference,
    /// What is rehearsed. Default: RestoreFromObjectStore.
    #[serde(default)]
    pub scenario: DrillScenario,
    /// As whom the object store is read; as the cluster's replicas if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<DrillReader>,
    /// The drill fails if it is not done by then. Default: 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub deadline_seconds: Option<i32>,
    /// Memory of the copy; what a replica of the cluster has if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<MemorySize>,
    /// Somebody has agreed to what the scenario does to the cluster: for as long as it takes it survives less, or does not
    /// serve at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_live_impact: bool,
    /// Somebody has agreed to the loss of acknowledged writes, which LoseAllMemory costs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_data_loss: bool,
}

impl DrillScenario {
    /// Whether the cluster itself is harmed.
    #[must_use]
    pub fn is_live(self) -> bool {
        self != DrillScenario::RestoreFromObjectStore
    }
}

/// What is rehearsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DrillScenario {
    /// Nothing is left but the object store: a copy is restored from it, beside the cluster and without touching it.
    #[default]
    RestoreFromObjectStore,
    /// The process of the primary ends like in a crash.
    LosePrimary,
    /// The process of a replica that does not lead ends like in a crash, and its pod and local disk are gone.
    LoseReplica,
    /// The same for all replicas of the zone of the primary.
    LoseZone,
    /// The processes of all replicas end like in a crash. The cluster has lost its state and recovers as it does after a
    /// real loss.
    LoseAllMemory,
}

/// As whom a drill reads the object store: somebody who may not write is what a drill should be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("has(self.serviceAccountName) != has(self.credentialsSecretRef)")
    .message("reader: serviceAccountName (an identity of the cloud) or credentialsSecretRef (keys); exactly one of the two"))]
pub struct DrillReader {
    /// A service account with an identity that may read the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// A Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// How far it is and what it found.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VRDrillStatus {
    /// Pending, Preparing, Restoring, Checking, CleaningUp or Finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Passed, Failed (something would not come back as promised) or Errored (it could not be carried out and says
    /// nothing about the data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Why, if it did not pass; what is awaited, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,
    /// The database that is drilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DrillSource>,
    /// What was lost on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<DrillImpact>,
    /// Writes that the probe of a live drill had acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_writes: Option<i64>,
    /// The op that the copy reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// From the beginning of the restore to the first write that the copy acknowledged; of a live drill, the longest time
    /// without an acknowledged write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_milliseconds: Option<i64>,
    /// The writes of so much time would have been lost; in a live drill, were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_milliseconds: Option<i64>,
    /// So many operations would have been lost; in a live drill, were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_operations: Option<i64>,
    /// Digest of the state by its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_root: Option<String>,
    /// Digest of the state as the copy has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_root: Option<String>,
    /// What there was to restore from, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub candidates: Vec<Candidate>,
    /// What was proven, or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub checks: Vec<DrillCheck>,
    /// What took how long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub phases: Vec<DrillPhase>,
    /// The signed record of it in the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Finished, with the result as its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The database, as it was when the drill began.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSource {
    /// UUID of the database.
    pub lineage: String,
    /// Its generation.
    pub generation: i64,
    /// The newest op that was committed by the time of the canary: the copy must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_op: Option<i64>,
    /// The newest op that was committed when the restore began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
}

/// What a live drill takes away, on record before it is done.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillImpact {
    /// Whom it concerns.
    #[schemars(length(max = 16))]
    pub replicas: Vec<DrillTarget>,
    /// The zone that they stand in, if a zone is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Voters that might be lost when it was decided.
    pub fault_tolerance: i32,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub at: Option<String>,
    /// When the cluster was whole again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub whole_at: Option<String>,
}

/// One replica that a live drill ends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillTarget {
    /// Its id.
    pub id: i64,
    /// Which start of its process.
    pub incarnation: i64,
    /// Its pod.
    pub pod_name: String,
    /// The UID of the pod, where that goes, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// One thing that was to be proven.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillCheck {
    /// Its name, the same in every release.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    #[serde(default)]
    pub detail: String,
}

/// A stretch of a drill.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillPhase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub milliseconds: i64,
}

/// Where the record of a drill is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// `s3://` address.
    pub address: String,
    /// BLAKE3 of the object, which the next record names.
    pub digest: String,
}

/// Drills at given times.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "vr-operator.io",
    version = "v1alpha1",
    kind = "VRDrillSchedule",
    plural = "vrdrillschedules",
    shortname = "vrds",
    category = "vr",
    namespaced,
    derive = "PartialEq",
    status = "VRDrillScheduleStatus",
    doc = "Drills of a VRCluster at given times.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.drill.clusterRef.name"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Time Zone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastScheduledAt"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextAt"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    validation = Rule::new("size(self.metadata.name) <= 44").message("metadata.name: at most 44 characters, since the names of drills are made from it")
)]
#[serde(rename_all = "camelCase")]
pub struct VRDrillScheduleSpec {
    /// Minute, hour, day of month, month, day of week, as cron has them: `15 3 * * *`.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// Name of the time zone (IANA) of the schedule. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Each drill begins up to this much later, by chance, so that many schedules do not begin at once. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 43_200))]
    pub jitter_seconds: Option<i32>,
    /// A drill that could not begin this long after its time is left out. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub starting_deadline_seconds: Option<i32>,
    /// What happens when the drill before still runs. Default: Forbid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<DrillConcurrency>,
    /// Passed drills that are kept as resources; their evidence stays in the bucket. Default: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub passed_history: Option<i32>,
    /// Drills that did not pass and are kept as resources. Default: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_history: Option<i32>,
    /// No drill begins while this is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// What is run.
    pub drill: VRDrillSpec,
}

/// What happens when the drill before still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DrillConcurrency {
    /// The new one is left out.
    Forbid,
    /// The one before is deleted; it says nothing then.
    Replace,
}

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VRDrillScheduleStatus {
    /// The time by the schedule of the last drill that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_scheduled_at: Option<String>,
    /// The last drill that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<String>,
    /// When the next one begins, the jitter included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub next_at: Option<String>,
    /// Ready, with the reasons Scheduled, Suspended, InvalidSchedule, InvalidTimeZone or Missed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
