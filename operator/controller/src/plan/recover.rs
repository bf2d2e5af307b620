//! A new generation follows one that has lost its memory, or is to go back to an earlier state.
//!
//! It begins when somebody has acknowledged the plan by its nonce, or had said beforehand how much may be lost, or has
//! ordered a roll-back whose target is found and held; and where a cluster begins with a copy, once that is there. First the fence: the generation in the status, then in HEAD of the object store, so that nothing of the old one is taken
//! for the present any more. Then what runs of the old one ends, and the new one forms on volumes whose contents
//! stay, from the source that the plan names first. The plan is on record until it is done: whoever takes over
//! restores the same.

use super::form::{self, Beginning, PATIENCE};
use super::{Decision, loss};
use crate::evidence::Look;
use crate::ids::*;
use crate::snapshot::{FRESH, FRESH_STORE, Find, Pod, Process, Store};
use crate::step::Step;
use vr_api::{Candidate, DataLoss, RecoveryPlan};

const FENCING: &str = "Fencing";
const SAVING: &str = "Saving";
/// Who orders the generation that a cluster begins with, in the place of a VRRestore; none can have this name.
const BOOTSTRAP: &str = "VRCluster.spec.bootstrap";

/// The best of what can be used.
fn best(plan: &RecoveryPlan) -> Option<&Candidate> {
    plan.candidates.iter().find(|candidate| candidate.remark.is_none())
}

/// Whether a plan may be carried out, and then the record of that.
pub(super) fn begin(look: &Look<'_>, plan: &RecoveryPlan) -> Option<Decision> {
    let best = best(plan)?;
    // What is acknowledged must have been on record for people to see.
    look.before.recovery_plan.as_ref().filter(|known| known.nonce == plan.nonce)?;
    let named =
        look.seen.acknowledged.fresh(look.now, FRESH_STORE).is_some_and(|all| all.contains(&plan.nonce));
    let allowed = match (look.wanted.automatic, plan.expected_data_loss_seconds) {
        (Some(bound), Some(expected)) => Seconds(expected) <= bound,
        _ => false,
    };
    if !named && !allowed {
        return None;
    }
    let why =
        if named { "the plan is acknowledged" } else { "the expected loss is within maxDataLossSeconds" };
    if loss::holder(look, best).is_none() {
        return Some(succeed(look.generation, plan, best, why));
    }
    let says = format!("{why}: {} at op {} is brought to the object store", best.source, best.op);
    let decision = Decision { recovery_plan: Some(plan.clone()), ..Decision::wait("Restoring", says) };
    Some(decision.part_of("Recover", SAVING, None, PATIENCE))
}

/// What is left in the memory or on the disks of one replica is brought to the object store, from where all load it.
/// Nothing is taken away for that. Nothing is decided if nobody has it any more, or somebody leads again: the plan is of
/// the past then.
fn save(look: &Look<'_>, plan: &RecoveryPlan) -> Option<Decision> {
    let best = best(plan)?;
    if look.committing().is_some() {
        return None;
    }
    let mut stored = look.seen.inventory.fresh(look.now, FRESH_STORE).into_iter().flatten();
    if let Some(found) = stored.find(|f| f.flaw.is_none()).filter(|f| f.op.signed() >= best.op) {
        let mut plan = plan.clone();
        let saved = loss::candidate(found);
        plan.candidates.insert(0, saved.clone());
        plan.candidates.truncate(loss::SHOWN);
        return Some(succeed(look.generation, &plan, &saved, "what was left is in the object store"));
    }
    let (slot, replica) = loss::holder(look, best)?;
    let step = Step::Save { slot, replica };
    Some(Decision::act("Restoring", step).part_of("Recover", SAVING, None, PATIENCE))
}

/// A roll-back that somebody has ordered, of a cluster that runs or of one that is lost. Who restores elsewhere at this
/// moment is refused by the fence, and so is this one; it begins only where the object store says that nobody has.
pub(super) fn ordered(look: &Look<'_>) -> Option<Decision> {
    let order = look.seen.ordered.fresh(look.now, FRESH)?.as_ref()?;
    let present = match look.store()? {
        Store::Mine { lineage, generation } => {
            look.lineage.as_ref() == Some(lineage) && *generation == Some(look.generation)
        }
        Store::Empty | Store::Unusable(_) => false,
    };
    // What it has begun is not begun again.
    if !present || order.generation.0 != look.generation.0 + 1 {
        return None;
    }
    let target = &order.target;
    let plan = RecoveryPlan {
        nonce: order.nonce.clone(),
        reason: format!("VRRestore {} rolls back to op {}", order.restore, target.op),
        ordered_by: Some(order.restore.clone()),
        candidates: vec![loss::candidate(target)],
        expected_data_loss_seconds: target.time.map(|time| look.now.since(time).0),
    };
    let best = best(&plan)?;
    Some(succeed(look.generation, &plan, best, "a roll-back is ordered"))
}

