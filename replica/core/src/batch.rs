//! A batch of requests as bytes: the body of a [`Kind::Requests`](crate::Kind::Requests) entry and of a `Forward`.
//!
//! Each request is client, incarnation and number (u64 each), length (u32), bytes; little-endian, one after another.
//! Number 0 is a Register, and carries nothing.

use crate::codec::{DecodeError, Reader};
use crate::ids::{Incarnation, RequestNumber, SessionId};

/// Bytes that a request takes beside its body.
pub const REQUEST_BYTES: usize = 8 + 8 + 8 + 4;

/// The largest number of requests in one batch; a longer one is malformed.
pub const MAX_REQUESTS: usize = 1 << 20;

/// One request of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks.
    pub session: SessionId,
    /// Which of its requests.
    pub number: RequestNumber,
    /// What is asked.
    pub body: &'a [u8],
}

/// Appends one request.
pub fn push(batch: &mut Vec<u8>, session: SessionId, number: RequestNumber, body: &[u8]) {
    batch.reserve(REQUEST_BYTES + body.len());
    batch.extend_from_slice(&session.client.to_le_bytes());
    batch.extend_from_slice(&session.incarnation.0.to_le_bytes());
    batch.extend_from_slice(&number.0.to_le_bytes());
    batch.extend_from_slice(&(body.len() as u32).to_le_bytes());
    batch.extend_from_slice(body);
}

/// The requests of a batch, in order; it ends after the first error.
#[must_use]
pub fn requests(batch: &[u8]) -> Requests<'_> {
    Requests { reader: Some(Reader::new("a batch of requests", batch)) }
}

/// Whether bytes are a batch.
///
/// # Errors
/// When they are not.
pub fn check(batch: &[u8]) -> Result<(), DecodeError> {
    let mut count = 0;
    for request in requests(batch) {
        request?;
        count += 1;
        if count > MAX_REQUESTS {
            return Err(DecodeError::Value { what: "a batch's number of requests", value: count as u64 });
        }
    }
    Ok(())
}

/// Iterator over a batch; see [`requests`].
pub struct Requests<'a> {
    reader: Option<Reader<'a>>,
}

impl<'a> Iterator for Requests<'a> {
    type Item = Result<Request<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        if reader.is_empty() {
            return None;
        }
        let request = read(reader);
        if request.is_err() {
            self.reader = None;
        }
        Some(request)
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Result<Request<'a>, DecodeError> {
    let session = SessionId { client: reader.u64()?, incarnation: Incarnation(reader.u64()?) };
    let number = RequestNumber(reader.u64()?);
    let len = reader.u32()? as usize;
    if number == RequestNumber::REGISTER && len > 0 {
        return Err(DecodeError::Value { what: "the length of a Register", value: len as u64 });
    }
    Ok(Request { session, number, body: reader.take(len)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_in_order() {
        let session = SessionId { client: 4, incarnation: Incarnation(9) };
        let mut batch = Vec::new();
        push(&mut batch, session, RequestNumber(1), b"one");
        push(&mut batch, session, RequestNumber(2), b"");
        let read: Vec<_> = requests(&batch).map(|r| r.map(|r| (r.session, r.number.0, r.body))).collect();
        assert_eq!(read, [Ok((session, 1, &b"one"[..])), Ok((session, 2, &b""[..]))]);
        assert_eq!(check(&batch), Ok(()));
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn a_cut_batch_and_a_register_with_a_body_are_refused() {
        let mut batch = Vec::new();
        push(&mut batch, SessionId::default(), RequestNumber(1), b"one");
        for len in 1..batch.len() {
            assert!(check(&batch[..len]).is_err(), "{len}");
            assert_eq!(requests(&batch[..len]).count(), 1, "it must end at the error");
        }
        let mut register = Vec::new();
        push(&mut register, SessionId::default(), RequestNumber::REGISTER, b"");
        assert_eq!(check(&register), Ok(()));
        push(&mut register, SessionId::default(), RequestNumber::REGISTER, b"one");
        assert!(check(&register).is_err());
    }
}
