//! A replica apart from its state: taken out of a running one, kept, and put together again somewhere else.
//!
//! Both do the same from there on, given the same inputs: that is what a recording of inputs is replayed from. It promises
//! that every field goes along; what a driver holds (sockets, readers that wait, timers) is not its matter.

use super::Replica;
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
    /// The state.
    pub state: T,
    /// The cuts that it keeps for others, oldest first.
    pub cuts: Vec<T>,
}

impl<S: StateMachine> Replica<S> {
    /// A copy of everything, with the state as a snapshot. `None` while a state of another replica is on its way in: it
    /// belongs to the state machine and cannot be copied.
    pub fn freeze(&mut self) -> Option<Frozen<S::Snapshot>> {
        let mut cuts = Vec::new();
        let apart = self.with(Absent, |snapshot: &S::Snapshot| {
            cuts.push(snapshot.clone());
            cuts.len() as u64 - 1
        })?;
        let state = self.state.cut(self.executor.op(), &self.executor.core.encode());
        Some(Frozen { apart: Apart(apart), state, cuts })
    }

    /// The replica that was frozen, given its state and the snapshots it kept.
    ///
    /// `None` if there are not as many snapshots as it kept.
    #[must_use]
    pub fn thaw(apart: &Apart, state: S, cuts: &[S::Snapshot]) -> Option<Replica<S>> {
        let place = |index: &u64| usize::try_from(*index).ok().filter(|&index| index < cuts.len());
        let mut enough = true;
        let _ = apart.0.cuts.with(|index| enough &= place(index).is_some());
        enough.then(|| apart.0.with(state, |index| cuts[place(index).expect("it was looked at")].clone()))?
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
