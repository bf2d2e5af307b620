//! A lineage begins: once, ever.
//!
//! It begins only where nothing is: no lineage in the status, on a volume or below the prefix in the object store,
//! each of these seen and none of them guessed. From then on the status says what is being begun, step by step and
//! before it is done.

use super::Decision;
use super::form::{self, Beginning, PATIENCE};
use crate::evidence::Look;
use crate::snapshot::Store;
use crate::step::Step;
use std::collections::BTreeMap;

pub(super) fn decide(look: &Look<'_>) -> Option<Decision> {
    let step = look.before.operation.as_ref().filter(|o| o.kind == "Bootstrap").map(|o| o.step.as_str());
    match (step, &look.before.lineage) {
        (Some("Claim"), Some(_)) => Some(claim(look)),
        (Some(_), Some(_)) => form::decide(look, Beginning::OfLineage),
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
    let says = match look.store() {
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
