//! What people are told: the status of the resource, with the version that it was read at, and events.

use crate::report;
use crate::step::Step;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::Resource as _;
use kube::api::{Api, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use vr_api::{VRCluster, VRClusterStatus, VRRestore};

/// The longest action that the API server takes.
const ACTION: usize = 128;

/// Tells.
#[derive(Clone)]
pub(super) struct Teller {
    client: Client,
    recorder: Recorder,
}

impl Teller {
    pub(super) fn new(client: Client, who: String) -> Teller {
        let reporter = Reporter { controller: "vr-operator".to_owned(), instance: Some(who) };
        Teller { recorder: Recorder::new(client.clone(), reporter), client }
    }

    /// Writes a status that has changed, and an event if what it says in one word has.
    pub(super) async fn status(&self, cluster: &VRCluster, status: &VRClusterStatus) -> anyhow::Result<()> {
        let meta = &cluster.metadata;
        let (name, namespace) =
            (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
        let api: Api<VRCluster> = Api::namespaced(self.client.clone(), namespace);
        let mut next = cluster.clone();
        next.status = Some(status.clone());
        api.replace_status(name, &PostParams::default(), &next).await?;
        let ready = |s: &VRClusterStatus| {
            s.conditions.iter().find(|c| c.type_ == "Ready").map(|c| (c.status.clone(), c.reason.clone()))
        };
        if cluster.status.as_ref().and_then(ready) != ready(status)
            && let Some(now) = status.conditions.iter().find(|c| c.type_ == "Ready")
        {
            let grave = ["QuorumLost", "TotalLoss", "Superseded", "ForeignLineage", report::BLOCKED];
            self.event(cluster, grave.contains(&now.reason.as_str()), &now.reason, &now.message).await;
        }
        Ok(())
    }

    /// A step was carried out, or not.
    pub(super) async fn step(&self, cluster: &VRCluster, step: &Step, failed: Option<&anyhow::Error>) {
        match failed {
            None => self.event(cluster, false, "Step", &step.to_string()).await,
            Some(error) => self.event(cluster, true, "StepFailed", &format!("{step}: {error:#}")).await,
        }
    }

    /// A roll-back has come to another phase.
    pub(super) async fn phase(&self, restore: &VRRestore, phase: &str, says: &str) {
        let warns = matches!(phase, "Failed" | "Refused");
        self.publish(restore.object_ref(&()), warns, phase, says).await;
    }

    /// The authority of a cluster was changed.
    pub(super) async fn turn(&self, cluster: &VRCluster, says: &str) {
        self.event(cluster, false, "Authority", says).await;
    }

    async fn event(&self, cluster: &VRCluster, warns: bool, reason: &str, note: &str) {
        self.publish(cluster.object_ref(&()), warns, reason, note).await;
    }

    /// Events are for people; one that cannot be written stops nothing.
    async fn publish(&self, object: ObjectReference, warns: bool, reason: &str, note: &str) {
        let type_ = if warns { EventType::Warning } else { EventType::Normal };
        let mut note = note.to_owned();
        if note.len() > 1000 {
            note.truncate(note.floor_char_boundary(1000));
        }
        // Events that agree in everything but the note are counted as one, and only the first note is kept.
        let action = note[..note.floor_char_boundary(ACTION)].to_owned();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        if let Err(error) = self.recorder.publish(&event, &object).await {
            tracing::debug!(error = %error, "an event could not be written");
        }
    }
}
