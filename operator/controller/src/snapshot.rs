//! What was seen of the world, each part with the time at which it was seen.
//!
//! "It is not there" and "I could not look" are different values ([`Known`]), and an answer that is too old is none:
//! what cannot be undone follows from fresh knowledge alone. Nothing here looks anywhere.

use crate::ids::*;
use crate::rotation::Rotation;
use std::collections::{BTreeMap, BTreeSet};
use vr_api::DrillSummary;

/// How often the operator looks.
pub const INTERVAL: Seconds = Seconds(5);
/// What was seen longer ago says nothing any more: three times the interval.
pub const FRESH: Seconds = Seconds(15);
/// The same for the object store, which is asked more rarely.
pub const FRESH_STORE: Seconds = Seconds(90);
/// The same for replicas before a step that clients may notice: they are asked right before it.
pub const JUST_NOW: Seconds = Seconds(1);

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known<T> {
    /// It could not be asked.
    #[default]
    Unknown,
    /// It said this, then.
    At(Moment, T),
}

impl<T> Known<T> {
    /// What it said, unless that is too old.
    pub fn fresh(&self, now: Moment, limit: Seconds) -> Option<&T> {
        match self {
            Known::At(at, value) if now.since(*at) <= limit => Some(value),
            _ => None,
        }
    }
}

/// Everything that was seen of one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Its pods, by slot.
    pub pods: Known<BTreeMap<Slot, Pod>>,
    /// Its volume claims, by slot.
    pub volumes: Known<BTreeMap<Slot, Volume>>,
    /// All nodes.
    pub nodes: Known<BTreeMap<NodeName, Node>>,
    /// What the replicas said on their control ports, by the slot that was asked.
    pub contacts: BTreeMap<Slot, Contact>,
    /// What the object store holds below the cluster's prefix.
    pub store: Known<Store>,
    /// What there is to restore from, in all tiers and survivors, best first. Looked up while a loss is confirmed.
    pub inventory: Known<Vec<Find>>,
    /// The oldest state in the object store that a restore would reach; nothing if it holds none.
    pub oldest: Known<Option<Find>>,
    /// The certificates of the replicas.
    pub certificates: Known<Certificates>,
    /// How far a change of its authority is, if one is asked for or goes on.
    pub rotation: Option<Rotation>,
    /// The drills of it that have ended, of those that are still there.
    pub drilled: Known<Vec<DrillSummary>>,
    /// What people have acknowledged: the nonces of plans.
    pub acknowledged: Known<BTreeSet<String>>,
    /// A roll-back that somebody has ordered, once its target is found and held.
    pub ordered: Known<Option<Rollback>>,
    /// The state that `spec.bootstrap` asks to begin with. Looked at until something has begun.
    pub origin: Known<Origin>,
    /// Drawn anew for each look; used where something needs a name that nobody else has.
    pub fresh: Fresh,
}

/// Random values. The plan draws none of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fresh {
    /// A UUID for a lineage that is to begin.
    pub lineage: Lineage,
    /// A nonce for a recovery plan.
    pub nonce: String,
}

/// The certificates of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// The operator's own: the first of them is made anew then, and valid for half as long again.
    Renewed(Moment),
    /// From a Secret that people, or somebody for them, look after.
    Given {
        /// Its name.
        secret: String,
        /// When what is in it expires.
        expires: Moment,
    },
    /// By an issuer of cert-manager, which renews them.
    Issued {
        /// Which.
        issuer: String,
        /// When the first of them expires.
        expires: Moment,
    },
    /// They cannot be made or read.
    Failed(String),
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Which object.
    pub uid: Uid,
    /// Under which id its process runs.
    pub replica: ReplicaId,
    /// In which generation.
    pub generation: Generation,
    /// Made from this.
    pub template: Template,
    /// The zone that it was made for.
    pub zone: Zone,
    /// Where it was placed; nothing yet if absent.
    pub node: Option<NodeName>,
    /// What the kubelet says of the process.
    pub process: Process,
    /// It is being deleted.
    pub deleting: bool,
    /// Since when it exists.
    pub created: Moment,
    /// What keeps it from running, in the words of Kubernetes and of the process.
    pub trouble: Option<Trouble>,
}

/// What the kubelet says of a pod's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It was never placed on a node: there is none.
    Unplaced,
    /// It may run, or be about to be started again.
    MayRun,
    /// It has ended and will not be started again.
    Over,
}

