//! Native clients in front of the protocol: who is connected, and the answers kept for whoever comes over.

use super::Node;
use crate::native::{Kept, Link};
use bytes::Bytes;
use std::collections::BTreeMap;
use vr_core::{Effect, Fate, Incarnation, Input, RequestNumber, SessionId};
use vr_proto::client::{Fate as Said, Welcome};
use vr_store::Store;

/// See the module.
#[derive(Default)]
pub(super) struct Natives {
    connected: BTreeMap<SessionId, Link>,
    opened: BTreeMap<u64, SessionId>,
    kept: Kept,
}

impl Natives {
    /// Carries out what the protocol says about clients' sessions.
    pub(super) fn carry_out(&mut self, effect: Effect<Store>) {
        match effect {
            Effect::Answers { answers, .. } => {
                for (session, number, reply) in answers {
                    if let Some(link) = self.connected.get(&session) {
                        link.reply(number, &reply);
                    }
                    self.kept.keep(session, number, reply);
                }
            }
            Effect::Declined { session, number, fate } => {
                let said = match fate {
                    Fate::Rejected => Said::Rejected,
                    Fate::Unknown => Said::Unknown,
                };
                if let Some(link) = self.connected.get(&session) {
                    link.fate(number, said);
                }
            }
            Effect::Registered { session } => {
                self.opened.insert(session.client, session);
            }
            Effect::Forgotten { session } => {
                self.kept.forget(session);
                if let Some(link) = self.connected.get(&session) {
                    link.forgotten();
                }
            }
            _ => {}
        }
    }
}

impl Node {
    /// The session of a client that has none yet, once it is open. Asks for it.
    pub fn native_register(&mut self, client: u64) -> Option<SessionId> {
        if !self.serves() {
            return None;
        }
        if let Some(session) = self.natives.opened.remove(&client) {
            return Some(session);
        }
        self.step(Input::Register { client });
        self.turn_soon();
        self.natives.opened.remove(&client)
    }

    /// A client no longer waits for its session.
    pub(crate) fn native_gives_up(&mut self, client: u64) {
        self.natives.opened.remove(&client);
        self.step(Input::Leave { session: SessionId { client, incarnation: Incarnation(0) } });
    }

    /// A client is connected: what it is told first. An earlier connection of the same session ends.
    pub(crate) fn welcome(&mut self, session: SessionId, link: &Link) -> Welcome {
        if let Some(before) = self.natives.connected.insert(session, link.clone()) {
            before.end();
        }
        Welcome {
            lineage: Bytes::copy_from_slice(&self.config.lineage.0),
            generation: self.config.generation.0,
            replica: self.config.id.0,
            primary: self.primary().map_or(0, |primary| primary.0),
            opened: session.incarnation.0,
            window: vr_core::WINDOW / 2,
        }
    }

    /// A client's writes. What is executed already and still known is answered at once.
    pub(crate) fn native_requests(
        &mut self,
        session: SessionId,
        requests: Vec<(RequestNumber, Bytes)>,
        link: &Link,
    ) {
        if requests.is_empty() {
            return;
        }
        if !self.serves() {
            return requests.iter().for_each(|(number, _)| link.fate(*number, Said::Rejected));
        }
        let mut new = requests;
        if self.natives.kept.has(session) {
            let newest = self.natives.kept.highest(session);
            new.retain(|(number, _)| {
                // The usual case costs one comparison: a number above all that were executed.
                let kept = if Some(*number) > newest { None } else { self.natives.kept.of(session, *number) };
                kept.inspect(|reply| link.reply(*number, reply)).is_none()
            });
        }
        // They are not known to have been executed: the client asks again, with the same numbers.
        if !self.lets_in_now(new.iter().map(|(_, body)| body)) {
            return new.iter().for_each(|(number, _)| link.fate(*number, Said::Rejected));
        }
        self.step(Input::Requests { session, requests: new });
        self.turn_soon();
    }

    /// A client's connection has ended.
    pub(crate) fn native_left(&mut self, session: SessionId, link: &Link) {
        if self.natives.connected.get(&session).is_some_and(|known| known.is(link)) {
            self.natives.connected.remove(&session);
            self.step(Input::Leave { session });
        }
    }
}
