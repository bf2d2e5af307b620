//! How fast a tier is read again, and what was found damaged there, for as long as the process lives.

use crate::restore::TierKind;
use crate::writer::{Scrubbed, Writer};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Bytes a second while there is something to read: little beside what a disk can do.
const RATE: u64 = 16 << 20;

/// Progress through a tier.
pub(super) struct Scrub {
    kind: TierKind,
    /// The pack that was read last.
    after: String,
    due: Instant,
    damaged: BTreeSet<String>,
}

/// From the beginning of one look at everything to that of the next: reading a disk costs nothing, reading an object
/// store costs requests.
fn pass(kind: TierKind) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    if kind == TierKind::ObjectStore { 7 * DAY } else { DAY }
}

impl Scrub {
    pub(super) fn new(kind: TierKind, now: Instant) -> Scrub {
        Scrub { kind, after: String::new(), due: now, damaged: BTreeSet::new() }
    }

    /// Reads one pack, if it is time; whether what the tier lacks has grown.
    pub(super) async fn step(&mut self, writer: &mut Writer, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        let read = match writer.scrub(&self.after).await {
            Scrubbed::End => {
                self.after.clear();
                self.due = now + pass(self.kind);
                return false;
            }
            Scrubbed::Whole { pack, bytes } => (pack, bytes, None),
            Scrubbed::Damaged { pack, bytes, reason } => (pack, bytes, Some(reason)),
            // What a disk cannot read is damaged; an object store may only be out of reach.
            Scrubbed::Unread { pack, error } if self.kind != TierKind::ObjectStore => {
                (pack, RATE, Some(error.to_string()))
            }
            Scrubbed::Unread { error, .. } => {
                tracing::debug!(%error, "not read again; later");
                self.due = now + Duration::from_secs(60);
                return false;
            }
        };
        let (pack, bytes, reason) = read;
        self.due = now + Duration::from_secs(bytes) / u32::try_from(RATE).expect("a small number");
        self.after.clone_from(&pack);
        let Some(reason) = reason else { return false };
        tracing::warn!(tier = ?self.kind, pack, reason, "a pack is damaged: its pages are shipped again");
        self.damaged.insert(pack);
        writer.distrust(&self.damaged);
        true
    }

    /// A writer that was just opened knows nothing of what was found before.
    pub(super) fn remind(&mut self, writer: &mut Writer) {
        writer.distrust(&self.damaged);
    }

    /// Objects of the tier that retained checkpoints need and that are not whole.
    pub(super) fn damaged(&mut self, writer: &Writer) -> u64 {
        self.damaged.retain(|pack| writer.needs(pack));
        (self.damaged.len() + writer.unreadable().len()) as u64
    }
}
