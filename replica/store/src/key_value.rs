//! A key with one of its versions, as readers and watchers get it: a handle on memory that the tree owns.

use crate::layout::{self, Past, Version};
use crate::types::{LeaseId, Revision};
use bytes::Bytes;
use std::fmt;
use vr_tree::Entry;

/// Above this many bytes a [`Bytes`] shares the tree's memory; below, copying is as cheap and frees the reader from it.
const SHARE_FROM: usize = 512;

/// One version of one key. Cheap to clone; holds the tree's entry alive, not a copy.
#[derive(Clone)]
pub struct KeyValue {
    entry: Entry,
    /// The client's key where the tree holds it in another form.
    own_key: Option<Box<[u8]>>,
    key_len: u32,
    /// Where the client's value begins in the entry's value; past its end where the value is left out.
    value_at: u32,
    version: Version,
}

impl KeyValue {
    /// From a live entry of the tree. `None` if the entry is not what this format writes.
    pub(crate) fn live(entry: &Entry) -> Option<KeyValue> {
        let (version, value_at) = layout::read_live(entry.value())?;
        Some(KeyValue::over(entry, layout::escaped_of_live(entry.key()), version, value_at))
    }

    /// From a history entry: a put (with the revision that superseded it), or a tombstone.
    pub(crate) fn past(entry: &Entry) -> Option<(KeyValue, Past)> {
        let (escaped, at) = layout::split_history(entry.key());
        let past = layout::read_history(at, entry.value())?;
        let (version, value_at) = match past {
            Past::Put { version, value_at, .. } => (version, value_at),
            Past::Tombstone { at } => (Version { at, ..Version::default() }, entry.value().len()),
        };
        Some((KeyValue::over(entry, escaped, version, value_at), past))
    }

    fn over(entry: &Entry, escaped: &[u8], version: Version, value_at: usize) -> KeyValue {
        KeyValue {
            own_key: layout::unescape(escaped),
            key_len: u32::try_from(escaped.len()).expect("requests are far below 4 GiB"),
            value_at: u32::try_from(value_at).expect("requests are far below 4 GiB"),
            version,
            entry: entry.clone(),
        }
    }

    /// The same without its value; without its lease too, as etcd answers a range of keys only.
    pub(crate) fn key_only(mut self, keep_lease: bool) -> KeyValue {
        self.value_at = u32::MAX;
        if !keep_lease {
            self.version.lease = LeaseId::NONE;
        }
        self
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match &self.own_key {
            Some(key) => key,
            None => &self.entry.key()[1..=self.key_len as usize],
        }
    }

    /// The value; empty for a deletion and where only keys were asked for.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.entry.value().get(self.value_at as usize..).unwrap_or_default()
    }

    /// The key to send on.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.key())
    }

    /// The value to send on, in the tree's own memory where that saves a copy worth saving.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        let value = self.value();
        if value.len() < SHARE_FROM {
            return Bytes::copy_from_slice(value);
        }
        let shared = Bytes::from_owner(self.entry.clone().into_value());
        shared.slice(self.value_at as usize..)
    }

    /// When it was written, or deleted.
    #[must_use]
    pub fn mod_revision(&self) -> Revision {
        Revision(self.version.at.main)
    }

    /// When it was created; 0 for a deletion.
    #[must_use]
    pub fn create_revision(&self) -> Revision {
        Revision(self.version.create)
    }

    /// How often it was written since it was created; 0 for a deletion.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version.version
    }

    /// The lease that it hangs on.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.version.lease
    }
}

impl PartialEq for KeyValue {
    /// The same key, value and numbers, wherever they stand.
    fn eq(&self, other: &KeyValue) -> bool {
        self.version == other.version && self.key() == other.key() && self.value() == other.value()
    }
}

impl Eq for KeyValue {}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { at, create, version, lease } = self.version;
        write!(f, "{}={}", self.key().escape_ascii(), self.value().escape_ascii())?;
        write!(f, " (mod {}.{}, create {create}, version {version}, lease {lease})", at.main, at.sub)
    }
}
