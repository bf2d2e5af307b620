//! The log of a tier while a checkpoint is on its way there, or a repair: either may take minutes, and the recovery point
//! shall not be as old.
//!
//! It holds back nothing and is held back by nothing but the tier itself. It may be dropped at any moment: a segment of
//! which nobody knows what became of it is shipped again, under the same name with the same content.

use super::tail::Sealed;
use super::{Shared, TierOptions, lock};
use crate::format::Names;
use crate::store::Created;
use crate::writer::{self, Beginning, Identity, WriteError, now_micros};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After a failure; the checkpoint or the repair will say what is wrong with the tier.
const RETRY: Duration = Duration::from_secs(1);

/// What there is of the tier while its writer is busy.
pub(super) struct Meanwhile<'a> {
    place: usize,
    options: &'a TierOptions,
    identity: &'a Identity,
    beginning: Option<&'a Beginning>,
    shared: &'a Shared,
    standing: Standing,
}

/// What is known of the tier when its writer becomes busy.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// Version of its HEAD.
    pub(super) version: u64,
    /// What it holds leads to where the log was shipped.
    pub(super) leads: bool,
}

impl<'a> Meanwhile<'a> {
    pub(super) fn new(
        place: usize,
        options: &'a TierOptions,
        identity: &'a Identity,
        beginning: Option<&'a Beginning>,
        shared: &'a Shared,
        standing: Standing,
    ) -> Meanwhile<'a> {
        Meanwhile { place, options, identity, beginning, shared, standing }
    }

    /// Ships the log at its cadence, for ever; `reached` is the last op that stands there. Ends only when this process is
    /// fenced.
    pub(super) async fn ship(&self, reached: &mut u64) -> WriteError {
        if lock(&self.shared.tiers[self.place].status).checkpoint_op == 0 {
            // There is nothing yet from which the log could lead on.
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(self.options.log).await;
            lock(&self.shared.tail).due(self.place);
            loop {
                let next = lock(&self.shared.tail).next(self.place);
                let Some(Sealed { first, last, body }) = next else { break };
                match self.segment(first, last, body).await {
                    Ok(()) => *reached = last,
                    Err(fenced @ WriteError::Fenced { .. }) => return fenced,
                    Err(error) => {
                        tracing::debug!(%error, "log not shipped beside a checkpoint or a repair; again");
                        tokio::time::sleep(RETRY).await;
                        break;
                    }
                }
            }
        }
    }

    async fn segment(&self, first: u64, last: u64, body: Bytes) -> Result<(), WriteError> {
        let store = &*self.options.store;
        let head = writer::observe(store, self.identity, self.beginning).await?;
        if head.is_none_or(|head| head.version < self.standing.version) {
            // The checkpoint or the repair will say so.
            let reason = "HEAD is not there any more".to_owned();
            return Err(WriteError::Broken { store: store.describe(), reason });
        }
        let key = Names { generation: self.identity.generation }.segment(first, last);
        if store.create(&key, body).await? == Created::Unknown {
            return Err(WriteError::Contended { store: store.describe() });
        }
        lock(&self.shared.tail).shipped(self.place, last);
        let tier = &self.shared.tiers[self.place];
        if self.standing.leads {
            tier.recovery_op.fetch_max(last, Ordering::Relaxed);
        }
        lock(&tier.status).success_micros = now_micros();
        Ok(())
    }
}
