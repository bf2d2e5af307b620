//! Named checkpoints: carries out what [`named::decide`] says, and writes down what came of it.
//!
//! The pin is a name in HEAD of the object store, made of the UID of the resource, so that no two resources share one.

use super::act::{exactly, without};
use super::lease::Hold;
use super::requests::condition;
use super::subject::{Subject, means};
use super::world::{self, World, made_at, uid};
use crate::ids::*;
use crate::named::{self, Act, Cluster, Seen};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use vr_api::{LocalReference, VRCheckpoint, VRCheckpointStatus, VRCluster};

/// Holds the resource until its pin is gone.
const FINALIZER: &str = "vr-operator.io/pin";

/// Whether [`see_to`] has anything to do: what is pinned, or cannot be, and stays, needs nothing.
pub(super) fn due(world: &World) -> bool {
    world.checkpoints.iter().any(|checkpoint| {
        let named = |cluster: &VRCluster| means(&checkpoint.metadata, &checkpoint.spec.cluster_ref, cluster);
        let cluster = world.clusters.iter().any(|cluster| named(cluster)).then(Cluster::default);
        let next = named::decide(&seen(checkpoint, cluster), world.at);
        !settled(checkpoint, &next)
    })
}

fn ready(checkpoint: &VRCheckpoint) -> Option<(&str, &str)> {
    let conditions =
        checkpoint.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.map(|ready| (ready.reason.as_str(), ready.message.as_str()))
}

/// Nothing is to be done, and what is to be said is said. What has failed has failed for good.
fn settled(checkpoint: &VRCheckpoint, next: &named::Next) -> bool {
    let failed = ready(checkpoint).is_some_and(|(reason, _)| reason == "Failed");
    match (next.act, &next.says) {
        (Some(Act::Pin(_) | Act::Cut | Act::Hold), _) => failed,
        (Some(_), _) => false,
        (None, Some(says)) => says.reason != "Taking" && ready(checkpoint) == Some((says.reason, &says.text)),
        (None, None) => true,
    }
}

fn seen(checkpoint: &VRCheckpoint, cluster: Option<Cluster>) -> Seen<'_> {
    let status = checkpoint.status.as_ref();
    let asked = status.and_then(|status| u64::try_from(status.asked_op?).ok());
    Seen {
        spec: &checkpoint.spec,
        asked: asked.map(Op),
        pinned: status.is_some_and(|status| status.manifest.is_some()),
        made: made_at(&checkpoint.metadata),
        held: checkpoint.finalizers().iter().any(|name| name == FINALIZER),
        deleting: checkpoint.metadata.deletion_timestamp.is_some(),
        cluster,
    }
}

/// Sees to all of them, each by one act.
pub(super) async fn see_to<'a>(
    client: &Client,
    hold: Hold,
    world: &World,
    of: impl Fn(&ObjectMeta, &LocalReference) -> Option<Subject<'a>>,
) {
    let each = world.checkpoints.iter().map(|checkpoint| {
        let about = of(&checkpoint.metadata, &checkpoint.spec.cluster_ref);
        async move {
            if let Err(error) = go_on(client, hold, checkpoint, about).await {
                tracing::info!(
                    checkpoint = checkpoint.name_any(),
                    error = format!("{error:#}"),
                    "decided anew"
                );
            }
        }
    });
    futures_util::future::join_all(each).await;
}

