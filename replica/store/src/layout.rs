//! Where everything stands in the state tree.
//!
//! | tree key | tree value |
//! |---|---|
//! | `k` key* | the version of a live key: mod, sub, mod - create, version, lease, then the value |
//! | `h` key* mod8 sub4 | a version that is history: superseded by, mod - create, version, lease, then the value |
//! | `h` key* mod8 sub4 | a tombstone: 0 |
//! | `l` id8 | a lease: its time to live |
//! | `!n` | the store's own numbers, the number of this format first, see [`crate::numbers`] |
//! | `!p` | the protocol's state, opaque |
//!
//! `key*` is the client's key made prefix-free: 0 becomes 1 1, 1 becomes 1 2, and a 0 ends it. That keeps the order
//! and costs one byte for keys of text. Numbers in tree keys are big-endian of the stated width, numbers in values
//! LEB128. (mod, sub) is etcd's revision pair: the revision, and the place of the change inside it.
//!
//! There is exactly one `k` entry for a live key, so that the number of keys in a range is a difference of two ranks,
//! and ranges now never meet a dead version.

use crate::types::{LeaseId, Revision, Span};
use crate::varint;

/// Live keys.
pub(crate) const LIVE: u8 = b'k';
/// Superseded versions and tombstones.
pub(crate) const HISTORY: u8 = b'h';
/// Leases.
pub(crate) const LEASE: u8 = b'l';
/// The store's own numbers. The first entry of all, so that an import knows them before anything else.
pub(crate) const NUMBERS_KEY: &[u8] = b"!n";
/// The protocol's state.
pub(crate) const CORE_KEY: &[u8] = b"!p";
/// This layout.
pub(crate) const FORMAT: u64 = 1;

/// Bytes of (mod, sub) at the end of a history key.
const PAIR_LEN: usize = 12;

/// etcd's revision pair: which revision, and which change of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) main: i64,
    pub(crate) sub: u32,
}

/// A version of a key, without key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) at: Pair,
    pub(crate) create: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

/// What a history entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// It was this version until `superseded`; the value begins at `value_at`.
    Put { version: Version, superseded: Revision, value_at: usize },
    /// It was deleted.
    Tombstone { at: Pair },
}

/// Appends a client's key in its prefix-free form.
pub(crate) fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    if key.iter().all(|b| *b > 1) {
        out.extend_from_slice(key);
    } else {
        for byte in key {
            match byte {
                0 | 1 => out.extend_from_slice(&[1, byte + 1]),
                _ => out.push(*byte),
            }
        }
    }
    out.push(0);
}

/// The client's key back from its prefix-free form without the final 0; `None` where it is written as it is.
pub(crate) fn unescape(escaped: &[u8]) -> Option<Box<[u8]>> {
    if !escaped.contains(&1) {
        return None;
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(if *byte == 1 { bytes.next().map_or(0, |b| b.wrapping_sub(1)) } else { *byte });
    }
    Some(key.into_boxed_slice())
}

/// The tree key of a client's key in a space; for [`HISTORY`] where its versions begin.
pub(crate) fn key_in(space: u8, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(space);
    push_key(out, key);
}

/// The tree key of one version of a client's key.
pub(crate) fn history_key(key: &[u8], at: Pair, out: &mut Vec<u8>) {
    key_in(HISTORY, key, out);
    out.extend_from_slice(&at.main.to_be_bytes());
    out.extend_from_slice(&at.sub.to_be_bytes());
}

/// The bounds of a span in a space, as the tree wants them: from, and the first tree key that is no longer meant.
pub(crate) fn bounds(space: u8, span: Span<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    key_in(space, span.key, &mut from);
    if span.is_one() {
        // The final 0 becomes 1: past this key and all its versions, before any other key.
        to.extend_from_slice(&from);
        *to.last_mut().expect("a tree key ends in 0") = 1;
    } else {
        match span.bound() {
            Some(end) => key_in(space, end, &mut to),
            None => to.push(space + 1),
        }
    }
    (from, to)
}

