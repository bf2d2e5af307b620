//! Clients with sessions of their own: each asks the same thing again, of whichever replica, until it has an answer.
//!
//! What a client asks twice is executed once, whoever it asked (the oracle `exactly-once` knows no gateways).

use super::{Event, World};
use crate::coverage::Seen;
use crate::machine::Machine;
use crate::oracle::linear::Call;
use crate::oracle::{Broken, Check, Outcome};
use crate::trace::What;
use bytes::Bytes;
use vr_core::{Fate, Input, Op, RequestNumber, SessionId};

/// One of them.
#[derive(Debug)]
pub(super) struct Native {
    /// The name under which it asks for a session: its own number, plus that of all of them for each it had before.
    name: u64,
    home: usize,
    serial: u64,
    session: Option<SessionId>,
    waiting: Option<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    number: RequestNumber,
    body: Bytes,
    call: Option<Call>,
}

impl<M: Machine> World<M> {
    pub(super) fn begin_sessions(&mut self) {
        for client in 0..self.plan.load.sessions {
            let home = self.clients_rng.index(self.nodes.len());
            let name = SessionId::CLIENT | client as u64;
            self.sessions.push(Native { name, home, serial: 0, session: None, waiting: None });
            let at = self.clients_rng.below(self.plan.options.view_timeout);
            self.queue.push(at, Event::Session { client, serial: 0 });
        }
    }

    /// A client asks what it has to ask, or asks it again.
    pub(super) fn go_on_asking(&mut self, client: usize, serial: u64) -> Check {
        if self.sessions[client].serial != serial || self.phase != super::healing::Phase::Faults {
            return Ok(());
        }
        let again = self.sessions[client].waiting.is_some();
        if serial > 0 && (again || self.sessions[client].session.is_none()) {
            self.move_on(client)?;
        }
        let native = &mut self.sessions[client];
        native.serial += 1;
        let (home, serial) = (native.home, native.serial);
        let patience = 1 + self.clients_rng.below(2 * self.plan.options.view_timeout);
        self.queue.push(self.time + patience, Event::Session { client, serial });
        if !self.is_awake(home) {
            return Ok(());
        }
        let native = &self.sessions[client];
        let Some(session) = native.session else {
            let name = native.name;
            return self.step(home, Input::Register { client: name });
        };
        if again {
            self.coverage.seen(Seen::SessionRetry);
        } else {
            let (number, body, call) = self.new_request(session);
            self.sessions[client].waiting = Some(Waiting { number, body, call });
        }
        let Waiting { number, body, .. } = self.sessions[client].waiting.clone().expect("it was just asked");
        self.note(home, What::Session, if again { "again" } else { "" }, client as u64, 0, number.0);
        self.step(home, Input::Requests { session, requests: vec![(number, body)] })
    }

    /// It turns to another replica, perhaps, and says so to the one before, perhaps.
    fn move_on(&mut self, client: usize) -> Check {
        let before = self.sessions[client].home;
        self.sessions[client].home = self.clients_rng.index(self.nodes.len());
        let Native { name, session, .. } = self.sessions[client];
        let session = session.unwrap_or(SessionId { client: name, incarnation: vr_core::Incarnation(0) });
        match self.is_awake(before) && self.clients_rng.below(2) == 0 {
            true => self.step(before, Input::Leave { session }),
            false => Ok(()),
        }
    }

    fn client_of(&self, session: SessionId) -> Result<usize, Broken> {
        let name = session.client ^ SessionId::CLIENT;
        let known = name.checked_rem(self.sessions.len() as u64).map(|client| client as usize);
        known.filter(|&client| session.client <= self.sessions[client].name).ok_or_else(|| {
            Broken::new("no-invented-clients", format!("{session:?} is answered; there is no such client"))
        })
    }

    /// Whether a client is connected to a replica, in this session.
    fn talks(&self, client: usize, index: usize, session: SessionId) -> bool {
        let native = &self.sessions[client];
        native.home == index && native.session == Some(session)
    }

    fn think(&mut self, client: usize) {
        let after = 1 + self.clients_rng.below(self.plan.load.think + 1);
        let native = &mut self.sessions[client];
        native.serial += 1;
        self.queue.push(self.time + after, Event::Session { client, serial: native.serial });
    }

    pub(super) fn registered(&mut self, index: usize, session: SessionId) -> Check {
        let client = self.client_of(session)?;
        if self.sessions[client].home == index && self.sessions[client].session.is_none() {
            self.coverage.seen(Seen::SessionOpened);
            self.sessions[client].session = Some(session);
            self.think(client);
        }
        Ok(())
    }

    pub(super) fn session_answer(
        &mut self,
        index: usize,
        session: SessionId,
        number: RequestNumber,
        op: Op,
        reply: &M::Reply,
    ) -> Check {
        let client = self.client_of(session)?;
        let waiting = self.sessions[client].waiting.take_if(|waiting| waiting.number == number);
        let digest = M::reply_digest(reply);
        match waiting {
            Some(waiting) if self.talks(client, index, session) => {
                self.coverage.seen(Seen::SessionAnswer);
                self.gateways.replied(session, number, op, digest)?;
                if let (Some(call), Some(saw)) = (waiting.call, M::cell_of(reply)) {
                    self.cells.saw(call, saw);
                }
                self.think(client);
                Ok(())
            }
            waiting => {
                self.sessions[client].waiting = self.sessions[client].waiting.take().or(waiting);
                self.gateways.told(session, number, op, digest)
            }
        }
    }

    pub(super) fn declined(
        &mut self,
        index: usize,
        session: SessionId,
        number: RequestNumber,
        fate: Fate,
    ) -> Check {
        let client = self.client_of(session)?;
        self.coverage.seen(Seen::SessionDeclined);
        let waits = self.sessions[client].waiting.as_ref().is_some_and(|waiting| waiting.number == number);
        if fate == Fate::Unknown && waits && self.talks(client, index, session) {
            self.coverage.seen(Seen::SessionUnknown);
            self.sessions[client].waiting = None;
            self.gateways.given_up(session, number, Outcome::Unknown)?;
            self.think(client);
        }
        Ok(())
    }

    pub(super) fn forgotten(&mut self, index: usize, session: SessionId) -> Check {
        let client = self.client_of(session)?;
        if self.talks(client, index, session) {
            if let Some(Waiting { number, .. }) = self.sessions[client].waiting.take() {
                self.gateways.forgotten(session, number)?;
            }
            let native = &mut self.sessions[client];
            (native.session, native.name) = (None, native.name + self.plan.load.sessions as u64);
            self.think(client);
        }
        Ok(())
    }
}
