//! A piece of the committed log between checkpoints: consecutive entries, opaque here.
//!
//! ```text
//! "VRSG", version 4, lineage 16, generation 8, first op 8, last op 8
//! per entry: time 8, digest 32, length 4, bytes
//! CRC32C of everything before
//! ```

use super::read::{Reader, checked};
use super::{FormatError, VERSION};
use bytes::{Bytes, BytesMut};

const MAGIC: [u8; 4] = *b"VRSG";

/// A committed entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub op: u64,
    /// The primary's wall clock when it proposed it, microseconds since the Unix epoch.
    pub time_micros: u64,
    /// Chained digest of the log through it.
    pub digest: [u8; 32],
    /// The entry in the protocol's encoding.
    pub bytes: Bytes,
}

/// Consecutive entries of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The lineage.
    pub lineage: [u8; 16],
    /// The generation.
    pub generation: u64,
    /// The entries; never none.
    pub entries: Vec<LogEntry>,
}

/// A segment being put together.
#[derive(Debug)]
pub struct SegmentBuilder {
    bytes: BytesMut,
    first: u64,
    next: u64,
}

/// Bytes before the first entry; the last of them are the op of the last entry.
const HEADER: usize = 48;
/// Bytes of an entry before its own.
const ENTRY: usize = 44;
const CRC: usize = 4;

impl SegmentBuilder {
    /// One whose first entry will be `first`, in memory that may have been used before.
    #[must_use]
    pub fn new(lineage: [u8; 16], generation: u64, first: u64, mut memory: BytesMut) -> SegmentBuilder {
        memory.clear();
        memory.extend_from_slice(&MAGIC);
        memory.extend_from_slice(&VERSION.to_le_bytes());
        memory.extend_from_slice(&lineage);
        for number in [generation, first, first] {
            memory.extend_from_slice(&number.to_le_bytes());
        }
        SegmentBuilder { bytes: memory, first, next: first }
    }

    /// Its first entry's op.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The op that the next entry must have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next == self.first
    }

    /// Adds the entry [`SegmentBuilder::next`].
    pub fn push(&mut self, entry: &LogEntry) {
        debug_assert_eq!(entry.op, self.next);
        self.bytes.reserve(ENTRY + entry.bytes.len() + CRC);
        self.bytes.extend_from_slice(&entry.time_micros.to_le_bytes());
        self.bytes.extend_from_slice(&entry.digest);
        self.bytes.extend_from_slice(&(entry.bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&entry.bytes);
        self.next += 1;
    }

    /// Adds the entries of a finished segment from [`SegmentBuilder::next`] on, which it must hold.
    pub fn append(&mut self, segment: &[u8]) {
        let op =
            |at: usize| u64::from_le_bytes(*segment[at..].first_chunk().expect("a segment has a header"));
        let (first, last) = (op(HEADER - 16), op(HEADER - 8));
        let mut at = HEADER;
        for _ in first..self.next {
            let length = segment[at + ENTRY - 4..].first_chunk().expect("an entry has a length");
            at += ENTRY + u32::from_le_bytes(*length) as usize;
        }
        self.bytes.extend_from_slice(&segment[at..segment.len() - CRC]);
        self.next = last + 1;
    }

    /// The segment; it must have an entry.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        debug_assert!(!self.is_empty());
        self.bytes[HEADER - 8..HEADER].copy_from_slice(&(self.next - 1).to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes.freeze()
    }
}

impl Segment {
    /// As it is stored. The entries must be consecutive and at least one.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = SegmentBuilder::new(self.lineage, self.generation, self.entries[0].op, BytesMut::new());
        self.entries.iter().for_each(|entry| out.push(entry));
        out.finish()
    }

    /// # Errors
    /// It is not a whole segment of this format.
    pub fn parse(file: &str, bytes: &Bytes) -> Result<Segment, FormatError> {
        Reader::new(file, "log segment", bytes).magic(MAGIC)?;
        let mut reader = Reader::new(file, "log segment", checked(file, "log segment", bytes)?);
        reader.magic(MAGIC)?;
        let (lineage, generation) = (reader.array()?, reader.u64()?);
        let (first, last) = (reader.u64()?, reader.u64()?);
        let mut entries = Vec::new();
        for op in first..=last {
            let (time_micros, digest) = (reader.u64()?, reader.array()?);
            let len = reader.u32()? as usize;
            let entry = bytes.slice_ref(reader.bytes(len)?);
            entries.push(LogEntry { op, time_micros, digest, bytes: entry });
        }
        if entries.is_empty() {
            return Err(reader.invalid("it holds no entry"));
        }
        reader.end()?;
        Ok(Segment { lineage, generation, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_found() {
        let entry =
            |op: u64| LogEntry { op, time_micros: op * 10, digest: [op as u8; 32], bytes: vec![1; 5].into() };
        let segment = Segment { lineage: [2; 16], generation: 4, entries: (7..12).map(entry).collect() };
        let bytes = segment.encode();
        assert_eq!(Segment::parse("s", &bytes), Ok(segment));
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert!(Segment::parse("s", &bad.into()).is_err(), "byte {at}");
            assert!(Segment::parse("s", &bytes.slice(..at)).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn finished_segments_become_one_that_begins_where_it_is_wanted() {
        let entry = |op: u64| LogEntry {
            op,
            time_micros: op,
            digest: [op as u8; 32],
            bytes: vec![op as u8; op as usize % 9].into(),
        };
        let segment = |ops: std::ops::Range<u64>| Segment {
            lineage: [2; 16],
            generation: 4,
            entries: ops.map(entry).collect(),
        };
        for first in 5..9 {
            let mut builder = SegmentBuilder::new([2; 16], 4, first, BytesMut::from(&b"used"[..]));
            builder.append(&segment(5..9).encode());
            builder.append(&segment(8..12).encode());
            builder.append(&segment(12..13).encode());
            assert_eq!(builder.finish(), segment(first..13).encode(), "from {first}");
        }
    }
}
