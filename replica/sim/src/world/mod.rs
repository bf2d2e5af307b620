//! A seeded world: processes around the real core and state machine, a network, clocks, disks and clients, all of
//! whose chances come from one number.
//!
//! The world carries out effects exactly as a driver does and judges everything it sees by the oracles. It promises
//! that equal plans give equal traces; it does not model time inside a step, and messages travel as values: what the
//! wire format does to them is tested where the wire format lives.

mod carry_out;
mod clients;
mod clock;
mod faults;
mod healing;
mod members;
mod network;
mod node;
mod process;
mod queue;
pub mod script;
mod sessions;
mod twin;

use crate::coverage::{Coverage, Fault, MessageKind, Seen};
use crate::machine::{Machine, Tap, Tapped};
use crate::oracle::linear::{Cells, Verdict};
use crate::oracle::{Acknowledged, Broken, Check, Epochs, Gateways, History, Promises, require};
use crate::plan::{Plan, Sabotage};
use crate::rng::{Rng, Stream};
use crate::trace::{Line, Trace, What};
use clients::Client;
use clock::Clock;
use node::{Members, NEVER, Node};
use queue::Queue;
use std::rc::Rc;
use vr_core::{
    Ballot, Configuration, Digest, Effects, Envelope, Epoch, Generation, Lineage, Op, ReplicaId, View,
    VoteRecord,
};

/// An epoch and a view in one number, for the trace.
pub(crate) fn packed(ballot: Ballot) -> u64 {
    ballot.epoch.0 << 32 | ballot.view.0
}

const LINEAGE: Lineage = Lineage([7; 16]);
const GENERATION: Generation = Generation(1);
const EPOCH: Epoch = Epoch(0);

/// No run needs more events than this: one that does is caught in a circle.
const MOST_EVENTS: u64 = 3_000_000;
/// No core has a reason to keep more messages and timers in flight than this.
const MOST_QUEUED: usize = 200_000;

enum Event {
    Deliver { to: usize, envelope: Box<Envelope> },
    Start { node: usize, life: u32 },
    VoteDone { node: usize, life: u32 },
    VoteClaimed { node: usize, life: u32, record: VoteRecord },
    Booted { node: usize, life: u32 },
    Root { node: usize, life: u32, op: Op, root: Digest },
    PeerLost { node: usize, peer: usize },
    Ask { client: usize, serial: u64 },
    Patience { client: usize, serial: u64 },
    Session { client: usize, serial: u64 },
    Twin { timer: u64 },
    Fault(faults::Kind),
    Reopen { from: usize, to: usize },
    Heal,
    Look,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Steps of the world.
    pub events: u64,
    /// The hash of the trace.
    pub trace: u64,
    /// Simulated microseconds.
    pub time: u64,
    /// What was met.
    pub coverage: Coverage,
    /// The first rule that broke, if one did.
    pub broken: Option<Broken>,
}

/// A world around one kind of state machine.
pub struct World<M: Machine> {
    plan: Plan,
    time: u64,
    events: u64,
    queue: Queue<Event>,
    nodes: Vec<Node<M>>,
    network: network::Network,
    clients: Vec<Client>,
    sessions: Vec<sessions::Native>,
    asked_ever: u64,
    /// Until all faults end.
    phase: healing::Phase,
    /// A majority's memory has been lost at some time.
    majority_was_lost: bool,
    /// When a quorum was last without memory and nobody led.
    lost_at: Option<u64>,
    /// Who had no memory when QuorumLost was last reported; empty if it was not, or if the cluster lives again.
    without_memory_when_lost: Vec<bool>,
    epochs: Epochs,
    operators: members::Operators,
    twins: twin::Twins<M>,
    effects: Effects<Tapped<M>>,
    history: History<M>,
    gateways: Gateways,
    cells: Cells,
    promises: Promises,
    acknowledged: Acknowledged,
    coverage: Coverage,
    trace: Trace,
    faults_rng: Rng,
    clients_rng: Rng,
    disks_rng: Rng,
    votes_rng: Rng,
    process_rng: Rng,
}

