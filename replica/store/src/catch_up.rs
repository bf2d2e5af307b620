//! The past for a watcher that is behind: the changes of a span since a revision, from the tree.

use crate::event::{Event, EventKind};
use crate::key_value::KeyValue;
use crate::layout::{self, HISTORY, Pair, Past};
use crate::range;
use crate::sweep;
use crate::types::Revision;
use crate::view::View;
use crate::watch::Watch;
use vr_tree::Entry;

/// A piece of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// The changes, in order, whole revisions.
    pub events: Vec<Event>,
    /// The revision to go on from.
    pub next: Revision,
    /// Whether nothing is left in this view.
    pub done: bool,
}

/// The asked revision is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision that is.
    pub compacted: Revision,
}

impl View {
    /// What a watch has to be told from revision `from` on: at most `max` changes, but always all of a revision.
    ///
    /// Costs what the span holds of keys and history, not what has changed: best on another thread for wide spans.
    ///
    /// # Errors
    /// [`Compacted`] if history since `from` is gone; cancel the watcher with that revision.
    pub fn history_since(&self, watch: &Watch, from: Revision, max: usize) -> Result<CatchUp, Compacted> {
        if from < self.compacted() {
            return Err(Compacted { compacted: self.compacted() });
        }
        let mut found = self.changes_since(watch, from);
        found.sort_unstable_by_key(|(at, _, _)| *at);
        let mut end = max.max(1);
        while end < found.len() && found[end].0.main == found[end - 1].0.main {
            end += 1;
        }
        let done = end >= found.len();
        let next = if done { self.revision().next().max(from) } else { Revision(found[end].0.main) };
        found.truncate(end);
        let events = found.into_iter().map(|(at, kind, entry)| self.event(watch, at, kind, entry)).collect();
        Ok(CatchUp { events, next, done })
    }

    fn changes_since(&self, watch: &Watch, from: Revision) -> Vec<(Pair, EventKind, &Entry)> {
        let mut found = Vec::new();
        if !watch.no_put {
            for entry in range::live(self.tree(), watch.span()) {
                let at = layout::live_pair(entry.value());
                let at = at.expect("every entry was written or checked by this format");
                if at.main >= from.0 {
                    found.push((at, EventKind::Put, entry));
                }
            }
        }
        let (low, high) = layout::bounds(HISTORY, watch.span());
        for entry in self.tree().range(&low, Some(&high)) {
            let (_, at) = layout::split_history(entry.key());
            if at.main < from.0 || sweep::is_dead(entry, self.compacted()) {
                continue;
            }
            let deleted = layout::superseded(entry.value()).is_some_and(|until| until.0 == 0);
            let kind = if deleted { EventKind::Delete } else { EventKind::Put };
            if !watch.filters(kind) {
                found.push((at, kind, entry));
            }
        }
        found
    }

    fn event(&self, watch: &Watch, at: Pair, kind: EventKind, entry: &Entry) -> Event {
        let kv = if entry.key()[0] == HISTORY {
            KeyValue::past(entry).map(|(kv, _)| kv)
        } else {
            KeyValue::live(entry)
        };
        let kv = kv.expect("every entry was written or checked by this format");
        // A transaction may delete a key and set it again: what was there before belongs to the deletion.
        let creates = kind == EventKind::Put && kv.create_revision() == kv.mod_revision();
        let wanted = watch.prev_kv && !creates;
        let prev = if wanted { self.current_before(&kv, Revision(at.main)) } else { None };
        Event { kind, kv, prev }
    }

    /// What a key held just before a revision, if that is still known.
    fn current_before(&self, kv: &KeyValue, revision: Revision) -> Option<KeyValue> {
        if revision <= self.compacted() {
            return None;
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        layout::key_in(HISTORY, kv.key(), &mut low);
        layout::history_key(kv.key(), Pair { main: revision.0, sub: 0 }, &mut high);
        // The last version before is enough: the one that ended at this revision, or a tombstone.
        let mut last = None;
        for entry in self.tree().range(&low, Some(&high)) {
            last = Some(entry);
        }
        match KeyValue::past(last?)? {
            (kv, Past::Put { superseded, .. }) if superseded >= revision => Some(kv),
            _ => None,
        }
    }
}
