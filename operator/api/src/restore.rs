//! `VRRestore`: a recovery that somebody has acknowledged.

use crate::common::LocalReference;
use crate::status::DataLoss;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Brings a cluster back after a total loss, or back to an earlier state. Everything after that state is given up.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "vr-operator.io",
    version = "v1alpha1",
    kind = "VRRestore",
    plural = "vrrestores",
    shortname = "vrr",
    category = "vr",
    namespaced,
    derive = "PartialEq",
    status = "VRRestoreStatus",
    doc = "An acknowledged recovery or roll-back of a VRCluster.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".status.generation"),
    printcolumn(name = "Op", type_ = "integer", json_path = ".status.op"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("spec: a VRRestore is done once, as it was made; make another one"),
    validation = Rule::new("has(self.planNonce) != has(self.target)")
        .message("spec: planNonce acknowledges the recoveryPlan in the status of the VRCluster; target rolls a healthy cluster back; exactly one of the two"),
    validation = Rule::new("!has(self.target) || self.acknowledgeDataLoss == self.clusterRef.name")
        .message("acknowledgeDataLoss: must be the name of the cluster, since a roll-back gives up every write after its target")
)]
#[serde(rename_all = "camelCase")]
pub struct VRRestoreSpec {
    /// Which cluster.
    pub cluster_ref: LocalReference,
    /// The nonce of the recovery plan that is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub plan_nonce: Option<String>,
    /// Where to roll back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// The name of the cluster again, by which whoever rolls back says that what follows the target may go.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub acknowledge_data_loss: String,
}

/// Where to roll back to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = Rule::new("[has(self.beforeTime), has(self.opNumber), has(self.revision), has(self.checkpointRef)].filter(x, x).size() == 1")
    .message("target: exactly one of beforeTime, opNumber, revision and checkpointRef"))]
pub struct RestoreTarget {
    /// The newest state of this time or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub before_time: Option<String>,
    /// The state through this op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub op_number: Option<i64>,
    /// The last state at or below this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// A VRCheckpoint in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_ref: Option<LocalReference>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VRRestoreStatus {
    /// Pending, Locating, Saving, Fencing, Loading, Forming, Checkpointing, Succeeded, Failed or Refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What the cluster had committed when a roll-back was taken up; the object store is to hold it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_op: Option<i64>,
    /// Where the target of a roll-back lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub located: Option<LocatedTarget>,
    /// The generation that it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The op that it reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// What it gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_loss: Option<DataLoss>,
    /// When each phase began, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub phases: Vec<Phase>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where the target of a roll-back lies. What leads there was loaded whole.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocatedTarget {
    /// The op that it is.
    pub op: i64,
    /// The store's revision there.
    pub revision: i64,
    /// Time of that op.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// Op of the checkpoint that leads there.
    pub checkpoint: i64,
    /// The generation that holds it.
    pub generation: i64,
}

/// A phase of a restore.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// Which.
    pub name: String,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub began_at: String,
}
