//! A state as one sequence of bytes, fetched in order: for machines that have nothing to compare before they ask.
//!
//! Everything travels each time, one portion after the other, and nothing can be said of a portion until the last has
//! arrived. That is enough for states of some megabytes.

use crate::import::ImportError;
use bytes::Bytes;

/// Bytes of the length in front of each portion, and of a want.
const WORD: usize = size_of::<u64>();

/// A sequence of bytes on its way in.
///
/// ```
/// use vr_core::Sequence;
///
/// let sent = b"a whole state".repeat(3);
/// let mut arriving = Sequence::new(1 << 20);
/// while let Some(want) = arriving.want() {
///     let portion = Sequence::portion(&sent, &want, 10);
///     arriving.take(&want, &portion).expect("the answer to a want");
/// }
/// assert_eq!(arriving.end(), Ok(sent));
/// ```
#[derive(Clone, Debug, Hash)]
pub struct Sequence {
    max_bytes: u64,
    total: Option<u64>,
    bytes: Vec<u8>,
    asked: bool,
}

impl Sequence {
    /// Takes in at most `max_bytes`, whatever the sender says.
    #[must_use]
    pub fn new(max_bytes: u64) -> Sequence {
        Sequence { max_bytes, total: None, bytes: Vec::new(), asked: false }
    }

    /// What a sender of `whole` answers to a want: about `max_bytes`, one byte at least. Empty if the want is none.
    #[must_use]
    pub fn portion(whole: &[u8], want: &[u8], max_bytes: usize) -> Bytes {
        let from = <[u8; WORD]>::try_from(want).ok().map(u64::from_le_bytes);
        let from = from.and_then(|from| usize::try_from(from).ok()).filter(|from| *from <= whole.len());
        let Some(from) = from else { return Bytes::new() };
        let to = whole.len().min(from.saturating_add(max_bytes.max(1)));
        let mut portion = (whole.len() as u64).to_le_bytes().to_vec();
        portion.extend_from_slice(&whole[from..to]);
        portion.into()
    }

    /// See [`Import::want`](crate::Import::want).
    pub fn want(&mut self) -> Option<Bytes> {
        if self.asked || self.is_complete() {
            return None;
        }
        self.asked = true;
        Some(Bytes::copy_from_slice(&self.position().to_le_bytes()))
    }

    fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_complete(&self) -> bool {
        self.total == Some(self.position())
    }

    /// See [`Import::take`](crate::Import::take).
    ///
    /// # Errors
    /// When the portion brings nothing, does not go on where the last ended, or the sequence would be longer than it was
    /// said to be, or than is allowed.
    pub fn take(&mut self, want: &[u8], portion: &[u8]) -> Result<(), ImportError> {
        if !self.asked || want != self.position().to_le_bytes() {
            return Err(ImportError::Malformed("an answer that nobody waits for".to_owned()));
        }
        self.asked = false;
        let Some((total, bytes)) = portion.split_first_chunk() else {
            return Err(ImportError::Malformed("a portion without the length of the whole".to_owned()));
        };
        let (total, end) = (u64::from_le_bytes(*total), self.position() + bytes.len() as u64);
        if *self.total.get_or_insert(total) != total || total > self.max_bytes || end > total {
            self.total = None;
            self.bytes.clear();
            let max = self.max_bytes;
            return Err(ImportError::Malformed(format!(
                "{end} bytes of {total}, of which {max} are allowed"
            )));
        }
        if bytes.is_empty() && end < total {
            return Err(ImportError::Malformed(format!("nothing of {total} bytes")));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The sequence.
    ///
    /// # Errors
    /// [`ImportError::Incomplete`] when bytes are missing.
    pub fn end(self) -> Result<Vec<u8>, ImportError> {
        if self.is_complete() { Ok(self.bytes) } else { Err(ImportError::Incomplete) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(number: u64) -> Vec<u8> {
        number.to_le_bytes().to_vec()
    }

    #[test]
    fn an_empty_state_takes_one_portion() {
        let mut arriving = Sequence::new(0);
        let want = arriving.want().expect("nothing is known yet");
        assert_eq!(arriving.want(), None);
        arriving.take(&want, &Sequence::portion(&[], &want, 10)).expect("the answer");
        assert_eq!((arriving.want(), arriving.end()), (None, Ok(Vec::new())));
    }

    #[test]
    fn what_does_not_go_on_is_refused_and_asked_for_again() {
        let mut arriving = Sequence::new(10);
        let want = arriving.want().expect("nothing is known yet");
        assert!(arriving.take(&word(3), &[word(5), vec![1]].concat()).is_err(), "another place");
        for bad in [vec![], word(5), [word(11), vec![1]].concat(), [word(5), vec![1; 6]].concat()] {
            assert!(arriving.take(&want, &bad).is_err(), "{bad:?}");
            assert_eq!(arriving.want(), Some(want.clone()), "{bad:?}");
        }
        arriving.take(&want, &[word(5), vec![1, 2]].concat()).expect("two of five");
        assert!(arriving.take(&want, &[word(5), vec![1, 2]].concat()).is_err(), "a repetition");
        let next = arriving.want().expect("three are missing");
        // A source that changes its mind about the end never ends: from the beginning.
        assert!(arriving.take(&next, &[word(6), vec![3]].concat()).is_err());
        assert_eq!(arriving.want(), Some(want));
        assert_eq!(arriving.end(), Err(ImportError::Incomplete));
    }

    #[test]
    fn wants_that_are_none_are_answered_with_nothing() {
        for want in [vec![], vec![0; 7], word(4), word(u64::MAX)] {
            assert!(Sequence::portion(b"abc", &want, 10).is_empty(), "{want:?}");
        }
        assert_eq!(Sequence::portion(b"abc", &word(1), 0)[..], [&word(3)[..], b"b"].concat());
    }
}
