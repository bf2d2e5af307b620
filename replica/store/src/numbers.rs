//! The store's own numbers: where the history stands. In memory while executing; in the tree at every cut.
//!
//! Writing them with each entry would cost every entry a change of the tree, and nothing reads them between cuts.

use crate::layout::FORMAT;
use crate::types::Revision;
use crate::varint;
use vr_core::Op;

/// Everything that is neither key nor lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The op of the cut that wrote them.
    pub(crate) op: Op,
    /// The newest revision.
    pub(crate) revision: Revision,
    /// The oldest revision that can be read. -1: never compacted.
    pub(crate) compacted: Revision,
    /// The highest revision that may be handed out.
    pub(crate) reserved: Revision,
    /// Removal of what is compacted, while it is under way.
    pub(crate) sweep: Option<Sweep>,
}

/// How far the removal of compacted versions has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// The tree key to go on from.
    pub(crate) cursor: Vec<u8>,
    /// Another compaction came meanwhile: once at the end, begin again.
    pub(crate) again: bool,
}

/// Why numbers could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Another format, this number.
    Format(u64),
    /// Not what any format writes.
    Broken,
}

impl Numbers {
    pub(crate) fn new(reserved: Revision) -> Numbers {
        Numbers { op: Op(0), revision: Revision(1), compacted: Revision(-1), reserved, sweep: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        varint::put(&mut out, FORMAT);
        varint::put(&mut out, self.op.0);
        // One up, because "never compacted" is -1.
        for number in [self.revision.0, self.compacted.0 + 1, self.reserved.0] {
            varint::put(&mut out, number as u64);
        }
        match &self.sweep {
            None => out.push(0),
            Some(sweep) => {
                out.push(if sweep.again { 2 } else { 1 });
                out.extend_from_slice(&sweep.cursor);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Numbers, Unreadable> {
        let mut rest = bytes;
        let mut take = || varint::take(&mut rest).ok_or(Unreadable::Broken);
        let format = take()?;
        if format != FORMAT {
            return Err(Unreadable::Format(format));
        }
        let (op, revision, compacted, reserved) = (Op(take()?), take()?, take()?, take()?);
        let (again, cursor) = rest.split_first().ok_or(Unreadable::Broken)?;
        let sweep = match again {
            0 if cursor.is_empty() => None,
            1 | 2 => Some(Sweep { cursor: cursor.to_vec(), again: *again == 2 }),
            _ => return Err(Unreadable::Broken),
        };
        let signed = |n: u64| i64::try_from(n).map(Revision).map_err(|_| Unreadable::Broken);
        let compacted = Revision(signed(compacted)?.0 - 1);
        Ok(Numbers { op, revision: signed(revision)?, compacted, reserved: signed(reserved)?, sweep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut numbers = Numbers::new(Revision(i64::MAX));
        assert_eq!(Numbers::decode(&numbers.encode()), Ok(numbers.clone()));
        numbers.sweep = Some(Sweep { cursor: b"ha\0".to_vec(), again: true });
        numbers.op = Op(7);
        assert_eq!(Numbers::decode(&numbers.encode()), Ok(numbers));
    }

    #[test]
    fn other_formats_and_fragments_are_refused() {
        let bytes = Numbers::new(Revision(9)).encode();
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(Numbers::decode(&newer), Err(Unreadable::Format(2)));
        for len in 0..bytes.len() {
            assert_eq!(Numbers::decode(&bytes[..len]), Err(Unreadable::Broken), "{len} bytes");
        }
    }
}
