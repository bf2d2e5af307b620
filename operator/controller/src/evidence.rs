//! What follows from a snapshot, and what does not: who the members are, how each of them stands, whether they can
//! commit.
//!
//! The rule that everything here keeps: **not knowing proves nothing**. A replica that is silent is
//! [`Standing::Silent`], whatever else looks bad; that a process has ended, or that a vote record is gone, is said by
//! the one who knows it (the kubelet, the process itself), freshly, or not at all. What needs such proof takes it as
//! a value that only this module makes: [`Ended`], [`Unused`].

use crate::ids::*;
use crate::snapshot::*;
use crate::wanted::Wanted;
use std::collections::BTreeMap;
use vr_api::{Operation, VRClusterStatus};

/// How the step of an operation begins in which pods are made; their number follows.
pub(crate) const FORMING: &str = "Pods of ";
/// The step of a bootstrap in which what a lineage begins with is copied below the prefix.
pub(crate) const COPYING: &str = "Copying";

/// Proof that the last process of a replica has ended and that its vote record is still there: it may start again under
/// its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended(());

/// Proof that a replica has never been started: its volume was made for it and no process has run on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused(());

/// How a member stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing<'a> {
    /// It takes part.
    Serving(&'a Said),
    /// It has its memory and does not take part at the moment.
    Busy(&'a Said),
    /// It has lost its memory and asks for it, or has concluded that nobody can give it.
    Amnesiac(&'a Said),
    /// It has stopped for good.
    Halted(&'a Said),
    /// It has a pod, or may have one, and nothing is heard. Whether it runs is not known.
    Silent(Silence),
    /// Nothing runs, and it may be started again.
    Idle(Ended),
    /// Its vote record is gone for good: it can never take part again (R6).
    Gone,
}

/// What is known of a member that is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since when; absent if that is not known.
    pub since: Option<Moment>,
    /// What its pod says of itself.
    pub trouble: Option<Trouble>,
    /// Its node does not exist any more, or somebody says that it is off for good.
    pub node_gone: bool,
}

impl Standing<'_> {
    /// Whether it says that it has its memory.
    fn remembers(&self) -> bool {
        matches!(self, Standing::Serving(_) | Standing::Busy(_) | Standing::Halted(_))
    }
}

/// Who the members are.
#[derive(Clone, Debug, PartialEq)]
pub enum Members {
    /// Nobody knows of any.
    None,
    /// As the last status, or the volumes, have them: good for starting what is known, for nothing else.
    Remembered(Configuration),
    /// As members say now.
    Heard(Configuration),
}

/// One look at the world, with what is wanted and what was said last.
pub struct Look<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// What was said last.
    pub before: &'a VRClusterStatus,
    /// What was seen.
    pub seen: &'a Snapshot,
    /// When.
    pub now: Moment,
    /// How old an answer of a replica may be.
    pub limit: Seconds,
    /// The lineage, if one has begun or is about to.
    pub lineage: Option<Lineage>,
    /// Its generation.
    pub generation: Generation,
    /// Who the members are.
    pub members: Members,
}

