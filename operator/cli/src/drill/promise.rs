//! What the service said before the disaster about what it would keep.
//!
//! Every look at the replicas gives a moment and the highest commit number that any of them names: whatever had been
//! acknowledged by that moment is at or below it. When a surviving tier later names a recovery point at or above that
//! number, everything acknowledged by that moment is promised.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use vr_replica::status::Report as Status;

use super::scenario::Scenario;
use crate::dev::cluster::status;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks whose commit number no tier has reached yet; the oldest are given up, which only weakens the promise.
const LOOKS: usize = 36_000;

/// The promise as it grows.
#[derive(Clone)]
pub struct Promises {
    scenario: Scenario,
    admins: Rc<[SocketAddr]>,
    looks: Rc<RefCell<VecDeque<(Instant, u64)>>>,
    promised: Rc<Cell<Option<Instant>>>,
    over: Rc<Cell<bool>>,
}

impl Promises {
    /// Of the replicas with these admin addresses.
    #[must_use]
    pub fn new(scenario: Scenario, admins: &[SocketAddr]) -> Promises {
        Promises {
            scenario,
            admins: admins.into(),
            looks: Rc::default(),
            promised: Rc::default(),
            over: Rc::default(),
        }
    }

    /// Looks again and again until [`Promises::end`].
    pub async fn watch(&self) {
        while !self.over.get() {
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks once and returns what was seen.
    pub async fn look(&self) -> Vec<Status> {
        let at = Instant::now();
        let statuses = join_all(self.admins.iter().map(|&admin| status(admin))).await;
        let statuses: Vec<Status> = statuses.into_iter().flatten().collect();
        if !self.over.get() {
            let commit = statuses.iter().map(|status| status.commit).max().unwrap_or(0);
            self.note(at, commit, recovery_op(&statuses, self.scenario));
        }
        statuses
    }

    fn note(&self, at: Instant, commit: u64, recovery_op: u64) {
        let mut looks = self.looks.borrow_mut();
        looks.push_back((at, commit));
        while looks.front().is_some_and(|(_, commit)| *commit <= recovery_op) {
            self.promised.set(looks.pop_front().map(|(at, _)| at));
        }
        while looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// The moment up to which everything is promised by now.
    #[must_use]
    pub fn kept(&self) -> Option<Instant> {
        self.promised.get()
    }

    /// Nothing is promised any more from now on; returns the moment up to which everything was.
    pub fn end(&self) -> Option<Instant> {
        self.over.set(true);
        self.kept()
    }
}

/// The highest op that a restore could reach from a tier that survives.
#[must_use]
pub fn recovery_op(statuses: &[Status], scenario: Scenario) -> u64 {
    surviving(statuses, scenario).map(|tier| tier.recovery_op).max().unwrap_or(0)
}

/// The highest op of a checkpoint on a tier that survives.
#[must_use]
pub fn checkpoint_op(statuses: &[Status], scenario: Scenario) -> u64 {
    surviving(statuses, scenario).map(|tier| tier.checkpoint_op).max().unwrap_or(0)
}

fn surviving(
    statuses: &[Status],
    scenario: Scenario,
) -> impl Iterator<Item = &vr_replica::status::TierReport> {
    let last = statuses.iter().map(|status| status.replica_id).max();
    let tiers = statuses
        .iter()
        .flat_map(move |status| status.tiers.iter().map(move |tier| (tier, Some(status.replica_id) == last)));
    tiers.filter(move |(tier, last)| scenario.keeps_tier(&tier.tier, *last)).map(|(tier, _)| tier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_promised_once_a_tier_has_reached_its_commit() {
        let promises = Promises::new(Scenario::default(), &[]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        promises.note(at(1), 10, 0);
        promises.note(at(2), 20, 9);
        assert_eq!(promises.promised.get(), None);
        promises.note(at(3), 30, 10);
        assert_eq!(promises.promised.get(), Some(at(1)));
        promises.note(at(4), 40, 35);
        assert_eq!(promises.end(), Some(at(3)));
    }
}
