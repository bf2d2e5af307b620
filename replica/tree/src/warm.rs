//! Walking many keys at once, so that their cache misses overlap.
//!
//! A write on a large tree is a chain of cache misses and little else. Several keys go down step by step together:
//! while the page of one is on its way from memory, the others ask for theirs.

use std::sync::Arc;

use crate::node::{Kind, Node};
use crate::read::Snapshot;
use crate::shape::symbol;

/// Keys that go down together: more than a core has outstanding misses for gains nothing.
const TOGETHER: usize = 16;

const CACHE_LINE: usize = 64;

/// Asks for the cache line at `address`; a hint that is never wrong, whatever the address.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
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

/// Asks for a page, but for what it points to.
pub(crate) fn prefetch_page(page: &Arc<Node>) {
    // Its reference counts stand in front of it.
    prefetch_lines(
        Arc::as_ptr(page).cast::<u8>().wrapping_sub(2 * size_of::<usize>()),
        1 + size_of::<Node>().div_ceil(CACHE_LINE),
    );
}

/// What the keys are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

impl Snapshot {
    /// Brings the pages of these keys into the processor's caches: before a batch of reads of them.
    ///
    /// Changes nothing but the time that follows: the cache misses of up to 16 keys overlap instead of waiting for
    /// each other. Worth it from a handful of keys on.
    pub fn warm(&self, keys: &[&[u8]]) {
        self.warm_for(Purpose::Read, keys);
    }

    pub(crate) fn warm_for(&self, purpose: Purpose, keys: &[&[u8]]) {
        let Some(root) = &self.root else { return };
        for keys in keys.chunks(TOGETHER) {
            warm_together(root, purpose, keys);
        }
    }
}

/// How far one key has come.
#[derive(Clone, Copy)]
struct Step<'a> {
    page: &'a Arc<Node>,
    /// Whether a snapshot reaches a page above as well, so that a write copies all from there on.
    shared: bool,
}

fn warm_together(root: &Arc<Node>, purpose: Purpose, keys: &[&[u8]]) {
    let start = Step { page: root, shared: false };
    let mut steps: [Option<Step<'_>>; TOGETHER] = [None; TOGETHER];
    steps[..keys.len()].fill(Some(start));
    let mut left = keys.len();
    while left > 0 {
        for step in steps.iter().flatten() {
            match &step.page.kind {
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
        for (step, key) in steps.iter_mut().zip(keys) {
            let Some(Step { page, shared }) = *step else { continue };
            let shared = shared || Arc::strong_count(page) > 1;
            *step = match &page.kind {
                Kind::Inner(inner) => {
                    let child = &inner.find_near(symbol(key, inner.depth as usize)).node;
                    prefetch_page(child);
                    Some(Step { page: child, shared })
                }
                Kind::Leaf(leaf) => {
                    if purpose == Purpose::Write && shared {
                        // A copy of the leaf counts one more reference to each of its entries.
                        leaf.entries().iter().for_each(|entry| prefetch(entry.count_address()));
                    }
                    if let Some(entry) = leaf.guess(key) {
                        prefetch_lines(entry.count_address(), 2);
                    }
                    left -= 1;
                    None
                }
            };
        }
    }
}
