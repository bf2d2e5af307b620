//! Reading a range of keys, now or at an old revision.
//!
//! Now is the live space alone, and its count a difference of ranks. An old revision merges the live keys that are not
//! younger with the versions of history that were current then.

use crate::command::{RangeQuery, SortOrder, SortTarget};
use crate::error::StoreError;
use crate::key_value::KeyValue;
use crate::layout::{self, HISTORY, LIVE};
use crate::reply::RangeResult;
use crate::types::{Revision, Span};
use std::cmp::Ordering;
use vr_tree::{Entry, Snapshot};

/// Which revisions of a tree can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The newest.
    pub(crate) revision: Revision,
    /// The oldest.
    pub(crate) compacted: Revision,
}

impl Horizon {
    /// The revision that a request means by `asked`.
    pub(crate) fn resolve(self, asked: Revision) -> Result<Revision, StoreError> {
        if asked > self.revision {
            return Err(StoreError::FutureRev);
        }
        let revision = if asked.0 <= 0 { self.revision } else { asked };
        if revision < self.compacted { Err(StoreError::Compacted) } else { Ok(revision) }
    }
}

/// Answers a range.
pub(crate) fn range(
    tree: &Snapshot,
    horizon: Horizon,
    query: &RangeQuery<'_>,
) -> Result<RangeResult, StoreError> {
    let at = horizon.resolve(query.revision)?;
    let mut result = RangeResult { revision: horizon.revision, ..RangeResult::default() };
    let limit = usize::try_from(query.limit).unwrap_or(0);
    let fetch = if query.count_only {
        0
    } else if limit == 0 || is_filtered(query) || !is_default_order(query) {
        usize::MAX
    } else {
        // One more tells whether there are more.
        limit.saturating_add(1)
    };
    if at == horizon.revision {
        (result.kvs, result.count) = read_now(tree, query.span, fetch);
    } else {
        (result.kvs, result.count) = read_at(tree, query.span, at, fetch);
    }
    filter(&mut result.kvs, query);
    sort(&mut result.kvs, query);
    if limit > 0 && result.kvs.len() > limit {
        result.kvs.truncate(limit);
        result.more = true;
    }
    if query.keys_only {
        let keep_lease = query.sort_target == SortTarget::Value;
        result.kvs = result.kvs.into_iter().map(|kv| kv.key_only(keep_lease)).collect();
    }
    Ok(result)
}

/// The live entries of a span, in key order.
pub(crate) fn live<'a>(tree: &'a Snapshot, span: Span<'_>) -> impl Iterator<Item = &'a Entry> + use<'a> {
    let (from, to) = layout::bounds(LIVE, span);
    tree.range(&from, Some(&to))
}

/// How many live keys there are in a span.
pub(crate) fn live_count(tree: &Snapshot, span: Span<'_>) -> u64 {
    let (from, to) = layout::bounds(LIVE, span);
    if span.is_one() {
        return u64::from(tree.get(&from).is_some());
    }
    // A span may end before it begins.
    tree.rank(&to).saturating_sub(tree.rank(&from))
}

/// A live entry as a reader sees it.
pub(crate) fn live_kv(entry: &Entry) -> KeyValue {
    KeyValue::live(entry).expect("every entry was written or checked by this format")
}

fn read_now(tree: &Snapshot, span: Span<'_>, fetch: usize) -> (Vec<KeyValue>, i64) {
    if span.is_one() {
        let (from, _) = layout::bounds(LIVE, span);
        let entry = tree.get(&from);
        return (entry.filter(|_| fetch > 0).map(live_kv).into_iter().collect(), i64::from(entry.is_some()));
    }
    let kvs: Vec<_> =
        if fetch == 0 { Vec::new() } else { live(tree, span).take(fetch).map(live_kv).collect() };
    // Everything was fetched: no need to ask the tree again.
    let count = if kvs.len() < fetch && fetch > 0 { kvs.len() as u64 } else { live_count(tree, span) };
    (kvs, count as i64)
}

fn read_at(tree: &Snapshot, span: Span<'_>, at: Revision, fetch: usize) -> (Vec<KeyValue>, i64) {
    let (from, to) = layout::bounds(HISTORY, span);
    let mut now = live(tree, span)
        .filter(|e| layout::live_pair(e.value()).is_some_and(|pair| pair.main <= at.0))
        .peekable();
    let mut past = tree.range(&from, Some(&to)).filter(|e| was_current(e, at)).peekable();
    let (mut kvs, mut count) = (Vec::new(), 0);
    loop {
        let live_first = match (now.peek(), past.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            // The two spaces hold different keys here: a key was one version only at that revision.
            (Some(n), Some(p)) => n.key()[1..] < p.key()[1..],
        };
        let entry = if live_first { now.next() } else { past.next() }.expect("just peeked");
        count += 1;
        if kvs.len() < fetch {
            kvs.push(if live_first { live_kv(entry) } else { past_kv(entry) });
        }
    }
    (kvs, count)
}

/// Whether a history entry is what its key held at a revision.
fn was_current(entry: &Entry, at: Revision) -> bool {
    let (_, pair) = layout::split_history(entry.key());
    pair.main <= at.0 && layout::superseded(entry.value()).is_some_and(|until| until > at)
}

fn past_kv(entry: &Entry) -> KeyValue {
    KeyValue::past(entry).expect("every entry was written or checked by this format").0
}

fn is_filtered(query: &RangeQuery<'_>) -> bool {
    [query.min_mod, query.max_mod, query.min_create, query.max_create].iter().any(|r| r.0 != 0)
}

/// Whether the order of the tree will do. A target without an order counts as well, although it is sorted: then
/// etcd sorts only what the limit has let through, and so do we.
fn is_default_order(query: &RangeQuery<'_>) -> bool {
    query.sort_order == SortOrder::None
        || (query.sort_target == SortTarget::Key && query.sort_order == SortOrder::Ascend)
}

fn filter(kvs: &mut Vec<KeyValue>, query: &RangeQuery<'_>) {
    if !is_filtered(query) {
        return;
    }
    let within =
        |r: Revision, min: Revision, max: Revision| (min.0 == 0 || r >= min) && (max.0 == 0 || r <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision(), query.min_mod, query.max_mod)
            && within(kv.create_revision(), query.min_create, query.max_create)
    });
}

fn sort(kvs: &mut [KeyValue], query: &RangeQuery<'_>) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match query.sort_target {
        SortTarget::Key => |a, b| a.key().cmp(b.key()),
        SortTarget::Version => |a, b| a.version().cmp(&b.version()),
        SortTarget::Create => |a, b| a.create_revision().cmp(&b.create_revision()),
        SortTarget::Mod => |a, b| a.mod_revision().cmp(&b.mod_revision()),
        SortTarget::Value => |a, b| a.value().cmp(b.value()),
    };
    match query.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
        _ if query.sort_target != SortTarget::Key => kvs.sort_by(compare),
        _ => {}
    }
}
