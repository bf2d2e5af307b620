//! This replica's own gateway: requests it was handed and has not answered.
//!
//! Requests wait here until this replica has executed them; they are sent to the primary, and again to the next one,
//! and the client table makes sure that they are executed once.

use super::{Effect, Effects, Replica, Status};
use crate::batch;
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::sessions::Sessions;
use crate::state_machine::StateMachine;
use bytes::Bytes;
use std::collections::VecDeque;

/// A Forward is closed at this many bytes.
const FORWARD_BYTES: usize = 1 << 20;

#[derive(Clone, Hash)]
struct Pending {
    body: Bytes,
    /// When it was last sent to a primary; `None` if it waits to be.
    sent: Option<u64>,
}

#[derive(Clone, Hash)]
pub(super) struct Gateway {
    session: SessionId,
    /// Number of the first slot.
    first: u64,
    slots: VecDeque<Option<Pending>>,
    pending: usize,
    unsent: VecDeque<u64>,
    /// The primary asked for a pause until then.
    paused_until: u64,
}

impl Gateway {
    pub(super) fn new(session: SessionId) -> Gateway {
        Gateway {
            session,
            first: 1,
            slots: VecDeque::new(),
            pending: 0,
            unsent: VecDeque::new(),
            paused_until: 0,
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn len(&self) -> usize {
        self.pending
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Pending>> {
        let index = number.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    pub(super) fn is_pending(&self, number: RequestNumber) -> bool {
        let index = number.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.slots.get(index)).is_some_and(Option::is_some)
    }

    pub(super) fn answered(&mut self, number: RequestNumber) {
        if self.slot(number.0).and_then(Option::take).is_some() {
            self.pending -= 1;
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Takes a request in, if its number is new and lies within `window` of the oldest unanswered one.
    fn admit(&mut self, number: u64, body: Bytes, window: usize) -> bool {
        if self.slots.is_empty() {
            self.first = self.first.max(number);
        }
        let Some(index) = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return false;
        };
        if index >= window || index < self.slots.len() {
            return false;
        }
        self.slots.resize_with(index, || None);
        self.slots.push_back(Some(Pending { body, sent: None }));
        self.pending += 1;
        true
    }

    /// Everything unanswered, for a primary's own queue.
    pub(super) fn all(&self) -> Vec<(RequestNumber, Bytes)> {
        let numbered = self.slots.iter().zip(self.first..);
        numbered
            .filter_map(|(slot, number)| slot.as_ref().map(|p| (RequestNumber(number), p.body.clone())))
            .collect()
    }

    /// A new primary: nothing counts as sent.
    pub(super) fn resend_all(&mut self) {
        self.paused_until = 0;
        self.unsent.clear();
        for (slot, number) in self.slots.iter_mut().zip(self.first..) {
            if let Some(pending) = slot {
                pending.sent = None;
                self.unsent.push_back(number);
            }
        }
    }

    /// Queues again what was sent before `before` and is still unanswered.
    pub(super) fn resend_older_than(&mut self, before: u64) {
        for (slot, number) in self.slots.iter_mut().zip(self.first..) {
            if let Some(pending) = slot
                && pending.sent.is_some_and(|sent| sent <= before)
            {
                pending.sent = None;
                self.unsent.push_back(number);
            }
        }
    }

    pub(super) fn refused(&mut self, numbers: &[RequestNumber], retry_at: u64) {
        for number in numbers {
            if let Some(Some(pending)) = self.slot(number.0)
                && pending.sent.take().is_some()
            {
                self.unsent.push_back(number.0);
                self.paused_until = retry_at;
            }
        }
    }

    pub(super) fn has_unsent(&self, now: u64) -> bool {
        !self.unsent.is_empty() && now >= self.paused_until
    }

    fn next_forward(&mut self, now: u64) -> Option<Bytes> {
        let mut requests = Vec::new();
        let session = self.session;
        while requests.len() < FORWARD_BYTES {
            let Some(number) = self.unsent.pop_front() else { break };
            if let Some(Some(pending)) = self.slot(number)
                && pending.sent.is_none()
            {
                pending.sent = Some(now);
                batch::push(&mut requests, session, RequestNumber(number), &pending.body);
            }
        }
        (!requests.is_empty()).then(|| requests.into())
    }

    /// The state jumped: what the new client table has seen was executed out of sight, its answers are lost.
    pub(super) fn jumped<S: StateMachine>(&mut self, sessions: &Sessions, out: &mut Effects<S>) {
        let seen: Vec<RequestNumber> = self
            .all()
            .into_iter()
            .map(|(number, _)| number)
            .filter(|&number| sessions.has_seen(self.session, number))
            .collect();
        for number in seen {
            self.answered(number);
            out.push(if on(Mutant::UnknownIsRejected) {
                Effect::Rejected { number }
            } else {
                Effect::Unknown { number }
            });
        }
    }
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn submit(&mut self, number: RequestNumber, body: Bytes, out: &mut Effects<S>) {
        let refused = self.cannot_serve()
            || number.0 == 0
            || u32::try_from(body.len()).is_err()
            || !self.gateway.admit(
                number.0,
                body.clone(),
                self.options.window.min(crate::sessions::WINDOW as usize / 2),
            );
        if refused {
            self.counters.refused_requests += 1;
            // A number that is still unanswered has been handed in twice: it keeps its first meaning.
            if !self.gateway.is_pending(number) {
                out.push(Effect::Rejected { number });
            }
            return;
        }
        if self.is_primary() {
            let session = self.gateway.session();
            if !self.enqueue(session, number, body) {
                self.gateway.answered(number);
                out.push(Effect::Rejected { number });
            }
        } else {
            self.gateway.unsent.push_back(number.0);
        }
    }

    pub(super) fn forward_requests(&mut self, out: &mut Effects<S>) {
        if self.status != Status::Normal || !self.gateway.has_unsent(self.now.mono) {
            return;
        }
        while let Some(requests) = self.gateway.next_forward(self.now.mono) {
            out.push(Effect::Send(self.primary(), Message::Forward { requests }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Gateway {
        Gateway::new(SessionId { client: 1, incarnation: Incarnation(1) })
    }

    #[test]
    fn a_window_bounds_what_is_unanswered() {
        let mut gateway = gateway();
        assert!((1..=4).all(|n| gateway.admit(n, Bytes::new(), 4)));
        assert!(!gateway.admit(5, Bytes::new(), 4), "the window is full");
        gateway.answered(RequestNumber(2));
        assert!(!gateway.admit(5, Bytes::new(), 4), "the oldest is still unanswered");
        gateway.answered(RequestNumber(1));
        assert!(gateway.admit(5, Bytes::new(), 4));
        assert!(!gateway.admit(5, Bytes::new(), 4), "not twice");
        assert!(!gateway.admit(2, Bytes::new(), 4), "not again");
        assert_eq!(gateway.len(), 3);
    }

    #[test]
    fn a_refused_request_waits_and_a_forgotten_one_is_sent_again() {
        let mut gateway = gateway();
        for n in 1..=3 {
            assert!(gateway.admit(n, Bytes::from_static(b"r"), 8));
            gateway.unsent.push_back(n);
        }
        assert!(gateway.next_forward(10).is_some());
        assert!(!gateway.has_unsent(10));
        gateway.refused(&[RequestNumber(2)], 100);
        assert!(!gateway.has_unsent(99));
        assert!(gateway.has_unsent(100));
        gateway.answered(RequestNumber(2));
        assert!(gateway.next_forward(100).is_none(), "it was answered after all");
        gateway.resend_older_than(10);
        let again = gateway.next_forward(200).expect("two are unanswered");
        let numbers: Vec<u64> = batch::requests(&again).flatten().map(|r| r.number.0).collect();
        assert_eq!(numbers, [1, 3]);
    }
}
