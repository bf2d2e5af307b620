//! What one replica can do, each thing computed once: its states and messages get numbers, and a step from a numbered
//! state on a numbered message has one outcome.
//!
//! There are far fewer states of single replicas than of all together, which is what makes the search quick.

#![allow(clippy::disallowed_types, reason = "sets and maps are only asked here, never gone through in order")]

use super::{Bounds, REPLICAS};
use crate::machine::Toy;
use crate::oracle::Broken;
use crate::rng::mix;
use crate::run::caught;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, RwLock};
use vr_core::{
    Ballot, Boot, Configuration, Effect, Effects, Envelope, Epoch, Generation, Header, Incarnation, Input,
    Lineage, Message, Now, Op, Options, Replica, ReplicaId, RequestNumber, Start, Status, View, VoteRecord,
};

const LINEAGE: Lineage = Lineage([7; 16]);
const GENERATION: Generation = Generation(1);
const EPOCH: Epoch = Epoch(0);
/// A time that never comes: nothing is lost here, so nothing needs to be repeated.
const NEVER: u64 = 1 << 50;
const WALL: u64 = 1_767_225_600_000_000;

/// A replica at some point of its life.
pub(super) struct Local {
    pub(super) replica: Replica<Toy>,
    /// What the disk has been told to write and has not written.
    writing: Option<VoteRecord>,
    /// Writes that its clients have made in this life.
    submitted: u64,
    mono: u64,
}

/// A replica's state by its number, and what is asked of it most.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) number: u32,
    pub(super) hash: u64,
    /// Its patience with its view can end.
    pub(super) can_time_out: bool,
    /// Clients write here.
    pub(super) takes_writes: bool,
    /// A promise is on its way to the disk.
    pub(super) is_writing: bool,
}

/// A message on its way, by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) number: u32,
    pub(super) from: u8,
    pub(super) to: u8,
    pub(super) hash: u64,
}

/// A message.
pub(super) struct Posted {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) envelope: Envelope,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A message arrives; those sent before it on the same link are lost.
    Deliver(u32),
    /// A message arrives before some that were sent earlier on the same link.
    Overtake(u32),
    /// A replica's patience with its view ends.
    Timeout(u8),
    /// A replica loses its memory and starts again.
    Crash(u8),
    /// A client writes at a replica.
    Write(u8),
    /// A replica's promise is durable.
    Durable(u8),
}

/// What a step comes to.
pub(super) struct Outcome {
    pub(super) next: Here,
    pub(super) sent: Vec<Sent>,
    pub(super) committed: Vec<Header>,
    /// It became the primary of this ballot.
    pub(super) leads: Option<Ballot>,
    pub(super) broken: Option<Broken>,
}

/// A number for each different thing.
struct Numbered<K, V> {
    numbers: HashMap<K, u32>,
    things: Vec<Arc<V>>,
}

impl<K: std::hash::Hash + Eq, V> Numbered<K, V> {
    fn new() -> Numbered<K, V> {
        Numbered { numbers: HashMap::new(), things: Vec::new() }
    }

    fn number(&mut self, key: K, thing: impl FnOnce() -> V) -> u32 {
        match self.numbers.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let number = u32::try_from(self.things.len()).expect("fewer than 2^32 of anything");
                self.things.push(Arc::new(thing()));
                *new.insert(number)
            }
        }
    }
}

/// All that is known of single replicas.
pub(super) struct Tables {
    pub(super) bounds: Bounds,
    configuration: Configuration,
    locals: RwLock<Numbered<[u8; 16], Local>>,
    messages: RwLock<Numbered<[u8; 16], Posted>>,
}

/// What a thread has looked up before.
#[derive(Default)]
pub(super) struct Cache {
    outcomes: HashMap<(u32, Action), Arc<Outcome>>,
}

fn wide(bytes: &[u8]) -> [u8; 16] {
    blake3::hash(bytes).as_bytes()[..16].try_into().expect("sixteen of 32 bytes")
}

fn narrow(wide: [u8; 16]) -> u64 {
    u64::from_le_bytes(wide[..8].try_into().expect("eight of sixteen bytes"))
}

