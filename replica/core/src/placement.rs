//! A good order for a configuration, from what its proposer knows: failure domains, wishes, and round trips.
//!
//! Pure, and asked once, by whoever proposes; the outcome is data that goes through the log. No replica ever computes
//! it for itself: two that measured differently would follow different primaries.
//!
//! The first is who commits fastest, that is, has the nearest quorum. After it, nobody stands next to one of the same
//! domain as long as that can be helped: when a domain dies, the next candidate lives.

use crate::ids::ReplicaId;
use crate::quorum::majority;
use std::collections::BTreeMap;

/// Quorums that are this near to each other are equally near: it is no reason to move a primary. Microseconds.
const SAME: u64 = 500;
/// Stands for a round trip that was not measured: far away, but nearer than nothing.
const UNKNOWN: u64 = 10_000_000;

/// A voter as the order sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Which.
    pub id: ReplicaId,
    /// Its failure domain; empty where not known. Members of unknown domains never count as being in the same one.
    pub domain: &'a str,
}

/// What is known of the way between members: microseconds, from one to the other.
pub type RoundTrips = BTreeMap<(ReplicaId, ReplicaId), u64>;

/// Puts voters, given in the order in force, into the one to propose. `preferred` domains come first where there is a
/// choice; among equals, the order in force stays.
#[must_use]
pub fn arrange(voters: &[Candidate<'_>], preferred: &[&str], trips: &RoundTrips) -> Vec<ReplicaId> {
    let wish = |c: &Candidate<'_>| preferred.iter().position(|d| *d == c.domain).unwrap_or(preferred.len());
    let rank = |c: &Candidate<'_>| (wish(c), nearest_quorum(c.id, voters, trips) / SAME);
    let mut left: Vec<Candidate<'_>> = voters.to_vec();
    // Stable: the order in force decides among equals.
    left.sort_by_key(rank);
    let mut order = Vec::with_capacity(left.len());
    let mut before = "";
    while !left.is_empty() {
        let place = next_place(&left, before);
        let next = left.remove(place);
        before = next.domain;
        order.push(next.id);
    }
    order
}

/// The round trip to the farthest member of the nearest quorum around `id`, itself included: what a commit costs there.
#[must_use]
pub fn nearest_quorum(id: ReplicaId, voters: &[Candidate<'_>], trips: &RoundTrips) -> u64 {
    let trip = |to: ReplicaId| {
        let known = trips.get(&(id, to)).or_else(|| trips.get(&(to, id)));
        known.copied().unwrap_or(UNKNOWN)
    };
    let mut others: Vec<u64> = voters.iter().filter(|c| c.id != id).map(|c| trip(c.id)).collect();
    others.sort_unstable();
    match majority(voters.len()) {
        0 | 1 => 0,
        quorum => others[quorum - 2],
    }
}

fn next_place(left: &[Candidate<'_>], before: &str) -> usize {
    let apart = |c: &Candidate<'_>| c.domain.is_empty() || c.domain != before;
    let count = |domain: &str| left.iter().filter(|c| !domain.is_empty() && c.domain == domain).count();
    // A domain that holds more than half of what is left must come now, or it will stand next to itself.
    let must = left.iter().position(|c| apart(c) && 2 * count(c.domain) > left.len());
    must.or_else(|| left.iter().position(apart)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters<'a>(list: &[(u64, &'a str)]) -> Vec<Candidate<'a>> {
        list.iter().map(|&(id, domain)| Candidate { id: ReplicaId(id), domain }).collect()
    }

    fn arranged(list: &[(u64, &str)], preferred: &[&str], trips: &[(u64, u64, u64)]) -> Vec<u64> {
        let trips = trips.iter().map(|&(a, b, t)| ((ReplicaId(a), ReplicaId(b)), t)).collect();
        arrange(&voters(list), preferred, &trips).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn neighbours_in_the_order_are_in_different_domains() {
        assert_eq!(arranged(&[(1, "a"), (2, "a"), (3, "b")], &[], &[]), [1, 3, 2]);
        assert_eq!(arranged(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")], &[], &[]), [3, 1, 4, 2, 5]);
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "c")], &[], &[]), [3, 1, 4, 2, 5]);
        assert_eq!(arranged(&[(1, "a"), (2, "a"), (3, "a")], &[], &[]), [1, 2, 3], "it cannot be helped");
        assert_eq!(arranged(&[(1, ""), (2, ""), (3, "")], &[], &[]), [1, 2, 3]);
    }

    #[test]
    fn who_has_the_nearest_quorum_leads() {
        let trips = [(1, 2, 9_000), (1, 3, 8_000), (2, 3, 1_000)];
        // 2 and 3 are equally near to theirs: the order in force decides.
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c")], &[], &trips), [2, 3, 1]);
        assert_eq!(arranged(&[(1, "a"), (3, "c"), (2, "b")], &[], &trips), [3, 2, 1]);
        let nearly = [(1, 2, 300), (1, 3, 280), (2, 3, 100)];
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c")], &[], &nearly), [1, 2, 3], "no reason to move");
    }

    #[test]
    fn wishes_come_before_round_trips() {
        let trips = [(1, 2, 9_000), (1, 3, 8_000), (2, 3, 1_000)];
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c")], &["a"], &trips), [1, 2, 3]);
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c")], &["c", "a"], &trips), [3, 1, 2]);
    }

    #[test]
    fn what_was_not_measured_is_far() {
        assert_eq!(arranged(&[(1, "a"), (2, "b"), (3, "c")], &[], &[(2, 3, 4_000)]), [2, 3, 1]);
        assert_eq!(arranged(&[(4, "a")], &[], &[]), [4]);
        assert!(arranged(&[], &[], &[]).is_empty());
    }
}
