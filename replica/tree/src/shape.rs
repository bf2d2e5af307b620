//! The canonical rule: which entries share a page, as pure functions of keys and sizes.
//!
//! A key is read as *symbols*: each byte, then an end. A set of entries that fits (see [`fits`]) is one leaf.
//! A set that does not fit is an inner page at the first position where its keys differ. There the entry that
//! ends at that position, if any, has a slot of its own; the 256 byte values are divided into dyadic ranges
//! (halves of halves), each the largest that fits, and each non-empty one has a slot. A single byte value that
//! does not fit by itself is an inner page further down.
//!
//! Nothing here depends on the order of writes: that is what makes the root comparable between replicas.

/// Serialised bytes of the entries that a leaf may hold; a single larger entry is a leaf of its own.
///
/// Part of the format: another value gives other roots.
pub const LEAF_MAX: u64 = 8 * 1024;

/// One position of a key: 0 is the end of the key, `b + 1` the byte `b`.
pub(crate) type Symbol = u16;

const END: Symbol = 0;

/// The symbol of `key` at `depth`.
#[inline]
pub(crate) fn symbol(key: &[u8], depth: usize) -> Symbol {
    match key.get(depth) {
        Some(byte) => Symbol::from(*byte) + 1,
        None => END,
    }
}

/// The first position at which two different keys have different symbols.
#[inline]
pub(crate) fn divergence(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).position(|(x, y)| x != y).unwrap_or_else(|| a.len().min(b.len()))
}

/// Whether entries of these totals share one leaf.
#[inline]
pub(crate) fn fits(totals: Totals, leaf_max: u64) -> bool {
    totals.bytes <= leaf_max || totals.count == 1
}

/// Number and serialised size of some entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    /// With one entry of size `removed` taken out and one of size `added` put in.
    #[inline]
    pub(crate) fn after(self, removed: Option<u64>, added: Option<u64>) -> Totals {
        Totals {
            count: self.count + u64::from(added.is_some()) - u64::from(removed.is_some()),
            bytes: self.bytes + added.unwrap_or(0) - removed.unwrap_or(0),
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// A slot's symbols, `low..=high`: the end alone, or a dyadic range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) low: Symbol,
    pub(crate) high: Symbol,
}

impl Range {
    /// Only the end of a key.
    pub(crate) const END: Range = Range { low: END, high: END };
    /// Every byte.
    pub(crate) const BYTES: Range = Range { low: 1, high: 256 };

    /// One symbol.
    pub(crate) fn single(symbol: Symbol) -> Range {
        Range { low: symbol, high: symbol }
    }

    /// A range that the rule can produce, or nothing.
    pub(crate) fn parse(low: Symbol, high: Symbol) -> Option<Range> {
        let range = Range { low, high };
        if range == Range::END {
            return Some(range);
        }
        let width = (u32::from(high) + 1).checked_sub(u32::from(low))?;
        let dyadic = width.is_power_of_two() && (u32::from(low).checked_sub(1)?) % width == 0;
        (dyadic && high <= Range::BYTES.high).then_some(range)
    }

    pub(crate) fn is_single(self) -> bool {
        self.low == self.high
    }

    pub(crate) fn contains(self, symbol: Symbol) -> bool {
        self.low <= symbol && symbol <= self.high
    }

    /// The range that this one is a half of; none for the end and for all bytes.
    pub(crate) fn parent(self) -> Option<Range> {
        if self == Range::END || self == Range::BYTES {
            return None;
        }
        let width = self.high - self.low + 1;
        let low = ((self.low - 1) & !(2 * width - 1)) + 1;
        Some(Range { low, high: low + 2 * width - 1 })
    }

    /// Its lower and upper half; only for ranges of more than one symbol.
    pub(crate) fn halves(self) -> (Range, Range) {
        let middle = self.low + (self.high - self.low) / 2;
        (Range { low: self.low, high: middle }, Range { low: middle + 1, high: self.high })
    }

    /// The largest range around `symbol` that touches neither the slot before nor the slot after.
    ///
    /// This is where a first entry goes: a range that held a neighbour as well did not fit before and does not
    /// now.
    pub(crate) fn free(symbol: Symbol, before: Option<Range>, after: Option<Range>) -> Range {
        let mut range = Range::single(symbol);
        while let Some(wider) = range.parent() {
            if before.is_some_and(|b| b.high >= wider.low) || after.is_some_and(|a| a.low <= wider.high) {
                break;
            }
            range = wider;
        }
        range
    }
}
