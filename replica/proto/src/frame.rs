//! Frames: how messages follow each other on a connection between replicas, and between clients and replicas.
//!
//! ```text
//! 4 bytes length of the payload, 4 bytes CRC32C of it (both little-endian), payload (a protobuf)
//! ```
//!
//! It promises that a payload comes out whole and as it was put in, or that the connection's end is asked for. What is in
//! it is checked elsewhere.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A frame above this is a fault of the sender: the largest legitimate one is a batch around one request of the
/// largest size, or a portion of state.
pub const MAX_FRAME: usize = 64 << 20;
/// Room made at a time for a frame that has not arrived.
const AHEAD: usize = 1 << 20;
/// Bytes after which whoever has more to say begins another frame.
pub const FULL: usize = 1 << 20;
/// Bytes before the payload.
pub const HEAD: usize = 8;

/// Begins a frame; the payload is to be appended. For [`end`].
pub fn begin(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_bytes(0, HEAD);
    start
}

/// Ends the frame that [`begin`] began at `start`.
pub fn end(out: &mut BytesMut, start: usize) {
    let payload = &out[start + HEAD..];
    let len = u32::try_from(payload.len()).expect("far below 4 GiB");
    let crc = crc32c::crc32c(payload);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&crc.to_le_bytes());
}

/// Takes one whole frame's payload off the front; `None` while it has not arrived.
///
/// # Errors
/// What is wrong with it; nothing that follows can be trusted.
pub fn next_payload(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    next_payload_within(buffer, MAX_FRAME)
}

/// The same where a frame has at most `most` bytes, as from somebody who has not said yet who it is.
///
/// # Errors
/// Those of [`next_payload`].
pub fn next_payload_within(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, String> {
    let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let len = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let crc = u32::from_le_bytes(head[4..].try_into().expect("four bytes"));
    if len > most {
        return Err(format!("a frame of {len} bytes; the limit is {most}"));
    }
    if buffer.len() < HEAD + len {
        // Only a little ahead: a length is said at no cost, the bytes have to come.
        buffer.reserve((HEAD + len - buffer.len()).min(AHEAD));
        return Ok(None);
    }
    buffer.advance(HEAD);
    let payload = buffer.split_to(len).freeze();
    if crc32c::crc32c(&payload) != crc {
        return Err("a frame's checksum is wrong".to_owned());
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::from(&b"before"[..]);
        let start = begin(&mut out);
        out.extend_from_slice(payload);
        end(&mut out, start);
        out.split_off(start)
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let stream: Vec<u8> = [framed(b"one"), framed(b""), framed(&[7; 1000])].concat();
        for step in [1, 3, 11, 5000] {
            let (mut buffer, mut out) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(payload) = next_payload(&mut buffer).expect("well formed") {
                    out.push(payload.len());
                }
            }
            assert_eq!(out, [3, 0, 1000]);
        }
    }

    #[test]
    fn damaged_frames_are_refused() {
        let mut flipped = framed(b"one");
        flipped[9] ^= 1;
        assert!(next_payload(&mut flipped).expect_err("checksum").contains("checksum"));
        assert!(next_payload_within(&mut framed(&[7; 11]), 10).expect_err("limit").contains("limit is 10"));
        let huge = [0xff; 16];
        assert!(next_payload(&mut BytesMut::from(&huge[..])).expect_err("limit").contains("limit"));
    }

    #[test]
    fn a_length_alone_makes_no_room() {
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(MAX_FRAME as u32);
        buffer.put_u32_le(0);
        assert_eq!(next_payload(&mut buffer), Ok(None));
        assert!(buffer.capacity() < 4 * AHEAD, "{}", buffer.capacity());
    }
}
