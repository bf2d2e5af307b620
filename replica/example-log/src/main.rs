//! Three replicas of the log on loopback, over TCP: the primary is lost with its memory while records are appended, starts
//! again, and all three end with the same records.
//!
//! This is the whole of what a driver owes to `vr-core`: one thread in which every message, request and tick is an input,
//! vote records that are durable before the protocol hears of it, and effects that are carried out in order. It is written
//! to be read; a driver that is to be quick looks like `vr-replica`.

#![allow(clippy::disallowed_methods, reason = "a driver owns clocks and threads; the log beside it does not")]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use vr_core::{
    Ballot, Boot, Configuration, Digest, Effect, Effects, Envelope, Epoch, Generation, Incarnation, Input,
    Lineage, Message, Now, Op, Options, Replica, ReplicaId, RequestNumber, Start, VoteRecord,
};
use vr_example_log::{Answer, Log, PARTITIONS, Request};

const REPLICAS: u64 = 3;
const RECORDS: u64 = 500;
/// Inputs that wait; beyond that, who sends them does.
const QUEUE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

enum Event {
    Received(Envelope),
    /// `None` is answered if it was not executed, or nobody knows.
    Submit(Bytes, Sender<Option<Answer>>),
    Look(Sender<(Op, Digest)>),
}

/// The way to a replica's process, while there is one.
type Place = Arc<Mutex<Option<SyncSender<Event>>>>;

fn process(place: &Place) -> Option<SyncSender<Event>> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Hands every envelope that comes to a port to whoever runs there now.
fn listen(listener: TcpListener, place: Place) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let place = place.clone();
            thread::spawn(move || read(stream, &place));
        }
    });
}

fn read(mut stream: TcpStream, place: &Place) -> io::Result<()> {
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut frame = vec![0; u32::from_le_bytes(len).min(1 << 24) as usize];
        stream.read_exact(&mut frame)?;
        let envelope = postcard::from_bytes(&frame).map_err(io::Error::other)?;
        if let Some(process) = process(place) {
            // It may have ended a moment ago.
            let _ = process.send(Event::Received(envelope));
        }
    }
}

struct Process {
    replica: Replica<Log>,
    effects: Effects<Log>,
    began: Instant,
    vote: PathBuf,
    /// Where the others are, and the connections to them.
    peers: BTreeMap<ReplicaId, (SocketAddr, Option<TcpStream>)>,
    waiting: BTreeMap<RequestNumber, Sender<Option<Answer>>>,
    last: RequestNumber,
}

impl Process {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Now { mono: micros(self.began.elapsed()), wall: micros(wall) }
    }

    /// Until nobody can send it anything any more: then it is gone, with all that it had in memory.
    fn run(mut self, inbox: &Receiver<Event>) -> Result<(), Failure> {
        loop {
            let due =
                self.replica.next_deadline().map_or(u64::MAX, |due| due.saturating_sub(self.now().mono));
            let wait = Duration::from_micros(due.min(100_000));
            match inbox.recv_timeout(wait) {
                Ok(Event::Received(envelope)) => self.step(Input::Message(envelope))?,
                Ok(Event::Submit(body, answer)) => {
                    self.last.0 += 1;
                    self.waiting.insert(self.last, answer);
                    self.step(Input::Submit { number: self.last, body })?;
                }
                Ok(Event::Look(answer)) => {
                    let _ = answer.send((self.replica.commit(), self.replica.state().contents()));
                }
                Err(RecvTimeoutError::Timeout) => self.step(Input::Tick)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.step(Input::Turn)?;
        }
    }

    fn step(&mut self, input: Input) -> Result<(), Failure> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.replica.step(self.now(), input, &mut self.effects);
            self.carry_out(&mut inputs)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, inputs: &mut Vec<Input>) -> Result<(), Failure> {
        for effect in std::mem::take(&mut self.effects.0) {
            match effect {
                Effect::Send(to, message) => self.send(&[to], message)?,
                Effect::Broadcast(message) => {
                    let all: Vec<ReplicaId> = self.peers.keys().copied().collect();
                    self.send(&all, message)?;
                }
                Effect::WriteVote(record) => {
                    write_vote(&self.vote, &record)?;
                    inputs.push(Input::VoteWritten(record));
                }
                Effect::Cut { op, snapshot, .. } => inputs.push(Input::CutRoot { op, root: snapshot.root() }),
                Effect::Reply { number, reply, .. } => self.answer(number, Some(reply)),
                Effect::Rejected { number } | Effect::Unknown { number } => self.answer(number, None),
                Effect::Fatal(reason) => return Err(reason.into()),
                // What is thrown away here was handed out to be thrown away elsewhere.
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: RequestNumber, answer: Option<Answer>) {
        if let Some(asker) = self.waiting.remove(&number) {
            let _ = asker.send(answer);
        }
    }

    /// What cannot be sent is lost: the protocol says it again.
    fn send(&mut self, to: &[ReplicaId], message: Message) -> Result<(), Failure> {
        let VoteRecord { lineage, generation, replica: from, incarnation, .. } = *self.replica.vote();
        let frame = postcard::to_allocvec(&Envelope { lineage, generation, from, incarnation, message })?;
        let frame = [&u32::try_from(frame.len())?.to_le_bytes()[..], &frame].concat();
        for id in to {
            let Some((address, stream)) = self.peers.get_mut(id) else { continue };
            let sent = (|| {
                let connected = match stream.take() {
                    Some(connected) => connected,
                    None => TcpStream::connect(*address)?,
                };
                connected.set_nodelay(true)?;
                connected.set_write_timeout(Some(Duration::from_millis(200)))?;
                (&connected).write_all(&frame)?;
                io::Result::Ok(connected)
            })();
            *stream = sent.ok();
        }
        Ok(())
    }
}

fn write_vote(path: &Path, record: &VoteRecord) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&postcard::to_allocvec(record)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    Ok(std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?)
}

