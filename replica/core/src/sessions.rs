//! Who asked what already: the client table, changed by execution only and the same on every replica.
//!
//! A session is opened by a logged Register and by nothing else. While it is in the table, each of its request numbers is
//! admitted at most once; a request of a session that is not there is never executed, so that one that was forgotten
//! cannot be taken for a new one.
//!
//! There are two kinds. A *member's* session is its own gateway's: it is named by the replica id and the start, and a
//! newer start replaces the older. A *client's* session is named by the client's own random number and by the op of the
//! entry that opened it: no two openings have the same name, so a Register that arrives late opens another session than
//! the one it was meant for, and no request of the former runs in the latter. Of each kind only so many are kept; beyond
//! that the one that has been idle longest (by op) is forgotten.

use crate::codec::{DecodeError, Reader};
use crate::ids::{Incarnation, Op, RequestNumber, SessionId};
use std::collections::{BTreeMap, VecDeque};

/// Sessions of clients kept at most.
pub const MAX_SESSIONS: usize = 4096;

/// Sessions of members kept at most: far more than a generation has members.
pub const MAX_MEMBER_SESSIONS: usize = 1024;

/// A session may have requests outstanding whose numbers are at most this far apart: numbers further below the
/// highest one seen count as finished. The same on every replica, always.
pub const WINDOW: u64 = 16_384;

const BITS: u64 = 64;

/// Numbers seen of one session: all below `floor * 64`, and those whose bit is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Session {
    incarnation: Incarnation,
    floor: u64,
    words: VecDeque<u64>,
    last_op: Op,
}

impl Session {
    fn new(incarnation: Incarnation) -> Session {
        Session { incarnation, floor: 0, words: VecDeque::new(), last_op: Op(0) }
    }

    fn contains(&self, number: u64) -> bool {
        let word = number / BITS;
        match word.checked_sub(self.floor) {
            None => true,
            Some(index) => {
                self.words.get(index as usize).is_some_and(|bits| bits & (1 << (number % BITS)) != 0)
            }
        }
    }

    /// Marks a number; `false` if it was marked already.
    fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let word = number / BITS;
        // Far ahead: what lies more than a window below can no longer be asked.
        let lowest = word.saturating_sub(WINDOW / BITS);
        while self.floor < lowest {
            if self.words.pop_front().is_none() {
                self.floor = lowest;
                break;
            }
            self.floor += 1;
        }
        let index = (word - self.floor) as usize;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        self.words[index] |= 1 << (number % BITS);
        // Number 0 does not exist: its bit counts as set, so that the first word can fill up.
        while let Some(&bits) = self.words.front() {
            let full = bits | u64::from(self.floor == 0);
            if full != u64::MAX {
                break;
            }
            self.words.pop_front();
            self.floor += 1;
        }
        true
    }
}

/// What the table says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be admitted.
    New,
    /// It was admitted before, or is too far below the newest to tell.
    Seen,
    /// Its session is not open: never opened, forgotten, or replaced by a newer start.
    Closed,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sessions {
    clients: BTreeMap<u64, Session>,
    /// How many of them are clients'.
    of_clients: usize,
}

impl Sessions {
    /// What would become of a request.
    #[must_use]
    pub fn verdict(&self, session: SessionId, number: RequestNumber) -> Verdict {
        match self.clients.get(&session.client) {
            Some(known) if known.incarnation == session.incarnation => {
                if known.contains(number.0) {
                    Verdict::Seen
                } else {
                    Verdict::New
                }
            }
            _ => Verdict::Closed,
        }
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.clients.get(&session.client).is_some_and(|known| known.incarnation == session.incarnation)
    }

    /// The open session of a client.
    #[must_use]
    pub fn of(&self, client: u64) -> Option<SessionId> {
        self.clients.get(&client).map(|known| SessionId { client, incarnation: known.incarnation })
    }

    /// Executes a Register that stands in entry `op`: what is open then. A client that is in the table keeps its
    /// session, and so does a member against an older start of its own.
    pub fn register(&mut self, op: Op, asked: SessionId) -> SessionId {
        let SessionId { client, .. } = asked;
        let named = if asked.is_client() { Incarnation(op.0) } else { asked.incarnation };
        match self.clients.get_mut(&client) {
            Some(known) if asked.is_client() || known.incarnation >= named => {
                known.last_op = op;
                return SessionId { client, incarnation: known.incarnation };
            }
            Some(known) => *known = Session { last_op: op, ..Session::new(named) },
            None => {
                self.clients.insert(client, Session { last_op: op, ..Session::new(named) });
                self.of_clients += usize::from(asked.is_client());
                self.forget_one_too_many(client);
            }
        }
        SessionId { client, incarnation: named }
    }

    /// Opens a session by its name, for a table of what is on its way; another one of the same client is replaced.
    pub(crate) fn track(&mut self, op: Op, session: SessionId) {
        if !self.is_open(session) {
            let new = Session { last_op: op, ..Session::new(session.incarnation) };
            if self.clients.insert(session.client, new).is_none() {
                self.of_clients += usize::from(session.is_client());
                self.forget_one_too_many(session.client);
            }
        }
    }

