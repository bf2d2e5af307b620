//! A quorum has lost its memory, or its vote records: no election can be sound, and nobody holds one.
//!
//! Evidence first, for as long as `confirmationSeconds`, without a gap; then an inventory of everything that could be
//! restored, in the memory of survivors, on the disks of all that are heard, and in the object store; then a plan with a
//! nonce, and there it stops until somebody acknowledges it, or goes on where somebody has said beforehand what may be
//! lost. Meanwhile the members stay as they are: a change of them needs the very quorum that is lost. That replicas are
//! *silent* is no evidence.

use super::{Decision, recover};
use crate::evidence::Look;
use crate::ids::*;
use crate::snapshot::{FRESH_STORE, Find, State};
use vr_api::{Candidate, RecoveryPlan};

/// Candidates that are shown.
pub(super) const SHOWN: usize = 32;

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
    let Some(stored) = look.seen.inventory.fresh(look.now, FRESH_STORE) else {
        return Some(confirming(format!("{evidence}; the tiers are being searched for what is left")));
    };
    let found = all(look, stored);
    // What named nothing is made anew: something may have come back.
    let known = look.before.recovery_plan.clone().filter(|plan| !plan.candidates.is_empty());
    let plan = running.and(known).unwrap_or_else(|| RecoveryPlan {
        nonce: look.seen.fresh.nonce.clone(),
        reason: evidence.clone(),
        ordered_by: None,
        candidates: found.iter().take(SHOWN).map(candidate).collect(),
        expected_data_loss_seconds: newest_time(&found).map(|t| since.since(t).0),
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

/// What one replica has by itself: where it is, and what that is called.
struct Held {
    slot: Slot,
    replica: ReplicaId,
    find: Find,
}

/// What those that are heard say of their memory and of their disks, fastest first.
fn held(look: &Look<'_>) -> Vec<Held> {
    let mut held = Vec::new();
    for (slot, contact) in &look.seen.contacts {
        let Some(said) = contact.said.as_ref().and_then(|said| look.said(*slot, said.replica)) else {
            continue;
        };
        let replica = said.replica;
        let mut add = |place: &str, op| {
            let source = format!("{place} of replica {replica}");
            held.push(Held { slot: *slot, replica, find: Find { source, op, time: None, flaw: None } });
        };
        // Whoever has lost its memory hands in what its disks lead to, and nobody else does that of theirs.
        match said.state {
            State::Normal | State::Busy => add("memory", said.commit),
            State::Amnesiac | State::QuorumLost => {
                let disks = said.tiers.iter().filter(|tier| tier.name != "objectStore" && tier.holds);
                disks.for_each(|tier| add(&tier.name, tier.reaches));
            }
            State::Halted => {}
        }
    }
    held
}

/// Who has what a plan calls so, if it is still heard and still has as much.
pub(super) fn holder(look: &Look<'_>, best: &Candidate) -> Option<(Slot, ReplicaId)> {
    let same = |held: &Held| held.find.source == best.source && held.find.op.signed() >= best.op;
    held(look).into_iter().find(same).map(|held| (held.slot, held.replica))
}

/// Everything, the newest first, the faster place first among equals. What nobody can read is shown as well.
fn all(look: &Look<'_>, stored: &[Find]) -> Vec<Find> {
    let mut found: Vec<Find> =
        held(look).into_iter().map(|held| held.find).chain(stored.iter().cloned()).collect();
    let heard = |slot: &Slot| look.seen.contacts.get(slot).is_some_and(|c| c.silent_since.is_none());
    let volumes = look.volumes().into_iter().flatten();
    let unread = volumes.filter(|(slot, v)| look.lineage.as_ref() == Some(&v.lineage) && !heard(slot));
    found.extend(unread.map(|(slot, _)| Find {
        source: format!("volume {}", look.pod_name(*slot)),
        op: Op(0),
        time: None,
        flaw: Some("no replica runs there who could read it".to_owned()),
    }));
    found.sort_by_key(|find| (find.flaw.is_some(), std::cmp::Reverse(find.op)));
    found
}

/// A time that the best of them is not older than: its own, or that of something that it goes beyond.
fn newest_time(found: &[Find]) -> Option<Moment> {
    found.iter().filter(|find| find.flaw.is_none()).filter_map(|find| find.time).max()
}

pub(super) fn candidate(find: &Find) -> Candidate {
    Candidate {
        source: find.source.clone(),
        op: find.op.signed(),
        time: find.time.map(Moment::text),
        remark: find.flaw.clone(),
    }
}
