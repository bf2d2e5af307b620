//! Leases' deadlines: they live at the primary, by its clock, and nowhere else.
//!
//! A new primary gives every lease its full time. A keepalive never enters the log, but is answered only once a quorum
//! has confirmed that this replica still leads; other replicas pass the question on to it.

use super::{Failure, Node, read_index};
use crate::peer::{self, LeaseMessage};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use vr_core::ReplicaId;
use vr_store::{Command, LeaseBook, LeaseId, Store};

/// How long a lease question may travel.
const PATIENCE: Duration = Duration::from_secs(5);
/// Leases ended by one entry, so that mass expiry does not become one huge entry.
const EXPIRE_AT_ONCE: usize = 1000;
/// Questions from clients of this replica that may wait for the primary.
const WAITING: usize = 65_536;

/// Seconds: granted, and remaining (-1 if there is no such lease).
type Answer = (i64, i64);

/// What this replica knows of leases beyond the state.
#[derive(Default)]
pub(super) struct Leases {
    /// Present while this replica leads.
    book: Option<LeaseBook>,
    asked: BTreeMap<u64, oneshot::Sender<Option<Answer>>>,
    last_token: u64,
}

impl Leases {
    /// This replica leads now: every lease gets its full time.
    pub(super) fn begin(&mut self, store: &Store, now: Duration) {
        self.book = Some(LeaseBook::open(store.leases(), now));
    }

    /// This replica does not lead (any more).
    pub(super) fn end(&mut self) {
        self.book = None;
    }

    pub(super) fn book(&mut self) -> Option<&mut LeaseBook> {
        self.book.as_mut()
    }
}

/// Granted and remaining seconds of a lease by the primary's clock; with `renew` its time begins anew.
///
/// # Errors
/// There is no primary that a quorum confirms, or it did not answer in time.
pub async fn remaining(id: LeaseId, renew: bool) -> Result<Answer, Failure> {
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        if super::with(|node| node.leases.book.is_some()) {
            return here(id, renew).await;
        }
        let asked = super::with(|node| node.ask_lease(id, renew))?;
        if let Ok(Ok(Some(answer))) = tokio::time::timeout_at(patience.min(soon()), asked).await {
            return Ok(answer);
        }
        if tokio::time::Instant::now() >= patience {
            return Err(Failure::Timeout);
        }
        // The primary changed on the way, or a message was lost: ask the one that leads now.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(1)
}

/// At the primary: after a round that began now, so that a deposed primary answers nothing.
async fn here(id: LeaseId, renew: bool) -> Result<Answer, Failure> {
    read_index().await?;
    super::with(|node| {
        let now = node.elapsed();
        let granted = node.store().lease_ttl(id);
        let book = node.leases.book.as_mut().ok_or(Failure::NoPrimary)?;
        let Some(granted) = granted else { return Ok((0, -1)) };
        if renew {
            book.renew(id, now);
        }
        // Over but not yet revoked: the client sees the end, as from etcd.
        Ok(book
            .remaining(id, now)
            .map_or((0, -1), |left| (granted, i64::try_from(left.as_secs()).unwrap_or(i64::MAX))))
    })
}

impl Node {
    fn ask_lease(&mut self, id: LeaseId, renew: bool) -> Result<oneshot::Receiver<Option<Answer>>, Failure> {
        let primary = self.primary().ok_or(Failure::NoPrimary)?;
        self.leases.asked.retain(|_, sender| !sender.is_closed());
        if self.leases.asked.len() >= WAITING {
            return Err(Failure::NotExecuted);
        }
        self.leases.last_token += 1;
        let token = self.leases.last_token;
        let (sender, receiver) = oneshot::channel();
        self.leases.asked.insert(token, sender);
        self.send_lease(primary, LeaseMessage::Ask { token, id: id.0, renew });
        Ok(receiver)
    }

    fn send_lease(&mut self, to: ReplicaId, message: LeaseMessage) {
        peer::encode_lease(self.sender(), message, &mut self.encoder);
        let frame = self.encoder.split().freeze();
        self.push(to, frame);
    }

    pub(super) fn lease_message(&mut self, from: ReplicaId, message: LeaseMessage) {
        match message {
            LeaseMessage::Ask { token, id, renew } => {
                tokio::spawn(async move {
                    let leads = super::try_with(|node| node.leases.book.is_some()).unwrap_or(false);
                    let answer = if leads { here(LeaseId(id), renew).await.ok() } else { None };
                    let (granted, remaining) =
                        answer.map_or((0, None), |(granted, left)| (granted, Some(left)));
                    super::try_with(|node| {
                        node.send_lease(from, LeaseMessage::Answer { token, granted, remaining });
                    });
                });
            }
            LeaseMessage::Answer { token, granted, remaining } => {
                if let Some(sender) = self.leases.asked.remove(&token) {
                    let _ = sender.send(remaining.map(|left| (granted, left)));
                }
            }
        }
    }

    /// Proposes the end of leases whose time is over.
    pub(super) fn expire_leases(&mut self) {
        let now = self.elapsed();
        let Some(book) = self.leases.book.as_mut() else { return };
        let ids = book.due(now, EXPIRE_AT_ONCE);
        if ids.is_empty() {
            return;
        }
        tracing::debug!(leases = ids.len(), "expired");
        self.propose_own(&Command::LeaseExpire { ids });
    }
}
