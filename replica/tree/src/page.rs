//! The canonical bytes of a page, and their strict reading.
//!
//! ```text
//! leaf   1 | entries u32 | per entry: key length u32, value length u32, key, value
//! inner  2 | depth u32 | slots u16 | per slot: low u16, high u16, entries below u64, page id 32 bytes
//! ```
//!
//! Integers are little endian. `low` and `high` are symbols: 0 the end of a key, `b + 1` the byte `b`. There is one
//! encoding of a page and no other is read. What one page alone can show is checked here; what takes the
//! pages below it (counts, depths, that the ranges are the canonical ones) is checked by [`crate::load`].

use thiserror::Error;

use crate::entry::{Entry, OVERHEAD};
use crate::hash::{self, PageId};
use crate::node::Inner;
use crate::shape::{LEAF_MAX, Range, Totals, fits};

const LEAF: u8 = 1;
const INNER: u8 = 2;

/// Bytes of a leaf before its entries.
pub(crate) const LEAF_HEADER: usize = 1 + 4;
/// Bytes of an inner page before its slots.
pub(crate) const INNER_HEADER: usize = 1 + 4 + 2;
/// Bytes of a slot.
pub(crate) const SLOT: usize = 2 + 2 + 8 + 32;

/// A page read from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// Entries.
    Leaf(LeafPage),
    /// Pages below.
    Inner(InnerPage),
}

/// The entries of a leaf, ascending; one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafPage {
    pub(crate) entries: Vec<Entry>,
}

impl LeafPage {
    /// Its entries, ascending.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The leaf of these entries, if they can be one.
    pub(crate) fn checked(entries: Vec<Entry>, leaf_max: u64) -> Result<LeafPage, PageError> {
        if entries.is_empty() {
            return Err(PageError::EmptyLeaf);
        }
        let follows = |pair: &[Entry]| pair[0].key() < pair[1].key();
        if let Some(at) = entries.windows(2).position(|pair| !follows(pair)) {
            return Err(PageError::KeyOrder(at + 1));
        }
        let totals = Totals { count: entries.len() as u64, bytes: entries.iter().map(Entry::size).sum() };
        if !fits(totals, leaf_max) {
            return Err(PageError::LeafTooBig { count: totals.count, bytes: totals.bytes, leaf_max });
        }
        Ok(LeafPage { entries })
    }
}

/// The slots of an inner page, ascending; two at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InnerPage {
    pub(crate) depth: u32,
    pub(crate) children: Vec<PageChild>,
}

impl InnerPage {
    /// Bytes that all keys below share.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// The pages below, ascending by their keys.
    #[must_use]
    pub fn children(&self) -> &[PageChild] {
        &self.children
    }
}

/// One slot of an inner page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageChild {
    pub(crate) range: Range,
    pub(crate) count: u64,
    pub(crate) id: PageId,
}

impl PageChild {
    /// Which page.
    #[must_use]
    pub fn id(&self) -> PageId {
        self.id
    }

    /// Entries below it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// A page whose bytes hashed to the id it was asked for by: what a load is put together from.
///
/// Reading and hashing is most of a load's work, and any number of threads can do it at once; putting the pages
/// together is little.
#[derive(Clone, Debug)]
pub struct VerifiedPage {
    pub(crate) id: PageId,
    pub(crate) page: Page,
}

impl VerifiedPage {
    /// The id that its bytes hash to.
    #[must_use]
    pub fn id(&self) -> PageId {
        self.id
    }

    /// What it says.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.page
    }
}