impl Tables {
    pub(super) fn new(bounds: &Bounds) -> Tables {
        let order = (1..=REPLICAS as u64).map(ReplicaId);
        Tables {
            bounds: bounds.clone(),
            configuration: Configuration::bare(EPOCH, order),
            locals: RwLock::new(Numbered::new()),
            messages: RwLock::new(Numbered::new()),
        }
    }

    /// From here on, replicas on this thread break the rule that the bounds name.
    pub(super) fn break_rules(&self) {
        #[cfg(feature = "mutants")]
        vr_core::mutants::switch(self.bounds.mutant);
    }

    /// The opposite.
    pub(super) fn keep_rules(&self) {
        #[cfg(feature = "mutants")]
        vr_core::mutants::switch(None);
    }

    pub(super) fn local(&self, number: u32) -> Arc<Local> {
        self.locals.read().expect(NOBODY_PANICS).things[number as usize].clone()
    }

    pub(super) fn message(&self, number: u32) -> Arc<Posted> {
        self.messages.read().expect(NOBODY_PANICS).things[number as usize].clone()
    }

    /// The three before anything has happened.
    pub(super) fn beginning(&self) -> [Here; REPLICAS] {
        self.break_rules();
        let beginning = std::array::from_fn(|index| {
            let vote = VoteRecord {
                lineage: LINEAGE,
                generation: GENERATION,
                ballot: Ballot { epoch: EPOCH, view: View(0) },
                replica: ReplicaId(index as u64 + 1),
                incarnation: Incarnation(1),
            };
            let start = Start::Complete {
                state: Toy::default(),
                log: Vec::new(),
                commit: Op(0),
                last_normal: vote.ballot,
            };
            self.boot(index, vote, start).next
        });
        self.keep_rules();
        beginning
    }

    fn options() -> Options {
        Options {
            heartbeat: 20_000,
            view_timeout: 200_000,
            retry: NEVER,
            batch_bytes: 1 << 16,
            pipeline: 8,
            window: 64,
            log_bytes: 1 << 20,
            portion_bytes: 128 << 10,
        }
    }

    fn boot(&self, index: usize, vote: VoteRecord, start: Start<Toy>) -> Outcome {
        let (id, configuration) = (vote.replica, self.configuration.clone());
        let mut effects = Effects::new();
        let boot = Boot { id, vote, configuration, begun: None, start, seed: id.0 };
        let now = Now { mono: 0, wall: WALL };
        let replica =
            Replica::new(boot, Self::options(), now, &mut effects).expect("it is told nothing wrong");
        let local = Local { replica, writing: None, submitted: 0, mono: 0 };
        self.carry_out(index, local, effects)
    }

    /// What a replica does; looked up if it was asked before.
    pub(super) fn outcome(
        &self,
        cache: &mut Cache,
        local: Here,
        index: usize,
        action: Action,
    ) -> Arc<Outcome> {
        let action = match action {
            Action::Overtake(message) => Action::Deliver(message),
            other => other,
        };
        let outcome = cache.outcomes.entry((local.number, action));
        outcome.or_insert_with(|| Arc::new(self.step(local, index, action))).clone()
    }

    fn step(&self, here: Here, index: usize, action: Action) -> Outcome {
        let before = self.local(here.number);
        let stepped = caught(|| match action {
            Action::Crash(_) => {
                let mut vote = *before.replica.vote();
                vote.incarnation = Incarnation(vote.incarnation.0 + 1);
                if self.bounds.without_votes {
                    vote.ballot.view = View(0);
                }
                self.boot(index, vote, Start::Amnesiac { state: Toy::default() })
            }
            Action::Deliver(message) | Action::Overtake(message) => {
                self.input(index, &before, Input::Message(self.message(message).envelope.clone()))
            }
            Action::Timeout(_) => self.input(index, &before, Input::Tick),
            Action::Durable(_) => {
                let record = before.writing.expect("only a promise on its way becomes durable");
                self.input(index, &before, Input::VoteWritten(record))
            }
            Action::Write(_) => {
                let number = before.submitted + 1;
                let unique = (index as u64 + 1) << 32 | before.replica.vote().incarnation.0 << 16 | number;
                let body = [0, unique].iter().flat_map(|word| word.to_le_bytes()).collect::<Bytes>();
                self.input(index, &before, Input::Submit { number: RequestNumber(number), body })
            }
        });
        stepped.unwrap_or_else(|said| Outcome {
            next: here,
            sent: Vec::new(),
            committed: Vec::new(),
            leads: None,
            broken: Some(Broken::new("never-panics", said)),
        })
    }

