//! Which leases there are and which keys hang on them. Time to live is replicated; deadlines are the primary's
//! ([`crate::LeaseBook`]).
//!
//! The tree holds each lease, and each key names its lease; the keys of a lease are derived, here.

use crate::layout::{self, LEASE, LIVE};
use crate::store::OpenError;
use crate::types::LeaseId;
use std::collections::{BTreeMap, BTreeSet};
use vr_tree::{Entry, Snapshot};

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
#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<LeaseId, Lease>);

#[derive(Debug, Default)]
struct Lease {
    ttl: i64,
    keys: BTreeSet<Box<[u8]>>,
}

impl Leases {
    /// Reads them from a tree, and checks every entry on the way.
    pub(crate) fn of(snapshot: &Snapshot) -> Result<Leases, OpenError> {
        let broken = |entry: &Entry| OpenError::Broken {
            key: entry.key().iter().map(|b| format!("{b:02x}")).collect(),
        };
        let mut leases = Leases::default();
        for entry in snapshot.range(&[LEASE], Some(&[LEASE + 1])) {
            let id = layout::read_lease_key(entry.key()).ok_or_else(|| broken(entry))?;
            let ttl = entry.value().try_into().map(i64::from_be_bytes).map_err(|_| broken(entry))?;
            leases.grant(id, ttl);
        }
        for entry in snapshot.range(&[], None) {
            if !layout::is_valid(entry.key(), entry.value()) {
                return Err(broken(entry));
            }
            if entry.key()[0] != LIVE {
                continue;
            }
            let (version, _) = layout::read_live(entry.value()).ok_or_else(|| broken(entry))?;
            if version.lease != LeaseId::NONE {
                let escaped = layout::escaped_of_live(entry.key());
                let key = layout::unescape(escaped).unwrap_or_else(|| escaped.into());
                let lease = leases.0.get_mut(&version.lease).ok_or_else(|| broken(entry))?;
                lease.keys.insert(key);
            }
        }
        Ok(leases)
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
