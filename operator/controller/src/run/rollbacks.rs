//! Roll-backs: looks at what one has made, carries out what [`rollback::decide`] says, and writes down what came of it.
//!
//! A status is written with the version that it was read at: of two operators the slower one is refused, and decides
//! anew. The generation that a roll-back begins is on its record before the cluster's plan is shown it.

use super::drills;
use super::requests::condition;
use super::subject::{Subject, means};
use super::tell::Teller;
use super::world::{World, made_at};
use crate::drill::Copy;
use crate::ids::*;
use crate::objects::{self, RESTORE_LABEL, SEARCH};
use crate::rollback::{self, Act, Cluster, Named, Seen};
use crate::snapshot::{Find, Rollback, State};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use vr_api::{LocalReference, RestoreTarget, VRCheckpoint, VRCluster, VRRestore};
use vr_checkpoint::format::Names;

/// Whether [`see_to`] has anything to do.
pub(super) fn due(world: &World) -> bool {
    ours(world).next().is_some()
}

/// Those that are not over, with their targets.
fn ours(world: &World) -> impl Iterator<Item = (&VRRestore, &RestoreTarget)> {
    let open = world.restores.iter().filter(|restore| {
        restore.metadata.deletion_timestamp.is_none() && !restore.status.as_ref().is_some_and(rollback::over)
    });
    open.filter_map(|restore| Some((&**restore, restore.spec.target.as_ref()?)))
}

fn nonce(restore: &VRRestore) -> String {
    restore.metadata.uid.clone().unwrap_or_default()
}

/// The one that a cluster is to carry out now: its target is found and held, and its generation on record.
pub(super) fn ordered(world: &World, cluster: &VRCluster) -> Option<Rollback> {
    let of = ours(world).filter(|(r, _)| means(&r.metadata, &r.spec.cluster_ref, cluster));
    of.map(|(restore, _)| restore).find_map(|restore| {
        let status = restore.status.as_ref().filter(|status| status.phase.as_deref() == Some("Fencing"))?;
        let found = status.located.as_ref()?;
        Some(Rollback {
            restore: restore.name_any(),
            nonce: nonce(restore),
            generation: Generation(u64::try_from(status.generation?).ok()?),
            target: Find {
                source: rollback::candidate(found),
                op: Op(u64::try_from(found.op).ok()?),
                time: Moment::parse(&found.time),
                flaw: None,
            },
        })
    })
}

/// Sees to all of them, each by one act.
pub(super) async fn see_to<'a>(
    client: &Client,
    world: &World,
    teller: &Teller,
    of: impl Fn(&ObjectMeta, &LocalReference) -> Option<Subject<'a>>,
) {
    let each = ours(world).map(|(restore, target)| {
        let about = of(&restore.metadata, &restore.spec.cluster_ref);
        async move {
            if let Err(error) = go_on(client, world, teller, (restore, target), about).await {
                let (restore, error) = (restore.name_any(), format!("{error:#}"));
                tracing::info!(restore, error, "it is decided anew");
            }
        }
    });
    futures_util::future::join_all(each).await;
}

async fn go_on(
    client: &Client,
    world: &World,
    teller: &Teller,
    (restore, target): (&VRRestore, &RestoreTarget),
    about: Option<Subject<'_>>,
) -> anyhow::Result<()> {
    let before = restore.status.clone().unwrap_or_default();
    let seen = Seen {
        spec: &restore.spec,
        target,
        before: &before,
        nonce: nonce(restore),
        cluster: about.as_ref().map(of_cluster),
        behind: behind(world, restore),
        named: target
            .checkpoint_ref
            .as_ref()
            .map_or(Named::Absent, |named| checkpoint(world, restore, &named.name, |_| true)),
        search: look(client, restore).await.ok(),
        held: checkpoint(world, restore, &objects::search_name(restore), |meta| mine(meta, restore)),
    };
    let (mut status, (phase, mut says), act) = rollback::decide(&seen, world.at);
    if let Some(act) = act {
        match carry_out(client, world, (restore, target), about.as_ref(), act).await {
            Ok(()) => tracing::info!(restore = restore.name_any(), ?act, "done"),
            Err(error) => says = format!("{error:#}"),
        }
    }
    if phase == "Succeeded" {
        let known = about.as_ref().and_then(|about| about.cluster.status.as_ref());
        status.data_loss = known.and_then(|known| known.data_loss.clone());
        status.op = status.located.as_ref().map(|found| found.op);
    }
    let well = phase == "Succeeded";
    status.conditions = vec![condition("Ready", &before.conditions, well, phase, &says, world.at)];
    if status == before {
        return Ok(());
    }
    let api: Api<VRRestore> = Api::namespaced(client.clone(), &restore.namespace().unwrap_or_default());
    let mut next = restore.clone();
    let entered = status.phase != before.phase;
    next.status = Some(status);
    api.replace_status(&restore.name_any(), &PostParams::default(), &next).await?;
    if entered {
        teller.phase(restore, phase, &says).await;
    }
    Ok(())
}

