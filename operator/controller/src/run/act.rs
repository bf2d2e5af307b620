//! One step, carried out: one write that names what it was decided about, so that it fails when that has changed.

use super::bucket::Bucket;
use super::certificates::{self, Trust};
use super::control::Slots;
use super::lease::Hold;
use super::origin;
use crate::ids::*;
use crate::objects::{self, Copied, GENERATION_LABEL, Naming, PROCESS_FINALIZER, REPLICA_LABEL, Restored};
use crate::snapshot::Member;
use crate::step::{Change, Step};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use vr_api::{RecoveryPlan, VRCluster};
use vr_proto::control as pb;

/// Holds a cluster until its pods are gone.
pub(super) const CLUSTER_FINALIZER: &str = "vr-operator.io/cluster";
const FROM: &str = "restored";

/// All that a step may need.
pub(super) struct Means<'a> {
    pub(super) client: &'a Client,
    pub(super) cluster: &'a VRCluster,
    pub(super) hold: Hold,
    pub(super) pods: &'a BTreeMap<Slot, &'a Pod>,
    pub(super) slots: &'a Slots,
    pub(super) bucket: Option<&'a Bucket>,
    pub(super) trust: Option<&'a Trust>,
    pub(super) lineage: Option<Lineage>,
    /// The plan that is being carried out.
    pub(super) recovery: Option<&'a RecoveryPlan>,
    /// What it is to begin with.
    pub(super) copied: Option<&'a Copied>,
    pub(super) now: Moment,
}

/// Carries it out.
pub(super) async fn carry_out(means: &Means<'_>, step: &Step) -> anyhow::Result<()> {
    anyhow::ensure!(means.hold.lasts(), "the lease ran out: whoever holds it goes on");
    match step {
        Step::Claim(lineage) => means.bucket()?.claim(means.cluster, lineage).await,
        Step::Copy(lineage) => {
            let copied = means.copied.ok_or_else(|| anyhow::anyhow!("spec.bootstrap is gone"))?;
            origin::copy(means.client, means.cluster, copied, lineage).await
        }
        Step::Fence { lineage, generation } => {
            let from = means.latch(lineage, *generation).await?;
            means.bucket()?.fence(lineage, *generation, &from).await
        }
        Step::Save { slot, replica: _ } => means.slots.save(*slot, means.hold.token).await,
        Step::AssignVolume { slot, uid, replica, generation } => {
            let labels =
                json!({REPLICA_LABEL: replica.to_string(), GENERATION_LABEL: generation.to_string()});
            let change = json!({"metadata": {"uid": uid.0, "labels": labels}});
            let api: Api<PersistentVolumeClaim> = means.api();
            api.patch(&means.name(*slot), &PatchParams::default(), &Patch::Merge(&change)).await?;
            Ok(())
        }
        Step::MakeVolume { slot, zone, replica, generation, lineage } => {
            let made = objects::volume(means.cluster, lineage, *generation, *slot, zone, *replica);
            let made = made.ok_or_else(|| anyhow::anyhow!("storage.volume is gone from the resource"))?;
            let api: Api<PersistentVolumeClaim> = means.api();
            api.create(&PostParams::default(), &made).await?;
            Ok(())
        }
        Step::MakePod { member, generation, members, start } => {
            let lineage = means.lineage.as_ref().ok_or_else(|| anyhow::anyhow!("no lineage is known"))?;
            let trust = means.trust.ok_or_else(|| anyhow::anyhow!("there are no certificates"))?;
            let of = (member.slot, member.id);
            certificates::of_replica(means.client, means.cluster, trust, lineage, of, means.now).await?;
            let from = means.latched(*generation).await?;
            let made =
                objects::pod(means.cluster, lineage, *generation, member, members, start, from.as_ref())?;
            let api: Api<Pod> = means.api();
            api.create(&PostParams::default(), &made).await?;
            Ok(())
        }
        Step::Release { slot, uid } => {
            let pod = means.pods.get(slot).ok_or_else(|| anyhow::anyhow!("pod {slot} is gone already"))?;
            anyhow::ensure!(pod.metadata.uid.as_ref() == Some(&uid.0), "another pod has slot {slot} by now");
            let change = without(&pod.metadata, PROCESS_FINALIZER);
            let api: Api<Pod> = means.api();
            api.patch(&means.name(*slot), &PatchParams::default(), &Patch::Merge(&change)).await?;
            Ok(())
        }
        Step::DeletePod { slot, uid, live: _ } => {
            let api: Api<Pod> = means.api();
            api.delete(&means.name(*slot), &exactly(uid)).await?;
            Ok(())
        }
        Step::DeleteVolume { slot, uid } => {
            let api: Api<PersistentVolumeClaim> = means.api();
            api.delete(&means.name(*slot), &exactly(uid)).await?;
            Ok(())
        }
        Step::LetGo => {
            let meta = &means.cluster.metadata;
            let change = without(meta, CLUSTER_FINALIZER);
            let api: Api<VRCluster> = means.api();
            api.patch(Naming::of(means.cluster).name(), &PatchParams::default(), &Patch::Merge(&change))
                .await?;
            Ok(())
        }
        Step::Reconfigure { replaces, change } => means.reconfigure(replaces, change).await,
        Step::HandOff { to } => {
            let port = means.slots.answering().ok_or_else(|| anyhow::anyhow!("no replica answers"))?;
            port.hand_off(pb::HandOffRequest { fence: Some(means.fence()), to: to.0 }).await
        }
    }
}