impl<'a> Look<'a> {
    /// Looks.
    #[must_use]
    pub fn new(
        wanted: &'a Wanted,
        before: &'a VRClusterStatus,
        seen: &'a Snapshot,
        now: Moment,
        limit: Seconds,
    ) -> Look<'a> {
        let mut look = Look {
            wanted,
            before,
            seen,
            now,
            limit,
            lineage: None,
            generation: Generation(1),
            members: Members::None,
        };
        if let Some(known) = &before.lineage {
            look.lineage = Some(Lineage(known.id.clone()));
            look.generation = Generation(u64::try_from(known.generation).unwrap_or(1));
        } else if let Some(volume) = look.remembering() {
            // The status was lost; the volumes have not forgotten.
            look.lineage = Some(volume.lineage.clone());
            look.generation = volume.generation;
        } else if let Some(Store::Mine { lineage, generation }) = look.store() {
            look.lineage = Some(lineage.clone());
            look.generation = generation.unwrap_or(Generation(1));
        }
        look.members = look.who();
        look
    }

    /// The volume that says most of a lineage that has begun, where the status says nothing. What the object store holds is
    /// this cluster's, and a volume of another lineage is somebody else's.
    fn remembering(&self) -> Option<&'a Volume> {
        let theirs = |volume: &&Volume| match self.store() {
            Some(Store::Mine { lineage, .. }) => volume.lineage == *lineage,
            Some(Store::Empty) => false,
            Some(Store::Unusable(_)) | None => true,
        };
        self.volumes()?.values().filter(theirs).max_by_key(|volume| volume.generation)
    }

    /// The pods, if they were seen lately.
    #[must_use]
    pub fn pods(&self) -> Option<&'a BTreeMap<Slot, Pod>> {
        self.seen.pods.fresh(self.now, FRESH)
    }

    /// The volumes, if they were seen lately.
    #[must_use]
    pub fn volumes(&self) -> Option<&'a BTreeMap<Slot, Volume>> {
        self.seen.volumes.fresh(self.now, FRESH)
    }

    /// The nodes, if they were seen lately.
    #[must_use]
    pub fn nodes(&self) -> Option<&'a BTreeMap<NodeName, Node>> {
        self.seen.nodes.fresh(self.now, FRESH)
    }

    /// The object store, if it was seen lately.
    #[must_use]
    pub fn store(&self) -> Option<&'a Store> {
        self.seen.store.fresh(self.now, FRESH_STORE)
    }

    /// What the slot's replica says now; nothing from a process that is not the one that belongs there.
    #[must_use]
    pub fn said(&self, slot: Slot, id: ReplicaId) -> Option<&'a Said> {
        let said = self.seen.contacts.get(&slot)?.said.as_ref()?;
        let ours = said.replica == id
            && said.generation == self.generation
            && self.lineage.as_ref().is_none_or(|lineage| *lineage == said.lineage);
        (ours && self.now.since(said.at) <= self.limit).then_some(said)
    }

    fn who(&self) -> Members {
        // Whoever is in the newest configuration, and of those the one that has executed most. Each speaks of itself
        // in the slot that was asked, so that nobody speaks for another.
        let heard = self.seen.contacts.iter().filter_map(|(slot, contact)| {
            let said = contact.said.as_ref()?;
            let listed = said.configuration.members().any(|m| m.id == said.replica && m.slot == *slot);
            (listed && self.said(*slot, said.replica).is_some()).then_some(said)
        });
        let known = Epoch(u64::try_from(self.before.epoch.unwrap_or_default()).unwrap_or_default());
        let newest = heard.max_by_key(|said| (said.configuration.epoch, said.commit));
        // Whoever has left speaks of the past.
        if let Some(newest) = newest.filter(|said| said.configuration.epoch >= known) {
            return Members::Heard(newest.configuration.clone());
        }
        let mut remembered = Configuration { epoch: known, ..Configuration::default() };
        for status in &self.before.replica_statuses {
            let (Ok(id), Some(slot)) = (u64::try_from(status.id), self.slot(&status.slot)) else { continue };
            let zone = Zone(status.zone.clone().unwrap_or_default());
            let member = Member { id: ReplicaId(id), slot, zone };
            if status.voter { &mut remembered.voters } else { &mut remembered.learners }.push(member);
        }
        if remembered.voters.is_empty() {
            let known = self.volumes().into_iter().flatten().filter(|(_, v)| self.ours(v));
            remembered.voters =
                known.map(|(slot, v)| Member { id: v.replica, slot: *slot, zone: v.zone.clone() }).collect();
        }
        if remembered.voters.is_empty() { Members::None } else { Members::Remembered(remembered) }
    }

    /// Whether a volume belongs to this generation of this lineage.
    #[must_use]
    pub fn ours(&self, volume: &Volume) -> bool {
        volume.generation == self.generation && self.lineage.as_ref() == Some(&volume.lineage)
    }

    /// The name of a slot's pod and volume.
    #[must_use]
    pub fn pod_name(&self, slot: Slot) -> String {
        format!("{}-{slot}", self.wanted.name)
    }

    fn slot(&self, pod_name: &str) -> Option<Slot> {
        pod_name.strip_prefix(&self.wanted.name)?.strip_prefix('-')?.parse().ok().map(Slot)
    }

    /// The configuration to go by.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        match &self.members {
            Members::None => None,
            Members::Remembered(configuration) | Members::Heard(configuration) => Some(configuration),
        }
    }

    /// How a member stands.
    #[must_use]
    pub fn standing(&self, member: &Member) -> Standing<'a> {
        if let Some(said) = self.said(member.slot, member.id) {
            return match said.state {
                State::Normal => Standing::Serving(said),
                State::Busy => Standing::Busy(said),
                State::Amnesiac | State::QuorumLost => Standing::Amnesiac(said),
                State::Halted => Standing::Halted(said),
            };
        }
        let since = self.seen.contacts.get(&member.slot).and_then(|c| c.silent_since);
        let silent = |pod: Option<&Pod>| {
            Standing::Silent(Silence {
                since,
                trouble: pod.and_then(|p| p.trouble),
                node_gone: pod.is_some_and(|p| self.node_gone(p)),
            })
        };
        // The API says what exists; without it, nothing is known of what does not answer.
        let (Some(pods), Some(volumes)) = (self.pods(), self.volumes()) else { return silent(None) };
        // A volume that is being deleted is neither there nor gone.
        let leaving = volumes.get(&member.slot).is_some_and(|v| v.deleting);
        let pod = pods.get(&member.slot).filter(|p| p.generation == self.generation);
        match pod {
            Some(pod) if pod.replica == member.id => match (pod.process, pod.trouble) {
                (_, Some(Trouble::NoVoteRecord)) => Standing::Gone,
                // Its pod object stays until somebody has seen that the process has ended, and then goes.
                (Process::Over | Process::Unplaced, _) if !self.keeps_votes(volumes, member) => {
                    Standing::Gone
                }
                _ => silent(Some(pod)),
            },
            // Another replica has its slot already, or has yet to leave it.
            Some(_) => silent(None),
            None if leaving || pods.contains_key(&member.slot) => silent(None),
            // Pods go only when their process has ended (`Step::Release`): no pod, no process.
            None if self.keeps_votes(volumes, member) => Standing::Idle(Ended(())),
            // A learner has promised nothing: where there are no volumes it begins anew.
            None if self.wanted.volumes.is_none() && self.learns(member) => Standing::Idle(Ended(())),
            None => Standing::Gone,
        }
    }

    fn learns(&self, member: &Member) -> bool {
        self.configuration().is_some_and(|c| c.learners.iter().any(|m| m.id == member.id))
    }

    /// Whether the volume of a member's slot still holds its vote record, and stays.
    fn keeps_votes(&self, volumes: &BTreeMap<Slot, Volume>, member: &Member) -> bool {
        self.wanted.volumes.is_some()
            && volumes
                .get(&member.slot)
                .is_some_and(|v| v.replica == member.id && self.ours(v) && !v.deleting)
    }

    /// Proof that a volume's replica was never started. Its id was never given, so nobody can know it.
    #[must_use]
    pub fn unused(&self, id: ReplicaId, highest_given: ReplicaId) -> Option<Unused> {
        (id > highest_given).then_some(Unused(()))
    }

    /// The same for a member of a generation that begins: the operation on record says that its pod is the one that is
    /// being made, or its volume is still the first one, since none is made once pods are.
    #[must_use]
    pub fn beginning(&self, member: &Member) -> Option<Unused> {
        let begins = |o: &&Operation| {
            ["Bootstrap", "Recover"].contains(&o.kind.as_str()) && o.step.starts_with(FORMING)
        };
        let operation = self.before.operation.as_ref().filter(begins)?;
        let first = self.volumes().is_some_and(|volumes| self.keeps_votes(volumes, member));
        (first || operation.replica == Some(member.id.signed())).then_some(Unused(()))
    }

    /// That a lineage is in the object store and nothing of it is here: the resource was made again, here or in
    /// another place, after everything else was lost or deleted.
    fn elsewhere(&self) -> Option<String> {
        // What has begun here is on record, and nothing here is missing before that.
        let begun = self.before.lineage.is_some()
            && self.before.operation.as_ref().is_none_or(|o| o.kind != "Bootstrap");
        let nothing = self.pods()?.is_empty() && !self.volumes()?.values().any(|v| self.ours(v));
        match self.store()? {
            Store::Mine { lineage, generation: Some(_) }
                if begun && nothing && self.lineage.as_ref() == Some(lineage) =>
            {
                Some(format!("lineage {lineage} is in the object store and nothing of it is here"))
            }
            _ => None,
        }
    }

    /// Whether what a lineage begins with is about to come below the prefix: what is there is of no past of this cluster.
    #[must_use]
    pub fn copies(&self) -> bool {
        self.before.operation.as_ref().is_some_and(|o| o.kind == "Bootstrap" && o.step == COPYING)
    }

    /// Whether the node of a pod is known to be gone.
    #[must_use]
    pub fn node_gone(&self, pod: &Pod) -> bool {
        let (Some(nodes), Some(name)) = (self.nodes(), &pod.node) else { return false };
        nodes.get(name).is_none_or(|node| node.out_of_service)
    }

    /// The node of a member, if it is known and exists.
    #[must_use]
    pub fn node(&self, member: &Member) -> Option<&'a Node> {
        let pod = self.pods()?.get(&member.slot).filter(|p| p.replica == member.id)?;
        self.nodes()?.get(pod.node.as_ref()?)
    }

    /// Who leads, as the one who leads says.
    #[must_use]
    pub fn primary(&self) -> Option<(&Member, &'a Said)> {
        let Members::Heard(configuration) = &self.members else { return None };
        configuration.voters.iter().find_map(|member| match self.standing(member) {
            Standing::Serving(said)
                if said.primary == Some(member.id) && said.configuration.epoch == configuration.epoch =>
            {
                Some((member, said))
            }
            _ => None,
        })
    }

    /// Voters that take part now.
    #[must_use]
    pub fn serving(&self) -> Vec<&Member> {
        let voters = self.configuration().map(|c| c.voters.as_slice()).unwrap_or_default();
        voters.iter().filter(|m| matches!(self.standing(m), Standing::Serving(_))).collect()
    }

    /// How many more voters may be lost without an outage; negative if it is there. Those that are not heard count as
    /// lost.
    #[must_use]
    pub fn tolerance(&self) -> i64 {
        let Some(configuration) = self.configuration() else { return -1 };
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        count(self.serving().len()) - count(configuration.quorum())
    }

    /// The configuration, if its voters can commit a change of it now.
    #[must_use]
    pub fn committing(&self) -> Option<&Configuration> {
        let Members::Heard(configuration) = &self.members else { return None };
        (self.primary().is_some() && self.tolerance() >= 0).then_some(configuration)
    }

    /// Whether all voters that are heard go by the newest configuration: nobody needs those that left it any more
    /// (R18).
    #[must_use]
    pub fn everywhere(&self) -> bool {
        let Some(configuration) = self.committing() else { return false };
        configuration.voters.iter().all(|member| match self.standing(member) {
            Standing::Serving(said) | Standing::Busy(said) | Standing::Amnesiac(said) => {
                said.configuration.epoch == configuration.epoch
            }
            _ => true,
        })
    }

    /// Why a quorum has lost its memory for good, if that is proven. Who is silent may be the primary that gives it
    /// back (R2), so that nothing follows before all have been heard, or too few are left to ever agree on anything.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        let Some(configuration) = self.configuration() else { return self.elsewhere() };
        let standings: Vec<_> = configuration.voters.iter().map(|m| (m.id, self.standing(m))).collect();
        let gone: Vec<_> =
            standings.iter().filter(|(_, s)| *s == Standing::Gone).map(|(id, _)| id.to_string()).collect();
        let (voters, quorum) = (configuration.voters.len(), configuration.quorum());
        if voters - gone.len() < quorum {
            return Some(format!(
                "the vote records of replicas {} are gone, and without them the {} others are no quorum of {voters}",
                gone.join(", "),
                voters - gone.len()
            ));
        }
        let remember = standings.iter().filter(|(_, s)| s.remembers()).count();
        let unknown = standings.iter().any(|(_, s)| matches!(s, Standing::Silent(_) | Standing::Idle(_)));
        if remember < quorum && !unknown && self.primary().is_none() {
            let amnesiac: Vec<_> = standings
                .iter()
                .filter(|(_, s)| matches!(s, Standing::Amnesiac(_)))
                .map(|(id, _)| id.to_string())
                .collect();
            return Some(format!(
                "replicas {} have lost their memory{}, and no primary is left to give it back",
                amnesiac.join(", "),
                if gone.is_empty() {
                    String::new()
                } else {
                    format!(", those of {} are gone", gone.join(", "))
                }
            ));
        }
        None
    }
}
