//! One drill, from its making to its end: what is done next, and what is said of it.
//!
//! Pure. A canary is written into the cluster, and once the object store is said to hold it, a copy is restored from
//! there in a pod of its own (`vr drill restore`), which tells what it found. The drill holds that against what it
//! knows of the cluster, takes everything away again, makes sure that it is gone, and has the record signed and kept.
//!
//! Promises: each step may be done again by another operator; the result is Passed only if the copy said so, held the
//! canary, came from this lineage and generation, and nothing was left behind. Nothing is awaited without an end.

use crate::ids::*;
use crate::objects::CANARY;
use vr_api::{Candidate, DrillCheck, DrillPhase, DrillSource, VRDrillSpec, VRDrillStatus};
use vr_evidence::report::{self, Outcome, Report, RestoredFrom};

/// How long the object store may take to hold the canary; then the copy must show whether it does.
const SHIPS: Seconds = Seconds(120);
/// How long everything of a drill may take to go, and its record to be kept.
const TIDIES: Seconds = Seconds(120);
/// How long a drill may take, unless somebody says otherwise.
pub(crate) const DEADLINE: i64 = 900;

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
}

/// The pod of the copy.
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
    /// Make the pod of the copy, and what closes the network around it.
    MakeCopy,
    /// Delete all that was made for the drill.
    TidyUp,
    /// Keep the record of the drill in the object store.
    Record,
}

/// Decides. An act follows from what is on record; what is said new is to be on record before anything follows from it.
pub(crate) fn decide(seen: &Seen<'_>, now: Moment) -> (VRDrillStatus, Option<Act>) {
    let mut status = seen.before.clone();
    let began = status.started_at.as_deref().and_then(Moment::parse).unwrap_or(seen.made);
    let deadline = began + Seconds(i64::from(seen.spec.deadline_seconds.unwrap_or(DEADLINE as i32)));
    let late = now > deadline;
    let act = match status.phase.as_deref() {
        None | Some("Pending") => {
            pending(seen, &mut status, late, now);
            None
        }
        Some("Preparing") => preparing(seen, &mut status, late, began, now),
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
        (None, Some(Cluster { lineage: Some((lineage, generation)), commit: Some(_), .. })) => {
            status.started_at = Some(now.text());
            status.source = Some(DrillSource {
                lineage: lineage.0.clone(),
                generation: generation.signed(),
                ..DrillSource::default()
            });
            return enter(status, "Preparing", "a canary is written into the cluster");
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
    if cluster
        .lineage
        .as_ref()
        .is_some_and(|(l, g)| (&l.0, g.signed()) != (&source.lineage, source.generation))
    {
        abandoned(
            status,
            "Errored",
            "the cluster was restored meanwhile: another generation runs; drill that one",
        );
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
                    reported(status, report);
                    status.phase = Some("Checking".to_owned());
                }
                Err(_) => abandoned(status, "Errored", format!("the copy ended without a report: {how}")),
            }
            None
        }
    }
}

/// What the copy told.
fn reported(status: &mut VRDrillStatus, report: Report) {
    let millis = |seconds: f64| (seconds * 1000.0).round() as i64;
    status.rto_milliseconds = report.rto_seconds.map(millis);
    status.rpo_milliseconds = report.restored_from.as_ref().map(|_| millis(report.rpo_seconds));
    status.rpo_operations = report.rpo_ops.and_then(|ops| i64::try_from(ops).ok());
    status.expected_root = report.expected_root;
    status.op = report.restored_from.as_ref().map(|from| i64::try_from(from.op).unwrap_or(i64::MAX));
    status.found_root = report.restored_from.as_ref().map(|from| from.root.clone());
    status.candidates = report
        .candidates
        .into_iter()
        .map(|c| Candidate {
            source: c.source,
            op: i64::try_from(c.op).unwrap_or(i64::MAX),
            time: c.time,
            remark: c.remark,
        })
        .collect();
    status.phases = report
        .phases
        .into_iter()
        .map(|p| DrillPhase { name: p.name, milliseconds: i64::try_from(p.millis).unwrap_or(i64::MAX) })
        .collect();
    status.checks = report
        .checks
        .into_iter()
        .map(|c| DrillCheck { name: c.name, passed: c.passed, detail: c.detail })
        .collect();
    if let (Some(from), Some(source)) = (&report.restored_from, &status.source) {
        let same = from.lineage == source.lineage && i64::try_from(from.generation) == Ok(source.generation);
        let detail = format!("lineage {}, generation {}", from.lineage, from.generation);
        status.checks.push(DrillCheck { name: "sourceIsTheCluster".to_owned(), passed: same, detail });
    }
    let result = match report.result {
        Outcome::Passed => "Passed",
        Outcome::Failed => "Failed",
        Outcome::Errored => "Errored",
    };
    status.result = Some(result.to_owned());
    status.reason = report.reason;
}

