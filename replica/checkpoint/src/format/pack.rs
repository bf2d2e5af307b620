//! Many frames in one object of about 16 MiB, with their places at the end, so that an index can be rebuilt.
//!
//! ```text
//! "VRPK", version 4, lineage 16, generation 8
//! frames
//! per frame: id 32, kind 1, codec 1, plain 4, stored 4, offset 8; and if it is a delta, the id of its base 32
//! count 4, offset of the first of these 8, CRC32C of them 4, "VRPE"
//! ```
//!
//! Its version is 2 if one of the frames is a delta, which a release of before does not know, and else 1.

use super::frame::{BASE, Codec, FrameHeader, Framer, Kind, frame_delta};
use super::read::Reader;
use super::{FormatError, VERSION, hex};
use bytes::BytesMut;

const MAGIC: [u8; 4] = *b"VRPK";
const END: [u8; 4] = *b"VRPE";
const HEADER: usize = 32;
const ENTRY: usize = 50;
const TRAILER: usize = 20;
/// A pack is closed once it has grown beyond this.
pub(crate) const TARGET: usize = 16 << 20;

/// A frame's place in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// What stands there.
    pub header: FrameHeader,
    /// From the beginning of the pack.
    pub offset: u64,
}

/// A pack being filled.
pub struct PackBuilder {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
    framer: Option<Framer>,
}

impl PackBuilder {
    /// An empty pack.
    #[must_use]
    pub fn new(lineage: [u8; 16], generation: u64) -> PackBuilder {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&lineage);
        bytes.extend_from_slice(&generation.to_le_bytes());
        PackBuilder { bytes, entries: Vec::new(), framer: None }
    }

    /// Adds a page, in a frame made for it.
    pub fn add(&mut self, id: [u8; 32], kind: Kind, page: &[u8]) {
        let mut frame = BytesMut::new();
        let header = self.framer.get_or_insert_with(Framer::new).frame(id, kind, page, &mut frame);
        self.copy(header, &frame);
    }

    /// Adds a leaf of so many bytes as what `delta` makes out of the page `base`.
    pub fn add_delta(&mut self, id: [u8; 32], plain: usize, base: [u8; 32], delta: &[u8]) {
        let mut frame = BytesMut::new();
        let header = frame_delta(id, plain, base, delta, &mut frame);
        self.copy(header, &frame);
    }

    /// Adds a whole frame as it is.
    pub fn copy(&mut self, header: FrameHeader, frame: &[u8]) {
        debug_assert_eq!(header.len(), frame.len() as u64);
        self.entries.push(PackEntry { header, offset: self.bytes.len() as u64 });
        self.bytes.extend_from_slice(frame);
    }

    /// Whether it should be closed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= TARGET
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The object and its frames' places.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Vec<PackEntry>) {
        self.bytes[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&version(&self.entries).to_le_bytes());
        let at = self.bytes.len();
        self.entries.iter().for_each(|entry| put_entry(&mut self.bytes, entry));
        let crc = crc32c::crc32c(&self.bytes[at..]);
        let count = u32::try_from(self.entries.len()).expect("a pack has far fewer frames");
        self.bytes.extend_from_slice(&count.to_le_bytes());
        self.bytes.extend_from_slice(&(at as u64).to_le_bytes());
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes.extend_from_slice(&END);
        (self.bytes, self.entries)
    }
}

/// A pack that was read.
#[derive(Debug)]
pub struct Pack<'a> {
    /// The lineage that wrote it.
    pub lineage: [u8; 16],
    /// The generation that wrote it.
    pub generation: u64,
    /// Where its frames stand.
    pub entries: Vec<PackEntry>,
    bytes: &'a [u8],
}

