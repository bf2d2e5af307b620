//! A lineage begins: once, ever.
//!
//! It begins only where nothing is: no lineage in the status, on a volume or below the prefix in the object store, each of
//! these seen and none of them guessed. From then on the status says what is being begun, step by step and before it is
//! done; volumes come before pods, and none is made again once pods are, so that no replica begins twice.

use super::Decision;
use super::members::{spread, zones};
use crate::evidence::{Look, Standing};
use crate::ids::*;
use crate::snapshot::{Member, Store};
use crate::step::{Start, Step};
use std::collections::BTreeMap;

const PATIENCE: Seconds = Seconds(600);

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let step = look.before.operation.as_ref().filter(|o| o.kind == "Bootstrap").map(|o| o.step.as_str());
    match (step, &look.before.lineage) {
        (Some("Claim"), Some(_)) => Some(claim(look)),
        (Some("Volumes"), Some(_)) => Some(volumes(look)),
        (Some("Pods"), Some(_)) => pods(look),
        // Something was begun: the rest of the plan looks after it.
        _ if look.before.lineage.is_some() => None,
        _ if look.lineage.is_none() => Some(first(look)),
        _ if !look.volumes().is_none_or(BTreeMap::is_empty) => None,
        _ => Some(found_again(look)),
    }
}

fn first(look: &Look<'_>) -> Decision {
    if look.wanted.begins_with {
        return Decision::wait(
            "Bootstrapping",
            "spec.bootstrap asks for a beginning from a bucket, which this operator cannot do yet",
        );
    }
    match look.store() {
        None => Decision::wait(
            "Bootstrapping",
            "the object store could not be asked whether it holds a lineage already",
        ),
        Some(Store::Unusable(why)) => Decision::wait("ObjectStoreUnusable", why.clone()),
        // Looked at above: then there is a lineage.
        Some(Store::Mine { .. }) => {
            Decision::wait("Bootstrapping", "the lineage in the object store is taken up")
        }
        Some(Store::Empty) if look.pods().is_none_or(|pods| !pods.is_empty()) => Decision::wait(
            "Bootstrapping",
            "pods without a volume are left of an earlier cluster: delete them",
        ),
        Some(Store::Empty) => {
            let begins = Some(look.seen.fresh.lineage.clone());
            Decision { begins, ..Decision::wait("Bootstrapping", "a lineage begins") }.part_of(
                "Bootstrap",
                "Claim",
                None,
                PATIENCE,
            )
        }
    }
}

/// The resource was made again, or its status was lost, and nothing is left here but what the bucket holds.
fn found_again(look: &Look<'_>) -> Decision {
    let lineage = look.lineage.clone().unwrap_or_default();
    let says = format!(
        "lineage {lineage} is in the object store and nothing of it is here: it will not begin a second time. Make the \
         cluster under another prefix, or restore the lineage"
    );
    Decision { begins: Some(lineage), ..Decision::wait("LineageFound", says) }
}

fn claim(look: &Look<'_>) -> Decision {
    let lineage = look.lineage.clone().unwrap_or_default();
    let says = |text: &str| Decision::wait("Bootstrapping", text);
    let decision = match look.store() {
        None => says("the object store does not answer"),
        Some(Store::Empty) => {
            return Decision::act("Bootstrapping", Step::Claim(lineage)).part_of(
                "Bootstrap",
                "Claim",
                None,
                PATIENCE,
            );
        }
        Some(Store::Mine { lineage: found, .. }) if *found == lineage => {
            return says("the prefix is claimed").part_of("Bootstrap", "Volumes", None, PATIENCE);
        }
        Some(Store::Mine { lineage: found, .. }) => Decision::wait(
            "ForeignLineage",
            format!("the prefix was claimed for lineage {found} meanwhile: choose another one"),
        ),
        Some(Store::Unusable(why)) => Decision::wait("ObjectStoreUnusable", why.clone()),
    };
    decision.part_of("Bootstrap", "Claim", None, PATIENCE)
}

