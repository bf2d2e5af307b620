//! The client's task: keeps one connection, to the primary if it can, and moves on when it breaks.

use crate::session::{Call, Session};
use crate::{Options, Problem};
use bytes::BytesMut;
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use vr_proto::client::{MAGIC, ToClient, ToReplica, Welcome};
use vr_proto::frame;

const READ: usize = 256 << 10;
/// Between two attempts to connect, and before a request is repeated that a replica would not take.
const PAUSE: Duration = Duration::from_millis(20);
/// For a connection to be made and welcomed; a replica without a primary takes its time to say nothing.
const CONNECT: Duration = Duration::from_secs(3);

/// A connection, whatever it is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Link {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
}

/// Serves the calls until nobody can make any more and all are answered.
pub(crate) async fn run(options: Options, mut session: Session, problem: Problem) {
    let count = options.endpoints.len();
    let mut at = 0;
    // How many endpoints in a row were left because another one leads.
    let mut passed = 0;
    // Nobody has asked yet, or nobody will.
    let Some(mut first) = session.calls.recv().await.map(Some) else { return };
    if count == 0 {
        problem.is(Some("no endpoint is given".to_owned()));
        session.reject_all(first).await;
        return;
    }
    loop {
        let endpoint = &options.endpoints[at];
        let welcomed = tokio::time::timeout(CONNECT, connect(endpoint, &options, &mut session)).await;
        let welcomed = welcomed.unwrap_or_else(|_too_long| Err(format!("no answer within {CONNECT:?}")));
        problem.is(welcomed.as_ref().err().map(|reason| format!("{endpoint}: {reason}")));
        if let Ok((mut link, welcome)) = welcomed {
            let elsewhere = welcome.primary != 0 && welcome.primary != welcome.replica;
            if elsewhere && passed + 1 < count {
                passed += 1;
                at = (at + 1) % count;
                continue;
            }
            passed = 0;
            if serve(&mut link, &options, &mut session, &mut first).await {
                return;
            }
        }
        // Whoever asked may have gone meanwhile, and nobody else can come.
        if session.is_abandoned(first.as_ref()) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        at = (at + 1) % count;
    }
}

async fn dial(endpoint: &str, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(Box::new(stream)) };
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config.clone()).connect(name, stream).await?))
}

async fn connect(
    endpoint: &str,
    options: &Options,
    session: &mut Session,
) -> Result<(Link, Welcome), String> {
    let stream = dial(endpoint, options.tls.as_ref()).await.map_err(|e| e.to_string())?;
    let mut link = Link { stream, buffer: BytesMut::with_capacity(READ) };
    let mut out = BytesMut::from(&MAGIC[..]);
    let start = frame::begin(&mut out);
    let hello = ToReplica { hello: Some(session.hello()), ..ToReplica::default() };
    hello.encode(&mut out).map_err(|e| e.to_string())?;
    frame::end(&mut out, start);
    link.stream.write_all(&out).await.map_err(|e| e.to_string())?;
    loop {
        if let Some(payload) = frame::next_payload(&mut link.buffer)? {
            let message = ToClient::decode(payload).map_err(|e| e.to_string())?;
            if !message.refused.is_empty() {
                return Err(format!("it says: {}", message.refused));
            }
            let welcome = message.welcome.ok_or("it began without a Welcome")?;
            let hello = session.hello();
            session.welcomed(&welcome)?;
            // A restored database: the session that was asked for is of the past.
            return if session.hello().client == hello.client {
                Ok((link, welcome))
            } else {
                Err("begin anew".into())
            };
        }
        if link.stream.read_buf(&mut link.buffer).await.map_or(0, |read| read) == 0 {
            return Err("it ended the connection: is it the client port of a VR replica?".to_owned());
        }
    }
}

/// Writes a part of `out`; once it is empty, what TLS may still hold of it.
async fn write_some(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write_buf(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

/// Until the connection breaks; `true` if everything is done for good.
async fn serve(link: &mut Link, options: &Options, session: &mut Session, first: &mut Option<Call>) -> bool {
    let Link { stream, buffer } = link;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    let mut taken: Vec<Call> = Vec::new();
    session.resend();
    first.take().into_iter().for_each(|call| session.take(call));
    let mut closed = false;
    let mut heard = Instant::now();
    let mut repeat_at: Option<Instant> = None;
    let mut unflushed = false;
    loop {
        if out.len() < READ {
            session.send(&mut out);
        }
        if closed && session.unanswered() == 0 {
            return true;
        }
        if session.has_rejected() && repeat_at.is_none() {
            repeat_at = Some(Instant::now() + PAUSE);
        }
        let room = session.room();
        let silent = heard + options.silence;
        let deadline = repeat_at.map_or(silent, |at| at.min(silent));
        tokio::select! {
            // Answers first: they make room.
            biased;
            read = reader.read_buf(buffer) => {
                if read.map_or(0, |read| read) == 0 {
                    return false;
                }
                loop {
                    match frame::next_payload(buffer) {
                        Ok(Some(payload)) => {
                            let Ok(message) = ToClient::decode(payload) else { return false };
                            for answer in message.answers {
                                if session.answered(answer) {
                                    heard = Instant::now();
                                }
                            }
                            if message.forgotten {
                                session.forgotten();
                                return false;
                            }
                        }
                        Ok(None) => break,
                        Err(_) => return false,
                    }
                }
                if !buffer.is_empty() {
                    // A part of a large answer.
                    heard = Instant::now();
                }
                buffer.reserve(READ / 4);
            }
            written = write_some(&mut writer, &mut out), if !out.is_empty() || unflushed => {
                let Ok(written) = written else { return false };
                unflushed = written > 0;
                if !out.is_empty() {
                    // Something large may be on its way for longer than the silence that is borne.
                    heard = Instant::now();
                }
            }
            count = session.calls.recv_many(&mut taken, room), if room > 0 && !closed && out.len() < READ => {
                closed = count == 0;
                if session.unanswered() == 0 {
                    heard = Instant::now();
                }
                taken.drain(..).for_each(|call| session.take(call));
            }
            () = tokio::time::sleep_until(deadline), if repeat_at.is_some() || session.unanswered() > 0 => {
                let now = Instant::now();
                if repeat_at.is_some_and(|at| at <= now) {
                    repeat_at = None;
                    session.resend_rejected();
                } else if now >= silent {
                    return false;
                }
            }
        }
    }
}
