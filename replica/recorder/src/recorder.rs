//! The ring: two segments, each a frozen replica and the inputs since.
//!
//! When the newer segment has its half of the bytes, another replica is frozen and the older segment goes. So a tape
//! reaches back over at least half of the bytes, once that many were recorded, and never weighs more than all of them,
//! beyond the frozen replicas themselves: a cut that the replica keeps or has kept lately, and its log since then.

use crate::check;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use vr_core::{Effects, Frozen, Input, Message, Now, Replica};
use vr_store::Store;
use vr_tree::Snapshot;

/// Steps that are handed on as one.
const CHUNK: usize = 1024;

/// One input and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) mono: u64,
    pub(crate) wall: u64,
    pub(crate) input: Input,
    /// See `check.rs`.
    pub(crate) effects: u64,
}

struct Segment {
    base: Arc<Frozen<Snapshot>>,
    full: Vec<Arc<Vec<Step>>>,
    open: Vec<Step>,
    bytes: usize,
}

/// Rides along with one replica. Driver's order: [`Recorder::told`], the step, [`Recorder::did`].
pub struct Recorder {
    limit: usize,
    older: Option<Segment>,
    newer: Option<Segment>,
    told: Option<(Now, Input)>,
}

/// What a recorder holds at one moment.
pub struct Tape {
    pub(crate) base: Arc<Frozen<Snapshot>>,
    pub(crate) steps: Vec<Arc<Vec<Step>>>,
    /// The replica after the last step, unless a state was on its way in.
    pub(crate) end: Option<Frozen<Snapshot>>,
}

impl Recorder {
    /// A recorder whose inputs weigh at most about `limit` bytes; 0: it records nothing.
    #[must_use]
    pub fn new(limit: usize) -> Recorder {
        Recorder { limit, older: None, newer: None, told: None }
    }

    /// Bytes of inputs that it holds now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        [&self.older, &self.newer].into_iter().flatten().map(|segment| segment.bytes).sum()
    }

    /// A step is about to be taken.
    pub fn told(&mut self, now: Now, input: &Input) {
        if self.newer.is_some() {
            self.told = Some((now, input.clone()));
        }
    }

    /// The step was taken. The snapshots that come back are no longer needed: they may be large, drop them on another
    /// thread.
    #[must_use]
    pub fn did(&mut self, replica: &mut Replica<Store>, effects: &Effects<Store>) -> Option<Snapshots> {
        if self.limit == 0 {
            return None;
        }
        let Some(segment) = &mut self.newer else { return self.begin(replica) };
        let (now, input) = self.told.take()?;
        segment.bytes += size_of::<Step>() + weight(&input);
        segment.open.push(Step { mono: now.mono, wall: now.wall, input, effects: check::of(effects) });
        if segment.open.len() == CHUNK {
            let open = std::mem::replace(&mut segment.open, Vec::with_capacity(CHUNK));
            segment.full.push(Arc::new(open));
        }
        if segment.bytes * 2 >= self.limit { self.begin(replica) } else { None }
    }

    /// A segment begins with the replica as it is.
    fn begin(&mut self, replica: &mut Replica<Store>) -> Option<Snapshots> {
        // A snapshot of the state as it is now would make every page be copied that is written to next.
        let Some(base) = replica.freeze_since(self.newer.as_ref().map(|segment| &*segment.base)) else {
            // While a state is on its way in, nothing can begin. What is there may grow to all of the bytes; then it goes.
            if self.bytes() < self.limit {
                return None;
            }
            return Some(Snapshots([self.older.take(), self.newer.take()]));
        };
        let begun = Segment { base: Arc::new(base), full: Vec::new(), open: Vec::new(), bytes: 0 };
        let gone = std::mem::replace(&mut self.older, self.newer.replace(begun));
        gone.map(|gone| Snapshots([Some(gone), None]))
    }

    /// All that it holds; `None` if it records nothing (yet). To be asked between two steps.
    #[must_use]
    pub fn tape(&self, replica: &mut Replica<Store>) -> Option<Tape> {
        let newer = self.newer.as_ref()?;
        let first = self.older.as_ref().unwrap_or(newer);
        let mut steps = Vec::new();
        for segment in [self.older.as_ref(), Some(newer)].into_iter().flatten() {
            steps.extend(segment.full.iter().cloned());
            steps.push(Arc::new(segment.open.clone()));
        }
        Some(Tape { base: first.base.clone(), steps, end: replica.freeze() })
    }
}

/// What a recorder has let go of. Nothing can be done with it but to drop it.
pub struct Snapshots(#[allow(dead_code, reason = "it is dropped, and that is all")] [Option<Segment>; 2]);

/// About how many bytes an input keeps in memory beyond its own size.
fn weight(input: &Input) -> usize {
    match input {
        Input::Submit { body, .. } => body.len(),
        Input::Requests { requests, .. } => requests.iter().map(|(_, body)| 40 + body.len()).sum(),
        Input::Message(envelope) => match &envelope.message {
            Message::Forward { requests } => requests.len(),
            Message::Prepare { entry, .. } => entry.body.len(),
            Message::Entries { entries, .. } => {
                entries.iter().map(|entry| size_of_val(entry) + entry.body.len()).sum()
            }
            Message::State { portion, .. } => portion.len(),
            Message::GetState { want, .. } => want.len(),
            Message::DoViewChange { headers, .. } | Message::StartView { headers, .. } => {
                size_of_val(&headers[..])
            }
            _ => 0,
        },
        _ => 0,
    }
}
