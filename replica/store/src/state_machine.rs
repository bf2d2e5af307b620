//! The store as the protocol drives it: decode, warm, execute one by one; cut; hand the state to another replica.

use crate::command::{Command, Txn, TxnOp};
use crate::error::StoreError;
use crate::import::StoreImport;
use crate::layout::{self, CORE_KEY, LIVE, NUMBERS_KEY};
use crate::lease::{LeaseChange, MAX_TTL};
use crate::reply::{Body, Reply, Response};
use crate::store::Store;
use crate::types::{LeaseId, Revision};
use crate::write::Change;
use bytes::Bytes;
use vr_core::{Accepted, At, Digest, Op, StateMachine};
use vr_tree::Snapshot;

/// Below so many requests there is nothing to walk in lockstep.
const WARM_FROM: usize = 4;

impl StateMachine for Store {
    type Reply = Reply;
    type Snapshot = Snapshot;
    type Import = StoreImport;

    fn execute(&mut self, at: At, requests: &[Accepted<'_>], replies: &mut Vec<Reply>) {
        if let [request] = requests {
            let reply = Command::decode(request.body)
                .and_then(|command| self.execute_command(at.op, &command, request.reply_wanted));
            if request.reply_wanted {
                replies.push(reply);
            }
        } else {
            let commands: Vec<_> = requests.iter().map(|r| Command::decode(r.body)).collect();
            self.warm(&commands);
            for (request, command) in requests.iter().zip(&commands) {
                let reply = match command {
                    Ok(command) => self.execute_command(at.op, command, request.reply_wanted),
                    Err(error) => Err(*error),
                };
                if request.reply_wanted {
                    replies.push(reply);
                }
            }
        }
        self.sweep(at.op);
    }

    fn cut(&mut self, op: Op, core_state: &[u8]) -> Snapshot {
        self.numbers.op = op;
        self.tree.put(NUMBERS_KEY, &self.numbers.encode(), op.0);
        self.tree.put(CORE_KEY, core_state, op.0);
        self.tree.snapshot()
    }

    fn core_state(&self) -> Vec<u8> {
        self.tree.view().get(CORE_KEY).map(|entry| entry.value().to_vec()).unwrap_or_default()
    }

    fn export(snapshot: &Snapshot, want: &[u8], max_bytes: usize) -> Bytes {
        // A want for another tree is answered with nothing, which the asker counts as a fault.
        snapshot.answer(want, max_bytes).unwrap_or_default().into()
    }

    fn import(&self, cut: Op, root: Digest, earlier: Option<StoreImport>) -> StoreImport {
        StoreImport::begin(self, cut, root, earlier)
    }
}

impl Store {
    fn execute_command(&mut self, op: Op, command: &Command<'_>, wanted: bool) -> Reply {
        match command {
            Command::Put(put) => self.execute_put(op, put),
            Command::DeleteRange(delete) => self.execute_delete(op, delete),
            Command::Txn(txn) => self.execute_txn(op, txn, wanted),
            Command::Compact { revision } => self.execute_compact(*revision),
            Command::LeaseGrant { id, ttl } => self.execute_grant(op, *id, *ttl),
            Command::LeaseRevoke { id } => {
                if !self.leases.contains(*id) {
                    return Err(StoreError::LeaseNotFound);
                }
                let revision = self.end_lease(op, *id)?;
                Ok(Response { revision, body: Body::LeaseRevoke })
            }
            Command::LeaseExpire { ids } => self.execute_expire(op, ids),
            Command::Reserve { revision } => {
                self.numbers.reserved = self.numbers.reserved.max(*revision);
                let reserved = self.numbers.reserved;
                Ok(Response { revision: self.numbers.revision, body: Body::Reserve { reserved } })
            }
        }
    }

    fn execute_grant(&mut self, op: Op, id: LeaseId, ttl: i64) -> Reply {
        if id == LeaseId::NONE {
            return Err(StoreError::LeaseNotFound);
        }
        if ttl > MAX_TTL {
            return Err(StoreError::LeaseTTLTooLarge);
        }
        if self.leases.contains(id) {
            return Err(StoreError::LeaseExist);
        }
        let key = layout::lease_key(id);
        self.admit_growth(key.len() as u64)?;
        let ttl = ttl.max(self.options.min_lease_ttl);
        self.tree.put(&key, &ttl.to_be_bytes(), op.0);
        self.leases.grant(id, ttl);
        self.lease_changes.push(LeaseChange::Granted { id, ttl });
        Ok(Response { revision: self.numbers.revision, body: Body::LeaseGrant { id, ttl } })
    }

    /// Each lease is a revision of its own, as if revoked one after the other.
    fn execute_expire(&mut self, op: Op, ids: &[LeaseId]) -> Reply {
        let mut expired = Vec::new();
        for id in ids.iter().copied() {
            if !self.leases.contains(id) {
                continue;
            }
            match self.end_lease(op, id) {
                Ok(_) => expired.push(id),
                Err(error) if expired.is_empty() => return Err(error),
                // The primary proposes the rest again.
                Err(_) => break,
            }
        }
        Ok(Response { revision: self.numbers.revision, body: Body::LeaseExpire { expired } })
    }

    /// Ends a lease that exists; its keys go at one revision, in key order.
    fn end_lease(&mut self, op: Op, id: LeaseId) -> Result<Revision, StoreError> {
        if self.leases.has_keys(id) {
            self.admit_revision()?;
        }
        let keys = self.leases.end(id).unwrap_or_default();
        self.tree.remove(&layout::lease_key(id), op.0);
        let mut change = Change::begin(self, op);
        for key in keys {
            self.delete_key(&mut change, &key);
        }
        self.lease_changes.push(LeaseChange::Ended { id });
        Ok(change.end(self))
    }

    /// Brings the pages that the commands will touch into the caches, before the first of them runs.
    fn warm(&self, commands: &[Result<Command<'_>, StoreError>]) {
        if commands.len() < WARM_FROM {
            return;
        }
        let mut keys = Keys::default();
        for command in commands.iter().flatten() {
            match command {
                Command::Put(put) => keys.add(put.key),
                Command::DeleteRange(delete) => keys.add(delete.span.key),
                Command::Txn(txn) => keys.add_txn(txn),
                _ => {}
            }
        }
        let mut from = 0;
        let slices: Vec<&[u8]> =
            keys.ends.iter().map(|end| &keys.bytes[std::mem::replace(&mut from, *end)..*end]).collect();
        self.tree.warm(&slices);
    }
}

/// Tree keys, one after the other: where a key lives, and where its history goes.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn add(&mut self, key: &[u8]) {
        for space in [LIVE, layout::HISTORY] {
            self.bytes.push(space);
            layout::push_key(&mut self.bytes, key);
            self.ends.push(self.bytes.len());
        }
    }

    fn add_txn(&mut self, txn: &Txn<'_>) {
        for compare in &txn.compare {
            self.add(compare.span.key);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                TxnOp::Put(put) => self.add(put.key),
                TxnOp::DeleteRange(delete) => self.add(delete.span.key),
                TxnOp::Range(query) => self.add(query.span.key),
                TxnOp::Txn(_) | TxnOp::Empty => {}
            }
        }
    }
}
