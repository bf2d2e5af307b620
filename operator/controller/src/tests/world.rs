//! A Kubernetes and a cluster that are small enough to be wrong on purpose: nodes that go off, kubelets that say
//! nothing, disks that vanish, and a protocol reduced to what the operator can tell: who has its memory, who votes,
//! who leads.
//!
//! It keeps the books that a real one does not: which processes really run, and which replicas have ever begun. What
//! must never be is asserted here, at every step.

use crate::*;
use std::collections::{BTreeMap, BTreeSet};
use vr_api::VRClusterStatus;

/// How long a node must be silent before the others say so.
const GRACE: i64 = 10;

/// A source of observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Pods,
    Volumes,
    Nodes,
    Store,
    Replicas,
}

impl Source {
    pub(super) const ALL: [Source; 5] =
        [Source::Pods, Source::Volumes, Source::Nodes, Source::Store, Source::Replicas];
}

/// A node as it is.
#[derive(Clone, Debug)]
pub(super) struct SimNode {
    zone: Zone,
    /// Powered and running.
    up: bool,
    /// Nobody reaches it, and it reaches nobody.
    cut: bool,
    /// Its kubelet was heard then.
    heard: i64,
    pub(super) out_of_service: bool,
    pub(super) draining: bool,
}

/// A process as it is.
#[derive(Clone, Debug)]
struct Proc {
    generation: Generation,
    pod: Uid,
    slot: Slot,
    id: ReplicaId,
    node: NodeName,
    memory: bool,
    normal_since: Option<i64>,
    incarnation: u64,
}

/// What the protocol agreed on.
#[derive(Clone, Debug, Default)]
struct Agreed {
    epoch: u64,
    voters: Vec<Member>,
    learners: Vec<Member>,
    primary: Option<ReplicaId>,
    /// Who led last: as long as it remembers, it gives everybody back what they have lost.
    led: Option<ReplicaId>,
    highest: u64,
    commit: u64,
}

/// All of it.
pub(super) struct World {
    pub(super) now: i64,
    pub(super) wanted: Wanted,
    pub(super) status: VRClusterStatus,
    pub(super) nodes: BTreeMap<NodeName, SimNode>,
    /// The pod, how it starts, and whom it is told of.
    pods: BTreeMap<Slot, (Pod, Start, Vec<Member>)>,
    procs: Vec<Proc>,
    /// The volume and whether a vote record is on it.
    volumes: BTreeMap<Slot, (Volume, bool)>,
    /// The newest generation that has members, and who they are.
    generation: Generation,
    agreed: Agreed,
    /// What HEAD says.
    head: Option<Generation>,
    pub(super) acknowledged: BTreeSet<String>,
    /// Replicas that say they are another one.
    pub(super) liars: BTreeMap<ReplicaId, ReplicaId>,
    /// What the volume of each slot leads to.
    pub(super) on_volume: BTreeMap<Slot, u64>,
    /// What replicas are asked to bring to the object store gets there.
    pub(super) saves: bool,
    /// A roll-back whose target is found and held.
    pub(super) ordered: Option<Rollback>,
    /// What the cluster is to begin with, and how far it is.
    pub(super) origin: Origin,
    store: Option<Lineage>,
    stored_at: i64,
    /// Nothing is shipped to the object store.
    pub(super) shipless: bool,
    /// The write before which the operator dies, counted down; what it then wants to write does not happen.
    pub(super) dies: Option<usize>,
    /// Slots whose process was told to end and has left all it had on its disks.
    marked: BTreeSet<Slot>,
    pub(super) gone: bool,
    /// Writes until now.
    pub(super) writes: usize,
    pub(super) blind: BTreeSet<Source>,
    pub(super) found: Vec<Find>,
    seen: Snapshot,
    /// Replicas that have begun with nothing.
    begun: BTreeSet<(Generation, ReplicaId)>,
    /// Replicas that have voted.
    voted: BTreeSet<(Generation, ReplicaId)>,
    serial: u64,
    pub(super) log: Vec<String>,
    /// The steps that took something away.
    pub(super) taken: Vec<String>,
}

