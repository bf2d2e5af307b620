//! This replica as a gateway: requests it was handed and has not answered, of its own session and of clients' sessions.
//!
//! Requests wait here until this replica has executed them; they are sent to the primary, and again to the next one,
//! and the client table makes sure that they are executed once. A session that is not open is opened first: of its own,
//! this replica sends the Register before the first request; a client asks for it ([`Input::Register`](super::Input)),
//! and has no session to ask in before that is executed.
//!
//! A client may turn to another replica with a session that this one still has requests of. Both then send them on; the
//! one the client is connected to answers.

use super::{Effect, Effects, Fate, Replica, Status};
use crate::batch;
use crate::ids::*;
use crate::message::Message;
use crate::mutants::{Mutant, on};
use crate::sessions::{Sessions, Verdict};
use crate::state_machine::StateMachine;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A Forward is closed at this many bytes.
const FORWARD_BYTES: usize = 1 << 20;
/// Clients' sessions that may be attached to one gateway, and clients that may wait for theirs.
const ATTACHED: usize = 1024;
/// Unanswered requests of all of them together.
const PENDING: usize = 1 << 16;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Pending {
    body: Bytes,
    /// When it was last sent to a primary; `None` if it waits to be.
    sent: Option<u64>,
}

/// How many requests are unanswered, and how long they are together.
#[derive(Clone, Copy, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Held {
    requests: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, body: &Bytes) {
        self.requests += 1;
        self.bytes += body.len();
    }

    fn sub(&mut self, gone: Held) {
        self.requests -= gone.requests;
        self.bytes -= gone.bytes;
    }

    fn since(self, before: Held) -> Held {
        Held { requests: before.requests - self.requests, bytes: before.bytes - self.bytes }
    }
}

/// Unanswered requests of one session.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Window {
    session: SessionId,
    /// Number of the first slot.
    first: u64,
    slots: VecDeque<Option<Pending>>,
    held: Held,
    unsent: VecDeque<u64>,
    /// The primary asked for a pause until then.
    paused_until: u64,
}

