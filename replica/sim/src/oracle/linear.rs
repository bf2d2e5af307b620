//! Linearizability of what clients saw, key by key, and nothing else: no log, no op number, no replica's word.
//!
//! The search is Wing and Gong's (*Testing and Verifying Concurrent Objects*, 1993) with Lowe's memory of what has been
//! tried (*Testing for Linearizability*, 2017); that keys can be looked at one by one is Horn and Kroening's
//! P-compositionality (*Faster Linearizability Checking via P-Compositionality*, 2015).
//!
//! A question whose answer was lost may have been executed at any time after it was asked, or never. It promises a
//! verdict unless a history is so unlucky that [`MOST_TRIES`] are not enough, and then says so.

use std::collections::{BTreeMap, BTreeSet};

/// An object as one client after the other would see it.
pub trait Model {
    /// Where it stands.
    type State: Clone + Ord;
    /// What was asked, and what was answered if that is known.
    type Call;

    /// Before the first call.
    fn first() -> Self::State;
    /// The state after a call, if its answer (where known) is the one that this state gives.
    fn after(state: &Self::State, call: &Self::Call) -> Option<Self::State>;
    /// Whether the answer of a call can come neither from this state nor from any later one.
    fn is_past(state: &Self::State, call: &Self::Call) -> bool;
}

/// A call of a client, between two moments.
#[derive(Clone, Debug)]
pub struct Span<C> {
    /// When it was asked.
    pub asked: u64,
    /// When it was answered; `None`: never, or nobody knows how.
    pub answered: Option<u64>,
    /// What.
    pub call: C,
}

/// What a history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order in which one client after the other would have seen the same.
    Linearizable,
    /// There is none.
    Not,
    /// Too many orders to try.
    Undecided,
}

/// Tries for one history, at most.
pub const MOST_TRIES: usize = 20_000;

/// Whether what the clients of one object saw can be put in order.
#[must_use]
pub fn check<M: Model>(history: &[Span<M::Call>]) -> Verdict {
    let mut search = Search::<M>::new(history);
    search.go()
}

/// One way to continue that is being tried.
struct Tried<S> {
    /// The call put in order here.
    call: usize,
    /// The state before it.
    before: S,
}

struct Search<'a, M: Model> {
    history: &'a [Span<M::Call>],
    /// Calls that are not placed, by the moment of their question.
    open: Vec<usize>,
    /// Calls that were answered and are not placed yet.
    missing: usize,
    /// Sets of placed calls, as bits, with the state they led to.
    known: BTreeSet<(Vec<u64>, M::State)>,
    bits: Vec<u64>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(history: &'a [Span<M::Call>]) -> Search<'a, M> {
        let mut open: Vec<usize> = (0..history.len()).collect();
        open.sort_by_key(|&call| (history[call].asked, call));
        Search {
            history,
            open,
            missing: history.iter().filter(|span| span.answered.is_some()).count(),
            known: BTreeSet::new(),
            bits: vec![0; history.len().div_ceil(64)],
        }
    }

    fn place(&mut self, call: usize, placed: bool) {
        let key = |&call: &usize| (self.history[call].asked, call);
        match self.open.binary_search_by_key(&key(&call), key) {
            Ok(at) => {
                self.open.remove(at);
            }
            Err(at) => self.open.insert(at, call),
        }
        self.bits[call / 64] ^= 1 << (call % 64);
        if self.history[call].answered.is_some() {
            self.missing = if placed { self.missing - 1 } else { self.missing + 1 };
        }
    }

    /// The calls that may come next: asked before the first answer among those that are not placed. `None` if one of
    /// them can no longer have the answer it got.
    fn candidates(&self, state: &M::State) -> Option<Vec<usize>> {
        let mut first_answer = u64::MAX;
        let mut candidates = Vec::new();
        for &call in &self.open {
            let span = &self.history[call];
            if span.asked > first_answer {
                break;
            }
            if span.answered.is_some() && M::is_past(state, &span.call) {
                return None;
            }
            first_answer = first_answer.min(span.answered.unwrap_or(u64::MAX));
            candidates.push(call);
        }
        candidates.retain(|&call| self.history[call].asked <= first_answer);
        Some(candidates)
    }

    fn go(&mut self) -> Verdict {
        let mut state = M::first();
        let mut path: Vec<Tried<M::State>> = Vec::new();
        let mut left = vec![self.candidates(&state).unwrap_or_default()];
        let mut tries = 0;
        // What nobody answered may be left out.
        while self.missing > 0 {
            let Some(call) = left.last_mut().expect("one list per depth").pop() else {
                left.pop();
                let Some(Tried { call, before }) = path.pop() else { return Verdict::Not };
                self.place(call, false);
                state = before;
                continue;
            };
            tries += 1;
            if tries > MOST_TRIES {
                return Verdict::Undecided;
            }
            let Some(after) = M::after(&state, &self.history[call].call) else { continue };
            self.place(call, true);
            if !self.known.insert((self.bits.clone(), after.clone())) {
                self.place(call, false);
                continue;
            }
            let next = if self.missing > 0 { self.candidates(&after) } else { Some(Vec::new()) };
            let Some(next) = next else {
                self.place(call, false);
                continue;
            };
            path.push(Tried { call, before: std::mem::replace(&mut state, after) });
            left.push(next);
        }
        Verdict::Linearizable
    }
}