/// Why bytes are not a page of a tree. Nothing was taken over; get the page from another source.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    /// The bytes end inside what they announce.
    #[error("the page is cut short: {wanted} more bytes expected at offset {offset}, {left} left")]
    Truncated {
        /// Where.
        offset: usize,
        /// Bytes needed there.
        wanted: u64,
        /// Bytes there.
        left: usize,
    },
    /// There are bytes behind the page's end.
    #[error("{0} bytes follow the end of the page")]
    Trailing(usize),
    /// Neither kind of page.
    #[error("unknown kind of page {0}: expected 1 (leaf) or 2 (inner); a newer format needs a newer program")]
    Kind(u8),
    /// A leaf without entries.
    #[error("a leaf without entries")]
    EmptyLeaf,
    /// More in one leaf than the rule allows.
    #[error("a leaf of {count} entries with {bytes} bytes, above the {leaf_max} of the format")]
    LeafTooBig {
        /// Entries.
        count: u64,
        /// Their serialised size.
        bytes: u64,
        /// The limit.
        leaf_max: u64,
    },
    /// Entries not in ascending order, or one key twice.
    #[error("entry {0} of the leaf does not follow the one before it")]
    KeyOrder(usize),
    /// An inner page of no or one slot, or of more than there are symbols.
    #[error("an inner page with {0} slots: 2 to 257 are possible")]
    SlotCount(u16),
    /// Not a range that the rule produces, or not above the one before.
    #[error("slot {slot} of the inner page has the range {low}..={high}, which cannot be there")]
    SlotRange {
        /// Which slot.
        slot: usize,
        /// Its lowest symbol.
        low: u16,
        /// Its highest symbol.
        high: u16,
    },
    /// A number of entries that cannot be.
    #[error("slot {slot} of the inner page claims {count} entries, which cannot be")]
    SlotEntries {
        /// Which slot.
        slot: usize,
        /// What it claims.
        count: u64,
    },
    /// The bytes are not those that were asked for.
    #[error("the bytes hash to {found}, not to the id asked for", found = Hex(.0))]
    Id(PageId),
    /// A slot claims another number of entries than the page below has.
    #[error("slot {slot} claims {claimed} entries, the page below has {found}")]
    CountBelow {
        /// Which slot.
        slot: usize,
        /// What it claims.
        claimed: u64,
        /// What is there.
        found: u64,
    },
    /// Keys below a slot that do not belong there.
    #[error("the page below slot {0} has keys outside the slot's range")]
    KeysBelow(usize),
    /// The depth is not where the keys below part.
    #[error("the page claims depth {claimed}, its keys part at {found}")]
    Depth {
        /// What it claims.
        claimed: u32,
        /// Where they part.
        found: usize,
    },
    /// The entries are valid, but the rule gives them another shape.
    #[error("slot {0} is not divided as the contents demand")]
    NotCanonical(usize),
    /// A delta has a leaf for its base.
    #[error("a delta on an inner page: only leaves have deltas")]
    DeltaBase,
    /// A run of a delta that its base has no entries for, or that changes nothing.
    #[error("run {0} of the delta keeps or drops entries that its base does not have, or changes nothing")]
    DeltaRun(usize),
    /// All entries below would fit one leaf.
    #[error("an inner page over {count} entries of {bytes} bytes, which fit one leaf")]
    NeedlessInner {
        /// Entries.
        count: u64,
        /// Their serialised size.
        bytes: u64,
    },
}

/// An id as people read it.
pub(crate) struct Hex<'a>(pub(crate) &'a PageId);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(crate) fn encode_leaf(entries: &[Entry], out: &mut Vec<u8>) {
    out.push(LEAF);
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        entry.encode(out);
    }
}

/// The ids of the pages below must be there already.
pub(crate) fn encode_inner(inner: &Inner, out: &mut Vec<u8>) {
    inner_header(inner.depth, inner.slots.len(), out);
    for below in &inner.slots {
        let id = below.node.id.get().expect("pages below are hashed first");
        slot(below.range, below.count(), id, out);
    }
}

fn inner_header(depth: u32, slots: usize, out: &mut Vec<u8>) {
    out.push(INNER);
    out.extend_from_slice(&depth.to_le_bytes());
    out.extend_from_slice(&(slots as u16).to_le_bytes());
}

