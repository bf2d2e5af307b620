//! A change of a cluster's authority, carried out as [`rotation`](crate::rotation) decides.
//!
//! Who is ready for the next turn is found out by asking: a replica that answers somebody whom the new authority has signed
//! trusts it, and one that answers where only the new authority is trusted shows a certificate of it. A pod that does not
//! answer is awaited; one that is gone is not.

use super::authority;
use super::certificates::{Own, Trust};
use super::control::Slots;
use super::furnish::MANAGER;
use super::tell::Teller;
use crate::ids::*;
use crate::objects::Naming;
use crate::rotation::{self, Rotation, Seen, Turn};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;
use vr_api::{ROTATE_AUTHORITY, VRCluster};

/// What came of a look at it.
pub(super) enum Turned {
    /// Nothing is to be written; what is to be said of it.
    Still(Option<Rotation>),
    /// Something is, and what led there is too old for that.
    Left,
    /// The authority is another one now.
    Done,
}

/// Looks at it, and takes the next turn if it `may`.
pub(super) async fn see_to(
    (client, teller): (&Client, &Teller),
    cluster: &VRCluster,
    trust: &Trust,
    addresses: &BTreeMap<Slot, Option<String>>,
    may: bool,
    now: Moment,
) -> anyhow::Result<Turned> {
    let naming = Naming::of(cluster);
    let asked =
        cluster.metadata.annotations.as_ref().and_then(|all| all.get(ROTATE_AUTHORITY)).map(String::as_str);
    let Some(Own { authority, ends, proof }) = &trust.own else {
        let why = || {
            format!(
                "annotation {ROTATE_AUTHORITY}: this cluster has no authority of the operator's; whoever makes its certificates replaces theirs"
            )
        };
        return Ok(Turned::Still(asked.map(|_| Rotation::Refused(why()))));
    };
    let awaited = match proof {
        None => Vec::new(),
        Some(proof) => {
            let answers = Slots::default().look(&naming, addresses, Some(proof)).await;
            let silent = answers.iter().filter(|(_, contact)| contact.silent_since.is_some());
            silent.map(|(slot, _)| naming.slot(*slot)).collect()
        }
    };
    let (turn, says) = rotation::next(&Seen { stage: authority.stage, ends: *ends, asked, awaited }, now);
    let Some(turn) = turn else { return Ok(Turned::Still(says)) };
    if !may {
        return Ok(Turned::Left);
    }
    let after = authority.after(cluster, turn, now)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    secrets.replace(&authority::secret_name(cluster), &PostParams::default(), &after).await?;
    tracing::info!(cluster = naming.name(), "{turn}");
    teller.turn(cluster, &turn.to_string()).await;
    if asked.is_some() && matches!(turn, Turn::Introduce(_) | Turn::Settle(_)) {
        // It is on record: asked for once, it is done once.
        let change =
            json!({"metadata": {"uid": cluster.metadata.uid, "annotations": {ROTATE_AUTHORITY: null}}});
        let api: Api<VRCluster> = Api::namespaced(client.clone(), naming.namespace());
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(naming.name(), &how, &Patch::Merge(&change)).await?;
    }
    Ok(Turned::Done)
}
