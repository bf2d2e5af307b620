//! One native client's connection: Hello and Welcome, then requests in and answers out, as many to a frame as there are.

use super::answer::refusal;
use super::requests;
use crate::etcd::native::{Asked, answer, asked};
use crate::listen::last_words;
use crate::node;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore};
use vr_core::{Incarnation, RequestNumber, SessionId};
use vr_proto::client::{Answer, Fate, Refusal, ToClient, ToReplica, answer::Outcome};
use vr_proto::etcdserverpb::RequestOp;
use vr_proto::frame;
use vr_store::StoreError;

const READ: usize = 256 << 10;
/// Answers that a client has not taken: beyond this, nothing more is read from it, or for it.
const BACKLOG: usize = 16 << 20;
/// Reads of one connection at a time: each holds an answer that is counted only when it is there.
const READS: usize = 16;
/// Bytes of one answer.
const LARGEST: usize = frame::MAX_FRAME - 2 * frame::FULL;
/// How long a client waits for its session before it is to try elsewhere.
const REGISTER: Duration = Duration::from_secs(2);
/// Between two looks whether it has it.
const LOOK: Duration = Duration::from_millis(2);
/// For a Hello to arrive, and its bytes.
const HELLO: (Duration, usize) = (Duration::from_secs(10), 1 << 10);
/// Unanswered requests of one connection.
const WINDOW: usize = vr_core::WINDOW as usize / 2;

/// The way to a connected client.
#[derive(Clone, Default)]
pub(crate) struct Link(Rc<Out>);

struct Out {
    answers: RefCell<Vec<Answer>>,
    forgotten: Cell<bool>,
    bytes: Cell<usize>,
    unanswered: Cell<usize>,
    bell: Notify,
    /// Rung when answers were taken, and at the end.
    taken: Notify,
    reads: Semaphore,
    over: Cell<bool>,
}

impl Default for Out {
    fn default() -> Out {
        Out {
            answers: RefCell::default(),
            forgotten: Cell::default(),
            bytes: Cell::default(),
            unanswered: Cell::default(),
            bell: Notify::new(),
            taken: Notify::new(),
            reads: Semaphore::new(READS),
            over: Cell::default(),
        }
    }
}

impl Link {
    /// Whether two links lead to the same connection.
    pub(crate) fn is(&self, other: &Link) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.0.unanswered.set(self.0.unanswered.get().saturating_sub(1));
        // Puts are counted by their number only; what carries keys and values, by its length.
        let small = matches!(&answer.outcome, Some(Outcome::Ok(op)) if is_small(op));
        let bytes = if small { 64 } else { answer.encoded_len() };
        let answer = if bytes > LARGEST { too_large(answer.number, bytes) } else { answer };
        self.0.bytes.set(self.0.bytes.get() + bytes.min(LARGEST));
        self.0.answers.borrow_mut().push(answer);
        self.0.bell.notify_one();
    }

    /// Waits until the client has taken enough of its answers; `false` if it never will.
    async fn room(&self) -> bool {
        loop {
            let taken = self.0.taken.notified();
            if self.0.over.get() {
                return false;
            }
            if self.0.bytes.get() <= BACKLOG {
                return true;
            }
            taken.await;
        }
    }

    /// Appends everything that is to be said, in frames.
    fn say(&self, out: &mut BytesMut) {
        let mut answers = self.0.answers.take().into_iter().peekable();
        self.0.bytes.set(0);
        self.0.taken.notify_waiters();
        while answers.peek().is_some() {
            let start = frame::begin(out);
            while out.len() - start < frame::FULL
                && let Some(answer) = answers.next()
            {
                // Field 2 of ToClient: a message of many answers is the sequence of them.
                prost::encoding::message::encode(2, &answer, out);
            }
            frame::end(out, start);
        }
        if self.0.forgotten.take() {
            encode(&ToClient { forgotten: true, ..ToClient::default() }, out);
        }
    }

    pub(crate) fn reply(&self, number: RequestNumber, reply: &vr_store::Reply) {
        self.answer(super::answer::answer(number, reply));
    }

    pub(crate) fn fate(&self, number: RequestNumber, fate: Fate) {
        self.answer(Answer { number: number.0, outcome: Some(Outcome::Fate(fate as i32)) });
    }

    pub(crate) fn forgotten(&self) {
        self.0.forgotten.set(true);
        self.0.bell.notify_one();
    }

    /// Waits until another connection has taken the session over.
    async fn is_over(&self) {
        loop {
            let told = self.0.taken.notified();
            if self.0.over.get() {
                return;
            }
            told.await;
        }
    }

    /// Another connection has taken the session over.
    pub(crate) fn end(&self) {
        self.0.over.set(true);
        self.0.bell.notify_one();
        self.0.taken.notify_waiters();
    }
}

