//! Round after round: for each cluster ask, plan, act once, report. Clusters do not wait for each other within a round;
//! a round waits for all of them, and every part of it is bounded in time.
//!
//! A round goes by what the watches have shown, and does nothing by it: a cluster with something to do is looked at
//! again by a fresh list in the same round.

use super::act::{self, CLUSTER_FINALIZER, Means};
use super::bucket::Bucket;
use super::certificates::{self, Trust};
use super::checkpoints;
use super::control::Slots;
use super::drills;
use super::furnish::{self, Furnished, MANAGER, Renewals};
use super::health::Health;
use super::lease::Hold;
use super::metrics;
use super::origin;
use super::requests;
use super::rollbacks;
use super::rotations::{self, Turned};
use super::subject::{Subject, means};
use super::tell::Teller;
use super::watched::Watched;
use super::world::{self, World};
use crate::ids::*;
use crate::objects::{self, Copied, Naming};
use crate::plan::{Plan, plan};
use crate::report;
use crate::snapshot::{Certificates, Find, Fresh, INTERVAL, Known, Snapshot, Store};
use crate::wanted::Wanted;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use vr_api::{LocalReference, VRCluster, VRClusterStatus};

/// Between rounds while something is going on, and the least between any two.
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
    copied: Option<Copied>,
}

/// What came of a cluster's round.
struct Outcome {
    status: VRClusterStatus,
    busy: bool,
    acted: bool,
    failed: bool,
    /// There is something to do that was left, because the watches alone have shown it.
    left: bool,
}

/// By what a round goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// What the watches have shown: good for finding that nothing is to be done.
    Shown,
    /// A list of this moment.
    Listed,
}

/// Whether what must be there before anything is decided is there.
enum Prepared {
    Ready,
    /// The resource was changed: the next round has it as it is now.
    Changed,
    /// Something is to be written first, and [`Sight::Shown`] is too little for that.
    Left,
}

/// Whether something beside clusters is to be seen to.
fn due(world: &World) -> bool {
    drills::due(world) || checkpoints::due(world) || rollbacks::due(world)
}

