//! Three replicas in one process, each with a recorder; what they recorded is told again.

use bytes::Bytes;
use std::collections::VecDeque;
use vr_core::*;
use vr_recorder::{Difference, ReadError, Recorder, Recording};
use vr_store::{Command, Options as StoreOptions, Put, Store};

struct Member {
    replica: Replica<Store>,
    recorder: Recorder,
    votes: VecDeque<VoteRecord>,
    roots: VecDeque<(Op, Digest)>,
    submitted: u64,
}

struct Cluster {
    now: u64,
    members: Vec<Member>,
    mail: VecDeque<(usize, Envelope)>,
}

impl Cluster {
    fn new(limit: usize) -> Cluster {
        let ids = || (1..=3).map(ReplicaId);
        let mut cluster = Cluster { now: 1_000, members: Vec::new(), mail: VecDeque::new() };
        let mut first = Vec::new();
        for id in ids() {
            let vote = VoteRecord {
                lineage: Lineage([3; 16]),
                generation: Generation(1),
                ballot: Ballot::default(),
                replica: id,
                incarnation: Incarnation(1),
            };
            let (state, log) = (Store::new(StoreOptions::default()), Vec::new());
            let start = Start::Complete { state, log, commit: Op(0), last_normal: Ballot::default() };
            let configuration = Configuration::bare(Epoch(0), ids());
            let boot = Boot { id, vote, configuration, begun: None, start, seed: id.0 };
            let mut effects = Effects::new();
            let now = Now { mono: cluster.now, wall: cluster.now };
            let replica = Replica::new(boot, Options::default(), now, &mut effects).expect("in order");
            let (votes, roots) = (VecDeque::new(), VecDeque::new());
            let recorder = Recorder::new(limit);
            cluster.members.push(Member { replica, recorder, votes, roots, submitted: 0 });
            first.push(effects);
        }
        for (index, effects) in first.into_iter().enumerate() {
            cluster.carry_out(index, effects);
        }
        cluster
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = Now { mono: self.now, wall: self.now + 7 };
        let Member { replica, recorder, .. } = &mut self.members[index];
        let mut effects = Effects::new();
        recorder.told(now, &input);
        replica.step(now, input, &mut effects);
        drop(recorder.did(replica, &effects));
        self.carry_out(index, effects);
    }

