//! What every member has: a pod while it has none, and none once it is no member. Nothing here needs the cluster to
//! answer, except to know who has left it.

use super::Decision;
use crate::evidence::{Look, Standing};
use crate::snapshot::{Pod, Process};
use crate::step::{Start, Step};

/// Lets go of what runs no more, and of what counts for nothing any more.
pub(super) fn tidy(look: &Look<'_>) -> Option<Decision> {
    let pods = look.pods()?;
    let left = |pod: &Pod| {
        let newest = look.committing().filter(|_| look.everywhere());
        newest.is_some_and(|c| c.members().all(|m| m.id != pod.replica) || pod.generation != look.generation)
    };
    for (slot, pod) in pods {
        let (slot, uid) = (*slot, pod.uid.clone());
        let over = matches!(pod.process, Process::Over | Process::Unplaced);
        // On a node that is gone nobody will ever say that the process has ended; who left counts for nothing.
        if pod.deleting && (over || (look.node_gone(pod) && left(pod))) {
            return Some(Decision::act("Tidying", Step::Release { slot, uid }).aside());
        }
        if !pod.deleting && (pod.process == Process::Over || left(pod)) {
            return Some(Decision::act("Tidying", Step::DeletePod { slot, uid, live: false }).aside());
        }
    }
    None
}

/// Starts what may start, and deletes the volumes of whoever has left.
pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let configuration = look.configuration()?;
    for (member, learns) in configuration
        .voters
        .iter()
        .map(|m| (m, false))
        .chain(configuration.learners.iter().map(|m| (m, true)))
    {
        if let Standing::Idle(ended) = look.standing(member) {
            let start = if learns { Start::Join } else { Start::Resume(ended) };
            let (generation, members) = (look.generation, configuration.voters.clone());
            let step = Step::MakePod { member: member.clone(), generation, members, start };
            return Some(Decision::act("Restarting", step).aside());
        }
    }
    volumes(look)
}

/// Volumes of whoever has left, where that is the policy.
fn volumes(look: &Look<'_>) -> Option<Decision> {
    look.wanted.volumes.filter(|policy| policy.go_when_scaled)?;
    let configuration = look.committing().filter(|_| look.everywhere())?;
    let (_, primary) = look.primary()?;
    for (slot, volume) in look.volumes()? {
        let held = look.pods()?.contains_key(slot)
            || configuration.members().any(|m| m.slot == *slot)
            || volume.deleting;
        if !held && look.ours(volume) && volume.replica <= primary.highest_id {
            let step = Step::DeleteVolume { slot: *slot, uid: volume.uid.clone() };
            return Some(Decision::act("Tidying", step).aside());
        }
    }
    None
}
