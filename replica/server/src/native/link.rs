//! The way to one native client: each answer is encoded where it arises, into the frame that its connection writes next.
//!
//! What the client has not taken yet, in frames that wait or on its way, is counted in bytes: beyond a bound
//! [`Link::room`] waits, and nothing more is read from that client or for it. What was asked before is answered
//! nevertheless, so a client costs at most that bound and the answers to one window of requests.

use super::answer::{answer, refusal};
use bytes::BytesMut;
use prost::Message as _;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::{AcquireError, Notify, Semaphore, SemaphorePermit};
use vr_core::RequestNumber;
use vr_proto::client::{Answer, Fate, ToClient, answer::Outcome};
use vr_proto::etcdserverpb::{ResponseOp, response_op::Response};
use vr_proto::frame;
use vr_store::{Reply, StoreError};

/// Bytes that a client has not taken: beyond this, nothing more is read from it, or for it.
const BACKLOG: usize = 16 << 20;
/// Bytes of room that a buffer keeps once everything in it is written.
const KEPT: usize = 256 << 10;
/// Reads of one connection at a time: each holds an answer that is counted only when it is there.
const READS: usize = 16;
/// Bytes of one answer.
const LARGEST: usize = frame::MAX_FRAME - 2 * frame::FULL;
/// Field number of the answers in `ToClient`: a message of many is the sequence of them.
const ANSWERS: u32 = 2;

/// The way to a connected client.
#[derive(Clone, Default)]
pub(crate) struct Link(Rc<Out>);

struct Out {
    frames: RefCell<Frames>,
    /// Bytes that the connection has taken and not written.
    on_their_way: Cell<usize>,
    unanswered: Cell<usize>,
    /// Rung when there is something to write.
    bell: Notify,
    /// Rung when something was written, and at the end.
    written: Notify,
    reads: Semaphore,
    over: Cell<bool>,
}

impl Default for Out {
    fn default() -> Out {
        Out {
            frames: RefCell::default(),
            on_their_way: Cell::default(),
            unanswered: Cell::default(),
            bell: Notify::new(),
            written: Notify::new(),
            reads: Semaphore::new(READS),
            over: Cell::default(),
        }
    }
}

/// Frames to be written; the last one may still take answers.
#[derive(Default)]
struct Frames {
    bytes: BytesMut,
    /// Where the last one begins, if it takes more.
    open: Option<usize>,
}

impl Frames {
    fn push(&mut self, answer: &Answer) {
        let start = *self.open.get_or_insert_with(|| frame::begin(&mut self.bytes));
        prost::encoding::message::encode(ANSWERS, answer, &mut self.bytes);
        if self.bytes.len() - start >= frame::FULL {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(start) = self.open.take() {
            frame::end(&mut self.bytes, start);
        }
    }
}

impl Link {
    /// Whether two links lead to the same connection.
    pub(crate) fn is(&self, other: &Link) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn reply(&self, number: RequestNumber, reply: &Reply) {
        self.answer(answer(number, reply));
    }

    pub(crate) fn fate(&self, number: RequestNumber, fate: Fate) {
        self.answer(Answer { number: number.0, outcome: Some(Outcome::Fate(fate as i32)) });
    }

    pub(super) fn refuse(&self, number: RequestNumber, error: &StoreError) {
        self.answer(Answer { number: number.0, outcome: Some(Outcome::Refusal(refusal(error))) });
    }

    pub(super) fn answer(&self, answer: Answer) {
        self.0.unanswered.set(self.0.unanswered.get().saturating_sub(1));
        let mut frames = self.0.frames.borrow_mut();
        match &answer.outcome {
            Some(Outcome::Ok(op)) if !is_small(op) && answer.encoded_len() > LARGEST => {
                frames.push(&too_large(answer.number, answer.encoded_len()));
            }
            _ => frames.push(&answer),
        }
        self.0.bell.notify_one();
    }

    /// The session is gone: nothing else will be answered.
    pub(crate) fn forgotten(&self) {
        let mut frames = self.0.frames.borrow_mut();
        frames.close();
        encode(&ToClient { forgotten: true, ..ToClient::default() }, &mut frames.bytes);
        self.0.bell.notify_one();
    }

    /// Requests that were taken and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.0.unanswered.get()
    }

    pub(super) fn asked(&self, requests: usize) {
        self.0.unanswered.set(self.0.unanswered.get() + requests);
    }

    /// Leave to read for this client, one of a few at a time.
    pub(super) async fn may_read(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.0.reads.acquire().await
    }

    /// Waits until the client has taken enough of its answers; `false` if it never will.
    pub(super) async fn room(&self) -> bool {
        loop {
            let written = self.0.written.notified();
            if self.0.over.get() {
                return false;
            }
            if self.0.frames.borrow().bytes.len() + self.0.on_their_way.get() <= BACKLOG {
                return true;
            }
            written.await;
        }
    }

