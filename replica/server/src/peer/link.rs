//! The two halves of a connection between replicas: the outgoing one with its queue, and the incoming one.

use super::{MAGIC, MAX_FRAME, Refused};
use crate::listen::{TLS_FIRST_BYTE, last_words};
use crate::refusal::Refusals;
use crate::tls::{self, Names, Port};
use bytes::{Buf, Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use vr_core::ReplicaId;

/// Bytes that may wait for one peer. What comes beyond is dropped: a peer that far behind asks for it again.
const QUEUE_BYTES: usize = 64 << 20;
/// Slices handed to the kernel in one write.
const GATHER: usize = 64;
const RETRY: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_millis(500);
/// For a whole TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes that a refusal's text may have.
const REASON: usize = 512;
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

/// Keeps a connection to replica `id` at `address` and sends what `outbox` holds, for ever; with TLS where there is
/// any, and then only to a certificate that names that replica. `lost` is called each time an established connection
/// breaks.
pub async fn dial(id: ReplicaId, address: String, tls: Option<Arc<Port>>, outbox: Outbox, lost: impl Fn()) {
    let mut wait = RETRY;
    let refusals = Refusals::default();
    loop {
        match link(id, &address, tls.as_deref(), &outbox).await {
            End::Unreachable(error) => tracing::trace!(%address, %error, "peer not reached"),
            End::Lost(error) => {
                tracing::debug!(%address, %error, "connection to peer lost");
                wait = RETRY;
                lost();
            }
            End::Refused(reason) => {
                if let Some(untold) = refusals.due() {
                    tracing::warn!(peer = %id, %address, untold, "no connection to the peer: {reason}");
                }
            }
        }
        outbox.clear();
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// How a connection to a peer ended.
enum End {
    /// It never was.
    Unreachable(std::io::Error),
    /// One side does not want the other.
    Refused(String),
    /// It was there.
    Lost(std::io::Error),
}

impl End {
    fn of(error: std::io::Error, otherwise: fn(std::io::Error) -> End) -> End {
        tls::explain(&error).map_or_else(|| otherwise(error), End::Refused)
    }
}

async fn link(id: ReplicaId, address: &str, tls: Option<&Port>, outbox: &Outbox) -> End {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return End::Unreachable(error),
    };
    if let Err(error) = stream.set_nodelay(true) {
        return End::Unreachable(error);
    }
    // What is older than this connection is repeated by the protocol, or not needed any more.
    let Some((config, name)) = tls.and_then(|port| port.client(id)) else {
        outbox.clear();
        let (reader, writer) = stream.into_split();
        return send(reader, writer, outbox).await;
    };
    let handshake = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => {
            outbox.clear();
            let (reader, writer) = tokio::io::split(stream);
            send(reader, writer, outbox).await
        }
        Ok(Err(error)) => End::of(error, End::Unreachable),
        Err(_too_long) => End::Unreachable(std::io::ErrorKind::TimedOut.into()),
    }
}

async fn send(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    outbox: &Outbox,
) -> End {
    let sending = async {
        writer.write_all(MAGIC).await?;
        writer.flush().await?;
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
            // TLS may still hold the end of the last record.
            writer.flush().await?;
        }
    };
    // The other side sends only why it ends the connection; an end without is how a killed peer shows at once.
    let mut words = Words::default();
    let error = tokio::select! {
        ended = sending => match ended {
            Ok(()) => unreachable!("sends for ever"),
            Err(error) => {
                // It may have said why before it closed.
                let heard = tokio::time::timeout(RETRY, words.hear(&mut reader)).await;
                heard.ok().and_then(Result::err).unwrap_or(error)
            }
        },
        heard = words.hear(&mut reader) => match heard {
            Err(error) => error,
            Ok(()) => std::io::ErrorKind::ConnectionAborted.into(),
        },
    };
    words.said().map_or_else(|| End::of(error, End::Lost), End::Refused)
}

/// What a peer says before it closes.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    /// Until the end of the stream, or until nobody would read more.
    async fn hear(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
        while self.0.len() < REASON && reader.read_buf(&mut self.0).await? > 0 {}
        Ok(())
    }

    fn said(&self) -> Option<String> {
        let text: String = String::from_utf8_lossy(&self.0[..self.0.len().min(REASON)])
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        (!text.trim().is_empty()).then(|| format!("it says: {}", text.trim()))
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

/// Accepts peers for ever and hands each payload to `deliver`, with the replicas that its connection may speak for; an
/// error from it ends that connection. Whoever is refused is told why, and `refused` is called.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Port>>,
    deliver: impl Fn(Bytes, &Names) -> Result<(), Refused> + Clone + 'static,
    refused: impl Fn() + Clone + 'static,
) {
    let refusals = Rc::new(Refusals::default());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (tls, deliver, refusals) = (tls.clone(), deliver.clone(), refusals.clone());
                let refused = refused.clone();
                tokio::task::spawn_local(async move {
                    if let Err(reason) = incoming(stream, tls, deliver).await {
                        refusals.tell("peerAddress", from, &reason.to_string());
                        refused();
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

async fn incoming(
    mut stream: TcpStream,
    tls: Option<Arc<Port>>,
    deliver: impl Fn(Bytes, &Names) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return Ok(());
    }
    let reason = match (tls, first[0] == TLS_FIRST_BYTE) {
        (None, true) => {
            "it speaks TLS and this replica does not: set `tls.peer` for all replicas or for none"
        }
        (Some(_), false) => {
            "it speaks no TLS and this replica requires it: set `tls.peer` for all replicas or for none"
        }
        (None, false) => return serve(stream, &Names::Any, deliver).await,
        (Some(port), true) => {
            let handshake = TlsAcceptor::from(port.server()).accept(stream);
            return match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(stream)) => {
                    let names = port.names(stream.get_ref().1);
                    serve(stream, &names, deliver).await
                }
                // Gone by itself, where there is nothing to explain.
                Ok(Err(error)) => tls::explain(&error).map_or(Ok(()), |why| Err(Refused::Tls(why))),
                Err(_too_long) => Err(Refused::Tls(format!("no whole TLS handshake within {HANDSHAKE:?}"))),
            };
        }
    };
    last_words(&mut stream, reason.as_bytes()).await;
    Err(Refused::Tls(reason.to_owned()))
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    names: &Names,
    deliver: impl Fn(Bytes, &Names) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let end = receive(&mut stream, |payload| deliver(payload, names)).await;
    if let Err(reason) = &end {
        last_words(&mut stream, reason.to_string().as_bytes()).await;
    }
    end
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    deliver: impl Fn(Bytes) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let mut magic = [0; MAGIC.len()];
    if stream.read_exact(&mut magic).await.is_err() {
        return Ok(());
    }
    let [start @ .., version] = magic;
    match MAGIC {
        [ours @ .., _] if *ours != start => {
            return Err(Refused::NoPeer { began: magic.escape_ascii().to_string() });
        }
        [.., ours] if *ours != version => {
            return Err(Refused::Version { theirs: version, ours: *ours });
        }
        _ => {}
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
