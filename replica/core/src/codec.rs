//! The one byte form of entries and headers: what is hashed, kept in log segments and read back.
//!
//! Little-endian, fixed fields, strict: a decoder takes exactly what an encoder wrote and nothing else.

use crate::ids::*;
use crate::message::{Entry, Header, Kind};
use bytes::Bytes;

/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = 8 + 8 + 8 + 1 + 8 + 32 + 32;

/// Why bytes are not an entry, a batch or a core state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("{what} is cut short: {missing} more bytes are needed")]
    Short {
        /// What was being read.
        what: &'static str,
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// Bytes are left over.
    #[error("{what} is followed by {extra} bytes that do not belong to it")]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// How many bytes there are too many.
        extra: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{what} has the impossible value {value}")]
    Value {
        /// Which field.
        what: &'static str,
        /// What stands there.
        value: u64,
    },
    /// The body is not the one its header names.
    #[error("the body of entry {op} has digest {found}, its header says {expected}: the bytes were damaged")]
    Body {
        /// Which entry.
        op: Op,
        /// By the header.
        expected: Digest,
        /// By the bytes.
        found: Digest,
    },
}

/// Reads fields from the front of a slice.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| DecodeError::Short { what: self.what, missing: n - self.rest.len() })?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, DecodeError> {
        self.array().map(Digest)
    }

    pub(crate) fn ballot(&mut self) -> Result<Ballot, DecodeError> {
        Ok(Ballot { epoch: Epoch(self.u64()?), view: View(self.u64()?) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { what: self.what, extra }),
        }
    }
}

impl Kind {
    fn decode(byte: u8) -> Result<Kind, DecodeError> {
        match byte {
            1 => Ok(Kind::Requests),
            2 => Ok(Kind::NewView),
            3 => Ok(Kind::Checkpoint),
            4 => Ok(Kind::Reconfigure),
            other => Err(DecodeError::Value { what: "an entry's kind", value: u64::from(other) }),
        }
    }
}

impl Header {
    /// The header as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.op.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ballot.epoch.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ballot.view.0.to_le_bytes());
        bytes[24] = self.kind as u8;
        bytes[25..33].copy_from_slice(&self.time.to_le_bytes());
        bytes[33..65].copy_from_slice(&self.body.0);
        bytes[65..97].copy_from_slice(&self.parent.0);
        bytes
    }

    /// The header that [`Header::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are short, are followed by others, or name no kind of entry.
    pub fn decode(bytes: &[u8]) -> Result<Header, DecodeError> {
        let mut reader = Reader::new("a header", bytes);
        let header = Header::read(&mut reader)?;
        reader.end()?;
        Ok(header)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
        Ok(Header {
            op: Op(reader.u64()?),
            ballot: reader.ballot()?,
            kind: Kind::decode(reader.u8()?)?,
            time: reader.u64()?,
            body: reader.digest()?,
            parent: reader.digest()?,
        })
    }

    /// The digest of the entry: of its header, which names the body's digest and the entry before it, and therefore
    /// of the whole log through it (R12).
    //= R12
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*blake3::hash(&self.encode()).as_bytes())
    }
}

impl Entry {
    /// An entry around a body, hashed here once.
    #[must_use]
    pub fn new(op: Op, ballot: Ballot, kind: Kind, time: u64, parent: Digest, body: Bytes) -> Entry {
        let header = Header { op, ballot, kind, time, body: body_digest(&body), parent };
        Entry { header, body }
    }

