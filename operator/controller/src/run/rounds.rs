//! Round after round: list, then for each cluster ask, plan, act once, report. Clusters do not wait for each other
//! within a round; a round waits for all of them, and every part of it is bounded in time.

use super::act::{self, CLUSTER_FINALIZER, Means};
use super::bucket::Bucket;
use super::certificates::{self, Trust};
use super::control::Slots;
use super::furnish::{self, Furnished, MANAGER, Renewals};
use super::health::Health;
use super::lease::Hold;
use super::requests;
use super::tell::Teller;
use super::world::{self, World};
use crate::ids::*;
use crate::objects::{self, Naming};
use crate::plan::{Plan, plan};
use crate::report;
use crate::snapshot::{Certificates, Find, Fresh, INTERVAL, Known, Snapshot, Store};
use crate::wanted::Wanted;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use vr_api::{VRCluster, VRClusterStatus};

/// Between rounds while something is going on.
const SOON: Duration = Duration::from_secs(1);
/// How often a store is asked at rest.
const STORE: Seconds = Seconds(30);
/// How often the oldest restore point is looked up.
const OLDEST: Seconds = Seconds(600);
/// How often an inventory is taken while a loss is confirmed.
const SEARCH: Seconds = Seconds(30);

/// What is kept of one cluster between rounds; losing it costs a few questions.
#[derive(Default)]
struct Memory {
    slots: Slots,
    trust: Option<Trust>,
    bucket: Option<(i64, Bucket)>,
    /// The store turned us away at the last look.
    refused: bool,
    store: Known<Store>,
    finds: Known<Vec<Find>>,
    furnished: Furnished,
    renewals: Renewals,
    certificates: Known<Certificates>,
    oldest: Known<Option<Find>>,
}

/// What came of a cluster's round.
struct Outcome {
    status: VRClusterStatus,
    busy: bool,
    acted: bool,
    failed: bool,
}

/// The loop.
pub(super) struct Rounds {
    client: Client,
    namespace: Option<String>,
    held: watch::Receiver<Option<Hold>>,
    health: Health,
    teller: Teller,
}

impl Rounds {
    pub(super) fn new(
        client: Client,
        namespace: Option<String>,
        held: watch::Receiver<Option<Hold>>,
        health: Health,
        who: String,
    ) -> Rounds {
        let teller = Teller::new(client.clone(), who);
        Rounds { client, namespace, held, health, teller }
    }

