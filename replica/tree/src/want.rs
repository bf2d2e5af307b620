//! Asking for pages by their places, and answering: what travels between a [`Fetch`](crate::Fetch) and the tree that it
//! copies.
//!
//! ```text
//! want     per group: length of the path u32, path u16 each, slots u16, slot u16 each
//! portion  per page: length u32, its canonical bytes
//! ```
//!
//! Integers are little endian. A path leads from the top page down, by the numbers of slots. A group asks for the pages
//! in some slots of the page at the path's end, or with no slot for that page itself. Who asks knows every page on the
//! path, so the numbers mean the same to both; that lets the answering side keep nothing between two questions, and find
//! a page in as many steps as it is deep.

use thiserror::Error;

use crate::node::{Kind, Node};
use crate::read::Snapshot;
use crate::walk::NodeRef;

/// The longest want that is read, in bytes.
pub const WANT_MAX: usize = 1 << 20;
/// The most pages that one want may name.
pub const PAGES_MAX: usize = 1024;

/// Why a want cannot be answered. It was not made for this tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WantError {
    /// More than may be asked at once.
    #[error(
        "a want of {bytes} bytes for {pages} pages: at most {WANT_MAX} bytes and {PAGES_MAX} pages are read"
    )]
    TooLong {
        /// Bytes of it.
        bytes: usize,
        /// Pages read when it became too many.
        pages: usize,
    },
    /// The bytes end inside what they announce, or ask for nothing.
    #[error("the want is cut short or empty")]
    Malformed,
    /// There is no such place.
    #[error("the want names a place that this tree does not have")]
    NoSuchPlace,
}

/// Some slots of one page, or that page.
pub(crate) struct Group {
    pub(crate) path: Vec<u16>,
    pub(crate) slots: Vec<u16>,
}

impl Group {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.path.len() as u32).to_le_bytes());
        self.path.iter().for_each(|step| out.extend_from_slice(&step.to_le_bytes()));
        out.extend_from_slice(&(self.slots.len() as u16).to_le_bytes());
        self.slots.iter().for_each(|slot| out.extend_from_slice(&slot.to_le_bytes()));
    }

    fn decode(rest: &mut &[u8]) -> Result<Group, WantError> {
        let (length, after) = rest.split_first_chunk().ok_or(WantError::Malformed)?;
        *rest = after;
        let path = numbers(rest, u32::from_le_bytes(*length) as usize)?;
        let (length, after) = rest.split_first_chunk().ok_or(WantError::Malformed)?;
        *rest = after;
        let slots = numbers(rest, usize::from(u16::from_le_bytes(*length)))?;
        Ok(Group { path, slots })
    }
}

fn numbers(rest: &mut &[u8], count: usize) -> Result<Vec<u16>, WantError> {
    let bytes = count.checked_mul(2).ok_or(WantError::Malformed)?;
    let (taken, after) = rest.split_at_checked(bytes).ok_or(WantError::Malformed)?;
    *rest = after;
    Ok(taken.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
}

fn below(node: &Node, slot: u16) -> Result<&Node, WantError> {
    match &node.kind {
        Kind::Inner(inner) => inner.slots.get(usize::from(slot)).map(|slot| &*slot.node),
        Kind::Leaf(_) => None,
    }
    .ok_or(WantError::NoSuchPlace)
}

impl Snapshot {
    /// The pages that a want of [`Fetch::want`](crate::Fetch::want) names, in its order, as many as `max_bytes` allow and
    /// one at least: what [`Fetch::take`](crate::Fetch::take) takes in.
    ///
    /// The work is bounded by the length of the want and by `max_bytes` (or by one page, if that is larger), provided that
    /// the root of this snapshot was computed before: a page without an id is hashed with all that is below it.
    ///
    /// # Errors
    /// When the want is malformed, too long, or was made for another tree.
    pub fn answer(&self, want: &[u8], max_bytes: usize) -> Result<Vec<u8>, WantError> {
        if want.len() > WANT_MAX {
            return Err(WantError::TooLong { bytes: want.len(), pages: 0 });
        }
        let root = self.root.as_deref().ok_or(WantError::NoSuchPlace)?;
        let (mut rest, mut out, mut pages) = (want, Vec::new(), 0);
        loop {
            let group = Group::decode(&mut rest)?;
            let node = group.path.iter().try_fold(root, |node, step| below(node, *step))?;
            pages += group.slots.len().max(1);
            if pages > PAGES_MAX {
                return Err(WantError::TooLong { bytes: want.len(), pages });
            }
            if group.slots.is_empty() && !push(node, max_bytes, &mut out) {
                return Ok(out);
            }
            for slot in &group.slots {
                if !push(below(node, *slot)?, max_bytes, &mut out) {
                    return Ok(out);
                }
            }
            if rest.is_empty() {
                return Ok(out);
            }
        }
    }
}

/// Appends a page if there is room for it.
fn push(node: &Node, max_bytes: usize, out: &mut Vec<u8>) -> bool {
    let page = NodeRef::of(node);
    let len = page.encoded_len();
    if !out.is_empty() && out.len() + size_of::<u32>() + len > max_bytes {
        return false;
    }
    let len = u32::try_from(len)
        .expect("a leaf of several entries is small, and one entry is checked when it is made");
    out.extend_from_slice(&len.to_le_bytes());
    page.encode(out);
    true
}

/// The pages of a portion, one after the other; `None` inside for bytes that are cut short.
pub(crate) fn pages(portion: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = portion;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = rest
            .split_first_chunk()
            .and_then(|(len, after)| after.split_at_checked(u32::from_le_bytes(*len) as usize));
        rest = taken.map_or(&[], |(_, after)| after);
        Some(taken.map(|(page, _)| page))
    })
}
