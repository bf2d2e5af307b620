//! Drills and their schedules: looks at what a drill has made, carries out what [`drill::decide`] and
//! [`schedule::decide`] say, and writes down what came of it.
//!
//! A status is written with the version that it was read at: of two operators the slower one is refused, and decides
//! anew. Everything that is made belongs to the drill, and whatever is deleted is named by its UID.

use super::act::exactly;
use super::canary::Keys;
use super::lease::Hold;
use super::signing;
use super::subject::{Subject, means};
use super::world::{self, World, made_at, uid};
use crate::drill::{self, Act, Cluster, Copy, Replica, Seen};
use crate::ids::*;
use crate::objects::{self, CANARY, DRILL, DRILL_LABEL};
use crate::schedule::{self, Due, Made};
use crate::snapshot::State;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use std::fmt::Write as _;
use std::sync::Arc;
use vr_api::{
    DrillSource, DrillSummary, DrillTarget, Evidence, LocalReference, OnTotalLoss, VRCluster, VRDrill,
    VRDrillSchedule, VRDrillScheduleStatus, VRDrillStatus,
};
use vr_evidence::chain;
use vr_evidence::report::Report;

const SCHEDULE_LABEL: &str = "vr-operator.io/schedule";
/// The longest text of a pod's troubles that goes into a status.
const TROUBLE: usize = 500;

/// Whether [`see_to`] has anything to do.
pub(super) fn due(world: &World) -> bool {
    world.drills.iter().any(|drill| !over(drill))
        || world.schedules.iter().any(|schedule| {
            let due = scheduled(world, schedule);
            due.make.is_some() || !due.delete.is_empty() || told(schedule, &due, world.at) != schedule.status
        })
}

fn over(drill: &VRDrill) -> bool {
    drill.metadata.deletion_timestamp.is_some()
        || drill.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Finished"))
}

/// The drills of the object store of a cluster that have ended. What live drills find says nothing about that.
pub(super) fn ended(world: &World, cluster: &VRCluster) -> Vec<DrillSummary> {
    let of_store = |drill: &&Arc<VRDrill>| {
        !drill.spec.scenario.is_live() && means(&drill.metadata, &drill.spec.cluster_ref, cluster)
    };
    let summary = |drill: &VRDrill| {
        let status = drill.status.as_ref()?;
        Some(DrillSummary {
            name: drill.name_any(),
            result: status.result.clone()?,
            finished_at: status.finished_at.clone()?,
            reason: status.reason.clone(),
            last_passed_at: None,
        })
    };
    world.drills.iter().filter(of_store).filter_map(|drill| summary(drill)).collect()
}

/// Sees to all drills and schedules, one act for each.
pub(super) async fn see_to<'a>(
    client: &Client,
    hold: Hold,
    world: &World,
    of: impl Fn(&ObjectMeta, &LocalReference) -> Option<Subject<'a>>,
) {
    let schedules = world.schedules.iter().map(|schedule| async move {
        if let Err(error) = keep_to(client, world, schedule).await {
            let (schedule, error) = (schedule.name_any(), format!("{error:#}"));
            tracing::info!(schedule, error, "it is decided anew");
        }
    });
    join_all(schedules).await;
    let drills = world.drills.iter().filter(|drill| !over(drill)).map(|drill| {
        let about = of(&drill.metadata, &drill.spec.cluster_ref);
        async move {
            if let Err(error) = go_on(client, hold, world, drill, about).await {
                let (drill, error) = (drill.name_any(), format!("{error:#}"));
                tracing::info!(drill, error, "it is decided anew");
            }
        }
    });
    join_all(drills).await;
}