/// Three zones, two nodes each.
pub(super) fn nodes() -> BTreeMap<NodeName, SimNode> {
    ["a1", "a2", "b1", "b2", "c1", "c2"]
        .into_iter()
        .map(|name| {
            let zone = Zone::from(&name[..1]);
            let node =
                SimNode { zone, up: true, cut: false, heard: 0, out_of_service: false, draining: false };
            (NodeName::from(name), node)
        })
        .collect()
}

pub(super) fn wanted(replicas: usize) -> Wanted {
    Wanted {
        shipping: Seconds(300),
        rpo: None,
        drill_max_age: None,
        name: "prod".to_owned(),
        generation: 1,
        replicas,
        zones: ["a", "b", "c"].map(Zone::from).to_vec(),
        preferred: Vec::new(),
        handback: Seconds(60),
        volumes: Some(Volumes { go_when_scaled: true, go_when_deleted: false }),
        replace: true,
        failure_detection: Seconds(30),
        node_gone: Seconds(120),
        confirmation: Seconds(30),
        automatic: None,
        update: Some(Update { supervised: false, settle: Seconds(10) }),
        template: Template::from("v1"),
        fenced: BTreeSet::new(),
        hibernated: false,
        paused: false,
        deleting: false,
        protected: true,
        begins_with: false,
    }
}

impl World {
    pub(super) fn new(wanted: Wanted) -> World {
        World {
            now: 1000,
            wanted,
            status: VRClusterStatus::default(),
            nodes: nodes(),
            pods: BTreeMap::new(),
            procs: Vec::new(),
            volumes: BTreeMap::new(),
            generation: Generation(1),
            agreed: Agreed::default(),
            head: None,
            acknowledged: BTreeSet::new(),
            liars: BTreeMap::new(),
            on_volume: BTreeMap::new(),
            saves: true,
            ordered: None,
            origin: Origin::Absent,
            store: None,
            stored_at: 0,
            shipless: false,
            dies: None,
            marked: BTreeSet::new(),
            gone: false,
            writes: 0,
            blind: BTreeSet::new(),
            found: Vec::new(),
            seen: Snapshot::default(),
            begun: BTreeSet::new(),
            voted: BTreeSet::new(),
            serial: 0,
            log: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn uid(&mut self) -> Uid {
        self.serial += 1;
        Uid(format!("u{}", self.serial))
    }

    fn reached(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|n| n.up && !n.cut)
    }

    fn remembers(&self, id: ReplicaId) -> bool {
        let present = |p: &Proc| p.generation == self.generation && p.id == id;
        self.procs.iter().any(|p| present(p) && p.memory && self.reached(&p.node))
    }

    /// Voters that could form a quorum of these right now.
    fn live(&self, voters: &[Member]) -> usize {
        voters.iter().filter(|m| self.remembers(m.id)).count()
    }

    pub(super) fn serving(&self) -> bool {
        self.agreed.primary.is_some() && self.live(&self.agreed.voters) > self.agreed.voters.len() / 2
    }

    pub(super) fn voters(&self) -> Vec<ReplicaId> {
        self.agreed.voters.iter().map(|m| m.id).collect()
    }

    pub(super) fn zones_of_voters(&self) -> BTreeSet<Zone> {
        self.agreed.voters.iter().map(|m| m.zone.clone()).collect()
    }

    pub(super) fn learners(&self) -> usize {
        self.agreed.learners.len()
    }

    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.pods.keys().copied().collect()
    }

    pub(super) fn slot_of(&self, id: ReplicaId) -> Option<Slot> {
        self.agreed.voters.iter().chain(&self.agreed.learners).find(|m| m.id == id).map(|m| m.slot)
    }

    // What people and fate do.

