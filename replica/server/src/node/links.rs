//! Connections to the peers that the newest known configurations name: dialled when one is added, closed when it is
//! gone, dialled anew when its address changed.

use crate::peer::Outbox;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::task::AbortHandle;
use vr_core::ReplicaId;

/// Keeps a connection to an address and sends what the queue holds, until it is aborted.
pub type Dial = Rc<dyn Fn(ReplicaId, String, Outbox) -> AbortHandle>;

/// The queue and the connection to each peer.
pub struct Links {
    dial: Dial,
    peers: BTreeMap<ReplicaId, Link>,
}

struct Link {
    address: String,
    outbox: Outbox,
    dialling: AbortHandle,
}

impl Links {
    /// None yet.
    #[must_use]
    pub fn new(dial: Dial) -> Links {
        Links { dial, peers: BTreeMap::new() }
    }

    /// From now on these peers, at these addresses, and no others.
    pub(super) fn set(&mut self, wanted: BTreeMap<ReplicaId, String>) {
        self.peers.retain(|id, link| {
            let stays = wanted.get(id) == Some(&link.address);
            if !stays {
                tracing::info!(peer = %id, address = link.address, "no peer any more");
                link.dialling.abort();
            }
            stays
        });
        for (id, address) in wanted {
            self.peers.entry(id).or_insert_with(|| {
                let outbox = Outbox::default();
                let dialling = (self.dial)(id, address.clone(), outbox.clone());
                Link { address, outbox, dialling }
            });
        }
    }

    pub(super) fn ids(&self) -> Vec<ReplicaId> {
        self.peers.keys().copied().collect()
    }

    pub(super) fn outbox(&self, to: ReplicaId) -> Option<&Outbox> {
        self.peers.get(&to).map(|link| &link.outbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test]
    async fn only_what_changed_is_dialled() {
        let local = tokio::task::LocalSet::new();
        let dialled: Rc<RefCell<Vec<(u64, String)>>> = Rc::default();
        let log = dialled.clone();
        let _guard = local.enter();
        let mut links = Links::new(Rc::new(move |id, address, _| {
            log.borrow_mut().push((id.0, address));
            tokio::task::spawn_local(std::future::pending::<()>()).abort_handle()
        }));
        let peers =
            |list: &[(u64, &str)]| list.iter().map(|(i, a)| (ReplicaId(*i), (*a).to_owned())).collect();
        links.set(peers(&[(1, "a"), (2, "b")]));
        links.set(peers(&[(2, "b"), (3, "c")]));
        let first = links.peers[&ReplicaId(3)].dialling.clone();
        links.set(peers(&[(2, "b"), (3, "d")]));
        let seen: Vec<(u64, String)> = dialled.borrow().clone();
        assert_eq!(seen, [(1, "a"), (2, "b"), (3, "c"), (3, "d")].map(|(i, a)| (i, a.to_owned())));
        assert_eq!(links.ids(), [ReplicaId(2), ReplicaId(3)]);
        local.run_until(tokio::task::yield_now()).await;
        assert!(first.is_finished(), "the connection to the old address is still kept");
    }
}
