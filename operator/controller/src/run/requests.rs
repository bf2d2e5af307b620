//! The recoveries that people acknowledge; of what this version does not do it says so.

use super::subject::means;
use super::world::World;
use crate::ids::Moment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use vr_api::{Phase, VRCluster, VRRestore, VRRestoreStatus};

/// The nonces that are acknowledged for a cluster.
pub(super) fn acknowledged(world: &World, cluster: &VRCluster) -> BTreeSet<String> {
    let ours = world.restores.iter().filter(|r| {
        means(&r.metadata, &r.spec.cluster_ref, cluster) && r.metadata.deletion_timestamp.is_none()
    });
    ours.filter_map(|restore| restore.spec.plan_nonce.clone()).collect()
}

/// Whether [`answer`] would write something.
pub(super) fn unanswered(world: &World) -> bool {
    world.restores.iter().any(|restore| restore.status.as_ref() != Some(&restoring(world, restore)))
}

/// Answers those that changed.
pub(super) async fn answer(client: &Client, world: &World) {
    for restore in &world.restores {
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
    let finished = ["Succeeded", "Refused"];
    if status.phase.as_deref().is_some_and(|phase| finished.contains(&phase)) {
        return status;
    }
    let cluster = world.clusters.iter().find(|c| means(&restore.metadata, &restore.spec.cluster_ref, c));
    let known = cluster.and_then(|c| c.status.as_ref());
    let running = known.and_then(|s| s.operation.as_ref()).filter(|o| o.kind == "Recover");
    let named = known.and_then(|s| s.recovery_plan.as_ref()).map(|plan| &plan.nonce);
    let begun = status.generation.is_some();
    let (phase, says) = if restore.spec.target.is_some() {
        (
            "Refused",
            "spec.target: this version of the operator recovers lost clusters and rolls no healthy one back",
        )
    } else if cluster.is_none() {
        ("Pending", "there is no such VRCluster")
    } else if named.is_some() && named == restore.spec.plan_nonce.as_ref() {
        match running.map(|o| o.step.as_str()) {
            Some("Fencing") => ("Fencing", "everything older is shut out"),
            Some("Ending") => ("Fencing", "what runs of the old generation ends"),
            Some("Volumes") => ("Loading", "the volumes are made ready"),
            Some("Confirming" | "Planned") | None => ("Pending", "the plan is acknowledged"),
            Some(_) => ("Forming", "the replicas load the state and form"),
        }
    } else if begun {
        ("Succeeded", "the cluster serves again")
    } else {
        ("Pending", "planNonce is not the nonce of the cluster's status.recoveryPlan now")
    };
    if ["Fencing", "Loading", "Forming"].contains(&phase) {
        status.generation = known.and_then(|s| s.lineage.as_ref()).map(|lineage| lineage.generation);
    }
    if phase == "Succeeded" {
        status.data_loss = known.and_then(|s| s.data_loss.clone());
        status.op = status.data_loss.as_ref().map(|loss| loss.kept_op);
    }
    if status.phase.as_deref() != Some(phase) {
        status.phase = Some(phase.to_owned());
        status.phases.push(Phase { name: phase.to_owned(), began_at: world.at.text() });
    }
    let done = phase == "Succeeded";
    status.conditions = vec![condition("Ready", &status.conditions, done, phase, says, world.at)];
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
