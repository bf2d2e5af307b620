//! The world: a clock, a network whose messages can be held or lost, vote records that survive, and a toy service.

use crate::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A toy service: remembers what it was asked, in order, and answers with how many requests it has seen.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ledger {
    pub(super) lines: Vec<Vec<u8>>,
    core: Vec<u8>,
}

impl Ledger {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in std::iter::once(&self.core).chain(&self.lines) {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    pub(super) fn root(&self) -> Digest {
        Digest(*blake3::hash(&self.encode()).as_bytes())
    }
}

impl StateMachine for Ledger {
    type Reply = usize;
    type Snapshot = Ledger;
    type Import = Arriving;

    fn execute(&mut self, _at: At, requests: &[Accepted<'_>], replies: &mut Vec<usize>) {
        for request in requests {
            self.lines.push(request.body.to_vec());
            if request.reply_wanted {
                replies.push(self.lines.len());
            }
        }
    }

    fn cut(&mut self, _op: Op, core_state: &[u8]) -> Ledger {
        self.core = core_state.to_vec();
        self.clone()
    }

    fn core_state(&self) -> Vec<u8> {
        self.core.clone()
    }

    fn export(snapshot: &Ledger, want: &[u8], _max_bytes: usize) -> Bytes {
        // Tiny portions, so that a transfer takes many.
        Sequence::portion(&snapshot.encode(), want, 40)
    }

    fn import(&self, _cut: Op, root: Digest, _earlier: Option<Arriving>) -> Arriving {
        Arriving { root, bytes: Sequence::new(1 << 20) }
    }
}

/// A ledger on its way in.
#[derive(Clone, Debug, Hash)]
pub(super) struct Arriving {
    root: Digest,
    bytes: Sequence,
}

impl Import for Arriving {
    type Machine = Ledger;

    fn want(&mut self) -> Option<Bytes> {
        self.bytes.want()
    }

    fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        self.bytes.take(want, portion)
    }

    fn end(self) -> Result<Ledger, ImportError> {
        let bytes = self.bytes.end()?;
        let (mut parts, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((len, tail)) = rest.split_first_chunk() {
            let cut_short = || ImportError::Malformed("a line is cut short".to_owned());
            let (part, tail) =
                tail.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut_short)?;
            parts.push(part.to_vec());
            rest = tail;
        }
        let mut parts = parts.into_iter();
        let ledger = Ledger { core: parts.next().unwrap_or_default(), lines: parts.collect() };
        if ledger.root() != self.root {
            return Err(ImportError::Digest("another root".to_owned()));
        }
        Ok(ledger)
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply(Op),
    Rejected,
    Unknown,
}

/// What a replica said about clients' own sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Answer(SessionId, u64, Op),
    Declined(SessionId, u64, Fate),
    Registered(SessionId),
    Forgotten(SessionId),
}

pub(super) struct Letter {
    pub(super) at: u64,
    pub(super) to: u64,
    pub(super) envelope: Envelope,
}

pub(super) struct Node {
    pub(super) replica: Replica<Ledger>,
    pub(super) outcomes: BTreeMap<u64, Outcome>,
    pub(super) told: Vec<Told>,
    pub(super) reads: BTreeMap<u64, bool>,
    /// The same, with what was executed at that moment.
    pub(super) read_at: BTreeMap<u64, (bool, Op)>,
    pub(super) certified: Vec<Op>,
    pub(super) fatal: Option<String>,
    pub(super) reconfigured: BTreeMap<u64, Result<Epoch, Refusal>>,
    pub(super) handed_off: BTreeMap<u64, Result<Ballot, HandOffRefusal>>,
    pub(super) retired: Option<Epoch>,
    pub(super) cut: Option<Ledger>,
    next_number: u64,
    votes: Vec<(u64, VoteRecord)>,
    roots: Vec<(u64, Op, Digest)>,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) mail: Vec<Letter>,
    /// Vote records, as they stand durably.
    pub(super) votes: BTreeMap<u64, VoteRecord>,
    /// Configurations, as they stand durably; a replica that has none here was told that of the bootstrap.
    pub(super) configurations: BTreeMap<u64, Configuration>,
    /// What is durable beside them.
    pub(super) begun: BTreeMap<u64, Begun>,
    /// The one configuration of each epoch, and the one primary of each ballot.
    pub(super) lineage: BTreeMap<Epoch, Configuration>,
    pub(super) primaries: BTreeMap<Ballot, (u64, Incarnation)>,
    /// What each running replica puts on its envelopes.
    speaks: BTreeMap<u64, VoteRecord>,
    next_token: u64,
    /// Replicas that hear and say nothing.
    pub(super) cut_off: BTreeSet<u64>,
    /// Messages that match are kept aside instead of being delivered.
    pub(super) hold: fn(from: u64, to: u64, &Message) -> bool,
    pub(super) held: Vec<Letter>,
    /// What happens to each message on its way.
    pub(super) spoil: fn(&mut Message),
    pub(super) delay: u64,
    pub(super) vote_delay: u64,
    pub(super) options: Options,
    /// Everything any replica executed, op by op: the one history.
    pub(super) history: BTreeMap<Op, Digest>,
    /// Messages are dropped, doubled and delayed at random when this is set; per mille.
    pub(super) noise: u64,
    pub(super) random: u64,
    members: u64,
    standstill: u64,
}