    fn carry_out(&mut self, index: usize, effects: Effects<Store>) {
        for effect in effects.0 {
            let me = &mut self.members[index];
            let vote = me.replica.vote();
            let envelope = |message| Envelope {
                lineage: vote.lineage,
                generation: vote.generation,
                from: vote.replica,
                incarnation: vote.incarnation,
                message,
            };
            match effect {
                Effect::Send(to, message) => self.mail.push_back((to.0 as usize - 1, envelope(message))),
                Effect::Broadcast(message) => {
                    let envelope = envelope(message);
                    let others = (0..3).filter(|to| *to != index);
                    self.mail.extend(others.map(|to| (to, envelope.clone())));
                }
                Effect::WriteVote(record) => me.votes.push_back(record),
                Effect::Cut { op, snapshot, .. } => me.roots.push_back((op, Digest(snapshot.root()))),
                Effect::Fatal(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }

    /// A millisecond; messages to and from `away` are lost.
    fn pass(&mut self, away: Option<usize>) {
        self.now += 1_000;
        for index in 0..3 {
            self.input(index, Input::Tick);
            while let Some(record) = self.members[index].votes.pop_front() {
                self.input(index, Input::VoteWritten(record));
            }
            while let Some((op, root)) = self.members[index].roots.pop_front() {
                self.input(index, Input::CutRoot { op, root });
            }
        }
        while let Some((to, envelope)) = self.mail.pop_front() {
            if ![Some(to), Some(envelope.from.0 as usize - 1)].contains(&away) || away.is_none() {
                self.input(to, Input::Message(envelope));
            }
        }
        (0..3).for_each(|index| self.input(index, Input::Turn));
    }

    fn put(&mut self, index: usize, key: &str, value: &[u8]) {
        let mut body = Vec::new();
        Command::Put(Put { key: key.as_bytes(), value, ..Put::default() }).encode(&mut body);
        self.members[index].submitted += 1;
        let number = RequestNumber(self.members[index].submitted);
        self.input(index, Input::Submit { number, body: Bytes::from(body) });
    }

    fn recording(&mut self, index: usize) -> Vec<u8> {
        let Member { replica, recorder, .. } = &mut self.members[index];
        let tape = recorder.tape(replica).expect("it records");
        let mut bytes = Vec::new();
        tape.write(StoreOptions::default(), &mut bytes).expect("memory takes it");
        bytes
    }
}

/// Writes, cuts, and a primary that goes away and comes back.
fn a_story(limit: usize) -> Cluster {
    let mut cluster = Cluster::new(limit);
    for i in 0..1_500u64 {
        let away = (500..1_000).contains(&i).then_some(0);
        let at = if away.is_some() { 1 + (i % 2) as usize } else { (i % 3) as usize };
        cluster.put(at, &format!("key{}", i % 97), &i.to_le_bytes());
        if i % 200 == 0 {
            (0..3).for_each(|index| cluster.input(index, Input::Cut));
        }
        cluster.pass(away);
    }
    (0..400).for_each(|_| cluster.pass(None));
    cluster
}

#[test]
fn all_that_was_recorded_comes_to_the_same_again() {
    for limit in [1 << 20, 1 << 30] {
        let mut cluster = a_story(limit);
        assert!(cluster.members.iter().any(|member| member.replica.ballot().view > View(0)));
        for index in 0..3 {
            assert!(cluster.members[index].recorder.bytes() < limit + (4 << 10));
            let recording = Recording::read(&cluster.recording(index)).expect("it was just written");
            let mut heard = 0;
            let replayed = recording.replay(|_| heard += 1).expect("the same comes of it");
            assert_eq!((replayed.steps, heard), (recording.len(), recording.len()));
            assert_eq!(replayed.op, cluster.members[index].replica.commit());
            assert!(replayed.root.is_some() && replayed.roots > 0, "{replayed:?}");
            // With a large ring it begins at the beginning, with a small one it does not.
            assert_eq!(recording.len() > 5_000, limit == 1 << 30, "{} steps", recording.len());
        }
    }
}

#[test]
fn one_input_that_was_another_is_noticed() {
    let mut cluster = a_story(1 << 20);
    let bytes = cluster.recording(1);
    // The recorder of one replica, told about the steps of another: the first effect that differs ends it.
    let Member { replica, recorder, .. } = &mut cluster.members[1];
    let mut effects = Effects::new();
    let now = Now { mono: 1 << 40, wall: 1 << 40 };
    recorder.told(now, &Input::Turn);
    replica.step(now, Input::Tick, &mut effects);
    assert!(!effects.0.is_empty(), "a primary or a backup has something to say after so long");
    drop(recorder.did(replica, &effects));
    let recording = Recording::read(&cluster.recording(1)).expect("it was just written");
    match recording.replay(|_| {}) {
        Err(Difference::Effects { step, .. }) => assert_eq!(step, recording.len() - 1),
        other => panic!("{other:?}"),
    }
    assert!(Recording::read(&bytes).expect("as it was").replay(|_| {}).is_ok());
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let mut cluster = Cluster::new(1 << 20);
    cluster.pass(None);
    let bytes = cluster.recording(0);
    assert!(Recording::read(&bytes).is_ok());
    assert!(matches!(Recording::read(b"PK\x03\x04 something else"), Err(ReadError::Foreign)));
    let mut newer = bytes.clone();
    newer[8] = 3;
    assert!(matches!(Recording::read(&newer), Err(ReadError::Format(3))));
    for cut in [8, 11, 20, bytes.len() / 2, bytes.len() - 1] {
        assert!(matches!(Recording::read(&bytes[..cut]), Err(ReadError::Damaged(_))), "{cut}");
    }
    for at in (12..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(matches!(Recording::read(&flipped), Err(ReadError::Damaged(_))), "{at}");
    }
}

#[test]
fn a_recorder_without_room_records_nothing() {
    let mut cluster = Cluster::new(0);
    cluster.put(0, "a", b"b");
    (0..10).for_each(|_| cluster.pass(None));
    let Member { replica, recorder, .. } = &mut cluster.members[0];
    assert_eq!(recorder.bytes(), 0);
    assert!(recorder.tape(replica).is_none());
}