/// The next generation is on record, and what it begins from.
fn succeed(of: Generation, plan: &RecoveryPlan, best: &Candidate, why: &str) -> Decision {
    let generation = Generation(of.0 + 1);
    let from = format!("{} at op {}", best.source, best.op);
    let says = format!("{why}: generation {generation} begins from {from}");
    let succeeds = Some((generation, from));
    let decision =
        Decision { succeeds, recovery_plan: Some(plan.clone()), ..Decision::wait("Restoring", says) };
    decision.part_of("Recover", FENCING, None, PATIENCE)
}

/// The lineage begins with what was copied below its prefix: the generation that follows the copy's is on record.
pub(super) fn sprout(look: &Look<'_>, copy: &Find, of: Generation) -> Decision {
    let best = loss::candidate(copy);
    let plan = RecoveryPlan {
        nonce: look.seen.fresh.nonce.clone(),
        reason: format!("spec.bootstrap begins with op {}", copy.op),
        ordered_by: Some(BOOTSTRAP.to_owned()),
        candidates: vec![best.clone()],
        expected_data_loss_seconds: None,
    };
    succeed(of, &plan, &best, "the copy is there")
}

/// What follows once that is on record.
pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let operation = look.before.operation.as_ref().filter(|o| o.kind == "Recover")?;
    let plan = look.before.recovery_plan.as_ref()?;
    let decision = match operation.step.as_str() {
        "Confirming" | "Planned" => return None,
        SAVING => {
            // Nothing is fenced yet: a person may choose otherwise.
            let decision = ordered(look).or_else(|| save(look, plan))?;
            let recovery_plan = decision.recovery_plan.clone().or_else(|| Some(plan.clone()));
            return Some(Decision { recovery_plan, ..decision });
        }
        FENCING => fence(look),
        "Ending" => end(look),
        _ => match form::decide(look, Beginning::OfGeneration) {
            Some(decision) => decision,
            None => return done(look, plan),
        },
    };
    Some(Decision { recovery_plan: Some(plan.clone()), ..decision })
}

fn fence(look: &Look<'_>) -> Decision {
    let lineage = look.lineage.clone().unwrap_or_default();
    let part = |decision: Decision| decision.part_of("Recover", FENCING, None, PATIENCE);
    let wait = |says: &str| part(Decision::wait("Restoring", says));
    match look.store() {
        Some(Store::Mine { lineage: found, generation }) if *found == lineage => {
            if *generation == Some(look.generation) {
                return end(look);
            }
            part(Decision::act("Restoring", Step::Fence { lineage, generation: look.generation }))
        }
        Some(_) => wait("the object store does not hold this lineage: without a fence nothing is restored"),
        None => wait("the object store does not answer: without a fence nothing is restored"),
    }
}

/// What runs of the older generations ends. What cannot be reached keeps its slot; it is fenced.
fn end(look: &Look<'_>) -> Decision {
    let pods = look.pods().into_iter().flatten().filter(|(_, pod)| pod.generation < look.generation);
    for (slot, pod) in pods {
        let (slot, uid) = (*slot, pod.uid.clone());
        if !pod.deleting {
            let step = Step::DeletePod { slot, uid, live: false };
            return Decision::act("Restoring", step).part_of("Recover", "Ending", None, PATIENCE);
        }
        if look.node_gone(pod) && pod.process == Process::MayRun {
            return Decision::act("Restoring", Step::Release { slot, uid })
                .part_of("Recover", "Ending", None, PATIENCE);
        }
    }
    // Where the node is not known to be silent or gone, the end is awaited.
    let reached = |pod: &Pod| {
        let node = pod.node.as_ref().and_then(|name| look.nodes()?.get(name));
        !look.node_gone(pod) && node.is_none_or(|node| node.silent_since.is_none())
    };
    let ending = look.pods().into_iter().flatten().any(|(_, p)| p.generation < look.generation && reached(p));
    let (says, step) = if ending {
        ("the pods of the old generation are about to end", "Ending")
    } else {
        ("nothing of the old generation that can be reached runs any more", "Volumes")
    };
    Decision::wait("Restoring", says).part_of("Recover", step, None, PATIENCE)
}

/// The loss is said, and the plan is off the table. Nothing if there is a new loss: then the next plan follows.
fn done(look: &Look<'_>, plan: &RecoveryPlan) -> Option<Decision> {
    look.committing()?;
    let says = format!("generation {} serves", look.generation);
    let done = Decision::wait("Restored", says);
    if plan.ordered_by.as_deref() == Some(BOOTSTRAP) {
        // It had nothing to lose.
        return Some(done);
    }
    let best = best(plan);
    // The old generation served until its fence, which was after the plan.
    let served = plan.ordered_by.as_ref().and(best).and_then(|best| Moment::parse(best.time.as_deref()?));
    let lost = DataLoss {
        generation: look.generation.signed() - 1,
        kept_op: best.map_or(0, |best| best.op),
        operations: None,
        seconds: served.map(|time| look.now.since(time).0).or(plan.expected_data_loss_seconds),
    };
    Some(Decision { lost: Some(lost), ..done })
}