fn nobody(_: u64, _: u64, _: &Message) -> bool {
    false
}

impl World {
    /// `members` replicas, 0 up, bootstrapped together.
    pub(super) fn new(members: u64) -> World {
        let mut world = World::empty(members, Options::default());
        (0..members).for_each(|id| world.start_complete(id, Ledger::default()));
        world
    }

    pub(super) fn empty(members: u64, options: Options) -> World {
        World {
            now: 1_000_000,
            nodes: BTreeMap::new(),
            mail: Vec::new(),
            votes: (0..members)
                .map(|id| {
                    let vote = VoteRecord {
                        lineage: Lineage([7; 16]),
                        generation: Generation(1),
                        ballot: Ballot::default(),
                        replica: ReplicaId(id),
                        incarnation: Incarnation(0),
                    };
                    (id, vote)
                })
                .collect(),
            configurations: BTreeMap::new(),
            begun: BTreeMap::new(),
            lineage: BTreeMap::new(),
            primaries: BTreeMap::new(),
            speaks: BTreeMap::new(),
            next_token: 1,
            cut_off: BTreeSet::new(),
            hold: nobody,
            held: Vec::new(),
            spoil: |_| {},
            delay: 200,
            vote_delay: 1_000,
            options,
            history: BTreeMap::new(),
            noise: 0,
            random: 1,
            members,
            standstill: 0,
        }
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: 1_700_000_000_000_000 + self.now }
    }

    pub(super) fn configuration(&self) -> Configuration {
        Configuration::bare(Epoch(0), (0..self.members).map(ReplicaId))
    }

    fn boot(&mut self, id: u64, start: Start<Ledger>) -> Result<(), BootError> {
        let configuration = self.configurations.get(&id).cloned().unwrap_or_else(|| self.configuration());
        let joining = matches!(start, Start::Joining { .. });
        let vote = match self.votes.get_mut(&id).filter(|_| !joining) {
            Some(vote) => {
                vote.incarnation.0 += 1;
                *vote
            }
            None => VoteRecord {
                ballot: Ballot::default(),
                replica: ReplicaId(id),
                incarnation: Incarnation(self.now),
                ..self.votes[&0]
            },
        };
        self.speaks.insert(id, vote);
        let begun = self.begun.get(&id).copied();
        let boot = Boot { id: ReplicaId(id), vote, configuration, begun, start, seed: 5 + self.now };
        let mut out = Effects::new();
        let replica = Replica::new(boot, self.options.clone(), self.clock(), &mut out)?;
        let node = Node {
            replica,
            outcomes: BTreeMap::new(),
            told: Vec::new(),
            reads: BTreeMap::new(),
            read_at: BTreeMap::new(),
            certified: Vec::new(),
            fatal: None,
            reconfigured: BTreeMap::new(),
            handed_off: BTreeMap::new(),
            retired: None,
            cut: None,
            next_number: 1,
            votes: Vec::new(),
            roots: Vec::new(),
        };
        self.nodes.insert(id, node);
        self.carry_out(id, out);
        Ok(())
    }

    pub(super) fn start_complete(&mut self, id: u64, state: Ledger) {
        let start = Start::Complete { state, log: Vec::new(), commit: Op(0), last_normal: Ballot::default() };
        self.boot(id, start).expect("a bootstrap is in order");
    }

    pub(super) fn restart_clean(
        &mut self,
        id: u64,
        state: Ledger,
        log: Vec<Entry>,
        commit: Op,
        last_normal: Ballot,
    ) {
        // It remembers all that the start before it said: it may go on leading where that one led.
        let before = (id, self.votes[&id].incarnation);
        let after = (id, Incarnation(before.1.0 + 1));
        self.primaries.values_mut().filter(|led| **led == before).for_each(|led| *led = after);
        self.boot(id, Start::Complete { state, log, commit, last_normal }).expect("a clean stop is in order");
    }

    pub(super) fn crash(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    pub(super) fn recover(&mut self, id: u64) {
        self.recover_from(id, Ledger::default());
    }

    pub(super) fn recover_from(&mut self, id: u64, state: Ledger) {
        self.boot(id, Start::Amnesiac { state }).expect("a start without memory is in order");
    }

    /// Starts a new id that knows the configuration of `through`.
    pub(super) fn join(&mut self, id: u64, through: u64) {
        let known = self.configurations.get(&through).cloned().unwrap_or_else(|| self.configuration());
        self.configurations.insert(id, known);
        self.begun.remove(&id);
        self.boot(id, Start::Joining { state: Ledger::default() }).expect("a joining start is in order");
    }

    /// Its disk is gone, and all that was durable with it.
    pub(super) fn lose_disk(&mut self, id: u64) {
        self.nodes.remove(&id);
        self.votes.remove(&id);
        self.configurations.remove(&id);
        self.begun.remove(&id);
    }

    /// Proposes at a replica what `change` makes of the configuration it knows.
    pub(super) fn propose(&mut self, id: u64, change: impl FnOnce(&mut Configuration)) -> u64 {
        let current = self.replica(id).configuration().clone();
        let mut next = Configuration { epoch: Epoch(current.epoch.0 + 1), ..current.clone() };
        change(&mut next);
        self.propose_instead(id, current.id(), next)
    }

    pub(super) fn propose_instead(&mut self, id: u64, replaces: Digest, next: Configuration) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.input(id, Input::Reconfigure { token, replaces, next });
        token
    }

    /// Proposes and waits for the answer.
    pub(super) fn reconfigure(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Configuration),
    ) -> Result<Epoch, Refusal> {
        let token = self.propose(id, change);
        self.until("an answer to a proposal", 8_000_000, |w| w.nodes[&id].reconfigured.contains_key(&token));
        self.nodes[&id].reconfigured[&token].clone()
    }

    pub(super) fn hand_off(&mut self, id: u64, to: u64) -> Result<Ballot, HandOffRefusal> {
        let token = self.next_token;
        self.next_token += 1;
        self.input(id, Input::HandOff { token, to: ReplicaId(to) });
        self.until("an answer to a hand-off", 3_000_000, |w| w.nodes[&id].handed_off.contains_key(&token));
        self.nodes[&id].handed_off[&token].clone()
    }

    /// Whether all members of the newest epoch act in it and agree.
    pub(super) fn settled(&self) -> bool {
        let newest =
            self.lineage.last_key_value().map_or_else(|| self.configuration(), |(_, newest)| newest.clone());
        let epoch = newest.epoch;
        let mut first = None;
        newest.members().all(|member| {
            self.nodes.get(&member.id.0).is_some_and(|node| {
                let r = &node.replica;
                let here = (r.op(), r.digest());
                r.status() == Status::Normal
                    && r.ballot().epoch == epoch
                    && r.op() == r.commit()
                    && *first.get_or_insert(here) == here
            })
        })
    }

    pub(super) fn replica(&self, id: u64) -> &Replica<Ledger> {
        &self.nodes[&id].replica
    }

    pub(super) fn input(&mut self, id: u64, input: Input) {
        let now = self.clock();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut out = Effects::new();
        node.replica.step(now, input, &mut out);
        node.replica.step(now, Input::Turn, &mut out);
        self.carry_out(id, out);
    }

    fn carry_out(&mut self, id: u64, out: Effects<Ledger>) {
        let others = |it: &Configuration| -> Vec<u64> {
            it.members().map(|member| member.id.0).filter(|&member| member != id).collect()
        };
        let told = self.configurations.get(&id).cloned().unwrap_or_else(|| self.configuration());
        let mut peers = others(&told);
        for effect in out.0 {
            match effect {
                Effect::Send(to, message) => self.post(id, to.0, message),
                Effect::Broadcast(message) => {
                    peers.iter().for_each(|&to| self.post(id, to, message.clone()));
                }
                Effect::WriteVote(record) => {
                    let at = self.now + self.vote_delay;
                    self.node(id).votes.push((at, record));
                }
                Effect::Reply { number, op, .. } => {
                    self.node(id).outcomes.insert(number.0, Outcome::Reply(op));
                }
                Effect::Rejected { number } => {
                    self.node(id).outcomes.insert(number.0, Outcome::Rejected);
                }
                Effect::Unknown { number } => {
                    self.node(id).outcomes.insert(number.0, Outcome::Unknown);
                }
                Effect::Answers { op, answers } => {
                    for (session, number, _) in answers {
                        self.node(id).told.push(Told::Answer(session, number.0, op));
                    }
                }
                Effect::Declined { session, number, fate } => {
                    self.node(id).told.push(Told::Declined(session, number.0, fate));
                }
                Effect::Registered { session } => self.node(id).told.push(Told::Registered(session)),
                Effect::Forgotten { session } => self.node(id).told.push(Told::Forgotten(session)),
                Effect::ReadReady { token } => {
                    let node = self.node(id);
                    node.reads.insert(token, true);
                    node.read_at.insert(token, (true, node.replica.commit()));
                }
                Effect::ReadFailed { token } => {
                    let node = self.node(id);
                    node.reads.insert(token, false);
                    node.read_at.insert(token, (false, node.replica.commit()));
                }
                Effect::Committed(entry) => {
                    let digest = entry.digest();
                    let known = *self.history.entry(entry.header.op).or_insert(digest);
                    assert_eq!(known, digest, "two histories at op {}", entry.header.op);
                }
                Effect::Cut { op, snapshot, .. } => {
                    let at = self.now + 500;
                    let root = snapshot.root();
                    let node = self.node(id);
                    node.roots.push((at, op, root));
                    node.cut = Some(snapshot);
                }
                Effect::Certified { op, .. } => self.node(id).certified.push(op),
                Effect::Diverged { op, .. } => panic!("replica {id} diverged at {op}"),
                Effect::Fatal(reason) => self.node(id).fatal = Some(reason),
                Effect::Reconfigured { token, outcome } => {
                    self.node(id).reconfigured.insert(token, outcome);
                }
                Effect::HandedOff { token, outcome } => {
                    self.node(id).handed_off.insert(token, outcome);
                }
                Effect::Configuration(configuration, begun) => {
                    self.begun.remove(&id);
                    self.begun.extend(begun.map(|begun| (id, begun)));
                    let one =
                        self.lineage.entry(configuration.epoch).or_insert_with(|| configuration.clone());
                    assert_eq!(*one, configuration, "two configurations of one epoch");
                    let before = self.configurations.get(&id).map_or(Epoch(0), |known| known.epoch);
                    assert!(configuration.epoch > before, "replica {id} went back from epoch {before}");
                    peers = others(&configuration);
                    self.configurations.insert(id, configuration);
                }
                Effect::Retired(epoch) => self.node(id).retired = Some(epoch),
                Effect::Standing(Status::Normal, ballot) => {
                    let node = self.node(id);
                    let incarnation = node.replica.vote().incarnation;
                    if node.replica.is_primary() && node.replica.ballot() == ballot {
                        let one = *self.primaries.entry(ballot).or_insert((id, incarnation));
                        assert_eq!(one, (id, incarnation), "two primaries of ballot {ballot}");
                    }
                }
                Effect::Standing(..)
                | Effect::StateReplaced(_)
                | Effect::Release(_)
                | Effect::ReleaseState(_)
                | Effect::ReleaseImport(_) => {}
            }
        }
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("it is running")
    }

    pub(super) fn post(&mut self, from: u64, to: u64, mut message: Message) {
        (self.spoil)(&mut message);
        if from == to || self.cut_off.contains(&from) || self.cut_off.contains(&to) {
            return;
        }
        let vote = self.speaks[&from];
        let envelope = Envelope {
            lineage: vote.lineage,
            generation: vote.generation,
            from: ReplicaId(from),
            incarnation: vote.incarnation,
            message,
        };
        let mut at = self.now + self.delay;
        if self.noise > 0 {
            if self.random(1000) < self.noise {
                return;
            }
            at += self.random(2_000);
            if self.random(1000) < self.noise {
                at += self.random(1_000_000);
            }
            if self.random(1000) < self.noise {
                let late = at + self.random(300_000);
                self.mail.push(Letter { at: late, to, envelope: envelope.clone() });
            }
        }
        let letter = Letter { at, to, envelope };
        if (self.hold)(from, to, &letter.envelope.message) {
            self.held.push(letter);
        } else {
            self.mail.push(letter);
        }
    }

    /// Delivers the held messages that match, now.
    pub(super) fn release(&mut self, matches: impl Fn(u64, u64, &Message) -> bool) {
        let (out, stay) = std::mem::take(&mut self.held).into_iter().partition(|letter: &Letter| {
            matches(letter.envelope.from.0, letter.to, &letter.envelope.message)
        });
        self.held = stay;
        let out: Vec<Letter> = out;
        for letter in out {
            self.input(letter.to, Input::Message(letter.envelope));
        }
    }

    pub(super) fn submit(&mut self, id: u64, body: &str) -> u64 {
        let node = self.node(id);
        let number = node.next_number;
        node.next_number += 1;
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.input(id, Input::Submit { number: RequestNumber(number), body });
        number
    }

    /// One thing that is due next: a message, a durable vote, a root, a timer.
    fn event(&mut self, until: u64) -> bool {
        let mail = self.mail.iter().enumerate().min_by_key(|(i, l)| (l.at, *i)).map(|(i, l)| (l.at, i));
        let mut best: Option<(u64, u64, usize)> = mail.map(|(at, i)| (at, u64::MAX, i));
        for (&id, node) in &self.nodes {
            let timer = node.replica.next_deadline().map(|at| (at.max(self.now), id, 0));
            let vote = node.votes.first().map(|(at, _)| (*at, id, 1));
            let root = node.roots.first().map(|(at, ..)| (*at, id, 2));
            for due in [timer, vote, root].into_iter().flatten() {
                if best.is_none_or(|known| due.0 < known.0) {
                    best = Some(due);
                }
            }
        }
        let Some((at, id, what)) = best.filter(|(at, ..)| *at <= until) else { return false };
        // A world in which time stands still is one in which somebody asks and answers for ever.
        self.standstill = if at > self.now { 0 } else { self.standstill + 1 };
        assert!(
            self.standstill < 10_000,
            "time stands still: {}",
            self.nodes.keys().map(|&id| self.describe(id)).collect::<Vec<_>>().join("\n")
        );
        self.now = self.now.max(at);
        if id == u64::MAX {
            let letter = self.mail.swap_remove(what);
            if !self.cut_off.contains(&letter.to) {
                self.input(letter.to, Input::Message(letter.envelope));
            }
            return true;
        }
        match what {
            0 => self.input(id, Input::Tick),
            1 => {
                let (_, record) = self.node(id).votes.remove(0);
                self.votes.insert(id, record);
                self.input(id, Input::VoteWritten(record));
            }
            _ => {
                let (_, op, root) = self.node(id).roots.remove(0);
                self.input(id, Input::CutRoot { op, root });
            }
        }
        true
    }

    pub(super) fn run(&mut self, micros: u64) {
        let until = self.now + micros;
        while self.event(until) {}
        self.now = until;
    }

    /// Runs until something holds; fails after `limit` microseconds.
    pub(super) fn until(&mut self, what: &str, limit: u64, holds: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        while !holds(self) {
            if !self.event(end) {
                let seen: Vec<String> = self.nodes.keys().map(|&id| self.describe(id)).collect();
                panic!("not within {limit} us: {what}\n{}", seen.join("\n"));
            }
        }
    }

    pub(super) fn describe(&self, id: u64) -> String {
        let r = self.replica(id);
        format!(
            "replica {id}: {:?} ballot {} last normal {} vote {} op {} commit {} oldest {} pending {} {:?} {:?}",
            r.status(),
            r.ballot(),
            r.last_normal(),
            r.vote().ballot,
            r.op(),
            r.commit(),
            r.oldest(),
            r.pending(),
            r.counters(),
            self.nodes[&id].fatal
        )
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads =
            self.nodes.iter().filter(|(id, node)| node.replica.is_primary() && !self.cut_off.contains(id));
        leads.max_by_key(|(_, node)| node.replica.ballot()).map(|(id, _)| *id)
    }

    /// Submits and waits for the answer.
    pub(super) fn commit(&mut self, id: u64, body: &str) -> Op {
        let number = self.submit(id, body);
        self.until(&format!("an answer to {body}"), 10_000_000, |w| {
            w.nodes[&id].outcomes.contains_key(&number)
        });
        match self.nodes[&id].outcomes[&number] {
            Outcome::Reply(op) => op,
            other => panic!("{body} was {other:?}"),
        }
    }

    pub(super) fn lines(&self, id: u64) -> Vec<String> {
        let lines = &self.replica(id).state().lines;
        lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    pub(super) fn all_equal(&self) -> bool {
        let first = self.nodes.values().next().map(|n| (n.replica.op(), n.replica.digest()));
        self.nodes.values().all(|n| {
            n.replica.status() == Status::Normal
                && n.replica.op() == n.replica.commit()
                && Some((n.replica.op(), n.replica.digest())) == first
        })
    }
}
