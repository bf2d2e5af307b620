//! One entry: key and value in one shared allocation that never changes.
//!
//! A clone is one reference count; leaves, snapshots, readers and watchers share the same bytes. The key length
//! stands in front of the key, so that a leaf holds one pointer per entry and nothing else.

use std::sync::Arc;

const HEADER: usize = size_of::<u32>();

/// Serialised size of an entry beside its key and value.
pub(crate) const OVERHEAD: usize = 2 * size_of::<u32>();

/// One entry of the tree, key and value. Cheap to clone; keeps only its own bytes alive, not a page.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key length (little endian), key, value.
    bytes: Arc<[u8]>,
}

impl Entry {
    /// A copy of both.
    ///
    /// Panics when key or value is longer than `u32::MAX` bytes: whoever accepts requests limits them far below.
    #[must_use]
    pub fn new(key: &[u8], value: &[u8]) -> Entry {
        let key_len = u32::try_from(key.len()).expect("a key is at most u32::MAX bytes");
        assert!(u32::try_from(value.len()).is_ok(), "a value is at most u32::MAX bytes");
        // One allocation, written twice: cheaper than to put the parts together elsewhere and copy.
        let zeros = std::iter::repeat_n(0, HEADER + key.len() + value.len());
        let mut bytes: Arc<[u8]> = zeros.collect();
        let parts = Arc::get_mut(&mut bytes).expect("what was just made has one owner");
        let (header, parts) = parts.split_at_mut(HEADER);
        header.copy_from_slice(&key_len.to_le_bytes());
        parts[..key.len()].copy_from_slice(key);
        parts[key.len()..].copy_from_slice(value);
        Entry { bytes }
    }

    fn key_end(&self) -> usize {
        let header = self.bytes.first_chunk().expect("an entry starts with its key length");
        HEADER + u32::from_le_bytes(*header) as usize
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.bytes[HEADER..self.key_end()]
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.key_end()..]
    }

    /// Its key as an owner of the bytes, for `bytes::Bytes::from_owner`.
    #[must_use]
    pub fn into_key(self) -> EntryKey {
        EntryKey(self)
    }

    /// Its value as an owner of the bytes, for `bytes::Bytes::from_owner`.
    #[must_use]
    pub fn into_value(self) -> EntryValue {
        EntryValue(self)
    }

    /// Its share of [`LEAF_MAX`](crate::LEAF_MAX): two lengths, key and value. Read without touching the bytes.
    pub(crate) fn size(&self) -> u64 {
        (self.bytes.len() - HEADER + OVERHEAD) as u64
    }

    /// Whether both are the very same allocation: equal without looking.
    pub(crate) fn is_same(&self, other: &Entry) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes)
    }

    /// Where its reference counts are, in front of its bytes: to be prefetched, never to be read.
    pub(crate) fn count_address(&self) -> *const u8 {
        self.bytes.as_ptr().wrapping_sub(2 * size_of::<usize>())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (key, value) = self.bytes[HEADER..].split_at(self.key_end() - HEADER);
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" ({} B)", self.key().escape_ascii(), self.value().len())
    }
}

/// The key of an entry that it keeps alive.
#[derive(Clone, Debug)]
pub struct EntryKey(Entry);

impl AsRef<[u8]> for EntryKey {
    fn as_ref(&self) -> &[u8] {
        self.0.key()
    }
}

/// The value of an entry that it keeps alive.
#[derive(Clone, Debug)]
pub struct EntryValue(Entry);

impl AsRef<[u8]> for EntryValue {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}
