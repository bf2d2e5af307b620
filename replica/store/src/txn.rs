//! Transactions: all comparisons, nested ones included, before any write; then every operation of the chosen branches
//! is checked; from there on nothing can fail.

use crate::command::{Compare, CompareResult, CompareTarget, RangeQuery, Txn, TxnOp};
use crate::error::StoreError;
use crate::key_value::KeyValue;
use crate::range::{self, Horizon};
use crate::reply::{Body, RangeBody, Reply, Response};
use crate::store::Store;
use crate::types::Revision;
use crate::write::{Change, put_cost};
use std::cmp::Ordering;
use vr_core::Op;
use vr_tree::Snapshot;

/// The branches chosen, outermost first, then those of the nested transactions in the order they are met.
type Path = Vec<bool>;

impl Store {
    /// Executes a transaction. Where nobody reads the answer, its ranges are left out.
    pub(crate) fn execute_txn(&mut self, op: Op, txn: &Txn<'_>, wanted: bool) -> Reply {
        crate::validate::txn(txn, self.options.max_txn_ops)?;
        let mut path = Path::new();
        choose(self.tree.view(), txn, &mut path);
        let mut need = Need::default();
        self.check(txn, &mut path.iter(), &mut need)?;
        self.admit_growth(need.bytes)?;
        if need.writes {
            self.admit_revision()?;
        }
        let mut change = Change::begin(self, op);
        let body = self.run(&mut change, txn, &mut path.iter(), wanted);
        Ok(Response { revision: change.end(self), body })
    }

    fn check<'p>(
        &self,
        txn: &Txn<'_>,
        path: &mut impl Iterator<Item = &'p bool>,
        need: &mut Need,
    ) -> Result<(), StoreError> {
        for op in branch(txn, path) {
            match op {
                TxnOp::Range(range) => check_range(self.horizon(), range)?,
                TxnOp::Put(put) => {
                    self.check_put(put)?;
                    need.writes = true;
                    need.bytes += put_cost(put);
                }
                // It may find something that an earlier step put.
                TxnOp::DeleteRange(_) => need.writes = true,
                TxnOp::Txn(nested) => self.check(nested, path, need)?,
                TxnOp::Empty => {}
            }
        }
        Ok(())
    }

    fn run<'p>(
        &mut self,
        change: &mut Change,
        txn: &Txn<'_>,
        path: &mut impl Iterator<Item = &'p bool>,
        wanted: bool,
    ) -> Body {
        let (succeeded, ops) = branch_of(txn, path);
        let mut responses = Vec::with_capacity(if wanted { ops.len() } else { 0 });
        for op in ops {
            let body = match op {
                TxnOp::Range(_) if !wanted => continue,
                TxnOp::Range(query) => {
                    let horizon = self.horizon_in(change);
                    let found = range::range(self.tree.view(), horizon, query);
                    range_body(found.expect("its revision was checked"))
                }
                TxnOp::Put(put) => Body::Put { prev: self.put(change, put) },
                TxnOp::DeleteRange(delete) => self.delete(change, delete),
                TxnOp::Txn(nested) => self.run(change, nested, path, wanted),
                TxnOp::Empty => continue,
            };
            if wanted {
                // etcd leaves the header of a nested transaction empty.
                let nested = matches!(body, Body::Txn { .. });
                let revision = if nested { Revision(0) } else { change.revision() };
                responses.push(Response { revision, body });
            }
        }
        Body::Txn { succeeded, responses }
    }
}

/// What the chosen branches ask of the store.
#[derive(Default)]
struct Need {
    writes: bool,
    bytes: u64,
}

/// Answers a transaction that only reads.
pub(crate) fn read(tree: &Snapshot, horizon: Horizon, txn: &Txn<'_>, max_ops: usize) -> Reply {
    if !txn.is_read_only() {
        return Err(StoreError::NotReadOnly);
    }
    crate::validate::txn(txn, max_ops)?;
    let succeeded = holds(tree, &txn.compare);
    let mut responses = Vec::new();
    for op in if succeeded { &txn.success } else { &txn.failure } {
        if let TxnOp::Range(query) = op {
            check_range(horizon, query)?;
            let body = range_body(range::range(tree, horizon, query)?);
            responses.push(Response { revision: horizon.revision, body });
        }
    }
    Ok(Response { revision: horizon.revision, body: Body::Txn { succeeded, responses } })
}

fn range_body(found: crate::reply::RangeResult) -> Body {
    Body::Range(RangeBody { kvs: found.kvs, more: found.more, count: found.count })
}

/// A transaction refuses a negative revision below the horizon where a plain range takes it for "now".
fn check_range(horizon: Horizon, query: &RangeQuery<'_>) -> Result<(), StoreError> {
    if query.revision.0 == 0 {
        Ok(())
    } else if query.revision > horizon.revision {
        Err(StoreError::FutureRev)
    } else if query.revision < horizon.compacted {
        Err(StoreError::Compacted)
    } else {
        Ok(())
    }
}

/// Makes all comparisons that matter: those of the chosen branches.
fn choose(tree: &Snapshot, txn: &Txn<'_>, path: &mut Path) {
    let succeeded = holds(tree, &txn.compare);
    path.push(succeeded);
    for op in if succeeded { &txn.success } else { &txn.failure } {
        if let TxnOp::Txn(nested) = op {
            choose(tree, nested, path);
        }
    }
}

fn branch_of<'t, 'a, 'p>(
    txn: &'t Txn<'a>,
    path: &mut impl Iterator<Item = &'p bool>,
) -> (bool, &'t [TxnOp<'a>]) {
    let succeeded = *path.next().expect("the path was made by walking the same transaction");
    (succeeded, if succeeded { &txn.success } else { &txn.failure })
}

fn branch<'t, 'a, 'p>(txn: &'t Txn<'a>, path: &mut impl Iterator<Item = &'p bool>) -> &'t [TxnOp<'a>] {
    branch_of(txn, path).1
}

fn holds(tree: &Snapshot, compares: &[Compare<'_>]) -> bool {
    compares.iter().all(|compare| {
        let mut any = false;
        let all = range::live(tree, compare.span).all(|entry| {
            any = true;
            holds_for(compare, Some(&range::live_kv(entry)))
        });
        all && (any || holds_for(compare, None))
    })
}

/// A missing key has no value to compare, and 0 for everything else.
fn holds_for(compare: &Compare<'_>, kv: Option<&KeyValue>) -> bool {
    let number = |of: fn(&KeyValue) -> i64| kv.map_or(0, of);
    let order = match compare.target {
        CompareTarget::Value(value) => match kv {
            Some(kv) => kv.value().cmp(value),
            None => return false,
        },
        CompareTarget::Version(n) => number(KeyValue::version).cmp(&n),
        CompareTarget::Create(n) => number(|kv| kv.create_revision().0).cmp(&n),
        CompareTarget::Mod(n) => number(|kv| kv.mod_revision().0).cmp(&n),
        CompareTarget::Lease(n) => number(|kv| kv.lease().0).cmp(&n),
    };
    match compare.result {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::NotEqual => order != Ordering::Equal,
    }
}
