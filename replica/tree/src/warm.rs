//! Walking many keys at once, so that their cache misses overlap.
//!
//! A write on a large tree is a chain of cache misses and little else. Several keys go down step by step together:
//! while the page of one is on its way from memory, the others ask for theirs.

use crate::node::{Kind, Node};
use crate::read::Snapshot;
use crate::shape::symbol;

/// Keys that go down together: more than a core has outstanding misses for gains nothing.
const TOGETHER: usize = 16;

const CACHE_LINE: usize = 64;

/// Asks for the cache line at `address`; a hint that is never wrong, whatever the address.
#[inline]
fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code, reason = "the intrinsic is unsafe to call by declaration only: it reads nothing")]
    // SAFETY: a prefetch neither reads nor faults, for any address; every x86_64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = address;
    }
}

fn prefetch_lines<T>(address: *const T, lines: usize) {
    for line in 0..lines {
        prefetch(address.cast::<u8>().wrapping_add(line * CACHE_LINE));
    }
}

impl Snapshot {
    /// Brings the pages of these keys into the processor's caches: before a batch of reads of them.
    pub fn warm(&self, keys: &[&[u8]]) {
        let Some(root) = &self.root else { return };
        for keys in keys.chunks(TOGETHER) {
            warm_together(root, keys);
        }
    }
}

fn warm_together(root: &Node, keys: &[&[u8]]) {
    let mut at: [Option<&Node>; TOGETHER] = [None; TOGETHER];
    at[..keys.len()].fill(Some(root));
    let mut left = keys.len();
    while left > 0 {
        for node in at.iter().flatten() {
            match &node.kind {
                // A binary search looks in the middle first, then in the middle of a half.
                Kind::Inner(inner) => {
                    let slots = &inner.slots;
                    for quarter in 1..4 {
                        prefetch(slots[slots.len() / 4 * quarter..].as_ptr());
                    }
                }
                Kind::Leaf(leaf) => {
                    prefetch_lines(leaf.fragments().as_ptr(), 2);
                    prefetch_lines(leaf.entries().as_ptr(), size_of_val(leaf.entries()).div_ceil(CACHE_LINE));
                }
            }
        }
        for (node, key) in at.iter_mut().zip(keys) {
            let Some(page) = node else { continue };
            match &page.kind {
                Kind::Inner(inner) => {
                    let child = &*inner.find_near(symbol(key, inner.depth as usize)).node;
                    prefetch_lines(child, size_of::<Node>().div_ceil(CACHE_LINE));
                    *node = Some(child);
                }
                Kind::Leaf(leaf) => {
                    if let Some(entry) = leaf.guess(key) {
                        // The reference counts stand right before the bytes.
                        prefetch(entry.address().wrapping_sub(1));
                        prefetch(entry.address());
                    }
                    *node = None;
                    left -= 1;
                }
            }
        }
    }
}
