//! One replica in one thread: the protocol, the store, and everything that waits on them.
//!
//! All of it lives in a thread-local, because a request crosses no thread on its way (a hand-over costs more than the
//! whole gRPC work) and because gRPC services must be `Send` while nothing here is. [`with`] borrows it for the length
//! of a closure; nothing is held across an await.
//!
//! Inputs become steps of [`vr_core::Replica`]; its effects are carried out here, in order, at once.

mod asks;
mod behind;
mod changes;
pub(crate) mod disks;
mod gateway;
mod leases;
mod links;
mod natives;
mod peers;
mod tiers;

pub use disks::{Ask as DiskAsk, PeerDisks};
pub use gateway::{Failure, propose, read_index};
pub use leases::remaining;
pub use links::{Dial, Links};
pub use tiers::{CutHeader, Tiering, cut, tier_name};

use crate::config::Config;
use crate::control::{Fence, Rescue};
use crate::etcd::{Ids, Watches};
use crate::metrics::Counters;
use crate::status::RestoredFrom;
use crate::tls::Ports;
use asks::Asks;
use behind::Behind;
use bytes::BytesMut;
use changes::Changes;
use gateway::Gateway;
use leases::Leases;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Instant, SystemTime};
use tokio::sync::Notify;
use vr_checkpoint::restore::TierKind;
use vr_checkpoint::writer::Cut;
use vr_core::{
    Ballot, Begun, Configuration, Effect, Effects, Incarnation, Input, Now, Op, Replica, ReplicaId, Status,
    VoteRecord,
};
use vr_recorder::{Recorder, Tape};
use vr_store::{Command, Event, LeaseChange, Store};
use vr_tree::Snapshot;

thread_local! {
    static NODE: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// Puts this thread's replica in its place.
pub fn install(node: Node) {
    NODE.with(|place| *place.borrow_mut() = Some(node));
}

/// Takes this thread's replica out again; requests that still come are refused by their dropped channels.
pub fn uninstall() -> Option<Node> {
    NODE.with(|place| place.borrow_mut().take())
}

/// Runs `f` on this thread's replica. Must not be nested and panics before [`install`]: both are errors of this crate.
pub fn with<R>(f: impl FnOnce(&mut Node) -> R) -> R {
    NODE.with(|place| {
        f(place.borrow_mut().as_mut().expect("the replica is installed before anything is served"))
    })
}

/// Like [`with`], for tasks that may outlive the replica at a stop.
pub fn try_with<R>(f: impl FnOnce(&mut Node) -> R) -> Option<R> {
    NODE.with(|place| place.borrow_mut().as_mut().map(f))
}

/// Why this replica must stop for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A newer generation exists: this one is the past.
    Fenced(String),
    /// The protocol or the state says that going on would be wrong.
    Fatal(String),
    /// It is no member any more, and has done all that others needed of it.
    Retired(String),
}

/// What must be durable before anybody is told of it, in the order in which it was promised.
#[derive(Debug)]
pub enum Promise {
    /// A vote record (R1).
    Vote(VoteRecord),
    /// The members of an epoch, before the first vote in it.
    Members(Configuration, Option<Begun>),
}

/// Writes out what this thread's replica was told lately, on another thread; `None` if it records nothing.
///
/// # Errors
/// See [`flight::write`](crate::flight::write).
pub async fn record() -> anyhow::Result<Option<PathBuf>> {
    anyhow::ensure!(!crate::flight::is_writing(), "another recording is being written");
    let Some((config, (name, tape))) =
        try_with(|node| node.tape().map(|tape| (node.config.clone(), tape))).flatten()
    else {
        return Ok(None);
    };
    tokio::task::spawn_blocking(move || crate::flight::write(&config, &name, &tape)).await?.map(Some)
}

