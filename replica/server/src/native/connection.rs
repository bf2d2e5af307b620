//! One native client's connection: Hello and Welcome, then requests in and answers out, as many to a frame as there are.

use super::link::{Link, encode};
use super::requests;
use crate::etcd::native::{Asked, answer, asked};
use crate::listen::last_words;
use crate::node;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use vr_core::{Incarnation, SessionId};
use vr_proto::client::{Answer, Fate, ToClient, ToReplica, answer::Outcome};
use vr_proto::etcdserverpb::RequestOp;
use vr_proto::frame;
use vr_store::StoreError;

const READ: usize = 256 << 10;
/// How long a client waits for its session before it is to try elsewhere.
const REGISTER: Duration = Duration::from_secs(2);
/// Between two looks whether it has it.
const LOOK: Duration = Duration::from_millis(2);
/// For a Hello to arrive, and its bytes.
const HELLO: (Duration, usize) = (Duration::from_secs(10), 1 << 10);
/// Unanswered requests of one connection.
const WINDOW: usize = vr_core::WINDOW as usize / 2;

/// Serves one client, whose first bytes after the magic are in `buffer`.
///
/// # Errors
/// Why the connection had to end; the client is told. One that ends by itself is no error.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    buffer: BytesMut,
) -> Result<(), String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    let end = talk(&mut reader, &mut writer, buffer, &mut out).await;
    if let Err(reason) = &end {
        // After what is left of the answers, the last of which may have been written in part.
        encode(&ToClient { refused: reason.clone(), ..ToClient::default() }, &mut out);
        last_words(&mut tokio::io::join(reader, writer), &out).await;
    }
    end
}

async fn talk<S: AsyncRead + AsyncWrite>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    mut buffer: BytesMut,
    out: &mut BytesMut,
) -> Result<(), String> {
    let first = tokio::time::timeout(HELLO.0, next(reader, &mut buffer, HELLO.1)).await;
    let first = first.map_err(|_too_long| format!("no Hello within {:?}", HELLO.0))?;
    let Some(first) = first? else { return Ok(()) };
    let hello =
        ToReplica::decode(first).map_err(|e| e.to_string())?.hello.ok_or("it began without a Hello")?;
    if !SessionId::names_client(hello.client) {
        return Err(format!("{} is no number for a client: its highest bit is not set", hello.client));
    }
    let named = SessionId { client: hello.client, incarnation: Incarnation(hello.opened) };
    let session = if hello.opened > 0 {
        Some(named)
    } else {
        tokio::select! {
            session = opened(hello.client) => session,
            // It is somewhere else by now, perhaps on another connection to here, which must not be ended for this one.
            () = closed(reader, &mut buffer) => {
                node::try_with(|node| node.native_gives_up(hello.client));
                return Ok(());
            }
        }
    };
    // The client tries elsewhere.
    let session = session.ok_or("no session could be opened: no primary is known here")?;
    let link = Link::default();
    let Some(welcome) = node::try_with(|node| node.welcome(session, &link)) else { return Ok(()) };
    let leave = Leave(session, link.clone());
    encode(&ToClient { welcome: Some(welcome), ..ToClient::default() }, out);
    let writing = async {
        loop {
            // TLS may still hold the end of the last record.
            let written = writer.write_all_buf(out).await.is_ok() && writer.flush().await.is_ok();
            if !written {
                return Ok(());
            }
            link.written();
            link.rung().await;
            // Let everything that is runnable answer first: one write for all of it.
            tokio::task::yield_now().await;
            link.take(out);
        }
    };
    let reading = async {
        while link.room().await
            && let Some(payload) = next(reader, &mut buffer, frame::MAX_FRAME).await?
        {
            take(session, payload, &link)?;
        }
        Ok(())
    };
    // Whoever does not take its answers must not keep a connection that has no session any more.
    let end = tokio::select! { end = writing => end, end = reading => end, () = link.is_over() => Ok(()) };
    drop(leave);
    end
}

/// Lets go of the session when the connection ends, however it does.
struct Leave(SessionId, Link);

impl Drop for Leave {
    fn drop(&mut self) {
        self.1.end();
        node::try_with(|node| node.native_left(self.0, &self.1));
    }
}

async fn next<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    buffer: &mut BytesMut,
    most: usize,
) -> Result<Option<Bytes>, String> {
    loop {
        if let Some(payload) = frame::next_payload_within(buffer, most)? {
            return Ok(Some(payload));
        }
        buffer.reserve(READ / 4);
        match reader.read_buf(buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// Waits until the client has closed the connection. It has nothing to say before it is welcome, but may say it.
async fn closed<S: AsyncRead>(reader: &mut ReadHalf<S>, buffer: &mut BytesMut) {
    while buffer.len() < HELLO.1 {
        buffer.reserve(HELLO.1);
        if !reader.read_buf(buffer).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    std::future::pending().await
}

/// Opens a session for a client, if that is possible soon.
async fn opened(client: u64) -> Option<SessionId> {
    let deadline = tokio::time::Instant::now() + REGISTER;
    while tokio::time::Instant::now() < deadline {
        if let Some(session) = node::try_with(|node| node.native_register(client))? {
            return Some(session);
        }
        tokio::time::sleep(LOOK).await;
    }
    node::try_with(|node| node.native_gives_up(client));
    None
}

fn take(session: SessionId, payload: Bytes, link: &Link) -> Result<(), String> {
    let most = node::try_with(|node| node.config.max_request_bytes).ok_or("stopping")?;
    let pieces = requests::of(payload, (2 * WINDOW).saturating_sub(link.unanswered()))?;
    link.asked(pieces.len());
    let mut writes = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let number = piece.number;
        let Some(op) = piece.op(most)? else {
            link.refuse(number, &StoreError::RequestTooLarge);
            continue;
        };
        match asked(&op, most) {
            Ok(Asked::Write(body)) => writes.push((number, body)),
            Ok(Asked::Read) => {
                let link = link.clone();
                // It may wait, and its keys are slices of the whole frame.
                let op = RequestOp::decode(&op.encode_to_vec()[..]).map_err(|e| e.to_string())?;
                tokio::task::spawn_local(async move {
                    let Ok(_one_of_few) = link.may_read().await else { return };
                    if !link.room().await {
                        return;
                    }
                    match answer(&op).await {
                        Ok(Ok(response)) => {
                            link.answer(Answer { number: number.0, outcome: Some(Outcome::Ok(response)) });
                        }
                        Ok(Err(error)) => link.refuse(number, &error),
                        // A read that cannot be confirmed now: the client asks again.
                        Err(_unconfirmed) => link.fate(number, Fate::Rejected),
                    }
                });
            }
            Err(error) => link.refuse(number, &error),
        }
    }
    node::try_with(|node| node.native_requests(session, writes, link));
    Ok(())
}
