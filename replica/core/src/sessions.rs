//! Who asked what already: the client table, changed by execution only and the same on every replica.
//!
//! It promises that a request number of a session is admitted at most once while the session is in the table. A session
//! is opened by its first request; a newer incarnation of a client replaces the older; beyond [`MAX_SESSIONS`] the one
//! that has been idle longest (by op) is forgotten, and a request that it repeats after that counts as new.

use crate::codec::{DecodeError, Reader};
use crate::ids::{Incarnation, Op, RequestNumber, SessionId};
use std::collections::{BTreeMap, VecDeque};

/// Sessions kept at most.
pub const MAX_SESSIONS: usize = 4096;

/// A session may have requests outstanding whose numbers are at most this far apart: numbers further below the
/// highest one seen count as finished. The same on every replica, always.
pub const WINDOW: u64 = 16_384;

const BITS: u64 = 64;

/// Numbers seen of one session: all below `floor * 64`, and those whose bit is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    clients: BTreeMap<u64, Session>,
}

impl Sessions {
    /// Whether a request would be admitted.
    #[must_use]
    pub fn is_new(&self, session: SessionId, number: RequestNumber) -> bool {
        match self.clients.get(&session.client) {
            None => true,
            Some(known) => {
                known.incarnation < session.incarnation
                    || (known.incarnation == session.incarnation && !known.contains(number.0))
            }
        }
    }

    /// Whether this very request was admitted before. (A request of a replaced incarnation is neither new nor seen.)
    #[must_use]
    pub fn has_seen(&self, session: SessionId, number: RequestNumber) -> bool {
        self.clients
            .get(&session.client)
            .is_some_and(|known| known.incarnation == session.incarnation && known.contains(number.0))
    }

    /// Admits a request that stands in entry `op`, or refuses a repeated or outdated one.
    pub fn admit(&mut self, op: Op, session: SessionId, number: RequestNumber) -> bool {
        let opened = match self.clients.get_mut(&session.client) {
            Some(known) if known.incarnation > session.incarnation => return false,
            Some(known) => {
                if known.incarnation < session.incarnation {
                    *known = Session::new(session.incarnation);
                }
                known.last_op = op;
                return known.insert(number.0);
            }
            None => self.clients.entry(session.client).or_insert_with(|| Session::new(session.incarnation)),
        };
        opened.last_op = op;
        opened.insert(number.0);
        if self.clients.len() > MAX_SESSIONS {
            let idle = self.clients.iter().min_by_key(|(client, known)| (known.last_op, **client));
            if let Some(client) = idle.map(|(client, _)| *client) {
                self.clients.remove(&client);
            }
        }
        true
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
        if count as usize > MAX_SESSIONS {
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
            let words = (0..len).map(|_| reader.u64()).collect::<Result<_, _>>()?;
            clients.insert(client, Session { incarnation, floor, words, last_op });
        }
        Ok(Sessions { clients })
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

    #[test]
    fn a_number_is_admitted_once() {
        let mut sessions = Sessions::default();
        for number in [1, 3, 2, 64, 63, 65, 200] {
            assert!(sessions.is_new(id(1, 1), RequestNumber(number)));
            assert!(sessions.admit(Op(1), id(1, 1), RequestNumber(number)), "{number}");
            assert!(!sessions.admit(Op(2), id(1, 1), RequestNumber(number)), "{number} again");
            assert!(sessions.has_seen(id(1, 1), RequestNumber(number)));
        }
        assert!(sessions.is_new(id(1, 1), RequestNumber(4)));
    }

    #[test]
    fn a_newer_incarnation_replaces_the_older() {
        let mut sessions = Sessions::default();
        assert!(sessions.admit(Op(1), id(1, 1), RequestNumber(1)));
        assert!(sessions.admit(Op(2), id(1, 2), RequestNumber(1)));
        assert!(!sessions.admit(Op(3), id(1, 1), RequestNumber(2)));
        assert!(!sessions.has_seen(id(1, 1), RequestNumber(1)));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn consecutive_numbers_need_no_window() {
        let mut sessions = Sessions::default();
        (1..100_000).for_each(|n| assert!(sessions.admit(Op(n), id(1, 1), RequestNumber(n))));
        assert!(sessions.clients[&1].words.len() <= 1);
    }

    #[test]
    fn a_hole_that_is_never_filled_slides_out() {
        let mut sessions = Sessions::default();
        for number in (1..100_000).filter(|n| n % 7 != 0) {
            assert!(sessions.admit(Op(number), id(1, 1), RequestNumber(number)), "{number}");
        }
        assert!(sessions.clients[&1].words.len() as u64 <= WINDOW / BITS + 1);
        assert!(!sessions.is_new(id(1, 1), RequestNumber(7)), "more than a window below");
        assert!(sessions.is_new(id(1, 1), RequestNumber(99_995)), "a hole within the window");
        assert_eq!(round_trip(&sessions), sessions);
    }

    #[test]
    fn the_longest_idle_session_goes_first() {
        let mut sessions = Sessions::default();
        for client in 0..MAX_SESSIONS as u64 {
            assert!(sessions.admit(Op(client + 1), id(client, 1), RequestNumber(1)));
        }
        assert!(sessions.admit(Op(9_000), id(0, 1), RequestNumber(2)));
        assert!(sessions.admit(Op(9_001), id(1 << 40, 1), RequestNumber(1)));
        assert_eq!(sessions.len(), MAX_SESSIONS);
        assert!(sessions.has_seen(id(0, 1), RequestNumber(1)));
        assert!(!sessions.has_seen(id(1, 1), RequestNumber(1)));
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_plain_set(numbers in prop::collection::vec(1u64..600, 0..400)) {
            let mut sessions = Sessions::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(sessions.admit(Op(1), id(5, 1), RequestNumber(number)), model.insert(number));
                prop_assert_eq!(&round_trip(&sessions), &sessions);
            }
        }
    }
}
