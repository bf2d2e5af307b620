//! The object store below a cluster's prefix: who holds it, what a restore would find there, the claim and the fence.
//!
//! The replicas write below the name of their lineage. Beside that there is one object, `CLAIM`, made before the
//! lineage's first replica: it names the lineage and the resource. Who asks is the operator itself, with the keys of `credentialsSecretRef`, or with
//! its own identity where the replicas have one of the cloud's.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod tests;

use crate::ids::*;
use crate::objects::Restored;
use crate::snapshot::{Find, Known, Store, source};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vr_api::{VRCheckpointStatus, VRCluster};
use vr_checkpoint::format::{Head, Manifest, Parent, Retained};
use vr_checkpoint::pin;
use vr_checkpoint::restore::{self, Candidate, Source, TierKind};
use vr_checkpoint::store::{Created, ObjectStore, S3Keys, S3Location, S3Store, StoreError};

const CLAIM: &str = "CLAIM";
/// So long a question may take.
const ANSWERS: Duration = Duration::from_secs(4);
/// So long an inventory, or a write, may take.
const SEARCHES: Duration = Duration::from_secs(8);

/// Who has the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    lineage: String,
    namespace: String,
    name: String,
    uid: String,
}

/// The place of one cluster.
#[derive(Clone)]
pub(super) struct Bucket {
    location: S3Location,
    /// At the prefix itself.
    store: Arc<S3Store>,
    /// Where the replicas of a lineage write.
    within: Arc<Mutex<BTreeMap<Lineage, Arc<S3Store>>>>,
}

impl Bucket {
    /// Nothing is asked yet, except the API server for the keys.
    pub(super) async fn of(client: &Client, cluster: &VRCluster) -> anyhow::Result<Bucket> {
        let wanted = &cluster.spec.storage.object_store;
        let namespace = cluster.metadata.namespace.as_deref().unwrap_or("default");
        let keys = match &wanted.credentials_secret_ref {
            None => None,
            Some(named) => {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
                let secret = secrets.get_opt(&named.name).await?.ok_or_else(|| {
                    anyhow::anyhow!("credentialsSecretRef: there is no Secret {} in {namespace}", named.name)
                })?;
                let part = |key: &str| {
                    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
                    let text = bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
                    text.ok_or_else(|| {
                        anyhow::anyhow!("credentialsSecretRef: Secret {} has no {key}", named.name)
                    })
                };
                Some(S3Keys {
                    access_key: part("AWS_ACCESS_KEY_ID")?,
                    secret_key: part("AWS_SECRET_ACCESS_KEY")?,
                })
            }
        };
        let location = S3Location {
            endpoint: wanted.endpoint.clone(),
            bucket: wanted.bucket.clone(),
            prefix: wanted.prefix.clone().unwrap_or_default(),
            region: wanted.region.clone(),
            path_style: wanted.endpoint.is_some(),
            kms_key: wanted.kms_key_id.clone(),
            keys,
        };
        let store = Arc::new(S3Store::connect(&location).await);
        Ok(Bucket { location, store, within: Arc::default() })
    }

    /// The prefix itself: what is beside the lineages.
    pub(super) fn root(&self) -> Arc<S3Store> {
        self.store.clone()
    }

    /// Where an object below the prefix is, as people and tools write it.
    pub(super) fn address(&self, key: &str) -> String {
        let prefix = self.location.prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{}/{prefix}{slash}{key}", self.location.bucket)
    }

    /// Where the replicas of a lineage write (`tiers.objectStore.prefix` of their configuration, and the lineage).
    async fn of_lineage(&self, lineage: &Lineage) -> Arc<S3Store> {
        let known = |stores: &BTreeMap<Lineage, Arc<S3Store>>| stores.get(lineage).cloned();
        if let Some(store) = known(&self.within.lock().expect("nobody panics while holding it")) {
            return store;
        }
        let prefix = format!("{}/{lineage}", self.location.prefix);
        let prefix = prefix.trim_matches('/').to_owned();
        let store = Arc::new(S3Store::connect(&S3Location { prefix, ..self.location.clone() }).await);
        let mut stores = self.within.lock().expect("nobody panics while holding it");
        stores.entry(lineage.clone()).or_insert(store).clone()
    }

    /// What is there. `others` are the resources that exist: what one of them has claimed is its own.
    pub(super) async fn look(
        &self,
        cluster: &VRCluster,
        others: &[Arc<VRCluster>],
        now: Moment,
    ) -> Known<Store> {
        match tokio::time::timeout(ANSWERS, self.found(cluster, others)).await {
            Ok(Ok(found)) => Known::At(now, found),
            Ok(Err(StoreError::Permanent { store, what, reason })) => {
                Known::At(now, Store::Unusable(format!("{store}: {what}: {reason}")))
            }
            Ok(Err(error @ StoreError::Transient { .. })) => {
                tracing::warn!(error = %error, "the object store does not answer");
                Known::Unknown
            }
            Err(_) => {
                tracing::warn!(store = %self.store.describe(), "the object store does not answer");
                Known::Unknown
            }
        }
    }

