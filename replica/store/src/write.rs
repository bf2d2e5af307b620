//! Changing keys: one [`Change`] is one revision, however many keys it touches.

use crate::command::{DeleteRange, Put};
use crate::error::StoreError;
use crate::event::{Event, EventKind};
use crate::key_value::KeyValue;
use crate::layout::{self, LIVE, Pair, TOMBSTONE, Version};
use crate::range::{self, Horizon};
use crate::reply::{Body, Reply, Response};
use crate::store::Store;
use crate::types::{LeaseId, Revision, Span};
use vr_core::Op;
use vr_tree::Entry;

/// What a version costs beside its key and value, roughly: tree keys, numbers, and the history that it will be.
const OVERHEAD: u64 = 64;

/// A revision in the making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The log entry that makes it.
    op: Op,
    /// The revision before.
    before: Revision,
    /// Keys changed so far.
    changes: u32,
}

impl Change {
    pub(crate) fn begin(store: &Store, op: Op) -> Change {
        Change { op, before: store.numbers.revision, changes: 0 }
    }

    /// The newest revision that a reader inside the change sees: its own once it has changed something.
    pub(crate) fn revision(&self) -> Revision {
        if self.changes == 0 { self.before } else { self.before.next() }
    }

    /// Where the next changed key stands.
    fn pair(&self) -> Pair {
        Pair { main: self.before.next().0, sub: self.changes }
    }

    /// Ends it: the store is at its revision.
    pub(crate) fn end(self, store: &mut Store) -> Revision {
        store.numbers.revision = self.revision();
        store.numbers.revision
    }
}

impl Store {
    /// A put of its own.
    pub(crate) fn execute_put(&mut self, op: Op, put: &Put<'_>) -> Reply {
        crate::validate::put(put)?;
        self.admit_growth(put_cost(put))?;
        self.check_put(put)?;
        self.admit_revision()?;
        let mut change = Change::begin(self, op);
        let prev = self.put(&mut change, put);
        Ok(Response { revision: change.end(self), body: Body::Put { prev } })
    }

    /// A deletion of its own.
    pub(crate) fn execute_delete(&mut self, op: Op, delete: &DeleteRange<'_>) -> Reply {
        crate::validate::delete(delete)?;
        if range::live_count(self.tree.view(), delete.span) > 0 {
            self.admit_revision()?;
        }
        let mut change = Change::begin(self, op);
        let body = self.delete(&mut change, delete);
        Ok(Response { revision: change.end(self), body })
    }