/// No frame carries it; etcd's clients have a limit of their own for it, with this code.
fn too_large(number: u64, bytes: usize) -> Answer {
    let text =
        format!("an answer of {bytes} bytes, of which {LARGEST} are sent: ask for fewer keys at a time");
    let refusal = Refusal { code: tonic::Code::ResourceExhausted as u32, text };
    Answer { number, outcome: Some(Outcome::Refusal(refusal)) }
}

fn is_small(op: &vr_proto::etcdserverpb::ResponseOp) -> bool {
    use vr_proto::etcdserverpb::response_op::Response;
    matches!(&op.response, Some(Response::ResponsePut(put)) if put.prev_kv.is_none())
}

/// Serves one client, whose first bytes after the magic are in `buffer`.
///
/// # Errors
/// Why the connection had to end; the client is told. One that ends by itself is no error.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    buffer: BytesMut,
) -> Result<(), String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let end = talk(&mut reader, &mut writer, buffer).await;
    if let Err(reason) = &end {
        let mut words = BytesMut::new();
        encode(&ToClient { refused: reason.clone(), ..ToClient::default() }, &mut words);
        last_words(&mut tokio::io::join(reader, writer), &words).await;
    }
    end
}

async fn talk<S: AsyncRead + AsyncWrite>(
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    mut buffer: BytesMut,
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
    let mut out = BytesMut::new();
    encode(&ToClient { welcome: Some(welcome), ..ToClient::default() }, &mut out);
    let writing = async {
        loop {
            // TLS may still hold the end of the last record.
            let written = writer.write_all_buf(&mut out).await.is_ok() && writer.flush().await.is_ok();
            if !written {
                return Ok(());
            }
            link.0.bell.notified().await;
            // Let everything that is runnable answer first: one write for all of it.
            tokio::task::yield_now().await;
            link.say(&mut out);
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

fn encode(message: &ToClient, out: &mut BytesMut) {
    let start = frame::begin(out);
    message.encode(out).expect("a buffer that grows never runs out");
    frame::end(out, start);
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
    let unanswered = link.0.unanswered.get();
    let pieces = requests::of(payload, (2 * WINDOW).saturating_sub(unanswered))?;
    link.0.unanswered.set(unanswered + pieces.len());
    let mut writes = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let number = piece.number;
        let Some(op) = piece.op(most)? else {
            let refused = Outcome::Refusal(refusal(&StoreError::RequestTooLarge));
            link.answer(Answer { number: number.0, outcome: Some(refused) });
            continue;
        };
        match asked(&op, most) {
            Ok(Asked::Write(body)) => writes.push((number, body)),
            Ok(Asked::Read) => {
                let link = link.clone();
                // It may wait, and its keys are slices of the whole frame.
                let op = RequestOp::decode(&op.encode_to_vec()[..]).map_err(|e| e.to_string())?;
                tokio::task::spawn_local(async move {
                    let Ok(_one_of_few) = link.0.reads.acquire().await else { return };
                    if !link.room().await {
                        return;
                    }
                    let outcome = match answer(&op).await {
                        Ok(Ok(response)) => Outcome::Ok(response),
                        Ok(Err(error)) => Outcome::Refusal(refusal(&error)),
                        // A read that cannot be confirmed now: the client asks again.
                        Err(_unconfirmed) => Outcome::Fate(Fate::Rejected as i32),
                    };
                    link.answer(Answer { number: number.0, outcome: Some(outcome) });
                });
            }
            Err(error) => {
                link.answer(Answer { number: number.0, outcome: Some(Outcome::Refusal(refusal(&error))) });
            }
        }
    }
    node::try_with(|node| node.native_requests(session, writes, link));
    Ok(())
}
