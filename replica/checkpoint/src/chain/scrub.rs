//! How fast a tier is read again, and what was found damaged there or lost, for as long as the process lives. When a look at
//! everything has ended and nothing damaged was needed stands in the tier's HEAD, so that a start alone is no reason for
//! another.

use super::{Shared, Spares, lock};
use crate::format::Names;
use crate::restore::{Source, TierKind};
use crate::writer::{Scrubbed, WriteError, Writer, now_micros};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Bytes a second while there is something to read: little beside what a disk can do.
const RATE: u64 = 16 << 20;

/// How long other replicas may be asked at a time, for what no own tier could help with: checkpoints wait meanwhile.
const FAR: Duration = Duration::from_secs(60);

/// Progress through a tier.
pub(super) struct Scrub {
    kind: TierKind,
    /// The pack that was read last.
    after: String,
    /// First and last ops of the segments that are read once all packs are.
    segments: Option<VecDeque<(u64, u64)>>,
    /// None until the tier was asked when it was last read.
    due: Option<Instant>,
    damaged: BTreeSet<String>,
}

/// From the end of one look at everything to the beginning of the next: reading a disk costs nothing, reading an object
/// store costs requests.
fn pass(kind: TierKind) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    if kind == TierKind::ObjectStore { 7 * DAY } else { DAY }
}

/// How long the next look has to wait after one that ended at `last`; both in microseconds since the Unix epoch. A time
/// that is still to come is one of a wrong clock.
fn wait(pass: Duration, last: u64, now: u64) -> Duration {
    match now.checked_sub(last) {
        Some(since) => pass.saturating_sub(Duration::from_micros(since)),
        None => pass,
    }
}

impl Scrub {
    pub(super) fn new(kind: TierKind) -> Scrub {
        Scrub { kind, after: String::new(), segments: None, due: None, damaged: BTreeSet::new() }
    }

    /// Reads one object, if it is time; whether what the tier lacks has grown.
    pub(super) async fn step(&mut self, writer: &mut Writer, now: Instant) -> Result<bool, WriteError> {
        let last = writer.head().scrubbed_micros;
        let due = *self.due.get_or_insert_with(|| now + wait(pass(self.kind), last, now_micros()));
        if now < due {
            return Ok(false);
        }
        let scrubbed = match &mut self.segments {
            None => writer.scrub(&self.after).await,
            Some(segments) => match segments.pop_front() {
                Some(range) => writer.scrub_segment(range).await,
                None => Scrubbed::End,
            },
        };
        let (key, bytes, reason) = match scrubbed {
            Scrubbed::End if self.segments.is_none() => {
                self.segments = Some(writer.segments().await?.into());
                return Ok(false);
            }
            Scrubbed::End => {
                (self.after, self.segments) = (String::new(), None);
                self.due = Some(now + pass(self.kind));
                // Only this process knows what is damaged: the next one must find it again while it is needed.
                if self.damaged(writer) == 0 {
                    writer.scrub_ended().await?;
                }
                return Ok(false);
            }
            Scrubbed::Whole { key, bytes } => (key, bytes, None),
            Scrubbed::Damaged { key, bytes, reason } => (key, bytes, Some(reason)),
            // What a disk cannot read is damaged; an object store may only be out of reach.
            Scrubbed::Unread { key, error } if self.kind != TierKind::ObjectStore => {
                (key, RATE, Some(error.to_string()))
            }
            Scrubbed::Unread { error, .. } => {
                tracing::debug!(%error, "not read again; later");
                self.due = Some(now + Duration::from_secs(60));
                return Ok(false);
            }
        };
        self.due = Some(now + Duration::from_secs(bytes) / u32::try_from(RATE).expect("a small number"));
        if self.segments.is_none() {
            self.after.clone_from(&key);
        }
        let Some(reason) = reason else { return Ok(false) };
        tracing::warn!(tier = ?self.kind, object = key, reason, "damaged");
        self.damaged.insert(key);
        writer.distrust(&self.damaged);
        Ok(true)
    }

    /// Pieces of the log are not there any more; whether that is news.
    pub(super) fn lost(&mut self, segments: Vec<String>) -> bool {
        let before = self.damaged.len();
        for key in segments {
            if self.damaged.insert(key.clone()) {
                tracing::warn!(tier = ?self.kind, object = key, "a piece of the log is missing");
            }
        }
        self.damaged.len() > before
    }

