//! Drills as stories: each step is decided from the record alone, as by another operator every time.

use super::*;
use vr_api::LocalReference;

mod live;

const BEGAN: Moment = Moment(1_800_000_000);

fn spec() -> VRDrillSpec {
    VRDrillSpec {
        cluster_ref: LocalReference { name: "prod".to_owned() },
        scenario: vr_api::DrillScenario::RestoreFromObjectStore,
        reader: None,
        deadline_seconds: Some(600),
        memory_limit: None,
        allow_live_impact: false,
        allow_data_loss: false,
    }
}

fn well() -> Cluster {
    Cluster {
        lineage: Some((Lineage::from("l"), Generation(1))),
        commit: Some(Op(100)),
        reaches: Some(Op(100)),
        paused: false,
        ..Cluster::default()
    }
}

fn told(report: serde_json::Value) -> Copy {
    Copy::Ended { told: report.to_string(), how: "exit status 0".to_owned() }
}

/// What a copy tells that has found everything.
fn passed() -> serde_json::Value {
    let mut report = serde_json::to_value(Report::of("restore-from-object-store")).expect("it is plain data");
    report["result"] = "Passed".into();
    report["rtoSeconds"] = 3.5.into();
    report["rpoOps"] = 2.into();
    report["expectedRoot"] = "r".into();
    report["restoredFrom"] =
        serde_json::json!({"tier": "objectStore", "lineage": "l", "generation": 1, "op": 98, "root": "r"});
    report["checks"] = serde_json::json!([
        {"name": "canary", "passed": true, "detail": "it is there"},
        {"name": "rootIsManifests", "passed": true, "detail": "r"}]);
    report
}

/// Goes from decision to decision, as operators do who each have only the record; ends with what was done.
struct Story {
    spec: VRDrillSpec,
    status: VRDrillStatus,
    cluster: Option<Cluster>,
    behind: Option<String>,
    copy: Option<Copy>,
    now: Moment,
}

impl Story {
    fn new() -> Story {
        Story {
            spec: spec(),
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
        let seen = Seen {
            spec: &self.spec,
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
        (self.status.result.as_deref().unwrap_or_default(), self.status.reason.as_deref().unwrap_or_default())
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
