//! `kubectl vr status`: the page that one reads at 3 a.m. First what is wrong and what to type next, then the rest.

use std::fmt::Write as _;

use clap::Args;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use vr_api::{VRCluster, VRClusterStatus};

use super::{Place, Said, or_dash, refused};
use crate::output::{table, trimmed};

/// Shows how a cluster is, what is wrong, and what to type next
///
/// Without a name: the only cluster of the namespace, or a list. Exit status 1 if a cluster that is shown is not Ready.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The VRCluster
    name: Option<String>,

    /// List the clusters of all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
}

/// Conditions that are False when all is well.
const USUALLY_FALSE: [&str; 3] = ["Progressing", "Degraded", "Paused"];

impl Status {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        if let Some(name) = &self.name {
            return Ok(page(place, &place.cluster(name).await?));
        }
        let api: Api<VRCluster> =
            if self.all_namespaces { Api::all(place.client.clone()) } else { place.clusters() };
        let found = api.list(&ListParams::default()).await;
        let found = found.map_err(|error| refused(error, "VRClusters cannot be listed"))?.items;
        match &found[..] {
            [] => anyhow::bail!(
                "there is no VRCluster in {}",
                if self.all_namespaces {
                    "any namespace".to_owned()
                } else {
                    format!("namespace {}", place.namespace)
                }
            ),
            [one] if !self.all_namespaces => Ok(page(place, one)),
            many => Ok(list(many)),
        }
    }
}

fn list(clusters: &[VRCluster]) -> Said {
    let mut rows = table(["NAMESPACE", "NAME", "READY", "PRIMARY", "TOLERATES", "STATUS"]);
    let mut good = true;
    for cluster in clusters {
        let status = cluster.status.clone().unwrap_or_default();
        good &= ready(&status).is_some_and(|c| c.status == "True");
        rows.add_row([
            cluster.namespace().unwrap_or_default(),
            cluster.name_any(),
            format!("{}/{}", status.ready_replicas, cluster.spec.replicas),
            or_dash(status.primary.as_ref().map(|p| p.pod_name.clone())),
            or_dash(status.fault_tolerance),
            ready(&status).map_or("Unknown", |c| c.reason.as_str()).to_owned(),
        ]);
    }
    Said { text: trimmed(&rows), good }
}

type Condition = k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn ready(status: &VRClusterStatus) -> Option<&Condition> {
    status.conditions.iter().find(|c| c.type_ == "Ready")
}

