//! Whether what a checkpoint's deltas are applied to is there, by its indexes alone.

use crate::format::{DELTAS_MAX, Named, PackEntry, hex};
use std::collections::{HashMap, HashSet};

/// Deltas that nothing can be made of: their packs, their pages, and why.
pub(super) fn lost_bases(
    packs: &[Named],
    places: &HashMap<String, Vec<PackEntry>>,
) -> Vec<(String, [u8; 32], String)> {
    let entries = || {
        packs.iter().filter_map(|pack| Some((&pack.key, places.get(&pack.key)?))).flat_map(
            |(key, entries)| {
                entries.iter().map(move |entry| (key, entry.header.id, entry.header.codec.base()))
            },
        )
    };
    let bases: HashMap<[u8; 32], [u8; 32]> =
        entries().filter_map(|(_, id, base)| base.map(|base| (id, base))).collect();
    // Of all pages that stand whole, only those that a delta leads to.
    let mut wanted: HashSet<[u8; 32]> = bases.values().copied().collect();
    wanted.extend(bases.keys());
    let whole: HashSet<[u8; 32]> = entries()
        .filter(|(_, id, base)| base.is_none() && wanted.contains(id))
        .map(|(_, id, _)| id)
        .collect();
    let problem = |id: &[u8; 32]| {
        let (mut at, mut deltas) = (*id, 0);
        while !whole.contains(&at) {
            let Some(base) = bases.get(&at) else {
                return Some(format!("it is a delta on page {}, which is in none of the packs", hex(&at)));
            };
            deltas += 1;
            if deltas > DELTAS_MAX {
                return Some(format!("it is more than {DELTAS_MAX} deltas away from a page that is whole"));
            }
            at = *base;
        }
        None
    };
    let deltas = entries().filter(|(.., base)| base.is_some());
    deltas.filter_map(|(pack, id, _)| Some((pack.clone(), id, problem(&id)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Codec, FrameHeader, Kind};

    /// What is said of packs with these pages, each on its base.
    fn said(pages: &[(u8, Option<u8>)]) -> Vec<(u8, String)> {
        let entry = |(id, base): &(u8, Option<u8>)| {
            let codec = base.map_or(Codec::Raw, |base| Codec::Delta { base: [base; 32] });
            let header = FrameHeader { id: [*id; 32], kind: Kind::Leaf, codec, plain: 9, stored: 9 };
            PackEntry { header, offset: 0 }
        };
        let named = ["a", "b"].map(|key| Named { key: key.to_owned(), bytes: 1 });
        let (first, second) = pages.split_at(pages.len() / 2);
        let places = [("a", first), ("b", second)]
            .map(|(key, pages)| (key.to_owned(), pages.iter().map(entry).collect()));
        let lost = lost_bases(&named, &places.into());
        lost.into_iter().map(|(_, id, reason)| (id[0], reason)).collect()
    }

    #[test]
    fn chains_end_at_a_page_that_is_whole_or_are_named() {
        assert_eq!(said(&[(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(4))]), []);
        let deep = said(&[(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(4)), (6, Some(5))]);
        assert!(matches!(&deep[..], [(6, reason)] if reason.contains("more than 4 deltas")), "{deep:?}");
        let lost = said(&[(2, Some(1)), (3, None), (4, Some(2))]);
        let on = |lost: &(u8, String)| lost.1.contains(&format!("on page {}", hex(&[1; 32])));
        assert!(lost.len() == 2 && lost.iter().all(on), "{lost:?}");
        let cycle = said(&[(1, Some(2)), (2, Some(1))]);
        assert!(cycle.len() == 2 && cycle[0].1.contains("more than 4"), "{cycle:?}");
        // The same page may stand twice, once as it is.
        assert_eq!(said(&[(1, Some(9)), (1, None)]), []);
    }
}
