//! States as entries: the first one whole, each other one by what differs from it.
//!
//! A tree is canonical: the same entries give the same root, whatever the history. So entries are all there is to keep.

use serde::{Deserialize, Serialize};
use vr_tree::{Snapshot, Tree};

/// About so many bytes of entries are written as one.
const CHUNK: usize = 256 << 10;

/// Some entries that are there, and some that are not.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Changes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Changes {
    /// The last one of a state says nothing.
    pub(crate) fn is_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Brings them into a tree.
    pub(crate) fn apply(self, tree: &mut Tree) {
        for (key, value) in self.0 {
            match value {
                Some(value) => tree.put(&key, &value, 0),
                None => tree.remove(&key, 0),
            };
        }
    }
}

/// What makes `base` into `snapshot`, in pieces, the last of which says nothing.
pub(crate) fn changes<E>(
    snapshot: &Snapshot,
    base: &Snapshot,
    mut each: impl FnMut(Changes) -> Result<(), E>,
) -> Result<(), E> {
    let (mut changes, mut bytes) = (Changes::default(), 0);
    for difference in snapshot.diff(base) {
        let value = match difference {
            vr_tree::Difference::Added(entry) | vr_tree::Difference::Changed { new: entry, .. } => {
                Some(entry.value().to_vec())
            }
            vr_tree::Difference::Removed(_) => None,
        };
        bytes += difference.key().len() + value.as_ref().map_or(0, Vec::len);
        changes.0.push((difference.key().to_vec(), value));
        if bytes >= CHUNK {
            each(std::mem::take(&mut changes))?;
            bytes = 0;
        }
    }
    if !changes.is_end() {
        each(changes)?;
    }
    each(Changes::default())
}
