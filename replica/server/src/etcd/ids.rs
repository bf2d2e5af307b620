//! Member and cluster ids by etcd's scheme: the first eight bytes of a SHA-1. Never 0, the same on every replica.
//!
//! They come from the lineage and the replica id, not from addresses: a member keeps its id when it moves, and a new
//! one at an old address has another.

use sha1::{Digest as _, Sha1};
use vr_core::{Configuration, Lineage, ReplicaId};

/// Ids as etcd clients see them.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    /// The cluster's.
    pub cluster: u64,
    lineage: Lineage,
}

impl Ids {
    /// Those of a lineage.
    #[must_use]
    pub fn new(lineage: Lineage) -> Ids {
        Ids { cluster: first_eight(&[&lineage.0]), lineage }
    }

    /// A replica's id.
    #[must_use]
    pub fn member(&self, replica: ReplicaId) -> u64 {
        first_eight(&[&self.lineage.0, &replica.0.to_be_bytes()])
    }

    /// The member with this id, if there is one.
    #[must_use]
    pub fn replica(&self, member: u64, configuration: &Configuration) -> Option<ReplicaId> {
        configuration.members().map(|m| m.id).find(|id| self.member(*id) == member)
    }
}

/// How etcd clients see a peer address.
#[must_use]
pub fn peer_url(address: &str) -> String {
    format!("http://{address}")
}

fn first_eight(parts: &[&[u8]]) -> u64 {
    let mut sha = Sha1::new();
    parts.iter().for_each(|part| sha.update(part));
    let id = u64::from_be_bytes(sha.finalize()[..8].try_into().expect("a SHA-1 has twenty bytes"));
    id.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::Epoch;

    #[test]
    fn members_are_told_apart_and_found_again() {
        let ids = Ids::new(Lineage([7; 16]));
        let configuration = Configuration::bare(Epoch(0), [1, 2].map(ReplicaId));
        assert_eq!(ids.replica(ids.member(ReplicaId(2)), &configuration), Some(ReplicaId(2)));
        assert_eq!(ids.replica(ids.member(ReplicaId(3)), &configuration), None);
        assert_ne!(ids.cluster, Ids::new(Lineage([8; 16])).cluster);
    }
}
