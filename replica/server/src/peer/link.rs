//! The two halves of a connection between replicas: the outgoing one with its queue, and the incoming one.

use super::{MAGIC, MAX_FRAME};
use bytes::{Buf, Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes that may wait for one peer. What comes beyond is dropped: a peer that far behind asks for it again.
const QUEUE_BYTES: usize = 64 << 20;
/// Slices handed to the kernel in one write.
const GATHER: usize = 64;
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_millis(500);
const READ: usize = 256 << 10;

/// What waits to be sent to one peer. Frames are shared between peers, never copied.
#[derive(Clone, Default)]
pub struct Outbox(Rc<Queue>);

#[derive(Default)]
struct Queue {
    frames: RefCell<(VecDeque<Bytes>, usize)>,
    wake: Notify,
}

impl Outbox {
    /// Queues a frame; `false` if the queue is full and the frame was dropped.
    pub fn push(&self, frame: Bytes) -> bool {
        let mut queue = self.0.frames.borrow_mut();
        if queue.1 + frame.len() > QUEUE_BYTES {
            return false;
        }
        queue.1 += frame.len();
        queue.0.push_back(frame);
        drop(queue);
        self.0.wake.notify_one();
        true
    }

    fn clear(&self) {
        *self.0.frames.borrow_mut() = (VecDeque::new(), 0);
    }

    /// Takes what one gathered write can carry.
    fn take(&self, into: &mut VecDeque<Bytes>) {
        let mut queue = self.0.frames.borrow_mut();
        while into.len() < GATHER {
            let Some(frame) = queue.0.pop_front() else { break };
            queue.1 -= frame.len();
            into.push_back(frame);
        }
    }
}

/// Keeps a connection to `address` and sends what `outbox` holds, for ever. `lost` is called each time an established
/// connection breaks.
pub async fn dial(address: String, outbox: Outbox, lost: impl Fn()) {
    let mut wait = RETRY;
    loop {
        match TcpStream::connect(&address).await {
            Ok(stream) => {
                wait = RETRY;
                outbox.clear();
                let error = send(stream, &outbox).await;
                tracing::debug!(%address, %error, "connection to peer lost");
                lost();
            }
            Err(error) => {
                tracing::trace!(%address, %error, "peer not reached");
                outbox.clear();
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

async fn send(stream: TcpStream, outbox: &Outbox) -> std::io::Error {
    if let Err(error) = stream.set_nodelay(true) {
        return error;
    }
    let (mut reader, mut writer) = stream.into_split();
    // The other side never sends; an end of its stream is how a killed peer shows at once.
    let mut nothing = [0u8; 1];
    let sending = async {
        writer.write_all(MAGIC).await?;
        let mut gathered = VecDeque::with_capacity(GATHER);
        loop {
            outbox.0.wake.notified().await;
            // Let everything that is runnable now queue its frames first: one write for all of them.
            tokio::task::yield_now().await;
            loop {
                outbox.take(&mut gathered);
                if gathered.is_empty() {
                    break;
                }
                write_gathered(&mut writer, &mut gathered).await?;
            }
        }
    };
    tokio::select! {
        ended = sending => match ended {
            Ok(()) => unreachable!("sends for ever"),
            Err(error) => error,
        },
        read = reader.read(&mut nothing) => match read {
            Err(error) => error,
            Ok(_) => std::io::ErrorKind::ConnectionAborted.into(),
        },
    }
}

async fn write_gathered(
    writer: &mut (impl AsyncWriteExt + Unpin),
    frames: &mut VecDeque<Bytes>,
) -> std::io::Result<()> {
    while !frames.is_empty() {
        let mut slices = [IoSlice::new(&[]); GATHER];
        for (slice, frame) in slices.iter_mut().zip(frames.iter()) {
            *slice = IoSlice::new(frame);
        }
        let mut written = writer.write_vectored(&slices[..frames.len().min(GATHER)]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let first = frames.front_mut().expect("what was written was in the queue");
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if first.is_empty() {
                frames.pop_front();
            }
        }
    }
    Ok(())
}

/// Accepts peers for ever and hands each payload to `deliver`; an error from it ends that connection.
pub async fn accept(listener: TcpListener, deliver: impl Fn(Bytes) -> Result<(), String> + Clone + 'static) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let deliver = deliver.clone();
                tokio::task::spawn_local(async move {
                    if let Err(reason) = receive(stream, deliver).await {
                        tracing::warn!(%from, reason, "connection from a peer ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "cannot accept peers");
                tokio::time::sleep(RETRY_MOST).await;
            }
        }
    }
}

async fn receive(mut stream: TcpStream, deliver: impl Fn(Bytes) -> Result<(), String>) -> Result<(), String> {
    let mut magic = [0; MAGIC.len()];
    if stream.read_exact(&mut magic).await.is_err() {
        return Ok(());
    }
    if &magic != MAGIC {
        return Err(format!(
            "not a peer of this version: it began with {:?}",
            magic.escape_ascii().to_string()
        ));
    }
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        // Nothing keeps a slice of it for long, so this finds the same memory again.
        buffer.reserve(READ / 4);
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        while let Some(payload) = next_payload(&mut buffer)? {
            deliver(payload)?;
        }
    }
}

/// Takes one whole frame's payload off the front.
fn next_payload(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(head) = buffer.first_chunk::<8>() else { return Ok(None) };
    let len = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let crc = u32::from_le_bytes(head[4..].try_into().expect("four bytes"));
    if len > MAX_FRAME {
        return Err(format!("a frame of {len} bytes; the limit is {MAX_FRAME}"));
    }
    if buffer.len() < 8 + len {
        buffer.reserve(8 + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(8);
    let payload = buffer.split_to(len).freeze();
    if crc32c::crc32c(&payload) != crc {
        return Err("a frame's checksum is wrong".to_owned());
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend(crc32c::crc32c(payload).to_le_bytes());
        bytes.extend(payload);
        bytes
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
    fn damaged_frames_end_the_connection() {
        let mut flipped = framed(b"one");
        flipped[9] ^= 1;
        assert!(next_payload(&mut BytesMut::from(&flipped[..])).expect_err("checksum").contains("checksum"));
        let huge = [0xff; 16];
        assert!(next_payload(&mut BytesMut::from(&huge[..])).expect_err("limit").contains("limit"));
    }

    #[test]
    fn a_full_queue_drops() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; QUEUE_BYTES / 2]);
        assert!(outbox.push(frame.clone()));
        assert!(outbox.push(frame));
        assert!(!outbox.push(Bytes::from_static(b"x")));
    }
}