    fn input(&self, index: usize, before: &Local, input: Input) -> Outcome {
        let mut local = Local { replica: before.replica.clone(), ..*before };
        match input {
            Input::Tick => local.mono = local.mono.max(local.replica.next_deadline().unwrap_or(0)),
            Input::Submit { .. } => local.submitted += 1,
            Input::VoteWritten(_) => local.writing = None,
            _ => {}
        }
        let mut effects = Effects::new();
        local.replica.step(Now { mono: local.mono, wall: WALL }, input, &mut effects);
        self.carry_out(index, local, effects)
    }

    /// Does what a driver does, until there is nothing left to do at once; then the turn ends.
    fn carry_out(&self, index: usize, mut local: Local, mut effects: Effects<Toy>) -> Outcome {
        let now = Now { mono: local.mono, wall: WALL };
        let (mut sent, mut committed, mut leads, mut broken) = (Vec::new(), Vec::new(), None, None);
        local.replica.step(now, Input::Turn, &mut effects);
        while !effects.0.is_empty() {
            for effect in std::mem::take(&mut effects.0) {
                match effect {
                    Effect::Send(_, Message::Standing { .. })
                    | Effect::Broadcast(Message::Standing { .. })
                        if !self.bounds.standings => {}
                    Effect::Send(to, message) => {
                        sent.push(self.post(index, &local, to.0 as usize - 1, message));
                    }
                    Effect::Broadcast(message) => {
                        for to in (0..REPLICAS).filter(|&to| to != index) {
                            sent.push(self.post(index, &local, to, message.clone()));
                        }
                    }
                    Effect::WriteVote(record) if self.bounds.slow_votes => local.writing = Some(record),
                    Effect::WriteVote(record) => {
                        local.replica.step(now, Input::VoteWritten(record), &mut effects);
                        local.replica.step(now, Input::Turn, &mut effects);
                    }
                    Effect::Committed(entry) => committed.push(entry.header),
                    Effect::Standing(Status::Normal, ballot) if local.replica.is_primary() => {
                        leads = Some(ballot);
                    }
                    Effect::Fatal(reason) => broken = Some(Broken::new("nothing-fatal", reason)),
                    _ => {}
                }
            }
        }
        let fingerprint = local.replica.fingerprint();
        let rest = format!("{:?} {} {}", local.writing, local.submitted, local.mono);
        let key = wide(&[&fingerprint, rest.as_bytes()].concat());
        let replica = &local.replica;
        let mut next = Here {
            number: 0,
            hash: narrow(key),
            can_time_out: !replica.is_primary() && replica.next_deadline().is_some_and(|at| at < NEVER),
            takes_writes: replica.is_primary(),
            is_writing: local.writing.is_some(),
        };
        next.number = self.locals.write().expect(NOBODY_PANICS).number(key, || local);
        Outcome { next, sent, committed, leads, broken }
    }

    fn post(&self, from: usize, local: &Local, to: usize, message: Message) -> Sent {
        let vote = local.replica.vote();
        let envelope = Envelope {
            lineage: LINEAGE,
            generation: GENERATION,
            from: vote.replica,
            incarnation: vote.incarnation,
            message,
        };
        let key = wide(format!("{to} {envelope:?}").as_bytes());
        let mut messages = self.messages.write().expect(NOBODY_PANICS);
        let number = messages.number(key, || Posted { from, to, envelope });
        Sent { number, from: from as u8, to: to as u8, hash: mix(narrow(key)) }
    }
}

const NOBODY_PANICS: &str = "nothing panics while it has the tables";
