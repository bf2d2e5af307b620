//! Connections to the peers that the newest known configurations name: dialled when one is added, closed when it is
//! gone, dialled anew when its address changed. Others that call can be answered for as long as they stay connected: a
//! replica that left, was away and comes back is told so by somebody who has long forgotten where it is (R18).

use crate::peer::{Outbox, WeakOutbox};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::task::AbortHandle;
use vr_core::ReplicaId;

/// Keeps a connection to an address and sends what the queue holds, until it is aborted.
pub type Dial = Rc<dyn Fn(ReplicaId, String, Outbox) -> AbortHandle>;

/// Replicas that call without being known; of more than so many, the others are not answered.
const CALLERS: usize = 16;

/// The queue and the connection to each peer.
pub struct Links {
    dial: Dial,
    peers: BTreeMap<ReplicaId, Link>,
    callers: BTreeMap<ReplicaId, WeakOutbox>,
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
        Links { dial, peers: BTreeMap::new(), callers: BTreeMap::new() }
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
                let outbox = Outbox::closed();
                let dialling = (self.dial)(id, address.clone(), outbox.clone());
                Link { address, outbox, dialling }
            });
        }
    }

    pub(super) fn ids(&self) -> Vec<ReplicaId> {
        self.peers.keys().copied().collect()
    }

    /// A message came over a connection that `from` has made and that can carry `answers`.
    pub(super) fn called(&mut self, from: ReplicaId, answers: &Outbox) {
        if self.peers.contains_key(&from) {
            return;
        }
        self.callers.retain(|_, caller| caller.upgrade().is_some());
        if self.callers.len() < CALLERS || self.callers.contains_key(&from) {
            self.callers.insert(from, answers.downgrade());
        }
    }

    /// Queues a frame; `false` if it is dropped, because the queue is full or there is no way to this replica.
    pub(super) fn push(&self, to: ReplicaId, frame: Bytes) -> bool {
        match self.peers.get(&to) {
            Some(link) => link.outbox.push(frame),
            None => {
                self.callers.get(&to).and_then(WeakOutbox::upgrade).is_some_and(|caller| caller.push(frame))
            }
        }
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

    #[test]
    fn who_calls_is_answered_while_it_is_connected() {
        let mut links = Links::new(Rc::new(|_, _, _| unreachable!("nobody is dialled")));
        let answers = Outbox::default();
        links.called(ReplicaId(7), &answers);
        assert!(links.push(ReplicaId(7), Bytes::from_static(b"x")));
        assert!(!links.push(ReplicaId(8), Bytes::from_static(b"x")));
        drop(answers);
        assert!(!links.push(ReplicaId(7), Bytes::from_static(b"x")));
        let many: Vec<Outbox> = (0..=CALLERS).map(|_| Outbox::default()).collect();
        (0..).zip(&many).for_each(|(id, answers)| links.called(ReplicaId(id), answers));
        let answered = (0..=CALLERS as u64).filter(|id| links.push(ReplicaId(*id), Bytes::new())).count();
        assert_eq!(answered, CALLERS);
    }
}