    async fn found(&self, cluster: &VRCluster, others: &[Arc<VRCluster>]) -> Result<Store, StoreError> {
        let claim = match self.store.get(CLAIM).await? {
            None => None,
            Some(bytes) => match serde_json::from_slice::<Claim>(&bytes) {
                Ok(claim) => Some(claim),
                Err(error) => return Ok(Store::Unusable(self.strange(CLAIM, &error.to_string()))),
            },
        };
        let mine = cluster.metadata.uid.as_deref().unwrap_or_default();
        // What another cluster has claimed in another place is there as a copy.
        let here = |other: &VRCluster| place(cluster) == place(other);
        let claims = |other: &VRCluster, claim: &Claim| other.metadata.uid.as_deref() == Some(&claim.uid);
        if let Some(claim) = &claim
            && claim.uid != mine
            && others.iter().any(|other| claims(other, claim) && here(other))
        {
            return Ok(Store::Unusable(format!(
                "{} belongs to VRCluster {}/{}: choose another prefix",
                self.store.describe(),
                claim.namespace,
                claim.name
            )));
        }
        let lineage = match &claim {
            Some(claim) => Lineage(claim.lineage.clone()),
            None => match self.lineages().await?.as_slice() {
                [] => return Ok(Store::Empty),
                [one] => one.clone(),
                several => {
                    let names: Vec<_> = several.iter().map(ToString::to_string).collect();
                    return Ok(Store::Unusable(format!(
                        "{} holds several lineages and no CLAIM says whose it is ({}): choose another prefix",
                        self.store.describe(),
                        names.join(", ")
                    )));
                }
            },
        };
        let within = self.of_lineage(&lineage).await;
        let generation = match within.head().await? {
            None => None,
            Some((bytes, _)) => match Head::parse("HEAD", &bytes) {
                Ok(head) if head.lineage == lineage.0 => Some(Generation(head.generation)),
                Ok(head) => {
                    let why = format!("it is of lineage {}", head.lineage);
                    return Ok(Store::Unusable(self.strange(&format!("{lineage}/HEAD"), &why)));
                }
                Err(error) => {
                    return Ok(Store::Unusable(self.strange(&format!("{lineage}/HEAD"), &error.to_string())));
                }
            },
        };
        Ok(Store::Mine { lineage, generation })
    }

    /// Those that have begun below a prefix that nobody has claimed: it may be a copy of another place.
    async fn lineages(&self) -> Result<Vec<Lineage>, StoreError> {
        let all = self.store.list("").await?;
        let heads = all.iter().filter_map(|object| object.key.strip_suffix("/HEAD"));
        Ok(heads.filter(|name| uuid::Uuid::try_parse(name).is_ok()).map(|n| Lineage(n.to_owned())).collect())
    }

    fn strange(&self, object: &str, why: &str) -> String {
        format!("{}: {object} is not of this product ({why}): choose another prefix", self.store.describe())
    }

    /// Claims the prefix unless somebody has.
    pub(super) async fn claim(&self, cluster: &VRCluster, lineage: &Lineage) -> anyhow::Result<()> {
        let meta = &cluster.metadata;
        let claim = Claim {
            lineage: lineage.0.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        let body = serde_json::to_vec_pretty(&claim)?;
        match tokio::time::timeout(SEARCHES, self.store.create(CLAIM, body.into())).await?? {
            Created::Yes => Ok(()),
            // The next look says whose it is.
            _ => anyhow::bail!("{}: somebody else claims it at this moment", self.store.describe()),
        }
    }

    async fn inventory(&self, lineage: &Lineage) -> anyhow::Result<restore::Inventory> {
        let store: Arc<dyn ObjectStore> = self.of_lineage(lineage).await;
        let source = Source { name: "object store".to_owned(), tier: TierKind::ObjectStore, store };
        let sources = [source];
        let search = restore::inventory(&sources, &lineage.0);
        Ok(tokio::time::timeout(SEARCHES, search).await?)
    }

    /// What there is to restore from, best first.
    pub(super) async fn finds(&self, lineage: &Lineage, now: Moment) -> Known<Vec<Find>> {
        // That nothing is there is an answer.
        let within = self.of_lineage(lineage).await;
        if let Ok(Ok(None)) = tokio::time::timeout(ANSWERS, within.head()).await {
            return Known::At(now, Vec::new());
        }
        match self.inventory(lineage).await {
            Ok(found)
                if found.findings.iter().all(|f| f.problem.is_none()) || !found.candidates.is_empty() =>
            {
                Known::At(now, found.candidates.iter().map(find).collect())
            }
            Ok(found) => {
                let problems: Vec<_> = found.findings.into_iter().filter_map(|f| f.problem).collect();
                tracing::warn!(
                    problems = problems.join("; "),
                    "the object store holds nothing to restore from"
                );
                Known::Unknown
            }
            Err(_) => Known::Unknown,
        }
    }

    /// The oldest state that a restore would reach. What cannot be told now is asked again as late as what can.
    pub(super) async fn oldest(&self, lineage: &Lineage, now: Moment) -> Known<Option<Find>> {
        let found = match self.inventory(lineage).await {
            Ok(found) => found
                .candidates
                .iter()
                .min_by_key(|c| c.checkpoint_op)
                .map(|c| Find { op: Op(c.checkpoint_op), ..find(c) }),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the object store does not say what it holds");
                None
            }
        };
        Known::At(now, found)
    }

