//! Cuts: snapshots at the same op on every replica, what of the log they make superfluous, and whether their roots
//! agree.

use super::{Effect, Effects, Replica};
use crate::ids::*;
use crate::message::{Entry, Header, Message};
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;
use std::collections::{BTreeMap, VecDeque};

/// Cuts whose snapshots are kept for others to fetch.
const KEPT: usize = 2;
/// Cuts whose roots are being compared, at most.
const COMPARED: usize = 8;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Kept<T> {
    op: Op,
    snapshot: T,
    root: Option<Digest>,
}

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Roots {
    reported: BTreeMap<ReplicaId, Digest>,
    settled: bool,
}

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Cuts<T> {
    kept: VecDeque<Kept<T>>,
    last: Op,
    bytes_since: usize,
    roots: BTreeMap<Op, Roots>,
}

impl<T> Cuts<T> {
    pub(super) fn new(base: Op) -> Cuts<T> {
        Cuts { kept: VecDeque::new(), last: base, bytes_since: 0, roots: BTreeMap::new() }
    }

    /// The same with each snapshot put into another form.
    pub(super) fn with<U>(&self, mut form: impl FnMut(&T) -> U) -> Cuts<U> {
        let Cuts { kept, last, bytes_since, roots } = self;
        let kept = kept.iter().map(|Kept { op, snapshot, root }| Kept {
            op: *op,
            snapshot: form(snapshot),
            root: *root,
        });
        Cuts { kept: kept.collect(), last: *last, bytes_since: *bytes_since, roots: roots.clone() }
    }

    pub(super) fn count_bytes(&mut self, bytes: usize) {
        self.bytes_since += bytes;
    }

    /// Bytes of log executed since the last cut.
    pub(super) fn log_bytes(&self) -> usize {
        self.bytes_since
    }

    /// A kept cut whose root is known: the one asked for, or the newest for 0.
    pub(super) fn with_root(&self, op: Op) -> Option<(Op, Digest, &T)> {
        let fits = |kept: &&Kept<T>| kept.root.is_some() && (op == Op(0) || kept.op == op);
        self.kept.iter().rev().find(fits).and_then(|kept| Some((kept.op, kept.root?, &kept.snapshot)))
    }

    /// The cut taken last, if it is kept.
    pub(super) fn newest(&self) -> Option<(Op, &T)> {
        self.kept.back().map(|kept| (kept.op, &kept.snapshot))
    }

    /// The state was replaced by one cut at `op`: the snapshots of the old one are of no more use.
    pub(super) fn replaced<S: StateMachine<Snapshot = T>>(&mut self, op: Op, out: &mut Effects<S>) {
        self.kept.drain(..).for_each(|kept| out.push(Effect::Release(kept.snapshot)));
        self.last = op;
        self.bytes_since = 0;
    }

    fn report(&mut self, op: Op, by: ReplicaId, root: Digest) {
        let roots =
            self.roots.entry(op).or_insert_with(|| Roots { reported: BTreeMap::new(), settled: false });
        roots.reported.entry(by).or_insert(root);
        while self.roots.len() > COMPARED {
            self.roots.pop_first();
        }
    }
}

impl<S: StateMachine> Replica<S> {
    pub(super) fn cut_taken(
        &mut self,
        header: &Header,
        digest: Digest,
        snapshot: S::Snapshot,
        out: &mut Effects<S>,
    ) {
        let op = header.op;
        self.cuts.kept.push_back(Kept { op, snapshot: snapshot.clone(), root: None });
        if self.cuts.kept.len() > KEPT
            && let Some(oldest) = self.cuts.kept.pop_front()
        {
            out.push(Effect::Release(oldest.snapshot));
        }
        // Whoever has fetched the cut before this one must still be able to go on by the log.
        self.log.trim(self.cuts.last);
        self.cuts.last = op;
        self.cuts.bytes_since = 0;
        out.push(Effect::Cut { op, ballot: header.ballot, time: header.time, digest, snapshot });
    }

    /// The state as it is stands at a cut that was not taken here: loaded or fetched. It is kept like one that was, or
    /// nobody could fetch it from a replica that has trimmed its log so far.
    pub(super) fn cut_kept(&mut self, root: Option<Digest>, out: &mut Effects<S>) {
        let core = self.executor.core.clone();
        let stored = self.state.core_state();
        let snapshot = self.state.cut(core.op, &stored);
        if root.is_none() {
            let snapshot = snapshot.clone();
            let (op, ballot, time, digest) = (core.op, core.ballot, core.time, core.digest);
            out.push(Effect::Cut { op, ballot, time, digest, snapshot });
        }
        self.cuts.kept.push_back(Kept { op: core.op, snapshot, root });
    }