/// Why a pod does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The image cannot be pulled.
    Image,
    /// The process refuses its configuration or certificates.
    Configuration,
    /// The kernel ended it for its memory.
    OutOfMemory,
    /// It ends again and again.
    CrashLoop,
    /// No node takes it.
    Unschedulable,
    /// It has found no vote record on its disks, and has ended as it must (R6).
    NoVoteRecord,
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Which object.
    pub uid: Uid,
    /// The zone that its slot is pinned to.
    pub zone: Zone,
    /// Whose vote record it holds, if the replica has begun.
    pub replica: ReplicaId,
    /// In which generation.
    pub generation: Generation,
    /// Of which lineage.
    pub lineage: Lineage,
    /// It is being deleted.
    pub deleting: bool,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its failure domain.
    pub zone: Zone,
    /// Since when its kubelet has not been heard; absent while it is.
    pub silent_since: Option<Moment>,
    /// Somebody says that it is off for good (`node.kubernetes.io/out-of-service`).
    pub out_of_service: bool,
    /// It takes no new pods, or bears one of the taints of `placement.drainTaints`.
    pub draining: bool,
}

/// The control port of one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contact {
    /// Since when it does not answer; absent while it does.
    pub silent_since: Option<Moment>,
    /// What it said last.
    pub said: Option<Said>,
}

/// What a replica said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// When.
    pub at: Moment,
    /// Since when it has been Normal at every look.
    pub normal_since: Option<Moment>,
    /// Who it is.
    pub replica: ReplicaId,
    /// Of which lineage.
    pub lineage: Lineage,
    /// In which generation.
    pub generation: Generation,
    /// Which start of its process.
    pub incarnation: u64,
    /// How it is.
    pub state: State,
    /// How it calls that itself.
    pub state_name: String,
    /// Who leads, as it knows.
    pub primary: Option<ReplicaId>,
    /// The ballot's view.
    pub view: u64,
    /// The newest entry it holds.
    pub op: Op,
    /// The newest entry it knows to be committed.
    pub commit: Op,
    /// The newest op that the object store holds as a checkpoint, as it knows.
    pub stored: Op,
    /// When a checkpoint in the object store last succeeded, as it knows.
    pub stored_at: Option<Moment>,
    /// Each of its tiers.
    pub tiers: Vec<Tier>,
    /// Who ships to the object store.
    pub shipper: Option<ReplicaId>,
    /// The members it goes by.
    pub configuration: Configuration,
    /// The highest id ever given.
    pub highest_id: ReplicaId,
}

/// What a replica says of one of its tiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// nvme, volume or objectStore.
    pub name: String,
    /// The newest op that a restore from there would reach.
    pub reaches: Op,
    /// By how much that is behind what is committed.
    pub lag: Seconds,
    /// It holds a checkpoint.
    pub holds: bool,
    /// Why the last run failed, if it did.
    pub error: Option<String>,
}

/// How a replica is, as far as decisions follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Normal and ready: it takes part.
    Normal,
    /// It has its memory and is between views or epochs, or catches up.
    Busy,
    /// It has lost its memory and asks for it.
    Amnesiac,
    /// It has concluded with all others that a quorum has lost its memory (R7).
    QuorumLost,
    /// It has stopped for good.
    Halted,
}

/// Who is a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// What a change names as replaced.
    pub id: ConfigurationId,
    /// Its number.
    pub epoch: Epoch,
    /// Voters, most preferred primary first.
    pub voters: Vec<Member>,
    /// Members that do not vote (yet).
    pub learners: Vec<Member>,
}

impl Configuration {
    /// Voters, then learners.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.learners)
    }

    /// A majority of the voters.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its id.
    pub id: ReplicaId,
    /// Its place; its peer address names it.
    pub slot: Slot,
    /// Its failure domain.
    pub zone: Zone,
}

/// What is below the cluster's prefix.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Nothing.
    Empty,
    /// One lineage, claimed by this resource or by nobody that still exists.
    Mine {
        /// Which.
        lineage: Lineage,
        /// The generation of its HEAD; none while it has not begun.
        generation: Option<Generation>,
    },
    /// It cannot be used: another cluster's, several lineages, or a store that does not honour conditions.
    Unusable(String),
}

/// Something to restore from.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// Where: a tier, a volume or a survivor's memory.
    pub source: String,
    /// The op it reaches.
    pub op: Op,
    /// The time of that op.
    pub time: Option<Moment>,
    /// Why it cannot be used, if so.
    pub flaw: Option<String>,
}

/// The name of a checkpoint as something to restore from.
pub(crate) fn source(place: &str, checkpoint: Op, generation: Generation) -> String {
    format!("{place}: checkpoint {checkpoint} of generation {generation}")
}

/// The state that a cluster is to begin with, on its way from another place into the prefix of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Nothing brings it along.
    Absent,
    /// It is about to come: what is awaited.
    Awaited(String),
    /// It is there, in this generation.
    There(Find, Generation),
    /// It cannot come: why, and what to do.
    Refused(String),
}

/// A roll-back that somebody has ordered.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The VRRestore.
    pub restore: String,
    /// The nonce of its plan, which nobody else has.
    pub nonce: String,
    /// The generation that it begins, and no other.
    pub generation: Generation,
    /// Where to.
    pub target: Find,
}
