//! `vr-operator check`: whether an operator acts here, for `helm test` and for people who have just installed one.
//!
//! It asks with the rights of whoever runs it: every kind can be listed, and the lease is held by somebody who renews it
//! while it is looked at. It changes nothing.

use super::Charge;
use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};
use vr_api::{VRCheckpoint, VRCluster, VRDrill, VRDrillSchedule, VRRestore};

const LOOK: Duration = Duration::from_millis(500);

/// Says whether an operator acts: the definitions are there, and somebody holds the lease and renews it
///
/// Exit status: 0 one acts, 1 none does or it could not be asked, 2 wrong usage.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    charge: Charge,

    /// How many seconds somebody may take to renew it
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = kube::Config::infer().await.context(super::NO_WAY)?;
        let namespace = self.charge.lease_namespace(&config);
        let client =
            Client::try_from(config).context("the configuration of the API server cannot be used")?;
        let within = self.charge.namespace.as_deref();
        listed::<VRCluster>(&client, within).await?;
        listed::<VRRestore>(&client, within).await?;
        listed::<VRCheckpoint>(&client, within).await?;
        listed::<VRDrill>(&client, within).await?;
        listed::<VRDrillSchedule>(&client, within).await?;
        let holder = self.held(&Api::namespaced(client, &namespace), &namespace).await?;
        println!("{holder} acts: it holds the lease {namespace}/{} and renews it", self.charge.lease);
        Ok(())
    }

    /// Who holds the lease and is seen to renew it.
    async fn held(&self, api: &Api<Lease>, namespace: &str) -> anyhow::Result<String> {
        let name = format!("{namespace}/{}", self.charge.lease);
        let deadline = Instant::now() + Duration::from_secs(self.patience);
        let mut first: Option<LeaseSpec> = None;
        loop {
            let found = api.get_opt(&self.charge.lease).await.with_context(|| format!("the lease {name}"))?;
            let now = found.and_then(|lease| lease.spec);
            if let Some(holder) = renewed(first.as_ref(), now.as_ref()) {
                return Ok(holder);
            }
            if Instant::now() >= deadline {
                let held = now.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
                anyhow::bail!(match held {
                    Some(holder) => format!(
                        "{holder} holds the lease {name} and has not renewed it for {} s: look at its log",
                        self.patience
                    ),
                    None => format!(
                        "nobody holds the lease {name}: no operator runs, or none reaches the API server"
                    ),
                });
            }
            first = first.or(now);
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The holder, if the record has been renewed since it was first seen.
fn renewed(first: Option<&LeaseSpec>, now: Option<&LeaseSpec>) -> Option<String> {
    let (first, now) = (first?, now?);
    let holder = now.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    (now.renew_time != first.renew_time).then_some(holder)
}

async fn listed<K>(client: &Client, namespace: Option<&str>) -> anyhow::Result<()>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let listed = api.list(&ListParams::default().limit(1)).await;
    listed.map(drop).with_context(|| {
        format!(
            "{kind} cannot be listed: are the definitions of crds/ applied, and may this account list them?"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn lease(holder: &str, second: i64) -> LeaseSpec {
        let at = k8s_openapi::jiff::Timestamp::from_second(second).expect("a time");
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(at)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn only_who_renews_acts() {
        assert_eq!(renewed(None, Some(&lease("a", 1))), None, "it may be a dead one's");
        assert_eq!(renewed(Some(&lease("a", 1)), Some(&lease("a", 1))), None);
        assert_eq!(renewed(Some(&lease("a", 1)), Some(&lease("a", 4))), Some("a".to_owned()));
        assert_eq!(renewed(Some(&lease("a", 1)), Some(&lease("", 4))), None, "it was given back");
        assert_eq!(renewed(Some(&lease("a", 1)), None), None);
    }
}