/// Who is to be a member: replicas 1 to n in slots 0 to n-1, over the zones.
fn beginners(look: &Look<'_>) -> Option<Vec<Member>> {
    let volumes = look.volumes()?;
    let mut members: Vec<Member> = Vec::new();
    for number in 0..u64::try_from(look.wanted.replicas).ok()? {
        let slot = Slot(number);
        // A slot is pinned once.
        let zone = match volumes.get(&slot).filter(|v| look.ours(v)) {
            Some(volume) => volume.zone.clone(),
            None => spread(look, &zones(look), members.iter())?,
        };
        members.push(Member { id: ReplicaId(number + 1), slot, zone });
    }
    Some(members)
}

fn volumes(look: &Look<'_>) -> Decision {
    let here = "Volumes";
    let Some(members) = beginners(look) else {
        return Decision::wait("Bootstrapping", "no node is known to run replicas on").part_of(
            "Bootstrap",
            here,
            None,
            PATIENCE,
        );
    };
    let volumes = look.volumes().into_iter().flatten().collect::<BTreeMap<_, _>>();
    if look.wanted.volumes.is_some() {
        for member in &members {
            match volumes.get(&member.slot) {
                Some(volume) if look.ours(volume) && volume.replica == member.id => {}
                Some(volume) => {
                    return Decision::wait(
                        "ForeignVolume",
                        format!(
                            "volume {} belongs to replica {} of lineage {}: it is left as it is; move it away or choose \
                             another name for the cluster",
                            look.pod_name(member.slot),
                            volume.replica,
                            volume.lineage
                        ),
                    )
                    .part_of("Bootstrap", here, None, PATIENCE);
                }
                None => {
                    let step = Step::MakeVolume {
                        slot: member.slot,
                        zone: member.zone.clone(),
                        replica: member.id,
                        generation: look.generation,
                        lineage: look.lineage.clone().unwrap_or_default(),
                    };
                    return Decision::act("Bootstrapping", step).part_of("Bootstrap", here, None, PATIENCE);
                }
            }
        }
    }
    Decision::wait("Bootstrapping", "the volumes are there").part_of(
        "Bootstrap",
        "Pods",
        Some(members[0].id),
        PATIENCE,
    )
}

/// One after the other; nothing once enough of them take part for the rest of the plan to look after the others.
fn pods(look: &Look<'_>) -> Option<Decision> {
    let members = beginners(look)?;
    let pods = look.pods()?;
    let now = look.before.operation.as_ref()?;
    let current = members.iter().position(|m| Some(m.id.signed()) == now.replica).unwrap_or(members.len());
    let last = members.last()?.id;
    if current == members.len() || (members[current].id == last && pods.contains_key(&members[current].slot))
    {
        let all = members.iter().all(|m| matches!(look.standing(m), Standing::Serving(_)));
        let late = Moment::parse(&now.started_at).is_some_and(|t| look.now.since(t) >= look.wanted.node_gone);
        if all || (late && look.committing().is_some()) || look.loss().is_some() {
            return None;
        }
    }
    // Whoever has begun and has ended since goes on from its volume.
    for member in &members[..(current + 1).min(members.len())] {
        if pods.contains_key(&member.slot) {
            continue;
        }
        if let Some(unused) = look.beginning(member) {
            let step = Step::MakePod {
                member: member.clone(),
                generation: look.generation,
                start: Start::Bootstrap(unused),
            };
            return Some(Decision::act("Bootstrapping", step).part_of(
                "Bootstrap",
                "Pods",
                members.get(current).map(|m| m.id),
                PATIENCE,
            ));
        }
    }
    let next = members.get(current + 1).map_or(last, |m| m.id);
    let heard = members.iter().filter(|m| matches!(look.standing(m), Standing::Serving(_))).count();
    let says = format!("{heard} of {} replicas take part; the others are awaited", members.len());
    Some(Decision::wait("Bootstrapping", says).part_of("Bootstrap", "Pods", Some(next), PATIENCE))
}
