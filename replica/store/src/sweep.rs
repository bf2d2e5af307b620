//! Compaction: unreadable at once, removed a few versions with every log entry.
//!
//! How far the removal has come is part of the replicated state, because the tree's root covers what is not removed
//! yet. So it advances with the log and with nothing else.

use crate::error::StoreError;
use crate::layout::{self, HISTORY};
use crate::numbers::Sweep;
use crate::reply::{Body, Reply, Response};
use crate::store::Store;
use crate::types::Revision;
use vr_core::Op;
use vr_tree::Entry;

/// With each log entry at most so many versions are looked at, ...
const LOOK_AT: usize = 512;
/// ... and at most so many removed: some 0.1 ms.
const REMOVE: usize = 64;

impl Store {
    /// Moves the horizon.
    pub(crate) fn execute_compact(&mut self, revision: Revision) -> Reply {
        if revision <= self.numbers.compacted {
            return Err(StoreError::Compacted);
        }
        if revision > self.numbers.revision {
            return Err(StoreError::FutureRev);
        }
        self.numbers.compacted = revision;
        match &mut self.numbers.sweep {
            Some(sweep) => sweep.again = true,
            None => self.numbers.sweep = Some(Sweep::default()),
        }
        Ok(Response { revision: self.numbers.revision, body: Body::Compact })
    }

    /// A step of the removal, if one is under way. Once per log entry.
    pub(crate) fn sweep(&mut self, op: Op) {
        let Some(sweep) = self.numbers.sweep.take() else { return };
        let from = if sweep.cursor.is_empty() { &[HISTORY][..] } else { &sweep.cursor };
        let (mut looked, mut last) = (0, None);
        let mut dead: Vec<Entry> = Vec::new();
        for entry in self.tree.view().range(from, Some(&[HISTORY + 1])).take(LOOK_AT) {
            looked += 1;
            last = Some(entry.key());
            if is_dead(entry, self.numbers.compacted) {
                dead.push(entry.clone());
                if dead.len() == REMOVE {
                    break;
                }
            }
        }
        let at_end = looked < LOOK_AT && dead.len() < REMOVE;
        // Tree keys are prefix-free, so a further byte means "after this one".
        let next = last.map(|key| [key, &[0]].concat());
        for entry in &dead {
            self.tree.remove(entry.key(), op.0);
        }
        self.numbers.sweep = match next {
            Some(cursor) if !at_end => Some(Sweep { cursor, again: sweep.again }),
            _ => sweep.again.then(Sweep::default),
        };
    }
}

/// Whether no reader can ask for a history entry any more. A tombstone *at* the horizon stays, because a watch from
/// there is to deliver it.
pub(crate) fn is_dead(entry: &Entry, compacted: Revision) -> bool {
    let until = layout::superseded(entry.value()).expect("every entry was written or checked by this format");
    if until.0 == 0 { layout::split_history(entry.key()).1.main < compacted.0 } else { until <= compacted }
}
