//! One drill, from its making to its end: what is done next, and what is said of it.
//!
//! Pure. A canary is written into the cluster, and once the object store is said to hold it, a copy is restored from
//! there in a pod of its own (`vr drill restore`), which tells what it found. The drill holds that against what it
//! knows of the cluster, takes everything away again, makes sure that it is gone, and has the record signed and kept.
//!
//! A live drill ([`live`]) has a probe in the place of the copy, and the cluster itself is what comes back.
//!
//! Promises: each step may be done again by another operator; the result is Passed only if the copy said so, held the
//! canary, came from this lineage and generation, and nothing was left behind. Nothing is awaited without an end.

mod live;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use live::Replica;
pub(crate) use told::report;

use crate::ids::*;
use vr_api::{DrillScenario, DrillSource, VRDrillSpec, VRDrillStatus};
use vr_evidence::report::Report;

/// How long the object store may take to hold the canary; then the copy must show whether it does.
const SHIPS: Seconds = Seconds(120);
/// How long everything of a drill may take to go, and its record to be kept.
const TIDIES: Seconds = Seconds(120);
/// How long a drill may take, unless somebody says otherwise.
pub(crate) const DEADLINE: i32 = 900;

/// What is seen of a drill and of what it is about.
pub(crate) struct Seen<'a> {
    pub(crate) spec: &'a VRDrillSpec,
    pub(crate) before: &'a VRDrillStatus,
    pub(crate) made: Moment,
    /// Nothing if there is no such cluster.
    pub(crate) cluster: Option<Cluster>,
    /// An older drill of the same cluster that is not over.
    pub(crate) behind: Option<String>,
    /// Nothing if it could not be looked at.
    pub(crate) copy: Option<Copy>,
}

/// What a drill needs to know of its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) lineage: Option<(Lineage, Generation)>,
    /// The newest op that was committed, if a replica that takes part was heard.
    pub(crate) commit: Option<Op>,
    /// The newest op that a restore from the object store would reach.
    pub(crate) reaches: Option<Op>,
    pub(crate) paused: bool,
    /// Ready, with all that is wanted.
    pub(crate) whole: bool,
    pub(crate) primary: Option<i64>,
    pub(crate) voters: Vec<Replica>,
    /// Voters and zones that may be lost now.
    pub(crate) tolerance: i32,
    pub(crate) zone_tolerance: i32,
    /// It recovers from a total loss without a person.
    pub(crate) recovers_alone: bool,
    /// The probe of this drill has written something.
    pub(crate) probed: bool,
}

/// The pod of the copy, or of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Nothing of this drill is there.
    Absent,
    /// There is what closes the network around the copy, and no pod.
    Closed,
    /// Something of that name is there that is not this drill's.
    Foreign(String),
    /// It has not begun: why.
    Waiting(String),
    /// It runs.
    Running,
    /// It has ended, with what it told and how it ended.
    Ended { told: String, how: String },
    /// It, or something that belongs to it, is about to go.
    Going(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Write the canary into the cluster, and note by which op it is committed.
    WriteCanary,
    /// Make the pod of the copy or of the probe, and what closes the network around it.
    MakeCopy,
    /// Take away what `status.impact` names, and note when.
    Harm,
    /// Let the probe know that it has seen enough.
    EndProbe,
    /// Delete all that was made for the drill.
    TidyUp,
    /// Keep the record of the drill in the object store.
    Record,
}

/// Decides. An act follows from what is on record; what is said new is to be on record before anything follows from it.
pub(crate) fn decide(seen: &Seen<'_>, now: Moment) -> (VRDrillStatus, Option<Act>) {
    let mut status = seen.before.clone();
    let began = status.started_at.as_deref().and_then(Moment::parse).unwrap_or(seen.made);
    let deadline = began + Seconds(i64::from(seen.spec.deadline_seconds.unwrap_or(DEADLINE)));
    let late = now > deadline;
    let act = match status.phase.as_deref() {
        None | Some("Pending") => {
            pending(seen, &mut status, late, now);
            None
        }
        Some("Preparing") if seen.spec.scenario.is_live() => live::preparing(seen, &mut status, late),
        Some("Preparing") => preparing(seen, &mut status, late, began, now),
        Some("Restoring") if seen.spec.scenario.is_live() => live::restoring(seen, &mut status, late, now),
        Some("Restoring") => restoring(seen, &mut status, late),
        Some("Checking") => {
            judge(seen, &mut status);
            enter(&mut status, "CleaningUp", "what was made for the drill is taken away");
            None
        }
        Some("CleaningUp") => cleaning_up(seen, &mut status, now, deadline),
        Some(_) => None,
    };
    (status, act)
}

