//! `kubectl vr promote` and `fence`: a change of the spec, named by what it is for.

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::json;
use vr_api::{ReplicaStatus, VRCluster};

use super::{Ask, Place, Said, confirmed};

/// Prefers the zone of a replica for the primary; the operator moves it there
///
/// Puts the zone first in spec.placement.preferredZones. The operator moves the primary once the replica has been well
/// for spec.placement.handbackDelaySeconds, and one more may be lost.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The VRCluster
    name: String,

    /// The replica, by its pod or its id
    replica: String,
}

/// Shuts a replica out: the operator replaces it by one with a new id
///
/// Adds its id to spec.fencedReplicas. For a replica that must not come back, whatever its disks say.
#[derive(Debug, Args)]
pub(super) struct Fence {
    /// The VRCluster
    name: String,

    /// The replica, by its pod or its id
    replica: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn member<'c>(cluster: &'c VRCluster, named: &str) -> anyhow::Result<&'c ReplicaStatus> {
    let all = cluster.status.as_ref().map(|status| status.replica_statuses.as_slice()).unwrap_or_default();
    let found = all.iter().find(|r| r.slot == named || r.id.to_string() == named);
    found.ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|r| format!("{} ({})", r.slot, r.id)).collect();
        let known = if known.is_empty() { "none is known".to_owned() } else { known.join(", ") };
        anyhow!("the cluster has no replica {named}: {known}")
    })
}

impl Promote {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let wanted = member(&cluster, &self.replica)?;
        let status = cluster.status.as_ref();
        if status.and_then(|s| s.primary.as_ref()).is_some_and(|p| p.id == wanted.id) {
            return Ok(format!("{} is the primary; nothing was done", wanted.slot).into());
        }
        if !wanted.voter {
            bail!(
                "{} does not vote yet; wait until `kubectl vr status {}` calls it a backup",
                wanted.slot,
                place.named(&self.name)
            );
        }
        let zone = wanted.zone.clone().filter(|zone| !zone.is_empty());
        let zone = zone.ok_or_else(|| {
            anyhow!("{} has no zone, and it is by zones that a primary is placed", wanted.slot)
        })?;
        let others = status.map(|s| s.replica_statuses.as_slice()).unwrap_or_default();
        let shares = others.iter().find(|r| r.voter && r.id != wanted.id && r.zone.as_ref() == Some(&zone));
        if let Some(other) = shares {
            bail!(
                "{} is in zone {zone} as well: the operator chooses between the two, and nobody else",
                other.slot
            );
        }
        let placement = cluster.spec.placement.as_ref();
        let before = placement.map(|p| p.preferred_zones.clone()).unwrap_or_default();
        let mut zones = vec![zone.clone()];
        zones.extend(before.into_iter().filter(|other| *other != zone));
        place.change(&cluster, json!({"spec": {"placement": {"preferredZones": zones}}})).await?;
        let delay = placement.and_then(|p| p.handback_delay_seconds).unwrap_or(300);
        let watch = format!("kubectl get vrc {} -w", place.named(&self.name));
        Ok(format!("zone {zone} is preferred now; the primary goes to {} when that has been well for {delay} s. To watch: {watch}", wanted.slot).into())
    }
}

impl Fence {
    pub(super) async fn run(&self, place: &Place, ask: Ask<'_>) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let wanted = member(&cluster, &self.replica)?;
        let mut fenced = cluster.spec.fenced_replicas.clone();
        if fenced.contains(&wanted.id) {
            return Ok(format!("replica {} is fenced already; nothing was done", wanted.id).into());
        }
        let tolerance = cluster.status.as_ref().and_then(|s| s.fault_tolerance).unwrap_or(-1);
        if !self.yes {
            let warns = if tolerance < 1 { " No other may be lost now: the service may stop." } else { "" };
            let question = format!(
                "Replica {} ({}, {}) never takes part again and is replaced by a new one.{warns}\nType its id to go on: ",
                wanted.id, wanted.slot, wanted.state
            );
            confirmed(&question, &wanted.id.to_string(), "its id", ask)?;
        }
        fenced.push(wanted.id);
        place.change(&cluster, json!({"spec": {"fencedReplicas": fenced}})).await?;
        let status = format!("kubectl vr status {}", place.named(&self.name));
        Ok(format!("replica {} is fenced; the operator replaces it: {status}", wanted.id).into())
    }
}
