//! The two halves of a connection between replicas: the outgoing one with its queue, and the incoming one.

use super::{MAGIC, Outbox, Refused};
use crate::keepalive;
use crate::listen::{TLS_FIRST_BYTE, last_words};
use crate::refusal::Refusals;
use crate::tls::{self, Names, Port};
use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use vr_core::ReplicaId;
use vr_proto::frame;

const RETRY: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_millis(500);
/// For a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// For a whole TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes that a refusal's text may have.
const REASON: usize = 512;
const READ: usize = 256 << 10;
/// An empty frame: after answers, what follows is why the connection ends.
const WORDS_FOLLOW: [u8; 8] = [0; 8];

/// Keeps a connection to replica `id` at `address` and sends what `outbox` holds, for ever; with TLS where there is
/// any, and then only to a certificate that names that replica. What the other side answers goes to `deliver`, with the
/// replicas that the connection may speak for; `lost` is called each time an established connection breaks.
pub async fn dial(
    id: ReplicaId,
    address: String,
    tls: Option<Arc<Port>>,
    outbox: Outbox,
    deliver: impl Fn(Bytes, &Names) -> Result<(), Refused>,
    lost: impl Fn(),
) {
    let mut wait = RETRY;
    let refusals = Refusals::default();
    loop {
        match link(id, &address, tls.as_deref(), &outbox, &deliver).await {
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
        outbox.close();
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

async fn link(
    id: ReplicaId,
    address: &str,
    tls: Option<&Port>,
    outbox: &Outbox,
    deliver: impl Fn(Bytes, &Names) -> Result<(), Refused>,
) -> End {
    // A peer's name may still lead to where it was before: nobody refuses there, and the system would try for minutes.
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return End::Unreachable(error),
        Err(_too_long) => return End::Unreachable(std::io::ErrorKind::TimedOut.into()),
    };
    let set = keepalive::PEERS.set(&stream).map_err(Into::into).and_then(|()| stream.set_nodelay(true));
    if let Err(error) = set {
        return End::Unreachable(error);
    }
    let secured = tls.and_then(|port| port.client(id).map(|(config, name)| (port, config, name)));
    let Some((port, config, name)) = secured else {
        outbox.open();
        let (reader, writer) = stream.into_split();
        return send(reader, writer, outbox, |payload| deliver(payload, &Names::Any)).await;
    };
    let handshake = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => {
            outbox.open();
            let names = port.names(stream.get_ref().1);
            let (reader, writer) = tokio::io::split(stream);
            send(reader, writer, outbox, |payload| deliver(payload, &names)).await
        }
        Ok(Err(error)) => End::of(error, End::Unreachable),
        Err(_too_long) => End::Unreachable(std::io::ErrorKind::TimedOut.into()),
    }
}

async fn send(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    outbox: &Outbox,
    deliver: impl Fn(Bytes) -> Result<(), Refused>,
) -> End {
    let mut begun = VecDeque::from([Bytes::from_static(MAGIC)]);
    let sending = outbox.drain_into(&mut begun, &mut writer);
    let mut hearing = Hearing::default();
    tokio::select! {
        Err(error) = sending => {
            // It may have said why before it closed.
            let heard = tokio::time::timeout(RETRY, hearing.hear(&mut reader, deliver)).await;
            heard.unwrap_or_else(|_silent| hearing.end(error))
        }
        // An end without a word is how a killed peer shows at once.
        end = hearing.hear(&mut reader, &deliver) => end,
    }
}

/// What comes back over a connection that this replica has made.
#[derive(Default)]
struct Hearing {
    buffer: BytesMut,
    said: Said,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Answers,
    Words,
}

impl Hearing {
    /// Hands each answer to `deliver`, until the connection ends.
    async fn hear(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        deliver: impl Fn(Bytes) -> Result<(), Refused>,
    ) -> End {
        loop {
            self.buffer.reserve(if self.said == Said::Answers { READ / 4 } else { REASON });
            match reader.read_buf(&mut self.buffer).await {
                Ok(0) => return self.end(std::io::ErrorKind::ConnectionAborted.into()),
                Err(error) => return self.end(error),
                Ok(_) => {}
            }
            if let Err(reason) = self.take_answers(&deliver) {
                return End::Refused(reason.to_string());
            }
            if self.said == Said::Words && self.buffer.len() >= REASON {
                return self.end(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    fn take_answers(&mut self, deliver: impl Fn(Bytes) -> Result<(), Refused>) -> Result<(), Refused> {
        if self.said == Said::Nothing {
            if self.buffer.starts_with(MAGIC) {
                self.buffer.advance(MAGIC.len());
                self.said = Said::Answers;
            } else if !MAGIC.starts_with(&self.buffer) {
                self.said = Said::Words;
            }
        }
        while self.said == Said::Answers
            && let Some(payload) = frame::next_payload(&mut self.buffer)?
        {
            if payload.is_empty() {
                self.said = Said::Words;
            } else {
                deliver(payload)?;
            }
        }
        Ok(())
    }

    /// Why it ended: what the other side has said of it, or else the error.
    fn end(&self, error: std::io::Error) -> End {
        let words: &[u8] = if self.said == Said::Words { &self.buffer } else { &[] };
        let text: String = String::from_utf8_lossy(&words[..words.len().min(REASON)])
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match text.trim() {
            "" => End::of(error, End::Lost),
            text => End::Refused(format!("it says: {text}")),
        }
    }
}

/// Accepts peers for ever and hands each payload to `deliver`, with the replicas that its connection may speak for and a
/// queue for answers over that connection; an error from it ends the connection. Whoever is refused is told why, and
/// `refused` is called.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Port>>,
    deliver: impl Fn(Bytes, &Names, &Outbox) -> Result<(), Refused> + Clone + 'static,
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
    deliver: impl Fn(Bytes, &Names, &Outbox) -> Result<(), Refused>,
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
        (None, false) => {
            let (reader, writer) = stream.into_split();
            return serve(reader, writer, &Names::Any, deliver).await;
        }
        (Some(port), true) => {
            let handshake = TlsAcceptor::from(port.server()).accept(stream);
            return match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(stream)) => {
                    let names = port.names(stream.get_ref().1);
                    let (reader, writer) = tokio::io::split(stream);
                    serve(reader, writer, &names, deliver).await
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
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    names: &Names,
    deliver: impl Fn(Bytes, &Names, &Outbox) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let outbox = Outbox::default();
    let answers = Cell::new(false);
    let mut begun = VecDeque::new();
    let answering = async {
        outbox.filled().await;
        answers.set(true);
        begun.push_back(Bytes::from_static(MAGIC));
        outbox.drain_into(&mut begun, &mut writer).await
    };
    let end = tokio::select! {
        end = receive(&mut reader, |payload| deliver(payload, names, &outbox)) => end,
        // Nobody is there to be told anything.
        Err(_) = answering => return Ok(()),
    };
    if let Err(reason) = &end {
        if answers.get() {
            begun.push_back(Bytes::from_static(&WORDS_FOLLOW));
        }
        begun.push_back(reason.to_string().into());
        let words: Vec<Bytes> = begun.into();
        last_words(&mut tokio::io::join(reader, writer), &words.concat()).await;
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
        while let Some(payload) = frame::next_payload(&mut buffer)? {
            deliver(payload)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Waits until a frame is taken, or until none is any more.
    async fn until(outbox: &Outbox, taken: bool) {
        let waited = async {
            while outbox.push(framed(b"one").freeze()) != taken {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it is noticed");
    }

    /// What would wait for a peer that cannot be reached would be thrown away in the end, and take memory until then.
    #[tokio::test]
    async fn nothing_waits_where_there_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let outbox = Outbox::closed();
        assert!(!outbox.push(framed(b"too early").freeze()));
        let dialling = dial(ReplicaId(2), address, None, outbox.clone(), |_, _| Ok(()), || ());
        let story = async {
            let (mut peer, _) = listener.accept().await.expect("it is dialled");
            until(&outbox, true).await;
            let mut first = [0; MAGIC.len() + 11];
            peer.read_exact(&mut first).await.expect("it sends");
            assert!(first.starts_with(MAGIC) && first.ends_with(b"one"), "{first:?}");
            // From here on nobody is there.
            drop((peer, listener));
            until(&outbox, false).await;
        };
        tokio::select! { () = dialling => unreachable!("for ever"), () = story => {} }
    }

    fn framed(payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        let start = frame::begin(&mut out);
        out.extend_from_slice(payload);
        frame::end(&mut out, start);
        out
    }

    /// What a replica takes from what comes back over a connection in pieces of `step` bytes, and how that ended.
    async fn heard(back: &[u8], step: usize) -> (usize, String) {
        let (mut there, mut here) = tokio::io::duplex(step);
        let answers = Cell::new(0);
        let deliver = |payload: Bytes| match &payload[..] {
            b"bad" => Err(Refused::Malformed("it cannot be meant".to_owned())),
            _ => {
                answers.set(answers.get() + 1);
                Ok(())
            }
        };
        let mut hearing = Hearing::default();
        let talking = async {
            // Whoever has heard enough hangs up.
            let _ = there.write_all(back).await;
            drop(there);
            std::future::pending().await
        };
        let end = tokio::select! {
            end = hearing.hear(&mut here, deliver) => end,
            () = talking => unreachable!("for ever"),
        };
        let how = match end {
            End::Unreachable(error) | End::Lost(error) => error.to_string(),
            End::Refused(reason) => reason,
        };
        (answers.get(), how)
    }

    #[tokio::test]
    async fn what_is_half_written_is_finished_before_the_reason_of_an_end() {
        let (here, there) = tokio::io::duplex(1 << 10);
        let (reader, writer) = tokio::io::split(here);
        let deliver = |payload: Bytes, _: &Names, answers: &Outbox| match &payload[..] {
            b"bad" => Err(Refused::Malformed("it cannot be meant".to_owned())),
            _ => {
                answers.push(framed(&[7; 10 << 10]).freeze());
                Ok(())
            }
        };
        let (mut hears, mut says) = tokio::io::split(there);
        let mut hearing = Hearing::default();
        let answers = Cell::new(0);
        let peer = async {
            says.write_all(&[&MAGIC[..], &framed(b"good")].concat()).await.expect("it listens");
            // By now it writes an answer that nobody reads, and does not fit.
            tokio::time::sleep(Duration::from_millis(20)).await;
            says.write_all(&framed(b"bad")).await.expect("it listens");
            let end = hearing.hear(&mut hears, |_| {
                answers.set(answers.get() + 1);
                Ok(())
            });
            let end = end.await;
            says.shutdown().await.expect("it hears that");
            end
        };
        let (end, served) = tokio::join!(peer, serve(reader, writer, &Names::Any, deliver));
        assert!(matches!(served, Err(Refused::Malformed(_))));
        assert!(matches!(end, End::Refused(why) if why.contains("it cannot be meant")));
        assert_eq!(answers.get(), 1);
    }

    #[tokio::test]
    async fn answers_and_the_reason_of_an_end_are_told_apart() {
        let answers = [&MAGIC[..], &framed(b"one"), &framed(b"two")].concat();
        let last = [&answers[..], &WORDS_FOLLOW, b"no\nmore of this"].concat();
        let bad = [&answers[..], &framed(b"bad"), &framed(b"three")].concat();
        for step in [1, 7, 4096] {
            assert_eq!(heard(b"no\nmore of this", step).await, (0, "it says: no more of this".to_owned()));
            assert_eq!(heard(&last, step).await, (2, "it says: no more of this".to_owned()));
            assert_eq!(heard(&bad, step).await, (2, "it cannot be meant".to_owned()));
            assert_eq!(heard(&answers, step).await, (2, "connection aborted".to_owned()));
            assert_eq!(heard(b"", step).await, (0, "connection aborted".to_owned()));
            let endless = heard(&b"no-".repeat(1000), step).await;
            assert_eq!(endless.1.len(), "it says: ".len() + REASON, "{endless:?}");
        }
    }
}
