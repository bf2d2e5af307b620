//! The volumes and pods that a generation begins with, the first one of a lineage or one that follows a total loss.
//!
//! Volumes come before pods, and none is made again once pods are, so that no replica begins twice. How many there
//! are is on record from the first pod on: all are told of the same members, whatever is wanted meanwhile.

use super::Decision;
use super::members::{spread, zones};
use crate::evidence::{FORMING, Look, Standing};
use crate::ids::*;
use crate::snapshot::{Member, Volume};
use crate::step::{Start, Step};
use std::collections::BTreeMap;

pub(super) const PATIENCE: Seconds = Seconds(600);

/// What begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A lineage, with nothing.
    OfLineage,
    /// A generation, with what was restored.
    OfGeneration,
}

impl Beginning {
    fn kind(self) -> &'static str {
        match self {
            Beginning::OfLineage => "Bootstrap",
            Beginning::OfGeneration => "Recover",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Beginning::OfLineage => "Bootstrapping",
            Beginning::OfGeneration => "Restoring",
        }
    }

    fn wait(self, says: impl Into<String>) -> Decision {
        Decision::wait(self.reason(), says)
    }
}

/// The step from "Volumes" on; nothing once the rest of the plan can look after what has begun.
pub(super) fn decide(look: &Look<'_>, begins: Beginning) -> Option<Decision> {
    match latched(look) {
        Some(count) => pods(look, begins, count),
        None => Some(volumes(look, begins)),
    }
}

/// How many begin, if that is decided.
fn latched(look: &Look<'_>) -> Option<usize> {
    look.before.operation.as_ref()?.step.strip_prefix(FORMING)?.parse().ok()
}

/// Who is to be a member: replicas 1 to n over the zones, each in the slot that its volume or pod has already, else
/// in the next one that is free.
fn beginners(look: &Look<'_>, count: usize) -> Option<Vec<Member>> {
    let (pods, volumes) = (look.pods()?, look.volumes()?);
    let next = |id: ReplicaId| {
        let held = volumes.iter().find(|(_, v)| look.ours(v) && v.replica == id);
        let runs = pods.iter().find(|(_, p)| p.generation == look.generation && p.replica == id);
        held.map(|(slot, _)| *slot).or(runs.map(|(slot, _)| *slot))
    };
    let ids = || (1..=count).filter_map(|n| u64::try_from(n).ok().map(ReplicaId));
    let mut taken: Vec<Slot> = ids().filter_map(next).collect();
    let mut members: Vec<Member> = Vec::new();
    for id in ids() {
        let slot = next(id).or_else(|| {
            // Whoever is left of an older generation keeps its slot until it has ended.
            (0..).map(Slot).find(|slot| !taken.contains(slot) && !pods.contains_key(slot))
        })?;
        taken.push(slot);
        // A slot is pinned once.
        let zone = match volumes.get(&slot).filter(|v| look.lineage.as_ref() == Some(&v.lineage)) {
            Some(volume) => volume.zone.clone(),
            None => match pods.get(&slot) {
                Some(pod) => pod.zone.clone(),
                None => spread(look, &zones(look), members.iter())?,
            },
        };
        members.push(Member { id, slot, zone });
    }
    Some(members)
}

fn volumes(look: &Look<'_>, begins: Beginning) -> Decision {
    let here = |decision: Decision| decision.part_of(begins.kind(), "Volumes", None, PATIENCE);
    let Some(members) = beginners(look, look.wanted.replicas) else {
        return here(begins.wait("no node is known to run replicas on"));
    };
    let there: BTreeMap<Slot, &Volume> = look.volumes().into_iter().flatten().map(|(s, v)| (*s, v)).collect();
    for member in members.iter().filter(|_| look.wanted.volumes.is_some()) {
        match there.get(&member.slot) {
            Some(volume) if look.ours(volume) && volume.replica == member.id => {}
            // What an older generation has left there is read by whoever begins, and stays.
            Some(volume)
                if look.lineage.as_ref() == Some(&volume.lineage) && volume.generation < look.generation =>
            {
                let step = Step::AssignVolume {
                    slot: member.slot,
                    uid: volume.uid.clone(),
                    replica: member.id,
                    generation: look.generation,
                };
                return here(Decision::act(begins.reason(), step));
            }
            Some(volume) => {
                return here(Decision::wait(
                    "ForeignVolume",
                    format!(
                        "volume {name} belongs to replica {} of generation {} of lineage {}: it is left as it is. If \
                         nobody needs it, `kubectl delete pvc {name}`; otherwise choose another name for the cluster",
                        volume.replica,
                        volume.generation,
                        volume.lineage,
                        name = look.pod_name(member.slot),
                    ),
                ));
            }
            None => {
                let step = Step::MakeVolume {
                    slot: member.slot,
                    zone: member.zone.clone(),
                    replica: member.id,
                    generation: look.generation,
                    lineage: look.lineage.clone().unwrap_or_default(),
                };
                return here(Decision::act(begins.reason(), step));
            }
        }
    }
    let forming = format!("{FORMING}{}", members.len());
    begins.wait("the volumes are there").part_of(begins.kind(), forming, Some(ReplicaId(1)), PATIENCE)
}

/// One after the other; nothing once enough of them take part for the rest of the plan to look after the others.
fn pods(look: &Look<'_>, begins: Beginning, count: usize) -> Option<Decision> {
    let (members, pods) = (beginners(look, count)?, look.pods()?);
    let now = look.before.operation.as_ref()?;
    let part = |decision: Decision, replica| {
        Some(decision.part_of(begins.kind(), format!("{FORMING}{count}"), replica, PATIENCE))
    };
    let current = members.iter().position(|m| Some(m.id.signed()) == now.replica).unwrap_or(0);
    let making = members.get(current)?.id;
    let made = |member: &Member| pods.get(&member.slot).is_some_and(|p| p.replica == member.id);
    if current + 1 == members.len() && made(&members[current]) {
        let all = members.iter().all(|m| matches!(look.standing(m), Standing::Serving(_)));
        let late = Moment::parse(&now.started_at).is_some_and(|t| look.now.since(t) >= look.wanted.node_gone);
        if all || (late && look.committing().is_some()) || look.loss().is_some() {
            return None;
        }
    }
    // Whoever has begun and has ended since goes on from its volume.
    for member in &members[..=current] {
        if pods.contains_key(&member.slot) {
            continue;
        }
        if let Some(unused) = look.beginning(member) {
            let start = match begins {
                Beginning::OfLineage => Start::Bootstrap(unused),
                Beginning::OfGeneration => Start::Restore(unused),
            };
            let (generation, members) = (look.generation, members.clone());
            let step = Step::MakePod { member: member.clone(), generation, members, start };
            return part(Decision::act(begins.reason(), step), Some(making));
        }
    }
    let next = members.get(current + 1).unwrap_or(&members[current]).id;
    let heard = members.iter().filter(|m| matches!(look.standing(m), Standing::Serving(_))).count();
    let says = format!("{heard} of {count} replicas take part; the others are awaited");
    part(begins.wait(says), Some(next))
}