    /// In a table of what is on its way: a client's Register no longer is.
    pub(crate) fn executed_register(&mut self, opened: SessionId) {
        let asked = SessionId { incarnation: Incarnation(0), ..opened };
        if opened.is_client() && self.is_open(asked) {
            self.clients.remove(&opened.client);
            self.of_clients -= 1;
        }
    }

    fn forget_one_too_many(&mut self, newest: u64) {
        let client = SessionId::names_client(newest);
        let (kept, most) = if client {
            (self.of_clients, MAX_SESSIONS)
        } else {
            (self.clients.len() - self.of_clients, MAX_MEMBER_SESSIONS)
        };
        if kept <= most {
            return;
        }
        let of_kind = self.clients.iter().filter(|(id, _)| SessionId::names_client(**id) == client);
        let idle = of_kind.filter(|(id, _)| **id != newest).min_by_key(|(id, known)| (known.last_op, **id));
        if let Some(idle) = idle.map(|(id, _)| *id) {
            self.clients.remove(&idle);
            self.of_clients -= usize::from(client);
        }
    }

    /// Admits a request that stands in entry `op`; `false` for one that was admitted before or whose session is not
    /// open.
    pub fn admit(&mut self, op: Op, session: SessionId, number: RequestNumber) -> bool {
        match self.clients.get_mut(&session.client) {
            Some(known) if known.incarnation == session.incarnation => {
                known.last_op = op;
                known.insert(number.0)
            }
            _ => false,
        }
    }