/// A replica and everything that waits on it.
pub struct Node {
    /// What it was told.
    pub config: Config,
    /// Ids as etcd clients see them.
    pub ids: Ids,
    /// Which start this is.
    pub incarnation: Incarnation,
    /// Certificates of its ports.
    pub tls: Ports,
    /// Watch streams of this replica's clients.
    pub watches: Watches,
    /// What happened so far, for `/metrics`.
    pub counters: Counters,
    /// The highest fencing token that came to the control ports.
    pub(crate) fence: Fence,
    pub(crate) restored_from: Option<RestoredFrom>,
    replica: Replica<Store>,
    effects: Effects<Store>,
    recorder: Recorder,
    gateway: Gateway,
    natives: natives::Natives,
    leases: Leases,
    tiering: Tiering,
    behind: Behind,
    asks: Asks,
    changes: Changes,
    /// The members that this replica is connected to.
    connected: Option<Configuration>,
    /// Members of the epoch before, and how long they are still connected to (R18).
    left: Option<(Configuration, Instant)>,
    links: Links,
    encoder: BytesMut,
    events: Vec<Event>,
    lease_changes: Vec<LeaseChange>,
    promises: tokio::sync::mpsc::UnboundedSender<Promise>,
    turn: Rc<Notify>,
    turn_due: bool,
    halt: Option<Halt>,
    halted: Rc<Notify>,
    stop: Rc<Notify>,
    primary_heard: Instant,
    /// When each peer last confirmed that it follows this replica.
    followed: BTreeMap<ReplicaId, Instant>,
    started: Instant,
    /// What this replica has by itself, where somebody has asked for it.
    rescue: Rescue,
    handed: Option<(Cut, Snapshot)>,
}

/// What a [`Node`] is made of.
pub struct Parts {
    /// What it was told.
    pub config: Config,
    /// Which start this is.
    pub incarnation: Incarnation,
    /// The protocol, as `Replica::new` made it.
    pub replica: Replica<Store>,
    /// What `Replica::new` wants done.
    pub effects: Effects<Store>,
    /// The tier chain.
    pub tiering: Tiering,
    /// Makes connections to the peers.
    pub links: Links,
    /// Certificates of its ports.
    pub tls: Ports,
    /// To the thread that makes promises durable, one after the other.
    pub promises: tokio::sync::mpsc::UnboundedSender<Promise>,
    /// Origin of the monotonic clock handed to `Replica::new`.
    pub started: Instant,
    /// What this start has loaded, if it began a restored generation.
    pub restored_from: Option<RestoredFrom>,
}

impl Node {
    /// A replica ready to be stepped; carries out the effects of its start.
    #[must_use]
    pub fn new(parts: Parts) -> Node {
        let Parts {
            config,
            incarnation,
            replica,
            effects,
            tiering,
            links,
            promises,
            tls,
            started,
            restored_from,
        } = parts;
        let mut node = Node {
            fence: Fence::open(config.tiers.disks()),
            restored_from,
            ids: Ids::new(config.lineage),
            watches: Watches::default(),
            counters: Counters::default(),
            gateway: Gateway::new(),
            natives: natives::Natives::default(),
            leases: Leases::default(),
            recorder: Recorder::new(config.flight_recorder),
            behind: Behind::new(&config.tiers),
            config,
            incarnation,
            tls,
            replica,
            effects,
            tiering,
            asks: Asks::default(),
            changes: Changes::default(),
            connected: None,
            left: None,
            links,
            encoder: BytesMut::with_capacity(1 << 16),
            events: Vec::new(),
            lease_changes: Vec::new(),
            promises,
            turn: Rc::default(),
            turn_due: false,
            halt: None,
            halted: Rc::default(),
            stop: Rc::default(),
            primary_heard: started,
            followed: BTreeMap::new(),
            started,
            rescue: Rescue::default(),
            handed: None,
        };
        node.connect();
        node.carry_out();
        node
    }

    /// The protocol's view of things.
    #[must_use]
    pub fn replica(&self) -> &Replica<Store> {
        &self.replica
    }

