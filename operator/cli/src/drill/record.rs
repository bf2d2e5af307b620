//! What the load generator knows of its own writes: the only witness of the proof.
//!
//! A write is *acknowledged* (the answer came, with the revision it got), or its outcome is *unknown* (no answer, or
//! an error that does not say that it was not carried out). Values are kept as hashes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// First half of a value's BLAKE3: enough that no two values of a drill share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueHash([u8; 16]);

impl ValueHash {
    /// Of `value`.
    #[must_use]
    pub fn of(value: &[u8]) -> ValueHash {
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(value).as_bytes()[..16]);
        ValueHash(half)
    }
}

/// What a write does to its key: a value, or its end.
pub type Effect = Option<ValueHash>;

/// A write whose answer came.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// The revision that the answer gave.
    pub revision: i64,
    /// What it did.
    pub effect: Effect,
    /// When the answer came.
    pub at: Instant,
}

/// The writes of one key.
#[derive(Clone, Debug, Default)]
pub struct History {
    acknowledged: Vec<Acknowledged>,
    unknown: Vec<Effect>,
}

impl History {
    /// Those whose answer came, in the order of their revisions.
    #[must_use]
    pub fn acknowledged(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// What writes of unknown outcome would have done.
    #[must_use]
    pub fn unknown(&self) -> &[Effect] {
        &self.unknown
    }

    /// The newest acknowledged write up to `revision`.
    #[must_use]
    pub fn newest_at(&self, revision: i64) -> Option<&Acknowledged> {
        self.acknowledged.iter().rev().find(|write| write.revision <= revision)
    }
}

/// Every write of a drill.
#[derive(Clone, Debug, Default)]
pub struct Record {
    keys: HashMap<Bytes, History>,
    acknowledged: u64,
    highest_revision: i64,
    revisions: HashSet<i64>,
    revision_twice: Option<i64>,
}

impl Record {
    /// Notes that a whole request (a put, or a transaction with all its writes) got a revision.
    pub fn answered(&mut self, revision: i64) {
        if !self.revisions.insert(revision) {
            self.revision_twice.get_or_insert(revision);
        }
    }

    /// A revision that two requests got.
    #[must_use]
    pub fn revision_twice(&self) -> Option<i64> {
        self.revision_twice
    }

    /// Requests that got a revision.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.revisions.len() as u64
    }

    /// Notes what an acknowledged request did to one key.
    pub fn acknowledge(&mut self, key: Bytes, effect: Effect, revision: i64, at: Instant) {
        let history = &mut self.keys.entry(key).or_default().acknowledged;
        // Almost always at the end: answers overtake each other only between sessions.
        let place = history.partition_point(|write| write.revision <= revision);
        history.insert(place, Acknowledged { revision, effect, at });
        self.acknowledged += 1;
        self.highest_revision = self.highest_revision.max(revision);
    }

    /// What it would be if nothing had been written above a revision. Writes of unknown outcome stay.
    #[must_use]
    pub fn until(&self, revision: i64) -> Record {
        let mut until = self.clone();
        for history in until.keys.values_mut() {
            history.acknowledged.retain(|write| write.revision <= revision);
        }
        until.keys.retain(|_, history| !history.acknowledged.is_empty() || !history.unknown.is_empty());
        until.acknowledged = until.keys.values().map(|history| history.acknowledged.len() as u64).sum();
        until
    }

    /// What it would be if nothing had been written up to a revision. Writes of unknown outcome stay.
    #[must_use]
    pub fn since(&self, revision: i64) -> Record {
        let mut since = self.clone();
        for history in since.keys.values_mut() {
            history.acknowledged.retain(|write| write.revision > revision);
        }
        since
    }

    /// The longest time in which nothing was acknowledged, between the first answer and the last, and when it began.
    #[must_use]
    pub fn longest_pause(&self) -> Option<(Instant, Duration)> {
        let mut times: Vec<Instant> =
            self.keys.values().flat_map(|history| &history.acknowledged).map(|write| write.at).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).max_by_key(|(_, pause)| *pause)
    }

    /// Notes that a write may or may not have been carried out.
    pub fn unknown(&mut self, key: Bytes, effect: Effect) {
        self.keys.entry(key).or_default().unknown.push(effect);
    }

    /// Acknowledged writes of keys, each operation of a transaction counted.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The highest revision ever seen.
    #[must_use]
    pub fn highest_revision(&self) -> i64 {
        self.highest_revision
    }

    /// A key's writes; none when it was never written.
    #[must_use]
    pub fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// All keys ever written.
    pub fn keys(&self) -> impl Iterator<Item = (&Bytes, &History)> {
        self.keys.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_overtake_each_other_are_put_in_order() {
        let mut record = Record::default();
        let key = Bytes::from("k");
        for revision in [5, 3, 9] {
            record.acknowledge(key.clone(), Some(ValueHash::of(&[revision as u8])), revision, Instant::now());
        }
        let history = record.history(b"k").expect("written");
        assert_eq!(history.newest_at(4).map(|w| w.revision), Some(3));
        assert_eq!(history.newest_at(100).map(|w| w.revision), Some(9));
        assert!(history.newest_at(2).is_none());
        assert_eq!((record.acknowledged(), record.highest_revision()), (3, 9));
    }

    #[test]
    fn the_longest_pause_is_found_whatever_the_order() {
        let mut record = Record::default();
        assert!(record.longest_pause().is_none());
        let start = Instant::now();
        for seconds in [0, 9, 1, 2] {
            let at = start + Duration::from_secs(seconds);
            record.acknowledge(format!("k{seconds}").into(), None, 1 + seconds as i64, at);
        }
        assert_eq!(record.longest_pause(), Some((start + Duration::from_secs(2), Duration::from_secs(7))));
        assert_eq!(record.since(3).history(b"k1").map(|history| history.acknowledged().len()), Some(0));
        assert_eq!(record.since(3).history(b"k9").map(|history| history.acknowledged().len()), Some(1));
    }

    #[test]
    fn a_revision_that_two_requests_got_is_noticed() {
        let mut record = Record::default();
        [2, 3, 3].into_iter().for_each(|revision| record.answered(revision));
        assert_eq!((record.revision_twice(), record.transactions()), (Some(3), 2));
    }
}