fn enter(status: &mut VRDrillStatus, phase: &str, says: impl Into<String>) {
    status.phase = Some(phase.to_owned());
    if status.result.is_none() {
        status.reason = Some(says.into());
    }
}

/// Why the cluster cannot be drilled so now, though it serves.
fn unfit(spec: &VRDrillSpec, cluster: &Cluster) -> Option<String> {
    let serves = cluster.lineage.is_some() && cluster.commit.is_some();
    if serves && spec.scenario.is_live() { live::unfit(spec, cluster) } else { None }
}

/// A result; one that is on record already is not made better.
fn concluded(status: &mut VRDrillStatus, result: &str, why: impl Into<String>) {
    if matches!(status.result.as_deref(), None | Some("Passed")) {
        status.result = Some(result.to_owned());
        status.reason = Some(why.into());
    }
}

fn abandoned(status: &mut VRDrillStatus, result: &str, why: impl Into<String>) {
    concluded(status, result, why);
    enter(status, "CleaningUp", "");
}

fn pending(seen: &Seen<'_>, status: &mut VRDrillStatus, late: bool, now: Moment) {
    let name = &seen.spec.cluster_ref.name;
    let waits = match (&seen.behind, &seen.cluster) {
        (Some(other), _) => format!("VRDrill {other} of the same cluster is not over"),
        (None, None) => format!("there is no VRCluster {name} in this namespace"),
        (None, Some(cluster)) if cluster.paused => format!("spec.paused of VRCluster {name} is set"),
        (None, Some(cluster)) if let Some(why) = unfit(seen.spec, cluster) => why,
        (None, Some(Cluster { lineage: Some((lineage, generation)), commit: Some(_), .. })) => {
            status.started_at = Some(now.text());
            status.source = Some(DrillSource {
                lineage: lineage.0.clone(),
                generation: generation.signed(),
                ..DrillSource::default()
            });
            let live = seen.spec.scenario.is_live();
            let next = if live { "a probe is to write" } else { "a canary is written into the cluster" };
            return enter(status, "Preparing", next);
        }
        (None, Some(_)) => {
            format!("VRCluster {name} does not serve; `kubectl vr status {name}` tells what is awaited")
        }
    };
    if late {
        status.started_at = Some(now.text());
        return abandoned(status, "Errored", format!("the drill could not begin: {waits}"));
    }
    enter(status, "Pending", waits);
}

fn preparing(
    seen: &Seen<'_>,
    status: &mut VRDrillStatus,
    late: bool,
    began: Moment,
    now: Moment,
) -> Option<Act> {
    let source = status.source.clone().unwrap_or_default();
    let Some(cluster) = &seen.cluster else {
        abandoned(status, "Errored", "the VRCluster was deleted meanwhile");
        return None;
    };
    if another_generation(cluster, &source) {
        abandoned(status, "Errored", RESTORED_MEANWHILE);
        return None;
    }
    let Some(canary) = source.canary_op else {
        if late {
            let why = status.reason.clone().unwrap_or_default();
            abandoned(status, "Errored", format!("no canary could be written before the deadline: {why}"));
            return None;
        }
        return Some(Act::WriteCanary);
    };
    let there = cluster.reaches.is_some_and(|reaches| reaches.signed() >= canary);
    // If it never comes, the copy is without it, and the drill fails for the right reason.
    if there || late || now.since(began) > SHIPS {
        let op = cluster.commit.map(Op::signed).or(Some(canary));
        status.source = Some(DrillSource { op, time: Some(now.text()), ..source });
        enter(status, "Restoring", "a copy is restored from the object store");
    } else {
        let reaches =
            cluster.reaches.map_or_else(|| "nothing that is known".to_owned(), |op| format!("op {op}"));
        enter(status, "Preparing", format!("the object store is to hold op {canary}, and holds {reaches}"));
    }
    None
}

