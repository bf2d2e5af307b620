//! One machine of the world: a process that comes and goes, its clocks, its disks, its gateway.

use super::clock::Clock;
use crate::machine::{Machine, Tap, Tapped};
use crate::oracle::linear::Call;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use vr_core::{
    Ballot, Begun, Configuration, Digest, Entry, Incarnation, Op, Replica, ReplicaId, RequestNumber,
    SessionId, Status, VoteRecord,
};

/// The end of time: never.
pub(super) const NEVER: u64 = u64::MAX;

/// Which members a replica was told of, and where their epoch begins.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) configuration: Configuration,
    pub(super) begun: Option<Begun>,
}

/// A vote record on its way to the disk, and the members that must be durable before it.
pub(super) struct Writing {
    pub(super) vote: VoteRecord,
    pub(super) members: Rc<Members>,
}

/// The two devices that hold the vote record, and the members. One write at a time; a crash loses those that wait and,
/// perhaps, the one in flight. A torn write cannot be told from a lost one, since the other of the two files still holds.
/// One of the two may show less than it was given ([`VoteDevices::show`]), never both.
pub(super) struct VoteDevices {
    /// The newest record, and the one that it replaced.
    pub(super) durable: Option<VoteRecord>,
    pub(super) before: Option<VoteRecord>,
    pub(super) members: Rc<Members>,
    pub(super) in_flight: VecDeque<Writing>,
}

impl VoteDevices {
    /// Both hold this record now.
    pub(super) fn keep(&mut self, record: VoteRecord, members: Rc<Members>) {
        self.before = self.durable.replace(record);
        self.members = members;
    }

    /// What each of the two shows to a start, if the device of this number lost its newest record, or all it had.
    pub(super) fn show(&self, worse: Option<(usize, bool)>) -> [Option<VoteRecord>; 2] {
        let mut shown = [self.durable; 2];
        if let Some((device, all)) = worse {
            shown[device] = self.before.filter(|_| !all);
        }
        shown
    }
}

/// A cut as kept in memory or on disk.
pub(super) struct Kept<M: Machine> {
    pub(super) op: Op,
    pub(super) root: Digest,
    pub(super) snapshot: M::Snapshot,
}

impl<M: Machine> Clone for Kept<M> {
    fn clone(&self) -> Kept<M> {
        Kept { op: self.op, root: self.root, snapshot: self.snapshot.clone() }
    }
}

/// What a clean stop leaves behind.
pub(super) struct Marker<M: Machine> {
    pub(super) state: Kept<M>,
    pub(super) log: Vec<Entry>,
    pub(super) last_normal: Ballot,
}

impl<M: Machine> Clone for Marker<M> {
    fn clone(&self) -> Marker<M> {
        Marker { state: self.state.clone(), log: self.log.clone(), last_normal: self.last_normal }
    }
}

/// A read that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) floor: Op,
    /// The cell it looks at, and its call in the clients' history.
    pub(super) cell: Option<(u64, Call)>,
}

