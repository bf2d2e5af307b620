//! The configuration file of one replica.

use super::{ADMIN_PORT, CLIENT_PORT, CONTROL_PORT, Naming, NoQuantity, PEER_PORT, bytes, speaks_plainly};
use crate::ids::*;
use crate::snapshot::Member;
use crate::step::Start;
use crate::wanted::SHIPPING;
use serde_json::{Value, json};
use vr_api::{OnLag, VRCluster};

/// Where a pod finds its certificates.
pub(super) const CERTIFICATES: &str = "/etc/vr-tls";
/// Where a pod has its local disk.
pub(super) const NVME: &str = "/var/lib/vr/nvme";
/// Where a pod has its volume.
pub(super) const VOLUME: &str = "/var/lib/vr/volume";

/// What a generation begins from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The generation that held it.
    pub generation: Generation,
    /// Op of its checkpoint.
    pub checkpoint: Op,
    /// Root of that checkpoint, hexadecimal.
    pub root: String,
    /// The log is replayed up to here.
    pub to_op: Op,
    /// No revision above this one was handed out before.
    pub reserved_revision: i64,
    /// Tells this restore from another that takes the same generation.
    pub token: String,
}

/// The file, as YAML. `members` are those that the replica is told of: all that a lineage begins with, or the voters
/// now. `restored` is the same for all replicas of a generation that began so, at each of their starts.
///
/// # Errors
/// When `memory.stateLimit` is no amount.
pub fn configuration(
    cluster: &VRCluster,
    lineage: &Lineage,
    generation: Generation,
    member: &Member,
    members: &[Member],
    start: &Start,
    restored: Option<&Restored>,
) -> Result<String, NoQuantity> {
    let spec = &cluster.spec;
    let naming = Naming::of(cluster);
    let plain = speaks_plainly(cluster);
    let told = |m: &Member| {
        json!({
            "id": m.id.0,
            "domain": m.zone.0,
            "peer": naming.peer_address(m.slot),
            "client": naming.client_url(m.slot),
        })
    };
    let any = |port: u16| format!("0.0.0.0:{port}");
    let mut file = json!({
        "lineage": lineage.0,
        "generation": generation.0,
        "replicaId": member.id.0,
        "initial": match start {
            Start::Bootstrap(_) | Start::Restore(_) => "bootstrap",
            Start::Join => "join",
            Start::Resume(_) => "resume",
        },
        "members": members.iter().map(told).collect::<Vec<_>>(),
        "clientAddress": any(CLIENT_PORT),
        "peerAddress": any(PEER_PORT),
        "adminAddress": any(ADMIN_PORT),
        "controlAddress": any(CONTROL_PORT),
        "memoryLimitBytes": bytes(&spec.memory.state_limit)?,
        "logFormat": "json",
        "tls": tls(plain, spec.tls.as_ref().is_some_and(|tls| tls.secret_ref.is_some())),
        "tiers": tiers(cluster),
        "restore": restored.map(|from| json!({
            "fromGeneration": from.generation.0,
            "checkpoint": from.checkpoint.0,
            "root": from.root,
            "toOp": from.to_op.0,
            "reservedRevision": from.reserved_revision,
            "token": from.token,
        })),
    });
    // What is absent has the replica's default.
    prune(&mut file);
    // The same text in every build: whether a map keeps its order is a switch that any dependency may turn.
    file.sort_all_objects();
    Ok(serde_yaml::to_string(&file).expect("JSON is always YAML"))
}

fn tls(plain: bool, given: bool) -> Value {
    let (cert, key) = (format!("{CERTIFICATES}/tls.crt"), format!("{CERTIFICATES}/tls.key"));
    let ca = format!("{CERTIFICATES}/ca.crt");
    // The control port never speaks plainly: whoever reaches it could take the cluster over.
    let control = json!({"certFile": cert, "keyFile": key, "clientCaFile": ca});
    if plain {
        return json!({"control": control});
    }
    json!({
        "client": {"certFile": cert, "keyFile": key},
        // One certificate for all can name none of them: whoever its authority signs for is a peer.
        "peer": {"certFile": cert, "keyFile": key, "caFile": ca, "identity": given.then_some("authority")},
        "control": control,
    })
}

fn tiers(cluster: &VRCluster) -> Value {
    let storage = &cluster.spec.storage;
    let policy = cluster.spec.checkpoint.as_ref();
    let every = |given: Option<i32>, default: i64| format!("{}s", given.map_or(default, i64::from));
    let nvme = storage.nvme.as_ref().map(|_| {
        json!({
            "path": NVME,
            "checkpointInterval": every(policy.and_then(|p| p.nvme_interval_seconds), 30),
            "rateLimitBytes": policy.and_then(|p| p.nvme_rate_limit_bytes),
        })
    });
    let volume = storage.volume.as_ref().map(|_| {
        json!({
            "path": VOLUME,
            "checkpointInterval": every(policy.and_then(|p| p.volume_interval_seconds), 60),
            "rateLimitBytes": policy.and_then(|p| p.volume_rate_limit_bytes),
        })
    });
    let bucket = &storage.object_store;
    json!({
        "onLag": policy.and_then(|p| p.on_lag).map(|on_lag| match on_lag {
            OnLag::Alert => "alert",
            OnLag::Throttle => "throttle",
            OnLag::Block => "block",
        }),
        "nvme": nvme,
        "volume": volume,
        "objectStore": {
            "bucket": bucket.bucket,
            "prefix": bucket.prefix,
            "region": bucket.region,
            "endpoint": bucket.endpoint,
            // Only AWS has a host name for every bucket.
            "pathStyle": bucket.endpoint.as_ref().map(|_| true),
            "kmsKeyId": bucket.kms_key_id,
            "checkpointInterval": every(policy.and_then(|p| p.object_store_interval_seconds), SHIPPING),
            "rateLimitBytes": policy.and_then(|p| p.object_store_rate_limit_bytes),
            "keep": policy.and_then(|p| p.keep_last).unwrap_or(3),
            "keepHourly": policy.and_then(|p| p.keep_hours).unwrap_or(24),
        },
    })
}

fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(prune);
    }
}