/// Starts a replica at its place. One that has a vote record there has lost its memory.
fn start(id: ReplicaId, dir: &Path, addresses: &[SocketAddr], place: &Place) -> Result<(), Failure> {
    let path = dir.join(format!("vote-{id}"));
    let found: Option<VoteRecord> = match std::fs::read(&path) {
        Ok(bytes) => Some(postcard::from_bytes(&bytes)?),
        Err(_) => None,
    };
    let (lineage, generation, ballot) = (Lineage([1; 16]), Generation(1), Ballot::default());
    let first = VoteRecord { lineage, generation, ballot, replica: id, incarnation: Incarnation(0) };
    let before = found.unwrap_or(first);
    let vote = VoteRecord { incarnation: Incarnation(before.incarnation.0 + 1), ..before };
    write_vote(&path, &vote)?;
    let state = Log::default();
    let start = match found {
        Some(_) => Start::Amnesiac { state },
        None => Start::Complete { state, log: Vec::new(), commit: Op(0), last_normal: ballot },
    };
    let configuration = Configuration::bare(Epoch(0), (1..=REPLICAS).map(ReplicaId));
    let boot = Boot { id, vote, configuration, begun: None, start, seed: id.0 };
    let mut effects = Effects::new();
    let replica = Replica::new(boot, Options::default(), Now { mono: 0, wall: 0 }, &mut effects)?;
    let others = (1..=REPLICAS).map(ReplicaId).zip(addresses).filter(|(other, _)| *other != id);
    let peers = others.map(|(other, address)| (other, (*address, None))).collect();
    let (began, waiting, last) = (Instant::now(), BTreeMap::new(), RequestNumber(0));
    let process = Process { replica, effects, began, vote: path, peers, waiting, last };
    let (outside, inbox) = mpsc::sync_channel(QUEUE);
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(outside);
    thread::spawn(move || {
        if let Err(error) = process.run(&inbox) {
            eprintln!("replica {id} has stopped: {error}");
        }
    });
    Ok(())
}

fn ask<T>(place: &Place, event: impl FnOnce(Sender<T>) -> Event) -> Option<T> {
    let (asker, answer) = mpsc::channel();
    process(place)?.send(event(asker)).ok()?;
    answer.recv_timeout(PATIENCE).ok()
}

fn append(places: &[Place], from: u64) -> Result<(), Failure> {
    for number in from..from + RECORDS {
        let partition = (number % PARTITIONS as u64) as u8;
        let record = format!("record {number}");
        let body: Bytes = Request::Append(partition, record.as_bytes()).encode().into();
        let began = Instant::now();
        // Any replica takes it and sends it on to the primary. One that is not answered is asked of the next, so that a
        // record may be there twice: `Input::Register` is what a client needs that minds.
        let mut places = places.iter().cycle();
        let place = places.find(|place| {
            began.elapsed() > PATIENCE
                || matches!(ask(place, |to| Event::Submit(body.clone(), to)), Some(Some(Answer::At(_))))
        });
        if began.elapsed() > PATIENCE || place.is_none() {
            return Err(format!("record {number} was not taken within {PATIENCE:?}").into());
        }
    }
    Ok(())
}

fn demonstrate(dir: &Path) -> Result<Digest, Failure> {
    let listeners: Vec<_> =
        (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let addresses: Vec<_> = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    let places: Vec<Place> = (0..REPLICAS).map(|_| Place::default()).collect();
    listeners.into_iter().zip(&places).for_each(|(listener, place)| listen(listener, place.clone()));
    for (id, place) in (1..).map(ReplicaId).zip(&places) {
        start(id, dir, &addresses, place)?;
    }
    append(&places, 0)?;
    println!("{RECORDS} records appended over three replicas");
    *places[0].lock().unwrap_or_else(PoisonError::into_inner) = None;
    let began = Instant::now();
    append(&places[1..], RECORDS)?;
    println!("the primary is lost with its memory; {RECORDS} more appended within {:?}", began.elapsed());
    start(ReplicaId(1), dir, &addresses, &places[0])?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let looks: Vec<_> = places.iter().map(|place| ask(place, Event::Look)).collect();
        if let Some((op, contents)) = looks[0]
            && looks.iter().all(|look| *look == looks[0])
        {
            println!("it is back, and all three hold the same through op {op}: {contents}");
            return Ok(contents);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err("the three did not come to hold the same".into())
}

fn main() -> ExitCode {
    let dir = std::env::temp_dir().join(format!("vr-example-log-{}", std::process::id()));
    let done = std::fs::create_dir(&dir).map_err(Failure::from).and_then(|()| demonstrate(&dir));
    let _ = std::fs::remove_dir_all(&dir);
    match done {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
