//! Which leases there are and which keys hang on them. Time to live is replicated; deadlines are the primary's
//! ([`crate::LeaseBook`]).
//!
//! The tree holds each lease, and each key names its lease; the keys of a lease are derived, here.

use crate::layout::{self, LEASE, LIVE};
use crate::store::OpenError;
use crate::types::LeaseId;
use std::collections::{BTreeMap, BTreeSet};
use vr_tree::{Difference, Entry, Snapshot};

/// etcd's upper bound, in seconds.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

/// A lease came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Granted.
    Granted {
        /// Which.
        id: LeaseId,
        /// Seconds that it lives without a keepalive.
        ttl: i64,
    },
    /// Revoked or expired.
    Ended {
        /// Which.
        id: LeaseId,
    },
}

/// All leases with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases(BTreeMap<LeaseId, Lease>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lease {
    ttl: i64,
    keys: BTreeSet<Box<[u8]>>,
}

fn broken(entry: &Entry) -> OpenError {
    OpenError::Broken { key: entry.key().iter().map(|b| format!("{b:02x}")).collect() }
}

fn read_lease(entry: &Entry) -> Result<(LeaseId, i64), OpenError> {
    let id = layout::read_lease_key(entry.key()).ok_or_else(|| broken(entry))?;
    let ttl = entry.value().try_into().map(i64::from_be_bytes).map_err(|_| broken(entry))?;
    Ok((id, ttl))
}

/// The lease that a live key names.
fn named(entry: &Entry) -> Result<LeaseId, OpenError> {
    let (version, _) = layout::read_live(entry.value()).ok_or_else(|| broken(entry))?;
    Ok(version.lease)
}

fn client_key(entry: &Entry) -> Box<[u8]> {
    let escaped = layout::escaped_of_live(entry.key());
    layout::unescape(escaped).unwrap_or_else(|| escaped.into())
}

impl Leases {
    /// Reads them from a tree, and checks every entry on the way.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<Leases, OpenError> {
        let mut leases = Leases::default();
        for entry in snapshot.range(&[LEASE], Some(&[LEASE + 1])) {
            let (id, ttl) = read_lease(entry)?;
            leases.grant(id, ttl);
        }
        for entry in snapshot.range(&[], None) {
            if !layout::is_valid(entry.key(), entry.value()) {
                return Err(broken(entry));
            }
            if entry.key()[0] == LIVE {
                leases.hang(entry)?;
            }
        }
        Ok(leases)
    }

    /// Turns the leases of one tree into those of another, reading only what differs. Whoever brought the other tree has
    /// checked its entries.
    ///
    /// After an error they are neither's.
    pub(crate) fn follow(&mut self, old: &Snapshot, new: &Snapshot) -> Result<(), OpenError> {
        let mut hung = Vec::new();
        let mut granted = Vec::new();
        let mut ended = Vec::new();
        for difference in new.diff(old) {
            let (old, new) = match difference {
                Difference::Added(new) => (None, Some(new)),
                Difference::Changed { old, new } => (Some(old), Some(new)),
                Difference::Removed(old) => (Some(old), None),
            };
            match difference.key().first() {
                Some(&LIVE) => {
                    let from = old.map_or(Ok(LeaseId::NONE), named)?;
                    let to = new.map_or(Ok(LeaseId::NONE), named)?;
                    if let Some(entry) = old.filter(|_| from != to && from != LeaseId::NONE) {
                        self.moved(&client_key(entry), from, LeaseId::NONE);
                    }
                    hung.extend(new.filter(|_| from != to && to != LeaseId::NONE));
                }
                Some(&LEASE) => match new {
                    Some(entry) => granted.push(read_lease(entry)?),
                    None => ended.extend(old),
                },
                _ => {}
            }
        }
        for entry in ended {
            // A key that hung on it and is the same as before still names it.
            if self.end(read_lease(entry)?.0).is_none_or(|keys| !keys.is_empty()) {
                return Err(broken(entry));
            }
        }
        for (id, ttl) in granted {
            self.0.entry(id).or_default().ttl = ttl;
        }
        hung.into_iter().try_for_each(|entry| self.hang(entry))
    }

    /// Notes the lease that a live key names, if it names one.
    fn hang(&mut self, entry: &Entry) -> Result<(), OpenError> {
        let id = named(entry)?;
        if id != LeaseId::NONE {
            let lease = self.0.get_mut(&id).ok_or_else(|| broken(entry))?;
            lease.keys.insert(client_key(entry));
        }
        Ok(())
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64) {
        self.0.insert(id, Lease { ttl, keys: BTreeSet::new() });
    }

    /// Takes a lease out, for its keys to be deleted, in order.
    pub(crate) fn end(&mut self, id: LeaseId) -> Option<BTreeSet<Box<[u8]>>> {
        self.0.remove(&id).map(|lease| lease.keys)
    }

    /// A key moved from one lease to another; either may be none, or already ended.
    pub(crate) fn moved(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.0.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.0.get_mut(&to) {
            lease.keys.insert(key.into());
        }
    }

    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.0.contains_key(&id)
    }

    pub(crate) fn has_keys(&self, id: LeaseId) -> bool {
        self.0.get(&id).is_some_and(|lease| !lease.keys.is_empty())
    }

    pub(crate) fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.0.get(&id).map(|lease| lease.ttl)
    }

    pub(crate) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        self.0.get(&id).into_iter().flat_map(|lease| lease.keys.iter().map(|key| &**key))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.0.iter().map(|(id, lease)| (*id, lease.ttl))
    }
}
