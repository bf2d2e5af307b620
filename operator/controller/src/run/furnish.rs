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

#[cfg(test)]
mod tests {
    use super::super::certificates;
    use super::super::fake::{self, Fake};
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use kube::api::{DeleteParams, PostParams};
    use serde_json::json;

    const NOW: Moment = Moment(1_800_000_000);

    fn cluster() -> VRCluster {
        fake::cluster(json!({"bucket": "b"}))
    }

    /// Within the hour, and at once by an operator that begins.
    #[tokio::test]
    async fn what_is_edited_or_deleted_by_hand_comes_back() {
        let (fake, cluster) = (Fake::default(), cluster());
        let client = fake.client();
        let services: Api<Service> = Api::namespaced(client.clone(), "shop");
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "shop");
        let mut furnished = Furnished::default();
        furnished.see_to(&client, &cluster, 3, true, NOW).await.expect("it is applied");
        let budget = budgets.get("prod").await.expect("it is there").spec;
        for (later, begins) in [(Seconds(0), true), (AGAIN, false)] {
            services.delete("prod", &DeleteParams::default()).await.expect("somebody may");
            let mut edited = budgets.get("prod").await.expect("it is there");
            edited.spec.as_mut().expect("a spec").min_available = Some(IntOrString::Int(0));
            budgets.replace("prod", &PostParams::default(), &edited).await.expect("somebody may");
            let mut new = Furnished::default();
            let operator = if begins { &mut new } else { &mut furnished };
            operator.see_to(&client, &cluster, 3, true, NOW + later).await.expect("it is applied");
            assert!(services.get_opt("prod").await.expect("it answers").is_some(), "{later}");
            assert_eq!(budgets.get("prod").await.expect("it is there").spec, budget, "{later}");
        }
    }

    /// The same for certificates: one that was taken away, or that is another replica's, is made anew.
    #[tokio::test]
    async fn a_certificate_that_was_taken_away_is_made_anew() {
        let (fake, cluster, lineage) = (Fake::default(), cluster(), Lineage::from("lineage"));
        let client = fake.client();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trust = certificates::trust(&client, &cluster, NOW).await.expect("an authority");
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
        let replicas = vec![(Slot(0), ReplicaId(1)), (Slot(1), ReplicaId(2))];
        let mut renewals = Renewals::default();
        let mut renew = async |now: Moment| {
            let (replicas, last) = (replicas.clone(), &mut renewals);
            renew(&client, &cluster, &trust, &lineage, replicas, last, now).await.expect("it is renewed");
        };
        renew(NOW).await;
        let held = secrets.get("prod-0-tls").await.expect("it is there").data;
        secrets.delete("prod-1-tls", &DeleteParams::default()).await.expect("somebody may");
        let mut edited = secrets.get("prod-0-tls").await.expect("it is there");
        edited.data.iter_mut().for_each(|data| drop(data.remove("ca.crt")));
        secrets.replace("prod-0-tls", &PostParams::default(), &edited).await.expect("somebody may");
        renew(NOW + AGAIN).await;
        assert!(secrets.get_opt("prod-1-tls").await.expect("it answers").is_some());
        let made = secrets.get("prod-0-tls").await.expect("it is there").data;
        assert!(made != held && made.is_some_and(|data| data.contains_key("ca.crt")));
    }
}
