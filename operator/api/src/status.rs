//! What the operator says of a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw last.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VRClusterStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Voting members.
    #[serde(default)]
    pub replicas: i32,
    /// Members that can commit.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<LineageStatus>,
    /// Number of the configuration of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Number of the primary's term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<i64>,
    /// Members that may be lost now without an outage; negative in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_tolerance: Option<i32>,
    /// Failure domains that may be lost now without an outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_fault_tolerance: Option<i32>,
    /// Who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<PrimaryStatus>,
    /// Each replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica_statuses: Vec<ReplicaStatus>,
    /// Each tier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierStatus>,
    /// The newest state that a restore would reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// The oldest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_recovery_point: Option<RecoveryPoint>,
    /// The last drill that finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<DrillSummary>,
    /// What the operator is in the middle of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// What is restored once it is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_plan: Option<RecoveryPlan>,
    /// What the last recovery lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<DataLoss>,
    /// Ready, Available, Progressing, Degraded, QuorumSafe, TopologySatisfied, PrimaryPlacementSatisfied,
    /// CheckpointHealthy, Recoverable, DrillPassing, ObjectStoreOwned, CertificatesValid, Paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineageStatus {
    /// UUID of the database for its whole life.
    pub id: String,
    /// Counts its restores.
    pub generation: i64,
    /// The manifest that this generation began from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrimaryStatus {
    /// Its replica id.
    pub id: i64,
    /// Its pod.
    pub pod_name: String,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its id, never used again.
    pub id: i64,
    /// Its place: pod name, volume and zone.
    pub slot: String,
    /// Its failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which start of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
    /// Its status, or Unreachable.
    pub state: String,
    /// Whether it votes.
    #[serde(default)]
    pub voter: bool,
    /// The newest entry that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// The newest entry that it knows to be committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<i64>,
    /// When it answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub observed_at: Option<String>,
}

/// A tier.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TierStatus {
    /// nvme, volume or objectStore.
    pub name: String,
    /// The newest op that it holds, log included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// The time of that op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// How far it is behind the newest committed op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
}

/// A state that a restore would reach.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPoint {
    /// Its op.
    pub op: i64,
    /// Its time.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// The tier that holds it.
    pub tier: String,
}

/// The last drill that finished.
// One that could not be carried out does not take the place of one that failed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillSummary {
    /// Name of the VRDrill.
    pub name: String,
    /// Passed, Failed or Errored.
    pub result: String,
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: String,
    /// Why, if it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When one passed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_passed_at: Option<String>,
}

/// What the operator is in the middle of.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Bootstrap, ScaleOut, ScaleIn, Replace, Update, MovePrimary, Recover, Hibernate, Wake or Delete.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where in it.
    pub step: String,
    /// The replica that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<i64>,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub started_at: String,
    /// When it counts as stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub deadline: Option<String>,
}

/// What a person is asked to acknowledge.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPlan {
    /// By which a VRRestore acknowledges it.
    pub nonce: String,
    /// What was seen.
    pub reason: String,
    /// The VRRestore that ordered it, or spec.bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_by: Option<String>,
    /// What there is to restore from, best first.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub candidates: Vec<Candidate>,
    /// What the best one is expected to lose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_data_loss_seconds: Option<i64>,
}

/// Something to restore from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Where: a tier, a volume or a survivor's memory.
    pub source: String,
    /// The op it reaches.
    pub op: i64,
    /// The time of that op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// Why it is not the best, or cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// What a recovery lost.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataLoss {
    /// The generation that was lost.
    pub generation: i64,
    /// The last op that was kept of it.
    pub kept_op: i64,
    /// At most so many operations are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<i64>,
    /// At most the writes of so many seconds are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}