impl<'a> Pack<'a> {
    /// Reads header and places; the frames are checked one by one when they are read.
    ///
    /// # Errors
    /// It is not a whole pack of this format.
    pub fn parse(file: &str, bytes: &'a [u8]) -> Result<Pack<'a>, FormatError> {
        let mut reader = Reader::new(file, "pack", bytes);
        let version = reader.magic(MAGIC, VERSION)?;
        let (lineage, generation) = (reader.array()?, reader.u64()?);
        let Some((content, trailer)) = bytes.split_last_chunk::<TRAILER>() else {
            return Err(reader.invalid("it is cut short"));
        };
        let end = PackEnd::parse(file, bytes.len() as u64, trailer)?;
        let places = usize::try_from(end.places).ok().and_then(|at| content.get(at..)).unwrap_or_default();
        let entries = end.entries(file, places)?;
        fits_version(version, &entries, &reader)?;
        Ok(Pack { lineage, generation, entries, bytes: content })
    }

    /// The bytes of a frame.
    #[must_use]
    pub fn frame(&self, entry: &PackEntry) -> &'a [u8] {
        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let len = usize::try_from(entry.header.len()).unwrap_or(usize::MAX);
        &self.bytes[start..self.bytes.len().min(start.saturating_add(len))]
    }
}

/// The last bytes of a pack: where the places of its frames stand. With it they can be read without the frames.
#[derive(Clone, Copy, Debug)]
pub struct PackEnd {
    /// Offset of the first place.
    pub places: u64,
    /// Bytes of all of them.
    pub len: u64,
    count: u32,
    crc: u32,
}

impl PackEnd {
    /// How many bytes it takes.
    pub const LEN: u64 = TRAILER as u64;

    /// Reads the end of a pack of `size` bytes.
    ///
    /// # Errors
    /// It is not the end of a whole pack.
    pub fn parse(file: &str, size: u64, bytes: &[u8]) -> Result<PackEnd, FormatError> {
        let mut end = Reader::new(file, "pack", bytes);
        let (count, places, crc) = (end.u32()?, end.u64()?, end.u32()?);
        if end.array()? != END {
            return Err(end.invalid("its end is missing: it is cut short"));
        }
        let len = u64::from(count) * ENTRY as u64;
        // Between the first place and the end there are all of them, and the bases of those that are deltas.
        let found = size.checked_sub(PackEnd::LEN).and_then(|end| end.checked_sub(places));
        let bases =
            |found: u64| found.checked_sub(len).is_some_and(|bases| bases <= u64::from(count) * BASE as u64);
        let Some(len) = found.filter(|found| places >= HEADER as u64 && bases(*found)) else {
            return Err(end.invalid("the places of its frames are damaged"));
        };
        Ok(PackEnd { places, len, count, crc })
    }

    /// Reads the places, from the bytes that stand there.
    ///
    /// # Errors
    /// They are damaged.
    pub fn entries(&self, file: &str, bytes: &[u8]) -> Result<Vec<PackEntry>, FormatError> {
        let mut places = Reader::new(file, "pack", bytes);
        if bytes.len() as u64 != self.len || crc32c::crc32c(bytes) != self.crc {
            return Err(places.invalid("the places of its frames are damaged"));
        }
        let entries = (0..self.count).map(|_| entry(&mut places)).collect::<Result<_, _>>()?;
        places.end()?;
        Ok(entries)
    }
}

/// Reads a place as it stands in packs and indexes.
pub(super) fn entry(reader: &mut Reader<'_, '_>) -> Result<PackEntry, FormatError> {
    let id: [u8; 32] = reader.array()?;
    let (kind, codec) = (reader.u8()?, reader.u8()?);
    let (plain, stored, offset) = (reader.u32()?, reader.u32()?, reader.u64()?);
    let known = Codec::read(codec, || reader.array())?;
    let (Some(kind), Some(codec)) = (Kind::from_byte(kind), known) else {
        return Err(
            reader.invalid(format!("page {}: kind {kind} or codec {codec} is not known", hex(&id[..8])))
        );
    };
    Ok(PackEntry { header: FrameHeader { id, kind, codec, plain, stored }, offset })
}

