//! Keys and values out of a checkpoint and the log above it, with no cluster alive.
//!
//! Executes the log as a replica would. Does not know a replica's memory limit: writes that were refused for want of
//! memory above the checkpoint are executed here.

use crate::node::{self, CutHeader};
use vr_checkpoint::restore::Loaded;
use vr_checkpoint::writer::Cut;
use vr_core::{Entry, ReplayEnd, StateMachine};
use vr_store::{KeyValue, Options, RangeQuery, Span, Store};
use vr_tree::Snapshot;

/// Keys read at a time.
const PAGE: i64 = 256;

/// The state at a recovery point.
pub struct Contents {
    state: Store,
    end: ReplayEnd,
}

/// Holds the state of a checkpoint to the op that its manifest says. Checksums cannot tell that: whoever can write a manifest
/// can compute them, and the root of an older checkpoint leads to pages that are whole.
///
/// # Errors
/// When it is the state at another op, or no store of this release.
pub fn is_of_its_op(loaded: &Loaded) -> anyhow::Result<()> {
    let mut state = Store::from_snapshot(loaded.snapshot.clone(), Options::default())?;
    let core = state.core_state();
    let (is, says) = (vr_core::replay(&mut state, &core, [])?.op.0, loaded.manifest.op);
    anyhow::ensure!(is == says, "its manifest says op {says} and names the root of a state at op {is}");
    Ok(())
}

/// The last op that leaves the store at `revision` or below, of a checkpoint that does and the log above it. An op may
/// hand out several revisions; it comes back whole or not at all.
///
/// # Errors
/// As [`Contents::open`]; and when the log ends below `revision`: it may have been handed out, and what it wrote lost.
pub fn op_at_revision(loaded: &Loaded, revision: i64) -> anyhow::Result<u64> {
    let mut state = Store::from_snapshot(loaded.snapshot.clone(), Options::default())?;
    let mut core = state.core_state();
    let mut op = loaded.manifest.op;
    for entry in &loaded.entries {
        let end = vr_core::replay(&mut state, &core, [Entry::decode(&entry.bytes)?])?;
        if state.revision().0 > revision {
            return Ok(op);
        }
        (op, core) = (end.op.0.max(op), end.core.encode());
    }
    let reached = state.revision().0;
    anyhow::ensure!(reached >= revision, "the log leads to revision {reached} and not to {revision}");
    Ok(op)
}

impl Contents {
    /// Opens what was loaded and executes the log on it.
    ///
    /// # Errors
    /// When the state is no store of this release, or the log does not continue it.
    pub fn open(loaded: Loaded) -> anyhow::Result<Contents> {
        Contents::open_as(loaded, Options::default())
    }

    /// The same, by the options of a replica.
    ///
    /// # Errors
    /// As [`Contents::open`].
    pub fn open_as(loaded: Loaded, options: Options) -> anyhow::Result<Contents> {
        let mut state = Store::from_snapshot(loaded.snapshot, options)?;
        let entries =
            loaded.entries.iter().map(|e| Entry::decode(&e.bytes)).collect::<Result<Vec<Entry>, _>>()?;
        let core = state.core_state();
        let end = vr_core::replay(&mut state, &core, entries)?;
        Ok(Contents { state, end })
    }

    /// What a checkpoint of it consists of.
    #[must_use]
    pub fn into_checkpoint(self) -> (Cut, Snapshot) {
        let Contents { mut state, end } = self;
        let header = CutHeader { op: end.op, ballot: end.ballot, time: end.time, digest: end.digest };
        let snapshot = state.cut(end.op, &end.core.encode());
        (node::cut(&end.core.configuration, &state, header), snapshot)
    }

    /// The last op in it.
    #[must_use]
    pub fn op(&self) -> u64 {
        self.end.op.0
    }

    /// The store's revision there.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.state.revision().0
    }

    /// Hands out every key with its value, in order.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8]) -> std::io::Result<()>) -> anyhow::Result<u64> {
        let mut from = vec![0];
        let mut count = 0;
        loop {
            let query =
                RangeQuery { span: Span { key: &from, end: &[0] }, limit: PAGE, ..RangeQuery::default() };
            let page = self.state.range(&query)?;
            for kv in &page.kvs {
                each(kv.key(), kv.value())?;
                count += 1;
            }
            match page.kvs.last().map(KeyValue::key) {
                // The smallest key above the last one.
                Some(last) if page.more => from = [last, &[0]].concat(),
                _ => return Ok(count),
            }
        }
    }
}