    /// The driver has computed the root of a cut.
    pub(super) fn cut_root(&mut self, op: Op, root: Digest, out: &mut Effects<S>) {
        if let Some(kept) = self.cuts.kept.iter_mut().find(|kept| kept.op == op) {
            kept.root = Some(root);
        }
        self.cuts.report(op, self.id, root);
        if !self.peers.is_empty() {
            out.push(Effect::Broadcast(Message::Root { op, root }));
        }
        self.compare_roots(op, out);
    }

    pub(super) fn on_root(&mut self, from: ReplicaId, op: Op, root: Digest, out: &mut Effects<S>) {
        if op.0 > self.log.op().0.saturating_add(1 << 20) {
            self.counters.dropped_malformed += 1;
            return;
        }
        self.cuts.report(op, from, root);
        self.compare_roots(op, out);
    }

    fn compare_roots(&mut self, op: Op, out: &mut Effects<S>) {
        let quorum = if on(Mutant::EarlyCertificate) { 1 } else { self.configuration.quorum() };
        let Some(roots) = self.cuts.roots.get_mut(&op) else { return };
        let Some(&ours) = roots.reported.get(&self.id) else { return };
        let by = |root: Digest| -> Vec<ReplicaId> {
            let same = roots.reported.iter().filter(|(_, reported)| **reported == root).map(|(id, _)| *id);
            same.filter(|&id| self.configuration.is_voter(id)).collect()
        };
        let certified = roots.reported.values().copied().find(|&root| by(root).len() >= quorum);
        match certified {
            Some(certified) if certified != ours => {
                // Stops voting and serving, and keeps what it has for inspection.
                self.halt(out);
                out.push(Effect::Diverged { op, certified, ours });
            }
            Some(root) if !roots.settled => {
                let by = by(root);
                roots.settled = true;
                out.push(Effect::Certified { op, root, by });
            }
            _ => {}
        }
    }

    /// Reports the newest root again while somebody has not answered with theirs: the first report may be lost.
    pub(super) fn repeat_root(&mut self, out: &mut Effects<S>) {
        let members = self.members();
        if let Some((&op, roots)) = self.cuts.roots.last_key_value()
            && let Some(&root) = roots.reported.get(&self.id)
            && !roots.settled
            && roots.reported.len() < members
        {
            out.push(Effect::Broadcast(Message::Root { op, root }));
        }
    }
}

/// What a replica that stops cleanly keeps: with it, its next start remembers everything it ever promised.
pub struct Leaving<T> {
    /// Everything through here is executed.
    pub op: Op,
    /// Ballot of that entry.
    pub ballot: Ballot,
    /// Its time, microseconds since the Unix epoch.
    pub time: u64,
    /// Digest of the log through it.
    pub digest: Digest,
    /// The state there, the protocol's part included.
    pub snapshot: T,
    /// The entries above it.
    pub tail: Vec<Entry>,
    /// The last ballot in which this replica was Normal.
    pub last_normal: Ballot,
}

/// What a replica has executed.
pub struct Executed<T> {
    /// Everything through here.
    pub op: Op,
    /// Ballot of that entry.
    pub ballot: Ballot,
    /// Its time, microseconds since the Unix epoch.
    pub time: u64,
    /// Digest of the log through it.
    pub digest: Digest,
    /// The state there, the protocol's part included.
    pub snapshot: T,
}

impl<S: StateMachine> Replica<S> {
    /// What to keep at a clean stop; `None` from a replica that has not got its memory back (R5). Must be the last
    /// thing asked of it: whatever it is told afterwards would not be kept.
    pub fn leave(&mut self) -> Option<Leaving<S::Snapshot>> {
        let Executed { op, ballot, time, digest, snapshot } = self.executed()?;
        let mut tail = Vec::new();
        let mut next = op.next();
        while let Some(entry) = self.log.entry(next) {
            tail.push(entry.clone());
            next = next.next();
        }
        Some(Leaving { op, ballot, time, digest, snapshot, tail, last_normal: self.last_normal })
    }

    /// What it has executed, which is what it knows to be committed; `None` from a replica that has not got its memory back.
    /// Nothing follows from it here: the next cut is made as if this one had not been.
    pub fn executed(&mut self) -> Option<Executed<S::Snapshot>> {
        if self.amnesiac {
            return None;
        }
        let core = self.executor.core.clone();
        let snapshot = self.state.cut(core.op, &core.encode());
        Some(Executed { op: core.op, ballot: core.ballot, time: core.time, digest: core.digest, snapshot })
    }
}