impl Window {
    fn new(session: SessionId) -> Window {
        Window {
            session,
            first: 1,
            slots: VecDeque::new(),
            held: Held::default(),
            unsent: VecDeque::new(),
            paused_until: 0,
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Pending>> {
        let index = number.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    fn is_pending(&self, number: RequestNumber) -> bool {
        let index = number.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.slots.get(index)).is_some_and(Option::is_some)
    }

    /// Whether it was waiting.
    fn answered(&mut self, number: RequestNumber) -> bool {
        let answered = self.slot(number.0).and_then(Option::take);
        if let Some(Pending { body, .. }) = &answered {
            self.held.sub(Held { requests: 1, bytes: body.len() });
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        answered.is_some()
    }

    /// Takes a request in, if its number is higher than any before and lies within `window` of the oldest unanswered
    /// one.
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
        self.held.add(&body);
        self.slots.push_back(Some(Pending { body, sent: None }));
        true
    }

    /// Takes in a request that was perhaps handed to another gateway before, so that a lower number may follow a higher
    /// one. It is not pending here.
    fn admit_again(&mut self, number: u64, body: Bytes, window: usize) -> bool {
        if self.slots.is_empty() {
            self.first = number;
        }
        let last = self.first + self.slots.len() as u64;
        if last.saturating_sub(number) > window as u64 {
            return false;
        }
        while number < self.first {
            self.slots.push_front(None);
            self.first -= 1;
        }
        if number >= last {
            return self.admit(number, body, window);
        }
        self.held.add(&body);
        let slot = self.slot(number).expect("it lies between the first and the last");
        *slot = Some(Pending { body, sent: None });
        true
    }

    /// Everything unanswered, for a primary's own queue.
    fn all(&self) -> impl Iterator<Item = (RequestNumber, Bytes)> + '_ {
        let numbered = self.slots.iter().zip(self.first..);
        numbered.filter_map(|(slot, number)| slot.as_ref().map(|p| (RequestNumber(number), p.body.clone())))
    }

    /// A new primary: nothing counts as sent.
    fn resend_all(&mut self) {
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
    fn resend_older_than(&mut self, before: u64) {
        for (slot, number) in self.slots.iter_mut().zip(self.first..) {
            if let Some(pending) = slot
                && pending.sent.is_some_and(|sent| sent <= before)
            {
                pending.sent = None;
                self.unsent.push_back(number);
            }
        }
    }

    fn refused(&mut self, numbers: &[RequestNumber], retry_at: u64) {
        for number in numbers {
            if let Some(Some(pending)) = self.slot(number.0)
                && pending.sent.take().is_some()
            {
                self.unsent.push_back(number.0);
                self.paused_until = retry_at;
            }
        }
    }

    fn has_unsent(&self, now: u64) -> bool {
        !self.unsent.is_empty() && now >= self.paused_until
    }

    fn next_forward(&mut self, now: u64, open: bool) -> Option<Bytes> {
        let mut requests = Vec::new();
        let session = self.session;
        while requests.len() < FORWARD_BYTES {
            let Some(number) = self.unsent.pop_front() else { break };
            if let Some(Some(pending)) = self.slot(number)
                && pending.sent.is_none()
            {
                pending.sent = Some(now);
                if !open && requests.is_empty() {
                    batch::push(&mut requests, session, RequestNumber::REGISTER, &[]);
                }
                batch::push(&mut requests, session, RequestNumber(number), &pending.body);
            }
        }
        (!requests.is_empty()).then(|| requests.into())
    }

    /// What the client table has seen: executed out of sight, the answers are lost.
    fn take_seen(&mut self, sessions: &Sessions) -> Vec<RequestNumber> {
        let seen = |number: &RequestNumber| sessions.verdict(self.session, *number) == Verdict::Seen;
        let seen: Vec<RequestNumber> = self.all().map(|(number, _)| number).filter(seen).collect();
        for number in &seen {
            self.answered(*number);
        }
        seen
    }
}

/// All sessions of one gateway.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Gateway {
    own: Window,
    clients: BTreeMap<SessionId, Window>,
    /// Clients that wait for a session, and when that was last asked of a primary.
    registering: BTreeMap<u64, Option<u64>>,
    held_of_clients: Held,
}

impl Gateway {
    pub(super) fn new(session: SessionId) -> Gateway {
        Gateway {
            own: Window::new(session),
            clients: BTreeMap::new(),
            registering: BTreeMap::new(),
            held_of_clients: Held::default(),
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.own.session
    }

    pub(super) fn len(&self) -> usize {
        self.own.held.requests + self.held_of_clients.requests
    }

    /// Whether a request of this length may wait here, if all of them together may be `most` bytes. One alone always may.
    fn has_room(&self, len: usize, most: usize) -> bool {
        let held = self.own.held.bytes + self.held_of_clients.bytes;
        held == 0 || held.saturating_add(len) <= most
    }

    /// Whether this replica needs the reply to a request. Of clients' it does even if they are connected elsewhere:
    /// whichever replica a client turns to after that can then answer what is executed already.
    pub(super) fn wants(&self, session: SessionId, number: RequestNumber) -> bool {
        session.is_client() || (session == self.own.session && self.own.is_pending(number))
    }

    pub(super) fn answered(&mut self, session: SessionId, number: RequestNumber) {
        if session == self.own.session {
            self.own.answered(number);
        } else if let Some(window) = self.clients.get_mut(&session) {
            let before = window.held;
            window.answered(number);
            self.held_of_clients.sub(window.held.since(before));
        }
    }

    pub(super) fn refused(&mut self, session: SessionId, numbers: &[RequestNumber], retry_at: u64) {
        if session == self.own.session {
            self.own.refused(numbers, retry_at);
        } else if let Some(window) = self.clients.get_mut(&session) {
            window.refused(numbers, retry_at);
        }
    }

    pub(super) fn resend_all(&mut self) {
        self.windows().for_each(Window::resend_all);
        self.registering.values_mut().for_each(|sent| *sent = None);
    }

    pub(super) fn resend_older_than(&mut self, before: u64) {
        self.windows().for_each(|window| window.resend_older_than(before));
        let stale = self.registering.values_mut().filter(|sent| sent.is_some_and(|sent| sent <= before));
        stale.for_each(|sent| *sent = None);
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        std::iter::once(&mut self.own).chain(self.clients.values_mut())
    }

    pub(super) fn has_unsent(&self, now: u64) -> bool {
        self.own.has_unsent(now)
            || self.clients.values().any(|window| window.has_unsent(now))
            || self.registering.values().any(Option::is_none)
    }

    fn next_registers(&mut self, now: u64) -> Option<Bytes> {
        let mut requests = Vec::new();
        for (client, sent) in self.registering.iter_mut().filter(|(_, sent)| sent.is_none()) {
            *sent = Some(now);
            let session = SessionId { client: *client, incarnation: Incarnation(0) };
            batch::push(&mut requests, session, RequestNumber::REGISTER, &[]);
        }
        (!requests.is_empty()).then(|| requests.into())
    }

    /// Everything unanswered, for a primary's own queue, each session behind its Register if it needs one.
    pub(super) fn all(&self, own_is_open: bool) -> Vec<(SessionId, RequestNumber, Bytes)> {
        let register = |session| (session, RequestNumber::REGISTER, Bytes::new());
        let client = |client: &u64| register(SessionId { client: *client, incarnation: Incarnation(0) });
        let mut all: Vec<_> = self.registering.keys().map(client).collect();
        if !own_is_open && self.own.held.requests > 0 {
            all.push(register(self.own.session));
        }
        for window in std::iter::once(&self.own).chain(self.clients.values()) {
            all.extend(window.all().map(|(number, body)| (window.session, number, body)));
        }
        all
    }

    /// What clients have asked in these sessions.
    pub(super) fn of(&self, sessions: &[SessionId]) -> Vec<(SessionId, RequestNumber, Bytes)> {
        let windows = sessions.iter().filter_map(|session| self.clients.get(session));
        windows.flat_map(|w| w.all().map(|(number, body)| (w.session, number, body))).collect()
    }

    /// The state jumped: what the new client table has seen was executed out of sight, its answers are lost.
    pub(super) fn jumped<S: StateMachine>(&mut self, sessions: &Sessions, op: Op, out: &mut Effects<S>) {
        for number in self.own.take_seen(sessions) {
            out.push(if on(Mutant::UnknownIsRejected) {
                Effect::Rejected { number }
            } else {
                Effect::Unknown { number }
            });
        }
        for window in self.clients.values_mut() {
            let (session, before) = (window.session, window.held);
            let seen = window.take_seen(sessions);
            self.held_of_clients.sub(window.held.since(before));
            for number in seen {
                out.push(Effect::Declined { session, number, fate: Fate::Unknown });
            }
        }
        let waiting: Vec<u64> = self.registering.keys().copied().collect();
        let opened: Vec<SessionId> = waiting.into_iter().filter_map(|client| sessions.of(client)).collect();
        self.opened(&opened, sessions, op, out);
    }

    /// Sessions were opened by what was executed through `op`, and others perhaps forgotten for them.
    pub(super) fn opened<S: StateMachine>(
        &mut self,
        opened: &[SessionId],
        sessions: &Sessions,
        op: Op,
        out: &mut Effects<S>,
    ) {
        for session in opened.iter().filter(|session| session.is_client()) {
            if self.registering.remove(&session.client).is_some() {
                out.push(Effect::Registered { session: *session });
            }
        }
        self.let_go_of_forgotten(sessions, op, out);
    }

    /// Answers for sessions that are open no more, or that the entry they are named by never opened: what such a client
    /// asks nobody will execute.
    pub(super) fn let_go_of_forgotten<S: StateMachine>(
        &mut self,
        sessions: &Sessions,
        op: Op,
        out: &mut Effects<S>,
    ) {
        let gone = |session: &SessionId| is_forgotten(*session, sessions, op);
        let gone: Vec<SessionId> = self.clients.keys().copied().filter(gone).collect();
        for session in gone {
            self.detach(session);
            out.push(Effect::Forgotten { session });
        }
    }

    /// This replica will execute nothing any more. Its own requests were perhaps executed elsewhere. Clients have the
    /// answers from whichever replica they turn to with their sessions.
    pub(super) fn abandon<S: StateMachine>(&mut self, out: &mut Effects<S>) {
        let waiting: Vec<RequestNumber> = self.own.all().map(|(number, _)| number).collect();
        for number in waiting {
            self.own.answered(number);
            out.push(Effect::Unknown { number });
        }
        self.clients.clear();
        self.registering.clear();
        self.held_of_clients = Held::default();
    }

    fn detach(&mut self, session: SessionId) {
        if let Some(window) = self.clients.remove(&session) {
            self.held_of_clients.sub(window.held);
        }
    }
}

/// Whether a client's session was open once and is not any more. One that was opened by an entry that is not executed
/// here yet is another matter.
fn is_forgotten(session: SessionId, sessions: &Sessions, executed: Op) -> bool {
    session.incarnation.0 <= executed.0 && !sessions.is_open(session)
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn submit(&mut self, number: RequestNumber, body: Bytes, out: &mut Effects<S>) {
        let refused = self.cannot_serve()
            || !number.is_of_request()
            || u32::try_from(body.len()).is_err()
            || !self.gateway.has_room(body.len(), self.options.window_bytes)
            || !self.gateway.own.admit(number.0, body.clone(), self.window());
        if refused {
            self.counters.refused_requests += 1;
            // A number that is still unanswered has been handed in twice: it keeps its first meaning.
            if !self.gateway.own.is_pending(number) {
                out.push(Effect::Rejected { number });
            }
            return;
        }
        if self.is_primary() {
            let session = self.gateway.session();
            let open = self.executor.sessions().is_open(session)
                || self.enqueue(session, RequestNumber::REGISTER, Bytes::new());
            if !open || !self.enqueue(session, number, body) {
                self.gateway.own.answered(number);
                out.push(Effect::Rejected { number });
            }
        } else {
            self.gateway.own.unsent.push_back(number.0);
        }
    }

    fn window(&self) -> usize {
        self.options.window.min(crate::sessions::WINDOW as usize / 2)
    }

    /// A client wants a session.
    pub(super) fn register(&mut self, client: u64, out: &mut Effects<S>) {
        if let Some(session) = self.executor.sessions().of(client).filter(|session| session.is_client()) {
            return out.push(Effect::Registered { session });
        }
        let full =
            self.gateway.registering.len() >= ATTACHED && !self.gateway.registering.contains_key(&client);
        if self.cannot_serve() || full || !SessionId::names_client(client) {
            // Nothing is said: it asks again.
            self.counters.refused_requests += 1;
            return;
        }
        // Whoever asks again while it is on its way sends nothing anew: that is for the retry.
        if self.gateway.registering.contains_key(&client) {
            return;
        }
        self.gateway.registering.insert(client, None);
        if self.is_primary() {
            let session = SessionId { client, incarnation: Incarnation(0) };
            self.enqueue(session, RequestNumber::REGISTER, Bytes::new());
        }
    }

    /// A client's requests in its session. Those that are executed already the driver has answered, as far as it can.
    pub(super) fn requests(
        &mut self,
        session: SessionId,
        requests: Vec<(RequestNumber, Bytes)>,
        out: &mut Effects<S>,
    ) {
        if is_forgotten(session, self.executor.sessions(), self.commit()) {
            self.gateway.detach(session);
            return out.push(Effect::Forgotten { session });
        }
        for (number, body) in requests {
            if let Some(fate) = self.request(session, number, body) {
                self.counters.refused_requests += u64::from(fate == Fate::Rejected);
                out.push(Effect::Declined { session, number, fate });
            }
        }
    }

    /// Takes in one request of a client; what becomes of it if it cannot.
    fn request(&mut self, session: SessionId, number: RequestNumber, body: Bytes) -> Option<Fate> {
        if self.executor.sessions().verdict(session, number) == Verdict::Seen
            && number != RequestNumber::REGISTER
        {
            return Some(Fate::Unknown);
        }
        let window = self.window();
        let full = self.gateway.held_of_clients.requests >= PENDING
            || !self.gateway.has_room(body.len(), self.options.window_bytes)
            || (self.gateway.clients.len() >= ATTACHED && !self.gateway.clients.contains_key(&session));
        if full
            || self.cannot_serve()
            || !number.is_of_request()
            || !session.is_client()
            || u32::try_from(body.len()).is_err()
        {
            return Some(Fate::Rejected);
        }
        let pending = self.gateway.clients.entry(session).or_insert_with(|| Window::new(session));
        if pending.is_pending(number) {
            return None;
        }
        if !pending.admit_again(number.0, body.clone(), window) {
            return Some(Fate::Rejected);
        }
        self.gateway.held_of_clients.add(&body);
        if !self.is_primary() {
            let pending = self.gateway.clients.get_mut(&session).expect("it was put there above");
            pending.unsent.push_back(number.0);
        } else if !self.enqueue(session, number, body) {
            self.gateway.answered(session, number);
            return Some(Fate::Rejected);
        }
        None
    }

    /// A client has gone: what it left unanswered it will ask another replica, or this one, again.
    pub(super) fn left(&mut self, session: SessionId) {
        self.gateway.detach(session);
        self.gateway.registering.remove(&session.client);
    }

    pub(super) fn forward_requests(&mut self, out: &mut Effects<S>) {
        let now = self.now.mono;
        if self.status != Status::Normal || !self.gateway.has_unsent(now) {
            return;
        }
        let primary = self.primary();
        let mut send = |requests| out.push(Effect::Send(primary, Message::Forward { requests }));
        self.gateway.next_registers(now).into_iter().for_each(&mut send);
        for window in self.gateway.windows().filter(|window| window.has_unsent(now)) {
            let open = window.session.is_client() || self.executor.sessions().is_open(window.session);
            while let Some(requests) = window.next_forward(now, open) {
                send(requests);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> Window {
        Window::new(SessionId { client: 1, incarnation: Incarnation(1) })
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
        assert_eq!(gateway.held.requests, 3);
    }

    #[test]
    fn a_refused_request_waits_and_a_forgotten_one_is_sent_again() {
        let mut gateway = gateway();
        for n in 1..=3 {
            assert!(gateway.admit(n, Bytes::from_static(b"r"), 8));
            gateway.unsent.push_back(n);
        }
        assert!(gateway.next_forward(10, true).is_some());
        assert!(!gateway.has_unsent(10));
        gateway.refused(&[RequestNumber(2)], 100);
        assert!(!gateway.has_unsent(99));
        assert!(gateway.has_unsent(100));
        gateway.answered(RequestNumber(2));
        assert!(gateway.next_forward(100, true).is_none(), "it was answered after all");
        gateway.resend_older_than(10);
        let again = gateway.next_forward(200, false).expect("two are unanswered");
        let numbers: Vec<u64> = batch::requests(&again).flatten().map(|r| r.number.0).collect();
        assert_eq!(numbers, [0, 1, 3], "a session that is not open is opened first");
    }

    #[test]
    fn a_client_that_comes_from_another_gateway_may_hand_in_lower_numbers_later() {
        let mut gateway = gateway();
        assert!([7, 9, 5, 8].iter().all(|n| gateway.admit_again(*n, Bytes::new(), 8)));
        assert!(!gateway.admit_again(1, Bytes::new(), 8), "too far below the highest");
        assert!(!gateway.admit_again(13, Bytes::new(), 8), "too far above the lowest");
        assert!(!gateway.is_pending(RequestNumber(6)) && gateway.is_pending(RequestNumber(5)));
        for n in [9, 5, 7, 8] {
            assert!(gateway.answered(RequestNumber(n)), "{n}");
        }
        assert_eq!((gateway.held.requests, gateway.slots.len()), (0, 0));
        assert!(gateway.admit_again(3, Bytes::new(), 8));
        assert!(gateway.is_pending(RequestNumber(3)));
    }
}
