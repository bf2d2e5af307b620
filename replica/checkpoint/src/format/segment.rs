//! A piece of the committed log between checkpoints: consecutive entries, opaque here.
//!
//! ```text
//! "VRSG", version 4, lineage 16, generation 8, first op 8, last op 8
//! per entry: time 8, digest 32, length 4, bytes
//! CRC32C of everything before
//! ```

use super::FormatError;
use super::read::{Reader, checked};
use crate::mutants::{Mutant, on};
use bytes::{Bytes, BytesMut};

const MAGIC: [u8; 4] = *b"VRSG";
const VERSION: u32 = 1;

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

/// A [`LogEntry`] that is to be written, in two pieces: so that the second, which is long, need not be copied before.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its number.
    pub op: u64,
    /// As [`LogEntry::time_micros`].
    pub time_micros: u64,
    /// As [`LogEntry::digest`].
    pub digest: [u8; 32],
    /// The beginning of [`LogEntry::bytes`].
    pub head: Bytes,
    /// The rest of them.
    pub body: Bytes,
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
pub(crate) struct SegmentBuilder {
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
    pub(crate) fn new(
        lineage: [u8; 16],
        generation: u64,
        first: u64,
        mut memory: BytesMut,
    ) -> SegmentBuilder {
        memory.clear();
        memory.extend_from_slice(&MAGIC);
        memory.extend_from_slice(&VERSION.to_le_bytes());
        memory.extend_from_slice(&lineage);
        for number in [generation, first, first] {
            memory.extend_from_slice(&number.to_le_bytes());
        }
        SegmentBuilder { bytes: memory, first, next: first }
    }

    /// The op that the next entry must have.
    #[must_use]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of a segment without entries.
    pub(crate) const EMPTY: usize = HEADER + CRC;

    /// Bytes that an entry takes.
    pub(crate) fn bytes_of(entry: &Committed) -> usize {
        ENTRY + entry.head.len() + entry.body.len()
    }

    /// Adds the entry [`SegmentBuilder::next`].
    pub(crate) fn push(&mut self, entry: &Committed) {
        debug_assert_eq!(entry.op, self.next);
        self.add(entry.time_micros, &entry.digest, [&entry.head, &entry.body]);
    }

    fn add(&mut self, time_micros: u64, digest: &[u8; 32], parts: [&[u8]; 2]) {
        let len = parts.map(<[u8]>::len).iter().sum::<usize>();
        self.bytes.reserve(ENTRY + len + CRC);
        self.bytes.extend_from_slice(&time_micros.to_le_bytes());
        self.bytes.extend_from_slice(digest);
        self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.next += 1;
    }

    /// The segment; it must have an entry.
    #[must_use]
    pub(crate) fn finish(mut self) -> Bytes {
        debug_assert!(self.next > self.first);
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
        self.entries.iter().for_each(|entry| out.add(entry.time_micros, &entry.digest, [&entry.bytes, &[]]));
        out.finish()
    }

    /// # Errors
    /// It is not a whole segment of this format.
    pub fn parse(file: &str, bytes: &Bytes) -> Result<Segment, FormatError> {
        Reader::new(file, "log segment", bytes).magic(MAGIC, VERSION)?;
        let content = match checked(file, "log segment", bytes) {
            Err(_) if on(Mutant::SegmentUnchecked) => &bytes[..bytes.len() - CRC],
            checked => checked?,
        };
        let mut reader = Reader::new(file, "log segment", content);
        reader.magic(MAGIC, VERSION)?;
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
}
