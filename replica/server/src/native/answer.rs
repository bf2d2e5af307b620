//! Answers for native clients, and those kept for clients that come over from another replica.
//!
//! Every replica executes every request, so every replica has every answer, for as long as it keeps it. A client's
//! unanswered requests lie within a window of numbers, and so only that many answers are kept for it; beyond a bound on
//! all of them the clients that have been idle longest go first. What is not kept is answered "not known".

use crate::etcd::response_op;
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};
use vr_core::{RequestNumber, SessionId};
use vr_proto::client::{Answer, Fate, Refusal, answer::Outcome};
use vr_store::{Body, Reply, StoreError};

/// Answers kept for one client: no client has a wider window.
const PER_CLIENT: usize = vr_core::WINDOW as usize / 2;
/// Clients that answers are kept for.
const CLIENTS: usize = 1024;
/// Bytes of answers that are kept, by what they would take on the wire and this for each.
const BYTES: usize = 64 << 20;
const EACH: usize = 96;

/// The newest answers of each client.
#[derive(Default)]
pub(crate) struct Kept {
    clients: BTreeMap<SessionId, Answers>,
    bytes: usize,
    clock: u64,
}

#[derive(Default)]
struct Answers {
    /// By their numbers.
    newest: VecDeque<(RequestNumber, Reply)>,
    bytes: usize,
    used: u64,
}

impl Kept {
    pub(crate) fn keep(&mut self, session: SessionId, number: RequestNumber, reply: Reply) {
        self.clock += 1;
        let kept = self.clients.entry(session).or_default();
        let bytes = EACH + weight(&reply);
        kept.used = self.clock;
        // Nearly always it is the highest.
        let above = kept.newest.iter().rev().take_while(|(kept, _)| *kept > number).count();
        let at = kept.newest.len() - above;
        if at > 0 && kept.newest[at - 1].0 == number {
            return;
        }
        self.bytes += bytes;
        kept.bytes += bytes;
        kept.newest.insert(at, (number, reply));
        if kept.newest.len() > PER_CLIENT
            && let Some((_, old)) = kept.newest.pop_front()
        {
            let freed = EACH + weight(&old);
            kept.bytes -= freed;
            self.bytes -= freed;
        }
        while self.bytes > BYTES || self.clients.len() > CLIENTS {
            let Some(idle) = self.clients.iter().min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id) else {
                break;
            };
            self.forget(idle);
        }
    }

    pub(crate) fn of(&self, session: SessionId, number: RequestNumber) -> Option<&Reply> {
        let kept = self.clients.get(&session)?;
        let at = kept.newest.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&kept.newest[at].1)
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.clients.contains_key(&session)
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        self.bytes -= self.clients.remove(&session).map_or(0, |kept| kept.bytes);
    }

    /// The highest number of which an answer was kept.
    pub(crate) fn highest(&self, session: SessionId) -> Option<RequestNumber> {
        self.clients.get(&session)?.newest.back().map(|(number, _)| *number)
    }
}

/// Bytes of keys and values in an answer.
fn weight(reply: &Reply) -> usize {
    match reply {
        Err(_) | Ok(vr_store::Response { body: Body::Put { prev: None }, .. }) => 0,
        Ok(response) => response_op(response).encoded_len(),
    }
}

/// A reply for the wire.
pub(super) fn answer(number: RequestNumber, reply: &Reply) -> Answer {
    let outcome = match reply {
        Ok(response) => Outcome::Ok(response_op(response)),
        // At a start, the first reservation is on its way to the tiers: the write had no effect.
        Err(StoreError::ReservationExhausted) => Outcome::Fate(Fate::Again as i32),
        Err(error) => Outcome::Refusal(refusal(error)),
    };
    Answer { number: number.0, outcome: Some(outcome) }
}

pub(super) fn refusal(error: &StoreError) -> Refusal {
    Refusal { code: error.code() as u32, text: error.text().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::Incarnation;
    use vr_store::{Response, Revision};

    fn session(n: u64) -> SessionId {
        SessionId { client: SessionId::CLIENT | n, incarnation: Incarnation(1) }
    }

    fn reply(revision: i64) -> Reply {
        Ok(Response { revision: Revision(revision), body: Body::Put { prev: None } })
    }

    #[test]
    fn the_newest_answers_of_the_most_active_clients_are_kept() {
        let mut kept = Kept::default();
        for n in 1..=PER_CLIENT as u64 + 1 {
            kept.keep(session(1), RequestNumber(n), reply(n as i64));
        }
        assert_eq!(kept.of(session(1), RequestNumber(1)), None, "out of any window");
        assert_eq!(kept.of(session(1), RequestNumber(2)), Some(&reply(2)));
        let mut mixed = Kept::default();
        [5, 3, 9, 4, 3]
            .into_iter()
            .for_each(|n: u64| mixed.keep(session(1), RequestNumber(n), reply(n as i64)));
        for n in 2..10 {
            let known = [3, 4, 5, 9].contains(&n).then(|| reply(n as i64));
            assert_eq!(mixed.of(session(1), RequestNumber(n)), known.as_ref(), "{n}");
        }
        mixed.forget(session(1));
        assert_eq!(mixed.bytes, 0);
        let full = kept.bytes;
        for n in 2..=CLIENTS as u64 + 1 {
            kept.keep(session(n), RequestNumber(1), reply(1));
        }
        assert!(!kept.has(session(1)) && kept.has(session(2)));
        assert!(kept.bytes < full);
        (2..=CLIENTS as u64 + 1).for_each(|n| kept.forget(session(n)));
        assert_eq!(kept.bytes, 0);
    }
}