    /// What a put depends on in the state: its lease, and the key that `ignore_…` refers to.
    pub(crate) fn check_put(&self, put: &Put<'_>) -> Result<(), StoreError> {
        if put.lease != LeaseId::NONE && !self.leases.contains(put.lease) {
            return Err(StoreError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease)
            && range::live_count(self.tree.view(), Span::one(put.key)) == 0
        {
            return Err(StoreError::KeyNotFound);
        }
        Ok(())
    }

    /// Whether the state may grow by about so much.
    pub(crate) fn admit_growth(&self, cost: u64) -> Result<(), StoreError> {
        let limit = self.options.memory_limit;
        // Nearly always the whole tree has room, and then there is nothing to look up in it.
        let fits = limit == 0 || cost == 0 || self.tree.view().bytes() + cost <= limit;
        if fits || self.bytes_without_core_state() + cost <= limit {
            Ok(())
        } else {
            Err(StoreError::NoSpace)
        }
    }

    /// Whether one more revision may be handed out.
    pub(crate) fn admit_revision(&self) -> Result<(), StoreError> {
        if self.numbers.revision >= self.numbers.reserved {
            return Err(StoreError::ReservationExhausted);
        }
        Ok(())
    }

    /// Sets a key that has passed [`Store::check_put`]; the previous version where it was asked for.
    pub(crate) fn put(&mut self, change: &mut Change, put: &Put<'_>) -> Option<KeyValue> {
        let at = change.pair();
        let mut live = std::mem::take(&mut self.scratch.live);
        layout::key_in(LIVE, put.key, &mut live);
        let old = self.tree.view().get(&live).map(|entry| (read_live(entry), entry));

        let (mut value, mut lease) = (put.value, put.lease);
        let mut version = Version { at, create: at.main, version: 1, lease };
        if let Some(((old, value_at), entry)) = old {
            version.create = old.create;
            version.version = old.version + 1;
            if put.ignore_value {
                value = &entry.value()[value_at..];
            }
            if put.ignore_lease {
                lease = old.lease;
                version.lease = lease;
            }
        }
        let old_lease = old.map_or(LeaseId::NONE, |((old, _), _)| old.lease);
        layout::live_value(&version, value, &mut self.scratch.value);
        let entry = Entry::new(&live, &self.scratch.value);
        let kv = range::live_kv(&entry);
        let replaced = self.tree.put_entry(entry, change.op.0);
        self.leases.moved(put.key, old_lease, lease);

        let prev = replaced.map(|entry| {
            self.keep_past(change, &entry);
            range::live_kv(&entry)
        });
        let answer = if put.prev_kv { prev.clone() } else { None };
        self.scratch.live = live;
        self.push_event(change, EventKind::Put, kv, prev);
        change.changes += 1;
        answer
    }

    /// Deletes the keys of a span.
    pub(crate) fn delete(&mut self, change: &mut Change, delete: &DeleteRange<'_>) -> Body {
        let entries: Vec<Entry> = if delete.span.is_one() {
            layout::key_in(LIVE, delete.span.key, &mut self.scratch.live);
            self.tree.view().get(&self.scratch.live).cloned().into_iter().collect()
        } else {
            range::live(self.tree.view(), delete.span).cloned().collect()
        };
        let mut prev = Vec::new();
        for entry in &entries {
            let kv = self.delete_entry(change, entry);
            if delete.prev_kv {
                prev.push(kv);
            }
        }
        Body::DeleteRange { deleted: entries.len() as u64, prev }
    }

    /// Deletes one key, if it is there.
    pub(crate) fn delete_key(&mut self, change: &mut Change, key: &[u8]) {
        self.delete(change, &DeleteRange { span: Span::one(key), prev_kv: false });
    }

    fn delete_entry(&mut self, change: &mut Change, entry: &Entry) -> KeyValue {
        let at = change.pair();
        let old = range::live_kv(entry);
        self.tree.remove(entry.key(), change.op.0);
        self.keep_past(change, entry);
        self.leases.moved(old.key(), old.lease(), LeaseId::NONE);

        layout::history_key_of_live(entry.key(), at, &mut self.scratch.past);
        let tombstone = Entry::new(&self.scratch.past, TOMBSTONE);
        let (kv, _) = KeyValue::past(&tombstone).expect("it has the form of a tombstone");
        self.tree.put_entry(tombstone, change.op.0);
        self.push_event(change, EventKind::Delete, kv, Some(old.clone()));
        change.changes += 1;
        old
    }

    /// Puts what was live until this change into history.
    fn keep_past(&mut self, change: &Change, entry: &Entry) {
        let (version, value_at) = read_live(entry);
        layout::history_key_of_live(entry.key(), version.at, &mut self.scratch.past);
        let value = &entry.value()[value_at..];
        layout::history_value(&version, change.before.next(), value, &mut self.scratch.value);
        self.tree.put(&self.scratch.past, &self.scratch.value, change.op.0);
    }

    fn push_event(&mut self, change: &Change, kind: EventKind, kv: KeyValue, prev: Option<KeyValue>) {
        // Watchers compare with the revision before, not with an earlier step of this one.
        let prev = match prev {
            Some(prev) if prev.mod_revision() > change.before => {
                let own = &self.events[self.events.len() - change.changes as usize..];
                own.iter().find(|e| e.kv.key() == kv.key()).and_then(|e| e.prev.clone())
            }
            prev => prev,
        };
        self.events.push(Event { kind, kv, prev });
    }

    /// Without what cuts put there, because replicas may differ in when they cut.
    fn bytes_without_core_state(&self) -> u64 {
        let tree = self.tree.view();
        let cut = [layout::NUMBERS_KEY, layout::CORE_KEY];
        let of_cut: usize = cut.iter().filter_map(|key| tree.get(key)).map(|e| e.value().len() + 8).sum();
        tree.bytes().saturating_sub(of_cut as u64)
    }

    pub(crate) fn horizon_in(&self, change: &Change) -> Horizon {
        Horizon { revision: change.revision(), ..self.horizon() }
    }
}

/// About how much a put adds.
pub(crate) fn put_cost(put: &Put<'_>) -> u64 {
    (put.key.len() + put.value.len()) as u64 + OVERHEAD
}

fn read_live(entry: &Entry) -> (Version, usize) {
    layout::read_live(entry.value()).expect("every entry was written or checked by this format")
}
