//! etcd's HashKV: CRC32C over the name of its bucket and, for every kept change in the order of revisions, the key
//! and the value that etcd's database would hold.
//!
//! Byte for byte what etcd 3.5.16 and later compute, once their own removal of compacted versions is through. One
//! thing is not imitated: for the revision of one of its last ten compactions etcd answers a hash that it took during
//! that compaction, over the range since the compaction before.

use crate::error::StoreError;
use crate::key_value::KeyValue;
use crate::layout::{self, HISTORY, LIVE, Pair, Past};
use crate::sweep;
use crate::types::Revision;
use crate::varint;
use crate::view::View;
use vr_tree::Entry;

/// A hash and what it covers. Two hashes compare only where the revisions are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The compaction it was computed under; -1 before the first.
    pub compacted: Revision,
    /// Up to which revision.
    pub revision: Revision,
}

impl View {
    /// The hash of all changes up to `revision` (0: the newest). Reads everything and sorts it: not for the thread
    /// that executes.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], [`StoreError::FutureRev`].
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKv, StoreError> {
        let compacted = self.compacted();
        if revision.0 > 0 && revision < compacted {
            return Err(StoreError::Compacted);
        }
        if revision > self.revision() {
            return Err(StoreError::FutureRev);
        }
        let revision = if revision.0 == 0 { self.revision() } else { revision };

        let mut kept = self.changes_up_to(revision);
        let below = |change: &Kept<'_>| change.at.main <= compacted.0;
        // Of what is older than the compaction, etcd keeps what is current at the asked revision, or, if there is
        // no such key at all, everything that the compaction itself has kept.
        if kept.iter().any(|change| change.current) {
            kept.retain(|change| !below(change) || change.current);
        } else {
            kept.retain(|change| !(below(change) && change.tombstone));
        }
        kept.sort_unstable_by_key(|change| change.at);

        let mut hash = crc32c::crc32c(b"key");
        let mut bytes = Vec::new();
        for change in &kept {
            change.write(&mut bytes);
            hash = crc32c::crc32c_append(hash, &bytes);
        }
        Ok(HashKv { hash, compacted, revision })
    }

    fn changes_up_to(&self, revision: Revision) -> Vec<Kept<'_>> {
        let live = self.tree().range(&[LIVE], Some(&[LIVE + 1])).map(|entry| {
            let at =
                layout::live_pair(entry.value()).expect("every entry was written or checked by this format");
            Kept { entry, at, current: true, tombstone: false }
        });
        let past = self.tree().range(&[HISTORY], Some(&[HISTORY + 1]));
        let past = past.filter(|entry| !sweep::is_dead(entry, self.compacted())).map(|entry| {
            let until = layout::superseded(entry.value()).unwrap_or_default();
            let (_, at) = layout::split_history(entry.key());
            Kept { entry, at, current: until > revision, tombstone: until.0 == 0 }
        });
        live.chain(past).filter(|change| change.at.main <= revision.0).collect()
    }
}

/// One change that goes into the hash, perhaps.
struct Kept<'a> {
    entry: &'a Entry,
    at: Pair,
    /// Whether it is what its key holds at the asked revision.
    current: bool,
    tombstone: bool,
}

impl Kept<'_> {
    /// The key and the value of etcd's database, one after the other.
    fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.at.main.to_be_bytes());
        out.push(b'_');
        out.extend_from_slice(&u64::from(self.at.sub).to_be_bytes());
        if self.tombstone {
            out.push(b't');
        }
        let kv = if self.entry.key()[0] == LIVE {
            KeyValue::live(self.entry)
        } else {
            KeyValue::past(self.entry).map(|(kv, _): (KeyValue, Past)| kv)
        };
        let kv = kv.expect("every entry was written or checked by this format");
        write_message(&kv, self.tombstone, out);
    }
}

/// `mvccpb.KeyValue` in protobuf: fields by number, nothing for zero. A tombstone carries its key only.
fn write_message(kv: &KeyValue, key_only: bool, out: &mut Vec<u8>) {
    let bytes = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        if !bytes.is_empty() {
            out.push(tag);
            varint::put(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    };
    let number = |out: &mut Vec<u8>, tag: u8, number: i64| {
        if number != 0 {
            out.push(tag);
            varint::put(out, number as u64);
        }
    };
    bytes(out, 0x0a, kv.key());
    if key_only {
        return;
    }
    number(out, 0x10, kv.create_revision().0);
    number(out, 0x18, kv.mod_revision().0);
    number(out, 0x20, kv.version());
    bytes(out, 0x2a, kv.value());
    number(out, 0x30, kv.lease().0);
}
