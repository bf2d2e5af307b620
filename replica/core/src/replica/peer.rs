//! What a replica knows of another one. All of it is about one start of that peer and is forgotten with it.

use super::PeerStanding;
use super::survey::Answers;
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::select::Vote;

/// What a peer has said of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Memory {
    /// Nothing was heard of this start, or nothing that tells.
    Unknown,
    /// It takes part.
    Intact,
    /// It said that it lost it.
    Lost,
}

/// What a peer is in the epoch that this replica is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Role {
    /// It counts.
    Voter,
    /// It is sent everything and counts nowhere (R17).
    Learner,
    /// It was a member of the epoch before (R18).
    Former,
}

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Peer {
    pub(super) id: ReplicaId,
    pub(super) role: Role,
    /// The number of its failure domain; equal numbers fail together.
    pub(super) domain: u16,
    /// When it was last told of the newest epoch.
    pub(super) told_at: u64,
    pub(super) incarnation: Incarnation,
    pub(super) heard: Option<u64>,
    pub(super) memory: Memory,
    /// What it answered to `GetView`.
    pub(super) answers: Answers,
    /// The highest promise it has told of.
    pub(super) promised: Ballot,
    /// The newest epoch that it said it has the beginning of.
    pub(super) holds: Epoch,
    /// The ballot in which it was last heard as primary, unless it has said since that it is none.
    pub(super) leads: Option<Ballot>,
    /// Its intent and when it was heard (R9).
    pub(super) intent: Option<(Ballot, u64)>,
    /// Its newest vote (R11).
    pub(super) vote: Option<(Ballot, Vote)>,
    /// The newest op it acknowledged in this replica's ballot (R12), and the same at the last retry.
    pub(super) acked: Op,
    pub(super) acked_at_retry: Op,
    /// The newest op it said it holds in this replica's ballot, without naming a digest: where to send on from.
    pub(super) held: Op,
    /// The newest round it confirmed in this replica's ballot.
    pub(super) round: u64,
}

impl Peer {
    pub(super) fn new(id: ReplicaId) -> Peer {
        Peer {
            id,
            role: Role::Voter,
            domain: 0,
            told_at: 0,
            incarnation: Incarnation(0),
            heard: None,
            memory: Memory::Unknown,
            answers: Answers::default(),
            promised: Ballot::default(),
            holds: Epoch(0),
            leads: None,
            intent: None,
            vote: None,
            acked: Op(0),
            acked_at_retry: Op(0),
            held: Op(0),
            round: 0,
        }
    }

    /// A new start: all it held in memory may be gone; a vote it cast is a durable promise and stays.
    pub(super) fn restarted(&mut self, incarnation: Incarnation) {
        let Peer { role, domain, promised, .. } = *self;
        *self = Peer { role, domain, incarnation, promised, vote: self.vote.take(), ..Peer::new(self.id) };
    }

    pub(super) fn is_voter(&self) -> bool {
        self.role == Role::Voter
    }

    /// Another epoch: what it said of ballots was of the one before.
    pub(super) fn new_epoch(&mut self) {
        let Peer { incarnation, heard, memory, promised, holds, .. } = *self;
        *self = Peer { incarnation, heard, memory, promised, holds, ..Peer::new(self.id) };
    }

    /// Acknowledgements belong to one ballot (R12).
    //= R12
    pub(super) fn forget_acknowledgements(&mut self) {
        if on(Mutant::AcksOfAllBallots) {
            return;
        }
        self.acked = Op(0);
        self.acked_at_retry = Op(0);
        self.held = Op(0);
        self.round = 0;
    }

    /// What a message says about its sender, whatever becomes of it otherwise. `sure`: it cannot be of an older start
    /// of the sender, or it would not matter if it were.
    pub(super) fn note(&mut self, message: &Message, sure: bool) {
        let takes_part = match message {
            Message::Prepare { ballot, .. }
            | Message::Commit { ballot, .. }
            | Message::StartView { ballot, .. }
            | Message::ViewIs { ballot, .. } => {
                self.leads = self.leads.max(Some(*ballot));
                true
            }
            Message::PrepareOk { .. }
            | Message::CommitOk { .. }
            | Message::StartViewChange { .. }
            | Message::DoViewChange { .. } => true,
            _ => false,
        };
        if takes_part && (sure || self.memory == Memory::Lost) {
            self.memory = Memory::Intact;
        }
    }

    pub(super) fn standing(&self) -> PeerStanding {
        PeerStanding {
            id: self.id,
            incarnation: self.incarnation,
            heard: self.heard,
            acknowledged: self.acked,
            amnesiac: self.memory == Memory::Lost,
            voter: self.is_voter(),
        }
    }
}