/// Turns the tree key of a live key into that of one of its versions.
pub(crate) fn history_key_of_live(live: &[u8], at: Pair, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(live);
    out[0] = HISTORY;
    out.extend_from_slice(&at.main.to_be_bytes());
    out.extend_from_slice(&at.sub.to_be_bytes());
}

/// The prefix-free key inside a live tree key, without its final 0.
pub(crate) fn escaped_of_live(tree_key: &[u8]) -> &[u8] {
    &tree_key[1..tree_key.len() - 1]
}

/// The prefix-free key inside a history tree key, without its final 0, and the pair after it.
pub(crate) fn split_history(tree_key: &[u8]) -> (&[u8], Pair) {
    let (front, pair) = tree_key.split_at(tree_key.len() - PAIR_LEN);
    let main = i64::from_be_bytes(pair[..8].try_into().expect("eight bytes of twelve"));
    let sub = u32::from_be_bytes(pair[8..].try_into().expect("four bytes of twelve"));
    (&front[1..front.len() - 1], Pair { main, sub })
}

/// Writes the value of a live entry.
pub(crate) fn live_value(version: &Version, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    varint::put(out, version.at.main as u64);
    varint::put(out, u64::from(version.at.sub));
    push_tail(version, value, out);
}

/// Writes the value of a history entry for a version that was superseded at `superseded`.
pub(crate) fn history_value(version: &Version, superseded: Revision, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    varint::put(out, superseded.0 as u64);
    push_tail(version, value, out);
}

/// The value of a tombstone. No version can be superseded at 0.
pub(crate) const TOMBSTONE: &[u8] = &[0];

fn push_tail(version: &Version, value: &[u8], out: &mut Vec<u8>) {
    varint::put(out, (version.at.main - version.create) as u64);
    varint::put(out, version.version as u64);
    varint::put(out, version.lease.0 as u64);
    out.extend_from_slice(value);
}

fn read_tail(at: Pair, cursor: &mut &[u8]) -> Option<Version> {
    let age = varint::take(cursor)?;
    let version = varint::take(cursor)?;
    let lease = varint::take(cursor)?;
    Some(Version {
        at,
        create: at.main.wrapping_sub(age as i64),
        version: version as i64,
        lease: LeaseId(lease as i64),
    })
}

/// Reads the value of a live entry: the version, and where the client's value begins.
pub(crate) fn read_live(value: &[u8]) -> Option<(Version, usize)> {
    let mut cursor = value;
    let main = varint::take(&mut cursor)? as i64;
    let sub = u32::try_from(varint::take(&mut cursor)?).ok()?;
    let version = read_tail(Pair { main, sub }, &mut cursor)?;
    Some((version, value.len() - cursor.len()))
}

/// Only the pair of a live entry: enough to pass over it.
pub(crate) fn live_pair(value: &[u8]) -> Option<Pair> {
    let mut cursor = value;
    let main = varint::take(&mut cursor)? as i64;
    let sub = u32::try_from(varint::take(&mut cursor)?).ok()?;
    Some(Pair { main, sub })
}

/// Only until when a history entry was what its key held; 0 is a tombstone.
pub(crate) fn superseded(value: &[u8]) -> Option<Revision> {
    let mut cursor = value;
    varint::take(&mut cursor).map(|r| Revision(r as i64))
}

/// Reads the value of a history entry whose key ends in `at`.
pub(crate) fn read_history(at: Pair, value: &[u8]) -> Option<Past> {
    let mut cursor = value;
    let superseded = Revision(varint::take(&mut cursor)? as i64);
    if superseded.0 == 0 {
        return cursor.is_empty().then_some(Past::Tombstone { at });
    }
    let version = read_tail(at, &mut cursor)?;
    Some(Past::Put { version, superseded, value_at: value.len() - cursor.len() })
}