impl<M: Machine> World<M> {
    /// The world of a plan, before its first event.
    #[must_use]
    pub fn new(plan: Plan, trace: Trace) -> World<M> {
        let seed = plan.seed;
        let mut first = Configuration::bare(EPOCH, []);
        first.order = (1..=plan.replicas as u64).map(|id| members::member(&plan, ReplicaId(id))).collect();
        first.span_domains = plan.members.domains > 1;
        first.read_lease = plan.members.read_lease;
        let members = Rc::new(Members { configuration: first.clone(), begun: None });
        let ids = (1..=(plan.replicas + plan.members.spares) as u64).map(ReplicaId);
        let mut process_rng = Rng::new(seed, Stream::Processes);
        let nodes = ids.map(|id| {
            let drift = process_rng.between(0, 2 * u64::from(plan.drift.0)) as i64 - i64::from(plan.drift.0);
            let skew = process_rng.below(2_000_000) as i64 - 1_000_000;
            let clock = Clock::new(process_rng.below(1 << 40), drift, skew);
            let mut node = Node::new(id, clock, members.clone());
            node.ballot = Ballot { epoch: EPOCH, view: View(0) };
            node
        });
        let mut nodes: Vec<_> = nodes.collect();
        if plan.breaks(Sabotage::CorruptExecution) {
            nodes[0].tap = Tap::on_a_corrupt_machine();
        }
        let mut world = World {
            time: 0,
            events: 0,
            queue: Queue::new(),
            network: network::Network::new(seed, nodes.len()),
            nodes,
            clients: Vec::new(),
            sessions: Vec::new(),
            asked_ever: 0,
            phase: healing::Phase::Faults,
            majority_was_lost: false,
            lost_at: None,
            without_memory_when_lost: Vec::new(),
            epochs: Epochs::new(first),
            operators: members::Operators::new(seed),
            twins: twin::Twins::new(seed),
            effects: Effects(Vec::new()),
            history: History::new(),
            gateways: Gateways::default(),
            cells: Cells::default(),
            promises: Promises::default(),
            acknowledged: Acknowledged::default(),
            coverage: Coverage::default(),
            trace,
            faults_rng: Rng::new(seed, Stream::Faults),
            clients_rng: Rng::new(seed, Stream::Clients),
            disks_rng: Rng::new(seed, Stream::Disks),
            votes_rng: Rng::new(seed, Stream::Votes),
            process_rng,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.plan.replicas {
            let at = self.process_rng.below(self.plan.options.view_timeout);
            self.queue.push(at, Event::Start { node, life: 0 });
        }
        self.begin_clients();
        self.begin_sessions();
        self.begin_faults();
        self.queue.push(self.plan.faulty, Event::Heal);
    }

    /// Runs to the end: until all is well after healing, or a rule is broken.
    pub fn run(mut self) -> Outcome {
        let result = self.run_until(NEVER).and_then(|()| self.clients_agree());
        self.trace.line(Line {
            time: self.time,
            node: Line::WORLD,
            what: What::End,
            name: result.as_ref().err().map_or("", |broken| broken.oracle),
            a: 0,
            b: 0,
            c: self.history.newest().0,
        });
        // An output that is gone has been dropped by the trace already; its verdict is not lost with it.
        let _ = self.trace.flush();
        Outcome {
            seed: self.plan.seed,
            events: self.events,
            trace: self.trace.hash(),
            time: self.time,
            coverage: self.coverage,
            broken: result.err(),
        }
    }

    /// What clients saw can be put in an order, key by key.
    fn clients_agree(&mut self) -> Check {
        for (key, verdict) in self.cells.verdicts() {
            match verdict {
                Verdict::Linearizable => self.coverage.seen(Seen::Linearizable),
                Verdict::Undecided => self.coverage.seen(Seen::Undecided),
                Verdict::Not => {
                    let detail = format!("what clients saw of key {key} is no history of one cell");
                    return Err(Broken::new("clients-agree", detail));
                }
            }
        }
        Ok(())
    }

    /// Runs until a time, or until the end if that comes first.
    ///
    /// # Errors
    /// The first rule that breaks.
    pub fn run_until(&mut self, end: u64) -> Check {
        while self.phase != healing::Phase::Done {
            let (own, node) = self
                .nodes
                .iter()
                .enumerate()
                .map(|(index, node)| (node.wake(), index))
                .min()
                .expect("a cluster has members");
            let queued = self.queue.next_time();
            let next = own.min(queued);
            if next > end || next == NEVER {
                self.time = self.time.max(end);
                return Ok(());
            }
            self.time = self.time.max(next);
            self.events += 1;
            if self.events > MOST_EVENTS || self.queue.len() > MOST_QUEUED {
                let detail = format!("{} events so far, {} wait", self.events, self.queue.len());
                return Err(Broken::new("bounded", detail));
            }
            if queued <= own {
                let event = self.queue.pop().expect("it has a next time");
                self.happen(event)?;
            } else {
                self.wake(node)?;
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Deliver { to, envelope } => self.deliver(to, envelope),
            Event::Start { node, life } => self.start(node, life),
            Event::Booted { node, life } => self.booted(node, life),
            Event::VoteDone { node, life } => self.vote_done(node, life),
            Event::VoteClaimed { node, life, record } => match self.nodes[node].life == life {
                true => self.step(node, vr_core::Input::VoteWritten(record)),
                false => Ok(()),
            },
            Event::Root { node, life, op, root } => self.root_done(node, life, op, root),
            Event::PeerLost { node, peer } => self.peer_lost(node, peer),
            Event::Ask { client, serial } => self.ask(client, serial),
            Event::Patience { client, serial } => self.lose_patience(client, serial),
            Event::Session { client, serial } => self.go_on_asking(client, serial),
            Event::Twin { timer } => self.wake_twin(timer),
            Event::Fault(kind) => self.strike(kind),
            Event::Reopen { from, to } => {
                self.network.reopen(from, to);
                Ok(())
            }
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    fn deliver(&mut self, to: usize, envelope: Box<Envelope>) -> Check {
        self.deliver_to_twin(to, &envelope)?;
        let node = &self.nodes[to];
        if !node.is_up() {
            return Ok(());
        }
        if node.paused_until > self.time {
            let until = node.paused_until;
            self.queue.push(until, Event::Deliver { to, envelope });
            return Ok(());
        }
        let kind = MessageKind::of(&envelope.message);
        let sender = self.index_of(envelope.from).expect("only replicas send");
        if envelope.incarnation < self.nodes[sender].incarnation {
            self.coverage.fault(Fault::Stale);
        }
        self.coverage.received(kind, node.status);
        let line = (What::Receive, kind.name(), sender as u64, network::ballot_of(&envelope.message));
        self.note(to, line.0, line.1, line.2, line.3, network::op_of(&envelope.message));
        if self.nodes[to].forgetful
            && self.nodes[to].votes.durable.is_some()
            && self.faults_rng.chance(self.plan.faults.crash_recovering)
            && self.phase == healing::Phase::Faults
        {
            self.coverage.fault(Fault::CrashRecovering);
            self.crash(to);
            return Ok(());
        }
        let foreign = (envelope.lineage, envelope.generation) != (LINEAGE, GENERATION);
        let refused = |node: &Node<M>| node.replica.as_ref().map(|r| r.counters().dropped_foreign);
        let before = refused(&self.nodes[to]);
        self.step(to, vr_core::Input::Message(*envelope))?;
        require!(
            !foreign || self.nodes[to].replica.is_none() || refused(&self.nodes[to]) > before,
            "foreign-is-refused",
            "replica {} took a {} of another lineage or generation",
            self.nodes[to].id,
            kind.name()
        );
        Ok(())
    }

    /// Where the replica of an id is.
    fn index_of(&self, id: ReplicaId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Whether a process is there and does not stand still.
    fn is_awake(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.is_up() && node.paused_until <= self.time
    }

    /// Adds a line to the trace.
    fn note(&mut self, node: usize, what: What, name: &'static str, a: u64, b: u64, c: u64) {
        let node = u8::try_from(node).unwrap_or(Line::WORLD);
        self.trace.line(Line { time: self.time, node, what, name, a, b, c });
    }
}
