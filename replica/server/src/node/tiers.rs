//! The tier chain as the replica's thread sees it: values go in, nothing here waits. Roots of cuts are computed on a
//! thread beside.

use crate::status::TierReport;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use vr_checkpoint::chain::Chain;
use vr_checkpoint::format::Committed;
use vr_checkpoint::restore::TierKind;
use vr_checkpoint::store::ObjectStore;
use vr_checkpoint::writer::Cut;
use vr_core::{Ballot, Configuration, Digest, Entry, Member, Op};
use vr_store::{Revision, Store};
use vr_tree::Snapshot;

/// Revisions reserved ahead at a time: a restore skips at most so many.
const RESERVE: i64 = 10_000_000;

/// The chain's near end.
pub struct Tiering {
    chain: Chain,
    hash: std::sync::mpsc::Sender<(Op, Snapshot)>,
}

/// Where a cut stands in the log.
#[derive(Clone, Copy, Debug)]
pub struct CutHeader {
    /// The cut.
    pub op: Op,
    /// Ballot of its entry.
    pub ballot: Ballot,
    /// Time of its entry, microseconds since the Unix epoch.
    pub time: u64,
    /// Digest of the log through it.
    pub digest: Digest,
}

impl Tiering {
    /// Over a running chain; the roots of cuts arrive at the receiver.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn new(chain: Chain) -> std::io::Result<(Tiering, mpsc::UnboundedReceiver<(Op, Digest)>)> {
        let (hash, to_hash) = std::sync::mpsc::channel::<(Op, Snapshot)>();
        // One root a cut, and cuts are seconds apart.
        let (tell, roots) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("roots".to_owned()).spawn(move || {
            for (op, snapshot) in to_hash {
                if tell.send((op, Digest(snapshot.root()))).is_err() {
                    return;
                }
            }
        })?;
        Ok((Tiering { chain, hash }, roots))
    }

    pub(super) fn committed(&self, entry: &Entry) {
        self.chain.committed(Committed {
            op: entry.header.op.0,
            time_micros: entry.header.time,
            digest: entry.digest().0,
            head: Bytes::copy_from_slice(&entry.encode_head()),
            body: entry.body.clone(),
        });
    }

    pub(super) fn cut(&self, members: &Configuration, store: &Store, header: CutHeader, snapshot: Snapshot) {
        // The hashing thread lives as long as this.
        let _ = self.hash.send((header.op, snapshot.clone()));
        self.chain.cut(cut(members, store, header), snapshot);
    }

    /// A cut that the others do not make: no root of it is compared.
    pub(super) fn hand_in(&self, cut: Cut, snapshot: Snapshot) {
        self.chain.cut(cut, snapshot);
    }

    pub(super) fn release(&self, garbage: impl Send + 'static) {
        self.chain.drop_elsewhere(garbage);
    }

    pub(super) fn ship(&self, ships: bool) {
        self.chain.ship_to_object_store(ships);
    }

    pub(super) fn wants_cut(&self) -> bool {
        self.chain.wants_cut()
    }

    pub(super) fn fenced(&self) -> Option<String> {
        self.chain.fenced()
    }

    /// Says what this replica's tiers shall have reserved; the reservation to propose now, if one is due and durable.
    ///
    /// Every replica says so, since only one of them writes the object store's HEAD.
    pub(super) fn reservation(&self, store: &Store) -> Option<Revision> {
        let (now, reserved) = (store.revision().0, store.reserved().0);
        if reserved - now > RESERVE / 2 {
            return None;
        }
        // In steps, so that looking again while the tiers are being written asks for the same.
        let wanted = (now / (RESERVE / 2) + 2) * (RESERVE / 2);
        self.chain.reserve(wanted);
        let durable = self.chain.reserved().min(wanted);
        (durable > reserved).then_some(Revision(durable))
    }

    /// The tiers of these names; the disks where none is named.
    ///
    /// # Errors
    /// Names one that this replica does not have.
    pub(crate) fn chosen(&self, names: &[String]) -> Result<Vec<TierKind>, String> {
        let have: Vec<TierKind> = self.chain.status().into_iter().map(|(kind, _)| kind).collect();
        if names.is_empty() {
            return Ok(have.into_iter().filter(|kind| *kind != TierKind::ObjectStore).collect());
        }
        let find = |wanted: &String| {
            let found = have.iter().copied().find(|kind| tier_name(*kind) == wanted);
            found.ok_or_else(|| {
                let names: Vec<&str> = have.iter().map(|kind| tier_name(*kind)).collect();
                format!("there is no tier {wanted:?} here, only {}", names.join(", "))
            })
        };
        names.iter().map(find).collect()
    }

    /// Has these tiers hold a checkpoint of at least `op` as soon as they can.
    pub(crate) fn checkpoint_now(&self, tiers: &[TierKind], op: Op) {
        tiers.iter().for_each(|kind| self.chain.checkpoint_now(*kind, op.0));
    }

    /// The newest op that all of these tiers hold as a checkpoint.
    pub(crate) fn held(&self, tiers: &[TierKind]) -> u64 {
        let status = self.chain.status();
        let held = status.iter().filter(|(kind, _)| tiers.contains(kind)).map(|(_, tier)| tier.checkpoint_op);
        held.min().unwrap_or(0)
    }

    /// The newest op that a restore from each tier could reach, as far as this replica's thread of tiers knows.
    pub(super) fn recovery_ops(&self) -> Vec<(TierKind, u64)> {
        self.chain.recovery_ops().collect()
    }

    /// The tier of this kind, to read from.
    pub(crate) fn store(&self, kind: TierKind) -> Option<Arc<dyn ObjectStore>> {
        self.chain.store(kind)
    }

    /// How each tier is. `reach` is told what a tier holds as far as its thread knows; what it holds indeed, and for how
    /// long what it lacks has been committed.
    pub(super) fn status(&self, reach: impl Fn(TierKind, u64) -> (u64, Duration)) -> Vec<TierReport> {
        let report = |(kind, status): (TierKind, vr_checkpoint::chain::TierStatus)| {
            let (recovery_op, lag) = reach(kind, status.recovery_op);
            TierReport {
                tier: tier_name(kind).to_owned(),
                checkpoint_op: status.checkpoint_op,
                recovery_op,
                lag_seconds: lag.as_secs_f64(),
                last_success: status.success_micros as f64 / 1e6,
                dirty_bytes: status.dirty_bytes,
                written_bytes: status.written_bytes,
                requests: status.requests,
                damaged: status.damaged,
                repaired: status.repaired,
                error: status.error,
            }
        };
        self.chain.status().into_iter().map(report).collect()
    }

    /// Gives the chain away, for its last work.
    #[must_use]
    pub fn into_chain(self) -> Chain {
        self.chain
    }
}

/// What a checkpoint of this state says.
#[must_use]
pub fn cut(members: &Configuration, store: &Store, header: CutHeader) -> Cut {
    let ids = |list: &[Member]| list.iter().map(|m| m.id.0).collect::<Vec<_>>();
    Cut {
        op: header.op.0,
        view: header.ballot.view.0,
        epoch: header.ballot.epoch.0,
        time_micros: header.time,
        log_digest: header.digest.0,
        revision: store.revision().0,
        reserved_revision: store.reserved().0,
        configuration: serde_json::json!({
            "epoch": members.epoch.0, "order": ids(&members.order), "learners": ids(&members.learners),
        }),
    }
}

/// A kind of tier in reports, metrics and configurations.
#[must_use]
pub fn tier_name(kind: TierKind) -> &'static str {
    match kind {
        TierKind::Nvme => "nvme",
        TierKind::Volume => "volume",
        TierKind::ObjectStore => "objectStore",
    }
}

/// The kind of tier that is called so.
pub(super) fn tier_kind(name: &str) -> Option<TierKind> {
    [TierKind::Nvme, TierKind::Volume, TierKind::ObjectStore]
        .into_iter()
        .find(|kind| tier_name(*kind) == name)
}
