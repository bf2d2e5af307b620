//! The rule and the page bytes of the format, written out once more in the plainest way, to compare roots with.

use super::Model;
use crate::PageId;

type Pairs<'a> = [(&'a Vec<u8>, &'a Vec<u8>)];

fn fits(pairs: &Pairs<'_>, leaf_max: u64) -> bool {
    let bytes: usize = pairs.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
    bytes as u64 <= leaf_max || pairs.len() == 1
}

/// The root that a tree of these contents must have.
pub(super) fn root(model: &Model, leaf_max: u64) -> PageId {
    page(&model.iter().collect::<Vec<_>>(), leaf_max)
}

fn page(pairs: &Pairs<'_>, leaf_max: u64) -> PageId {
    if pairs.is_empty() || fits(pairs, leaf_max) {
        let mut bytes = vec![1];
        bytes.extend((pairs.len() as u32).to_le_bytes());
        for (key, value) in pairs {
            bytes.extend((key.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(*key);
            bytes.extend(*value);
        }
        return *blake3::keyed_hash(b"vr-tree page format 1: leaf page", &bytes).as_bytes();
    }
    let depth = (0..)
        .find(|at| pairs.iter().any(|(key, _)| key.get(*at) != pairs[0].0.get(*at)))
        .expect("different keys differ somewhere");
    let mut slots = Vec::new();
    let ended = usize::from(pairs[0].0.len() == depth);
    if ended == 1 {
        slots.push((0, 0, &pairs[..1]));
    }
    divide(&pairs[ended..], depth, 1, 256, leaf_max, &mut slots);
    let mut bytes = vec![2];
    bytes.extend((depth as u32).to_le_bytes());
    bytes.extend((slots.len() as u16).to_le_bytes());
    for (low, high, below) in slots {
        bytes.extend((low as u16).to_le_bytes());
        bytes.extend((high as u16).to_le_bytes());
        bytes.extend((below.len() as u64).to_le_bytes());
        bytes.extend(page(below, leaf_max));
    }
    *blake3::keyed_hash(b"vr-tree page format 1: innerpage", &bytes).as_bytes()
}

fn divide<'a, 'b>(
    pairs: &'a Pairs<'b>,
    depth: usize,
    low: usize,
    high: usize,
    leaf_max: u64,
    slots: &mut Vec<(usize, usize, &'a Pairs<'b>)>,
) {
    if pairs.is_empty() {
        return;
    }
    if low == high || fits(pairs, leaf_max) {
        return slots.push((low, high, pairs));
    }
    let middle = low + (high - low) / 2;
    let (below, above) = pairs.split_at(pairs.partition_point(|(key, _)| usize::from(key[depth]) < middle));
    divide(below, depth, low, middle, leaf_max, slots);
    divide(above, depth, middle + 1, high, leaf_max, slots);
}
