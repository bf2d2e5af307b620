//! Member and cluster ids by etcd's scheme: the first eight bytes of a SHA-1. Never 0, the same on every replica.

use crate::config::Config;
use sha1::{Digest as _, Sha1};
use std::collections::BTreeMap;
use vr_core::ReplicaId;

/// Ids as etcd clients see them.
#[derive(Clone, Debug)]
pub struct Ids {
    /// The cluster's.
    pub cluster: u64,
    members: BTreeMap<ReplicaId, u64>,
}

impl Ids {
    /// A member's id comes from its peer URL and the lineage, the cluster's from all members'.
    #[must_use]
    pub fn new(config: &Config) -> Ids {
        let members: BTreeMap<ReplicaId, u64> = config
            .members
            .iter()
            .map(|m| {
                (m.id, first_eight(&[peer_url(&m.peer).as_bytes(), config.lineage.to_string().as_bytes()]))
            })
            .collect();
        let mut sorted: Vec<u64> = members.values().copied().collect();
        sorted.sort_unstable();
        let bytes: Vec<[u8; 8]> = sorted.into_iter().map(u64::to_be_bytes).collect();
        let parts: Vec<&[u8]> = bytes.iter().map(<[u8; 8]>::as_slice).collect();
        Ids { cluster: first_eight(&parts), members }
    }

    /// A member's id; 0 for a replica that is no member.
    #[must_use]
    pub fn member(&self, replica: ReplicaId) -> u64 {
        self.members.get(&replica).copied().unwrap_or(0)
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
