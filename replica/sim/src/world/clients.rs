//! Clients: each asks one thing at a time through some replica's gateway, waits, and moves on when it has waited long
//! enough. Nobody repeats a write whose fate is unknown, so each body is executed once or never.

use super::node::{Asker, Reading};
use super::{Event, World, packed};
use crate::coverage::Seen;
use crate::machine::Machine;
use crate::oracle::Check;
use crate::oracle::linear::Call;
use crate::trace::What;
use bytes::Bytes;
use vr_core::{Input, RequestNumber, SessionId};

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// The replica it talks to.
    home: usize,
    /// Counts its questions; what belongs to an earlier one is void.
    serial: u64,
}

impl<M: Machine> World<M> {
    pub(super) fn begin_clients(&mut self) {
        for client in 0..self.plan.load.clients {
            let home = self.clients_rng.index(self.nodes.len());
            self.clients.push(Client { home, serial: 0 });
            let at = self.clients_rng.below(self.plan.options.view_timeout);
            self.queue.push(at, Event::Ask { client, serial: 0 });
        }
    }

    /// A client asks its next question.
    pub(super) fn ask(&mut self, client: usize, serial: u64) -> Check {
        if self.clients[client].serial != serial || self.phase != super::healing::Phase::Faults {
            return Ok(());
        }
        self.clients[client].serial += 1;
        let serial = self.clients[client].serial;
        let home = self.clients[client].home;
        let patience = self.time + self.plan.load.patience;
        self.queue.push(patience, Event::Patience { client, serial });
        if !self.is_awake(home) {
            return Ok(());
        }
        let asker = Asker { client, serial };
        if self.clients_rng.chance(self.plan.load.reads) {
            self.begin_read(home, Some(asker)).map(|_| ())
        } else {
            self.begin_write(home, Some(asker)).map(|_| ())
        }
    }

    /// Something to ask in a session that nobody has asked before, and its call in the clients' history.
    pub(super) fn new_request(&mut self, session: SessionId) -> (RequestNumber, Bytes, Option<Call>) {
        self.asked_ever += 1;
        let load = &self.plan.load;
        let padding = self.clients_rng.below(load.padding + 1) as usize;
        let body = M::request(&mut self.clients_rng, self.asked_ever, load.keys, padding);
        let number = self.gateways.asked(session, body.clone());
        let call = M::appends(&body).map(|(key, value)| self.cells.begin(key, Some(value)));
        (number, body, call)
    }

    /// A gateway gets a write.
    pub(super) fn begin_write(
        &mut self,
        index: usize,
        asker: Option<Asker>,
    ) -> Result<RequestNumber, crate::oracle::Broken> {
        let (number, body, call) = self.new_request(self.nodes[index].session());
        self.nodes[index].calls.extend(call.map(|call| (number, call)));
        if let Some(asker) = asker {
            self.nodes[index].asked.insert(number, asker);
        }
        let ballot = packed(self.nodes[index].ballot);
        self.note(index, What::Submit, "", number.0, ballot, self.asked_ever);
        self.step(index, Input::Submit { number, body })?;
        Ok(number)
    }

    /// A gateway gets a linearizable read.
    pub(super) fn begin_read(
        &mut self,
        index: usize,
        asker: Option<Asker>,
    ) -> Result<u64, crate::oracle::Broken> {
        let floor = self.gateways.shown();
        // Not drawn: a world without reads of cells must not differ from one with them.
        let key = self.nodes[index].next_token % self.plan.load.keys;
        let cell = M::empty().cell(key).map(|_| (key, self.cells.begin(key, None)));
        let node = &mut self.nodes[index];
        node.next_token += 1;
        let token = node.next_token;
        node.reads.insert(token, Reading { floor, cell });
        if let Some(asker) = asker {
            node.asked_reads.insert(token, asker);
        }
        let ballot = packed(self.nodes[index].ballot);
        self.note(index, What::Read, "", token, ballot, floor.0);
        self.step(index, Input::Read { token })?;
        Ok(token)
    }

    /// A request got its word.
    pub(super) fn answered(&mut self, index: usize, number: RequestNumber) -> Check {
        match self.nodes[index].asked.remove(&number) {
            Some(asker) => self.content(asker),
            None => Ok(()),
        }
    }

    /// Whoever asked has an answer, and thinks about the next question.
    pub(super) fn content(&mut self, asker: Asker) -> Check {
        if self.clients[asker.client].serial == asker.serial {
            self.next_question(asker.client);
        }
        Ok(())
    }

    fn next_question(&mut self, client: usize) {
        let after = 1 + self.clients_rng.below(self.plan.load.think + 1);
        let serial = self.clients[client].serial;
        self.queue.push(self.time + after, Event::Ask { client, serial });
    }

    /// A client has waited long enough.
    pub(super) fn lose_patience(&mut self, client: usize, serial: u64) -> Check {
        if self.clients[client].serial == serial {
            self.coverage.seen(Seen::ClientTimeout);
            // So that an answer that comes now is nobody's.
            self.clients[client].serial += 1;
            self.clients[client].home = self.clients_rng.index(self.nodes.len());
            self.next_question(client);
        }
        Ok(())
    }

    /// Those who waited at a process that is gone notice, and go elsewhere.
    pub(super) fn orphan_clients(&mut self, index: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].home == index {
                self.clients[client].serial += 1;
                self.clients[client].home = self.clients_rng.index(self.nodes.len());
                self.next_question(client);
            }
        }
    }
}
