//! The recoveries that people acknowledge. Roll-backs are in `rollbacks.rs`.

use super::subject::means;
use super::world::World;
use crate::ids::{Moment, Op};
use crate::rollback;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use vr_api::{VRCluster, VRRestore, VRRestoreStatus};

/// The nonces that are acknowledged for a cluster.
pub(super) fn acknowledged(world: &World, cluster: &VRCluster) -> BTreeSet<String> {
    let ours = world.restores.iter().filter(|r| {
        means(&r.metadata, &r.spec.cluster_ref, cluster) && r.metadata.deletion_timestamp.is_none()
    });
    ours.filter_map(|restore| restore.spec.plan_nonce.clone()).collect()
}

/// Whether [`answer`] would write something.
pub(super) fn unanswered(world: &World) -> bool {
    recoveries(world).any(|restore| restore.status.as_ref() != Some(&restoring(world, restore)))
}

fn recoveries(world: &World) -> impl Iterator<Item = &VRRestore> {
    world.restores.iter().map(|restore| &**restore).filter(|restore| restore.spec.target.is_none())
}

/// Answers those that changed.
pub(super) async fn answer(client: &Client, world: &World) {
    for restore in recoveries(world) {
        let status = restoring(world, restore);
        if restore.status.as_ref() != Some(&status) {
            let (name, namespace) = (restore.metadata.name.as_deref(), restore.metadata.namespace.as_deref());
            let api: Api<VRRestore> = Api::namespaced(client.clone(), namespace.unwrap_or_default());
            put(&api, name.unwrap_or_default(), json!({"status": status})).await;
        }
    }
}

async fn put<K>(api: &Api<K>, name: &str, status: serde_json::Value)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await {
        tracing::warn!(name, error = %error, "a status could not be written");
    }
}

fn restoring(world: &World, restore: &VRRestore) -> VRRestoreStatus {
    let mut status = restore.status.clone().unwrap_or_default();
    if rollback::over(&status) {
        return status;
    }
    let cluster = world.clusters.iter().find(|c| means(&restore.metadata, &restore.spec.cluster_ref, c));
    let known = cluster.and_then(|c| c.status.as_ref());
    let running = known.and_then(|s| s.operation.as_ref()).filter(|o| o.kind == "Recover");
    let named = known.and_then(|s| s.recovery_plan.as_ref()).map(|plan| &plan.nonce);
    let begun = status.generation.is_some();
    let says = |phase: &'static str, text: &str| (phase, text.to_owned());
    let (phase, says) = if cluster.is_none() {
        says("Pending", "there is no such VRCluster")
    } else if named.is_some() && named == restore.spec.plan_nonce.as_ref() {
        match running.map(|o| o.step.as_str()) {
            Some("Confirming" | "Planned") | None => says("Pending", "the plan is acknowledged"),
            Some(step) => rollback::progress(step),
        }
    } else if begun {
        let reaches = known.and_then(|s| s.tiers.iter().find(|t| t.name == "objectStore")?.op);
        let reaches = reaches.and_then(|op| u64::try_from(op).ok()).map(Op);
        let kept = known.and_then(|s| s.data_loss.as_ref()).map_or(0, |loss| loss.kept_op);
        rollback::shipped(reaches, kept)
    } else {
        says("Pending", "planNonce is not the nonce of the cluster's status.recoveryPlan now")
    };
    if ["Fencing", "Loading", "Forming"].contains(&phase) {
        status.generation = known.and_then(|s| s.lineage.as_ref()).map(|lineage| lineage.generation);
    }
    if phase == "Succeeded" {
        status.data_loss = known.and_then(|s| s.data_loss.clone());
        status.op = status.data_loss.as_ref().map(|loss| loss.kept_op);
    }
    rollback::enter(&mut status, phase, world.at);
    let done = phase == "Succeeded";
    status.conditions = vec![condition("Ready", &status.conditions, done, phase, &says, world.at)];
    status
}

/// A condition, with the time since when it is so.
pub(super) fn condition(
    kind: &str,
    before: &[Condition],
    fact: bool,
    reason: &str,
    says: &str,
    now: Moment,
) -> Condition {
    let text = if fact { "True" } else { "False" };
    let same = before.iter().find(|c| c.type_ == kind && c.status == text);
    let at = k8s_openapi::jiff::Timestamp::from_second(now.0).unwrap_or_default();
    Condition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message: says.to_owned(),
        observed_generation: None,
        last_transition_time: same.map_or(Time(at), |c| c.last_transition_time.clone()),
    }
}