    /// Waits until something is to be written.
    pub(super) async fn rung(&self) {
        self.0.bell.notified().await;
    }

    /// Everything that is to be written, into `out`, which must have been written.
    pub(super) fn take(&self, out: &mut BytesMut) {
        out.clear();
        if out.capacity() > KEPT {
            *out = BytesMut::new();
        }
        let mut frames = self.0.frames.borrow_mut();
        frames.close();
        std::mem::swap(&mut frames.bytes, out);
        self.0.on_their_way.set(out.len());
    }

    /// What was taken is written.
    pub(super) fn written(&self) {
        self.0.on_their_way.set(0);
        self.0.written.notify_waiters();
    }

    /// Waits until another connection has taken the session over.
    pub(super) async fn is_over(&self) {
        loop {
            let told = self.0.written.notified();
            if self.0.over.get() {
                return;
            }
            told.await;
        }
    }

    /// Another connection has taken the session over, or this one has ended.
    pub(crate) fn end(&self) {
        self.0.over.set(true);
        self.0.written.notify_waiters();
    }
}

/// Appends a message as a frame of its own.
pub(super) fn encode(message: &ToClient, out: &mut BytesMut) {
    let start = frame::begin(out);
    message.encode(out).expect("a buffer that grows never runs out");
    frame::end(out, start);
}

/// Whether it is far from any limit, without counting.
fn is_small(op: &ResponseOp) -> bool {
    matches!(&op.response, Some(Response::ResponsePut(put)) if put.prev_kv.is_none())
}

/// No frame carries it; etcd's clients have a limit of their own for it, with this code.
fn too_large(number: u64, bytes: usize) -> Answer {
    let text =
        format!("an answer of {bytes} bytes, of which {LARGEST} are sent: ask for fewer keys at a time");
    let refusal = vr_proto::client::Refusal { code: tonic::Code::ResourceExhausted as u32, text };
    Answer { number, outcome: Some(Outcome::Refusal(refusal)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;
    use vr_proto::etcdserverpb::RangeResponse;
    use vr_proto::mvccpb::KeyValue;

    fn found(number: u64, bytes: usize) -> Answer {
        let kv = KeyValue { value: vec![7; bytes].into(), ..KeyValue::default() };
        let range = RangeResponse { kvs: vec![kv], ..RangeResponse::default() };
        let op = ResponseOp { response: Some(Response::ResponseRange(range)) };
        Answer { number, outcome: Some(Outcome::Ok(op)) }
    }

    fn said(out: &mut BytesMut) -> Vec<ToClient> {
        let next = |out: &mut BytesMut| frame::next_payload(out).expect("whole frames");
        std::iter::from_fn(|| next(out)).map(|p: Bytes| ToClient::decode(p).expect("a message")).collect()
    }

    #[test]
    fn answers_come_in_order_as_many_to_a_frame_as_it_takes() {
        let (link, mut out) = (Link::default(), BytesMut::new());
        link.asked(6);
        for number in 1..=3 {
            link.answer(found(number, 600 << 10));
        }
        link.fate(RequestNumber(4), Fate::Rejected);
        link.answer(found(5, LARGEST));
        link.forgotten();
        assert_eq!(link.unanswered(), 1);
        link.take(&mut out);
        let said = said(&mut out);
        let numbers: Vec<Vec<u64>> =
            said.iter().map(|one| one.answers.iter().map(|answer| answer.number).collect()).collect();
        assert_eq!(numbers, [vec![1, 2], vec![3, 4, 5], vec![]]);
        assert!(
            matches!(&said[1].answers[2].outcome, Some(Outcome::Refusal(r)) if r.text.contains("fewer keys"))
        );
        assert!(said[2].forgotten);
        link.take(&mut out);
        assert!(out.is_empty(), "everything was said once");
    }

    #[tokio::test]
    async fn whoever_does_not_take_its_answers_has_no_room_until_it_does() {
        let has_room = async |link: &Link| {
            tokio::time::timeout(Duration::from_millis(20), link.room()).await.unwrap_or(false)
        };
        let (link, mut out) = (Link::default(), BytesMut::new());
        link.answer(found(1, BACKLOG / 2));
        assert!(has_room(&link).await);
        link.take(&mut out);
        link.answer(found(2, BACKLOG / 2));
        assert!(!has_room(&link).await, "half of it waits and half is on its way");
        link.written();
        assert!(has_room(&link).await);
        link.answer(found(3, BACKLOG));
        assert!(!has_room(&link).await);
        link.end();
        assert!(!has_room(&link).await, "never again");
    }
}
