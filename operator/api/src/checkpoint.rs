//! `VRCheckpoint`: a restore point with a name.

use crate::common::LocalReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A restore point in S3 that collection leaves alone as long as this resource exists. Streamed checkpoints need none.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "vr-operator.io",
    version = "v1alpha1",
    kind = "VRCheckpoint",
    plural = "vrcheckpoints",
    shortname = "vrcp",
    category = "vr",
    namespaced,
    derive = "PartialEq",
    status = "VRCheckpointStatus",
    doc = "A pinned restore point of a VRCluster in S3.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Op", type_ = "integer", json_path = ".status.op"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Time", type_ = "date", json_path = ".status.time"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("spec: a VRCheckpoint is what it was made as; make another one")
)]
#[serde(rename_all = "camelCase")]
pub struct VRCheckpointSpec {
    /// Of which cluster.
    pub cluster_ref: LocalReference,
    /// Pin the newest checkpoint that is there at or below this op; without it one is taken now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub op_number: Option<i64>,
    /// The resource, and with it the pin, goes after this time; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 87_600))]
    pub expire_after_hours: Option<i32>,
}

/// What was pinned.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VRCheckpointStatus {
    /// UUID of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<String>,
    /// Its generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What a checkpoint that is taken must hold at least: the op that was committed when the resource was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_op: Option<i64>,
    /// The cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<i64>,
    /// The store's revision there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// When it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub time: Option<String>,
    /// Digest of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// `s3://` address of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Ready, with the reasons Taking, Pinned, Failed or ClusterNotFound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
