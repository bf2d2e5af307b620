//! A drill that harms its cluster: a probe writes as a client does, what the scenario names is taken away, the cluster
//! comes back by its own means, and the probe says what a client noticed and whether anything is missing. Pure.
//!
//! Promises: nothing is harmed without `allowLiveImpact` (the API server sees to that as well), in a cluster that is not
//! whole, or in one that the loss would stop; LoseAllMemory stops it in any case, and wants `allowDataLoss` and somebody
//! who recovers it: `recovery.onTotalLoss: Automatic`. Who is to be lost is on record before it happens, by the start of
//! each process and the UID of each pod, so that nobody is harmed twice. Not: that the cluster survives; that is what the
//! drill finds out.

use super::{Act, Cluster, Copy, Seen, abandoned, enter, told};
use crate::ids::*;
use vr_api::{DrillImpact, DrillScenario, DrillTarget, VRDrillSpec, VRDrillStatus};
use vr_evidence::report::Report;

/// Whoever is still seen after so long was not reached by the first try. It is safe to try again: it names the start.
const TRIES_AGAIN: Seconds = Seconds(10);
/// What the probe must have proven.
pub(super) const PROOFS: [&str; 3] = ["acknowledgedWritesPresent", "nothingInvented", "wholeAgain"];

/// One voter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) id: i64,
    pub(crate) incarnation: i64,
    pub(crate) zone: String,
    pub(crate) pod_name: String,
    /// Nothing while there is no such pod.
    pub(crate) pod_uid: Option<String>,
}

/// Why the cluster must not be harmed so now.
pub(super) fn unfit(spec: &VRDrillSpec, cluster: &Cluster) -> Option<String> {
    let (name, scenario) = (&spec.cluster_ref.name, spec.scenario);
    if !spec.allow_live_impact {
        return Some(format!("{scenario:?} harms the cluster: spec.allowLiveImpact of the drill is not set"));
    }
    if !cluster.whole {
        return Some(format!("VRCluster {name} is not Ready: it is not harmed further"));
    }
    if cluster.primary.is_none() {
        return Some(format!("nobody is known to lead VRCluster {name}"));
    }
    match scenario {
        DrillScenario::LoseAllMemory if !spec.allow_data_loss => Some(
            "LoseAllMemory loses acknowledged writes: spec.allowDataLoss of the drill is not set".to_owned(),
        ),
        DrillScenario::LoseAllMemory if !cluster.recovers_alone => Some(format!(
            "nobody would recover VRCluster {name} afterwards: set its spec.recovery.onTotalLoss to Automatic"
        )),
        DrillScenario::LoseAllMemory if cluster.reaches.is_none() => {
            Some(format!("the object store holds nothing that VRCluster {name} could be recovered from"))
        }
        DrillScenario::LoseZone if cluster.zone_tolerance < 1 => Some(format!(
            "VRCluster {name} would not survive the loss of a zone now: status.zoneFaultTolerance is {}",
            cluster.zone_tolerance
        )),
        DrillScenario::LosePrimary | DrillScenario::LoseReplica if cluster.tolerance < 1 => Some(format!(
            "VRCluster {name} would not survive the loss of a replica now: status.faultTolerance is {}",
            cluster.tolerance
        )),
        _ => None,
    }
}

/// Whom the scenario takes, or why nobody can be named.
fn impact(scenario: DrillScenario, cluster: &Cluster) -> Result<DrillImpact, String> {
    let leader = cluster.voters.iter().find(|voter| Some(voter.id) == cluster.primary);
    let leader = leader.ok_or("the primary is not among the voters that are known")?;
    let chosen: Vec<&Replica> = match scenario {
        DrillScenario::LosePrimary => vec![leader],
        DrillScenario::LoseReplica => cluster
            .voters
            .iter()
            .filter(|voter| voter.id != leader.id)
            .max_by_key(|v| v.id)
            .into_iter()
            .collect(),
        DrillScenario::LoseZone => cluster.voters.iter().filter(|voter| voter.zone == leader.zone).collect(),
        DrillScenario::LoseAllMemory => cluster.voters.iter().collect(),
        DrillScenario::RestoreFromObjectStore => Vec::new(),
    };
    let with_pods = matches!(scenario, DrillScenario::LoseReplica | DrillScenario::LoseZone);
    let target = |of: &&Replica| {
        let uid = of.pod_uid.clone().ok_or_else(|| format!("there is no pod {}", of.pod_name))?;
        Ok(DrillTarget {
            id: of.id,
            incarnation: of.incarnation,
            pod_name: of.pod_name.clone(),
            pod_uid: with_pods.then_some(uid),
        })
    };
    let replicas = chosen.iter().map(target).collect::<Result<Vec<_>, String>>()?;
    if replicas.is_empty() {
        return Err("there is no replica that could be lost".to_owned());
    }
    let zone = (scenario == DrillScenario::LoseZone).then(|| leader.zone.clone());
    Ok(DrillImpact { replicas, zone, fault_tolerance: cluster.tolerance, at: None, whole_at: None })
}

