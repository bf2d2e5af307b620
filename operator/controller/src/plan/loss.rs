//! A quorum has lost its memory, or its vote records: no election can be sound, and nobody holds one.
//!
//! Evidence first, for as long as `confirmationSeconds`, without a gap; then an inventory of everything that could be
//! restored; then a plan with a nonce, and there it stops until somebody acknowledges it, or goes on where somebody
//! has said beforehand what may be lost. Meanwhile the members stay as they are: a change of them needs the very
//! quorum that is lost. That replicas are *silent* is no evidence.

use super::{Decision, recover};
use crate::evidence::Look;
use crate::ids::*;
use crate::snapshot::{FRESH_STORE, Find};
use vr_api::{Candidate, RecoveryPlan};

/// Candidates that are shown.
const SHOWN: usize = 32;

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let evidence = look.loss()?;
    // A recovery that was carried out was another one's.
    let running = look.before.operation.as_ref();
    let running =
        running.filter(|o| o.kind == "Recover" && ["Confirming", "Planned"].contains(&o.step.as_str()));
    let confirming = |says: String| {
        let decision = Decision::wait("QuorumLost", says);
        let mut decision = decision.part_of("Recover", "Confirming", None, Seconds(3600));
        decision.doing.iter_mut().for_each(|doing| doing.anew = running.is_none());
        decision
    };
    let since = running.and_then(|o| Moment::parse(&o.started_at)).unwrap_or(look.now);
    let seen_for = look.now.since(since);
    if seen_for < look.wanted.confirmation {
        let wait = look.wanted.confirmation;
        return Some(confirming(format!("{evidence}; seen for {seen_for} of {wait}")));
    }
    let Some(found) = look.seen.inventory.fresh(look.now, FRESH_STORE) else {
        return Some(confirming(format!("{evidence}; the tiers are being searched for what is left")));
    };
    // What named nothing is made anew: something may have come back.
    let known = look.before.recovery_plan.clone().filter(|plan| !plan.candidates.is_empty());
    let plan = running.and(known).unwrap_or_else(|| RecoveryPlan {
        nonce: look.seen.fresh.nonce.clone(),
        reason: evidence.clone(),
        ordered_by: None,
        candidates: found.iter().take(SHOWN).map(candidate).collect(),
        expected_data_loss_seconds: found
            .iter()
            .find(|f| f.flaw.is_none())
            .and_then(|f| f.time)
            .map(|t| since.since(t).0),
    });
    if let Some(decision) = recover::begin(look, &plan) {
        return Some(decision);
    }
    if plan.candidates.iter().all(|candidate| candidate.remark.is_some()) {
        let says = format!(
            "{evidence}, and no tier holds anything to restore from: nothing can be done here. If its data is elsewhere, \
             bring it below the prefix of the object store; `vr checkpoint ls` lists what a place holds"
        );
        let decision = Decision { recovery_plan: Some(plan), ..Decision::wait("TotalLoss", says) };
        return Some(decision.part_of("Recover", "Planned", None, Seconds(86_400)));
    }
    let says = format!(
        "{evidence}. status.recoveryPlan says what there is to restore from; nothing happens before a VRRestore names \
         planNonce {}",
        plan.nonce
    );
    let decision = Decision { recovery_plan: Some(plan), ..Decision::wait("TotalLoss", says) };
    Some(decision.part_of("Recover", "Planned", None, Seconds(86_400)))
}

pub(super) fn candidate(find: &Find) -> Candidate {
    Candidate {
        source: find.source.clone(),
        op: find.op.signed(),
        time: find.time.map(Moment::text),
        remark: find.flaw.clone(),
    }
}