async fn go_on(
    client: &Client,
    hold: Hold,
    world: &World,
    drill: &VRDrill,
    about: Option<Subject<'_>>,
) -> anyhow::Result<()> {
    let before = drill.status.clone().unwrap_or_default();
    let seen = Seen {
        spec: &drill.spec,
        before: &before,
        made: made_at(&drill.metadata),
        cluster: match &about {
            Some(about) => Some(of_cluster(world, drill, about).await),
            None => None,
        },
        behind: behind(world, drill),
        copy: look(client, drill).await.ok(),
    };
    let (mut status, act) = drill::decide(&seen, world::now());
    if let Some(act) = act {
        match carry_out(client, hold, drill, about.as_ref(), &act, &mut status).await {
            Ok(()) => tracing::info!(drill = drill.name_any(), ?act, "done"),
            Err(error) if status.result.is_none() => status.reason = Some(format!("{error:#}")),
            Err(error) => {
                tracing::warn!(drill = drill.name_any(), ?act, error = format!("{error:#}"), "not done")
            }
        }
    }
    let phase = status.phase.clone().unwrap_or_default();
    let finished = phase == "Finished";
    let reason = if finished { status.result.clone().unwrap_or_default() } else { phase };
    let says = status.reason.clone().unwrap_or_default();
    let held = before.conditions.as_slice();
    status.conditions =
        vec![super::requests::condition("Finished", held, finished, &reason, &says, world.at)];
    if status == before {
        return Ok(());
    }
    let api: Api<VRDrill> = Api::namespaced(client.clone(), &drill.namespace().unwrap_or_default());
    let mut next = drill.clone();
    next.status = Some(status);
    api.replace_status(&drill.name_any(), &PostParams::default(), &next).await?;
    Ok(())
}

async fn of_cluster(world: &World, drill: &VRDrill, about: &Subject<'_>) -> Cluster {
    let said = || about.slots.said();
    let tiers = said().flat_map(|said| &said.tiers);
    let status = about.cluster.status.clone().unwrap_or_default();
    let recovery = about.cluster.spec.recovery.as_ref();
    let uid_of = |name: &str| {
        let namespace = &about.cluster.metadata.namespace;
        let pod =
            world.pods.iter().find(|pod| pod.metadata.namespace == *namespace && pod.name_any() == name)?;
        pod.metadata.uid.clone().filter(|_| pod.metadata.deletion_timestamp.is_none())
    };
    let voters = status.replica_statuses.iter().filter(|replica| replica.voter).map(|replica| Replica {
        id: replica.id,
        incarnation: replica.incarnation.unwrap_or_default(),
        zone: replica.zone.clone().unwrap_or_default(),
        pod_name: replica.slot.clone(),
        pod_uid: uid_of(&replica.slot),
    });
    Cluster {
        lineage: about.lineage(),
        commit: said().filter(|said| said.state == State::Normal).map(|said| said.commit).max(),
        reaches: tiers.filter(|t| t.name == "objectStore" && t.holds).map(|tier| tier.reaches).max(),
        paused: about.cluster.spec.paused,
        whole: status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        primary: status.primary.as_ref().map(|primary| primary.id),
        voters: voters.collect(),
        tolerance: status.fault_tolerance.unwrap_or(-1),
        zone_tolerance: status.zone_fault_tolerance.unwrap_or(-1),
        recovers_alone: recovery.is_some_and(|recovery| recovery.on_total_loss == OnTotalLoss::Automatic),
        probed: probed(drill, about).await,
    }
}

/// Whether the probe has begun; asked only while that matters. What cannot be asked now is asked again.
async fn probed(drill: &VRDrill, about: &Subject<'_>) -> bool {
    let phase = drill.status.as_ref().and_then(|status| status.phase.as_deref());
    if !drill.spec.scenario.is_live() || phase != Some("Preparing") {
        return false;
    }
    let begun = format!("{}begun", objects::probe_prefix(drill));
    match keys(about) {
        Ok(mut keys) => keys.holds(&begun).await.unwrap_or(false),
        Err(_) => false,
    }
}

fn keys<'a>(about: &Subject<'a>) -> anyhow::Result<Keys<'a>> {
    Keys::of(about.slots, objects::speaks_plainly(about.cluster))
}

