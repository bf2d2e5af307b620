//! A replica apart from its state: taken out of a running one, kept, and put together again somewhere else.
//!
//! Both do the same from there on, given the same inputs: that is what a recording of inputs is replayed from. It promises
//! that every field goes along; what a driver holds (sockets, readers that wait, timers) is not its matter.
//!
//! The state is one that is kept anyway: that of a cut. What was executed since is in the log, and the log goes along; so
//! no page has to be copied for a replica that is frozen and never looked at.

use super::Replica;
use crate::execute::{self, ReplayError};
use crate::ids::{Digest, Op};
use crate::import::{Import, ImportError};
use crate::state_machine::{Accepted, At, StateMachine};
use bytes::Bytes;

/// A replica without its state, as data.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Apart(Replica<Absent>);

/// A replica and the snapshots that belong to it.
pub struct Frozen<T> {
    /// Everything but the state.
    pub apart: Apart,
    /// A state: as it is, or as it was at an op from which on the log is held.
    pub state: T,
    /// The cuts that it keeps for others, oldest first.
    pub cuts: Vec<T>,
    at: Op,
}

/// Why a frozen replica cannot be put together again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThawError {
    /// There are fewer cuts than it kept.
    #[error("a cut that the replica keeps is not there")]
    Cuts,
    /// The log does not lead from the state to what was executed.
    #[error(transparent)]
    Log(#[from] ReplayError),
    /// The log leads from the state to something else.
    #[error("the state and the log do not come to what the replica had executed, {0}")]
    State(Op),
}

impl<S: StateMachine> Replica<S> {
    /// A copy of everything, with the state as a snapshot. `None` while a state of another replica is on its way in: it
    /// belongs to the state machine and cannot be copied.
    pub fn freeze(&mut self) -> Option<Frozen<S::Snapshot>> {
        let (apart, cuts) = self.apart()?;
        let at = self.executor.op();
        let state = self.state.cut(at, &self.executor.core.encode());
        Some(Frozen { apart, state, cuts, at })
    }

    /// The same at no cost to the state, where that can be: with the newest cut, or with the state of `earlier`, a copy
    /// made of this replica before.
    pub fn freeze_since(&mut self, earlier: Option<&Frozen<S::Snapshot>>) -> Option<Frozen<S::Snapshot>> {
        let cut = self.cuts.newest();
        let before = earlier.map(|frozen| (frozen.at, &frozen.state));
        let held = |(at, _): &(Op, _)| (self.log.base()..=self.executor.op()).contains(at);
        let Some((at, state)) = [cut, before].into_iter().flatten().filter(held).max_by_key(|(at, _)| *at)
        else {
            return self.freeze();
        };
        let state = state.clone();
        let (apart, cuts) = self.apart()?;
        Some(Frozen { apart, state, cuts, at })
    }

    fn apart(&self) -> Option<(Apart, Vec<S::Snapshot>)> {
        let mut cuts = Vec::new();
        let apart = self.with(Absent, |snapshot: &S::Snapshot| {
            cuts.push(snapshot.clone());
            cuts.len() as u64 - 1
        })?;
        Some((Apart(apart), cuts))
    }

    /// The replica that was frozen, given its state and the snapshots it kept.
    ///
    /// # Errors
    /// These are not what was frozen with it.
    pub fn thaw(apart: &Apart, mut state: S, cuts: &[S::Snapshot]) -> Result<Replica<S>, ThawError> {
        let Apart(apart) = apart;
        let executed = &apart.executor.core;
        let stored = state.core_state();
        let first = apart.log.oldest().0;
        let since = (first..=executed.op.0).filter_map(|op| apart.log.entry(Op(op)).cloned());
        if execute::replay(&mut state, &stored, since)?.core != *executed {
            return Err(ThawError::State(executed.op));
        }
        let place = |index: &u64| usize::try_from(*index).ok().filter(|&index| index < cuts.len());
        let mut enough = true;
        let _ = apart.cuts.with(|index| enough &= place(index).is_some());
        let thawed =
            enough.then(|| apart.with(state, |index| cuts[place(index).expect("it was looked at")].clone()));
        thawed.flatten().ok_or(ThawError::Cuts)
    }

    fn with<T: StateMachine>(
        &self,
        other: T,
        form: impl FnMut(&S::Snapshot) -> T::Snapshot,
    ) -> Option<Replica<T>> {
        // Every field is named, so that a new one cannot be forgotten.
        let Replica {
            id,
            position,
            domain,
            configuration,
            options,
            vote,
            now,
            status,
            reported,
            ballot,
            last_normal,
            promised,
            writing,
            amnesiac,
            lost,
            state: _,
            executor,
            log,
            peers,
            heard,
            suspect_at,
            ahead,
            commit_heard,
            ack_due,
            round_seen,
            shipper,
            lead,
            views,
            epochs,
            recovery,
            catch_up,
            transfers,
            gateway,
            reads,
            cuts,
            retry_at,
            counters,
        } = self;
        // What cannot be copied is found out first: a recorder asks at every step until it can be.
        let transfers = transfers.apart()?;
        let catch_up = match catch_up {
            Some(catch_up) => Some(catch_up.apart()?),
            None => None,
        };
        Some(Replica {
            id: *id,
            position: *position,
            domain: *domain,
            configuration: configuration.clone(),
            options: options.clone(),
            vote: *vote,
            now: *now,
            status: *status,
            reported: *reported,
            ballot: *ballot,
            last_normal: *last_normal,
            promised: *promised,
            writing: *writing,
            amnesiac: *amnesiac,
            lost: *lost,
            state: other,
            executor: executor.clone(),
            log: log.clone(),
            peers: peers.clone(),
            heard: *heard,
            suspect_at: *suspect_at,
            ahead: ahead.clone(),
            commit_heard: *commit_heard,
            ack_due: *ack_due,
            round_seen: *round_seen,
            shipper: *shipper,
            lead: lead.clone(),
            views: views.clone(),
            epochs: epochs.clone(),
            recovery: recovery.clone(),
            catch_up,
            transfers,
            gateway: gateway.clone(),
            reads: reads.clone(),
            cuts: cuts.with(form),
            retry_at: *retry_at,
            counters: *counters,
        })
    }
}

/// Stands where a state was. A replica with it is data and takes no steps.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Absent;

/// A state that can never be on its way in.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum Never {}

impl StateMachine for Absent {
    type Reply = ();
    /// The place of a snapshot among those beside it.
    type Snapshot = u64;
    type Import = Never;

    fn execute(&mut self, _at: At, _requests: &[Accepted<'_>], _replies: &mut Vec<()>) {}

    fn cut(&mut self, _op: Op, _core_state: &[u8]) -> u64 {
        0
    }

    fn core_state(&self) -> Vec<u8> {
        Vec::new()
    }

    fn export(_snapshot: &u64, _want: &[u8], _max_bytes: usize) -> Bytes {
        Bytes::new()
    }

    fn import(&self, _cut: Op, _root: Digest, _earlier: Option<Never>) -> Never {
        unreachable!("a replica apart from its state takes no steps")
    }
}

impl Import for Never {
    type Machine = Absent;

    fn want(&mut self) -> Option<Bytes> {
        match *self {}
    }

    fn take(&mut self, _want: &[u8], _portion: &[u8]) -> Result<(), ImportError> {
        match *self {}
    }

    fn end(self) -> Result<Absent, ImportError> {
        match self {}
    }
}