/// Appends a place as it stands in packs and indexes.
pub(super) fn put_entry(out: &mut Vec<u8>, PackEntry { header, offset }: &PackEntry) {
    out.extend_from_slice(&header.id);
    out.push(header.kind as u8);
    out.push(header.codec.byte());
    out.extend_from_slice(&header.plain.to_le_bytes());
    out.extend_from_slice(&header.stored.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    if let Codec::Delta { base } = header.codec {
        out.extend_from_slice(&base);
    }
}

/// The version of a record with these places.
pub(super) fn version<'a>(places: impl IntoIterator<Item = &'a PackEntry>) -> u32 {
    if places.into_iter().any(|place| place.header.codec.base().is_some()) { VERSION } else { 1 }
}

/// Whether the places are those of a record of this version.
pub(super) fn fits_version<'a>(
    found: u32,
    places: impl IntoIterator<Item = &'a PackEntry>,
    reader: &Reader<'_, '_>,
) -> Result<(), FormatError> {
    let right = version(places);
    let have = |version| if version == 1 { "has no deltas" } else { "has deltas" };
    if found == right {
        return Ok(());
    }
    Err(reader.invalid(format!("a record of version {found} {}, this one {}", have(found), have(right))))
}

#[cfg(test)]
mod tests {
    use super::super::Frame;
    use super::*;

    fn pack() -> Vec<u8> {
        let mut builder = PackBuilder::new([5; 16], 3);
        for i in 0..20u8 {
            builder.add([i; 32], Kind::Leaf, &vec![i; 100 + usize::from(i)]);
        }
        builder.finish().0
    }

    #[test]
    fn frames_are_found_by_their_places() {
        let bytes = pack();
        let pack = Pack::parse("p", &bytes).expect("valid");
        assert_eq!((pack.lineage, pack.generation, pack.entries.len()), ([5; 16], 3, 20));
        for entry in &pack.entries {
            let (frame, rest) = Frame::parse("p", pack.frame(entry)).expect("valid");
            assert!(rest.is_empty());
            assert_eq!(frame.page("p").expect("valid")[0], entry.header.id[0]);
        }
    }

    #[test]
    fn deltas_stand_in_it_with_their_bases() {
        let (mut builder, mut frame) = (PackBuilder::new([5; 16], 3), BytesMut::new());
        builder.add([1; 32], Kind::Leaf, &[1; 300]);
        frame_delta([2; 32], 300, [1; 32], b"runs", &mut frame);
        builder.add_delta([2; 32], 300, [1; 32], b"runs");
        builder.add([3; 32], Kind::Leaf, &[3; 300]);
        let (bytes, entries) = builder.finish();
        assert_eq!(bytes[4], 2);
        let pack = Pack::parse("p", &bytes).expect("valid");
        assert_eq!((&pack.entries, pack.frame(&entries[1])), (&entries, &frame[..]));
        for at in 0..bytes.len() {
            assert!(Pack::parse("p", &bytes[..at]).is_err(), "cut at {at}");
        }
        let mut older = bytes;
        older[4] = 1;
        let error = Pack::parse("p", &older).expect_err("another version").to_string();
        assert!(error.contains("version 1 has no deltas, this one has deltas"), "{error}");
    }

    #[test]
    fn a_cut_or_newer_pack_is_refused() {
        let bytes = pack();
        for at in 0..bytes.len() {
            assert!(Pack::parse("p", &bytes[..at]).is_err(), "cut at {at}");
        }
        let mut newer = bytes;
        newer[4] = 3;
        let error = Pack::parse("p", &newer).expect_err("newer").to_string();
        assert_eq!(error, "p is vrckpt/3, this release reads vrckpt/2: use a release that reads vrckpt/3");
        newer[4] = 2;
        let error = Pack::parse("p", &newer).expect_err("another version").to_string();
        assert!(error.contains("version 2 has deltas, this one has no deltas"), "{error}");
    }
}
