//! How far what stands on the tier leads, and what of its log is not there any more.
//!
//! What is damaged does not count, as far as it is known. The log of an earlier generation is left out: it counts only up
//! to where the present one left it, which a restore finds out.

use super::{WriteError, Writer};
use crate::format::{Manifest, Names, Retained};
use crate::restore::reach;
use std::collections::BTreeSet;

impl Writer {
    /// The newest op that a restore from this tier alone could reach, where its log has segments of these first and last
    /// ops: from the newest retained checkpoint that is whole, through the segments that are not among the `damaged`
    /// objects.
    #[must_use]
    pub fn reaches(&self, segments: &[(u64, u64)], damaged: &BTreeSet<String>) -> u64 {
        let Some(whole) = self.head.retained.iter().rev().find(|retained| self.is_whole(retained)) else {
            return 0;
        };
        let names = Names { generation: self.identity.generation };
        if Names::of(&whole.manifest) != Some(names) {
            return whole.op;
        }
        let there = |(first, last): &&(u64, u64)| !damaged.contains(&names.segment(*first, *last));
        let mut there: Vec<(u64, u64)> = segments.iter().filter(there).copied().collect();
        there.sort_unstable();
        reach(whole.op, &there)
    }

    /// Whether nothing that a retained checkpoint needs is known to be damaged.
    fn is_whole(&self, retained: &Retained) -> bool {
        let whole = |manifest: &Manifest| {
            let indexes = manifest.indexes.iter().all(|index| !self.unreadable.contains(&index.key));
            indexes && manifest.packs.iter().all(|pack| !self.known.is_distrusted(&pack.key))
        };
        self.manifests.get(&retained.manifest).is_some_and(whole)
    }

    /// Whether HEAD is the very one that this writer goes by: another shipper of a bucket may need other things by now.
    ///
    /// # Errors
    /// As [`Writer::check_fence`].
    pub async fn is_newest(&self) -> Result<bool, WriteError> {
        Ok(self.standing_head().await?.version == self.head.version)
    }

    /// The pieces of log between the newest checkpoint of this generation and `until` that none of these segments holds:
    /// for each the key of a segment that would hold just that.
    #[must_use]
    pub fn lost(&self, segments: &[(u64, u64)], until: u64) -> Vec<String> {
        let Some(newest) = self.newest_own() else { return Vec::new() };
        let names = Names { generation: self.identity.generation };
        let key = |(first, last)| names.segment(first, last);
        holes(newest.op, until, segments).into_iter().map(key).collect()
    }
}

/// What of `after + 1 ..= until` none of the ranges covers.
fn holes(after: u64, until: u64, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let (mut holes, mut next) = (Vec::new(), after + 1);
    for (first, last) in ranges {
        if first > until {
            break;
        }
        if first > next {
            holes.push((next, first - 1));
        }
        next = next.max(last.saturating_add(1));
    }
    if next <= until {
        holes.push((next, until));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_what_nobody_covers() {
        let none: [(u64, u64); 0] = [];
        assert_eq!(holes(4, 9, &[(5, 6), (7, 9)]), none);
        assert_eq!(holes(4, 9, &[(7, 12), (1, 6)]), none, "in any order, and beyond both ends");
        assert_eq!(holes(4, 9, &[(5, 9), (7, 8)]), none, "one within another");
        assert_eq!(holes(4, 9, &[]), [(5, 9)]);
        assert_eq!(holes(4, 9, &[(1, 3), (10, 20)]), [(5, 9)]);
        assert_eq!(holes(4, 9, &[(6, 6), (9, 9)]), [(5, 5), (7, 8)]);
        assert_eq!(holes(4, 9, &[(5, 6)]), [(7, 9)]);
        assert_eq!(holes(4, 4, &[]), none, "nothing was shipped");
    }
}
