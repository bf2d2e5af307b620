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
        .is_some_and(|(_, step)| !["Confirming", "Planned"].contains(&step.as_str()))
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

#[cfg(test)]
mod tests {
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
        assert_eq!(
            case.turn(),
            (("Locating", "the target is looked for in the object store".to_owned()), None)
        );
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
        assert_eq!(
            (says.1.as_str(), act),
            ("the object store is to hold op 100 first, and holds op 95", None)
        );
        case.now = NOW + Seconds(121);
        assert_eq!(case.turn().1, Some(Act::Search));
        // A cluster that is lost ships nothing any more.
        let mut lost = super::tests::case();
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
        assert!(
            text.contains("op 9 lies before") && text.contains("kubectl vr restore-points prod"),
            "{text}"
        );
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
}