fn of_cluster(about: &Subject<'_>) -> Cluster {
    let said = || about.slots.said();
    let tiers = said().flat_map(|said| &said.tiers);
    let status = about.cluster.status.as_ref();
    let running = status.and_then(|s| s.operation.as_ref()).filter(|o| o.kind == "Recover");
    let plan = status.and_then(|s| s.recovery_plan.as_ref());
    let generation = about.lineage().map(|(_, generation)| generation);
    Cluster {
        lineage: about.lineage(),
        restored_from: status.and_then(|s| s.lineage.as_ref()?.restored_from.clone()),
        commit: said().filter(|said| said.state == State::Normal).map(|said| said.commit).max(),
        // What an older generation has shipped says nothing of this one.
        reaches: tiers
            .filter(|t| t.name == "objectStore" && t.holds)
            .map(|tier| tier.reaches)
            .max()
            .filter(|_| said().all(|said| Some(said.generation) == generation)),
        recovering: running.map(|o| (plan.map(|p| p.nonce.clone()).unwrap_or_default(), o.step.clone())),
        paused: about.cluster.spec.paused,
        deleting: about.cluster.metadata.deletion_timestamp.is_some(),
    }
}

/// The oldest roll-back of the same cluster that is not over, if that is another one.
fn behind(world: &World, restore: &VRRestore) -> Option<String> {
    let same = ours(world).map(|(other, _)| other).filter(|other| {
        other.metadata.namespace == restore.metadata.namespace
            && other.spec.cluster_ref == restore.spec.cluster_ref
    });
    let oldest = same.min_by_key(|other| (made_at(&other.metadata), other.name_any()))?;
    (oldest.metadata.uid != restore.metadata.uid).then(|| oldest.name_any())
}

fn mine(meta: &ObjectMeta, restore: &VRRestore) -> bool {
    let owners = meta.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == restore.metadata.uid.as_ref())
}

fn find<'a>(world: &'a World, restore: &VRRestore, name: &str) -> Option<&'a VRCheckpoint> {
    let same = |c: &&VRCheckpoint| c.namespace() == restore.namespace() && c.name_any() == name;
    world.checkpoints.iter().map(|checkpoint| &**checkpoint).find(same)
}

/// How a VRCheckpoint is.
fn checkpoint(world: &World, restore: &VRRestore, name: &str, may: impl Fn(&ObjectMeta) -> bool) -> Named {
    let Some(found) = find(world, restore, name) else { return Named::Absent };
    if !may(&found.metadata) {
        return Named::Foreign(format!("VRCheckpoint {name} is there already, and somebody else's"));
    }
    if found.spec.cluster_ref != restore.spec.cluster_ref {
        return Named::Foreign(format!("it is of VRCluster {}", found.spec.cluster_ref.name));
    }
    let status = found.status.clone().unwrap_or_default();
    let failed = status.conditions.iter().find(|c| c.type_ == "Ready" && c.reason == "Failed");
    let whole = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    match (failed, whole(status.op), whole(status.generation)) {
        (Some(failed), ..) => Named::Failed(failed.message.clone()),
        (None, Some(op), Some(generation)) => Named::Pinned(Op(op), Generation(generation)),
        (None, ..) => Named::Taking,
    }
}

async fn look(client: &Client, restore: &VRRestore) -> anyhow::Result<Copy> {
    let namespace = restore.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let label = ListParams::default().labels(&format!("{RESTORE_LABEL}={}", nonce(restore)));
    let name = objects::search_name(restore);
    let found = pods.list(&label).await?.items.into_iter().find(|pod| pod.name_any() == name);
    Ok(match found {
        Some(pod) if !mine(&pod.metadata, restore) => Copy::Foreign(format!("Pod {name}")),
        Some(pod) => drills::state(&pod, SEARCH, "spec.memory.limit of the VRCluster"),
        None => Copy::Absent,
    })
}

async fn carry_out(
    client: &Client,
    world: &World,
    (restore, target): (&VRRestore, &RestoreTarget),
    about: Option<&Subject<'_>>,
    act: Act,
) -> anyhow::Result<()> {
    let namespace = restore.namespace().unwrap_or_default();
    let about = about.ok_or_else(|| anyhow::anyhow!("the VRCluster is gone"))?;
    match act {
        Act::Search => {
            let (lineage, _) =
                about.lineage().ok_or_else(|| anyhow::anyhow!("the cluster has no lineage"))?;
            let named = target.checkpoint_ref.as_ref().and_then(|named| find(world, restore, &named.name));
            let manifest = named.and_then(|c| c.status.as_ref()?.manifest.as_deref());
            let named = manifest.map(|manifest| Names::checkpoint(manifest).to_owned());
            let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
            // First what closes the network, so that there is no moment without.
            let made = objects::search_network_policy(restore, about.cluster);
            match policies.create(&PostParams::default(), &made).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let made = objects::search(restore, target, named, &lineage, about.cluster);
            pods.create(&PostParams::default(), &made).await?;
        }
        Act::Hold => {
            let found = restore.status.as_ref().and_then(|status| status.located.as_ref());
            let found = found.ok_or_else(|| anyhow::anyhow!("nothing is located yet"))?;
            let made = objects::held(restore, about.cluster, found.checkpoint);
            let api: Api<VRCheckpoint> = Api::namespaced(client.clone(), &namespace);
            api.create(&PostParams::default(), &made).await?;
        }
    }
    Ok(())
}
