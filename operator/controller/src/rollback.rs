//! A roll-back to an earlier state, as a `VRRestore` with a `target` orders it: what is done next, and what is said of
//! it.
//!
//! Pure. Where the target lies is found by a pod that loads what leads there (`vr checkpoint locate`), and the
//! checkpoint is pinned by a VRCheckpoint, so that no rule of retention takes it away meanwhile. Then the next generation
//! is on record here, and [`plan`](crate::plan) begins it: fence, end of what runs, the replicas' own restore.
//!
//! Promises: until a target was found, whole and pinned, nothing of the cluster is touched. A VRRestore begins one
//! generation, the one on its record, and once: what has begun is not begun again, by whatever operator. Deleted before
//! that it has no effect, after that it goes on.

#[cfg(test)]
mod tests;

use crate::drill::Copy;
use crate::ids::*;
use vr_api::{LocatedTarget, Phase, RestoreTarget, VRRestoreSpec, VRRestoreStatus};
use vr_checkpoint::restore::Answer;

/// How long the object store may take to hold what was committed when the roll-back was taken up.
const SHIPS: Seconds = Seconds(120);
/// How long the search for the target may take.
const SEARCHES: Seconds = Seconds(1800);

/// What is seen of it and of what it is about.
pub(crate) struct Seen<'a> {
    pub(crate) spec: &'a VRRestoreSpec,
    pub(crate) target: &'a RestoreTarget,
    pub(crate) before: &'a VRRestoreStatus,
    /// The nonce of its plan.
    pub(crate) nonce: String,
    /// Nothing if there is no such cluster.
    pub(crate) cluster: Option<Cluster>,
    /// An older VRRestore of the same cluster that is not over.
    pub(crate) behind: Option<String>,
    /// The checkpoint that `target.checkpointRef` names.
    pub(crate) named: Named,
    /// The pod that looks for the target; nothing if it could not be looked at.
    pub(crate) search: Option<Copy>,
    /// The VRCheckpoint that holds what was found.
    pub(crate) held: Named,
}

/// What a roll-back needs to know of its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) lineage: Option<(Lineage, Generation)>,
    /// What its generation began from.
    pub(crate) restored_from: Option<String>,
    /// The newest op that was committed, if a replica that takes part was heard.
    pub(crate) commit: Option<Op>,
    /// The newest op that a restore from the object store would reach.
    pub(crate) reaches: Option<Op>,
    /// The recovery that is under way: the nonce of its plan, and its step.
    pub(crate) recovering: Option<(String, String)>,
    pub(crate) paused: bool,
    pub(crate) deleting: bool,
}

/// A VRCheckpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// There is none of that name.
    Absent,
    /// It is of another cluster, or somebody else's.
    Foreign(String),
    /// It holds nothing yet.
    Taking,
    /// It cannot hold anything: why.
    Failed(String),
    /// It holds the checkpoint of this op, in this generation.
    Pinned(Op, Generation),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Make the pod that looks for the target.
    Search,
    /// Make the VRCheckpoint that holds what was found.
    Hold,
}

