//! A cluster without pods: for a while (hibernation), or for good (deletion).
//!
//! First a checkpoint that is newer than the wish goes to the object store; then the pods end, one after the other,
//! the primary last, each leaving all it has on its disks. A hibernated cluster wakes from exactly there. With a
//! deleted one the volumes go where that is the policy; what is in the object store is never deleted.

use super::Decision;
use crate::evidence::{Look, Standing};
use crate::ids::*;
use crate::step::Step;

/// How long a cluster that is deleted waits for its last checkpoint.
const LAST_CHECKPOINT: Seconds = Seconds(300);
const PATIENCE: Seconds = Seconds(3600);

/// Whether the resource is being deleted and may be.
pub(super) fn deleted(look: &Look<'_>) -> Option<Decision> {
    if !look.wanted.deleting || look.wanted.protected {
        return None;
    }
    let part = |decision: Decision| Some(decision.part_of("Delete", "Ending", None, PATIENCE));
    if let Some(decision) = end(look, "Deleting", "Delete", Some(LAST_CHECKPOINT)) {
        return part(decision);
    }
    let goes = look.wanted.volumes.is_some_and(|volumes| volumes.go_when_deleted);
    let volumes = look.volumes().into_iter().flatten().filter(|(_, v)| goes && !v.deleting);
    if let Some((slot, volume)) = volumes.into_iter().next() {
        return part(Decision::act("Deleting", Step::DeleteVolume { slot: *slot, uid: volume.uid.clone() }));
    }
    part(Decision::act("Deleting", Step::LetGo))
}

/// Whether it is to rest. What has lost its memory has nothing to rest on.
pub(super) fn hibernated(look: &Look<'_>) -> Option<Decision> {
    if !look.wanted.hibernated || look.loss().is_some() {
        return None;
    }
    if let Some(decision) = end(look, "Hibernating", "Hibernate", None) {
        return Some(decision.part_of("Hibernate", "Ending", None, PATIENCE));
    }
    Some(Decision::wait(
        "Hibernated",
        "it rests on its disks and in the object store; spec.hibernation: Running wakes it",
    ))
}

/// Ends the pods; nothing once there are none. Without a limit it waits for the checkpoint for as long as it takes.
fn end(look: &Look<'_>, reason: &'static str, kind: &str, limit: Option<Seconds>) -> Option<Decision> {
    let pods = look.pods()?;
    let running: Vec<_> = pods.iter().filter(|(_, pod)| !pod.deleting).collect();
    if pods.is_empty() {
        return None;
    }
    // With the first pod that ends, the wish is carried out.
    let begun =
        running.len() < pods.len() || look.configuration().is_some_and(|c| c.members().count() > pods.len());
    let began = look.before.operation.as_ref().filter(|o| o.kind == kind);
    let began = began.and_then(|o| Moment::parse(&o.started_at)).unwrap_or(look.now);
    // Who cannot run, or has lost everything, ships nothing any more.
    let hopeless = look.loss().is_some() || pods.values().all(|pod| pod.trouble.is_some());
    let late = limit.is_some_and(|limit| hopeless || look.now.since(began) >= limit);
    let voters = look.configuration().map(|c| c.voters.as_slice()).unwrap_or_default();
    let stored = voters.iter().filter_map(|m| match look.standing(m) {
        Standing::Serving(said) => said.stored_at,
        _ => None,
    });
    if !begun && !late && stored.max().is_none_or(|at| at <= began) {
        return Some(Decision::wait(
            reason,
            "a checkpoint that is newer than the wish is awaited in the object store",
        ));
    }
    if running.len() < pods.len() {
        return Some(Decision::wait(reason, "a pod is about to end"));
    }
    let leads = look.primary().map(|(m, _)| m.slot).or_else(|| {
        let last = look.before.primary.as_ref()?;
        pods.iter().find(|(_, p)| p.replica.signed() == last.id).map(|(slot, _)| *slot)
    });
    let (slot, pod) = running.into_iter().max_by_key(|(slot, _)| (leads != Some(**slot), **slot))?;
    Some(Decision::act(reason, Step::DeletePod { slot: *slot, uid: pod.uid.clone(), live: false }))
}
