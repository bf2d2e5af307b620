//! Which log a new view begins with (R10): one pure function over the votes of a quorum.
//!
//! It promises that the chosen log holds every entry that can have been committed, given that the votes come from a
//! quorum and that each voter counts its last *Normal* ballot.

use crate::ids::{Ballot, Op, ReplicaId};
use crate::message::Header;
use crate::mutants::{Mutant, on};

/// What a replica says of its log when it votes for a new view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Vote {
    /// Who.
    pub from: ReplicaId,
    /// The last ballot in which it was Normal.
    pub last_normal: Ballot,
    /// What it knows to be committed.
    pub commit: Op,
    /// Its newest entry.
    pub op: Op,
    /// The headers above its commit.
    pub headers: Vec<Header>,
}

/// What the new view begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// The vote whose log is taken.
    pub log: &'a Vote,
    /// The newest op that any voter knows to be committed.
    pub commit: Op,
}

/// The log with the largest (last normal ballot, op), and the largest commit. Among equal logs the voter with the
/// larger commit, then the smaller id, so that the choice is the same on every replay. `None` without votes.
//= R10
#[must_use]
pub fn select(votes: &[Vote]) -> Option<Selection<'_>> {
    let normal = |vote: &Vote| if on(Mutant::LongestLog) { Ballot::default() } else { vote.last_normal };
    let log =
        votes.iter().max_by_key(|vote| (normal(vote), vote.op, vote.commit, std::cmp::Reverse(vote.from)))?;
    let commit = votes.iter().map(|vote| vote.commit).max()?;
    Some(Selection { log, commit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, View};
    use proptest::prelude::*;

    fn vote(from: u64, view: u64, commit: u64, op: u64) -> Vote {
        Vote {
            from: ReplicaId(from),
            last_normal: Ballot { epoch: Epoch(0), view: View(view) },
            commit: Op(commit),
            op: Op(op),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_later_normal_view_beats_a_longer_log() {
        for (votes, from, commit) in [
            (vec![vote(1, 0, 5, 9), vote(2, 1, 5, 6)], 2, 5),
            (vec![vote(1, 1, 5, 9), vote(2, 1, 7, 8)], 1, 7),
            (vec![vote(1, 1, 5, 9), vote(2, 1, 7, 9)], 2, 7),
            (vec![vote(2, 1, 5, 9), vote(1, 1, 5, 9)], 1, 5),
        ] {
            let chosen = select(&votes).expect("there are votes");
            assert_eq!((chosen.log.from, chosen.commit), (ReplicaId(from), Op(commit)), "{votes:?}");
        }
        assert_eq!(select(&[]), None);
    }

    proptest! {
        /// Whoever was last Normal in the newest ballot holds all that was committed, and of those the longest is taken.
        #[test]
        fn nothing_better_is_left_behind(raw in prop::collection::vec((0u64..4, 0u64..20, 0u64..20), 1..6)) {
            let votes: Vec<Vote> = raw
                .iter()
                .enumerate()
                .map(|(i, &(view, a, b))| vote(i as u64, view, a.min(b), a.max(b)))
                .collect();
            let chosen = select(&votes).expect("there are votes");
            for vote in &votes {
                prop_assert!(
                    (vote.last_normal, vote.op) <= (chosen.log.last_normal, chosen.log.op) && vote.commit <= chosen.commit
                );
            }
            let mut reversed = votes.clone();
            reversed.reverse();
            prop_assert_eq!(select(&reversed).map(|s| s.log.from), Some(chosen.log.from));
        }
    }
}