/// A cell to which values are appended, and whose answers are a count and a hash of all that was appended.
#[derive(Clone, Copy, Debug)]
pub enum Cell {}

/// What a client asked of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellCall {
    /// What was appended; `None`: it was read.
    pub appends: Option<u64>,
    /// The count and the hash afterwards.
    pub saw: Option<(u64, u64)>,
}

impl Model for Cell {
    type State = (u64, u64);
    type Call = CellCall;

    fn first() -> (u64, u64) {
        (0, 0)
    }

    fn after(&(count, hash): &(u64, u64), call: &CellCall) -> Option<(u64, u64)> {
        let after = match call.appends {
            Some(value) => (count + 1, crate::machine::appended(hash, value)),
            None => (count, hash),
        };
        call.saw.is_none_or(|saw| saw == after).then_some(after)
    }

    fn is_past(&(count, _): &(u64, u64), call: &CellCall) -> bool {
        call.saw.is_some_and(|(saw, _)| saw < count + u64::from(call.appends.is_some()))
    }
}

/// What the clients of all cells saw.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    moment: u64,
    histories: BTreeMap<u64, Vec<Span<CellCall>>>,
}

/// A call that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    key: u64,
    at: usize,
}

impl Cells {
    /// A client appends to a key, or reads it.
    pub fn begin(&mut self, key: u64, appends: Option<u64>) -> Call {
        self.moment += 1;
        let history = self.histories.entry(key).or_default();
        history.push(Span { asked: self.moment, answered: None, call: CellCall { appends, saw: None } });
        Call { key, at: history.len() - 1 }
    }

    fn span(&mut self, begun: Call) -> &mut Span<CellCall> {
        let history = self.histories.get_mut(&begun.key).expect("what was begun has a history");
        &mut history[begun.at]
    }

    /// It was answered.
    pub fn saw(&mut self, begun: Call, saw: (u64, u64)) {
        self.moment += 1;
        let moment = self.moment;
        let span = self.span(begun);
        (span.answered, span.call.saw) = (Some(moment), Some(saw));
    }

    /// It was surely not executed, and never will be: as if it had only looked, and nobody knows at what.
    pub fn rejected(&mut self, begun: Call) {
        self.span(begun).call.appends = None;
    }

