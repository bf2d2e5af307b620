//! The primary's deadlines. Not replicated: whoever becomes primary opens a new book and grants every lease its full
//! time again.
//!
//! It proposes nothing itself: [`LeaseBook::due`] says what is to be proposed as [`crate::Command::LeaseExpire`].
//! Times are durations since any fixed moment of a clock that does not go back.

use crate::lease::LeaseChange;
use crate::types::LeaseId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A proposal that has not taken effect after this time is made again.
const PROPOSE_AGAIN: Duration = Duration::from_secs(3);
/// When many leases would end together after a change of primary, at most so many do each second: etcd's rate.
const EXPIRE_PER_SECOND: usize = 1000;

/// Deadlines of all leases.
#[derive(Debug, Default)]
pub struct LeaseBook {
    leases: BTreeMap<LeaseId, Deadline>,
    by_time: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    ttl: i64,
    at: Duration,
    /// Already proposed to expire: no keepalive revives it.
    ending: bool,
}

impl LeaseBook {
    /// A book for a new primary: every lease has its full time from now, and a little more where a crowd would end
    /// at once.
    #[must_use]
    pub fn open(leases: impl Iterator<Item = (LeaseId, i64)>, now: Duration) -> LeaseBook {
        let mut all: Vec<_> = leases.map(|(id, ttl)| (now.saturating_add(seconds(ttl)), id, ttl)).collect();
        all.sort_unstable();
        for i in EXPIRE_PER_SECOND..all.len() {
            all[i].0 = all[i].0.max(all[i - EXPIRE_PER_SECOND].0.saturating_add(Duration::from_secs(1)));
        }
        let mut book = LeaseBook::default();
        for (at, id, ttl) in all {
            book.set(id, Deadline { ttl, at, ending: false });
        }
        book
    }

    /// A lease came or went in the executed state.
    pub fn apply(&mut self, change: LeaseChange, now: Duration) {
        match change {
            LeaseChange::Granted { id, ttl } => {
                self.set(id, Deadline { ttl, at: now.saturating_add(seconds(ttl)), ending: false });
            }
            LeaseChange::Ended { id } => {
                if let Some(old) = self.leases.remove(&id) {
                    self.by_time.remove(&(old.at, id));
                }
            }
        }
    }

    /// A keepalive: the lease's time to live in seconds, or `None` if it does not exist or is ending.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> Option<i64> {
        let Deadline { ttl, ending, .. } = *self.leases.get(&id)?;
        if ending {
            return None;
        }
        self.set(id, Deadline { ttl, at: now.saturating_add(seconds(ttl)), ending });
        Some(ttl)
    }

    /// What is left of a lease; `None` if it does not exist. Zero when it is ending.
    #[must_use]
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        let lease = self.leases.get(&id)?;
        Some(if lease.ending { Duration::ZERO } else { lease.at.saturating_sub(now) })
    }

    /// At most `max` leases whose time is over, the longest overdue first. Each is named again only if it is still
    /// there some seconds later.
    pub fn due(&mut self, now: Duration, max: usize) -> Vec<LeaseId> {
        let over = self.by_time.range(..=(now, LeaseId(i64::MAX)));
        let due: Vec<LeaseId> = over.take(max).map(|(_, id)| *id).collect();
        for id in due.iter().copied() {
            let ttl = self.leases.get(&id).expect("both indexes hold the same leases").ttl;
            self.set(id, Deadline { ttl, at: now.saturating_add(PROPOSE_AGAIN), ending: true });
        }
        due
    }

    /// When [`LeaseBook::due`] should be asked next; `None` while there is no lease.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn set(&mut self, id: LeaseId, deadline: Deadline) {
        if let Some(old) = self.leases.insert(id, deadline) {
            self.by_time.remove(&(old.at, id));
        }
        self.by_time.insert((deadline.at, id));
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn book(ttls: &[i64]) -> LeaseBook {
        LeaseBook::open(ttls.iter().enumerate().map(|(i, ttl)| (LeaseId(i as i64 + 1), *ttl)), at(0))
    }

    #[test]
    fn a_lease_ends_after_its_time_and_not_before() {
        let mut book = book(&[5, 10]);
        assert_eq!(book.next(), Some(at(5)));
        assert_eq!(book.due(Duration::from_millis(4_999), 9), []);
        assert_eq!(book.due(at(5), 9), [LeaseId(1)]);
        assert_eq!(book.remaining(LeaseId(2), at(5)), Some(at(5)));
        assert_eq!(book.remaining(LeaseId(3), at(5)), None);
    }

    #[test]
    fn a_keepalive_gives_the_full_time_again_until_the_end_is_proposed() {
        let mut book = book(&[5]);
        assert_eq!(book.renew(LeaseId(1), at(4)), Some(5));
        assert_eq!(book.due(at(8), 9), []);
        assert_eq!(book.due(at(9), 9), [LeaseId(1)]);
        assert_eq!(book.renew(LeaseId(1), at(9)), None);
        assert_eq!(book.remaining(LeaseId(1), at(9)), Some(at(0)));
        assert_eq!(book.renew(LeaseId(7), at(9)), None);
    }

    #[test]
    fn a_lost_proposal_is_made_again_and_an_ended_lease_forgotten() {
        let mut book = book(&[5]);
        assert_eq!(book.due(at(5), 9), [LeaseId(1)]);
        assert_eq!(book.due(at(6), 9), []);
        assert_eq!(book.due(at(8), 9), [LeaseId(1)]);
        book.apply(LeaseChange::Ended { id: LeaseId(1) }, at(9));
        assert_eq!((book.next(), book.due(at(99), 9)), (None, vec![]));
    }

    #[test]
    fn a_crowd_is_spread_over_seconds_and_taken_in_portions() {
        let mut book = book(&vec![5; 2500]);
        assert_eq!(book.due(at(5), 400).len(), 400);
        assert_eq!(book.due(at(5), 10_000).len(), 600);
        assert_eq!(book.due(at(6), 10_000).len(), 1000);
        assert_eq!(book.due(at(7), 10_000).len(), 500);
    }

    #[test]
    fn a_granted_lease_enters_the_book() {
        let mut book = LeaseBook::default();
        book.apply(LeaseChange::Granted { id: LeaseId(-4), ttl: 2 }, at(1));
        assert_eq!(book.due(at(3), 9), [LeaseId(-4)]);
    }
}
