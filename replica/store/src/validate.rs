//! What etcd refuses before it looks at the state.

use crate::command::{DeleteRange, Put, RangeQuery, Txn, TxnOp};
use crate::error::StoreError;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn put(put: &Put<'_>) -> Result<(), StoreError> {
    if put.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(StoreError::ValueProvided);
    }
    if put.ignore_lease && put.lease.0 != 0 {
        return Err(StoreError::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn range(range: &RangeQuery<'_>) -> Result<(), StoreError> {
    if range.span.key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

pub(crate) fn delete(delete: &DeleteRange<'_>) -> Result<(), StoreError> {
    if delete.span.key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

/// The shape of a transaction, then that no key is written twice.
pub(crate) fn txn(txn: &Txn<'_>, max_ops: usize) -> Result<(), StoreError> {
    shape(txn, max_ops)?;
    // After the shape, so that the size is bounded by then.
    written_once(&txn.success)?;
    written_once(&txn.failure)?;
    Ok(())
}

/// Each level takes its longest list off what the levels inside may have.
fn shape(txn: &Txn<'_>, max_ops: usize) -> Result<(), StoreError> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = max_ops.checked_sub(longest).ok_or(StoreError::TooManyOps)?;
    if txn.compare.iter().any(|c| c.span.key.is_empty()) {
        return Err(StoreError::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Range(r) => range(r)?,
            TxnOp::Put(p) => put(p)?,
            TxnOp::DeleteRange(d) => delete(d)?,
            TxnOp::Txn(t) => shape(t, left)?,
            TxnOp::Empty => return Err(StoreError::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a branch puts and those that it deletes; an error if a key is put twice, or put and deleted.
///
/// Deliberately etcd's procedure step by step, including what it lets through: a put in one nested transaction and
/// its deletion in a later one, and an `end` of one zero byte, which it takes literally here.
fn written_once<'a>(ops: &'a [TxnOp<'a>]) -> Result<(BTreeSet<&'a [u8]>, Deleted<'a>), StoreError> {
    let mut deleted = Deleted::default();
    for op in ops {
        if let TxnOp::DeleteRange(d) = op {
            deleted.add(d.span.key, d.span.end);
        }
    }
    let mut puts = BTreeSet::new();
    for op in ops {
        let TxnOp::Txn(nested) = op else { continue };
        let (then_puts, then_deleted) = written_once(&nested.success)?;
        let (else_puts, else_deleted) = written_once(&nested.failure)?;
        for key in &then_puts {
            if deleted.contains(key) || !puts.insert(*key) {
                return Err(StoreError::DuplicateKey);
            }
        }
        for key in else_puts {
            // Only one of the two branches is done, so they may share keys with each other.
            if deleted.contains(key) || (!puts.insert(key) && !then_puts.contains(key)) {
                return Err(StoreError::DuplicateKey);
            }
        }
        deleted.add_all(then_deleted);
        deleted.add_all(else_deleted);
    }
    for op in ops {
        if let TxnOp::Put(p) = op
            && (deleted.contains(p.key) || !puts.insert(p.key))
        {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok((puts, deleted))
}

/// A set of keys given as points and ranges; the ranges are kept disjoint.
#[derive(Default)]
struct Deleted<'a> {
    points: BTreeSet<&'a [u8]>,
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deleted<'a> {
    fn add(&mut self, key: &'a [u8], end: &'a [u8]) {
        if end.is_empty() {
            self.points.insert(key);
        } else if key < end {
            self.add_range(key, end);
        }
    }

    fn add_range(&mut self, mut from: &'a [u8], mut to: &'a [u8]) {
        // Swallow what overlaps; there is at most one that begins before us.
        while let Some((&start, &end)) = self.ranges.range(..to).next_back() {
            if end < from {
                break;
            }
            self.ranges.remove(start);
            from = from.min(start);
            to = to.max(end);
        }
        self.ranges.insert(from, to);
    }

    fn add_all(&mut self, other: Deleted<'a>) {
        self.points.extend(other.points);
        for (from, to) in other.ranges {
            self.add_range(from, to);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.points.contains(key) || self.ranges.range(..=key).next_back().is_some_and(|(_, end)| key < *end)
    }
}
