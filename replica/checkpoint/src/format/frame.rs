//! One page as it is shipped: copied verbatim between packs and tiers, never recompressed.
//!
//! ```text
//! offset  0 32  id of the page (of its plain bytes)
//!        32  1  kind: 1 leaf, 2 inner
//!        33  1  codec: 0 raw, 1 zstd, 2 delta
//!        34  4  plain length       (little-endian, as everywhere)
//!        38  4  stored length
//!        42  4  CRC32C of bytes 0..42 and of the stored bytes
//!        46     stored bytes; of a delta the id of its base 32, and what makes the page out of that
//! ```

use super::FormatError;
use super::read::Reader;
use bytes::BytesMut;

/// Bytes before a frame's stored bytes.
pub(crate) const HEADER: usize = 46;
/// Level 1 is four times faster than level 3 and no larger on pages.
const ZSTD_LEVEL: i32 = 1;
/// A page that shrinks by less than a fortieth is stored as it is. Where values do not compress at all, what keys and
/// lengths repeat is just below a twentieth of a page.
const WORTH: usize = 40;
/// A delta that takes more than a fourth of its page is not worth that its base must be read as well.
const DELTA_WORTH: usize = 4;
/// Bytes that name the base of a delta.
pub(crate) const BASE: usize = 32;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Entries.
    Leaf = 1,
    /// Pages below.
    Inner = 2,
}

/// How its bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One zstd frame.
    Zstd,
    /// As what differs from another leaf ([`vr_tree::VerifiedPage::apply`]).
    Delta {
        /// The page that it is applied to.
        base: [u8; 32],
    },
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Leaf, Kind::Inner].into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl Codec {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
            Codec::Delta { .. } => 2,
        }
    }

    /// The codec of this number; of a delta, whose base is read where it stands.
    pub(super) fn read<E>(byte: u8, base: impl FnOnce() -> Result<[u8; 32], E>) -> Result<Option<Codec>, E> {
        Ok(match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::Delta { base: base()? }),
            _ => None,
        })
    }

    /// The base, if it is a delta.
    #[must_use]
    pub fn base(self) -> Option<[u8; 32]> {
        match self {
            Codec::Delta { base } => Some(base),
            Codec::Raw | Codec::Zstd => None,
        }
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The page.
    pub id: [u8; 32],
    /// What it is.
    pub kind: Kind,
    /// How it is stored.
    pub codec: Codec,
    /// Bytes of the page.
    pub plain: u32,
    /// Bytes stored.
    pub stored: u32,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn len(&self) -> u64 {
        HEADER as u64 + u64::from(self.stored)
    }

    /// Never: a frame has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A frame, checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it says of itself.
    pub header: FrameHeader,
    stored: &'a [u8],
}

