//! Page ids: BLAKE3, keyed, of a page's canonical bytes; computed once per page and only when asked for.

use crate::node::{Kind, Node};
use crate::page;

/// Identity of a page: the same bytes, the same id. The id of the top page is the root of the tree.
pub type PageId = [u8; 32];

/// Leaves and inner pages are hashed with different keys: neither can pass for the other.
const LEAF_KEY: &[u8; 32] = b"vr-tree page format 1: leaf page";
const INNER_KEY: &[u8; 32] = b"vr-tree page format 1: innerpage";

pub(crate) fn leaf_id(bytes: &[u8]) -> PageId {
    *blake3::keyed_hash(LEAF_KEY, bytes).as_bytes()
}

pub(crate) fn inner_id(bytes: &[u8]) -> PageId {
    *blake3::keyed_hash(INNER_KEY, bytes).as_bytes()
}

/// The root of a tree without entries: it has no page, but a root to compare.
pub(crate) fn empty_root() -> PageId {
    let mut bytes = Vec::new();
    page::encode_leaf(&[], &mut bytes);
    leaf_id(&bytes)
}

/// The id of a page, after those of all pages below that lack one.
pub(crate) fn id(top: &Node) -> PageId {
    if let Some(id) = top.id.get() {
        return *id;
    }
    // A page is put together in one piece and hashed once: BLAKE3 is far slower on small pieces.
    let mut scratch = Vec::new();
    let mut path = vec![(top, 0)];
    while let Some((node, next)) = path.last_mut() {
        let node = *node;
        if let Kind::Inner(inner) = &node.kind {
            let missing = inner.slots[*next..].iter().position(|slot| slot.node.id.get().is_none());
            if let Some(skip) = missing {
                let child = &*inner.slots[*next + skip].node;
                *next += skip + 1;
                path.push((child, 0));
                continue;
            }
        }
        scratch.clear();
        // Another thread may have been faster; it found the same id.
        let _ = node.id.set(match &node.kind {
            Kind::Leaf(leaf) => {
                page::encode_leaf(leaf.entries(), &mut scratch);
                leaf_id(&scratch)
            }
            Kind::Inner(inner) => {
                page::encode_inner(inner, &mut scratch);
                inner_id(&scratch)
            }
        });
        path.pop();
    }
    *top.id.get().expect("the loop ends with the top page's id")
}