/// The page of one cluster.
pub(super) fn page(place: &Place, cluster: &VRCluster) -> Said {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let Some(status) = &cluster.status else {
        let text = format!(
            "VRCluster {namespace}/{name}: the operator has said nothing of it yet\n  next  kubectl get pods -A -l \
             app.kubernetes.io/name=vr-operator"
        );
        return Said { text, good: false };
    };
    let ready = ready(status);
    let mut out = String::new();
    let mut put = |what: &str, says: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {what:<15} {says}");
    };
    if let Some(ready) = ready {
        put("says", ready.message.clone());
        put("since", place.ago(ready.last_transition_time.0));
    }
    put("next", next(place, cluster, status));
    put(
        "replicas",
        format!(
            "{} of {} ready, {}",
            status.ready_replicas,
            cluster.spec.replicas,
            match status.fault_tolerance {
                Some(0) => "the next loss ends the service".to_owned(),
                Some(n) if n > 0 => format!("{n} more may be lost"),
                Some(_) => "too few to serve".to_owned(),
                None => "how many may be lost is not known".to_owned(),
            }
        ),
    );
    put(
        "primary",
        status.primary.as_ref().map_or_else(
            || "none".to_owned(),
            |p| {
                let zone = p.zone.as_deref().unwrap_or("?");
                let since = place.ago_text(p.since.as_deref());
                format!("{}, replica {}, zone {zone}, for {since}", p.pod_name, p.id)
            },
        ),
    );
    if let Some(operation) = &status.operation {
        let overdue = operation.deadline.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let overdue = overdue.is_some_and(|at| at < place.now);
        let replica = operation.replica.map(|id| format!(" of replica {id}")).unwrap_or_default();
        let since = place.ago_text(Some(&operation.started_at));
        let stuck = if overdue { ", OVERDUE" } else { "" };
        put("doing", format!("{}{replica}: {}, for {since}{stuck}", operation.kind, operation.step));
    }
    if let Some(point) = &status.recovery_point {
        let age = place.ago_text(Some(&point.time));
        put("recovery point", format!("op {} on {}, {age} old", point.op, point.tier));
    }
    if let Some(loss) = &status.data_loss {
        let (operations, seconds) = (or_dash(loss.operations), or_dash(loss.seconds));
        put("last recovery", format!("kept op {}, lost {operations} operations, {seconds} s", loss.kept_op));
    }
    if let Some(lineage) = &status.lineage {
        let (epoch, view) = (or_dash(status.epoch), or_dash(status.view));
        put(
            "lineage",
            format!("{}, generation {}, epoch {epoch}, view {view}", lineage.id, lineage.generation),
        );
    }
    if status.observed_generation < cluster.metadata.generation {
        put("note", "the operator has not looked at the newest change of the spec yet".to_owned());
    }
    if !status.replica_statuses.is_empty() {
        let mut rows = table(["REPLICA", "POD", "ZONE", "ROLE", "STATE", "OP", "COMMIT", "HEARD"]);
        for replica in &status.replica_statuses {
            let leads = status.primary.as_ref().is_some_and(|p| p.id == replica.id);
            rows.add_row([
                replica.id.to_string(),
                replica.slot.clone(),
                or_dash(replica.zone.clone()),
                (if leads {
                    "primary"
                } else if replica.voter {
                    "backup"
                } else {
                    "learner"
                })
                .to_owned(),
                replica.state.clone(),
                or_dash(replica.op),
                or_dash(replica.commit),
                place.ago_text(replica.observed_at.as_deref()),
            ]);
        }
        let _ = writeln!(out, "\n{}", trimmed(&rows));
    }
    let odd: Vec<&Condition> = status.conditions.iter().filter(|c| is_odd(c)).collect();
    if !odd.is_empty() {
        let _ = writeln!(out, "\nNot as it should be");
        for condition in odd {
            let since = place.ago(condition.last_transition_time.0);
            let (kind, reason, says) = (&condition.type_, &condition.reason, &condition.message);
            let _ = writeln!(out, "  {kind} is {}, {reason}, for {since}: {says}", condition.status);
        }
    }
    let word = ready.map_or("Unknown", |c| c.reason.as_str());
    let good = ready.is_some_and(|c| c.status == "True");
    Said { text: format!("VRCluster {namespace}/{name}: {word}\n{}", out.trim_end()), good }
}

fn is_odd(condition: &Condition) -> bool {
    let usual = if USUALLY_FALSE.contains(&condition.type_.as_str()) { "False" } else { "True" };
    // Ready is the headline.
    condition.status != usual && condition.type_ != "Ready"
}

/// What to type.
fn next(place: &Place, cluster: &VRCluster, status: &VRClusterStatus) -> String {
    let named = place.named(&cluster.name_any());
    let silent = status.replica_statuses.iter().find(|r| r.voter && r.state == "Unreachable");
    if status.recovery_plan.is_some() {
        format!("kubectl vr plan {named}, then kubectl vr recover {named}")
    } else if cluster.spec.paused {
        format!("the operator is told to do nothing: {}", place.unpause(&cluster.name_any()))
    } else if let Some(replica) = silent {
        format!("kubectl describe pod -n {} {}, then its node", place.namespace, replica.slot)
    } else if ready(status).is_some_and(|c| c.status == "True") {
        "nothing".to_owned()
    } else {
        format!(
            "kubectl get events -n {} --field-selector involvedObject.name={}",
            place.namespace,
            cluster.name_any()
        )
    }
}