fn restoring(seen: &Seen<'_>, status: &mut VRDrillStatus, late: bool) -> Option<Act> {
    match seen.copy.as_ref()? {
        Copy::Absent | Copy::Closed if late => {
            let why = status.reason.clone().unwrap_or_default();
            abandoned(status, "Errored", format!("the copy could not be made before the deadline: {why}"));
            None
        }
        Copy::Absent | Copy::Closed => Some(Act::MakeCopy),
        Copy::Foreign(what) => {
            abandoned(status, "Errored", format!("{what} is in the way: it is not this drill's"));
            None
        }
        Copy::Waiting(why) if late => {
            abandoned(status, "Errored", format!("the copy did not begin before the deadline: {why}"));
            None
        }
        Copy::Waiting(why) => {
            enter(status, "Restoring", format!("the copy has not begun: {why}"));
            None
        }
        Copy::Running | Copy::Going(_) if late => {
            abandoned(status, "Failed", "the copy was not restored before the deadline");
            None
        }
        Copy::Running | Copy::Going(_) => {
            enter(status, "Restoring", "a copy is restored from the object store");
            None
        }
        Copy::Ended { told, how } => {
            match serde_json::from_str::<Report>(told) {
                Ok(report) => {
                    told::reported(status, report);
                    status.phase = Some("Checking".to_owned());
                }
                Err(_) => abandoned(status, "Errored", format!("the copy ended without a report: {how}")),
            }
            None
        }
    }
}

/// A copy that says of itself that all is well is believed only with the proofs.
fn judge(seen: &Seen<'_>, status: &mut VRDrillStatus) {
    if let Some(failed) = status.checks.iter().find(|check| !check.passed) {
        let why = format!("{}: {}", failed.name, failed.detail);
        return concluded(status, "Failed", why);
    }
    let scenario = seen.spec.scenario;
    let needed =
        if scenario.is_live() { live::PROOFS } else { ["canary", "rootIsManifests", "sourceIsTheCluster"] };
    let who = if scenario.is_live() { "drill" } else { "copy" };
    for needed in needed {
        if !status.checks.iter().any(|check| check.name == needed) {
            return concluded(status, "Failed", format!("the {who} has not proven {needed}"));
        }
    }
    if scenario == DrillScenario::LoseAllMemory {
        // It is another generation that came back.
        return;
    }
    let source = status.source.clone().unwrap_or_default();
    if seen.cluster.as_ref().is_some_and(|cluster| another_generation(cluster, &source)) {
        concluded(status, "Errored", RESTORED_MEANWHILE);
    }
}

const RESTORED_MEANWHILE: &str =
    "the cluster was restored meanwhile: another generation runs; drill that one";

fn another_generation(cluster: &Cluster, source: &DrillSource) -> bool {
    let known = cluster.lineage.as_ref();
    known.is_some_and(|(l, g)| (&l.0, g.signed()) != (&source.lineage, source.generation))
}

fn cleaning_up(seen: &Seen<'_>, status: &mut VRDrillStatus, now: Moment, deadline: Moment) -> Option<Act> {
    let over = now > deadline + TIDIES;
    match &seen.copy {
        // What is not this drill's is not touched.
        Some(Copy::Absent | Copy::Foreign(_)) => {
            if status.evidence.is_some() || seen.cluster.is_none() {
                finish(status, now);
                return None;
            }
            if over {
                concluded(status, "Errored", "the record of the drill could not be kept in the object store");
                finish(status, now);
                return None;
            }
            Some(Act::Record)
        }
        left => {
            if over {
                let what = match left {
                    Some(Copy::Going(what)) => what.clone(),
                    Some(Copy::Closed) => "the NetworkPolicy of the drill's pod".to_owned(),
                    Some(_) => "the pod of the drill".to_owned(),
                    None => "the pod of the drill (the API server cannot be asked)".to_owned(),
                };
                status.result = None;
                concluded(status, "Failed", format!("{what} is still there: delete it"));
                finish(status, now);
                return None;
            }
            left.is_some().then_some(Act::TidyUp)
        }
    }
}

fn finish(status: &mut VRDrillStatus, now: Moment) {
    status.phase = Some("Finished".to_owned());
    status.finished_at = Some(now.text());
}
