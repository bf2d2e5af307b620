//! Telling a replica all again.

use crate::check;
use crate::file::{End, Recording};
use crate::recorder::Step;
use std::collections::BTreeMap;
use vr_core::{Digest, Effect, Effects, Input, Now, Op, Replica, ThawError};
use vr_store::{OpenError, Store};

/// Cuts whose roots are remembered until the recording names theirs.
const CUTS: usize = 64;

/// What a replay came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Steps taken.
    pub steps: usize,
    /// Cuts whose roots were compared.
    pub roots: usize,
    /// The newest op that is executed at the end.
    pub op: Op,
    /// The root of the state there. The whole replica was compared then; `None` if that could not be, because another state
    /// was on its way in.
    pub root: Option<Digest>,
}

/// Where a replay came to something else than what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The state to begin from is none.
    #[error("the recording has no state to begin from: {0}")]
    State(OpenError),
    /// What is there of the replica to begin from does not belong together.
    #[error("the recording has no replica to begin from: {0}")]
    Replica(ThawError),
    /// A step did something else.
    #[error("step {step} ({input}) did something else than was recorded: {did}")]
    Effects {
        /// Which, from 0.
        step: usize,
        /// What the replica was told.
        input: String,
        /// What it did now.
        did: String,
    },
    /// A cut has another root.
    #[error("step {step}: the cut at op {op} has root {root} now, {recorded} was recorded")]
    Root {
        /// The step that names the root.
        step: usize,
        /// The cut.
        op: Op,
        /// Its root now.
        root: Digest,
        /// As recorded.
        recorded: Digest,
    },
    /// All steps were the same, and yet.
    #[error("all steps did the same, but {0} differs at the end")]
    End(&'static str),
}

impl Recording {
    /// Takes every step again; `told` hears of each before it is taken, with its effects after.
    ///
    /// # Errors
    /// The first difference.
    pub fn replay(&self, mut told: impl FnMut(&Told<'_>)) -> Result<Replayed, Difference> {
        let state = Store::from_snapshot(self.state.clone(), self.options).map_err(Difference::State)?;
        let mut replica = Replica::thaw(&self.apart, state, &self.cuts).map_err(Difference::Replica)?;
        let (mut effects, mut roots, mut compared) = (Effects::new(), BTreeMap::new(), 0);
        let (mut events, mut leases) = (Vec::new(), Vec::new());
        for (number, step) in self.steps.iter().enumerate() {
            let Step { mono, wall, ref input, effects: recorded } = *step;
            if let Input::CutRoot { op, root: recorded } = *input
                && let Some(root) = roots.remove(&op)
            {
                if root != recorded {
                    return Err(Difference::Root { step: number, op, root, recorded });
                }
                compared += 1;
            }
            replica.step(Now { mono, wall }, input.clone(), &mut effects);
            told(&Told { number, mono, input, effects: &effects });
            if check::of(&effects) != recorded {
                let input = told_what(input);
                return Err(Difference::Effects { step: number, input, did: describe(&effects) });
            }
            for effect in effects.0.drain(..) {
                if let Effect::Cut { op, snapshot, .. } = effect {
                    roots.insert(op, Digest(snapshot.root()));
                }
            }
            while roots.len() > CUTS {
                roots.pop_first();
            }
            // The driver takes these out; here nobody waits for them.
            let store = replica.state_mut();
            store.drain_events(&mut events);
            store.drain_lease_changes(&mut leases);
            events.clear();
            leases.clear();
        }
        self.compare_end(&mut replica, compared)
    }

    fn compare_end(&self, replica: &mut Replica<Store>, roots: usize) -> Result<Replayed, Difference> {
        let (steps, op) = (self.steps.len(), replica.commit());
        let Some(frozen) = replica.freeze() else {
            return match self.end {
                None => Ok(Replayed { steps, roots, op, root: None }),
                Some(_) => Err(Difference::End("that a state is on its way in")),
            };
        };
        let end = End::of(&frozen.apart, &frozen.state);
        match self.end {
            None => Err(Difference::End("that no state is on its way in")),
            Some(recorded) if recorded.root != end.root => Err(Difference::End("the root of the state")),
            Some(recorded) if recorded.apart != end.apart => Err(Difference::End("the replica")),
            Some(_) => Ok(Replayed { steps, roots, op, root: Some(end.root) }),
        }
    }
}

/// A step of a replay.
pub struct Told<'a> {
    /// Which, from 0.
    pub number: usize,
    /// When: microseconds on the replica's monotonic clock.
    pub mono: u64,
    input: &'a Input,
    effects: &'a Effects<Store>,
}

impl std::fmt::Display for Told<'_> {
    /// One line: number, time, input, effects.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (input, did) = (told_what(self.input), describe(self.effects));
        write!(f, "{:>8} {:>12} {input} -> {did}", self.number, self.mono)
    }
}

/// The name of what `Debug` prints, and its first fields.
fn short(value: &impl std::fmt::Debug) -> String {
    const MOST: usize = 160;
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An input in a line's beginning; of a message what is said, not where it belongs.
fn told_what(input: &Input) -> String {
    match input {
        Input::Message(envelope) => format!("{} says {}", envelope.from, short(&envelope.message)),
        input => short(input),
    }
}

fn describe(effects: &Effects<Store>) -> String {
    let names: Vec<String> = effects.0.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn name(effect: &Effect<Store>) -> String {
    match effect {
        Effect::Send(to, message) => format!("Send {to} {}", variant(message)),
        Effect::Broadcast(message) => format!("Broadcast {}", variant(message)),
        Effect::WriteVote(record) => format!("WriteVote {}", record.ballot),
        Effect::Reply { number, op, .. } => format!("Reply {number} at {op}"),
        Effect::Rejected { number } => format!("Rejected {number}"),
        Effect::Unknown { number } => format!("Unknown {number}"),
        Effect::Answers { op, answers } => format!("Answers {} at {op}", answers.len()),
        Effect::Declined { number, .. } => format!("Declined {number}"),
        Effect::Registered { .. } => "Registered".to_owned(),
        Effect::Forgotten { .. } => "Forgotten".to_owned(),
        Effect::ReadReady { token } => format!("ReadReady {token}"),
        Effect::ReadFailed { token } => format!("ReadFailed {token}"),
        Effect::Committed(entry) => format!("Committed {}", entry.header.op),
        Effect::Cut { op, .. } => format!("Cut {op}"),
        Effect::Certified { op, .. } => format!("Certified {op}"),
        Effect::Diverged { op, .. } => format!("Diverged {op}"),
        Effect::Reconfigured { token, .. } => format!("Reconfigured {token}"),
        Effect::HandedOff { token, .. } => format!("HandedOff {token}"),
        Effect::Configuration(configuration, _) => format!("Configuration {}", configuration.epoch),
        Effect::Retired(epoch) => format!("Retired {epoch}"),
        Effect::Standing(status, ballot) => format!("Standing {status:?} {ballot}"),
        Effect::StateReplaced(op) => format!("StateReplaced {op}"),
        Effect::Release(_) => "Release".to_owned(),
        Effect::ReleaseState(_) => "ReleaseState".to_owned(),
        Effect::ReleaseImport(_) => "ReleaseImport".to_owned(),
        Effect::Fatal(reason) => format!("Fatal {reason}"),
    }
}

fn variant(message: &vr_core::Message) -> String {
    let text = format!("{message:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