    pub(super) fn kill(&mut self, slot: Slot) {
        self.procs.retain(|p| p.slot != slot);
    }

    pub(super) fn delete_pod(&mut self, slot: Slot) {
        if let Some((pod, ..)) = self.pods.get_mut(&slot) {
            pod.deleting = true;
        }
    }

    /// The claim, and everything on it, once nothing uses it.
    pub(super) fn delete_volume(&mut self, slot: Slot) {
        self.delete_pod(slot);
        if let Some((volume, _)) = self.volumes.get_mut(&slot) {
            volume.deleting = true;
        }
    }

    /// The lineage goes on in another place.
    pub(super) fn restored_elsewhere(&mut self) {
        self.head = Some(Generation(self.head.map_or(2, |head| head.0 + 1)));
    }

    /// Somebody orders a roll-back, and its target is found and held.
    pub(super) fn roll_back(&mut self, op: u64) {
        let generation = self.status.lineage.as_ref().map_or(0, |known| known.generation);
        let generation = Generation(u64::try_from(generation).expect("it counts up") + 1);
        self.ordered = Some(Rollback {
            restore: "back".to_owned(),
            nonce: format!("uid-of-back-{generation}"),
            generation,
            target: Find {
                source: "object store: checkpoint 5 of generation 1".to_owned(),
                op: Op(op),
                time: Some(Moment(self.now - 60)),
                flaw: None,
            },
        });
    }

    /// What the cluster is to begin with has come below its prefix.
    pub(super) fn copied(&mut self, op: u64, generation: u64) {
        self.head = Some(Generation(generation));
        let source = format!("object store: checkpoint {op} of generation {generation}");
        let copy = Find { source, op: Op(op), time: Some(Moment(self.now - 3600)), flaw: None };
        self.origin = Origin::There(copy, Generation(generation));
    }

    /// Somebody puts another replica's disk there.
    pub(super) fn relabel(&mut self, slot: Slot, replica: ReplicaId) {
        if let Some((volume, _)) = self.volumes.get_mut(&slot) {
            volume.replica = replica;
        }
    }

    /// Somebody has put another disk there: its contents are of this lineage and generation.
    pub(super) fn exchange(&mut self, slot: Slot, lineage: &str, generation: u64) {
        let (lineage, generation) = (Lineage::from(lineage), Generation(generation));
        let (uid, zone, replica) = (self.uid(), Zone::from("a"), ReplicaId(slot.0 + 1));
        let mut other = Volume { uid, zone, replica, generation, lineage, deleting: false };
        if let Some((volume, _)) = self.volumes.get(&slot) {
            other.zone = volume.zone.clone();
        }
        self.kill(slot);
        self.pods.remove(&slot);
        self.marked.remove(&slot);
        self.volumes.insert(slot, (other, true));
    }

    pub(super) fn volume(&self, slot: Slot) -> Option<&Volume> {
        self.volumes.get(&slot).map(|(volume, _)| volume)
    }

    /// Somebody has added the member by hand and called its zone so.
    pub(super) fn rezone(&mut self, replica: ReplicaId, zone: Zone) {
        self.agreed.voters.iter_mut().filter(|m| m.id == replica).for_each(|m| m.zone = zone.clone());
        self.agreed.epoch += 1;
    }

    pub(super) fn power(&mut self, node: &str, up: bool) {
        let name = NodeName::from(node);
        if let Some(node) = self.nodes.get_mut(&name) {
            node.up = up;
        }
        if !up {
            self.procs.retain(|p| p.node != name);
        }
    }

    pub(super) fn cut(&mut self, node: &str, cut: bool) {
        if let Some(node) = self.nodes.get_mut(&NodeName::from(node)) {
            node.cut = cut;
        }
    }

    pub(super) fn remove_node(&mut self, node: &str) {
        self.power(node, false);
        self.nodes.remove(&NodeName::from(node));
    }