/// Makes frames; keeps its compressor.
pub(crate) struct Framer(zstd::bulk::Compressor<'static>);

impl Framer {
    pub(crate) fn new() -> Framer {
        Framer(zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("the level is one that zstd has"))
    }

    /// Appends the frame of a page.
    pub(crate) fn frame(&mut self, id: [u8; 32], kind: Kind, page: &[u8], out: &mut BytesMut) -> FrameHeader {
        let compressed = self.0.compress(page).ok().filter(|c| c.len() + page.len() / WORTH <= page.len());
        let (codec, stored) = compressed.as_deref().map_or((Codec::Raw, page), |c| (Codec::Zstd, c));
        let header = FrameHeader { id, kind, codec, plain: length(page.len()), stored: length(stored.len()) };
        put(&header, [&[], stored], out);
        header
    }
}

/// How many bytes a delta on another leaf may take, for a page of so many.
pub(crate) fn most_of_delta(plain: usize) -> usize {
    (plain / DELTA_WORTH).saturating_sub(BASE)
}

/// Appends the frame of a leaf of so many bytes that `delta` makes out of the page `base`.
pub(crate) fn frame_delta(
    id: [u8; 32],
    plain: usize,
    base: [u8; 32],
    delta: &[u8],
    out: &mut BytesMut,
) -> FrameHeader {
    let (codec, stored) = (Codec::Delta { base }, length(BASE + delta.len()));
    let header = FrameHeader { id, kind: Kind::Leaf, codec, plain: length(plain), stored };
    put(&header, [&base, delta], out);
    header
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a page is far below 4 GiB")
}

fn put(header: &FrameHeader, stored: [&[u8]; 2], out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(&header.id);
    out.extend_from_slice(&[header.kind as u8, header.codec.byte()]);
    out.extend_from_slice(&header.plain.to_le_bytes());
    out.extend_from_slice(&header.stored.to_le_bytes());
    let head = crc32c::crc32c(&out[start..]);
    let crc = stored.iter().fold(head, |crc, part| crc32c::crc32c_append(crc, part));
    out.extend_from_slice(&crc.to_le_bytes());
    stored.iter().for_each(|part| out.extend_from_slice(part));
}

impl<'a> Frame<'a> {
    /// Reads the frame at the beginning of `bytes`, and what follows it.
    ///
    /// # Errors
    /// It is cut short, damaged, or says something of itself that this format does not know.
    pub fn parse(file: &str, bytes: &'a [u8]) -> Result<(Frame<'a>, &'a [u8]), FormatError> {
        let mut reader = Reader { file, what: "frame", rest: bytes };
        let head = bytes;
        let id = reader.array()?;
        let (kind, codec) = (reader.u8()?, reader.u8()?);
        let (plain, stored, crc) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let body = reader.bytes(stored as usize)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[..HEADER - 4]), body) != crc {
            return Err(reader.invalid(format!("page {}: its checksum is wrong", super::hex(&id[..8]))));
        }
        let kind =
            Kind::from_byte(kind).ok_or_else(|| reader.invalid(format!("page kind {kind} is not known")))?;
        let base = || body.first_chunk().copied().ok_or_else(|| reader.invalid("a delta that names no base"));
        let codec =
            Codec::read(codec, base)?.ok_or_else(|| reader.invalid(format!("codec {codec} is not known")))?;
        if codec.base().is_some() && kind != Kind::Leaf {
            return Err(reader.invalid("a delta of an inner page: only leaves have deltas"));
        }
        Ok((Frame { header: FrameHeader { id, kind, codec, plain, stored }, stored: body }, reader.rest))
    }

    /// What makes the page out of its base, if it is stored so.
    #[must_use]
    pub fn delta(&self) -> Option<&'a [u8]> {
        self.header.codec.base().and_then(|_| self.stored.get(BASE..))
    }

    /// The page's bytes. They are not checked against the id: [`vr_tree::Page::verify`] does.
    ///
    /// # Errors
    /// The stored bytes do not become what the header says, or are a delta.
    pub fn page(&self, file: &str) -> Result<Vec<u8>, FormatError> {
        let invalid = |reason: String| FormatError::Invalid { file: file.to_owned(), what: "frame", reason };
        let plain = self.header.plain as usize;
        let page = match self.header.codec {
            Codec::Raw => self.stored.to_vec(),
            Codec::Delta { .. } => return Err(invalid("a delta alone is no page".to_owned())),
            Codec::Zstd => zstd::bulk::decompress(self.stored, plain)
                .map_err(|e| invalid(format!("page {}: {e}", super::hex(&self.header.id[..8]))))?,
        };
        if page.len() != plain {
            return Err(invalid(format!("a page of {} bytes instead of {plain}", page.len())));
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_fixed() {
        let mut out = BytesMut::new();
        Framer::new().frame([0x11; 32], Kind::Leaf, b"page", &mut out);
        let hex = super::super::hex(&out[32..]);
        assert_eq!(&hex[..20], "01000400000004000000");
        assert_eq!(&hex[28..], super::super::hex(b"page"));
    }

    #[test]
    fn pages_come_back_compressed_or_not() {
        let noise: Vec<u8> =
            (0..4000u32).flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
        for (page, codec) in [(vec![7u8; 8000], Codec::Zstd), (noise, Codec::Raw), (vec![], Codec::Raw)] {
            let mut out = BytesMut::new();
            let header = Framer::new().frame([1; 32], Kind::Inner, &page, &mut out);
            assert_eq!((header.codec, header.len()), (codec, out.len() as u64));
            out.extend_from_slice(b"next");
            let (frame, rest) = Frame::parse("f", &out).expect("valid");
            assert_eq!((frame.page("f").expect("valid"), rest), (page, &b"next"[..]));
        }
    }

    #[test]
    fn a_delta_names_its_base() {
        let mut out = BytesMut::new();
        let header = frame_delta([1; 32], 900, [2; 32], b"runs", &mut out);
        assert_eq!((header.stored, header.len()), (36, out.len() as u64));
        assert_eq!(super::super::hex(&out[32..42]), "01028403000024000000");
        let (frame, rest) = Frame::parse("f", &out).expect("valid");
        assert_eq!((frame.header, frame.delta(), rest.len()), (header, Some(&b"runs"[..]), 0));
        assert_eq!(header.codec.base(), Some([2; 32]));
        assert!(frame.page("f").expect_err("no page").to_string().contains("a delta alone"));
        let strange = |kind: Kind, stored: &[u8]| {
            let codec = Codec::Delta { base: [0; 32] };
            let header = FrameHeader { id: [1; 32], kind, codec, plain: 9, stored: length(stored.len()) };
            let mut out = BytesMut::new();
            put(&header, [stored, &[]], &mut out);
            Frame::parse("f", &out).expect_err("refused").to_string()
        };
        assert!(strange(Kind::Leaf, &[0; 31]).contains("names no base"));
        assert!(strange(Kind::Inner, &[0; 40]).contains("only leaves"));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (mut whole, mut delta) = (BytesMut::new(), BytesMut::new());
        Framer::new().frame([1; 32], Kind::Leaf, &[9; 200], &mut whole);
        frame_delta([1; 32], 200, [2; 32], b"runs", &mut delta);
        for out in [whole, delta] {
            flipped(&out);
        }
    }

    fn flipped(out: &[u8]) {
        for at in 0..out.len() {
            let mut bad = out.to_vec();
            bad[at] ^= 1;
            assert!(Frame::parse("f", &bad).is_err(), "byte {at}");
            assert!(Frame::parse("f", &out[..at]).is_err(), "cut at {at}");
        }
    }
}
