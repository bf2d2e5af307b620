//! The requests of a frame, told apart before any of them is looked into.
//!
//! A few bytes on the wire may be hundreds in memory once they are decoded: an empty request is two bytes. So they are
//! counted and measured as they stand, and what is too many or too long is never decoded.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message as _};
use vr_core::RequestNumber;
use vr_proto::client::Request;
use vr_proto::etcdserverpb::RequestOp;

/// Field numbers in `ToReplica`.
const HELLO: u32 = 1;
const REQUESTS: u32 = 2;
/// Field number in `Request`.
const NUMBER: u32 = 1;
/// What a request may take beside the largest command.
const AROUND: usize = 1 << 10;

/// One request of a frame, not decoded. Its number is one that requests have.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) number: RequestNumber,
    bytes: Bytes,
}

impl Piece {
    /// The operation; `None` if it is longer than any command may be. What its parts take in memory is many times their
    /// length: one is to be done with before the next is decoded.
    ///
    /// # Errors
    /// For the client, whose connection ends.
    pub(super) fn op(self, bytes: usize) -> Result<Option<RequestOp>, String> {
        if self.bytes.len() > bytes.saturating_add(AROUND) {
            return Ok(None);
        }
        Ok(Some(Request::decode(self.bytes).map_err(words)?.op.unwrap_or_default()))
    }
}

/// The requests of a frame, at most `most` of them.
///
/// # Errors
/// For the client, whose connection ends.
pub(super) fn of(mut frame: Bytes, most: usize) -> Result<Vec<Piece>, String> {
    let mut requests = Vec::new();
    while frame.has_remaining() {
        match decode_key(&mut frame).map_err(words)? {
            (HELLO, _) => return Err("a second Hello".to_owned()),
            (REQUESTS, WireType::LengthDelimited) => {
                if requests.len() == most {
                    return Err(format!("more requests at a time than {most}, which are served"));
                }
                requests.push(piece(whole(&mut frame)?)?);
            }
            (field, wire) => skip_field(wire, field, &mut frame, DecodeContext::default()).map_err(words)?,
        }
    }
    Ok(requests)
}

fn words(error: DecodeError) -> String {
    error.to_string()
}

/// A length and as many bytes.
fn whole(frame: &mut Bytes) -> Result<Bytes, String> {
    let len = usize::try_from(decode_varint(frame).map_err(words)?).unwrap_or(usize::MAX);
    if len > frame.len() {
        return Err(format!("a request of {len} bytes in a frame that has {} left", frame.len()));
    }
    Ok(frame.split_to(len))
}

fn piece(bytes: Bytes) -> Result<Piece, String> {
    let number = number(bytes.clone())?;
    if !number.is_of_request() {
        return Err(format!(
            "{number} is no number of a request: they go from 1 to {}",
            RequestNumber::HIGHEST
        ));
    }
    Ok(Piece { number, bytes })
}

/// Its number, and nothing else of it.
fn number(mut request: Bytes) -> Result<RequestNumber, String> {
    let mut number = 0;
    while request.has_remaining() {
        match decode_key(&mut request).map_err(words)? {
            (NUMBER, WireType::Varint) => number = decode_varint(&mut request).map_err(words)?,
            (field, wire) => {
                skip_field(wire, field, &mut request, DecodeContext::default()).map_err(words)?
            }
        }
    }
    Ok(RequestNumber(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_proto::client::{Hello, ToReplica};
    use vr_proto::etcdserverpb::{PutRequest, request_op};

    fn request(number: u64, bytes: usize) -> Request {
        let put = PutRequest { key: "k".into(), value: vec![7; bytes].into(), ..PutRequest::default() };
        Request { number, op: Some(RequestOp { request: Some(request_op::Request::RequestPut(put)) }) }
    }

    fn frame(requests: &[Request]) -> Bytes {
        ToReplica { hello: None, requests: requests.to_vec() }.encode_to_vec().into()
    }

    #[test]
    fn they_come_out_as_they_were_put_in_and_long_ones_by_their_number() {
        let requests = [request(1, 10), request(2, 5_000), request(3, 0)];
        let pieces = of(frame(&requests), 3).expect("well formed");
        let numbers: Vec<u64> = pieces.iter().map(|piece| piece.number.0).collect();
        assert_eq!(numbers, [1, 2, 3]);
        let ops: Vec<_> = pieces.into_iter().map(|piece| piece.op(100).expect("well formed")).collect();
        let [one, _, three] = requests.clone();
        assert_eq!(ops, [one.op, None, three.op]);
        // A field that a newer client may send.
        let newer: Bytes = [&frame(&requests[..1])[..], &[0x18, 0x01]].concat().into();
        assert_eq!(of(newer, 3).map(|requests| requests.len()), Ok(1));
        let damaged: Bytes = [&[0x12, 5][..], &[0x08, 1, 0x12, 1, 0xff]].concat().into();
        let refused = of(damaged, 3).and_then(|pieces| pieces.into_iter().map(|p| p.op(100)).collect());
        assert!(matches!(refused, Err::<Vec<_>, _>(reason) if reason.contains("decode")));
    }

    #[test]
    fn what_is_no_frame_of_requests_is_refused_in_words() {
        let hello = ToReplica { hello: Some(Hello::default()), requests: Vec::new() };
        let whole = frame(&[request(1, 10)]);
        let strange = |number| frame(&[request(number, 10)]);
        for (bad, reason) in [
            ([0x12, 2, 0x08, 1].repeat(4).into(), "more requests at a time than 3"),
            (hello.encode_to_vec().into(), "second Hello"),
            (whole.slice(..whole.len() - 1), "bytes in a frame that has"),
            (Bytes::from_static(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), "in a frame"),
            (Bytes::from_static(&[0xff, 0xff]), "failed to decode"),
            (strange(0), "0 is no number of a request"),
            (strange(RequestNumber::HIGHEST.0 + 1), "is no number of a request"),
            (frame(&[request(0, 5_000)]), "0 is no number of a request"),
        ] {
            let refused = of(bad, 3).expect_err(reason);
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
    }
}