/// The oldest drill of the same cluster that is not over, if that is another one.
fn behind(world: &World, drill: &VRDrill) -> Option<String> {
    let same = world.drills.iter().filter(|other| {
        !over(other)
            && other.metadata.namespace == drill.metadata.namespace
            && other.spec.cluster_ref == drill.spec.cluster_ref
    });
    let age = |drill: &VRDrill| (made_at(&drill.metadata), drill.name_any());
    let oldest = same.min_by_key(|other| age(other))?;
    (oldest.metadata.uid != drill.metadata.uid).then(|| oldest.name_any())
}

fn mine(meta: &ObjectMeta, drill: &VRDrill) -> bool {
    let owners = meta.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == drill.metadata.uid.as_ref())
}

fn labelled(drill: &VRDrill) -> ListParams {
    ListParams::default().labels(&format!("{DRILL_LABEL}={}", drill.name_any()))
}

/// What there is of a drill.
async fn look(client: &Client, drill: &VRDrill) -> anyhow::Result<Copy> {
    let namespace = drill.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let (labelled, name) = (labelled(drill), objects::copy_name(drill));
    let (pods, policy) = tokio::try_join!(pods.list(&labelled), policies.get_opt(&name))?;
    if let Some(pod) = pods.items.iter().find(|pod| !mine(&pod.metadata, drill)) {
        return Ok(Copy::Foreign(format!("Pod {}", pod.name_any())));
    }
    if let Some(policy) = policy.as_ref().filter(|policy| !mine(&policy.metadata, drill)) {
        return Ok(Copy::Foreign(format!("NetworkPolicy {}", policy.name_any())));
    }
    Ok(match pods.items.first() {
        Some(pod) => state(pod, DRILL, "spec.memoryLimit of the drill"),
        None if policy.is_some() => Copy::Closed,
        None => Copy::Absent,
    })
}

