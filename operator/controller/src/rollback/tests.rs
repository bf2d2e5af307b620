//! Roll-backs, decision by decision.

use super::*;
use vr_api::LocalReference;
use vr_checkpoint::restore::Located;

const NOW: Moment = Moment(1_800_000_000);

/// A roll-back and all that is seen of it; each test changes what it is about.
struct Case {
    target: RestoreTarget,
    before: VRRestoreStatus,
    cluster: Option<Cluster>,
    behind: Option<String>,
    named: Named,
    search: Option<Copy>,
    held: Named,
    now: Moment,
}

fn target(change: impl FnOnce(&mut RestoreTarget)) -> RestoreTarget {
    let mut target =
        RestoreTarget { before_time: None, op_number: None, revision: None, checkpoint_ref: None };
    change(&mut target);
    target
}

fn case() -> Case {
    Case {
        target: target(|t| t.op_number = Some(90)),
        before: VRRestoreStatus::default(),
        cluster: Some(Cluster {
            lineage: Some((Lineage::from("l"), Generation(1))),
            commit: Some(Op(100)),
            reaches: Some(Op(100)),
            ..Cluster::default()
        }),
        behind: None,
        named: Named::Absent,
        search: Some(Copy::Absent),
        held: Named::Absent,
        now: NOW,
    }
}

impl Case {
    fn decide(&self) -> (VRRestoreStatus, Says, Option<Act>) {
        let spec = VRRestoreSpec {
            cluster_ref: LocalReference { name: "prod".to_owned() },
            plan_nonce: None,
            target: Some(self.target.clone()),
            acknowledge_data_loss: "prod".to_owned(),
        };
        let seen = Seen {
            spec: &spec,
            target: &self.target,
            before: &self.before,
            nonce: "uid".to_owned(),
            cluster: self.cluster.clone(),
            behind: self.behind.clone(),
            named: self.named.clone(),
            search: self.search.clone(),
            held: self.held.clone(),
        };
        decide(&seen, self.now)
    }

    /// What is said then, and that nothing is done.
    fn says(&self) -> Says {
        let (_, says, act) = self.decide();
        assert_eq!(act, None, "{says:?}");
        says
    }

    /// Decides, and keeps what is to be on record.
    fn turn(&mut self) -> (Says, Option<Act>) {
        let (status, says, act) = self.decide();
        self.before = status;
        (says, act)
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("it is there")
    }
}

fn answer(answer: Answer) -> Option<Copy> {
    let told = serde_json::to_string(&answer).expect("JSON");
    Some(Copy::Ended { told, how: "exit status 0".to_owned() })
}

fn located() -> Located {
    Located {
        lineage: "l".to_owned(),
        generation: 1,
        checkpoint: 80,
        root: "00".to_owned(),
        op: 90,
        time_micros: 1_799_999_000_000_000,
        revision: 77,
    }
}

/// Until its target is found and held.
fn fencing() -> Case {
    let mut case = case();
    case.turn();
    case.search = answer(Answer::Located(located()));
    case.turn();
    case.held = Named::Pinned(Op(80), Generation(1));
    case.turn();
    case
}

#[test]
fn it_is_found_then_held_then_begun_then_over() {
    let mut case = case();
    assert_eq!(case.turn().0.0, "Locating");
    assert_eq!(case.before.asked_op, Some(100));
    assert_eq!(case.turn().1, Some(Act::Search));
    case.search = Some(Copy::Running);
    assert_eq!(case.turn(), (("Locating", "the target is looked for in the object store".to_owned()), None));
    case.search = answer(Answer::Located(located()));
    assert_eq!(case.turn().0.1, "it is op 90 (revision 77)");
    assert_eq!(case.turn().1, Some(Act::Hold));
    case.held = Named::Taking;
    assert_eq!(case.turn().1, None);
    case.held = Named::Pinned(Op(80), Generation(1));
    assert_eq!(case.turn().0.0, "Fencing");
    assert_eq!(case.before.generation, Some(2));
    // The cluster takes it up.
    let from = source(case.before.located.as_ref().expect("it was found"));
    assert_eq!(from, "object store: checkpoint 80 of generation 1 at op 90");
    case.cluster().lineage = Some((Lineage::from("l"), Generation(2)));
    case.cluster().restored_from = Some(from);
    for (step, phase) in [("Fencing", "Fencing"), ("Volumes", "Loading"), ("Pods of 3", "Forming")] {
        case.cluster().recovering = Some(("uid".to_owned(), step.to_owned()));
        assert_eq!(case.turn().0.0, phase);
    }
    case.cluster().recovering = None;
    case.cluster().reaches = None;
    assert_eq!(case.turn().0.0, "Checkpointing");
    case.cluster().reaches = Some(Op(91));
    assert_eq!(case.turn().0.0, "Succeeded");
    let phases: Vec<_> = case.before.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["Locating", "Fencing", "Loading", "Forming", "Checkpointing", "Succeeded"]);
    assert!(over(&case.before));
}