    /// Number of sessions in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.clients.len() as u32).to_le_bytes());
        for (client, session) in &self.clients {
            for field in [*client, session.incarnation.0, session.floor, session.last_op.0] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&(session.words.len() as u32).to_le_bytes());
            session.words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Sessions, DecodeError> {
        let count = reader.u32()?;
        if count as usize > MAX_SESSIONS + MAX_MEMBER_SESSIONS {
            return Err(DecodeError::Value { what: "the number of sessions", value: u64::from(count) });
        }
        let mut clients: BTreeMap<u64, Session> = BTreeMap::new();
        for _ in 0..count {
            let client = reader.u64()?;
            // As they are written: in order, so that one table is one sequence of bytes.
            if clients.last_key_value().is_some_and(|(&before, _)| before >= client) {
                return Err(DecodeError::Value { what: "a session out of order", value: client });
            }
            let incarnation = Incarnation(reader.u64()?);
            let floor = reader.u64()?;
            if floor > u64::MAX / BITS {
                return Err(DecodeError::Value { what: "a session's floor", value: floor });
            }
            let last_op = Op(reader.u64()?);
            let len = reader.u32()?;
            if u64::from(len) > WINDOW / BITS + 1 {
                return Err(DecodeError::Value { what: "a session's window", value: u64::from(len) });
            }
            let words = (0..len).map(|_| reader.u64()).collect::<Result<VecDeque<u64>, _>>()?;
            // As they are written: no word that says nothing, none that the floor could say.
            let floor_says = words.front().is_some_and(|bits| bits | u64::from(floor == 0) == u64::MAX);
            if floor_says || words.back() == Some(&0) {
                return Err(DecodeError::Value {
                    what: "a session's window, which could be shorter",
                    value: client,
                });
            }
            clients.insert(client, Session { incarnation, floor, words, last_op });
        }
        let of_clients = clients.keys().filter(|id| SessionId::names_client(**id)).count();
        Ok(Sessions { clients, of_clients })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(client: u64, incarnation: u64) -> SessionId {
        SessionId { client, incarnation: Incarnation(incarnation) }
    }

    fn round_trip(sessions: &Sessions) -> Sessions {
        let mut bytes = Vec::new();
        sessions.encode(&mut bytes);
        let mut reader = Reader::new("sessions", &bytes);
        let back = Sessions::decode(&mut reader).expect("it was just encoded");
        reader.end().expect("nothing follows");
        back
    }

    fn opened(client: u64, incarnation: u64) -> (Sessions, SessionId) {
        let mut sessions = Sessions::default();
        let session = sessions.register(Op(1), id(client, incarnation));
        (sessions, session)
    }

    #[test]
    fn a_number_is_admitted_once() {
        let (mut sessions, session) = opened(1, 1);
        for number in [1, 3, 2, 64, 63, 65, 200].map(RequestNumber) {
            assert_eq!(sessions.verdict(session, number), Verdict::New);
            assert!(sessions.admit(Op(1), session, number), "{number}");
            assert!(!sessions.admit(Op(2), session, number), "{number} again");
            assert_eq!(sessions.verdict(session, number), Verdict::Seen);
        }
        assert_eq!(sessions.verdict(session, RequestNumber(4)), Verdict::New);
    }

    #[test]
    fn nothing_is_admitted_without_a_register() {
        let mut sessions = Sessions::default();
        assert!(!sessions.admit(Op(1), id(1, 1), RequestNumber(1)));
        assert_eq!(sessions.verdict(id(1, 1), RequestNumber(1)), Verdict::Closed);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_newer_start_of_a_member_replaces_the_older_and_an_older_one_does_not() {
        let (mut sessions, first) = opened(1, 1);
        assert!(sessions.admit(Op(1), first, RequestNumber(1)));
        assert_eq!(sessions.register(Op(2), id(1, 1)), first, "again");
        assert_eq!(sessions.verdict(first, RequestNumber(1)), Verdict::Seen);
        let second = sessions.register(Op(3), id(1, 2));
        assert!(sessions.admit(Op(3), second, RequestNumber(1)));
        assert!(!sessions.admit(Op(4), first, RequestNumber(2)));
        assert_eq!(sessions.register(Op(5), id(1, 1)), second);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_client_that_was_forgotten_opens_another_session_than_before() {
        let client = SessionId::CLIENT | 7;
        let (mut sessions, first) = opened(client, 0);
        assert_eq!(first, id(client, 1), "named by the op");
        assert_eq!(sessions.register(Op(2), id(client, 0)), first, "an answer was lost, and it asks again");
        assert!(sessions.admit(Op(3), first, RequestNumber(1)));
        for other in 0..MAX_SESSIONS as u64 {
            sessions.register(Op(10 + other), id(SessionId::CLIENT | (1 << 40) | other, 0));
        }
        assert_eq!(sessions.verdict(first, RequestNumber(1)), Verdict::Closed);
        // The first Register arrives once more, late: what was executed is not executed again.
        let late = sessions.register(Op(9_000), id(client, 0));
        assert_ne!(late, first);
        assert!(!sessions.admit(Op(9_001), first, RequestNumber(1)));
    }

    #[test]
    fn consecutive_numbers_need_no_window() {
        let (mut sessions, session) = opened(1, 1);
        (1..100_000).for_each(|n| assert!(sessions.admit(Op(n), session, RequestNumber(n))));
        assert!(sessions.clients[&1].words.len() <= 1);
    }

    #[test]
    fn a_hole_that_is_never_filled_slides_out() {
        let (mut sessions, session) = opened(1, 1);
        for number in (1..100_000).filter(|n| n % 7 != 0) {
            assert!(sessions.admit(Op(number), session, RequestNumber(number)), "{number}");
        }
        assert!(sessions.clients[&1].words.len() as u64 <= WINDOW / BITS + 1);
        assert_eq!(sessions.verdict(session, RequestNumber(7)), Verdict::Seen, "more than a window below");
        assert_eq!(
            sessions.verdict(session, RequestNumber(99_995)),
            Verdict::New,
            "a hole within the window"
        );
        assert_eq!(round_trip(&sessions), sessions);
    }

    #[test]
    fn a_window_that_could_be_shorter_is_no_window() {
        for (floor, words) in [(0, vec![u64::MAX - 1, 1]), (3, vec![u64::MAX]), (3, vec![5, 0]), (0, vec![0])]
        {
            let session = Session { incarnation: Incarnation(1), floor, words: words.into(), last_op: Op(1) };
            let mut bytes = Vec::new();
            Sessions { clients: [(1, session)].into(), of_clients: 0 }.encode(&mut bytes);
            let refused = Sessions::decode(&mut Reader::new("sessions", &bytes)).map(|_| ());
            assert!(matches!(refused, Err(DecodeError::Value { value: 1, .. })), "{refused:?}");
        }
    }

    #[test]
    fn the_longest_idle_client_goes_first_and_never_a_member_for_it() {
        let mut sessions = Sessions::default();
        let member = sessions.register(Op(1), id(3, 1));
        let clients: Vec<_> = (0..MAX_SESSIONS as u64)
            .map(|n| sessions.register(Op(n + 2), id(SessionId::CLIENT | n, 0)))
            .collect();
        assert!(sessions.admit(Op(9_000), clients[0], RequestNumber(2)));
        sessions.register(Op(9_001), id(SessionId::CLIENT | (1 << 40), 0));
        assert_eq!(sessions.len(), MAX_SESSIONS + 1);
        assert!(sessions.is_open(member) && sessions.is_open(clients[0]) && sessions.is_open(clients[2]));
        assert!(!sessions.is_open(clients[1]));
        assert_eq!(round_trip(&sessions), sessions);
    }

    #[test]
    fn members_are_bounded_among_themselves() {
        let mut sessions = Sessions::default();
        let client = sessions.register(Op(1), id(SessionId::CLIENT, 0));
        for member in 0..=MAX_MEMBER_SESSIONS as u64 {
            sessions.register(Op(member + 2), id(member, 1));
        }
        assert_eq!(sessions.len(), MAX_MEMBER_SESSIONS + 1);
        assert!(sessions.is_open(client) && !sessions.is_open(id(0, 1)) && sessions.is_open(id(1, 1)));
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_plain_set(numbers in prop::collection::vec(1u64..600, 0..400)) {
            let (mut sessions, session) = opened(5, 1);
            let mut model = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(sessions.admit(Op(1), session, RequestNumber(number)), model.insert(number));
                prop_assert_eq!(&round_trip(&sessions), &sessions);
            }
        }
    }
}