/// The change that takes one finalizer away, of the version that was read: it fails where somebody has added another
/// one meanwhile, and the next look has both.
pub(super) fn without(meta: &ObjectMeta, finalizer: &str) -> Value {
    let held = meta.finalizers.as_deref().unwrap_or_default();
    let rest: Vec<_> = held.iter().filter(|name| *name != finalizer).collect();
    json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest}})
}

/// Deletes this object, and no successor of the same name.
pub(super) fn exactly(uid: &Uid) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions { uid: Some(uid.0.clone()), resource_version: None })
}

impl Means<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), Naming::of(self.cluster).namespace())
    }

    fn name(&self, slot: Slot) -> String {
        Naming::of(self.cluster).slot(slot)
    }

    fn bucket(&self) -> anyhow::Result<&Bucket> {
        self.bucket.ok_or_else(|| anyhow::anyhow!("the object store cannot be used"))
    }

    fn fence(&self) -> pb::Fence {
        pb::Fence { token: self.hold.token, r#override: false }
    }

    async fn reconfigure(&self, replaces: &ConfigurationId, change: &Change) -> anyhow::Result<()> {
        let now = self.slots.raw.get(replaces);
        let now =
            now.ok_or_else(|| anyhow::anyhow!("nobody knows the configuration that is to be replaced"))?;
        let mut next = now.clone();
        edited(&mut next, change, &Naming::of(self.cluster))?;
        let port = self.slots.answering().ok_or_else(|| anyhow::anyhow!("no replica answers"))?;
        let request =
            pb::ReconfigureRequest { fence: Some(self.fence()), replaces: now.id.clone(), next: Some(next) };
        port.reconfigure(request).await
    }

    fn beginning(&self, generation: Generation) -> String {
        format!("{}-generation-{generation}", Naming::of(self.cluster).name())
    }

    /// What a generation begins from, decided once: whoever comes later finds it.
    async fn latch(&self, lineage: &Lineage, generation: Generation) -> anyhow::Result<Restored> {
        if let Some(known) = self.latched(generation).await? {
            return Ok(known);
        }
        let plan = self.recovery.ok_or_else(|| anyhow::anyhow!("no recovery plan is on record"))?;
        let best = plan.candidates.iter().find(|candidate| candidate.remark.is_none());
        let best = best.ok_or_else(|| anyhow::anyhow!("the recovery plan names nothing that can be used"))?;
        let from = self.bucket()?.restored(lineage, (&best.source, best.op), &plan.nonce).await?;
        self.keep(generation, &from).await?;
        Ok(from)
    }

    /// Writes down what a generation begins from, unless somebody has.
    pub(super) async fn keep(&self, generation: Generation, from: &Restored) -> anyhow::Result<()> {
        let metadata = Naming::of(self.cluster).owned(self.beginning(generation));
        let data = BTreeMap::from([(FROM.to_owned(), serde_json::to_string(&Kept::from(from))?)]);
        let record = ConfigMap { metadata, data: Some(data), immutable: Some(true), ..ConfigMap::default() };
        let api: Api<ConfigMap> = self.api();
        api.create(&PostParams::default(), &record).await?;
        Ok(())
    }

    async fn latched(&self, generation: Generation) -> anyhow::Result<Option<Restored>> {
        if generation <= Generation(1) {
            return Ok(None);
        }
        let api: Api<ConfigMap> = self.api();
        let Some(record) = api.get_opt(&self.beginning(generation)).await? else { return Ok(None) };
        let text = record.data.and_then(|mut data| data.remove(FROM)).unwrap_or_default();
        Ok(Some(serde_json::from_str::<Kept>(&text)?.into()))
    }
}

/// [`Restored`] as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    generation: u64,
    checkpoint: u64,
    root: String,
    to_op: u64,
    reserved_revision: i64,
    token: String,
}

impl From<&Restored> for Kept {
    fn from(from: &Restored) -> Kept {
        Kept {
            generation: from.generation.0,
            checkpoint: from.checkpoint.0,
            root: from.root.clone(),
            to_op: from.to_op.0,
            reserved_revision: from.reserved_revision,
            token: from.token.clone(),
        }
    }
}

impl From<Kept> for Restored {
    fn from(kept: Kept) -> Restored {
        Restored {
            generation: Generation(kept.generation),
            checkpoint: Op(kept.checkpoint),
            root: kept.root,
            to_op: Op(kept.to_op),
            reserved_revision: kept.reserved_revision,
            token: kept.token,
        }
    }
}

fn edited(next: &mut pb::Configuration, change: &Change, naming: &Naming<'_>) -> anyhow::Result<()> {
    match change {
        Change::Learn(Member { id, slot, zone }, _) => next.learners.push(pb::Member {
            id: id.0,
            domain: zone.0.clone(),
            peer: naming.peer_address(*slot),
            client: naming.client_url(*slot),
        }),
        Change::Promote(id, instead_of) => {
            let place = next.learners.iter().position(|m| m.id == id.0);
            let place = place.ok_or_else(|| anyhow::anyhow!("replica {id} is no learner"))?;
            let learner = next.learners.remove(place);
            match instead_of {
                None => next.order.push(learner),
                Some(old) => {
                    let voter = next.order.iter_mut().find(|m| m.id == old.0);
                    *voter.ok_or_else(|| anyhow::anyhow!("replica {old} is no voter"))? = learner;
                }
            }
        }
        Change::Remove(id) => {
            next.order.retain(|m| m.id != id.0);
            next.learners.retain(|m| m.id != id.0);
        }
    }
    Ok(())
}
