//! What one replica can do, each thing computed once: its states and messages get numbers, and a step from a numbered
//! state on a numbered message has one outcome.
//!
//! There are far fewer states of single replicas than of all together, which is what makes the search quick.

#![allow(clippy::disallowed_types, reason = "sets and maps are only asked here, never gone through in order")]

use super::change::{CHANGES, changed};
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
    Ballot, Begun, Boot, Configuration, Digest, Effect, Effects, Envelope, Epoch, Generation, Header,
    Incarnation, Input, Lineage, Message, Now, Op, Options, Replica, ReplicaId, RequestNumber, Start, Status,
    View, VoteRecord,
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
    /// Which members it was told of last, and where their epoch begins.
    members: Arc<(Configuration, Option<Begun>)>,
    /// It is no member any more, and its process has ended.
    gone: bool,
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
    /// Which changes of the members may be proposed here, by bit.
    pub(super) changes: u16,
    /// It has ended.
    pub(super) gone: bool,
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
    /// At a primary, a change of the members is proposed.
    Change(u8, u8),
}

/// What a step comes to.
pub(super) struct Outcome {
    pub(super) next: Here,
    pub(super) sent: Vec<Sent>,
    pub(super) committed: Vec<Header>,
    /// It became the primary of this ballot.
    pub(super) leads: Option<Ballot>,
    /// It was told of, or came to, these members.
    pub(super) taken: Option<(Epoch, Digest)>,
    pub(super) broken: Option<Broken>,
}

impl Local {
    /// The same, to be changed.
    fn again(&self) -> Local {
        Local { replica: self.replica.clone(), members: self.members.clone(), ..*self }
    }
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
            let members = Arc::new((self.configuration.clone(), None));
            self.boot(index, vote, members, start).next
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
            window_bytes: 1 << 20,
            log_bytes: 1 << 20,
            portion_bytes: 128 << 10,
        }
    }

    fn boot(
        &self,
        index: usize,
        vote: VoteRecord,
        members: Arc<(Configuration, Option<Begun>)>,
        start: Start<Toy>,
    ) -> Outcome {
        let (id, (configuration, begun)) = (vote.replica, (*members).clone());
        let mut effects = Effects::new();
        let boot = Boot { id, vote, configuration, begun, start, seed: id.0 };
        let now = Now { mono: 0, wall: WALL };
        let replica =
            Replica::new(boot, Self::options(), now, &mut effects).expect("it is told nothing wrong");
        let local = Local { replica, writing: None, submitted: 0, mono: 0, members, gone: false };
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
        let is_member = before.members.0.member(before.replica.vote().replica).is_some();
        let stepped = caught(|| match action {
            // Whoever runs it is told that it is no member, and does not start it again (R18).
            Action::Crash(_) if !is_member => {
                let ended = Local { gone: true, ..before.again() };
                self.carry_out(index, ended, Effects::new())
            }
            Action::Crash(_) => {
                let mut vote = *before.replica.vote();
                vote.incarnation = Incarnation(vote.incarnation.0 + 1);
                if self.bounds.without_votes {
                    vote.ballot.view = View(0);
                }
                self.boot(index, vote, before.members.clone(), Start::Amnesiac { state: Toy::default() })
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
            Action::Change(_, change) => {
                let replaces = before.replica.configuration();
                let next = changed(replaces, change).expect("only changes that are possible are proposed");
                let token = u64::from(change);
                self.input(index, &before, Input::Reconfigure { token, replaces: replaces.id(), next })
            }
        });
        stepped.unwrap_or_else(|said| Outcome {
            next: here,
            sent: Vec::new(),
            committed: Vec::new(),
            leads: None,
            taken: None,
            broken: Some(Broken::new("never-panics", said)),
        })
    }

    fn input(&self, index: usize, before: &Local, input: Input) -> Outcome {
        let mut local = before.again();
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
        let (mut sent, mut committed, mut leads) = (Vec::new(), Vec::new(), None);
        let (mut taken, mut broken) = (None, None);
        if !local.gone {
            local.replica.step(now, Input::Turn, &mut effects);
        }
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
                        let members = local.members.clone();
                        let is_other = |to: &usize| {
                            *to != index && members.0.member(ReplicaId(*to as u64 + 1)).is_some()
                        };
                        for to in (0..REPLICAS).filter(is_other) {
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
                    Effect::Configuration(configuration, begun) => {
                        taken = Some((configuration.epoch, configuration.id()));
                        local.members = Arc::new((configuration, begun));
                    }
                    Effect::Retired(_) => local.gone = true,
                    Effect::Fatal(reason) => broken = Some(Broken::new("nothing-fatal", reason)),
                    _ => {}
                }
            }
        }
        let fingerprint = local.replica.fingerprint();
        let (writing, (members, begun)) = (local.writing, &*local.members);
        let rest = format!(
            "{writing:?} {} {} {} {begun:?} {}",
            local.submitted, local.mono, members.epoch, local.gone
        );
        let key = wide(&[&fingerprint, rest.as_bytes()].concat());
        let (replica, gone) = (&local.replica, local.gone);
        let leading = replica.is_primary() && !gone;
        let possible = |change: &u8| changed(replica.configuration(), *change).is_some();
        let changes = (0..CHANGES).filter(possible).fold(0, |bits, change| bits | 1 << change);
        let waits = replica.next_deadline().is_some_and(|at| at < NEVER);
        let mut next = Here {
            number: 0,
            hash: narrow(key),
            can_time_out: !replica.is_primary() && waits && !gone,
            takes_writes: leading,
            is_writing: local.writing.is_some() && !gone,
            changes: if leading { changes } else { 0 },
            gone,
        };
        next.number = self.locals.write().expect(NOBODY_PANICS).number(key, || local);
        Outcome { next, sent, committed, leads, taken, broken }
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
