//! The state that a writer shipped last, for as long as it may hold it: a changed leaf is shipped as what differs from the
//! leaf that the tier got then.
//!
//! A snapshot shares with the state that is written to whatever was not written to since, so what it costs is what was. Whoever
//! lets a writer make deltas asks it now and then what that is, and lets go of the snapshot where it is too much: the
//! next checkpoint then has whole pages.

use super::Writer;
use crate::format::DELTAS_MAX;
use vr_tree::Snapshot;

/// Entries and pages looked at before other tiers of the same thread get their turn.
const BREATH: u32 = 4096;
/// What a page takes beside its entries, and with each of them a pointer and a piece of its key.
const PAGE: u64 = 200;
const POINTER: u64 = 20;
/// What an entry takes beside its bytes.
const ENTRY: u64 = 32;

impl Writer {
    /// From now on a changed leaf may be shipped as a delta, at most so many away from a page that is whole (and never more
    /// than [`DELTAS_MAX`]); 0 for whole pages only, as a writer begins.
    pub fn limit_deltas(&mut self, deltas: usize) {
        self.deltas = deltas.min(DELTAS_MAX);
        if self.deltas == 0 {
            self.last = None;
        }
    }

    /// Lets go of the state that was shipped last: the next checkpoint has whole pages.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    /// Whether it holds a state to make deltas on.
    #[must_use]
    pub fn holds_last(&self) -> bool {
        self.last.is_some()
    }

    /// About how many bytes of memory only the state that was shipped last holds, if `now` is what it has become; more than
    /// `most` are not counted.
    pub async fn held(&self, now: &Snapshot, most: u64) -> u64 {
        let Some(last) = &self.last else { return 0 };
        let (mut held, mut looked) = (0, 0);
        // A page that was written to since was copied; an entry that is not there any more is kept.
        let pages =
            now.changed_since(last.changed()).map(|page| PAGE + POINTER * page.entries().len() as u64);
        let entries = last.diff(now).map(|difference| match difference {
            vr_tree::Difference::Added(old) | vr_tree::Difference::Changed { new: old, .. } => {
                ENTRY + (old.key().len() + old.value().len()) as u64
            }
            vr_tree::Difference::Removed(_) => 0,
        });
        for bytes in pages.chain(entries) {
            held += bytes;
            looked += 1;
            if held > most {
                break;
            }
            if looked % BREATH == 0 {
                tokio::task::yield_now().await;
            }
        }
        held
    }

    /// Remembers what the tier has now.
    pub(super) fn shipped(&mut self, snapshot: &Snapshot) {
        self.last = (self.deltas > 0).then(|| snapshot.clone());
    }
}
