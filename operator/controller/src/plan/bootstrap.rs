//! A lineage begins: once, ever.
//!
//! It begins only where nothing is: no lineage in the status, on a volume or below the prefix in the object store,
//! each of these seen and none of them guessed. From then on the status says what is being begun, step by step and
//! before it is done.
//!
//! It begins with nothing, or with a copy of what `spec.bootstrap` names: the prefix is claimed for a lineage of its own,
//! the copy comes below it, and the next generation forms from there as after a loss. What the copy is made of is only
//! read.

use super::Decision;
use super::form::{self, Beginning, PATIENCE};
use super::recover;
use crate::evidence::{COPYING, Look};
use crate::snapshot::{FRESH, Origin, Store};
use crate::step::Step;

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let step = look.before.operation.as_ref().filter(|o| o.kind == "Bootstrap").map(|o| o.step.as_str());
    match (step, &look.before.lineage) {
        (Some("Claim"), Some(_)) => Some(claim(look)),
        (Some(COPYING), Some(_)) => Some(copying(look)),
        (Some(_), Some(_)) => form::decide(look, Beginning::OfLineage),
        // Something was begun: the rest of the plan looks after it.
        _ if look.before.lineage.is_some() => None,
        _ if look.lineage.is_none() => Some(first(look)),
        _ if look.volumes().is_none_or(|volumes| volumes.values().any(|volume| look.ours(volume))) => None,
        _ => Some(found_again(look)),
    }
}

fn first(look: &Look<'_>) -> Decision {
    if look.wanted.begins_with {
        match look.seen.origin.fresh(look.now, FRESH) {
            None => return Decision::wait("Bootstrapping", UNSEEN),
            Some(Origin::Refused(why)) => return Decision::wait(REFUSED, why.clone()),
            Some(_) => {}
        }
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
        Some(Store::Empty) => left(look).unwrap_or_else(|| {
            let begins = Some(look.seen.fresh.lineage.clone());
            Decision { begins, ..Decision::wait("Bootstrapping", "a lineage begins") }.part_of(
                "Bootstrap",
                "Claim",
                None,
                PATIENCE,
            )
        }),
    }
}

/// A volume is there, and nothing of it is below the prefix: it is of an earlier cluster of this name, or the prefix is
/// another one than its own.
fn left(look: &Look<'_>) -> Option<Decision> {
    let (slot, volume) = look.volumes()?.iter().next()?;
    let name = look.pod_name(*slot);
    let says = format!(
        "volume {name} is of lineage {}, and nothing of it is below the prefix of storage.objectStore. If it is of an \
         earlier cluster that nobody needs: `kubectl delete pvc {name}`. If its data is to go on: make the VRCluster again \
         with the bucket and prefix that it had",
        volume.lineage
    );
    Some(Decision::wait("ForeignVolume", says))
}

/// Why a cluster does not begin with what it is to begin with.
const REFUSED: &str = "BootstrapRefused";
const UNSEEN: &str = "what spec.bootstrap begins with could not be looked at";

/// What the lineage begins with is brought below its prefix, and then a generation of it begins.
fn copying(look: &Look<'_>) -> Decision {
    let lineage = look.lineage.clone().unwrap_or_default();
    let part = |decision: Decision| decision.part_of("Bootstrap", COPYING, None, PATIENCE);
    match (look.seen.origin.fresh(look.now, FRESH), look.store()) {
        (None, _) => part(Decision::wait("Bootstrapping", UNSEEN)),
        (Some(Origin::Refused(why)), _) => part(Decision::wait(REFUSED, why.clone())),
        (Some(Origin::Awaited(what)), _) => part(Decision::wait("Bootstrapping", what.clone())),
        (Some(Origin::Absent), _) => part(Decision::act("Bootstrapping", Step::Copy(lineage))),
        (Some(Origin::There(copy, of)), Some(Store::Mine { lineage: found, generation }))
            if *found == lineage && *generation == Some(*of) =>
        {
            recover::sprout(look, copy, *of)
        }
        (Some(Origin::There(..)), _) => {
            part(Decision::wait("Bootstrapping", "the object store is to show the copy"))
        }
    }
}

/// The resource was made again, or its status was lost, and nothing is left here but what the bucket holds.
fn found_again(look: &Look<'_>) -> Decision {
    let lineage = look.lineage.clone().unwrap_or_default();
    let says = match look.store() {
        // The copy had not begun.
        Some(Store::Mine { generation: None, .. }) if look.wanted.begins_with => {
            let decision = Decision::wait("Bootstrapping", "the prefix is claimed");
            let decision = decision.part_of("Bootstrap", COPYING, None, PATIENCE);
            return Decision { begins: Some(lineage), ..decision };
        }
        _ if look.wanted.begins_with => format!(
            "lineage {lineage} is below the prefix already, and spec.bootstrap begins only where nothing is: what a restore \
             of this lineage would reach is looked up. To begin with another state, choose an empty prefix"
        ),
        Some(Store::Mine { generation: None, .. }) => format!(
            "lineage {lineage} was claimed below the prefix and has left nothing there: choose another prefix, or \
             delete the object CLAIM if no cluster of it runs anywhere"
        ),
        _ => format!(
            "lineage {lineage} is in the object store and nothing of it is here: it does not begin a second time; what \
             a restore would reach is looked up"
        ),
    };
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
            let next = if look.wanted.begins_with { COPYING } else { "Volumes" };
            return says("the prefix is claimed").part_of("Bootstrap", next, None, PATIENCE);
        }
        Some(Store::Mine { lineage: found, .. }) => Decision::wait(
            "ForeignLineage",
            format!("the prefix was claimed for lineage {found} meanwhile: choose another one"),
        ),
        Some(Store::Unusable(why)) => Decision::wait("ObjectStoreUnusable", why.clone()),
    };
    decision.part_of("Bootstrap", "Claim", None, PATIENCE)
}