/// How a pod that reads the object store is; `memory` is what bounds its memory.
pub(super) fn state(pod: &Pod, container: &str, memory: &str) -> Copy {
    if pod.metadata.deletion_timestamp.is_some() {
        return Copy::Going(format!("Pod {}", pod.name_any()));
    }
    let Some(status) = &pod.status else { return Copy::Waiting("it is not placed yet".to_owned()) };
    let text = |reason: &Option<String>, message: &Option<String>| {
        let parts: Vec<&str> = [reason, message].into_iter().flatten().map(String::as_str).collect();
        let all = parts.join(": ");
        all[..all.floor_char_boundary(TROUBLE)].to_owned()
    };
    let found = status.container_statuses.iter().flatten().find(|status| status.name == container);
    let state = found.and_then(|status| status.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let mut how = format!("exit status {}", ended.exit_code);
        // Writing to a string cannot fail.
        let _ = ended.reason.iter().try_for_each(|reason| write!(how, ", {reason}"));
        if ended.reason.as_deref() == Some("OOMKilled") {
            let _ = write!(how, "; it needs more memory: raise {memory}");
        }
        let told = ended.message.clone().unwrap_or_default();
        if !told.is_empty() && serde_json::from_str::<Report>(&told).is_err() {
            let _ = write!(how, "; {}", &told[told.ceil_char_boundary(told.len().saturating_sub(TROUBLE))..]);
        }
        return Copy::Ended { told, how };
    }
    if status.phase.as_deref() == Some("Failed") {
        return Copy::Ended { told: String::new(), how: text(&status.reason, &status.message) };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Copy::Running;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let unplaced =
        status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    match (waiting, unplaced) {
        (Some(waiting), _) => Copy::Waiting(text(&waiting.reason, &waiting.message)),
        (None, Some(unplaced)) => Copy::Waiting(text(&unplaced.reason, &unplaced.message)),
        (None, None) => Copy::Waiting("it is not started yet".to_owned()),
    }
}

async fn carry_out(
    client: &Client,
    hold: Hold,
    drill: &VRDrill,
    about: Option<&Subject<'_>>,
    act: &Act,
    status: &mut VRDrillStatus,
) -> anyhow::Result<()> {
    let namespace = drill.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let about = about.ok_or_else(|| anyhow::anyhow!("the VRCluster is gone"));
    match act {
        Act::WriteCanary => {
            let uid = drill.metadata.uid.clone().unwrap_or_default();
            let op = keys(about?)?.write(CANARY, &uid).await?;
            let source = status.source.clone().unwrap_or_default();
            status.source = Some(DrillSource { canary_op: Some(op.signed()), ..source });
        }
        Act::MakeCopy => {
            let cluster = about?.cluster;
            // First what closes the network, so that there is no moment without.
            let made =
                policies.create(&PostParams::default(), &objects::copy_network_policy(drill, cluster)).await;
            match made {
                Ok(_) => {}
                // Seen to be this drill's, or found to be somebody else's by the next look.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
            pods.create(&PostParams::default(), &objects::drill_pod(drill, cluster)).await?;
        }
        Act::Harm => {
            let mut impact = status.impact.clone().unwrap_or_default();
            let start = |target: &DrillTarget| {
                Some((u64::try_from(target.id).ok()?, u64::try_from(target.incarnation).ok()?))
            };
            let starts: Vec<_> = impact.replicas.iter().filter_map(start).collect();
            anyhow::ensure!(hold.lasts(), "the lease ran out: whoever holds it goes on");
            about?.slots.crash(&starts, hold.token).await?;
            for target in &impact.replicas {
                let Some(uid) = &target.pod_uid else { continue };
                let how = exactly(&Uid(uid.clone())).grace_period(1);
                match pods.delete(&target.pod_name, &how).await {
                    Ok(_) => {}
                    // It is gone, or another one is there.
                    Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            impact.at.get_or_insert_with(|| world::now().text());
            status.impact = Some(impact);
        }
        Act::EndProbe => {
            let end = format!("{}end", objects::probe_prefix(drill));
            keys(about?)?.put(&end, "1").await?;
        }
        Act::TidyUp => {
            let labelled = labelled(drill);
            for pod in pods.list(&labelled).await?.items.iter().filter(|pod| mine(&pod.metadata, drill)) {
                pods.delete(&pod.name_any(), &exactly(&uid(&pod.metadata))).await?;
            }
            // Last: as long as the pod is there it is closed.
            let policy = policies.get_opt(&objects::copy_name(drill)).await?;
            if let Some(policy) = policy.filter(|policy| mine(&policy.metadata, drill))
                && pods.list(&labelled).await?.items.is_empty()
            {
                if drill.spec.scenario.is_live()
                    && let Ok(about) = &about
                {
                    keys(about)?.sweep(&objects::probe_prefix(drill)).await?;
                }
                policies.delete(&policy.name_any(), &exactly(&uid(&policy.metadata))).await?;
            }
        }
        Act::Record => {
            let about = about?;
            let bucket = about.bucket()?;
            let key = signing::key(client, about.cluster).await?;
            let record = record(drill, about.cluster, status);
            let kept = chain::append(&*bucket.root(), &key, record).await?;
            let address = bucket.address(&kept.key);
            status.evidence = Some(Evidence { address, digest: kept.digest });
        }
    }
    Ok(())
}

fn record(drill: &VRDrill, cluster: &VRCluster, status: &VRDrillStatus) -> chain::Drill {
    chain::Drill {
        cluster: cluster.name_any(),
        namespace: drill.namespace().unwrap_or_default(),
        drill: drill.name_any(),
        uid: drill.metadata.uid.clone().unwrap_or_default(),
        lineage: status.source.as_ref().map(|source| source.lineage.clone()).unwrap_or_default(),
        scenario: format!("{:?}", drill.spec.scenario),
        finished_at: world::now().text(),
        report: drill::report(drill.spec.scenario, status),
    }
}

fn scheduled(world: &World, schedule: &VRDrillSchedule) -> Due {
    let owned = world.drills.iter().filter(|drill| {
        drill.metadata.deletion_timestamp.is_none()
            && drill.owner_references().iter().any(|owner| Some(&owner.uid) == schedule.metadata.uid.as_ref())
    });
    let made: Vec<Made> = owned
        .map(|drill| Made {
            name: drill.name_any(),
            ended: drill.status.as_ref().and_then(|status| {
                let at = Moment::parse(status.finished_at.as_deref()?)?;
                Some((status.result.as_deref() == Some("Passed"), at))
            }),
        })
        .collect();
    let last = schedule.status.as_ref().and_then(|status| status.last_scheduled_at.as_deref());
    let since = last.and_then(Moment::parse).unwrap_or_else(|| made_at(&schedule.metadata));
    schedule::decide(
        &schedule.spec,
        schedule.metadata.uid.as_deref().unwrap_or_default(),
        since,
        &made,
        world.at,
    )
}

/// What is said of a schedule then.
fn told(schedule: &VRDrillSchedule, due: &Due, now: Moment) -> Option<VRDrillScheduleStatus> {
    let before = schedule.status.clone().unwrap_or_default();
    // What was left out is said until a drill is made again.
    let missed = before.conditions.iter().find(|c| c.reason == "Missed");
    let says = &due.says;
    let (well, reason, text) = match missed {
        Some(missed) if due.last.is_none() && says.reason == "Scheduled" => {
            (false, "Missed", missed.message.clone())
        }
        _ => (says.well, says.reason, says.text.clone()),
    };
    let condition = super::requests::condition("Ready", &before.conditions, well, reason, &text, now);
    Some(VRDrillScheduleStatus {
        last_scheduled_at: due.last.map(Moment::text).or(before.last_scheduled_at),
        last_drill: due.make.map(|at| schedule::name(&schedule.name_any(), at)).or(before.last_drill),
        next_at: due.next.map(Moment::text),
        conditions: vec![condition],
    })
}

async fn keep_to(client: &Client, world: &World, schedule: &VRDrillSchedule) -> anyhow::Result<()> {
    if schedule.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let due = scheduled(world, schedule);
    let api: Api<VRDrill> = Api::namespaced(client.clone(), &schedule.namespace().unwrap_or_default());
    for name in &due.delete {
        let drill = world.drills.iter().find(|drill| {
            drill.metadata.namespace == schedule.metadata.namespace && drill.name_any() == *name
        });
        if let Some(drill) = drill {
            tracing::info!(drill = name, "deleted: its schedule keeps fewer, or replaces it");
            api.delete(name, &exactly(&uid(&drill.metadata))).await?;
        }
    }
    if let Some(at) = due.make {
        let mut drill = VRDrill::new(&schedule::name(&schedule.name_any(), at), schedule.spec.drill.clone());
        drill.metadata.namespace = schedule.metadata.namespace.clone();
        drill.metadata.labels = Some([(SCHEDULE_LABEL.to_owned(), schedule.name_any())].into());
        let owner = schedule
            .controller_owner_ref(&())
            .map(|owner| OwnerReference { block_owner_deletion: None, ..owner });
        drill.metadata.owner_references = Some(owner.into_iter().collect());
        match api.create(&PostParams::default(), &drill).await {
            Ok(_) => tracing::info!(drill = drill.name_any(), "made: it is due by its schedule"),
            // Another operator was first.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let status = told(schedule, &due, world.at);
    if status != schedule.status {
        let api: Api<VRDrillSchedule> =
            Api::namespaced(client.clone(), &schedule.namespace().unwrap_or_default());
        let next = VRDrillSchedule { status, ..schedule.clone() };
        api.replace_status(&schedule.name_any(), &PostParams::default(), &next).await?;
    }
    Ok(())
}
