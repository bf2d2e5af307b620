//! A new generation follows one that has lost its memory.
//!
//! It begins when somebody has acknowledged the plan by its nonce, or had said beforehand how much may be lost. First
//! the fence: the generation in the status, then in HEAD of the object store, so that nothing of the old one is taken
//! for the present any more. Then what runs of the old one ends, and the new one forms on volumes whose contents
//! stay, from the source that the plan names first. The plan is on record until it is done: whoever takes over
//! restores the same.

use super::Decision;
use super::form::{self, Beginning, PATIENCE};
use crate::evidence::Look;
use crate::ids::*;
use crate::snapshot::{FRESH_STORE, Pod, Process, Store};
use crate::step::Step;
use vr_api::{Candidate, DataLoss, RecoveryPlan};

const FENCING: &str = "Fencing";

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
    let generation = Generation(look.generation.0 + 1);
    let says = format!(
        "{}: generation {generation} begins from {} at op {}",
        if named { "the plan is acknowledged" } else { "the expected loss is within maxDataLossSeconds" },
        best.source,
        best.op
    );
    let succeeds = Some((generation, format!("{} at op {}", best.source, best.op)));
    let decision =
        Decision { succeeds, recovery_plan: Some(plan.clone()), ..Decision::wait("Restoring", says) };
    Some(decision.part_of("Recover", FENCING, None, PATIENCE))
}

/// What follows once that is on record.
pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let operation = look.before.operation.as_ref().filter(|o| o.kind == "Recover")?;
    let plan = look.before.recovery_plan.as_ref()?;
    let decision = match operation.step.as_str() {
        "Confirming" | "Planned" => return None,
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
    let lost = DataLoss {
        generation: look.generation.signed() - 1,
        kept_op: best(plan).map_or(0, |best| best.op),
        operations: None,
        seconds: plan.expected_data_loss_seconds,
    };
    let says = format!("generation {} serves", look.generation);
    Some(Decision { lost: Some(lost), ..Decision::wait("Restored", says) })
}