    pub(super) fn trouble(&mut self, slot: Slot, trouble: Option<Trouble>) {
        if let Some((pod, ..)) = self.pods.get_mut(&slot) {
            pod.trouble = trouble;
        }
        if trouble.is_some() {
            self.kill(slot);
        }
    }

    // Time.

    /// Lets seconds pass.
    pub(super) fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            let now = self.now;
            self.nodes.values_mut().filter(|n| n.up && !n.cut).for_each(|n| n.heard = now);
            self.kubelets();
            self.protocol();
            self.check();
            if self.now % 20 == 0 && self.serving() && !self.shipless {
                self.stored_at = self.now;
            }
        }
    }

    fn kubelets(&mut self) {
        let slots: Vec<Slot> = self.pods.keys().copied().collect();
        for slot in slots {
            let Some((mut pod, start, told)) = self.pods.get(&slot).cloned() else { continue };
            if pod.node.is_none() && !pod.deleting {
                let held = |name: &NodeName| self.pods.values().any(|(p, ..)| p.node.as_ref() == Some(name));
                let fits =
                    |n: &SimNode| n.up && !n.cut && n.zone == pod.zone && !n.draining && !n.out_of_service;
                pod.node =
                    self.nodes.iter().find(|(name, n)| fits(n) && !held(name)).map(|(name, _)| name.clone());
                pod.process = if pod.node.is_some() { Process::MayRun } else { Process::Unplaced };
                pod.trouble = pod.node.is_none().then_some(Trouble::Unschedulable);
            }
            let reached = pod.node.as_ref().is_some_and(|n| self.reached(n));
            let runs = self.procs.iter().any(|p| p.pod == pod.uid);
            if reached && pod.deleting {
                self.mark(&pod.uid);
                self.procs.retain(|p| p.pod != pod.uid);
                pod.process = Process::Over;
            } else if reached && !runs && pod.process == Process::MayRun {
                match pod.trouble {
                    Some(Trouble::Image | Trouble::Configuration | Trouble::OutOfMemory) => {}
                    _ => self.start(&mut pod, slot, &start),
                }
            }
            self.pods.insert(slot, (pod, start, told));
        }
        let held: BTreeSet<Slot> = self.pods.keys().copied().collect();
        self.volumes.retain(|slot, (volume, _)| !volume.deleting || held.contains(slot));
        self.marked.retain(|slot| self.volumes.contains_key(slot));
    }

    /// A process that is told to end leaves what it has, if it has it and its disks outlive it.
    fn mark(&mut self, pod: &Uid) {
        let leaves = self.procs.iter().find(|p| p.pod == *pod && p.memory);
        if let Some(slot) = leaves.map(|p| p.slot).filter(|slot| self.volumes.contains_key(slot)) {
            self.marked.insert(slot);
        }
    }

    /// What `vr-replica` does with its disks when it starts.
    fn start(&mut self, pod: &mut Pod, slot: Slot, start: &Start) {
        let without = self.wanted.volumes.is_none();
        let vote = self.volumes.get(&slot).is_some_and(|(_, vote)| *vote);
        // Without volumes the vote record lives as long as the pod.
        let vote = vote || (without && self.begun.contains(&(pod.generation, pod.replica)));
        let past = pod.generation < self.generation || self.head.is_some_and(|head| pod.generation < head);
        let left = self.agreed.epoch > 0
            && pod.generation == self.generation
            && self.agreed.voters.iter().chain(&self.agreed.learners).all(|m| m.id != pod.replica);
        if left || past {
            pod.trouble = Some(Trouble::CrashLoop);
            return;
        }
        let memory = match start {
            Start::Bootstrap(_) | Start::Restore(_) if !vote => {
                assert!(
                    self.begun.insert((pod.generation, pod.replica)),
                    "replica {} begins a second time",
                    pod.replica
                );
                true
            }
            Start::Join if !vote => {
                assert!(
                    !self.voted.contains(&(pod.generation, pod.replica)),
                    "voter {} joins with nothing",
                    pod.replica
                );
                false
            }
            Start::Resume(_) if !vote => {
                pod.trouble = Some(Trouble::NoVoteRecord);
                return;
            }
            _ => self.marked.contains(&slot),
        };
        self.marked.remove(&slot);
        if let Some((_, vote)) = self.volumes.get_mut(&slot) {
            *vote = *vote || !matches!(start, Start::Join);
        }
        pod.trouble = None;
        self.serial += 1;
        let node = pod.node.clone().expect("it was reached");
        self.procs.push(Proc {
            generation: pod.generation,
            pod: pod.uid.clone(),
            slot,
            id: pod.replica,
            node,
            memory,
            normal_since: None,
            incarnation: self.serial,
        });
    }

    fn protocol(&mut self) {
        self.form();
        let majority = self.agreed.voters.len() / 2 + 1;
        let live = self.live(&self.agreed.voters);
        if self.agreed.voters.is_empty() {
            return;
        }
        let leads = self.agreed.led.filter(|id| self.remembers(*id) && self.voters().contains(id));
        self.agreed.primary = if live >= majority {
            leads.or_else(|| self.agreed.voters.iter().map(|m| m.id).find(|id| self.remembers(*id)))
        } else {
            leads
        };
        self.agreed.led = self.agreed.primary.or(self.agreed.led);
        let (now, leads) = (self.now, self.agreed.primary);
        let nodes = self.nodes.clone();
        let generation = self.generation;
        for process in self.procs.iter_mut().filter(|p| p.generation == generation) {
            let reached = nodes.get(&process.node).is_some_and(|n| n.up && !n.cut);
            // Whoever has lost its memory gets it from a primary.
            process.memory |= reached && leads.is_some();
            let normal = process.memory && reached && leads.is_some();
            process.normal_since = normal.then(|| process.normal_since.unwrap_or(now));
        }
        if live >= majority {
            self.agreed.commit += 1;
        }
        // Whoever has left ends by itself.
        let stay: BTreeSet<ReplicaId> =
            self.agreed.voters.iter().chain(&self.agreed.learners).map(|m| m.id).collect();
        if self.serving() {
            self.procs.retain(|p| p.generation > generation || stay.contains(&p.id));
        }
        // Whoever learns that its lineage goes on elsewhere has ended as well.
        let head = self.head.unwrap_or_default();
        self.procs.retain(|p| p.generation >= head || !nodes.get(&p.node).is_some_and(|n| n.up && !n.cut));
    }

    /// A generation begins when a majority of those who are told to be its members runs. All are told the same.
    fn form(&mut self) {
        let begins = |start: &Start| matches!(start, Start::Bootstrap(_) | Start::Restore(_));
        let newest =
            self.pods.values().filter(|(_, start, _)| begins(start)).max_by_key(|(p, ..)| p.generation);
        let Some((pod, _, members)) = newest.cloned() else { return };
        let formed = self.generation == pod.generation && !self.agreed.voters.is_empty();
        if formed || pod.generation < self.generation {
            return;
        }
        for (other, start, told) in self.pods.values() {
            let same = !begins(start) || other.generation != pod.generation || *told == members;
            assert!(same, "two replicas of one beginning are told of different members");
        }
        let runs = |id: ReplicaId| {
            let present = |p: &&Proc| p.generation == pod.generation && p.id == id && p.memory;
            self.procs.iter().find(present).is_some_and(|p| self.reached(&p.node))
        };
        if members.iter().filter(|m| runs(m.id)).count() > members.len() / 2 {
            self.generation = pod.generation;
            self.voted.extend(members.iter().map(|m| (pod.generation, m.id)));
            let highest = members.iter().map(|m| m.id.0).max().unwrap_or_default();
            self.agreed =
                Agreed { voters: members, highest, commit: self.agreed.commit, ..Agreed::default() };
            self.head = Some(self.generation);
        }
    }

    fn check(&self) {
        let mut ids: Vec<_> = self.procs.iter().map(|p| (p.generation, p.id)).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "two processes under one id\n{}", self.log.join("\n"));
    }

    // What the operator does.

    fn look(&mut self) -> Snapshot {
        let now = Moment(self.now);
        let sees = |source: Source| !self.blind.contains(&source);
        let mut seen = self.seen.clone();
        if sees(Source::Pods) {
            seen.pods = Known::At(now, self.pods.iter().map(|(s, (p, ..))| (*s, p.clone())).collect());
            seen.ordered = Known::At(now, self.ordered.clone());
            seen.origin = Known::At(now, self.origin.clone());
        }
        if sees(Source::Volumes) {
            seen.volumes = Known::At(now, self.volumes.iter().map(|(s, (v, _))| (*s, v.clone())).collect());
        }
        if sees(Source::Nodes) {
            let node = |n: &SimNode| Node {
                zone: n.zone.clone(),
                silent_since: (self.now - n.heard > GRACE).then_some(Moment(n.heard)),
                out_of_service: n.out_of_service,
                draining: n.draining,
            };
            seen.nodes = Known::At(now, self.nodes.iter().map(|(name, n)| (name.clone(), node(n))).collect());
        }
        if sees(Source::Store) {
            let store = self
                .store
                .clone()
                .map_or(Store::Empty, |lineage| Store::Mine { lineage, generation: self.head });
            seen.acknowledged = Known::At(now, self.acknowledged.clone());
            seen.store = Known::At(now, store);
            seen.inventory = Known::At(now, self.found.clone());
        }
        for (slot, (pod, ..)) in &self.pods {
            let said = self
                .procs
                .iter()
                .find(|p| p.pod == pod.uid && self.reached(&p.node))
                .filter(|_| sees(Source::Replicas))
                .map(|p| self.says(p));
            let contact = seen.contacts.entry(*slot).or_default();
            match said {
                Some(said) => *contact = Contact { silent_since: None, said: Some(said) },
                None => contact.silent_since = contact.silent_since.or(Some(now)),
            }
        }
        if sees(Source::Pods) {
            seen.contacts.retain(|slot, _| self.pods.contains_key(slot));
        }
        self.serial += 1;
        let serial = self.serial;
        seen.fresh =
            Fresh { lineage: Lineage(format!("lineage-{serial}")), nonce: format!("nonce-{serial}") };
        self.seen = seen.clone();
        seen
    }

    fn says(&self, process: &Proc) -> Said {
        let agreed = &self.agreed;
        let amnesiac = !process.memory;
        let lost = amnesiac && agreed.primary.is_none() && !agreed.voters.is_empty();
        let begins = agreed.voters.is_empty() || process.generation != self.generation;
        let (state, name) = match () {
            () if begins => (State::Busy, "ViewChange"),
            () if process.normal_since.is_some() => (State::Normal, "Normal"),
            () if lost && self.live(&agreed.voters) == 0 => (State::QuorumLost, "QuorumLost"),
            () if amnesiac && agreed.voters.iter().any(|m| m.id == process.id) => {
                (State::Amnesiac, "Recovering")
            }
            () => (State::Busy, "Joining"),
        };
        Said {
            at: Moment(self.now),
            normal_since: process.normal_since.map(Moment),
            replica: self.liars.get(&process.id).copied().unwrap_or(process.id),
            lineage: self.store.clone().unwrap_or_default(),
            generation: process.generation,
            incarnation: process.incarnation,
            state,
            state_name: name.to_owned(),
            primary: agreed.primary,
            view: agreed.epoch,
            op: Op(if process.memory { agreed.commit } else { 0 }),
            commit: Op(agreed.commit),
            stored: Op(agreed.commit),
            stored_at: Some(Moment(self.stored_at)),
            tiers: self
                .on_volume
                .get(&process.slot)
                .map(|op| Tier {
                    name: "volume".to_owned(),
                    reaches: Op(*op),
                    lag: Seconds(0),
                    holds: true,
                    error: None,
                })
                .into_iter()
                .collect(),
            shipper: agreed.primary,
            configuration: if begins { Configuration::default() } else { self.configuration() },
            highest_id: ReplicaId(agreed.highest),
        }
    }

    fn configuration(&self) -> Configuration {
        Configuration {
            id: ConfigurationId(format!("epoch-{}-{}", self.generation, self.agreed.epoch)),
            epoch: Epoch(self.agreed.epoch),
            voters: self.agreed.voters.clone(),
            learners: self.agreed.learners.clone(),
        }
    }

    /// One turn of the loop; whether there was something to do or to say.
    pub(super) fn turn(&mut self) -> bool {
        if self.gone {
            return false;
        }
        let seen = self.look();
        let plan = plan(&self.wanted, &self.status, &seen, Moment(self.now));
        if let Some(step) = &plan.step {
            assert!(!self.wanted.paused, "{step} while paused");
            let begun = |s: &VRClusterStatus| {
                let operation = s.operation.as_ref();
                (s.lineage.clone(), operation.map(|o| (o.kind.clone(), o.step.clone(), o.replica)))
            };
            assert_eq!(begun(&self.status), begun(&plan.status), "{step} before it is on record why");
            self.log.push(format!("+{} {step}", self.now - 1000));
            if self.death() {
                return true;
            }
            if step.destructive() {
                self.taken.push(step.to_string());
            }
            self.carry_out(step.clone());
        }
        let said = plan.status != self.status;
        if said && self.death() {
            return true;
        }
        self.status = plan.status;
        self.check();
        said || plan.step.is_some()
    }

    /// Whether the operator dies before its next write; another one begins where the status stands.
    fn death(&mut self) -> bool {
        self.writes += 1;
        self.dies = self.dies.and_then(|left| left.checked_sub(1));
        self.dies == Some(0)
    }

    /// Turns at every interval while time passes.
    pub(super) fn run(&mut self, seconds: i64) {
        let end = self.now + seconds;
        while self.now < end {
            for _ in 0..40 {
                if !self.turn() {
                    break;
                }
            }
            self.pass(INTERVAL.0.min(end - self.now));
        }
    }

    /// Does what a step says, as the API and the replicas would: with its precondition, or not at all.
    fn carry_out(&mut self, step: Step) {
        let served = self.serving();
        let disruptive = step.disruptive();
        let words = step.to_string();
        match step {
            Step::Claim(lineage) => {
                if self.store.is_none() {
                    self.store = Some(lineage);
                }
            }
            Step::MakeVolume { slot, zone, replica, generation, lineage } => {
                let uid = self.uid();
                let volume = Volume { uid, zone, replica, generation, lineage, deleting: false };
                self.volumes.entry(slot).or_insert((volume, false));
            }
            Step::Copy(_) => self.origin = Origin::Awaited("it is copied".to_owned()),
            Step::LetGo => self.gone = true,
            Step::Fence { generation, .. } => {
                if self.head.is_none_or(|head| head < generation) {
                    self.head = Some(generation);
                }
            }
            Step::Save { slot, replica } => {
                let present = |p: &&Proc| p.slot == slot && p.id == replica && self.reached(&p.node);
                let has = self.procs.iter().find(present).map(|p| match p.memory {
                    true => self.agreed.commit,
                    false => self.on_volume.get(&slot).copied().unwrap_or_default(),
                });
                if let Some(op) = has.filter(|_| self.saves) {
                    self.found.insert(
                        0,
                        Find {
                            source: format!(
                                "object store: checkpoint {op} of generation {}",
                                self.generation
                            ),
                            op: Op(op),
                            time: Some(Moment(self.now)),
                            flaw: None,
                        },
                    );
                }
            }
            Step::AssignVolume { slot, uid, replica, generation } => {
                if let Some((volume, vote)) = self.volumes.get_mut(&slot).filter(|(v, _)| v.uid == uid) {
                    (volume.replica, volume.generation) = (replica, generation);
                    // The record that is there is of an older generation.
                    *vote = false;
                    self.marked.remove(&slot);
                }
            }
            Step::MakePod { member, generation, members, start } => {
                let pod = Pod {
                    uid: self.uid(),
                    replica: member.id,
                    generation,
                    template: self.wanted.template.clone(),
                    zone: member.zone,
                    node: None,
                    process: Process::Unplaced,
                    deleting: false,
                    created: Moment(self.now),
                    trouble: None,
                };
                self.pods.entry(member.slot).or_insert((pod, start, members));
            }
            Step::Release { slot, uid } => {
                if self.pods.get(&slot).is_some_and(|(p, ..)| p.uid == uid) {
                    self.pods.remove(&slot);
                }
            }
            Step::DeletePod { slot, uid, .. } => {
                if let Some((pod, ..)) = self.pods.get_mut(&slot).filter(|(p, ..)| p.uid == uid) {
                    pod.deleting = true;
                    let ends = uid;
                    self.mark(&ends);
                    self.procs.retain(|p| p.pod != ends);
                }
            }
            Step::DeleteVolume { slot, uid } => {
                let held = self.pods.contains_key(&slot);
                if self.volumes.get(&slot).is_some_and(|(v, _)| v.uid == uid) && !held {
                    self.volumes.remove(&slot);
                }
            }
            Step::Reconfigure { replaces, change } => {
                if self.serving() && replaces == self.configuration().id {
                    self.reconfigure(change);
                }
            }
            Step::HandOff { to } => {
                if self.serving() && self.remembers(to) {
                    (self.agreed.primary, self.agreed.led) = (Some(to), Some(to));
                }
            }
        }
        let single = self.wanted.replicas == 1;
        // Who cannot hear the replicas rests on what was said a second ago.
        if disruptive && served && !single && !self.blind.contains(&Source::Replicas) {
            let live = self.live(&self.agreed.voters);
            let quorum = self.agreed.voters.len() / 2 + 1;
            assert!(live >= quorum, "`{words}` leaves {live} of {}\n{}", 2 * quorum - 1, self.log.join("\n"));
        }
    }

    fn reconfigure(&mut self, change: Change) {
        let agreed = &mut self.agreed;
        match change {
            Change::Learn(member, _) => {
                assert!(member.id.0 > agreed.highest, "id {} is used again", member.id);
                let all = agreed.voters.iter().chain(&agreed.learners);
                assert!(all.clone().all(|m| m.slot != member.slot), "slot {} is taken", member.slot);
                agreed.highest = member.id.0;
                agreed.learners.push(member);
            }
            Change::Promote(id, instead_of) => {
                let present = |p: &Proc| p.generation == self.generation && p.id == id;
                let holds = self.procs.iter().any(|p| present(p) && p.memory);
                let Some(at) = agreed.learners.iter().position(|m| m.id == id).filter(|_| holds) else {
                    return;
                };
                let learner = agreed.learners.remove(at);
                match instead_of.and_then(|old| agreed.voters.iter().position(|m| m.id == old)) {
                    Some(old) => agreed.voters[old] = learner,
                    None => agreed.voters.push(learner),
                }
                self.voted.insert((self.generation, id));
                if let Some((_, vote)) = self
                    .volumes
                    .values_mut()
                    .find(|(v, _)| v.replica == id && v.generation == self.generation)
                {
                    *vote = true;
                }
            }
            Change::Remove(id) => {
                agreed.voters.retain(|m| m.id != id);
                agreed.learners.retain(|m| m.id != id);
            }
        }
        self.agreed.epoch += 1;
        self.protocol();
    }
}