#[test]
fn what_was_committed_is_to_be_in_the_object_store_first_but_not_for_ever() {
    let mut case = case();
    case.cluster().reaches = Some(Op(95));
    case.turn();
    let (says, act) = case.turn();
    assert_eq!((says.1.as_str(), act), ("the object store is to hold op 100 first, and holds op 95", None));
    case.now = NOW + Seconds(121);
    assert_eq!(case.turn().1, Some(Act::Search));
    // A cluster that is lost ships nothing any more.
    let mut lost = self::case();
    lost.turn();
    (lost.cluster().commit, lost.cluster().reaches) = (None, None);
    assert_eq!(lost.turn().1, Some(Act::Search));
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do_next() {
    let refused = |change: fn(&mut Case), words: &str| {
        let mut case = case();
        change(&mut case);
        let (phase, text) = case.says();
        assert_eq!(phase, "Refused", "{text}");
        assert!(text.contains(words), "{text}");
    };
    refused(|c| c.target = target(|t| t.before_time = Some("yesterday".to_owned())), "give a date");
    refused(
        |c| c.target = target(|t| t.before_time = Some("2999-01-01T00:00:00Z".to_owned())),
        "yet to come",
    );
    let named = |c: &mut Case| {
        let name = "gone".to_owned();
        c.target = target(|t| t.checkpoint_ref = Some(LocalReference { name }));
    };
    refused(
        |c| c.target = target(|t| t.checkpoint_ref = Some(LocalReference { name: "gone".to_owned() })),
        "`kubectl get vrcp` lists them",
    );
    refused(|c| c.cluster().deleting = true, "is being deleted");
    let mut case = case();
    named(&mut case);
    case.named = Named::Foreign("it is of VRCluster other".to_owned());
    assert_eq!(case.says().0, "Refused");
    case.named = Named::Failed("no checkpoint of op 1 or before is in the object store".to_owned());
    assert_eq!(case.says().0, "Refused");
    case.named = Named::Taking;
    assert_eq!(case.says().0, "Pending");
    case.named = Named::Pinned(Op(80), Generation(1));
    assert_eq!(case.says().0, "Locating");
}

#[test]
fn where_nothing_leads_is_refused_and_nothing_was_touched() {
    let mut case = case();
    case.turn();
    case.search = answer(Answer::Nowhere("op 9 lies before the oldest checkpoint".to_owned()));
    let (phase, text) = case.says();
    assert_eq!(phase, "Refused");
    assert!(text.contains("op 9 lies before") && text.contains("kubectl vr restore-points prod"), "{text}");
    assert!(text.ends_with("The cluster was not touched"), "{text}");
    for (search, words) in [
        (
            Copy::Ended { told: String::new(), how: "exit status 1; 403".to_owned() },
            "without an answer: exit status 1; 403",
        ),
        (Copy::Foreign("Pod back-target".to_owned()), "Pod back-target is in the way"),
    ] {
        case.search = Some(search);
        let (phase, text) = case.says();
        assert_eq!(phase, "Failed");
        assert!(text.contains(words) && text.ends_with("The cluster was not touched"), "{text}");
    }
    let other = Located { lineage: "other".to_owned(), ..located() };
    case.search = answer(Answer::Located(other));
    assert_eq!(case.says().0, "Failed");
}

#[test]
fn what_is_awaited_is_said_and_has_an_end() {
    let waits = |change: fn(&mut Case), words: &str| {
        let mut case = case();
        change(&mut case);
        let (phase, text) = case.says();
        assert_eq!(phase, "Pending", "{text}");
        assert!(text.contains(words), "{text}");
    };
    waits(|c| c.cluster = None, "there is no VRCluster prod");
    waits(|c| c.behind = Some("other".to_owned()), "VRRestore other");
    waits(|c| c.cluster().paused = true, "spec.paused");
    waits(|c| c.cluster().lineage = None, "has not begun");
    waits(|c| c.cluster().recovering = Some(("n".to_owned(), "Ending".to_owned())), "another recovery");
    let mut case = case();
    // A plan on the table waits for a person, and this is one.
    case.cluster().recovering = Some(("n".to_owned(), "Planned".to_owned()));
    assert_eq!(case.turn().0.0, "Locating");
    case.search = Some(Copy::Waiting("Unschedulable".to_owned()));
    assert_eq!(case.says().0, "Locating");
    case.now = NOW + Seconds(1801);
    assert_eq!(case.says().0, "Failed");
    case.search = None;
    assert_eq!(case.says().0, "Locating", "what could not be looked at proves nothing");
}

#[test]
fn what_was_found_is_held_or_nothing_begins() {
    let mut case = case();
    case.turn();
    case.search = answer(Answer::Located(located()));
    case.turn();
    for held in [
        Named::Pinned(Op(70), Generation(1)),
        Named::Pinned(Op(80), Generation(2)),
        Named::Foreign("somebody else's".to_owned()),
        Named::Failed("it is not there".to_owned()),
    ] {
        case.held = held.clone();
        let (status, says, _) = case.decide();
        assert_eq!((says.0, status.generation), ("Failed", None), "{held:?}");
    }
}

#[test]
fn another_recovery_that_was_first_is_not_taken_for_this_one() {
    let mut case = fencing();
    assert_eq!(case.says().0, "Fencing");
    case.cluster().lineage = Some((Lineage::from("l"), Generation(2)));
    case.cluster().recovering = Some(("another".to_owned(), "Volumes".to_owned()));
    let (phase, text) = case.says();
    assert_eq!(phase, "Failed");
    assert!(text.contains("another recovery has begun generation 2 first"), "{text}");
    case.cluster().lineage = Some((Lineage::from("l"), Generation(3)));
    case.cluster().recovering = None;
    assert_eq!(case.says().0, "Failed");
}