    /// The verdict on each key.
    pub fn verdicts(&self) -> impl Iterator<Item = (u64, Verdict)> + '_ {
        self.histories.iter().map(|(&key, history)| (key, check::<Cell>(history)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::appended;

    /// Cells of values appended in this order.
    fn saw(values: &[u64]) -> Option<(u64, u64)> {
        Some((values.len() as u64, values.iter().fold(0, |hash, &value| appended(hash, value))))
    }
    fn append(asked: u64, answered: u64, value: u64, all: &[u64]) -> Span<CellCall> {
        Span { asked, answered: Some(answered), call: CellCall { appends: Some(value), saw: saw(all) } }
    }
    fn lost(asked: u64, value: u64) -> Span<CellCall> {
        Span { asked, answered: None, call: CellCall { appends: Some(value), saw: None } }
    }
    fn read(asked: u64, answered: u64, all: &[u64]) -> Span<CellCall> {
        Span { asked, answered: Some(answered), call: CellCall { appends: None, saw: saw(all) } }
    }
    fn verdict(history: &[Span<CellCall>]) -> Verdict {
        check::<Cell>(history)
    }

    #[test]
    fn histories_that_can_be_ordered() {
        for (name, history) in [
            ("nothing", vec![]),
            (
                "one after the other",
                vec![append(1, 2, 7, &[7]), append(3, 4, 8, &[7, 8]), read(5, 6, &[7, 8])],
            ),
            ("against the order of the questions", vec![append(1, 4, 7, &[8, 7]), append(2, 3, 8, &[8])]),
            ("a read within a write sees it", vec![append(1, 4, 7, &[7]), read(2, 3, &[7])]),
            ("or does not", vec![append(1, 4, 7, &[7]), read(2, 3, &[])]),
            ("a lost one that was executed", vec![lost(1, 7), read(2, 3, &[7])]),
            ("much later", vec![lost(1, 7), read(2, 3, &[]), read(4, 5, &[7])]),
            ("a lost one that was not", vec![lost(1, 7), append(2, 3, 8, &[8]), read(4, 5, &[8])]),
            ("two lost ones in either order", vec![lost(1, 7), lost(2, 8), read(3, 4, &[8, 7])]),
        ] {
            assert_eq!(verdict(&history), Verdict::Linearizable, "{name}");
        }
    }

    #[test]
    fn histories_that_cannot() {
        for (name, history) in [
            ("a stale read", vec![append(1, 2, 7, &[7]), read(3, 4, &[])]),
            ("a read from the future", vec![read(1, 2, &[7]), append(3, 4, 7, &[7])]),
            ("a write that is lost", vec![append(1, 2, 7, &[7]), append(3, 4, 8, &[8])]),
            ("a write executed twice", vec![append(1, 2, 7, &[7]), read(3, 4, &[7, 7])]),
            ("two orders", vec![append(1, 4, 7, &[7, 8]), append(2, 3, 8, &[7, 8]), read(5, 6, &[8, 7])]),
            ("reads that go back", vec![append(1, 9, 7, &[7]), read(2, 3, &[7]), read(4, 5, &[])]),
            ("a lost one before its question", vec![read(1, 2, &[7]), lost(3, 7)]),
            ("a lost one that vanishes again", vec![lost(1, 7), read(2, 3, &[7]), read(4, 5, &[])]),
            ("an answer that nobody asked for", vec![append(1, 2, 7, &[9])]),
        ] {
            assert_eq!(verdict(&history), Verdict::Not, "{name}");
        }
    }

    #[test]
    fn what_was_rejected_is_in_no_order() {
        let mut cells = Cells::default();
        let begun = cells.begin(1, Some(7));
        cells.rejected(begun);
        let begun = cells.begin(1, None);
        cells.saw(begun, saw(&[7]).expect("a cell"));
        assert_eq!(cells.verdicts().collect::<Vec<_>>(), [(1, Verdict::Not)]);
    }

    #[test]
    fn many_lost_calls_do_not_explode() {
        let mut history: Vec<_> = (0..30).map(|i| lost(i, 1_000 + i)).collect();
        let mut all = Vec::new();
        for i in 0..100 {
            if i % 20 == 0 {
                all.push(1_000 + i / 20 * 3);
            }
            all.push(i);
            history.push(append(100 + 2 * i, 101 + 2 * i, i, &all));
        }
        assert_eq!(verdict(&history), Verdict::Linearizable);
        history.push(read(1_000, 1_001, &all[..all.len() - 1]));
        assert_ne!(verdict(&history), Verdict::Linearizable);
    }
}
