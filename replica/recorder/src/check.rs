//! What a step did, in eight bytes: enough to notice that it did something else, cheap enough for every step.
//!
//! Bodies are not looked at where a digest stands beside them, nor are replies, whose content is the state machine's:
//! what it makes of a request shows in the roots.

use std::hash::{Hash, Hasher};
use vr_core::{Effect, Effects, Message};
use vr_store::Store;

/// A fast hash, the same in every process of one build.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.write_u64(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(word) ^ (rest.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The effects of one step.
pub(crate) fn of(effects: &Effects<Store>) -> u64 {
    let mut mix = Mix::default();
    for effect in &effects.0 {
        std::mem::discriminant(effect).hash(&mut mix);
        one(effect, &mut mix);
    }
    mix.finish()
}

fn one(effect: &Effect<Store>, mix: &mut Mix) {
    match effect {
        Effect::Send(to, what) => {
            to.hash(mix);
            message(what, mix);
        }
        Effect::Broadcast(what) => message(what, mix),
        Effect::WriteVote(record) => record.hash(mix),
        Effect::Reply { number, op, .. } => (number, op).hash(mix),
        Effect::Rejected { number } | Effect::Unknown { number } => number.hash(mix),
        Effect::Answers { op, answers } => {
            op.hash(mix);
            answers.iter().for_each(|(session, number, _)| (session, number).hash(mix));
        }
        Effect::Declined { session, number, fate } => (session, number, fate).hash(mix),
        Effect::Registered { session } | Effect::Forgotten { session } => session.hash(mix),
        Effect::ReadReady { token } | Effect::ReadFailed { token } => token.hash(mix),
        Effect::Committed(entry) => entry.header.hash(mix),
        Effect::Cut { op, ballot, time, digest, .. } => (op, ballot, time, digest).hash(mix),
        Effect::Certified { op, root, by } => (op, root, by).hash(mix),
        Effect::Diverged { op, certified, ours } => (op, certified, ours).hash(mix),
        Effect::Reconfigured { token, outcome } => (token, outcome).hash(mix),
        Effect::HandedOff { token, outcome } => {
            token.hash(mix);
            outcome.is_ok().hash(mix);
        }
        Effect::Configuration(configuration, begun) => (configuration, begun).hash(mix),
        Effect::Retired(epoch) => epoch.hash(mix),
        Effect::Standing(status, ballot) => (status, ballot).hash(mix),
        Effect::StateReplaced(op) => op.hash(mix),
        Effect::Fatal(reason) => reason.hash(mix),
        Effect::Release(_) | Effect::ReleaseState(_) | Effect::ReleaseImport(_) => {}
    }
}

fn message(message: &Message, mix: &mut Mix) {
    match message {
        Message::Prepare { ballot, commit, entry } => (ballot, commit, &entry.header).hash(mix),
        Message::Entries { ballot, oldest, entries } => {
            (ballot, oldest).hash(mix);
            entries.iter().for_each(|entry| entry.header.hash(mix));
        }
        Message::Forward { requests } => requests.len().hash(mix),
        Message::State { ballot, cut, root, number, portion } => {
            (ballot, cut, root, number, portion.len()).hash(mix);
        }
        other => {
            std::mem::discriminant(other).hash(mix);
            other.hash(mix);
        }
    }
}