    /// The digest of the log through this entry.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.header.digest()
    }

    /// The entry as bytes: header, length of the body, body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.encode_head()[..], &self.body].concat()
    }

    /// What [`Entry::encode`] writes before the body.
    #[must_use]
    pub fn encode_head(&self) -> [u8; HEADER_BYTES + 4] {
        let mut bytes = [0; HEADER_BYTES + 4];
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        bytes[HEADER_BYTES..].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        bytes
    }

    /// The entry that [`Entry::encode`] wrote; the body's digest is checked, and so is its form.
    ///
    /// # Errors
    /// When the bytes are not exactly one intact entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        let mut reader = Reader::new("an entry", bytes);
        let header = Header::read(&mut reader)?;
        let len = reader.u32()? as usize;
        let body = Bytes::copy_from_slice(reader.take(len)?);
        reader.end()?;
        let entry = Entry { header, body };
        entry.check()?;
        Ok(entry)
    }

    /// Whether the body is the one that the header names, in a form that can be executed.
    ///
    /// # Errors
    /// When it is not; such an entry must not enter a log.
    pub fn check(&self) -> Result<(), DecodeError> {
        let found = body_digest(&self.body);
        if found != self.header.body {
            return Err(DecodeError::Body { op: self.header.op, expected: self.header.body, found });
        }
        match self.header.kind {
            Kind::Requests => crate::batch::check(&self.body),
            Kind::Reconfigure => crate::proposal::Proposal::decode(&self.body).map(|_| ()),
            Kind::NewView | Kind::Checkpoint if self.body.is_empty() => Ok(()),
            Kind::NewView | Kind::Checkpoint => {
                Err(DecodeError::Trailing { what: "an entry without a body", extra: self.body.len() })
            }
        }
    }
}

fn body_digest(body: &[u8]) -> Digest {
    Digest(*blake3::hash(body).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        let ballot = Ballot { epoch: Epoch(1), view: View(2) };
        let mut body = Vec::new();
        crate::batch::push(&mut body, SessionId::default(), RequestNumber(1), b"x");
        Entry::new(Op(7), ballot, Kind::Requests, 99, Digest([3; 32]), body.into())
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        for kind in [Kind::NewView, Kind::Checkpoint] {
            let plain = Entry::new(Op(1), Ballot::default(), kind, 5, Digest::default(), Bytes::new());
            assert_eq!(Entry::decode(&plain.encode()), Ok(plain));
        }
        assert_eq!(Entry::decode(&entry().encode()), Ok(entry()));
        assert_eq!(Header::decode(&entry().header.encode()), Ok(entry().header));
    }

    #[test]
    fn the_digest_covers_every_field() {
        let base = entry();
        let mut seen = vec![base.digest()];
        let mut others = vec![base.header; 7];
        others[0].op = Op(8);
        others[1].ballot.epoch = Epoch(9);
        others[2].ballot.view = View(9);
        others[3].kind = Kind::NewView;
        others[4].time = 1;
        others[5].body = Digest([1; 32]);
        others[6].parent = Digest([1; 32]);
        for header in others {
            assert!(!seen.contains(&header.digest()), "{header:?}");
            seen.push(header.digest());
        }
    }

    #[test]
    fn a_checkpoint_with_a_body_is_refused() {
        let entry = Entry::new(
            Op(1),
            Ballot::default(),
            Kind::Checkpoint,
            5,
            Digest::default(),
            Bytes::from_static(b"x"),
        );
        assert!(matches!(Entry::decode(&entry.encode()), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    proptest! {
        #[test]
        fn no_damaged_byte_goes_unseen(at in 0usize..143, bit in 0u8..8) {
            let mut bytes = entry().encode();
            prop_assume!(at < bytes.len());
            bytes[at] ^= 1 << bit;
            let decoded = Entry::decode(&bytes);
            prop_assert!(decoded.is_err() || decoded.map(|e| e.digest()) != Ok(entry().digest()));
        }

        #[test]
        fn cut_or_padded_bytes_are_refused(at in 0usize..143, extra in 1usize..9) {
            let bytes = entry().encode();
            prop_assert!(Entry::decode(&bytes[..at.min(bytes.len() - 1)]).is_err());
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + extra, 0);
            prop_assert!(Entry::decode(&padded).is_err());
        }
    }
}
