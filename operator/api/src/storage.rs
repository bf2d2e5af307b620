//! Where a cluster's checkpoints go, how often, and how many stay.

use crate::common::{LocalReference, MemorySize};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The tiers below memory.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.volume) == has(oldSelf.volume) && has(self.nvme) == has(oldSelf.nvme)")
    .message("storage: nvme and volume cannot be added or removed later; make a new cluster with bootstrap.restore"))]
pub struct Storage {
    /// A local disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvme: Option<Nvme>,
    /// A volume that outlives its node; holds the vote record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The bucket that outlives everything else.
    pub object_store: ObjectStore,
}

/// A local disk.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'HostPath') == has(self.hostPath)").message("storage.nvme.hostPath: needed with type HostPath, and only then"),
    validation = Rule::new("self.type == 'EphemeralVolume' || !has(self.storageClassName)").message("storage.nvme.storageClassName: only with type EphemeralVolume")
)]
pub struct Nvme {
    /// What it is made of.
    #[serde(rename = "type")]
    pub kind: NvmeKind,
    /// Its size; about twice the state.
    pub size_limit: MemorySize,
    /// A folder on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), regex(pattern = "^/"))]
    pub host_path: Option<String>,
    /// Class of the ephemeral volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// What a local disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum NvmeKind {
    /// The node's own storage.
    EmptyDir,
    /// A folder of the node.
    HostPath,
    /// A volume that lives as long as its pod.
    EphemeralVolume,
}

/// A volume that outlives its node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!quantity(string(self.size)).isLessThan(quantity(string(oldSelf.size)))")
    .message("storage.volume.size: volumes cannot shrink"))]
pub struct Volume {
    /// Its size; about twice the state.
    pub size: MemorySize,
    /// Its class; the cluster's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of volumes when the VRCluster is deleted. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_deleted: Option<VolumePolicy>,
    /// What becomes of a volume whose replica was removed. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_scaled: Option<VolumePolicy>,
}

/// What becomes of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum VolumePolicy {
    /// It stays.
    Retain,
    /// It is deleted.
    Delete,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.serviceAccountName) && has(self.credentialsSecretRef))")
        .message("storage.objectStore: serviceAccountName or credentialsSecretRef (keys), not both"),
    validation = Rule::new("self.bucket == oldSelf.bucket && (has(self.prefix) ? self.prefix : '') == (has(oldSelf.prefix) ? oldSelf.prefix : '')")
        .message("storage.objectStore: bucket and prefix cannot be changed; make a new cluster with bootstrap.restore")
)]
pub struct ObjectStore {
    /// Its name.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Everything of this cluster is under this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^[A-Za-z0-9!_.*'()/-]*$"))]
    pub prefix: Option<String>,
    /// Its region; found by the SDK if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Another endpoint than AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// KMS key of the objects; the bucket's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// The replicas' service account; it may use the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// A Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
}

/// How often checkpoints are taken and how many are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointPolicy {
    /// Seconds between checkpoints on NVMe. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub nvme_interval_seconds: Option<i32>,
    /// Seconds between checkpoints on the volume. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub volume_interval_seconds: Option<i32>,
    /// Seconds between checkpoints in the bucket. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub object_store_interval_seconds: Option<i32>,
    /// Newest checkpoints that the bucket keeps in any case. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: Option<i32>,
    /// One checkpoint of each of so many last hours is kept. Default: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200))]
    pub keep_hours: Option<i32>,
    /// Bytes a second of a checkpoint on NVMe. No limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub nvme_rate_limit_bytes: Option<i64>,
    /// The same on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub volume_rate_limit_bytes: Option<i64>,
    /// The same in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_048_576))]
    pub object_store_rate_limit_bytes: Option<i64>,
    /// What happens to writes when a tier is behind: a disk by more than 10 s, the bucket by more than 60 s. Default: Alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lag: Option<OnLag>,
}

/// What happens when a tier falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnLag {
    /// It is said, and writes go on.
    Alert,
    /// Writes are slowed down.
    Throttle,
    /// Writes are refused; reads are not.
    Block,
}
