//! Where the new frames of one upload stand: read instead of the packs themselves.
//!
//! ```text
//! "VRIX", version 4, packs 4
//! per pack: length of its key 2, key, bytes 8, frames 4; then its frames as in the pack
//! CRC32C of everything before
//! ```

use super::pack::{PackEntry, entry, put_entry};
use super::read::{Reader, checked};
use super::{FormatError, VERSION};

const MAGIC: [u8; 4] = *b"VRIX";

/// The packs of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Each with its key, its size and its frames.
    pub packs: Vec<(String, u64, Vec<PackEntry>)>,
}

/// Where a frame stands on a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Key of the pack.
    pub pack: &'a str,
    /// Its place in it.
    pub entry: PackEntry,
}

impl Index {
    /// As it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        for (key, bytes, entries) in &self.packs {
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            entries.iter().for_each(|e| put_entry(&mut out, e));
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// It is not a whole index of this format.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Index, FormatError> {
        Reader::new(file, "index", bytes).magic(MAGIC)?;
        let mut reader = Reader::new(file, "index", checked(file, "index", bytes)?);
        reader.magic(MAGIC)?;
        let mut packs = Vec::new();
        for _ in 0..reader.u32()? {
            let len = u16::from_le_bytes(reader.array()?);
            let key = std::str::from_utf8(reader.bytes(len.into())?);
            let key = key.map_err(|_| reader.invalid("a pack's name is not UTF-8"))?.to_owned();
            let bytes = reader.u64()?;
            let count = reader.u32()?;
            let entries = (0..count).map(|_| entry(&mut reader)).collect::<Result<_, _>>()?;
            packs.push((key, bytes, entries));
        }
        reader.end()?;
        Ok(Index { packs })
    }

    /// All frames with their places.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.packs
            .iter()
            .flat_map(|(pack, _, entries)| entries.iter().map(move |e| Place { pack, entry: *e }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, FrameHeader, Kind};
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_found() {
        let header = FrameHeader { id: [1; 32], kind: Kind::Leaf, codec: Codec::Raw, plain: 3, stored: 3 };
        let entries = vec![PackEntry { header, offset: 32 }];
        let index = Index {
            packs: vec![("g/1/data/aa/x-0.pk".to_owned(), 99, entries), ("b".to_owned(), 1, vec![])],
        };
        let bytes = index.encode();
        assert_eq!(Index::parse("i", &bytes), Ok(index));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Index::parse("i", &bad).is_err(), "byte {at}");
            assert!(Index::parse("i", &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