/// Where a phase leads, and why in words for a person.
type Says = (&'static str, String);

/// Whether a VRRestore is over.
pub(crate) fn over(status: &VRRestoreStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed" | "Refused"))
}

/// Decides. An act follows from what is on record. The condition is the caller's; `(phase, text)` is what it says.
pub(crate) fn decide(seen: &Seen<'_>, now: Moment) -> (VRRestoreStatus, Says, Option<Act>) {
    let mut status = seen.before.clone();
    let (says, act) = match status.phase.as_deref() {
        None | Some("Pending") => (pending(seen, &mut status, now), None),
        Some("Locating") => locating(seen, &mut status, now),
        _ => (begun(seen), None),
    };
    enter(&mut status, says.0, now);
    (status, says, act)
}

/// Notes when a phase began.
pub(crate) fn enter(status: &mut VRRestoreStatus, phase: &str, now: Moment) {
    if status.phase.as_deref() != Some(phase) {
        status.phase = Some(phase.to_owned());
        // A VRRestore that waits now and then does not fill the list.
        status.phases.retain(|known| known.name != phase);
        status.phases.push(Phase { name: phase.to_owned(), began_at: now.text() });
    }
}

fn pending(seen: &Seen<'_>, status: &mut VRRestoreStatus, now: Moment) -> Says {
    let name = &seen.spec.cluster_ref.name;
    let wait = |text: String| ("Pending", text);
    let refused = |text: String| ("Refused", text);
    if let Some(time) = &seen.target.before_time {
        match Moment::parse(time) {
            None => {
                return refused(format!(
                    "target.beforeTime: {time:?} is not a time: give a date, a time and a zone, as 2026-11-23T07:00:00Z"
                ));
            }
            Some(at) if at > now => {
                return refused(format!(
                    "target.beforeTime: {time} is yet to come; `kubectl vr restore-points {name}` shows what there is"
                ));
            }
            Some(_) => {}
        }
    }
    let Some(cluster) = &seen.cluster else {
        return wait(format!("there is no VRCluster {name} in this namespace"));
    };
    if cluster.deleting {
        return refused(format!("VRCluster {name} is being deleted"));
    }
    if let Some(other) = &seen.behind {
        return wait(format!("VRRestore {other} of the same cluster is not over"));
    }
    if cluster.paused {
        return wait(format!("spec.paused of VRCluster {name} is set: unset it to go on"));
    }
    if cluster
        .recovering
        .as_ref()
        .is_some_and(|(_, step)| !["Confirming", "Planned", "Saving"].contains(&step.as_str()))
    {
        return wait(format!("another recovery of VRCluster {name} is under way"));
    }
    if cluster.lineage.is_none() {
        return wait(format!("VRCluster {name} has not begun: there is nothing to go back to"));
    }
    if let Some(named) = &seen.target.checkpoint_ref {
        let named = &named.name;
        match &seen.named {
            Named::Absent => {
                return refused(format!(
                    "target.checkpointRef: there is no VRCheckpoint {named} in this namespace; `kubectl get vrcp` lists them"
                ));
            }
            Named::Foreign(why) | Named::Failed(why) => {
                return refused(format!("target.checkpointRef: VRCheckpoint {named}: {why}"));
            }
            Named::Taking => return wait(format!("VRCheckpoint {named} is being taken")),
            Named::Pinned(..) => {}
        }
    }
    status.asked_op = cluster.commit.map(Op::signed);
    ("Locating", "the target is looked for in the object store".to_owned())
}

fn locating(seen: &Seen<'_>, status: &mut VRRestoreStatus, now: Moment) -> (Says, Option<Act>) {
    let wait = |text: String| (("Locating", text), None);
    let failed = |text: String| (("Failed", format!("{text}. The cluster was not touched")), None);
    let Some(cluster) = seen.cluster.as_ref().filter(|cluster| !cluster.deleting) else {
        return failed("the VRCluster was deleted meanwhile".to_owned());
    };
    let Some((lineage, generation)) = &cluster.lineage else {
        return failed("the VRCluster has lost its lineage meanwhile".to_owned());
    };
    if status.located.is_some() {
        return hold(seen, status, *generation);
    }
    let began = status.phases.iter().rfind(|phase| phase.name == "Locating");
    let began = began.and_then(|phase| Moment::parse(&phase.began_at)).unwrap_or(now);
    let late = now.since(began) > SEARCHES;
    let asked = status.asked_op.filter(|_| cluster.commit.is_some() && now.since(began) <= SHIPS);
    let reaches = cluster.reaches.map(Op::signed);
    match seen.search.as_ref() {
        None => wait("the pod that looks for the target could not be looked at".to_owned()),
        Some(Copy::Absent | Copy::Closed)
            if asked.is_some_and(|asked| reaches.is_none_or(|reaches| reaches < asked)) =>
        {
            wait(format!(
                "the object store is to hold op {} first, and holds {}",
                asked.unwrap_or_default(),
                reaches.map_or_else(|| "nothing that is known".to_owned(), |op| format!("op {op}"))
            ))
        }
        Some(Copy::Absent | Copy::Closed) if late => {
            failed("the pod that looks for the target could not be made".to_owned())
        }
        Some(Copy::Absent | Copy::Closed) => {
            (("Locating", "the target is looked for in the object store".to_owned()), Some(Act::Search))
        }
        Some(Copy::Foreign(what)) => failed(format!("{what} is in the way: it is not this VRRestore's")),
        Some(Copy::Waiting(why) | Copy::Going(why)) if late => {
            failed(format!("the search for the target did not begin: {why}"))
        }
        Some(Copy::Waiting(why) | Copy::Going(why)) => {
            wait(format!("the search for the target has not begun: {why}"))
        }
        Some(Copy::Running) if late => failed("the search for the target takes too long".to_owned()),
        Some(Copy::Running) => wait("the target is looked for in the object store".to_owned()),
        Some(Copy::Ended { told, how }) => match serde_json::from_str::<Answer>(told) {
            Err(_) => failed(format!("the search for the target ended without an answer: {how}")),
            Ok(Answer::Nowhere(why)) => {
                let name = &seen.spec.cluster_ref.name;
                let next = format!("`kubectl vr restore-points {name}` shows what there is");
                (("Refused", format!("target: {why}; {next}. The cluster was not touched")), None)
            }
            Ok(Answer::Located(found)) => {
                if found.lineage != lineage.0 || found.generation > generation.0 {
                    return failed(format!(
                        "what was found is of generation {} of lineage {}, and the cluster is generation {generation} of \
                         {lineage}",
                        found.generation, found.lineage
                    ));
                }
                let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
                status.located = Some(LocatedTarget {
                    op: signed(found.op),
                    revision: found.revision,
                    time: Moment(signed(found.time_micros / 1_000_000)).text(),
                    checkpoint: signed(found.checkpoint),
                    generation: signed(found.generation),
                });
                wait(format!("it is op {} (revision {})", found.op, found.revision))
            }
        },
    }
}

/// What was found is held, and only then a generation is to begin from it.
fn hold(seen: &Seen<'_>, status: &mut VRRestoreStatus, generation: Generation) -> (Says, Option<Act>) {
    let found = status.located.clone().unwrap_or_default();
    let held = if seen.target.checkpoint_ref.is_some() { &seen.named } else { &seen.held };
    let failed = |text: String| (("Failed", format!("{text}. The cluster was not touched")), None);
    match held {
        Named::Pinned(op, of) if (op.signed(), of.signed()) == (found.checkpoint, found.generation) => {
            status.generation = Some(generation.signed() + 1);
            let says = format!("generation {} is to begin from op {}", generation.0 + 1, found.op);
            (("Fencing", says), None)
        }
        Named::Pinned(op, of) => failed(format!(
            "what was found begins at checkpoint {} of generation {}, and what is held is that of op {op} of generation \
             {of}: it has gone from the object store meanwhile",
            found.checkpoint, found.generation
        )),
        Named::Foreign(why) | Named::Failed(why) => {
            failed(format!("checkpoint {} cannot be held: {why}", found.checkpoint))
        }
        Named::Absent if seen.target.checkpoint_ref.is_some() => {
            failed("the VRCheckpoint that it names was deleted meanwhile".to_owned())
        }
        Named::Absent => {
            (("Locating", format!("checkpoint {} is to be held", found.checkpoint)), Some(Act::Hold))
        }
        Named::Taking => (("Locating", format!("checkpoint {} is to be held", found.checkpoint)), None),
    }
}

/// The generation is on record here: what has become of it.
fn begun(seen: &Seen<'_>) -> Says {
    let next = seen.before.generation.unwrap_or_default();
    let Some(cluster) = &seen.cluster else {
        return ("Failed", "the VRCluster was deleted meanwhile".to_owned());
    };
    let now = cluster.lineage.as_ref().map_or(0, |(_, generation)| generation.signed());
    let mine = cluster.recovering.as_ref().filter(|(nonce, _)| *nonce == seen.nonce);
    let from = seen.before.located.as_ref().map(source);
    match mine {
        _ if now < next && cluster.paused => {
            ("Fencing", "spec.paused of the VRCluster is set: unset it to go on".to_owned())
        }
        _ if now < next => {
            let says = "the VRCluster takes it up as soon as its object store says that nobody else did";
            ("Fencing", format!("generation {next} is to begin: {says}"))
        }
        Some((_, step)) => progress(step),
        None if now == next && cluster.restored_from == from => settling(cluster, seen.before),
        None if now == next => (
            "Failed",
            format!("another recovery has begun generation {next} first: `kubectl get vrr` shows which"),
        ),
        None => {
            ("Failed", format!("the cluster is generation {now} by now: it was restored again meanwhile"))
        }
    }
}

/// What a step of a recovery is called in a VRRestore.
pub(crate) fn progress(step: &str) -> Says {
    let (phase, says) = match step {
        "Saving" => ("Saving", "what is left in memory or on disks is brought to the object store"),
        "Fencing" => ("Fencing", "everything older is shut out"),
        "Ending" => ("Fencing", "what runs of the old generation ends"),
        "Volumes" => ("Loading", "the volumes are made ready"),
        _ => ("Forming", "the replicas load the state and form"),
    };
    (phase, says.to_owned())
}

fn settling(cluster: &Cluster, status: &VRRestoreStatus) -> Says {
    let kept = status.located.as_ref().map_or(0, |found| found.op);
    shipped(cluster.reaches, kept)
}

/// The cluster serves; it is over once the object store holds a checkpoint of the new generation.
pub(crate) fn shipped(reaches: Option<Op>, kept: i64) -> Says {
    if reaches.is_some_and(|op| op.signed() >= kept) {
        ("Succeeded", "the cluster serves again, and the object store holds its new generation".to_owned())
    } else {
        (
            "Checkpointing",
            "the cluster serves again; the first checkpoint of its new generation is awaited".to_owned(),
        )
    }
}

/// How the plan and the status of the cluster call what a generation begins from.
pub(crate) fn source(found: &LocatedTarget) -> String {
    format!("{} at op {}", candidate(found), found.op)
}

/// The checkpoint, as a plan names it.
pub(crate) fn candidate(found: &LocatedTarget) -> String {
    crate::snapshot::source("object store", Op(whole(found.checkpoint)), Generation(whole(found.generation)))
}

fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