    /// The executed state.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.replica.state()
    }

    /// The tier chain.
    #[must_use]
    pub fn tiering(&self) -> &Tiering {
        &self.tiering
    }

    /// Whether this replica may answer anything at all. Between two views or two epochs requests wait in it, where it has
    /// its memory: that takes no longer than a promise takes to be durable.
    #[must_use]
    pub fn serves(&self) -> bool {
        let serves = match self.replica.status() {
            Status::Normal | Status::ViewChange => true,
            Status::Transitioning => !self.replica.is_amnesiac(),
            _ => false,
        };
        serves && self.halt.is_none()
    }

    /// Why this replica must stop, once it must.
    #[must_use]
    pub fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// Rings when [`Node::halt`] is set.
    #[must_use]
    pub fn halted(&self) -> Rc<Notify> {
        self.halted.clone()
    }

    /// Rings when a turn is due.
    #[must_use]
    pub fn turn_bell(&self) -> Rc<Notify> {
        self.turn.clone()
    }

    /// Rings when this replica is asked to stop in order.
    #[must_use]
    pub fn stop_bell(&self) -> Rc<Notify> {
        self.stop.clone()
    }

    /// Stops for good, for a reason that is kept.
    pub fn stop(&mut self, halt: Halt) {
        if self.halt.is_none() {
            match &halt {
                Halt::Fenced(reason) => tracing::error!(reason, "fenced"),
                Halt::Fatal(reason) => tracing::error!(reason, "cannot go on"),
                Halt::Retired(reason) => tracing::info!(reason, "retired"),
            }
            self.halt = Some(halt);
            self.halted.notify_one();
        }
    }

    /// The primary, where one is known and this replica is in its view.
    #[must_use]
    pub fn primary(&self) -> Option<ReplicaId> {
        (self.replica.status() == Status::Normal).then(|| self.replica.primary())
    }

    /// Whether for three timeouts the primary has been silent or, where this is the primary, no quorum has followed it.
    #[must_use]
    pub fn leaderless(&self) -> bool {
        let silent = |since: &Instant| since.elapsed() > self.config.view_timeout * 3;
        if self.replica.is_primary() {
            let members = self.members();
            let follows = |id: &ReplicaId| self.followed.get(id).is_some_and(|at| !silent(at));
            let following = members.voters().filter(|id| *id == self.config.id || follows(id)).count();
            return following < members.quorum();
        }
        silent(&self.primary_heard)
    }

    /// Microseconds until the protocol wants a tick, if it does.
    #[must_use]
    pub fn until_deadline(&self) -> Option<std::time::Duration> {
        let deadline = self.replica.next_deadline()?;
        Some(std::time::Duration::from_micros(deadline.saturating_sub(self.now().mono)))
    }

    /// Seconds this process has been at it.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    fn now(&self) -> Now {
        let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Now {
            mono: micros(self.started.elapsed()),
            wall: micros(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        }
    }

    /// One input, and everything that follows from it.
    pub fn step(&mut self, input: Input) {
        if self.halt.is_some() {
            return;
        }
        let now = self.now();
        self.recorder.told(now, &input);
        self.replica.step(now, input, &mut self.effects);
        if let Some(let_go) = self.recorder.did(&mut self.replica, &self.effects) {
            self.tiering.release(let_go);
        }
        self.carry_out();
    }

    /// What this replica was told lately, and a name for it; `None` if its flight recorder is off, or has only begun.
    #[must_use]
    pub fn tape(&mut self) -> Option<(String, Tape)> {
        let tape = self.recorder.tape(&mut self.replica)?;
        Some((format!("{}-{}-{}", self.config.id, self.incarnation, self.executed()), tape))
    }

    /// Makes sure that a turn ends soon: after everything that is runnable now has queued its work.
    fn turn_soon(&mut self) {
        if !self.turn_due {
            self.turn_due = true;
            self.turn.notify_one();
        }
    }

    /// The end of a loop turn: queued requests become a batch, queued reads a round.
    pub fn turn(&mut self) {
        self.turn_due = false;
        if let Some(token) = self.gateway.begin_round() {
            self.step(Input::Read { token });
        }
        self.step(Input::Turn);
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects.0);
        for effect in effects.drain(..) {
            self.carry_out_one(effect);
        }
        // Keep the buffer: there is one for every step.
        if self.effects.0.is_empty() {
            self.effects.0 = effects;
        }
        self.deliver_events();
    }

    fn carry_out_one(&mut self, effect: Effect<Store>) {
        match effect {
            Effect::Send(to, message) => {
                let frame = self.encode(message);
                self.push(to, frame);
            }
            Effect::Broadcast(message) => {
                let frame = self.encode(message);
                let me = self.config.id;
                let everyone: Vec<ReplicaId> = self.members().members().map(|m| m.id).collect();
                for to in everyone.into_iter().filter(|id| *id != me) {
                    self.push(to, frame.clone());
                }
            }
            Effect::WriteVote(record) => {
                // The writer outlives the node; if it is gone the process is stopping.
                let _ = self.promises.send(Promise::Vote(record));
            }
            Effect::Reply { number, reply, .. } => self.gateway.answer(number, Ok(reply)),
            Effect::Rejected { number } => self.gateway.answer(number, Err(Failure::NotExecuted)),
            Effect::Unknown { number } => self.gateway.answer(number, Err(Failure::Unknown)),
            effect @ (Effect::Answers { .. }
            | Effect::Declined { .. }
            | Effect::Registered { .. }
            | Effect::Forgotten { .. }) => self.natives.carry_out(effect),
            Effect::ReadReady { token } => self.gateway.round_ended(token, true),
            Effect::ReadFailed { token } => self.gateway.round_ended(token, false),
            Effect::Committed(entry) => self.tiering.committed(&entry),
            Effect::Cut { op, ballot, time, digest, snapshot } => {
                let header = tiers::CutHeader { op, ballot, time, digest };
                self.tiering.cut(self.replica.configuration(), self.replica.state(), header, snapshot);
            }
            Effect::Release(snapshot) => self.tiering.release(snapshot),
            Effect::ReleaseState(state) => self.tiering.release(state),
            Effect::ReleaseImport(import) => self.tiering.release(import),
            Effect::Certified { op, root, by } => {
                tracing::debug!(%op, %root, members = by.len(), "cut certified");
            }
            Effect::Diverged { op, certified, ours } => self.stop(Halt::Fatal(format!(
                "the state of replica {} differs from what a quorum has at op {op}: root {ours}, certified {certified}. \
                 Keep its disks for inspection and replace it by a new replica id",
                self.config.id
            ))),
            Effect::Reconfigured { token, outcome } => self.changes.reconfigured(token, outcome),
            Effect::HandedOff { token, outcome } => self.changes.handed_off(token, outcome),
            Effect::Configuration(configuration, begun) => self.reconfigured(configuration, begun),
            Effect::Retired(epoch) => self.stop(Halt::Retired(format!(
                "replica {} is no member since epoch {epoch}, and the others no longer need it: its disks may be removed",
                self.config.id
            ))),
            Effect::Standing(status, ballot) => self.standing(status, ballot),
            Effect::StateReplaced(op) => {
                tracing::info!(%op, "state replaced by another replica's");
                self.watches.start_over();
            }
            Effect::Fatal(reason) => self.stop(Halt::Fatal(reason)),
        }
    }

    fn standing(&mut self, status: Status, ballot: Ballot) {
        let primary = self.replica.primary();
        tracing::info!(?status, %ballot, %primary, "standing");
        self.counters.standings += 1;
        if status == Status::Normal && self.replica.is_primary() {
            let now = self.elapsed();
            self.leases.begin(self.replica.state(), now);
            // Its quorum has just made it the primary; from here on silence counts.
            let begins = Instant::now();
            self.followed = self.links.ids().into_iter().map(|peer| (peer, begins)).collect();
        } else {
            self.leases.end();
        }
        if status == Status::QuorumLost {
            tracing::error!(
                "a majority of the replicas has lost its memory and no primary is left: nothing is served. \
                 Restore from the freshest checkpoint (`vr dev --restore`, or the operator's recovery plan)"
            );
        }
    }

    fn deliver_events(&mut self) {
        let store = self.replica.state_mut();
        store.drain_events(&mut self.events);
        store.drain_lease_changes(&mut self.lease_changes);
        let now = self.started.elapsed();
        for change in self.lease_changes.drain(..) {
            if let Some(book) = self.leases.book() {
                book.apply(change, now);
            }
        }
        if !self.events.is_empty() {
            let header = self.header(self.store().revision());
            self.counters.watch_responses += self.watches.deliver(&self.events, &header);
            self.events.clear();
        }
    }

    /// Time since the process began: the clock of deadlines.
    fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// A write of this replica's own, whose reply nobody waits for.
    fn propose_own(&mut self, command: &Command<'_>) {
        let mut body = Vec::new();
        command.encode(&mut body);
        // Refused or lost: the next look at the clock proposes it again.
        let _ = self.submit(body.into());
    }

    /// A few times a second: leases whose time is over, and what the tiers want.
    pub fn keep_house(&mut self) {
        self.expire_leases();
        self.measure();
        self.forget_the_left();
        self.watch_tiers();
        if let Some(reason) = self.tiering.fenced() {
            self.stop(Halt::Fenced(reason));
            return;
        }
        let rescues = matches!(self.rescue, Rescue::Handed(_)) && self.follows_nobody();
        if !rescues && self.rescue != Rescue::Loading {
            // Somebody leads again, and the lineage goes on beyond what was handed in.
            (self.rescue, self.handed) = (Rescue::None, None);
        }
        self.tiering.ship(rescues || self.replica.shipper() == Some(self.config.id));
        let reservation = self.tiering.reservation(self.replica.state());
        if self.replica.is_primary() && self.replica.status() == Status::Normal {
            if self.tiering.wants_cut() {
                self.step(Input::Cut);
            }
            if let Some(revision) = reservation {
                self.propose_own(&Command::Reserve { revision });
            }
        } else if self.tiering.wants_cut() {
            self.ask_for_cut();
        }
        if self.leaderless() {
            self.watches.primary_is_missing();
        }
    }

    /// Whether this replica follows no primary: it is in no view, or its primary is silent.
    pub(crate) fn follows_nobody(&self) -> bool {
        self.primary().is_none() || self.leaderless()
    }

    /// What is known of what this replica has by itself.
    pub(crate) fn rescue(&self) -> Rescue {
        self.rescue
    }

    pub(crate) fn set_rescue(&mut self, rescue: Rescue) {
        self.rescue = rescue;
    }

    /// What it has in memory, as far as it knows that to be committed; nothing if it has lost its memory.
    pub(crate) fn memory(&mut self) -> Option<(Cut, Snapshot)> {
        let found = self.replica.executed()?;
        let header = CutHeader { op: found.op, ballot: found.ballot, time: found.time, digest: found.digest };
        Some((cut(self.members(), self.replica.state(), header), found.snapshot))
    }

    /// Hands in what this replica has by itself, for all its tiers; the op that it goes to.
    pub(crate) fn hand_in(&mut self, (cut, snapshot): (Cut, Snapshot)) -> Op {
        let op = Op(cut.op);
        tracing::warn!(%op, "nobody leads: what this replica has is brought to its tiers");
        self.rescue = Rescue::Handed(op);
        self.handed = Some((cut, snapshot));
        self.hand_in_again();
        op
    }

    /// The same once more: a tier lets go of a cut that it could not write.
    pub(crate) fn hand_in_again(&mut self) {
        let Some((cut, snapshot)) = self.handed.clone() else { return };
        // A tier lets go of what it does not write, or is not asked for now.
        self.tiering.ship(true);
        self.tiering.checkpoint_now(&[TierKind::ObjectStore], Op(cut.op));
        self.tiering.hand_in(cut, snapshot);
    }

    /// Takes the node apart for a clean stop.
    #[must_use]
    pub fn into_parts(self) -> (Config, Incarnation, Replica<Store>, Tiering) {
        (self.config, self.incarnation, self.replica, self.tiering)
    }

    /// The op up to which everything is executed.
    #[must_use]
    pub fn executed(&self) -> Op {
        self.replica.commit()
    }
}