    /// What a generation is to begin from, as a plan has named it.
    pub(super) async fn restored(
        &self,
        lineage: &Lineage,
        (source, op): (&str, i64),
        token: &str,
    ) -> anyhow::Result<Restored> {
        let found = self.inventory(lineage).await?;
        let named = |c: &&Candidate| {
            let find = find(c);
            find.source == source && find.op.signed() >= op
        };
        let best = found.candidates.iter().find(named).ok_or_else(|| {
            anyhow::anyhow!(
                "what the plan names, {source} at op {op}, is not in {} now",
                self.store.describe()
            )
        })?;
        Ok(Restored {
            generation: Generation(best.generation),
            checkpoint: Op(best.checkpoint_op),
            root: best.root.clone(),
            to_op: Op(u64::try_from(op).unwrap_or_default()),
            reserved_revision: found.reserved_revision,
            token: token.to_owned(),
        })
    }

    /// The checkpoints that are kept, oldest first.
    pub(super) async fn retained(&self, lineage: &Lineage) -> anyhow::Result<Vec<Retained>> {
        let within = self.of_lineage(lineage).await;
        let head = tokio::time::timeout(ANSWERS, within.head()).await??;
        let Some((bytes, _)) = head else { return Ok(Vec::new()) };
        Ok(Head::parse("HEAD", &bytes)?.retained)
    }

    /// Gives the checkpoint of an op a name, and tells what it is.
    pub(super) async fn pin(
        &self,
        lineage: &Lineage,
        name: &str,
        op: u64,
    ) -> anyhow::Result<VRCheckpointStatus> {
        let within = self.of_lineage(lineage).await;
        let pinned = async {
            let retained = pin::pin(&*within, &lineage.0, name, Some(op)).await?;
            let missing = || anyhow::anyhow!("{} has just gone", retained.manifest);
            let bytes = within.get(&retained.manifest).await?.ok_or_else(missing)?;
            let manifest = Manifest::parse(&retained.manifest, &bytes)?;
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let at = Moment(signed(manifest.time_micros / 1_000_000));
            anyhow::Ok(VRCheckpointStatus {
                lineage: Some(manifest.lineage),
                generation: Some(signed(manifest.generation)),
                op: Some(signed(manifest.op)),
                revision: Some(manifest.revision),
                time: Some(at.text()),
                root: Some(manifest.state.root),
                manifest: Some(self.address(&format!("{lineage}/{}", retained.manifest))),
                ..VRCheckpointStatus::default()
            })
        };
        tokio::time::timeout(SEARCHES, pinned).await?
    }

    /// Takes a name away, if any checkpoint has it.
    pub(super) async fn unpin(&self, lineage: &Lineage, name: &str) -> anyhow::Result<()> {
        let within = self.of_lineage(lineage).await;
        let unpinned = async {
            let known = pin::pins(&*within, &lineage.0).await?;
            if known.iter().any(|(pin, _)| pin == name) {
                pin::unpin(&*within, &lineage.0, name).await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(SEARCHES, unpinned).await?
    }

    /// From here on everything older than `generation` stays out.
    pub(super) async fn fence(
        &self,
        lineage: &Lineage,
        generation: Generation,
        from: &Restored,
    ) -> anyhow::Result<()> {
        let within = self.of_lineage(lineage).await;
        let parent = Parent { generation: from.generation.0, op: from.to_op.0, root: from.root.clone() };
        let fence = restore::fence(&*within, &parent, generation.0, from.reserved_revision, &from.token);
        tokio::time::timeout(SEARCHES, fence).await?.map_err(anyhow::Error::msg)
    }
}

/// Where a cluster's objects are: slashes at the ends of a prefix, or of an endpoint, make no difference.
fn place(cluster: &VRCluster) -> (&str, &str, &str) {
    let store = &cluster.spec.storage.object_store;
    let prefix = store.prefix.as_deref().unwrap_or_default().trim_matches('/');
    (&store.bucket, prefix, store.endpoint.as_deref().unwrap_or_default().trim_end_matches('/'))
}

fn find(candidate: &Candidate) -> Find {
    let seconds = candidate.time_micros / 1_000_000;
    Find {
        source: source(&candidate.source, Op(candidate.checkpoint_op), Generation(candidate.generation)),
        op: Op(candidate.reachable_op),
        time: i64::try_from(seconds).ok().map(Moment),
        flaw: None,
    }
}
