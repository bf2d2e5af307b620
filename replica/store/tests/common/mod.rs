//! A store with its log: what the tests drive.
#![allow(dead_code, reason = "each test file uses its part")]

use vr_core::{Accepted, At, Op, RequestNumber, SessionId, StateMachine};
use vr_store::{Body, Command, Event, Options, Put, Reply, Response, Revision, Span, Store};

/// A store, and where its log stands.
pub(crate) struct Driven {
    pub(crate) store: Store,
    pub(crate) op: Op,
}

impl Driven {
    pub(crate) fn new(options: Options) -> Driven {
        Driven { store: Store::new(options), op: Op(0) }
    }

    /// One entry with these requests.
    pub(crate) fn entry(&mut self, commands: &[Command<'_>]) -> Vec<Reply> {
        let bodies: Vec<Vec<u8>> = commands.iter().map(encoded).collect();
        self.bodies(&bodies.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// One entry with these bodies.
    pub(crate) fn bodies(&mut self, bodies: &[&[u8]]) -> Vec<Reply> {
        self.op = self.op.next();
        let session = SessionId::default();
        let accepted = |body| Accepted { session, number: RequestNumber(1), body, reply_wanted: true };
        let requests: Vec<_> = bodies.iter().copied().map(accepted).collect();
        let mut replies = Vec::new();
        self.store.execute(At { op: self.op, time: 0 }, &requests, &mut replies);
        assert_eq!(replies.len(), bodies.len(), "one reply a request");
        replies
    }

    /// One entry with one request.
    pub(crate) fn run(&mut self, command: &Command<'_>) -> Reply {
        self.entry(std::slice::from_ref(command)).pop().expect("one reply a request")
    }

    /// A put that must succeed; its revision.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Revision {
        self.run(&put(key, value)).expect("a plain put succeeds").revision
    }

    /// A deletion that must succeed; how many it found.
    pub(crate) fn delete(&mut self, key: &str, end: &str) -> u64 {
        let span = Span { key: key.as_bytes(), end: end.as_bytes() };
        let delete = vr_store::DeleteRange { span, prev_kv: false };
        match self.run(&Command::DeleteRange(delete)) {
            Ok(Response { body: Body::DeleteRange { deleted, .. }, .. }) => deleted,
            other => panic!("a plain deletion succeeds: {other:?}"),
        }
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Reply {
        self.run(&Command::Compact { revision: Revision(revision) })
    }

    /// Entries without requests, until everything compacted is removed.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.store.is_sweeping() {
                return;
            }
            self.entry(&[]);
        }
        panic!("the removal of compacted versions does not end");
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.store.drain_events(&mut events);
        events
    }
}

pub(crate) fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    command.encode(&mut body);
    body
}

pub(crate) fn put<'a>(key: &'a str, value: &'a str) -> Command<'a> {
    Command::Put(Put { key: key.as_bytes(), value: value.as_bytes(), ..Put::default() })
}
