//! Quorums: majorities of one configuration, for commit and for view change alike.
//!
//! Pure. It promises that any two quorums of a configuration share a member, and nothing about who is alive.

use crate::ids::Op;

/// Members that make a quorum among `members`: a majority.
#[must_use]
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The newest op that a majority holds, given what each member (the primary included) has acknowledged.
///
/// `acknowledged` is reordered.
#[must_use]
pub fn held_by_majority(acknowledged: &mut [Op]) -> Op {
    largest_shared(acknowledged).unwrap_or_default()
}

/// The largest value that a majority of the members reaches or exceeds; `None` without members.
///
/// `values` is reordered.
#[must_use]
pub fn largest_shared<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    if values.is_empty() {
        return None;
    }
    let quorum = majority(values.len());
    values.sort_unstable_by(|a, b| b.cmp(a));
    Some(values[quorum - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_majorities_always_meet() {
        for members in 1..=9 {
            assert!(2 * majority(members) > members, "{members}");
            assert!(majority(members) <= members, "{members}");
        }
    }

    #[test]
    fn held_by_majority_is_the_middle_value() {
        for (acknowledged, expected) in [
            (vec![7], 7),
            (vec![7, 0], 0),
            (vec![7, 3, 0], 3),
            (vec![0, 9, 9], 9),
            (vec![5, 4, 3, 2, 1], 3),
            (vec![5, 5, 0, 0, 0], 0),
        ] {
            let mut ops: Vec<Op> = acknowledged.iter().copied().map(Op).collect();
            assert_eq!(held_by_majority(&mut ops), Op(expected), "{acknowledged:?}");
        }
        assert_eq!(held_by_majority(&mut []), Op(0));
    }
}