/// The report with what the operator has found besides: what is kept.
pub(crate) fn report(status: &VRDrillStatus) -> Report {
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let whole = |number: i64| u64::try_from(number).unwrap_or_default();
    let source = status.source.clone().unwrap_or_default();
    let mut report = Report::of("RestoreFromObjectStore");
    report.result = match status.result.as_deref() {
        Some("Passed") => Outcome::Passed,
        Some("Failed") => Outcome::Failed,
        _ => Outcome::Errored,
    };
    report.reason = status.reason.clone();
    report.rto_seconds = status.rto_milliseconds.map(seconds);
    report.rpo_seconds = status.rpo_milliseconds.map_or(0.0, seconds);
    report.rpo_ops = status.rpo_operations.map(whole);
    report.expected_root = status.expected_root.clone();
    report.restored_from = status.found_root.clone().map(|root| RestoredFrom {
        tier: "objectStore".to_owned(),
        lineage: source.lineage.clone(),
        generation: whole(source.generation),
        op: whole(status.op.unwrap_or_default()),
        root,
    });
    report.candidates = status
        .candidates
        .iter()
        .map(|c| report::Candidate {
            source: c.source.clone(),
            op: whole(c.op),
            time: c.time.clone(),
            remark: c.remark.clone(),
        })
        .collect();
    report.phases = status
        .phases
        .iter()
        .map(|p| report::Phase { name: p.name.clone(), millis: whole(p.milliseconds) })
        .collect();
    report.checks = status
        .checks
        .iter()
        .map(|c| report::Check { name: c.name.clone(), passed: c.passed, detail: c.detail.clone() })
        .collect();
    report
}