    /// How far the tier leads where its log has these segments.
    pub(super) fn reaches(&self, writer: &Writer, segments: &[(u64, u64)]) -> u64 {
        writer.reaches(segments, &self.damaged)
    }

    /// Tries to make whole where it stands what is damaged, other replicas last: how much was, and how much is left.
    pub(super) async fn repair(
        &mut self,
        writer: &mut Writer,
        place: usize,
        Spares { tiers, others }: &Spares,
        shared: &Shared,
    ) -> Result<(u64, u64), WriteError> {
        self.damaged.retain(|key| writer.needs(key));
        let from_memory = self.repair_from_memory(writer, shared).await?;
        let mut keys: Vec<String> = self.damaged.iter().chain(writer.unreadable()).cloned().collect();
        // An index says what a pack held, and which packs a checkpoint needs.
        keys.sort_by_key(|key| !key.ends_with(".idx"));
        let (all, own) = (keys.len() as u64, &tiers[place]);
        let mut left = self.repair_from(writer, keys, own, tiers, None).await?;
        if let Some(others) = others.as_ref().filter(|_| !left.is_empty()) {
            let everywhere = [tiers.to_vec(), others.disks().await].concat();
            let until = Instant::now() + FAR;
            left = self.repair_from(writer, left, own, &everywhere, Some(until)).await?;
        }
        let left = left.len() as u64;
        Ok((from_memory + all - left, left))
    }

    /// Log that some tier has yet to get is at hand; how many segments were made of it.
    async fn repair_from_memory(&mut self, writer: &mut Writer, shared: &Shared) -> Result<u64, WriteError> {
        let mut repaired = 0;
        for key in self.damaged.clone() {
            let range = Names::of(&key).and_then(|names| names.segment_range(&key));
            let Some(body) = range.and_then(|(first, last)| lock(&shared.tail).piece(first, last)) else {
                continue;
            };
            match writer.replace_segment(&key, body).await? {
                Ok(()) => {
                    tracing::info!(tier = ?self.kind, object = key, "made whole from memory");
                    self.damaged.remove(&key);
                    repaired += 1;
                }
                Err(reason) => tracing::warn!(tier = ?self.kind, object = key, reason, "not made whole"),
            }
        }
        Ok(repaired)
    }

    /// Those of the objects that are not whole afterwards. None is begun after `until`.
    async fn repair_from(
        &mut self,
        writer: &mut Writer,
        keys: Vec<String>,
        own: &Source,
        sources: &[Source],
        until: Option<Instant>,
    ) -> Result<Vec<String>, WriteError> {
        let mut left = Vec::new();
        for key in keys {
            if until.is_some_and(|until| Instant::now() > until) {
                left.push(key);
                continue;
            }
            match writer.repair(&key, own, sources).await? {
                Ok(()) => {
                    tracing::info!(tier = ?self.kind, object = key, "made whole");
                    self.damaged.remove(&key);
                    if key.ends_with(".idx") || key.ends_with(".json") {
                        // Nobody knew which packs it names, so nobody has read them.
                        (self.after, self.segments, self.due) = (String::new(), None, Some(Instant::now()));
                    }
                }
                Err(reason) => {
                    tracing::warn!(
                        tier = ?self.kind, object = key, reason, places = sources.len(), "not made whole"
                    );
                    left.push(key);
                }
            }
        }
        Ok(left)
    }

    /// A writer that was just opened knows nothing of what was found before.
    pub(super) fn remind(&mut self, writer: &mut Writer) {
        writer.distrust(&self.damaged);
    }

    /// Objects of the tier that retained checkpoints need and that are not whole.
    pub(super) fn damaged(&mut self, writer: &Writer) -> u64 {
        self.damaged.retain(|key| writer.needs(key));
        (self.damaged.len() + writer.unreadable().len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_comes_a_pass_after_the_last_whatever_was_started_between() {
        let day = Duration::from_secs(24 * 3600);
        let micros = |span: Duration| u64::try_from(span.as_micros()).expect("fits");
        let now = micros(day * 20_000);
        assert_eq!(wait(day, 0, now), Duration::ZERO, "never read");
        assert_eq!(wait(day, now - micros(day / 4), now), day * 3 / 4);
        assert_eq!(wait(day, now - micros(day * 2), now), Duration::ZERO);
        assert_eq!(wait(day, now + micros(day * 9), now), day, "a clock was wrong");
    }
}
