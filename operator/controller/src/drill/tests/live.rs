//! Drills that harm the cluster, as stories.

use super::*;
use DrillScenario::*;
use vr_api::DrillImpact;

fn voter(id: i64, zone: &str) -> Replica {
    Replica {
        id,
        incarnation: 10 + id,
        zone: zone.to_owned(),
        pod_name: format!("prod-{id}"),
        pod_uid: Some(format!("uid-{id}")),
    }
}

/// Five voters in three zones, the first leads.
fn five() -> Cluster {
    Cluster {
        whole: true,
        primary: Some(1),
        voters: [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b")].map(|(id, zone)| voter(id, zone)).to_vec(),
        tolerance: 2,
        zone_tolerance: 1,
        recovers_alone: true,
        ..well()
    }
}

fn story(scenario: DrillScenario) -> Story {
    let mut story = Story::new();
    story.spec.scenario = scenario;
    story.spec.allow_live_impact = true;
    story.spec.allow_data_loss = scenario == LoseAllMemory;
    story.cluster = Some(five());
    story
}

/// Up to the harm, which is not done yet.
fn up_to_the_harm(scenario: DrillScenario) -> Story {
    let mut story = story(scenario);
    assert_eq!((story.step(), story.phase()), (None, "Preparing"));
    assert_eq!(story.step(), Some(Act::MakeCopy));
    story.copy = Some(Copy::Running);
    assert_eq!((story.step(), story.phase()), (None, "Preparing"), "the probe has not written yet");
    story.cluster().probed = true;
    assert_eq!((story.step(), story.phase()), (None, "Restoring"), "{:?}", story.result());
    assert_eq!(story.step(), Some(Act::Harm));
    story
}

impl Story {
    fn impact(&mut self) -> &mut DrillImpact {
        self.status.impact.as_mut().expect("it was decided")
    }

    /// The harm is done, and every one that was ended has started anew.
    fn come_back(&mut self) {
        self.impact().at = Some(BEGAN.text());
        for voter in &mut self.cluster.as_mut().expect("it is there").voters {
            voter.incarnation += 100;
        }
    }

    fn taken(&mut self) -> Vec<i64> {
        self.impact().replicas.iter().map(|target| target.id).collect()
    }
}

/// What a probe tells that has found everything.
fn probe_passed() -> serde_json::Value {
    let mut report = serde_json::to_value(Report::of("probe")).expect("it is plain data");
    report["result"] = "Passed".into();
    report["rtoSeconds"] = 0.8.into();
    report["acknowledgedOps"] = 900.into();
    report["checks"] = serde_json::json!([
        {"name": "acknowledgedWritesPresent", "passed": true, "detail": "all"},
        {"name": "nothingInvented", "passed": true, "detail": "none"}]);
    report
}

#[test]
fn a_primary_is_lost_once_and_the_drill_passes() {
    let mut story = up_to_the_harm(LosePrimary);
    assert_eq!(story.taken(), [1]);
    assert!(story.impact().replicas[0].pod_uid.is_none(), "the pod stays");
    story.impact().at = Some(BEGAN.text());
    assert_eq!(story.step(), None, "the old start is still seen");
    assert!(story.result().1.contains("another start"), "{:?}", story.result());
    story.now = BEGAN + Seconds(11);
    assert_eq!(story.step(), Some(Act::Harm), "it was not reached");
    story.come_back();
    story.cluster().tolerance = 1;
    assert_eq!(story.step(), None);
    assert_eq!(story.result().1, "1 voters may be lost, 2 could be before");
    story.cluster().tolerance = 2;
    story.now = BEGAN + Seconds(12);
    assert_eq!(story.step(), None);
    assert_eq!(story.step(), Some(Act::EndProbe));
    let story = story.until_the_end(told(probe_passed()));
    assert_eq!(story.result(), ("Passed", ""));
    let status = &story.status;
    assert_eq!(
        (status.rto_milliseconds, status.acknowledged_writes, status.rpo_operations),
        (Some(800), Some(900), Some(0))
    );
    assert!(
        status
            .checks
            .iter()
            .any(|check| check.name == "wholeAgain" && check.detail == "prod-1 back after 12 s")
    );
    assert_eq!(report(LosePrimary, status).scenario, "LosePrimary");
    assert_eq!(report(LosePrimary, status).acknowledged_ops, 900);
}

#[test]
fn each_scenario_takes_whom_it_names() {
    assert_eq!(up_to_the_harm(LoseReplica).taken(), [5]);
    assert_eq!(up_to_the_harm(LoseZone).taken(), [1, 4]);
    assert_eq!(up_to_the_harm(LoseAllMemory).taken(), [1, 2, 3, 4, 5]);
    let mut zone = up_to_the_harm(LoseZone);
    assert_eq!(zone.impact().zone.as_deref(), Some("a"));
    assert_eq!(zone.impact().replicas[1].pod_uid.as_deref(), Some("uid-4"), "the pods go, too");
}

#[test]
fn a_cluster_that_must_not_be_harmed_is_not() {
    let cases: [(DrillScenario, Change, &str); 8] = [
        (
            LosePrimary,
            |story| story.spec.allow_live_impact = false,
            "spec.allowLiveImpact of the drill is not set",
        ),
        (LosePrimary, |story| story.cluster().whole = false, "VRCluster prod is not Ready"),
        (LosePrimary, |story| story.cluster().primary = None, "nobody is known to lead"),
        (LosePrimary, |story| story.cluster().tolerance = 0, "status.faultTolerance is 0"),
        (LoseReplica, |story| story.cluster().tolerance = 0, "status.faultTolerance is 0"),
        (LoseZone, |story| story.cluster().zone_tolerance = 0, "status.zoneFaultTolerance is 0"),
        (
            LoseAllMemory,
            |story| story.spec.allow_data_loss = false,
            "spec.allowDataLoss of the drill is not set",
        ),
        (
            LoseAllMemory,
            |story| story.cluster().recovers_alone = false,
            "spec.recovery.onTotalLoss to Automatic",
        ),
    ];
    for (scenario, change, says) in cases {
        // From the beginning …
        let mut early = story(scenario);
        change(&mut early);
        assert_eq!((early.step(), early.phase()), (None, "Pending"), "{says}");
        assert!(early.result().1.contains(says), "{:?}", early.result());
        early.now = BEGAN + Seconds(601);
        assert_eq!(early.until_the_end(Copy::Absent).result().0, "Errored");
        // … and when it has become so while the probe was made.
        let mut late = story(scenario);
        late.step();
        late.copy = Some(Copy::Running);
        late.cluster().probed = true;
        change(&mut late);
        assert_eq!(late.step(), None);
        assert!(late.status.impact.is_none());
        let late = late.until_the_end(Copy::Absent);
        assert!(late.result().0 == "Errored" && late.result().1.contains(says), "{:?}", late.result());
    }
}

#[test]
fn a_total_loss_is_whole_again_in_another_generation() {
    let mut story = up_to_the_harm(LoseAllMemory);
    story.impact().at = Some(BEGAN.text());
    // The same ids may come with any start: it is the generation that tells.
    story.cluster().lineage = Some((Lineage::from("l"), Generation(2)));
    assert_eq!(story.step(), None);
    assert_eq!(story.step(), Some(Act::EndProbe));
    let mut report = probe_passed();
    report["lostOps"] = 7.into();
    report["rpoSeconds"] = 1.5.into();
    let story = story.until_the_end(told(report));
    assert_eq!(story.result(), ("Passed", ""));
    assert_eq!((story.status.rpo_operations, story.status.rpo_milliseconds), (Some(7), Some(1500)));
}

#[test]
fn what_a_probe_misses_fails_the_drill() {
    let mut report = probe_passed();
    report["result"] = "Failed".into();
    report["checks"][0]["passed"] = false.into();
    report["checks"][0]["detail"] = "\"k\" lacks its value".into();
    let mut story = up_to_the_harm(LosePrimary);
    story.come_back();
    story.step();
    let story = story.until_the_end(told(report));
    assert_eq!(story.result().0, "Failed");
    // One that says nothing of it has proven nothing, and one that ended too early, too.
    let mut silent = probe_passed();
    silent["checks"] = serde_json::json!([]);
    let mut story = up_to_the_harm(LosePrimary);
    story.come_back();
    story.step();
    let story = story.until_the_end(told(silent));
    assert_eq!(story.result(), ("Failed", "the drill has not proven acknowledgedWritesPresent"));
    let mut story = up_to_the_harm(LosePrimary);
    story.impact().at = Some(BEGAN.text());
    let story = story.until_the_end(told(probe_passed()));
    assert_eq!(story.result(), ("Failed", "wholeAgain: the probe ended before the cluster was whole again"));
}

#[test]
fn a_cluster_that_does_not_come_back_fails_the_drill_and_a_probe_that_goes_errs() {
    let mut story = up_to_the_harm(LoseZone);
    story.come_back();
    story.cluster().whole = false;
    story.now = BEGAN + Seconds(601);
    let story = story.until_the_end(Copy::Running);
    assert_eq!(
        story.result(),
        ("Failed", "the cluster was not whole again before the deadline: the cluster is to be Ready again")
    );
    let mut story = up_to_the_harm(LosePrimary);
    story.come_back();
    story.cluster().whole = false;
    let story = story.until_the_end(Copy::Absent);
    assert_eq!(story.result().0, "Errored");
    let mut story = up_to_the_harm(LosePrimary);
    story.now = BEGAN + Seconds(601);
    let story = story.until_the_end(Copy::Running);
    assert_eq!(story.result(), ("Errored", "nothing could be harmed before the deadline"));
}
