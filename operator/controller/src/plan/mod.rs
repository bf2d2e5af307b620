//! From a look at the world to the next step.
//!
//! Each file below is one concern. They are asked in a fixed order, and the first that has something to say decides:
//! what keeps the cluster alive comes before what makes it better, and while a quorum has lost its memory nothing
//! changes the members.

mod bootstrap;
mod form;
mod keep;
mod loss;
mod members;
mod placement;
mod recover;
mod rest;
mod update;

use crate::evidence::Look;
use crate::ids::*;
use crate::report;
use crate::snapshot::{FRESH, JUST_NOW, Snapshot, Store};
use crate::step::Step;
use crate::wanted::Wanted;
use vr_api::{DataLoss, RecoveryPlan, VRClusterStatus};

/// What comes of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What to do now, if anything.
    pub step: Option<Step>,
    /// What to report. It is to be written after the step, or alone if there is none.
    pub status: VRClusterStatus,
}

/// What one concern says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decision {
    /// What to do now.
    pub(crate) step: Option<Step>,
    /// What this is a part of.
    pub(crate) doing: Option<Doing>,
    /// It is a part of nothing: what is on record as begun stays so.
    pub(crate) aside: bool,
    /// Why the cluster is not at rest, in one word.
    pub(crate) reason: &'static str,
    /// The same for a person: what is done or awaited.
    pub(crate) says: String,
    /// The lineage that is about to begin.
    pub(crate) begins: Option<Lineage>,
    /// What a person is asked to acknowledge, or has acknowledged.
    pub(crate) recovery_plan: Option<RecoveryPlan>,
    /// The generation that is about to begin, and from what.
    pub(crate) succeeds: Option<(Generation, String)>,
    /// What a recovery that is done now has lost.
    pub(crate) lost: Option<DataLoss>,
}

/// An operation that is on record while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Doing {
    pub(crate) kind: &'static str,
    pub(crate) step: String,
    pub(crate) replica: Option<ReplicaId>,
    /// After this it counts as stuck.
    pub(crate) patience: Seconds,
    /// It begins now, whatever of the same kind is on record.
    pub(crate) anew: bool,
}

impl Decision {
    /// Nothing is to be done.
    fn rest() -> Decision {
        Decision {
            reason: "AsWanted",
            says: "everything is as it was wanted".to_owned(),
            ..Decision::default()
        }
    }

    /// Nothing can be done before something happens.
    fn wait(reason: &'static str, says: impl Into<String>) -> Decision {
        Decision { reason, says: says.into(), ..Decision::default() }
    }

    /// This is to be done.
    fn act(reason: &'static str, step: Step) -> Decision {
        Decision { reason, says: step.to_string(), step: Some(step), ..Decision::default() }
    }

    fn aside(self) -> Decision {
        Decision { aside: true, ..self }
    }

    fn part_of(
        mut self,
        kind: &'static str,
        step: impl Into<String>,
        replica: Option<ReplicaId>,
        patience: Seconds,
    ) -> Decision {
        self.doing = Some(Doing { kind, step: step.into(), replica, patience, anew: false });
        self
    }
}

/// Decides.
#[must_use]
pub fn plan(wanted: &Wanted, before: &VRClusterStatus, seen: &Snapshot, now: Moment) -> Plan {
    let look = Look::new(wanted, before, seen, now, FRESH);
    let decision = decide(&look);
    let status = report::status(&look, &decision);
    // An intent is on record before it is acted on: whoever takes over must know what was begun.
    let same = |a: &VRClusterStatus, b: &VRClusterStatus| {
        let doing =
            |s: &VRClusterStatus| s.operation.as_ref().map(|o| (o.kind.clone(), o.step.clone(), o.replica));
        a.lineage == b.lineage && doing(a) == doing(b)
    };
    // What may be noticed rests on what has just been heard, or waits.
    let still = |step: &Step| {
        !step.disruptive()
            || decide(&Look::new(wanted, before, seen, now, JUST_NOW)).step.as_ref() == Some(step)
    };
    let step = decision.step.filter(|step| same(before, &status) && still(step));
    Plan { step, status }
}

fn decide(look: &Look<'_>) -> Decision {
    if look.wanted.paused {
        return Decision::wait(
            "Paused",
            "spec.paused is set: nothing is written but this status; unset it to go on",
        );
    }
    if look.pods().is_none() || look.volumes().is_none() {
        return Decision::wait(
            "StatusStale",
            "the pods and volumes of the cluster could not be looked at lately",
        );
    }
    if let Some(decision) = superseded(look) {
        return decision;
    }
    keep::tidy(look)
        .or_else(|| rest::deleted(look))
        .or_else(|| bootstrap::decide(look))
        .or_else(|| recover::decide(look))
        .or_else(|| recover::ordered(look))
        .or_else(|| rest::hibernated(look))
        .or_else(|| keep::decide(look))
        .or_else(|| loss::decide(look))
        .or_else(|| members::decide(look))
        .or_else(|| update::decide(look))
        .or_else(|| placement::decide(look))
        .unwrap_or_else(|| {
            if look.wanted.deleting {
                Decision::wait(
                    "DeletionProtected",
                    "spec.deletionProtection is set: it goes on until that is unset, and is deleted then",
                )
            } else {
                Decision::rest()
            }
        })
}

/// The lineage goes on elsewhere, and what is here is its past: nothing is ever taken back.
fn superseded(look: &Look<'_>) -> Option<Decision> {
    match look.store()? {
        Store::Mine { lineage, generation: Some(found) }
            if look.lineage.as_ref() == Some(lineage) && *found > look.generation && !look.copies() =>
        {
            Some(Decision::wait(
                "Superseded",
                format!(
                    "the object store is at generation {found} of this lineage, this cluster is generation {}: it was \
                     restored elsewhere. Nothing is done here any more; delete this cluster when nobody needs it",
                    look.generation
                ),
            ))
        }
        _ => None,
    }
}
