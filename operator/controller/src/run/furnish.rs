//! What a cluster has beside pods and volumes and nobody decides about: services, disruption budget, network policy,
//! certificates of the replicas. Applied when it changes, when the operator begins, and every hour.

use super::certificates::{self, Trust};
use crate::ids::*;
use crate::objects::{self, Naming};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vr_api::VRCluster;

/// Whose fields are whose, as the API server writes it down.
pub(super) const MANAGER: &str = "vr-operator";
const AGAIN: Seconds = Seconds(3600);

/// What was applied last, and when.
#[derive(Default)]
pub(super) struct Furnished(Option<(blake3::Hash, Moment)>);

impl Furnished {
    /// Applies what has changed, if it `may`; whether nothing of it is left to do.
    pub(super) async fn see_to(
        &mut self,
        client: &Client,
        cluster: &VRCluster,
        voters: usize,
        may: bool,
        now: Moment,
    ) -> anyhow::Result<bool> {
        let (peers, clients) = (objects::peer_service(cluster), objects::client_service(cluster));
        let (budget, policy) =
            (objects::disruption_budget(cluster, voters), objects::network_policy(cluster));
        let all = serde_json::to_vec(&(&peers, &clients, &budget, &policy))?;
        let hash = blake3::hash(&all);
        if self.0.is_some_and(|(known, at)| known == hash && now.since(at) < AGAIN) {
            return Ok(true);
        }
        if !may {
            return Ok(false);
        }
        let namespace = Naming::of(cluster).namespace();
        apply::<Service>(client, namespace, &peers).await?;
        apply::<Service>(client, namespace, &clients).await?;
        apply::<PodDisruptionBudget>(client, namespace, &budget).await?;
        match policy {
            Some(policy) => apply::<NetworkPolicy>(client, namespace, &policy).await?,
            None => {
                let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
                let name = Naming::of(cluster).name();
                // Only the one that this operator has made for this cluster.
                let made = policies.get_opt(name).await?;
                let owner = cluster.metadata.uid.as_deref();
                if made.is_some_and(|p| p.owner_references().iter().any(|o| Some(o.uid.as_str()) == owner)) {
                    policies.delete(name, &kube::api::DeleteParams::default()).await?;
                }
            }
        }
        self.0 = Some((hash, now));
        Ok(true)
    }
}

/// Renews what is due of the certificates of the replicas that are there, and says when the first of them is due next;
/// asks for each of them once an hour, and gives what is known then in between.
pub(super) async fn renew(
    client: &Client,
    cluster: &VRCluster,
    trust: &Trust,
    lineage: &Lineage,
    replicas: Vec<(Slot, ReplicaId)>,
    last: &mut Renewals,
    now: Moment,
) -> anyhow::Result<()> {
    if last.hold(&replicas, &trust.seal(), now) {
        return Ok(());
    }
    let mut first: Option<Moment> = None;
    for replica in &replicas {
        let due = certificates::of_replica(client, cluster, trust, lineage, *replica, now).await?;
        first = first.into_iter().chain(due).min();
    }
    *last = Renewals { of: replicas, seal: trust.seal(), at: now, first };
    Ok(())
}

/// What is known of the certificates.
#[derive(Default)]
pub(super) struct Renewals {
    of: Vec<(Slot, ReplicaId)>,
    /// What they depend on.
    seal: String,
    at: Moment,
    /// When the first one is due; absent if they are not the operator's.
    pub(super) first: Option<Moment>,
}

impl Renewals {
    /// Whether what is known of them need not be asked for again.
    pub(super) fn hold(&self, replicas: &[(Slot, ReplicaId)], seal: &str, now: Moment) -> bool {
        self.of == replicas && self.seal == seal && now.since(self.at) < AGAIN
    }
}

async fn apply<K>(client: &Client, namespace: &str, object: &K) -> anyhow::Result<()>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let how = PatchParams::apply(MANAGER).force();
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = K::api_version(&K::DynamicType::default()).into();
    value["kind"] = K::kind(&K::DynamicType::default()).into();
    api.patch(&object.name_any(), &how, &Patch::Apply(&value)).await?;
    Ok(())
}