/// A copy that says of itself that all is well is believed only with the proofs.
fn judge(seen: &Seen<'_>, status: &mut VRDrillStatus) {
    if let Some(failed) = status.checks.iter().find(|check| !check.passed) {
        let why = format!("{}: {}", failed.name, failed.detail);
        return concluded(status, "Failed", why);
    }
    for needed in ["canary", "rootIsManifests", "sourceIsTheCluster"] {
        if !status.checks.iter().any(|check| check.name == needed) {
            return concluded(status, "Failed", format!("the copy has not proven {needed}"));
        }
    }
    let generation =
        seen.cluster.as_ref().and_then(|cluster| cluster.lineage.as_ref()).map(|known| known.1.signed());
    let source = status.source.as_ref().map(|source| source.generation);
    if generation.is_some() && generation != source {
        concluded(
            status,
            "Errored",
            "the cluster was restored meanwhile: another generation runs; drill that one",
        );
    }
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
                    Some(Copy::Closed) => "the NetworkPolicy of the copy".to_owned(),
                    Some(_) => "the pod of the copy".to_owned(),
                    None => "the pod of the copy (the API server cannot be asked)".to_owned(),
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

/// The name and value of the canary that a drill writes.
pub(crate) fn canary(uid: &str) -> (&'static str, &str) {
    (CANARY, uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_api::LocalReference;

    const BEGAN: Moment = Moment(1_800_000_000);

    fn spec() -> VRDrillSpec {
        VRDrillSpec {
            cluster_ref: LocalReference { name: "prod".to_owned() },
            scenario: vr_api::DrillScenario::RestoreFromObjectStore,
            reader: None,
            deadline_seconds: Some(600),
            memory_limit: None,
        }
    }

    fn well() -> Cluster {
        Cluster {
            lineage: Some((Lineage::from("l"), Generation(1))),
            commit: Some(Op(100)),
            reaches: Some(Op(100)),
            paused: false,
        }
    }

    fn told(report: serde_json::Value) -> Copy {
        Copy::Ended { told: report.to_string(), how: "exit status 0".to_owned() }
    }

    /// What a copy tells that has found everything.
    fn passed() -> serde_json::Value {
        let mut report =
            serde_json::to_value(Report::of("restore-from-object-store")).expect("it is plain data");
        report["result"] = "Passed".into();
        report["rtoSeconds"] = 3.5.into();
        report["rpoOps"] = 2.into();
        report["expectedRoot"] = "r".into();
        report["restoredFrom"] = serde_json::json!({"tier": "objectStore", "lineage": "l", "generation": 1, "op": 98, "root": "r"});
        report["checks"] = serde_json::json!([
            {"name": "canary", "passed": true, "detail": "it is there"},
            {"name": "rootIsManifests", "passed": true, "detail": "r"}]);
        report
    }

    /// Goes from decision to decision, as operators do who each have only the record; ends with what was done.
    struct Story {
        status: VRDrillStatus,
        cluster: Option<Cluster>,
        behind: Option<String>,
        copy: Option<Copy>,
        now: Moment,
    }

    impl Story {
        fn new() -> Story {
            Story {
                status: VRDrillStatus::default(),
                cluster: Some(well()),
                behind: None,
                copy: Some(Copy::Absent),
                now: BEGAN,
            }
        }

        fn cluster(&mut self) -> &mut Cluster {
            self.cluster.as_mut().expect("it is there")
        }

        fn source(&mut self) -> &mut DrillSource {
            self.status.source.as_mut().expect("the drill has begun")
        }

        fn step(&mut self) -> Option<Act> {
            let spec = spec();
            let seen = Seen {
                spec: &spec,
                before: &self.status,
                made: BEGAN,
                cluster: self.cluster.clone(),
                behind: self.behind.clone(),
                copy: self.copy.clone(),
            };
            let (status, act) = decide(&seen, self.now);
            self.status = status;
            act
        }

        /// Up to the copy, with the canary committed at op 100.
        fn up_to_the_copy(mut self) -> Story {
            assert_eq!(self.step(), None);
            assert_eq!(self.step(), Some(Act::WriteCanary));
            self.source().canary_op = Some(100);
            assert_eq!(self.step(), None);
            assert_eq!(self.phase(), "Restoring");
            self
        }

        fn phase(&self) -> &str {
            self.status.phase.as_deref().unwrap_or_default()
        }

        fn result(&self) -> (&str, &str) {
            (
                self.status.result.as_deref().unwrap_or_default(),
                self.status.reason.as_deref().unwrap_or_default(),
            )
        }

        /// From what the copy told to the end, everything being taken away as asked.
        fn until_the_end(mut self, copy: Copy) -> Story {
            self.copy = Some(copy);
            for _ in 0..8 {
                match self.step() {
                    Some(Act::TidyUp) => self.copy = Some(Copy::Absent),
                    Some(Act::Record) => {
                        self.status.evidence =
                            Some(vr_api::Evidence { address: "s3://b/e".to_owned(), digest: "d".to_owned() });
                    }
                    _ => {}
                }
            }
            assert_eq!(self.phase(), "Finished");
            assert!(self.status.finished_at.is_some());
            self
        }
    }

    #[test]
    fn a_drill_passes() {
        let mut story = Story::new().up_to_the_copy();
        assert_eq!(story.step(), Some(Act::MakeCopy));
        story.copy = Some(Copy::Running);
        assert_eq!(story.step(), None);
        let story = story.until_the_end(told(passed()));
        assert_eq!(story.result(), ("Passed", ""));
        assert_eq!((story.status.rto_milliseconds, story.status.rpo_operations), (Some(3500), Some(2)));
        assert_eq!(story.status.found_root.as_deref(), Some("r"));
        assert!(story.status.evidence.is_some());
    }

    #[test]
    fn what_a_copy_says_of_itself_is_not_enough() {
        for (change, reason) in [
            ("/checks/0/name", "the copy has not proven canary"),
            ("/checks/1/name", "the copy has not proven rootIsManifests"),
            ("/restoredFrom/lineage", "sourceIsTheCluster: lineage x"),
        ] {
            let mut report = passed();
            *report.pointer_mut(change).expect("it is there") = "x".into();
            let story = Story::new().up_to_the_copy().until_the_end(told(report));
            let (result, why) = story.result();
            assert!(result == "Failed" && why.starts_with(reason), "{change}: {result}, {why}");
        }
        let mut report = passed();
        report["checks"][0]["passed"] = false.into();
        report["checks"][0]["detail"] = "an older one is there".into();
        let story = Story::new().up_to_the_copy().until_the_end(told(report));
        assert_eq!(story.result(), ("Failed", "canary: an older one is there"));
    }

    #[test]
    fn a_copy_that_tells_nothing_proves_nothing() {
        let ended = Copy::Ended { told: String::new(), how: "OOMKilled".to_owned() };
        let story = Story::new().up_to_the_copy().until_the_end(ended);
        assert_eq!(story.result(), ("Errored", "the copy ended without a report: OOMKilled"));
    }

    #[test]
    fn the_copy_waits_for_the_canary_and_not_for_ever() {
        let mut story = Story::new();
        story.cluster().reaches = Some(Op(99));
        story.step();
        story.source().canary_op = Some(100);
        assert_eq!((story.step(), story.phase()), (None, "Preparing"));
        assert_eq!(story.result().1, "the object store is to hold op 100, and holds op 99");
        story.now = BEGAN + Seconds(SHIPS.0 + 1);
        assert_eq!((story.step(), story.phase()), (None, "Restoring"));
    }

    type Change = fn(&mut Story);

    #[test]
    fn what_keeps_a_drill_from_beginning_is_said_and_ends_it() {
        let cases: [(Change, &str); 4] = [
            (|story| story.cluster = None, "there is no VRCluster prod"),
            (|story| story.cluster().paused = true, "spec.paused of VRCluster prod is set"),
            (|story| story.cluster().commit = None, "VRCluster prod does not serve"),
            (
                |story| story.behind = Some("earlier".to_owned()),
                "VRDrill earlier of the same cluster is not over",
            ),
        ];
        for (change, says) in cases {
            let mut story = Story::new();
            change(&mut story);
            assert_eq!((story.step(), story.phase()), (None, "Pending"));
            assert!(story.result().1.starts_with(says), "{:?}", story.result());
            story.now = BEGAN + Seconds(601);
            let story = story.until_the_end(Copy::Absent);
            assert_eq!(story.result().0, "Errored");
            assert!(story.result().1.contains(says), "{:?}", story.result());
        }
    }

    #[test]
    fn a_generation_that_begins_meanwhile_ends_the_drill() {
        let mut story = Story::new().up_to_the_copy();
        story.cluster().lineage = Some((Lineage::from("l"), Generation(2)));
        let story = story.until_the_end(told(passed()));
        assert_eq!(story.result().0, "Errored");
    }

    #[test]
    fn nothing_is_awaited_for_ever() {
        for (copy, result) in [
            (Copy::Absent, "Errored"),
            (Copy::Waiting("Unschedulable".to_owned()), "Errored"),
            (Copy::Running, "Failed"),
            (Copy::Foreign("Pod prod-drill".to_owned()), "Errored"),
        ] {
            let mut story = Story::new().up_to_the_copy();
            story.now = BEGAN + Seconds(601);
            let story = story.until_the_end(copy.clone());
            assert_eq!(story.result().0, result, "{copy:?}");
        }
    }

    #[test]
    fn a_drill_that_leaves_something_behind_has_failed() {
        let mut story = Story::new().up_to_the_copy();
        story.copy = Some(told(passed()));
        story.step();
        story.step();
        story.copy = Some(Copy::Going("Pod prod-drill".to_owned()));
        assert_eq!((story.step(), story.phase()), (Some(Act::TidyUp), "CleaningUp"));
        story.now = BEGAN + Seconds(600 + TIDIES.0 + 1);
        assert_eq!((story.step(), story.phase()), (None, "Finished"));
        assert_eq!(story.result(), ("Failed", "Pod prod-drill is still there: delete it"));
    }

    #[test]
    fn a_record_that_cannot_be_kept_makes_it_no_pass() {
        let mut story = Story::new().up_to_the_copy();
        story.copy = Some(told(passed()));
        story.step();
        story.step();
        story.copy = Some(Copy::Absent);
        assert_eq!(story.step(), Some(Act::Record));
        story.now = BEGAN + Seconds(600 + TIDIES.0 + 1);
        assert_eq!((story.step(), story.phase()), (None, "Finished"));
        assert_eq!(story.result().0, "Errored");
    }
}