async fn go_on(
    client: &Client,
    hold: Hold,
    checkpoint: &VRCheckpoint,
    about: Option<Subject<'_>>,
) -> anyhow::Result<()> {
    let now = world::now();
    let cluster = about.as_ref().map(|about| Cluster {
        commit: about.slots.said().map(|said| said.commit).max(),
        stored: about.slots.said().map(|said| said.stored).max(),
        paused: about.cluster.spec.paused,
    });
    let next = named::decide(&seen(checkpoint, cluster), now);
    if settled(checkpoint, &next) {
        return Ok(());
    }
    let api: Api<VRCheckpoint> = Api::namespaced(client.clone(), &checkpoint.namespace().unwrap_or_default());
    let mut status = checkpoint.status.clone().unwrap_or_default();
    status.asked_op = next.asked.map(Op::signed);
    let mut says = next.says.map(|says| (says.reason, says.text));
    if let Some(act) = next.act {
        match carry_out(&api, hold, checkpoint, about.as_ref(), act).await {
            Ok(None) if matches!(act, Act::Cut) => {}
            // The resource is another one now.
            Ok(None) => return Ok(()),
            Ok(Some(pinned)) => {
                status = VRCheckpointStatus { asked_op: status.asked_op, ..pinned };
                says = Some((
                    "Pinned",
                    "no rule of retention lets go of it while this resource exists".to_owned(),
                ));
            }
            Err(Problem::ForGood(why)) => says = Some(("Failed", why)),
            Err(Problem::ForNow(error)) => says = Some(("Taking", format!("{error:#}"))),
        }
    }
    if let Some((reason, text)) = says {
        let before = status.conditions.clone();
        status.conditions = vec![condition("Ready", &before, reason == "Pinned", reason, &text, now)];
    }
    if checkpoint.status.as_ref() != Some(&status) {
        let next = VRCheckpoint { status: Some(status), ..checkpoint.clone() };
        api.replace_status(&checkpoint.name_any(), &PostParams::default(), &next).await?;
    }
    Ok(())
}

/// Why something was not done.
enum Problem {
    /// It will not be otherwise later.
    ForGood(String),
    ForNow(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Problem {
    fn from(error: E) -> Problem {
        Problem::ForNow(error.into())
    }
}

async fn carry_out(
    api: &Api<VRCheckpoint>,
    hold: Hold,
    checkpoint: &VRCheckpoint,
    about: Option<&Subject<'_>>,
    act: Act,
) -> Result<Option<VRCheckpointStatus>, Problem> {
    let (meta, name) = (&checkpoint.metadata, checkpoint.name_any());
    let pin = format!("vrcheckpoint-{}", meta.uid.as_deref().unwrap_or_default());
    let about = about.ok_or_else(|| anyhow::anyhow!("the VRCluster is gone"));
    let place = |about: &Subject<'_>| {
        let (lineage, _) =
            about.lineage().ok_or_else(|| anyhow::anyhow!("the cluster has no lineage yet"))?;
        anyhow::Ok((about.bucket()?.clone(), lineage))
    };
    let how = PatchParams::default();
    match act {
        Act::Hold => {
            let names: Vec<_> =
                checkpoint.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect();
            let version = &meta.resource_version;
            let change =
                json!({"metadata": {"uid": meta.uid, "resourceVersion": version, "finalizers": names}});
            api.patch(&name, &how, &Patch::Merge(&change)).await?;
        }
        Act::LetGo => drop(api.patch(&name, &how, &Patch::Merge(&without(meta, FINALIZER))).await?),
        Act::Delete => drop(api.delete(&name, &exactly(&uid(meta))).await?),
        Act::Cut => about?.slots.cut(hold.token).await?,
        Act::Pin(fit) => {
            let (bucket, lineage) = place(about?)?;
            let retained = bucket.retained(&lineage).await?;
            let Some(chosen) = retained.iter().rfind(|kept| fit.takes(kept.op)) else {
                let oldest = retained.first().map_or_else(
                    || "it holds none".to_owned(),
                    |oldest| format!("the oldest that is kept is of op {}", oldest.op),
                );
                let why = format!("no checkpoint of {fit} is in the object store: {oldest}");
                return Err(Problem::ForGood(why));
            };
            return bucket.pin(&lineage, &pin, chosen.op).await.map(Some).map_err(Problem::ForNow);
        }
        Act::Unpin => {
            let (bucket, lineage) = place(about?)?;
            bucket.unpin(&lineage, &pin).await?;
            api.patch(&name, &how, &Patch::Merge(&without(meta, FINALIZER))).await?;
        }
    }
    Ok(None)
}
