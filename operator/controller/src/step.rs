//! What is to be done next: one write, which names what it was decided about, so that it fails when that has changed.

use crate::evidence::{Ended, Unused};
use crate::ids::*;
use crate::snapshot::Member;
use std::fmt;

/// How a replica starts, with the proof that it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The lineage begins.
    Bootstrap(Unused),
    /// It is added to a running cluster, or goes on with that.
    Join,
    /// Its last process has ended.
    Resume(Ended),
    /// A generation begins with what was restored.
    Restore(Unused),
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new replica gets everything and counts nowhere; it was never started.
    Learn(Member, Unused),
    /// A learner votes, in the place of a voter if one is named.
    Promote(ReplicaId, Option<ReplicaId>),
    /// A member leaves.
    Remove(ReplicaId),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Claims the prefix in the object store for the lineage, unless there is something.
    Claim(Lineage),
    /// Has the state that `spec.bootstrap` names copied below the prefix.
    Copy(Lineage),
    /// Lets HEAD in the object store say that this generation is the newest, if it says the one before: whoever still
    /// runs of that one stops for good.
    Fence {
        /// Of which lineage.
        lineage: Lineage,
        /// The new one.
        generation: Generation,
    },
    /// Has what a replica has by itself, in memory or on its disks, brought to the object store.
    Save {
        /// Its slot.
        slot: Slot,
        /// Who.
        replica: ReplicaId,
    },
    /// Writes onto a volume of an older generation whose it is in the new one; its contents stay.
    AssignVolume {
        /// Its slot.
        slot: Slot,
        /// This one and no other.
        uid: Uid,
        /// For whom.
        replica: ReplicaId,
        /// In which generation.
        generation: Generation,
    },
    /// Makes a volume for a replica, unless the slot has one.
    MakeVolume {
        /// Its slot.
        slot: Slot,
        /// Where.
        zone: Zone,
        /// For whom.
        replica: ReplicaId,
        /// In which generation.
        generation: Generation,
        /// Of which lineage.
        lineage: Lineage,
    },
    /// Makes a pod, unless the slot has one.
    MakePod {
        /// Who.
        member: Member,
        /// In which generation.
        generation: Generation,
        /// Whom it is told of: all that the lineage begins with, or the voters now.
        members: Vec<Member>,
        /// How.
        start: Start,
    },
    /// Lets a pod go whose process has ended or counts for nothing any more.
    Release {
        /// Its slot.
        slot: Slot,
        /// This one and no other.
        uid: Uid,
    },
    /// Asks the kubelet to end a pod; its object stays until that has happened.
    DeletePod {
        /// Its slot.
        slot: Slot,
        /// This one and no other.
        uid: Uid,
        /// Whether a replica that takes part is ended by it.
        live: bool,
    },
    /// Deletes a volume.
    DeleteVolume {
        /// Its slot.
        slot: Slot,
        /// This one and no other.
        uid: Uid,
    },
    /// Lets the resource go that is being deleted: nothing of it is left to be looked after.
    LetGo,
    /// Changes the members, if these are still the members.
    Reconfigure {
        /// What is replaced.
        replaces: ConfigurationId,
        /// By what.
        change: Change,
    },
    /// Lets another voter lead.
    HandOff {
        /// Who.
        to: ReplicaId,
    },
}

impl Step {
    /// Whether clients, or how many failures the cluster survives, may notice. Of these there is never more than one at
    /// a time.
    #[must_use]
    pub fn disruptive(&self) -> bool {
        match self {
            Step::Claim(_)
            | Step::Copy(_)
            | Step::LetGo
            | Step::Fence { .. }
            | Step::Save { .. }
            | Step::AssignVolume { .. }
            | Step::MakeVolume { .. }
            | Step::MakePod { .. }
            | Step::Release { .. } => false,
            Step::DeletePod { live, .. } => *live,
            Step::DeleteVolume { .. } | Step::HandOff { .. } => true,
            Step::Reconfigure { change, .. } => !matches!(change, Change::Learn(..)),
        }
    }

    /// Whether something is gone afterwards that was there. What is released has ended before.
    #[must_use]
    pub fn destructive(&self) -> bool {
        match self {
            Step::DeletePod { .. } | Step::DeleteVolume { .. } | Step::Fence { .. } | Step::LetGo => true,
            Step::Reconfigure { change, .. } => {
                matches!(change, Change::Remove(_) | Change::Promote(_, Some(_)))
            }
            Step::Claim(_)
            | Step::Copy(_)
            | Step::Save { .. }
            | Step::AssignVolume { .. }
            | Step::MakeVolume { .. }
            | Step::MakePod { .. }
            | Step::Release { .. }
            | Step::HandOff { .. } => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Claim(lineage) => write!(f, "claim the prefix for lineage {lineage}"),
            Step::Copy(lineage) => {
                write!(f, "copy what spec.bootstrap names below the prefix, as lineage {lineage}")
            }
            Step::Fence { generation, .. } => write!(f, "fence: generation {generation} begins"),
            Step::Save { replica, .. } => {
                write!(f, "bring what replica {replica} has to the object store")
            }
            Step::AssignVolume { slot, replica, generation, .. } => {
                write!(f, "assign volume {slot} to replica {replica} of generation {generation}")
            }
            Step::MakeVolume { slot, zone, replica, .. } => {
                write!(f, "make volume {slot} in zone {zone} for replica {replica}")
            }
            Step::MakePod { member, start, .. } => {
                let start = match start {
                    Start::Bootstrap(_) => "bootstrap",
                    Start::Join => "join",
                    Start::Resume(_) => "resume",
                    Start::Restore(_) => "restore",
                };
                write!(f, "make pod {} in zone {}: replica {}, {start}", member.slot, member.zone, member.id)
            }
            Step::LetGo => f.write_str("let the resource go"),
            Step::Release { slot, .. } => write!(f, "release pod {slot}"),
            Step::DeletePod { slot, .. } => write!(f, "delete pod {slot}"),
            Step::DeleteVolume { slot, .. } => write!(f, "delete volume {slot}"),
            Step::Reconfigure { change: Change::Learn(member, _), .. } => {
                write!(f, "add replica {} in slot {} as a learner", member.id, member.slot)
            }
            Step::Reconfigure { change: Change::Promote(id, None), .. } => write!(f, "promote replica {id}"),
            Step::Reconfigure { change: Change::Promote(id, Some(old)), .. } => {
                write!(f, "promote replica {id} in the place of {old}")
            }
            Step::Reconfigure { change: Change::Remove(id), .. } => write!(f, "remove replica {id}"),
            Step::HandOff { to } => write!(f, "hand the primary to replica {to}"),
        }
    }
}