    /// Until told to stop; what was begun is finished.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut memories: HashMap<String, Memory> = HashMap::new();
        let rest = Duration::from_secs(u64::try_from(INTERVAL.0).unwrap_or(5));
        while !*stopped.borrow() {
            self.health.turned();
            let hold = *self.held.borrow();
            let busy = match hold.filter(Hold::lasts) {
                Some(hold) => self.round(hold, &mut memories).await,
                // What is remembered of before somebody else had the lease says nothing any more.
                None => {
                    memories.clear();
                    true
                }
            };
            tokio::select! {
                () = tokio::time::sleep(if busy { SOON } else { rest }) => {}
                _ = stopped.changed() => {}
            }
        }
    }

    async fn round(&self, hold: Hold, memories: &mut HashMap<String, Memory>) -> bool {
        let began = Instant::now();
        let world = match World::look(&self.client, self.namespace.as_deref()).await {
            Ok(world) => world,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the API server cannot be asked");
                return true;
            }
        };
        self.health.reached();
        let uid = |cluster: &VRCluster| cluster.metadata.uid.clone().unwrap_or_default();
        let mut kept: HashMap<String, Memory> = HashMap::new();
        let each = world.clusters.iter().map(|cluster| {
            let memory = memories.remove(&uid(cluster)).unwrap_or_default();
            let world = &world;
            async move {
                let mut memory = memory;
                let outcome = self.cluster(hold, world, cluster, &mut memory).await;
                (cluster, memory, outcome)
            }
        });
        let (mut busy, mut failures, mut steps, mut told) = (false, 0, 0, BTreeMap::new());
        for (cluster, memory, outcome) in futures_util::future::join_all(each).await {
            kept.insert(uid(cluster), memory);
            busy |= outcome.busy;
            failures += u64::from(outcome.failed);
            steps += u64::from(outcome.acted);
            let naming = Naming::of(cluster);
            told.insert((naming.namespace().to_owned(), naming.name().to_owned()), outcome.status);
        }
        *memories = kept;
        if hold.lasts() {
            requests::answer(&self.client, &world).await;
        }
        self.health.clusters(told);
        self.health.round(began.elapsed(), failures, steps);
        busy
    }

    async fn cluster(&self, hold: Hold, world: &World, cluster: &VRCluster, memory: &mut Memory) -> Outcome {
        let before = cluster.status.clone().unwrap_or_default();
        let mut outcome = Outcome { status: before.clone(), busy: false, acted: false, failed: false };
        let mut problem = None;
        match self.prepare(cluster, memory).await {
            Ok(true) => {}
            // It was changed: the next round has it as it is now.
            Ok(false) => return Outcome { busy: true, ..outcome },
            Err(error) => problem = Some(error),
        }
        let held = world.pods_of(cluster);
        let seen = self.observe(world, cluster, &held, &before, memory).await;
        let wanted = Wanted::of(cluster, objects::template(cluster));
        let now = world::now();
        let Plan { step, status } = plan(&wanted, &before, &seen, now);
        let waits = status.operation.is_some();
        if let Some(step) = &step {
            let lineage = status.lineage.as_ref().map(|known| Lineage(known.id.clone()));
            let means = Means {
                client: &self.client,
                cluster,
                hold,
                pods: &held,
                slots: &memory.slots,
                bucket: memory.bucket.as_ref().map(|(_, bucket)| bucket),
                trust: memory.trust.as_ref(),
                lineage,
                recovery: before.recovery_plan.as_ref(),
                now,
            };
            let done = act::carry_out(&means, step).await;
            let name = Naming::of(cluster).name().to_owned();
            match &done {
                Ok(()) => tracing::info!(cluster = name, "{step}"),
                Err(error) => {
                    tracing::warn!(cluster = name, error = format!("{error:#}"), "not done: {step}")
                }
            }
            self.teller.step(cluster, step, done.as_ref().err()).await;
            outcome.acted = done.is_ok();
            // Whether anything is left to be told of is known by the next round.
            if outcome.acted && matches!(step, crate::step::Step::LetGo) {
                return Outcome { status, busy: true, ..outcome };
            }
            if let Err(error) = done {
                problem = Some(error.context(step.to_string()));
            }
        }
        outcome.failed = problem.is_some();
        let generation = cluster.metadata.generation;
        outcome.status = match problem {
            Some(error) => report::blocked(status, format!("{error:#}"), generation, now),
            None => status,
        };
        let changed = outcome.status != before;
        outcome.busy = waits || changed || step.is_some() || outcome.failed;
        if changed
            && hold.lasts()
            && let Err(error) = self.teller.status(cluster, &outcome.status).await
        {
            tracing::info!(error = format!("{error:#}"), "the status was not written; it is made anew");
            outcome.failed = true;
        }
        outcome
    }

    /// What must be there before anything is decided. Whether the round may go on with the resource as it was read.
    async fn prepare(&self, cluster: &VRCluster, memory: &mut Memory) -> anyhow::Result<bool> {
        let (naming, meta, now) = (Naming::of(cluster), &cluster.metadata, world::now());
        let generation = meta.generation.unwrap_or_default();
        let again = std::mem::take(&mut memory.refused);
        if again || memory.bucket.as_ref().is_none_or(|(of, _)| *of != generation) {
            memory.bucket = Some((generation, Bucket::of(&self.client, cluster).await?));
        }
        if memory.trust.as_ref().is_none_or(|trust| now >= trust.until) {
            memory.slots.reconnect();
            memory.trust = Some(certificates::trust(&self.client, cluster, now).await?);
        }
        if cluster.spec.paused {
            return Ok(true);
        }
        let held =
            meta.finalizers.as_ref().is_some_and(|all| all.iter().any(|name| name == CLUSTER_FINALIZER));
        if !held && meta.deletion_timestamp.is_none() {
            let mut finalizers = meta.finalizers.clone().unwrap_or_default();
            finalizers.push(CLUSTER_FINALIZER.to_owned());
            let change = json!({"metadata": {
                "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}});
            let api: Api<VRCluster> = Api::namespaced(self.client.clone(), naming.namespace());
            let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(naming.name(), &how, &Patch::Merge(&change)).await?;
            return Ok(false);
        }
        let voters = cluster.status.as_ref().map_or(0, |s| usize::try_from(s.replicas).unwrap_or_default());
        if meta.deletion_timestamp.is_none() {
            memory.furnished.see_to(&self.client, cluster, voters, now).await?;
        }
        Ok(true)
    }

    async fn observe(
        &self,
        world: &World,
        cluster: &VRCluster,
        held: &BTreeMap<Slot, &Pod>,
        before: &VRClusterStatus,
        memory: &mut Memory,
    ) -> Snapshot {
        let running = before.operation.as_ref();
        let pods: BTreeMap<Slot, _> =
            held.iter().filter_map(|(slot, pod)| Some((*slot, world::pod(pod)?))).collect();
        if let Some((_, bucket)) = &memory.bucket {
            let now = world::now();
            let asked = match &memory.store {
                Known::At(at, _) => now.since(*at) >= STORE,
                Known::Unknown => true,
            };
            if asked || running.is_some() {
                let found = bucket.look(cluster, &world.clusters, now).await;
                // Whoever is turned away may have been given other keys meanwhile: the Secret is read again.
                let refused = matches!(found, Known::Unknown | Known::At(_, Store::Unusable(_)));
                memory.refused = refused;
                // What does not answer now may have answered lately.
                if found != Known::Unknown {
                    memory.store = found;
                }
            }
            let asked = matches!(&memory.oldest, Known::At(at, _) if now.since(*at) < OLDEST);
            if let Some(lineage) = before.lineage.as_ref().filter(|_| running.is_none() && !asked) {
                let found = bucket.oldest(&Lineage(lineage.id.clone()), now).await;
                memory.oldest = found;
            }
            let confirming = running.is_some_and(|o| o.kind == "Recover" && o.step == "Confirming");
            let searched = matches!(&memory.finds, Known::At(at, _) if now.since(*at) < SEARCH);
            if let Some(lineage) = before.lineage.as_ref().filter(|_| confirming && !searched) {
                memory.finds = bucket.finds(&Lineage(lineage.id.clone()), now).await;
            }
        }
        if let (Some(trust), Some(lineage)) =
            (&memory.trust, before.lineage.as_ref().filter(|_| !cluster.spec.paused))
        {
            let lineage = Lineage(lineage.id.clone());
            let replicas = pods.iter().map(|(slot, pod)| (*slot, pod.replica));
            let now = world::now();
            let renewed =
                furnish::renew(&self.client, cluster, trust, &lineage, replicas, &mut memory.renewals, now)
                    .await;
            let given = cluster.spec.tls.as_ref().and_then(|tls| tls.secret_ref.as_ref());
            let known = match (renewed, memory.renewals.first, given) {
                (Err(error), ..) => {
                    tracing::warn!(error = format!("{error:#}"), "certificates could not be renewed");
                    Some(Certificates::Failed(format!("{error:#}")))
                }
                (Ok(()), Some(first), _) => Some(Certificates::Renewed(first)),
                (Ok(()), None, Some(secret)) => Some(Certificates::Given(secret.name.clone())),
                (Ok(()), None, None) => None,
            };
            if let Some(known) = known {
                memory.certificates = Known::At(now, known);
            }
        }
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let addresses: BTreeMap<_, _> = held.iter().map(|(slot, pod)| (*slot, address(pod))).collect();
        let tls = memory.trust.as_ref().map(|trust| &trust.client);
        // Last, so that what they say is newest.
        let contacts = memory.slots.look(&Naming::of(cluster), &addresses, tls).await;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        Snapshot {
            pods: Known::At(world.at, pods),
            volumes: Known::At(world.at, world::volumes(world, cluster)),
            nodes: Known::At(world.at, world::nodes(world, cluster)),
            contacts,
            store: memory.store.clone(),
            inventory: memory.finds.clone(),
            oldest: memory.oldest.clone(),
            certificates: memory.certificates.clone(),
            acknowledged: Known::At(world.at, requests::acknowledged(world, cluster)),
            fresh: Fresh {
                lineage: Lineage(uuid::Uuid::new_v4().to_string()),
                nonce: nonce[..12].to_owned(),
            },
        }
    }
}
