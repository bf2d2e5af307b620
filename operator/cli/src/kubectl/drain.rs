//! `kubectl vr drain-check`: whether a node may be drained now.

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use vr_api::VRCluster;

use super::{Place, Said, or_dash, refused};
use crate::output::{table, trimmed};

const CLUSTER: &str = "vr-operator.io/cluster";

/// Says whether a node can be drained without an outage of any cluster
///
/// Looks at the replicas on the node, in all namespaces. Exit status 1 if one of them should stay for now.
#[derive(Debug, Args)]
pub(super) struct DrainCheck {
    /// The node
    node: String,
}

impl DrainCheck {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let pods: Api<Pod> = Api::all(place.client.clone());
        let there = ListParams::default().labels(CLUSTER).fields(&format!("spec.nodeName={}", self.node));
        let there = pods.list(&there).await.map_err(|error| refused(error, "pods cannot be listed"))?;
        if there.items.is_empty() {
            return Ok(format!("no replica is on node {}: it may be drained", self.node).into());
        }
        let mut rows = table(["NAMESPACE", "POD", "ROLE", "MAY BE LOST", "EVICTIONS", "VERDICT"]);
        let mut good = true;
        for pod in &there.items {
            let namespace = pod.namespace().unwrap_or_default();
            let name = pod.labels().get(CLUSTER).cloned().unwrap_or_default();
            let clusters: Api<VRCluster> = Api::namespaced(place.client.clone(), &namespace);
            let cluster = clusters.get_opt(&name).await;
            let cluster =
                cluster.map_err(|error| refused(error, &format!("VRCluster {name} cannot be read")))?;
            let budgets: Api<PodDisruptionBudget> = Api::namespaced(place.client.clone(), &namespace);
            let budget = budgets.get_opt(&name).await;
            let budget = budget
                .map_err(|error| refused(error, &format!("PodDisruptionBudget {name} cannot be read")))?;
            let allowed = budget.and_then(|b| b.status).map(|s| s.disruptions_allowed);
            let status = cluster.and_then(|c| c.status);
            let tolerance = status.as_ref().and_then(|s| s.fault_tolerance);
            let leads = status
                .as_ref()
                .and_then(|s| s.primary.as_ref())
                .is_some_and(|p| p.pod_name == pod.name_any());
            let verdict = match (tolerance, allowed) {
                (Some(1..), Some(1..)) if leads => "may go; hands the primary over first",
                (Some(1..), Some(1..)) => "may go",
                (Some(1..), _) => "wait: its budget allows no eviction now",
                (Some(_), _) => "wait: no replica may be lost now",
                (None, _) => "wait: how its cluster is is not known",
            };
            good &= verdict.starts_with("may go");
            rows.add_row([
                namespace,
                pod.name_any(),
                (if leads { "primary" } else { "backup" }).to_owned(),
                or_dash(tolerance),
                or_dash(allowed),
                verdict.to_owned(),
            ]);
        }
        let end = if good {
            format!(
                "node {} may be drained: kubectl drain {} --ignore-daemonsets --delete-emptydir-data",
                self.node, self.node
            )
        } else {
            format!("node {} should not be drained now; a drain would wait for the budgets", self.node)
        };
        Ok(Said { text: format!("{}\n\n{end}", trimmed(&rows)), good })
    }
}
