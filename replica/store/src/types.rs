//! The numbers of etcd's data model, and the range of keys that most requests name.

use std::fmt;

/// A moment in the history of the keys. Every change has one; the empty store is at 1, the first write makes 2.
///
/// Signed because etcd's is: requests may carry 0 ("now") or a negative number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision that follows.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lease. 0 is "no lease" where a key is concerned; it is never granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// What a key without a lease carries.
    pub const NONE: LeaseId = LeaseId(0);
}

impl fmt::Display for LeaseId {
    /// As etcd's tools print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which keys: etcd's `key` and `range_end`.
///
/// An empty `end` means the one key; an `end` of one zero byte means every key from `key` on; anything else is the
/// first key that is no longer meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// Where it ends, see above.
    pub end: &'a [u8],
}

impl<'a> Span<'a> {
    /// Just this key.
    #[must_use]
    pub fn one(key: &'a [u8]) -> Span<'a> {
        Span { key, end: &[] }
    }

    /// Whether it names one key only.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.end.is_empty()
    }

    /// The upper bound where there is one. Meaningless for a single key.
    #[must_use]
    pub fn bound(self) -> Option<&'a [u8]> {
        (self.end != [0]).then_some(self.end)
    }

    /// Whether `key` is meant.
    #[must_use]
    pub fn contains(self, key: &[u8]) -> bool {
        if self.is_one() {
            key == self.key
        } else {
            key >= self.key && self.bound().is_none_or(|end| key < end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_means_what_etcd_means() {
        let table: &[(&str, &str, &str, bool)] = &[
            ("a", "", "a", true),
            ("a", "", "ab", false),
            ("a", "b", "a", true),
            ("a", "b", "azzz", true),
            ("a", "b", "b", false),
            ("b", "\0", "b", true),
            ("b", "\0", "zzz", true),
            ("b", "\0", "a", false),
            ("b", "a", "b", false),
            ("\0", "\0", "\0", true),
        ];
        for (from, end, key, meant) in table {
            let span = Span { key: from.as_bytes(), end: end.as_bytes() };
            assert_eq!(span.contains(key.as_bytes()), *meant, "{key:?} in [{from:?}, {end:?})");
        }
    }
}
