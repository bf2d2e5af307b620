//! Quorums: majorities of one configuration, for commit and for view change alike.
//!
//! Pure. It promises that any two quorums of a configuration share a member, and nothing about who is alive.

use crate::ids::Op;

/// Members that make a quorum among `members`: a majority.
#[must_use]
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The newest op that a commit quorum holds: a majority of the voters and, with `span`, voters of two failure domains
/// at least. Given what each voter (the primary included) has acknowledged, and the number of its domain.
///
/// Spanning only narrows: the answer is never above the majority's. `acknowledged` is reordered.
#[must_use]
pub fn committed(acknowledged: &mut [(Op, u16)], span: bool) -> Op {
    if acknowledged.is_empty() {
        return Op(0);
    }
    let quorum = majority(acknowledged.len());
    acknowledged.sort_unstable_by(|a, b| b.cmp(a));
    let mut last = quorum - 1;
    if span {
        let first = acknowledged[0].1;
        // Everybody before the first of another domain stands in one domain.
        match acknowledged.iter().position(|(_, domain)| *domain != first) {
            Some(other) => last = last.max(other),
            None => return Op(0),
        }
    }
    acknowledged[last].0
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
    use proptest::prelude::*;

    #[test]
    fn two_majorities_always_meet() {
        for members in 1..=9 {
            assert!(2 * majority(members) > members, "{members}");
            assert!(majority(members) <= members, "{members}");
        }
    }

    #[test]
    fn a_majority_is_the_middle_value() {
        for (acknowledged, expected) in [
            (vec![7], 7),
            (vec![7, 0], 0),
            (vec![7, 3, 0], 3),
            (vec![0, 9, 9], 9),
            (vec![5, 4, 3, 2, 1], 3),
            (vec![5, 5, 0, 0, 0], 0),
        ] {
            let mut ops: Vec<(Op, u16)> = acknowledged.iter().map(|&op| (Op(op), 0)).collect();
            assert_eq!(committed(&mut ops, false), Op(expected), "{acknowledged:?}");
            assert_eq!(largest_shared(&mut acknowledged.clone()), Some(expected));
        }
        assert_eq!(largest_shared::<u64>(&mut []), None);
    }

    #[test]
    fn a_commit_that_must_span_waits_for_a_second_domain() {
        let held = |ops: &[(u64, u16)]| ops.iter().map(|&(op, domain)| (Op(op), domain)).collect::<Vec<_>>();
        for (ops, plain, spanning) in [
            (vec![(9, 0), (8, 0), (3, 1)], 8, 3),
            (vec![(9, 0), (8, 1), (3, 0)], 8, 8),
            (vec![(9, 0), (9, 0), (9, 0)], 9, 0),
            (vec![(9, 0), (7, 0), (6, 0), (5, 1), (2, 1)], 6, 5),
            (vec![(9, 1), (7, 0), (6, 0), (5, 1), (2, 1)], 6, 6),
            (vec![], 0, 0),
        ] {
            assert_eq!(committed(&mut held(&ops), false), Op(plain), "{ops:?}");
            assert_eq!(committed(&mut held(&ops), true), Op(spanning), "{ops:?}");
        }
    }

    proptest! {
        /// It is the largest op for which the voters that hold it are a quorum, found by trying all of them.
        #[test]
        fn committed_is_the_largest_op_of_a_quorum(ops in prop::collection::vec((0u64..6, 0u16..3), 1..8), span: bool) {
            let quorum = |op: u64| {
                let holders: Vec<_> = ops.iter().filter(|(held, _)| *held >= op).collect();
                let spans = holders.iter().any(|(_, domain)| *domain != holders[0].1);
                holders.len() >= majority(ops.len()) && (!span || spans)
            };
            let expected = (1..6).rev().find(|&op| quorum(op)).unwrap_or(0);
            let mut held: Vec<_> = ops.iter().map(|&(op, domain)| (Op(op), domain)).collect();
            prop_assert_eq!(committed(&mut held, span), Op(expected));
        }
    }
}