/// The probe is made, and once it has written something, it is decided who is lost.
pub(super) fn preparing(seen: &Seen<'_>, status: &mut VRDrillStatus, late: bool) -> Option<Act> {
    let Some(cluster) = &seen.cluster else {
        abandoned(status, "Errored", "the VRCluster was deleted meanwhile");
        return None;
    };
    match seen.copy.as_ref()? {
        Copy::Foreign(what) => {
            abandoned(status, "Errored", format!("{what} is in the way: it is not this drill's"));
            None
        }
        Copy::Ended { told, how } => {
            let why = serde_json::from_str::<Report>(told).ok().and_then(|report| report.reason);
            let why = why.unwrap_or_else(|| how.clone());
            abandoned(status, "Errored", format!("the probe ended before anything was harmed: {why}"));
            None
        }
        _ if late => {
            let why = status.reason.clone().unwrap_or_default();
            abandoned(
                status,
                "Errored",
                format!("the probe did not write before the deadline, nothing was harmed: {why}"),
            );
            None
        }
        Copy::Absent | Copy::Closed => Some(Act::MakeCopy),
        Copy::Waiting(why) | Copy::Going(why) => {
            enter(status, "Preparing", format!("the probe has not begun: {why}"));
            None
        }
        Copy::Running if !cluster.probed => {
            enter(status, "Preparing", "the probe is to have written something");
            None
        }
        Copy::Running => {
            let decided = match unfit(seen.spec, cluster) {
                Some(why) => Err(why),
                None => impact(seen.spec.scenario, cluster),
            };
            match decided {
                Err(why) => abandoned(status, "Errored", format!("nothing was harmed: {why}")),
                Ok(impact) => {
                    let names: Vec<_> =
                        impact.replicas.iter().map(|target| target.pod_name.as_str()).collect();
                    let says = format!("{} is lost on purpose", names.join(", "));
                    status.impact = Some(impact);
                    enter(status, "Restoring", says);
                }
            }
            None
        }
    }
}

/// The harm is done once, the cluster is to become whole, and then the probe is to end.
pub(super) fn restoring(seen: &Seen<'_>, status: &mut VRDrillStatus, late: bool, now: Moment) -> Option<Act> {
    let mut impact = status.impact.clone().unwrap_or_default();
    if impact.at.is_none() {
        if late {
            abandoned(status, "Errored", "nothing could be harmed before the deadline");
            return None;
        }
        return Some(Act::Harm);
    }
    match seen.copy.as_ref()? {
        Copy::Ended { told, how } => {
            match serde_json::from_str::<Report>(told) {
                Ok(report) => {
                    told::reported(status, report);
                    told::of_impact(status, &impact);
                    status.phase = Some("Checking".to_owned());
                }
                Err(_) => abandoned(status, "Errored", format!("the probe ended without a report: {how}")),
            }
            return None;
        }
        Copy::Running => {}
        _ => {
            abandoned(status, "Errored", "the probe is gone: nothing is known of what clients noticed");
            return None;
        }
    }
    if impact.whole_at.is_some() {
        if late {
            abandoned(status, "Errored", "the probe has not ended before the deadline");
            return None;
        }
        return Some(Act::EndProbe);
    }
    let at = impact.at.as_deref().and_then(Moment::parse);
    let again = at.is_some_and(|at| now.since(at) > TRIES_AGAIN);
    if let Some(cluster) = seen.cluster.as_ref().filter(|_| again && !late)
        && untouched(status, &impact, cluster).is_some()
    {
        return Some(Act::Harm);
    }
    match seen.cluster.as_ref().map(|cluster| missing(status, &impact, cluster)) {
        Some(None) => {
            impact.whole_at = Some(now.text());
            status.impact = Some(impact);
            enter(status, "Restoring", "the cluster is whole again; the probe is to end");
        }
        Some(Some(what)) if late => {
            abandoned(
                status,
                "Failed",
                format!("the cluster was not whole again before the deadline: {what}"),
            );
        }
        None => abandoned(status, "Errored", "the VRCluster was deleted meanwhile"),
        Some(Some(what)) => enter(status, "Restoring", what),
    }
    None
}

/// Somebody who is still there as before.
fn untouched<'a>(
    status: &VRDrillStatus,
    impact: &'a DrillImpact,
    cluster: &Cluster,
) -> Option<&'a DrillTarget> {
    let source = status.source.clone().unwrap_or_default();
    let known = cluster.lineage.as_ref();
    // Ids begin anew with a generation.
    if known.is_some_and(|(_, generation)| generation.signed() > source.generation) {
        return None;
    }
    let same = |target: &&DrillTarget| {
        cluster.voters.iter().any(|v| (v.id, v.incarnation) == (target.id, target.incarnation))
    };
    impact.replicas.iter().find(same)
}

/// What is still missing until the cluster is what it was.
fn missing(status: &VRDrillStatus, impact: &DrillImpact, cluster: &Cluster) -> Option<String> {
    if let Some(target) = untouched(status, impact, cluster) {
        return Some(format!(
            "{} is to be seen with another start than the one that was ended",
            target.pod_name
        ));
    }
    if !cluster.whole {
        return Some("the cluster is to be Ready again".to_owned());
    }
    (cluster.tolerance < impact.fault_tolerance).then(|| {
        format!("{} voters may be lost, {} could be before", cluster.tolerance, impact.fault_tolerance)
    })
}
