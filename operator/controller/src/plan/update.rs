//! A changed template reaches the pods: one at a time, whoever lags most first, the primary last.
//!
//! The first goes only once a checkpoint that is newer than the update is in the object store, and each next one once
//! all take part again and have for a while. A pod that never became Normal may be replaced at once when the template
//! changes again: the update then mends what it has broken.

use super::Decision;
use super::placement::successor;
use crate::evidence::{Look, Standing};
use crate::ids::*;
use crate::snapshot::{Member, Pod};
use crate::step::Step;

const PATIENCE: Seconds = Seconds(3600);

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let update = look.wanted.update?;
    let (pods, configuration) = (look.pods()?, look.committing()?);
    let old: Vec<(&Member, &Pod)> = configuration
        .voters
        .iter()
        .filter_map(|m| Some((m, pods.get(&m.slot).filter(|p| p.replica == m.id)?)))
        .filter(|(_, pod)| pod.template != look.wanted.template)
        .collect();
    if old.is_empty() {
        return None;
    }
    let part = |decision: Decision, step| Some(decision.part_of("Update", step, None, PATIENCE));
    let wait = |says: String| part(Decision::wait("Updating", says), "Replacing");
    if let Some((member, pod)) =
        old.iter().find(|(m, p)| !p.deleting && matches!(look.standing(m), Standing::Silent(_)))
    {
        if pod.trouble.is_none() {
            return wait(format!("replica {} is awaited", member.id));
        }
        let step = Step::DeletePod { slot: member.slot, uid: pod.uid.clone(), live: false };
        return part(Decision::act("Updating", step), "Replacing");
    }
    let settled = |member: &Member| match look.standing(member) {
        Standing::Serving(said) => said.normal_since.is_some_and(|t| look.now.since(t) >= update.settle),
        _ => false,
    };
    if let Some(member) = configuration.voters.iter().find(|m| !settled(m)) {
        return wait(format!("replica {} has not taken part for {} yet", member.id, update.settle));
    }
    if pods.values().any(|p| p.deleting) {
        return wait("a pod is about to end".to_owned());
    }
    let (leader, primary) = look.primary()?;
    let began = look.before.operation.as_ref().filter(|o| o.kind == "Update");
    let began = began.and_then(|o| Moment::parse(&o.started_at)).unwrap_or(look.now);
    let stored = configuration.voters.iter().filter_map(|m| match look.standing(m) {
        Standing::Serving(said) => said.stored_at,
        _ => None,
    });
    if stored.max().is_none_or(|at| at <= began) {
        return wait("a checkpoint that is newer than the update is awaited in the object store".to_owned());
    }
    let behind = |member: &Member| match look.standing(member) {
        Standing::Serving(said) => said.op,
        _ => Op(0),
    };
    let next = old.iter().filter(|(m, _)| m.id != leader.id).min_by_key(|(m, _)| (behind(m), m.slot));
    if let Some((member, pod)) = next {
        let step = Step::DeletePod { slot: member.slot, uid: pod.uid.clone(), live: true };
        return part(Decision::act("Updating", step), "Replacing");
    }
    if configuration.voters.len() > 1 {
        if update.supervised {
            return wait(format!(
                "only the primary, replica {}, is left: move it with `vr promote` when it suits",
                leader.id
            ));
        }
        let to = successor(look, configuration, leader, primary)?;
        return part(Decision::act("Updating", Step::HandOff { to: to.id }), "Replacing");
    }
    let (member, pod) = old.first()?;
    let step = Step::DeletePod { slot: member.slot, uid: pod.uid.clone(), live: true };
    part(Decision::act("Updating", step), "Replacing")
}
