//! A piece of the committed log between checkpoints: consecutive entries, opaque here.
//!
//! ```text
//! "VRSG", version 4, lineage 16, generation 8, first op 8, last op 8
//! per entry: time 8, digest 32, length 4, bytes
//! CRC32C of everything before
//! ```

use super::read::{Reader, checked};
use super::{FormatError, VERSION};
use bytes::Bytes;

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

impl Segment {
    /// As it is stored. The entries must be consecutive and at least one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (first, last) = (self.entries[0].op, self.entries[self.entries.len() - 1].op);
        let mut out = Vec::with_capacity(64 + self.entries.iter().map(|e| e.bytes.len() + 44).sum::<usize>());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.lineage);
        for number in [self.generation, first, last] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for entry in &self.entries {
            out.extend_from_slice(&entry.time_micros.to_le_bytes());
            out.extend_from_slice(&entry.digest);
            out.extend_from_slice(&(entry.bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(&entry.bytes);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
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
        let bytes = Bytes::from(segment.encode());
        assert_eq!(Segment::parse("s", &bytes), Ok(segment));
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert!(Segment::parse("s", &bad.into()).is_err(), "byte {at}");
            assert!(Segment::parse("s", &bytes.slice(..at)).is_err(), "cut at {at}");
        }
    }
}
