//! Where the new frames of one upload stand: read instead of the packs themselves.
//!
//! ```text
//! "VRIX", version 4, packs 4
//! per pack: length of its key 2, key, bytes 8, frames 4; then its frames as in the pack
//! CRC32C of everything before
//! ```
//!
//! All packs are of the upload that the index is named after. Its version is 2 if one of the frames is a delta, which a
//! release of before does not know, and else 1.

use super::pack::{PackEntry, entry, fits_version, put_entry, version};
use super::read::{Reader, checked};
use super::{FormatError, Names, VERSION};

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
        let places = self.packs.iter().flat_map(|(.., entries)| entries);
        out.extend_from_slice(&version(places).to_le_bytes());
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
    /// It is not a whole index of this format, or, where `file` is the name of an index, that of another upload.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Index, FormatError> {
        let version = Reader::new(file, "index", bytes).magic(MAGIC, VERSION)?;
        let mut reader = Reader::new(file, "index", checked(file, "index", bytes)?);
        reader.magic(MAGIC, VERSION)?;
        let mut packs = Vec::new();
        let upload = Names::upload(file).map(|(upload, _)| upload);
        for _ in 0..reader.u32()? {
            let len = u16::from_le_bytes(reader.array()?);
            let key = std::str::from_utf8(reader.bytes(len.into())?);
            let key = key.map_err(|_| reader.invalid("a pack's name is not UTF-8"))?.to_owned();
            if upload.is_some() && Names::upload(&key).map(|(of, _)| of) != upload {
                return Err(reader
                    .invalid("it names packs of another upload: it is another index than its name says"));
            }
            let bytes = reader.u64()?;
            let count = reader.u32()?;
            let entries = (0..count).map(|_| entry(&mut reader)).collect::<Result<_, _>>()?;
            packs.push((key, bytes, entries));
        }
        reader.end()?;
        fits_version(version, packs.iter().flat_map(|(.., entries)| entries), &reader)?;
        Ok(Index { packs })
    }

    /// Whether it has deltas.
    #[must_use]
    pub fn has_deltas(&self) -> bool {
        self.places().any(|place| place.entry.header.codec.base().is_some())
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
    use super::super::{Codec, FrameHeader, Kind, Part};
    use super::*;
    use ulid::Ulid;

    #[test]
    fn it_comes_back_and_damage_is_found() {
        let header = FrameHeader { id: [1; 32], kind: Kind::Leaf, codec: Codec::Raw, plain: 3, stored: 3 };
        let entries = vec![PackEntry { header, offset: 32 }];
        let delta = FrameHeader { codec: Codec::Delta { base: [2; 32] }, ..header };
        let with_delta = [entries.clone(), vec![PackEntry { header: delta, offset: 90 }]].concat();
        for (entries, version) in [(entries, 1), (with_delta, 2)] {
            comes_back(entries, version);
        }
    }

    #[test]
    fn one_of_another_upload_is_no_index_of_this_one() {
        let names = Names { generation: 1 };
        let [one, other] = [1, 2].map(|at| Ulid::from_parts(at, 7));
        let index = Index { packs: vec![(names.pack(Part::Data, one, 0), 99, vec![])] };
        assert_eq!(Index::parse(&names.index(one), &index.encode()).as_ref(), Ok(&index));
        let error = Index::parse(&names.index(other), &index.encode()).expect_err("another").to_string();
        assert!(error.contains("another index than its name says"), "{error}");
    }

    fn comes_back(entries: Vec<PackEntry>, version: u8) {
        let index = Index {
            packs: vec![("g/1/data/aa/x-0.pk".to_owned(), 99, entries), ("b".to_owned(), 1, vec![])],
        };
        let bytes = index.encode();
        assert_eq!(bytes[4], version);
        assert_eq!(index.has_deltas(), version == 2);
        assert_eq!(Index::parse("i", &bytes), Ok(index));
        // Deltas in a record of the version that has none, and the other way round.
        let mut other = bytes.clone();
        other[4] = 3 - version;
        let at = other.len() - 4;
        let crc = crc32c::crc32c(&other[..at]);
        other[at..].copy_from_slice(&crc.to_le_bytes());
        let error = Index::parse("i", &other).expect_err("another version").to_string();
        assert!(error.contains("deltas"), "{error}");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Index::parse("i", &bad).is_err(), "byte {at}");
            assert!(Index::parse("i", &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
