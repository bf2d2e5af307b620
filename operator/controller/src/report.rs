//! What is said of a cluster: always, on every path, and in the same words as long as nothing has changed, so that at
//! rest there is nothing to write but how far replicas and tiers have come ([`NUMBERS`]).

use crate::evidence::{Look, Members, Standing};
use crate::ids::*;
use crate::plan::Decision;
use crate::protection;
use crate::proven;
use crate::snapshot::{Configuration, FRESH, Member, Store, Trouble};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::BTreeMap;
use vr_api::{LineageStatus, Operation, PrimaryStatus, ReplicaStatus, VRClusterStatus};

/// Where nothing but numbers has moved they are written anew at most this often, all of them together. The log grows by
/// a few entries with every checkpoint, so that they move in a cluster which nobody writes to as well.
pub(crate) const NUMBERS: Seconds = Seconds(30);

/// What is so (not known if absent), why in one word, and the same for a person.
pub(crate) type Fact = (Option<bool>, &'static str, String);

pub(crate) fn status(look: &Look<'_>, decision: &Decision) -> VRClusterStatus {
    let before = look.before;
    let mut status = before.clone();
    status.observed_generation = Some(look.wanted.generation);
    status.selector = Some(format!("vr-operator.io/cluster={}", look.wanted.name));
    let lineage = decision.begins.clone().or_else(|| look.lineage.clone());
    if let (None, Some(lineage)) = (&before.lineage, lineage) {
        let generation = look.generation.signed();
        status.lineage = Some(LineageStatus { id: lineage.0, generation, restored_from: None });
    }
    if let Some((generation, from)) = &decision.succeeds {
        // Everything that was said of the members is of the generation that is over.
        status.lineage = status.lineage.map(|known| LineageStatus {
            generation: generation.signed(),
            restored_from: Some(from.clone()),
            ..known
        });
        (status.epoch, status.view, status.primary) = (None, None, None);
        status.tiers = Vec::new();
        status.replica_statuses = Vec::new();
    } else if look.pods().is_some()
        && let Some(configuration) = look.configuration()
    {
        members(look, configuration, &mut status);
        protection::tiers(look, &mut status);
    }
    status.operation = operation(look, decision);
    if !decision.aside {
        status.recovery_plan = decision.recovery_plan.clone();
    }
    if decision.lost.is_some() {
        status.data_loss = decision.lost.clone();
    }
    if let Some(ended) = look.seen.drilled.fresh(look.now, FRESH) {
        status.last_drill = proven::remember(status.last_drill.as_ref(), ended);
    }
    conditions(look, decision, &mut status);
    let written =
        before.replica_statuses.iter().filter_map(|r| Moment::parse(r.observed_at.as_deref()?)).max();
    // Another operator's clock may have been ahead.
    let lately = written.is_some_and(|at| (Seconds(0)..NUMBERS).contains(&look.now.since(at)));
    if without_numbers(&status) == without_numbers(before) && (lately || same_numbers(&status, before)) {
        return before.clone();
    }
    status
}

/// Whether a status differs from another in nothing that anybody decides by: writing it can wait, and needs no list of
/// what there is.
pub(crate) fn differs_in_numbers(status: &VRClusterStatus, before: &VRClusterStatus) -> bool {
    status != before && without_numbers(status) == without_numbers(before)
}

/// What remains of a status without how far each replica and tier has come.
fn without_numbers(status: &VRClusterStatus) -> VRClusterStatus {
    let mut rest = status.clone();
    for replica in &mut rest.replica_statuses {
        (replica.op, replica.commit, replica.observed_at) = (None, None, None);
    }
    for tier in &mut rest.tiers {
        // That a tier holds something at all is no number.
        (tier.op, tier.lag_seconds, tier.time) = (None, None, tier.time.take().map(|_| String::new()));
    }
    let points = [&mut rest.recovery_point, &mut rest.first_recovery_point];
    for point in points.into_iter().flatten() {
        (point.op, point.time) = (0, String::new());
    }
    rest
}

/// Whether nothing has moved but the clock.
fn same_numbers(status: &VRClusterStatus, before: &VRClusterStatus) -> bool {
    let replicas =
        |s: &VRClusterStatus| s.replica_statuses.iter().map(|r| (r.op, r.commit)).collect::<Vec<_>>();
    let tiers =
        |s: &VRClusterStatus| s.tiers.iter().map(|t| (t.op, t.lag_seconds == Some(0))).collect::<Vec<_>>();
    replicas(status) == replicas(before)
        && tiers(status) == tiers(before)
        && status.first_recovery_point == before.first_recovery_point
}

/// The reason of a cluster for which something was to be done and could not be.
pub(crate) const BLOCKED: &str = "Blocked";

/// The status, with what could not be done: whatever else holds, it is not as it was wanted.
pub(crate) fn blocked(
    mut status: VRClusterStatus,
    says: String,
    generation: Option<i64>,
    now: Moment,
) -> VRClusterStatus {
    let at = status.conditions.iter().position(|c| c.type_ == "Ready");
    let since = at.map(|at| &status.conditions[at]).filter(|c| c.status == "False");
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: BLOCKED.to_owned(),
        last_transition_time: since.map_or_else(|| Time(jiff_time(now)), |c| c.last_transition_time.clone()),
        message: says,
        observed_generation: generation,
    };
    match at {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
    status
}

fn members(look: &Look<'_>, configuration: &Configuration, status: &mut VRClusterStatus) {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    status.replicas = count(configuration.voters.len());
    status.ready_replicas = count(look.serving().len());
    if configuration.epoch > Epoch(0) || matches!(look.members, Members::Heard(_)) {
        status.epoch = Some(configuration.epoch.signed());
    }
    status.fault_tolerance = Some(i32::try_from(look.tolerance()).unwrap_or(i32::MIN));
    status.zone_fault_tolerance = Some(zone_tolerance(look, configuration));
    let voters = configuration.voters.iter().map(|m| (m, true));
    status.replica_statuses = voters
        .chain(configuration.learners.iter().map(|m| (m, false)))
        .map(|(m, voter)| replica(look, m, voter))
        .collect();
    if let Some((leader, said)) = look.primary() {
        let before = look.before.primary.as_ref().filter(|p| p.id == leader.id.signed());
        status.view = Some(i64::try_from(said.view).unwrap_or(i64::MAX));
        status.primary = Some(PrimaryStatus {
            id: leader.id.signed(),
            pod_name: look.pod_name(leader.slot),
            zone: Some(leader.zone.0.clone()),
            since: before.map_or_else(|| Some(look.now.text()), |p| p.since.clone()),
        });
    } else {
        status.primary = None;
    }
}

/// How many zones may be lost, the fullest first; -1 during an outage.
fn zone_tolerance(look: &Look<'_>, configuration: &Configuration) -> i32 {
    let mut zones: BTreeMap<&Zone, usize> = BTreeMap::new();
    let serving = look.serving();
    serving.iter().for_each(|m| *zones.entry(&m.zone).or_default() += 1);
    let mut counts: Vec<usize> = zones.into_values().collect();
    counts.sort_unstable();
    let (mut left, mut lost) = (serving.len(), -1);
    while left >= configuration.quorum() {
        lost += 1;
        left -= counts.pop().unwrap_or(left);
    }
    lost
}

fn replica(look: &Look<'_>, member: &Member, voter: bool) -> ReplicaStatus {
    let before = look.before.replica_statuses.iter().find(|r| r.id == member.id.signed());
    let standing = look.standing(member);
    let mut status = ReplicaStatus {
        id: member.id.signed(),
        slot: look.pod_name(member.slot),
        zone: Some(member.zone.0.clone()),
        incarnation: before.and_then(|b| b.incarnation),
        state: match &standing {
            Standing::Serving(said)
            | Standing::Busy(said)
            | Standing::Amnesiac(said)
            | Standing::Halted(said) => said.state_name.clone(),
            Standing::Silent(silence) => {
                silence.trouble.map_or_else(|| "Unreachable".to_owned(), |trouble| format!("{trouble:?}"))
            }
            Standing::Idle(_) => "Ended".to_owned(),
            Standing::Gone => "Gone".to_owned(),
        },
        voter,
        op: before.and_then(|b| b.op),
        commit: before.and_then(|b| b.commit),
        observed_at: before.and_then(|b| b.observed_at.clone()),
    };
    if let Some(said) = look.said(member.slot, member.id) {
        status.incarnation = Some(i64::try_from(said.incarnation).unwrap_or(i64::MAX));
        (status.op, status.commit) = (Some(said.op.signed()), Some(said.commit.signed()));
        status.observed_at = Some(said.at.text());
    }
    status
}

fn operation(look: &Look<'_>, decision: &Decision) -> Option<Operation> {
    // Nothing was decided: what was begun is still so.
    if decision.aside || look.wanted.paused || look.pods().is_none() || look.volumes().is_none() {
        return look.before.operation.clone();
    }
    let doing = decision.doing.as_ref()?;
    let replica = doing.replica.map(ReplicaId::signed);
    let before = look.before.operation.as_ref().filter(|o| o.kind == doing.kind && !doing.anew);
    let started_at = before.map_or_else(|| look.now.text(), |o| o.started_at.clone());
    let deadline = Moment::parse(&started_at).map(|t| (t + doing.patience).text());
    Some(Operation { kind: doing.kind.to_owned(), step: doing.step.clone(), replica, started_at, deadline })
}

fn conditions(look: &Look<'_>, decision: &Decision, status: &mut VRClusterStatus) {
    let configuration = look.configuration();
    let says = decision.says.as_str();
    let committing = look.committing().is_some();
    let heard = matches!(look.members, Members::Heard(_));
    let (serving, voters) = (look.serving().len(), configuration.map_or(0, |c| c.voters.len()));
    let available = if committing {
        (Some(true), "QuorumHealthy", format!("{serving} of {voters} voters take part"))
    } else if let "QuorumLost" | "TotalLoss" | "Bootstrapping" | "BootstrapRefused" | "Restoring"
    | "Hibernated" | "Superseded" | "LineageFound" = decision.reason
    {
        (Some(false), decision.reason, says.to_owned())
    } else if !heard && configuration.is_some() {
        (None, "StatusStale", format!("no replica was heard for {}; {says}", FRESH))
    } else if look.tolerance() >= 0 {
        (Some(false), "NoPrimary", "enough voters take part and none of them leads yet".to_owned())
    } else {
        (Some(false), "QuorumUnavailable", says.to_owned())
    };
    let as_wanted = committing
        && serving == look.wanted.replicas
        && configuration.is_some_and(|c| c.voters.len() == look.wanted.replicas && c.learners.is_empty());
    let ready = if as_wanted && decision.doing.is_none() {
        (Some(true), if look.wanted.paused { "Paused" } else { "Healthy" }, says.to_owned())
    } else if decision.reason == "AsWanted" {
        (Some(false), "Degraded", format!("{serving} of {} voters take part", look.wanted.replicas))
    } else {
        (Some(false), decision.reason, says.to_owned())
    };
    let ready = with_troubles(look, ready);
    let leader = look.primary().map(|(m, _)| look.wanted.rank(&m.zone));
    let best = configuration.and_then(|c| c.voters.iter().map(|m| look.wanted.rank(&m.zone)).min());
    let yes = |fact: bool, yes: &'static str, no: &'static str, says: String| {
        (Some(fact), if fact { yes } else { no }, says)
    };
    let tolerance = look.tolerance();
    let all = [
        ("Ready", ready),
        ("Available", available),
        ("Progressing", yes(decision.doing.is_some(), decision.reason, "AtRest", says.to_owned())),
        (
            "Degraded",
            yes(
                configuration.is_some() && serving < voters,
                "ReplicasMissing",
                "Complete",
                format!("{serving} of {voters} voters take part"),
            ),
        ),
        (
            "QuorumSafe",
            yes(
                tolerance >= 1,
                "Tolerant",
                "AtMinimum",
                format!("{} voters may be lost now", tolerance.max(0)),
            ),
        ),
        ("TopologySatisfied", topology(configuration)),
        (
            "PrimaryPlacementSatisfied",
            match leader {
                None => (None, "NoPrimary", "no primary is heard".to_owned()),
                Some(rank) => yes(
                    Some(rank) == best,
                    "Preferred",
                    "Elsewhere",
                    "of the zones with a voter, placement.preferredZones would have the primary in the first"
                        .to_owned(),
                ),
            },
        ),
        ("ObjectStoreOwned", owned(look)),
        ("Paused", yes(look.wanted.paused, "Paused", "Running", "spec.paused".to_owned())),
    ];
    let protection = protection::conditions(look, status);
    for (kind, (fact, reason, message)) in all.into_iter().chain(protection) {
        set(look, status, kind, fact, reason, message);
    }
}

/// What is not as it was wanted, and what keeps pods from running: people are to learn it where they look first.
fn with_troubles(look: &Look<'_>, (fact, reason, mut says): Fact) -> Fact {
    if fact != Some(true) {
        for (slot, pod) in look.pods().into_iter().flatten() {
            if let Some(trouble) = pod.trouble {
                says.push_str("; ");
                says.push_str(&remedy(trouble, &look.pod_name(*slot)));
            }
        }
    }
    (fact, reason, says)
}

fn remedy(trouble: Trouble, pod: &str) -> String {
    match trouble {
        Trouble::Image => format!(
            "the image of pod {pod} cannot be pulled: correct spec.image or podTemplate.imagePullSecrets; `kubectl \
             describe pod {pod}` tells what the registry says"
        ),
        Trouble::Configuration => format!(
            "pod {pod} refuses its configuration or certificates: `kubectl logs {pod} --previous` tells why"
        ),
        Trouble::OutOfMemory => {
            format!("pod {pod} was ended for its memory: raise memory.limit, or lower memory.stateLimit")
        }
        Trouble::CrashLoop => {
            format!("pod {pod} ends again and again: `kubectl logs {pod} --previous` tells why")
        }
        Trouble::Unschedulable => {
            format!("no node takes pod {pod}: `kubectl describe pod {pod}` tells what each of them lacks")
        }
        Trouble::NoVoteRecord => {
            format!("the replica of pod {pod} has lost its vote record and will be replaced")
        }
    }
}

fn topology(configuration: Option<&Configuration>) -> Fact {
    let Some(configuration) = configuration else {
        return (None, "NoMembers", "there are no members".to_owned());
    };
    let mut zones: BTreeMap<&Zone, usize> = BTreeMap::new();
    configuration.voters.iter().for_each(|m| *zones.entry(&m.zone).or_default() += 1);
    let most = zones.values().max().copied().unwrap_or_default();
    let spread =
        configuration.voters.len() == 1 || configuration.voters.len() - most >= configuration.quorum();
    let says =
        format!("{} voters in {} zones, at most {most} in one", configuration.voters.len(), zones.len());
    (Some(spread), if spread { "Spread" } else { "ZoneLossIsOutage" }, says)
}

fn owned(look: &Look<'_>) -> Fact {
    match look.store() {
        None => (None, "Unreachable", "the object store could not be asked lately".to_owned()),
        Some(Store::Empty) => (Some(false), "Empty", "nothing is below the prefix yet".to_owned()),
        Some(Store::Unusable(why)) => (Some(false), "Unusable", why.clone()),
        Some(Store::Mine { lineage, generation }) => {
            let says = format!("lineage {lineage}");
            if look.lineage.as_ref() != Some(lineage) {
                (Some(false), "ForeignLineage", says)
            } else if !look.copies() && generation.is_some_and(|found| found > look.generation) {
                (Some(false), "Superseded", says)
            } else {
                (Some(true), "Owned", says)
            }
        }
    }
}

fn set(
    look: &Look<'_>,
    status: &mut VRClusterStatus,
    kind: &str,
    fact: Option<bool>,
    reason: &str,
    message: String,
) {
    let text = match fact {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let at = status.conditions.iter().position(|c| c.type_ == kind);
    let now = Time(jiff_time(look.now));
    let changed = at
        .map(|at| &status.conditions[at])
        .filter(|c| c.status == text)
        .map(|c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(look.wanted.generation),
        last_transition_time: changed.unwrap_or(now),
    };
    match at {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

fn jiff_time(at: Moment) -> k8s_openapi::jiff::Timestamp {
    k8s_openapi::jiff::Timestamp::from_second(at.0).unwrap_or(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}