/// One machine.
pub(super) struct Node<M: Machine> {
    pub(super) id: ReplicaId,
    pub(super) replica: Option<Replica<Tapped<M>>>,
    pub(super) tap: Tap,
    /// Number of its processes so far; what was meant for an earlier one is void.
    pub(super) life: u32,
    pub(super) incarnation: Incarnation,
    /// As last reported.
    pub(super) status: Status,
    /// At the end of the step whose effects are being carried out.
    pub(super) status_after: Status,
    pub(super) ballot: Ballot,
    pub(super) executed: Op,
    /// Its memory is lost and not yet replaced.
    pub(super) forgetful: bool,
    /// This process began with all that the one before it had.
    pub(super) continued: bool,
    /// When it began to ask its newest two rounds of questions, and what it asks now.
    pub(super) asks_since: (u64, u64),
    pub(super) nonce: u64,
    pub(super) clock: Clock,
    pub(super) votes: VoteDevices,
    /// Those that this process was told of last.
    pub(super) members: Rc<Members>,
    /// Those before them, if this process was there, and until when it stays connected to them.
    pub(super) former: Option<(Rc<Members>, u64)>,
    /// It is one of the first members and has never been started: its first start is the bootstrap.
    pub(super) bootstraps: bool,
    /// Its disk was lost, and it has not acted since.
    pub(super) lost_disk: bool,
    /// It has acted at some time.
    pub(super) acted: bool,
    /// It was let go (R18).
    pub(super) released: bool,
    /// Nobody starts it, or not again.
    pub(super) gone: bool,
    pub(super) checkpoint: Option<Kept<M>>,
    pub(super) marker: Option<Marker<M>>,
    pub(super) paused_until: u64,
    pub(super) turn_due: u64,
    pub(super) tick_due: u64,
    /// Its reads, by token.
    pub(super) reads: BTreeMap<u64, Reading>,
    pub(super) next_token: u64,
    /// The newest read that was served.
    pub(super) served_token: u64,
    /// Who waits for which request.
    pub(super) asked: BTreeMap<RequestNumber, Asker>,
    /// The calls of its requests in the clients' history.
    pub(super) calls: BTreeMap<RequestNumber, Call>,
    /// Who waits for which read.
    pub(super) asked_reads: BTreeMap<u64, Asker>,
}

/// Whoever waits: a client with the serial of its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) client: usize,
    pub(super) serial: u64,
}

impl<M: Machine> Node<M> {
    pub(super) fn new(id: ReplicaId, clock: Clock, members: Rc<Members>) -> Node<M> {
        let bootstraps = members.configuration.member(id).is_some();
        Node {
            id,
            replica: None,
            tap: Tap::default(),
            life: 0,
            incarnation: Incarnation(0),
            status: Status::Recovering,
            status_after: Status::Recovering,
            ballot: Ballot::default(),
            executed: Op(0),
            forgetful: !bootstraps,
            continued: true,
            asks_since: (0, 0),
            nonce: 0,
            clock,
            votes: VoteDevices {
                durable: None,
                before: None,
                members: members.clone(),
                in_flight: VecDeque::new(),
            },
            members,
            former: None,
            bootstraps,
            lost_disk: false,
            acted: bootstraps,
            released: false,
            gone: !bootstraps,
            checkpoint: None,
            marker: None,
            paused_until: 0,
            turn_due: NEVER,
            tick_due: NEVER,
            reads: BTreeMap::new(),
            next_token: 0,
            served_token: 0,
            asked: BTreeMap::new(),
            calls: BTreeMap::new(),
            asked_reads: BTreeMap::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// Whether it knows at `time` where a replica is: whoever it does not know cannot be asked by it.
    pub(super) fn knows(&self, id: ReplicaId, time: u64) -> bool {
        let names = |members: &Rc<Members>| members.configuration.member(id).is_some();
        names(&self.members)
            || self.former.as_ref().is_some_and(|(before, until)| time < *until && names(before))
    }

    /// Whether the configuration that it was told of last names it.
    pub(super) fn is_member(&self) -> bool {
        self.members.configuration.member(self.id).is_some()
    }

    pub(super) fn session(&self) -> SessionId {
        SessionId { client: self.id.0, incarnation: self.incarnation }
    }

    /// When it next has something to do of its own.
    pub(super) fn wake(&self) -> u64 {
        match &self.replica {
            None => NEVER,
            Some(_) => self.turn_due.min(self.tick_due).max(self.paused_until),
        }
    }

    /// Everything of the process goes; what belongs to the machine stays.
    pub(super) fn die(&mut self) {
        self.replica = None;
        let _ = self.tap.take();
        self.life += 1;
        self.status = Status::Recovering;
        self.turn_due = NEVER;
        self.tick_due = NEVER;
        self.paused_until = 0;
        self.asks_since = (NEVER, NEVER);
        self.reads.clear();
        self.asked.clear();
        self.calls.clear();
        self.asked_reads.clear();
    }
}