/// What is known of the cluster that an object names.
fn subject<'a>(
    world: &'a World,
    memories: &'a HashMap<String, Memory>,
    object: &ObjectMeta,
    named: &LocalReference,
) -> Option<Subject<'a>> {
    let cluster = world.clusters.iter().find(|cluster| means(object, named, cluster))?;
    let Memory { slots, bucket, .. } = memories.get(&uid(cluster))?;
    Some(Subject { cluster, slots, bucket: bucket.as_ref().map(|(_, bucket)| bucket) })
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
        let watched = Watched::begin(&self.client, self.namespace.as_deref());
        let rest = Duration::from_secs(u64::try_from(INTERVAL.0).unwrap_or(5)).saturating_sub(SOON);
        while !*stopped.borrow() {
            self.health.turned();
            let hold = *self.held.borrow();
            let busy = match hold.filter(Hold::lasts) {
                Some(hold) => self.round(hold, &watched, &mut memories).await,
                // What is remembered of before somebody else had the lease says nothing any more.
                None => {
                    memories.clear();
                    true
                }
            };
            let pause = async {
                tokio::time::sleep(SOON).await;
                if !busy {
                    // Sooner where something has changed.
                    let _ = tokio::time::timeout(rest, watched.change()).await;
                }
            };
            tokio::select! {
                () = pause => {}
                _ = stopped.changed() => {}
            }
        }
    }

    async fn round(&self, hold: Hold, watched: &Watched, memories: &mut HashMap<String, Memory>) -> bool {
        let began = Instant::now();
        let mut done = HashMap::new();
        let mut world = watched.world();
        if let Some(shown) = &world {
            done = self.turn(hold, (shown, Sight::Shown), memories, done).await;
        }
        let enough = |shown: &World| {
            !done.values().any(|o: &Outcome| o.left) && !requests::unanswered(shown) && !due(shown)
        };
        if !world.as_ref().is_some_and(enough) {
            let listed = match World::look(&self.client, self.namespace.as_deref()).await {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the API server cannot be asked");
                    return true;
                }
            };
            self.health.reached();
            done = self.turn(hold, (&listed, Sight::Listed), memories, done).await;
            if hold.lasts() {
                requests::answer(&self.client, &listed).await;
                let of = |object: &ObjectMeta, named: &_| subject(&listed, memories, object, named);
                tokio::join!(
                    drills::see_to(&self.client, hold, &listed, of),
                    checkpoints::see_to(&self.client, hold, &listed, of),
                    rollbacks::see_to(&self.client, &listed, &self.teller, of)
                );
            }
            world = Some(listed);
        }
        let there: HashSet<String> =
            world.iter().flat_map(|world| &world.clusters).map(|cluster| uid(cluster)).collect();
        memories.retain(|uid, _| there.contains(uid));
        done.retain(|uid, _| there.contains(uid));
        let busy = done.values().any(|outcome| outcome.busy) || world.as_ref().is_some_and(due);
        let failures = done.values().map(|outcome| u64::from(outcome.failed)).sum();
        let steps = done.values().map(|outcome| u64::from(outcome.acted)).sum();
        let told = world.iter().flat_map(|world| &world.clusters).filter_map(|cluster| {
            let outcome = done.remove(&uid(cluster))?;
            let stored = memories.get(&uid(cluster)).and_then(|memory| memory.slots.stored());
            Some((named(cluster), outcome.status, stored))
        });
        self.health.note(|known| {
            known.clusters(told);
            known.drills(world.iter().flat_map(|world| &world.drills).map(|drill| &**drill));
            known.round(began.elapsed(), failures, steps);
        });
        busy
    }

    /// Sees to every cluster of a world that has none of its outcomes yet, or one that was left to a list.
    async fn turn(
        &self,
        hold: Hold,
        (world, sight): (&World, Sight),
        memories: &mut HashMap<String, Memory>,
        mut done: HashMap<String, Outcome>,
    ) -> HashMap<String, Outcome> {
        let due = world.clusters.iter().filter(|cluster| done.get(&uid(cluster)).is_none_or(|o| o.left));
        let each: Vec<_> = due
            .map(|cluster| {
                let mut memory = memories.remove(&uid(cluster)).unwrap_or_default();
                async move {
                    let outcome = self.cluster(hold, (world, sight), cluster, &mut memory).await;
                    (uid(cluster), memory, outcome)
                }
            })
            .collect();
        for (uid, memory, outcome) in futures_util::future::join_all(each).await {
            memories.insert(uid.clone(), memory);
            done.insert(uid, outcome);
        }
        done
    }

    async fn cluster(
        &self,
        hold: Hold,
        (world, sight): (&World, Sight),
        cluster: &VRCluster,
        memory: &mut Memory,
    ) -> Outcome {
        let before = cluster.status.clone().unwrap_or_default();
        let mut outcome =
            Outcome { status: before.clone(), busy: false, acted: false, failed: false, left: false };
        let mut problem = None;
        match self.prepare(cluster, sight, memory).await {
            Ok(Prepared::Ready) => {}
            Ok(Prepared::Changed) => return Outcome { busy: true, ..outcome },
            Ok(Prepared::Left) => return Outcome { left: true, ..outcome },
            Err(error) => problem = Some(error),
        }
        let held = world.pods_of(cluster);
        let Some(seen) = self.observe((world, sight), cluster, &held, &before, memory).await else {
            return Outcome { left: true, ..outcome };
        };
        let wanted = Wanted::of(cluster, objects::template(cluster));
        let now = world::now();
        let Plan { step, status } = plan(&wanted, &before, &seen, now);
        let waits = status.operation.is_some();
        if step.is_some() && sight == Sight::Shown {
            return Outcome { left: true, ..outcome };
        }
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
                copied: memory.copied.as_ref(),
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
            if outcome.acted && matches!(step, crate::step::Step::HandOff { .. }) {
                let updates = status.operation.as_ref().is_some_and(|o| o.kind == "Update");
                let why = if updates { metrics::UPDATE } else { metrics::PLACEMENT };
                self.health.note(|known| known.hands_over(named(cluster), why));
            }
            // Whether anything is left to be told of is known by the next round.
            if outcome.acted && matches!(step, crate::step::Step::LetGo) {
                return Outcome { status, busy: true, ..outcome };
            }
            if let Err(error) = done {
                // What failed before is why this did.
                problem.get_or_insert_with(|| error.context(step.to_string()));
            }
        }
        outcome.failed = problem.is_some();
        let generation = cluster.metadata.generation;
        outcome.status = match problem {
            Some(error) => report::blocked(status, format!("{error:#}"), generation, now),
            None => status,
        };
        let changed = outcome.status != before;
        // Numbers are what the replicas have just said, and where the resource is not the newest the write is refused.
        let numbers = report::differs_in_numbers(&outcome.status, &before);
        outcome.left = changed && !numbers && sight == Sight::Shown;
        outcome.busy = waits || (changed && !numbers) || step.is_some() || outcome.failed;
        if changed
            && !outcome.left
            && hold.lasts()
            && let Err(error) = self.teller.status(cluster, &outcome.status).await
        {
            tracing::info!(error = format!("{error:#}"), "the status was not written; it is made anew");
            outcome.failed = true;
        }
        outcome
    }

    /// What must be there before anything is decided.
    async fn prepare(
        &self,
        cluster: &VRCluster,
        sight: Sight,
        memory: &mut Memory,
    ) -> anyhow::Result<Prepared> {
        let (naming, meta, now) = (Naming::of(cluster), &cluster.metadata, world::now());
        let generation = meta.generation.unwrap_or_default();
        let listed = sight == Sight::Listed;
        if !listed && (memory.bucket.is_none() || memory.trust.is_none()) {
            return Ok(Prepared::Left);
        }
        let again = std::mem::take(&mut memory.refused);
        if again || memory.bucket.as_ref().is_none_or(|(of, _)| *of != generation) {
            memory.bucket = Some((generation, Bucket::of(&self.client, cluster).await?));
        }
        if memory.trust.as_ref().is_none_or(|trust| now >= trust.until) {
            memory.slots.reconnect();
            // What was good is not trusted for longer than it was to be.
            memory.trust = None;
            match certificates::trust(&self.client, cluster, now).await {
                Ok(trust) => memory.trust = Some(trust),
                Err(error) => {
                    memory.certificates = Known::At(now, Certificates::Failed(format!("{error:#}")));
                    return Err(error);
                }
            }
        }
        if cluster.spec.paused {
            return Ok(Prepared::Ready);
        }
        let held =
            meta.finalizers.as_ref().is_some_and(|all| all.iter().any(|name| name == CLUSTER_FINALIZER));
        if !held && meta.deletion_timestamp.is_none() {
            if !listed {
                return Ok(Prepared::Left);
            }
            let mut finalizers = meta.finalizers.clone().unwrap_or_default();
            finalizers.push(CLUSTER_FINALIZER.to_owned());
            let change = json!({"metadata": {
                "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers}});
            let api: Api<VRCluster> = Api::namespaced(self.client.clone(), naming.namespace());
            let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(naming.name(), &how, &Patch::Merge(&change)).await?;
            return Ok(Prepared::Changed);
        }
        let voters = cluster.status.as_ref().map_or(0, |s| usize::try_from(s.replicas).unwrap_or_default());
        if meta.deletion_timestamp.is_none()
            && !memory.furnished.see_to(&self.client, cluster, voters, listed, now).await?
        {
            return Ok(Prepared::Left);
        }
        Ok(Prepared::Ready)
    }

    /// What there is; nothing if it holds news that [`Sight::Shown`] is too little for.
    async fn observe(
        &self,
        (world, sight): (&World, Sight),
        cluster: &VRCluster,
        held: &BTreeMap<Slot, &Pod>,
        before: &VRClusterStatus,
        memory: &mut Memory,
    ) -> Option<Snapshot> {
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
                match (&memory.store, &found) {
                    // What does not answer now may have answered lately.
                    (_, Known::Unknown) => {}
                    (Known::At(_, known), Known::At(_, new)) if known == new => memory.store = found,
                    // Whose it is was judged by the clusters that there are.
                    _ if sight == Sight::Shown => return None,
                    _ => memory.store = found,
                }
            }
            let asked = matches!(&memory.oldest, Known::At(at, _) if now.since(*at) < OLDEST);
            if let Some(lineage) = before.lineage.as_ref().filter(|_| running.is_none() && !asked) {
                let found = bucket.oldest(&Lineage(lineage.id.clone()), now).await;
                memory.oldest = found;
            }
            let recovers = |step: &str| running.is_some_and(|o| o.kind == "Recover" && o.step == step);
            let (confirming, saving) = (recovers("Confirming"), recovers("Saving"));
            let searched = matches!(&memory.finds, Known::At(at, _) if now.since(*at) < SEARCH) && !saving;
            if let Some(lineage) = before.lineage.as_ref().filter(|_| (confirming || saving) && !searched) {
                memory.finds = bucket.finds(&Lineage(lineage.id.clone()), now).await;
            }
        }
        let address = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let addresses: BTreeMap<_, _> = held.iter().map(|(slot, pod)| (*slot, address(pod))).collect();
        let idle = cluster.spec.paused || cluster.metadata.deletion_timestamp.is_some();
        let mut rotation = None;
        if let Some(trust) = memory.trust.as_mut().filter(|_| !idle) {
            let (means, may, now) = ((&self.client, &self.teller), sight == Sight::Listed, world::now());
            match rotations::see_to(means, cluster, trust, &addresses, may, now).await {
                Ok(Turned::Still(says)) => rotation = says,
                Ok(Turned::Left) => return None,
                // It is read again by the next round.
                Ok(Turned::Done) => trust.until = now,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the authority could not be changed");
                    trust.until = now;
                }
            }
        }
        if let (Some(trust), Some(lineage)) =
            (&memory.trust, before.lineage.as_ref().filter(|_| !cluster.spec.paused))
        {
            let lineage = Lineage(lineage.id.clone());
            let replicas: Vec<_> = pods.iter().map(|(slot, pod)| (*slot, pod.replica)).collect();
            let now = world::now();
            if sight == Sight::Shown && !memory.renewals.hold(&replicas, &trust.seal(), now) {
                return None;
            }
            let renewed =
                furnish::renew(&self.client, cluster, trust, &lineage, replicas, &mut memory.renewals, now)
                    .await;
            let tls = cluster.spec.tls.as_ref();
            let given = tls.and_then(|tls| tls.secret_ref.as_ref());
            let issuer = tls.and_then(|tls| tls.issuer_ref.as_ref());
            let known = match (renewed, memory.renewals.first, given) {
                (Err(error), ..) => {
                    tracing::warn!(error = format!("{error:#}"), "certificates could not be renewed");
                    Some(Certificates::Failed(format!("{error:#}")))
                }
                (Ok(()), Some(first), _) => Some(match issuer {
                    None => Certificates::Renewed(first),
                    Some(issuer) => Certificates::Issued { issuer: issuer.name.clone(), expires: first },
                }),
                (Ok(()), None, Some(secret)) => {
                    trust.expires.map(|expires| Certificates::Given { secret: secret.name.clone(), expires })
                }
                (Ok(()), None, None) => None,
            };
            if let Some(known) = known {
                memory.certificates = Known::At(now, known);
            }
        }
        // Only what has not begun is to begin with something.
        let begins = before.lineage.is_none() || running.is_some_and(|o| o.kind == "Bootstrap");
        let lineage = before.lineage.as_ref().map(|known| Lineage(known.id.clone()));
        let asked = match begins {
            true => origin::look(&self.client, world, cluster, lineage.as_ref()).await,
            false => None,
        };
        let (origin, copied) = asked.unwrap_or_default();
        memory.copied = copied;
        let tls = memory.trust.as_ref().map(|trust| &trust.client);
        // Last, so that what they say is newest.
        let contacts = memory.slots.look(&Naming::of(cluster), &addresses, tls).await;
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        Some(Snapshot {
            pods: Known::At(world.at, pods),
            volumes: Known::At(world.at, world::volumes(world, cluster)),
            nodes: Known::At(world.at, world::nodes(world, cluster)),
            contacts,
            store: memory.store.clone(),
            inventory: memory.finds.clone(),
            oldest: memory.oldest.clone(),
            certificates: memory.certificates.clone(),
            rotation,
            drilled: Known::At(world.at, drills::ended(world, cluster)),
            acknowledged: Known::At(world.at, requests::acknowledged(world, cluster)),
            ordered: Known::At(world.at, rollbacks::ordered(world, cluster)),
            origin,
            fresh: Fresh {
                lineage: Lineage(uuid::Uuid::new_v4().to_string()),
                nonce: nonce[..12].to_owned(),
            },
        })
    }
}

fn named(cluster: &VRCluster) -> metrics::Name {
    let naming = Naming::of(cluster);
    (naming.namespace().to_owned(), naming.name().to_owned())
}

fn uid(cluster: &VRCluster) -> String {
    cluster.metadata.uid.clone().unwrap_or_default()
}