/// The tree key of a lease.
pub(crate) fn lease_key(id: LeaseId) -> [u8; 9] {
    let mut key = [LEASE; 9];
    key[1..].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The lease of a tree key.
pub(crate) fn read_lease_key(key: &[u8]) -> Option<LeaseId> {
    Some(LeaseId(i64::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

/// Whether an entry is one that this format writes. Everything that reads the tree relies on it.
pub(crate) fn is_valid(key: &[u8], value: &[u8]) -> bool {
    match key.first() {
        Some(&LIVE) => is_escaped(&key[1..]) && read_live(value).is_some_and(|(v, _)| v.at.main > 0),
        Some(&HISTORY) if key.len() > PAIR_LEN => {
            let (front, at) = (&key[1..key.len() - PAIR_LEN], split_history(key).1);
            is_escaped(front) && at.main > 0 && read_history(at, value).is_some()
        }
        Some(&LEASE) => read_lease_key(key).is_some() && value.len() == 8,
        _ => key == NUMBERS_KEY || key == CORE_KEY,
    }
}

/// Whether this is a key in its prefix-free form, its final 0 included.
fn is_escaped(bytes: &[u8]) -> bool {
    let Some((0, body)) = bytes.split_last() else { return false };
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        let whole = match byte {
            0 => false,
            1 => matches!(bytes.next(), Some(1 | 2)),
            _ => true,
        };
        if !whole {
            return false;
        }
    }
    !body.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_key(&mut out, key);
        out
    }

    /// Short keys over few symbols, the special ones among them: that is where order and prefixes go wrong.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, b'a', 255]), 0..6)
    }

    proptest! {
        #[test]
        fn escaping_keeps_the_order(a in key(), b in key()) {
            prop_assert_eq!(escaped(&a).cmp(&escaped(&b)), a.cmp(&b));
        }

        #[test]
        fn no_escaped_key_begins_another(a in key(), b in key()) {
            prop_assert!(a == b || !escaped(&b).starts_with(&escaped(&a)));
        }

        #[test]
        fn escaping_can_be_undone(a in key()) {
            let escaped = escaped(&a);
            let body = &escaped[..escaped.len() - 1];
            prop_assert_eq!(unescape(body).map_or(body.to_vec(), Vec::from), a);
        }

        #[test]
        fn a_version_comes_back(main in 1i64.., sub: u32, age in 0i64..1000, version in 1i64.., lease: i64, value: Vec<u8>) {
            let v = Version { at: Pair { main, sub }, create: main.saturating_sub(age), version, lease: LeaseId(lease) };
            let mut out = Vec::new();
            live_value(&v, &value, &mut out);
            let (read, at) = read_live(&out).expect("just written");
            prop_assert_eq!(read, v);
            prop_assert_eq!(&out[at..], &value[..]);
            prop_assert_eq!(live_pair(&out), Some(v.at));
            history_value(&v, Revision(main), &value, &mut out);
            prop_assert_eq!(superseded(&out), Some(Revision(main)));
            let Some(Past::Put { version, superseded, value_at }) = read_history(v.at, &out) else { panic!("a put") };
            prop_assert_eq!((version, superseded), (v, Revision(main)));
            prop_assert_eq!(&out[value_at..], &value[..]);
        }
    }

    #[test]
    fn foreign_entries_are_told_apart() {
        let mut value = Vec::new();
        let version = Version { at: Pair { main: 2, sub: 0 }, create: 2, version: 1, lease: LeaseId(0) };
        live_value(&version, b"v", &mut value);
        let table: &[(&[u8], bool)] = &[
            (b"ka\0", true),
            (b"k\x01\x01\0", true),
            (b"k\0", false),
            (b"ka", false),
            (b"ka\0b\0", false),
            (b"k\x01\x03\0", false),
            (b"k\x01\0", false),
            (b"", false),
            (b"h", false),
            (b"ha\0\0", false),
            (b"x", false),
        ];
        for (key, valid) in table {
            assert_eq!(is_valid(key, &value), *valid, "{}", key.escape_ascii());
        }
        assert!(!is_valid(b"ka\0", b""));
    }

    #[test]
    fn a_history_key_comes_apart() {
        let (mut live, mut key) = (Vec::new(), Vec::new());
        key_in(LIVE, b"a\0b", &mut live);
        let at = Pair { main: 7, sub: 3 };
        history_key_of_live(&live, at, &mut key);
        assert_eq!(split_history(&key), (&b"a\x01\x01b"[..], at));
        let mut direct = Vec::new();
        history_key(b"a\0b", at, &mut direct);
        assert_eq!(direct, key);
    }
}
