//! One member: raft-rs with its log in memory, and the store that executes what it commits.

use crate::clients::Client;
use crate::peers::Link;
use anyhow::Result;
use protobuf::Message as _;
use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;
use vr_core::{Accepted, At, Incarnation, Op, RequestNumber, SessionId, StateMachine, batch};
use vr_store::{Options, Store};

/// Executed entries that are kept for a member that lags.
const KEPT: u64 = 4_096;
/// Bytes of requests in one entry, as in a VR replica.
const ENTRY: usize = 1 << 20;

pub struct Member {
    pub id: u64,
    raft: RawNode<MemStorage>,
    links: Vec<(u64, Link)>,
    store: Store,
    clients: BTreeMap<SessionId, Client>,
    /// Requests that came since the last turn.
    batches: Vec<Vec<u8>>,
    turn: Rc<Notify>,
}

impl Member {
    pub fn new(id: u64, links: Vec<(u64, Link)>) -> Result<Member> {
        let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            max_size_per_msg: 4 << 20,
            max_inflight_msgs: 256,
            ..Config::default()
        };
        let raft = RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!()))?;
        let (store, clients) = (Store::new(Options::default()), BTreeMap::new());
        Ok(Member { id, raft, links, store, clients, batches: Vec::new(), turn: Rc::default() })
    }

    /// Rings when something is to be done.
    pub fn turn(&self) -> Rc<Notify> {
        self.turn.clone()
    }

    pub fn tick(&mut self) {
        if self.raft.tick() {
            self.turn.notify_one();
        }
    }

    pub fn leader(&self) -> u64 {
        self.raft.raft.leader_id
    }

    pub fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    pub fn heard(&mut self, message: Message) {
        // One of another term, mostly: the protocol goes on without it.
        let _ = self.raft.step(message);
        self.turn.notify_one();
    }

    pub fn connected(&mut self, session: SessionId, client: Client) {
        self.clients.insert(session, client);
    }

    pub fn left(&mut self, session: SessionId) {
        self.clients.remove(&session);
    }

    pub fn asked(&mut self, session: SessionId, number: RequestNumber, body: &[u8]) {
        if self.batches.last().is_none_or(|batch| batch.len() > ENTRY) {
            self.batches.push(Vec::new());
        }
        let batch = self.batches.last_mut().expect("there is one now");
        batch::push(batch, session, number, body);
        self.turn.notify_one();
    }

    /// The end of a turn: what was gathered is proposed, and everything that raft wants is done.
    pub fn turn_over(&mut self) -> Result<()> {
        for batch in std::mem::take(&mut self.batches) {
            // Clients are with the leader; when it leaves, so do they.
            let _ = self.raft.propose(Vec::new(), batch);
        }
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.send(ready.take_messages());
            self.execute(ready.take_committed_entries());
            if !ready.entries().is_empty() {
                self.raft.mut_store().wl().append(ready.entries())?;
            }
            if let Some(state) = ready.hs() {
                self.raft.mut_store().wl().set_hardstate(state.clone());
            }
            self.send(ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raft.mut_store().wl().mut_hard_state().set_commit(commit);
            }
            self.send(light.take_messages());
            self.execute(light.take_committed_entries());
            self.raft.advance_apply();
        }
        let applied = self.raft.raft.raft_log.applied;
        if applied.is_multiple_of(KEPT) && applied > KEPT {
            self.raft.mut_store().wl().compact(applied - KEPT)?;
        }
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            if let Some((_, link)) = self.links.iter().find(|(id, _)| *id == message.to) {
                link.push(|out| message.write_to_vec(out).expect("memory takes everything"));
            }
        }
    }

    fn execute(&mut self, entries: Vec<Entry>) {
        let (mut replies, mut events, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            let requests: Vec<_> = batch::requests(&entry.data).flatten().collect();
            let accepted: Vec<_> = requests
                .iter()
                .map(|request| Accepted {
                    session: request.session,
                    number: request.number,
                    body: request.body,
                    reply_wanted: true,
                })
                .collect();
            // No time: nothing of a put depends on it.
            self.store.execute(At { op: Op(entry.index), time: 0 }, &accepted, &mut replies);
            for (request, reply) in requests.iter().zip(replies.drain(..)) {
                if let Some(client) = self.clients.get(&request.session) {
                    client.reply(request.number, &reply);
                }
            }
            self.store.drain_events(&mut events);
            self.store.drain_lease_changes(&mut leases);
            events.clear();
            leases.clear();
        }
    }

    /// A session for a client, which is a new one each time.
    pub fn session(&self, client: u64) -> SessionId {
        SessionId { client, incarnation: Incarnation(self.raft.raft.raft_log.last_index().max(1)) }
    }
}