fn slot(range: Range, count: u64, id: &PageId, out: &mut Vec<u8>) {
    out.extend_from_slice(&range.low.to_le_bytes());
    out.extend_from_slice(&range.high.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(id);
}

impl Page {
    /// Reads a page from its bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Page, PageError> {
        Page::decode_with(bytes, LEAF_MAX)
    }

    pub(crate) fn decode_with(bytes: &[u8], leaf_max: u64) -> Result<Page, PageError> {
        let mut reader = Reader::new(bytes);
        let page = match reader.array::<1>()? {
            [LEAF] => Page::Leaf(reader.leaf(leaf_max)?),
            [INNER] => Page::Inner(reader.inner()?),
            [other] => return Err(PageError::Kind(other)),
        };
        match bytes.len() - reader.offset {
            0 => Ok(page),
            more => Err(PageError::Trailing(more)),
        }
    }

    /// Appends its canonical bytes, those that it was read from.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Page::Leaf(leaf) => encode_leaf(&leaf.entries, out),
            Page::Inner(inner) => {
                inner_header(inner.depth, inner.children.len(), out);
                inner.children.iter().for_each(|child| slot(child.range, child.count, &child.id, out));
            }
        }
    }

    /// Reads a page and checks that its bytes are those of `id`.
    pub fn verify(id: &PageId, bytes: &[u8]) -> Result<VerifiedPage, PageError> {
        Page::verify_with(id, bytes, LEAF_MAX)
    }

    pub(crate) fn verify_with(id: &PageId, bytes: &[u8], leaf_max: u64) -> Result<VerifiedPage, PageError> {
        // The kind only says which key to hash with: bytes that are not what was asked for are told apart before
        // anything they claim is believed.
        let found = if bytes.first() == Some(&INNER) { hash::inner_id(bytes) } else { hash::leaf_id(bytes) };
        if found != *id {
            return Err(PageError::Id(found));
        }
        Ok(VerifiedPage { id: found, page: Page::decode_with(bytes, leaf_max)? })
    }

    /// The pages directly below; none for a leaf.
    pub fn child_ids(&self) -> impl Iterator<Item = PageId> + '_ {
        let children: &[PageChild] = match self {
            Page::Leaf(_) => &[],
            Page::Inner(inner) => &inner.children,
        };
        children.iter().map(|child| child.id)
    }
}

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, offset: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    pub(crate) fn entry(&mut self) -> Result<Entry, PageError> {
        let (key_len, value_len) = (self.u32()?, self.u32()?);
        let (key, value) = (self.take(u64::from(key_len))?, self.take(u64::from(value_len))?);
        Ok(Entry::new(key, value))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], PageError> {
        let rest = &self.bytes[self.offset..];
        let cut = PageError::Truncated { offset: self.offset, wanted: len, left: rest.len() };
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or(cut)?;
        self.offset += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PageError> {
        let bytes = self.take(N as u64)?;
        Ok(*bytes.first_chunk().expect("as many bytes as were taken"))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PageError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, PageError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, PageError> {
        self.array().map(u64::from_le_bytes)
    }

    fn leaf(&mut self, leaf_max: u64) -> Result<LeafPage, PageError> {
        let count = self.u32()?;
        if count == 0 {
            return Err(PageError::EmptyLeaf);
        }
        // The count is not believed any further than the bytes go.
        let possible = (self.bytes.len() - self.offset) / OVERHEAD;
        let mut entries: Vec<Entry> = Vec::with_capacity(possible.min(count as usize));
        for _ in 0..count {
            entries.push(self.entry()?);
        }
        LeafPage::checked(entries, leaf_max)
    }

    fn inner(&mut self) -> Result<InnerPage, PageError> {
        let depth = self.u32()?;
        let count = self.u16()?;
        if !(2..=257).contains(&count) {
            return Err(PageError::SlotCount(count));
        }
        let mut children: Vec<PageChild> = Vec::with_capacity(usize::from(count));
        let mut total = 0_u64;
        for slot in 0..usize::from(count) {
            let (low, high) = (self.u16()?, self.u16()?);
            let follows = children.last().is_none_or(|before| before.range.high < low);
            let range = Range::parse(low, high).filter(|_| follows);
            let range = range.ok_or(PageError::SlotRange { slot, low, high })?;
            let count = self.u64()?;
            total = total.saturating_add(count);
            let possible = count > 0 && total <= u64::from(u32::MAX) && (range != Range::END || count == 1);
            if !possible {
                return Err(PageError::SlotEntries { slot, count });
            }
            children.push(PageChild { range, count, id: self.array()? });
        }
        Ok(InnerPage { depth, children })
    }
}
