//! The client's session: which calls wait, under which numbers, and what becomes of them. No sockets.

use crate::{Error, pb};
use bytes::BytesMut;
use prost::Message as _;
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};
use vr_proto::client::{Answer, Fate, Hello, Refusal, Request, Welcome, answer::Outcome};
use vr_proto::frame;

/// Bytes of one request; what replicas are told to take at most lies far below.
const LARGEST: usize = frame::MAX_FRAME - frame::FULL - 1024;
/// gRPC's code for it.
const INVALID_ARGUMENT: u32 = 3;

/// One call and who waits for it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) op: pb::RequestOp,
    pub(crate) answer: oneshot::Sender<Result<pb::response_op::Response, Error>>,
}

struct Waiting {
    request: Request,
    answer: oneshot::Sender<Result<pb::response_op::Response, Error>>,
}

/// See the module.
pub(crate) struct Session {
    pub(crate) calls: mpsc::Receiver<Call>,
    in_flight: usize,
    client: u64,
    opened: u64,
    history: Option<(Vec<u8>, u64)>,
    window: u64,
    /// Calls by number, beginning at `first`; answered ones are `None` until those before them are answered.
    waiting: VecDeque<Option<Waiting>>,
    first: u64,
    count: usize,
    /// Numbers to be sent, once or again.
    unsent: VecDeque<u64>,
    /// Numbers that a replica would not take: to be sent again after a pause.
    rejected: Vec<u64>,
}

impl Session {
    pub(crate) fn new(calls: mpsc::Receiver<Call>, in_flight: usize) -> Session {
        Session {
            calls,
            in_flight,
            client: number(),
            opened: 0,
            history: None,
            window: 1,
            waiting: VecDeque::new(),
            first: 1,
            count: 0,
            unsent: VecDeque::new(),
            rejected: Vec::new(),
        }
    }

    /// What a connection begins with.
    pub(crate) fn hello(&self) -> Hello {
        Hello { client: self.client, opened: self.opened }
    }

    /// A replica has taken the connection. `Err` if it is one of another database: nothing may be sent to it.
    pub(crate) fn welcomed(&mut self, welcome: &Welcome) -> Result<(), String> {
        let here = (welcome.lineage.to_vec(), welcome.generation);
        if let Some((lineage, generation)) = &self.history {
            if *lineage != here.0 {
                return Err("it serves another lineage".to_owned());
            }
            if *generation > here.1 {
                return Err(format!(
                    "it serves generation {}, which is over: {generation} has begun",
                    here.1
                ));
            }
            if *generation < here.1 {
                // Restored: what was unanswered may or may not be in what was restored. The session that this
                // connection asked for is of the past as well.
                self.history = Some(here);
                self.forgotten();
                return Ok(());
            }
        }
        self.history = Some(here);
        self.opened = welcome.opened;
        self.window = welcome.window.max(1);
        Ok(())
    }

    /// The session is gone: what was unanswered stays unknown, and another one begins.
    pub(crate) fn forgotten(&mut self) {
        for waiting in self.waiting.drain(..).flatten() {
            let _ = waiting.answer.send(Err(Error::Unknown));
        }
        (self.client, self.opened) = (number(), 0);
        (self.first, self.count) = (1, 0);
        self.unsent.clear();
        self.rejected.clear();
    }

    /// How many more calls may be taken in now.
    pub(crate) fn room(&self) -> usize {
        let span = usize::try_from(self.window).unwrap_or(usize::MAX).saturating_sub(self.waiting.len());
        span.min(self.in_flight - self.count.min(self.in_flight))
    }

    /// Whether nobody waits for any answer, and nobody can ask any more.
    pub(crate) fn is_abandoned(&mut self, first: Option<&Call>) -> bool {
        if !self.calls.is_closed() {
            return false;
        }
        while let Ok(call) = self.calls.try_recv() {
            self.take(call);
        }
        let waits = |waiting: &Waiting| !waiting.answer.is_closed();
        first.is_none_or(|call| call.answer.is_closed()) && !self.waiting.iter().flatten().any(waits)
    }

    /// Nothing can be sent, to nobody: says so to all who ask, until nobody can any more.
    pub(crate) async fn reject_all(&mut self, mut next: Option<Call>) {
        while let Some(call) = next {
            // Whoever asked may have gone.
            let _ = call.answer.send(Err(Error::Rejected));
            next = self.calls.recv().await;
        }
    }

    /// Calls that wait.
    pub(crate) fn unanswered(&self) -> usize {
        self.count
    }

    /// Gives a call the next number. One that fits no frame is refused, as every replica would.
    pub(crate) fn take(&mut self, call: Call) {
        if call.op.encoded_len() > LARGEST {
            let text = "etcdserver: request is too large".to_owned();
            let _ = call.answer.send(Err(Error::Refused { code: INVALID_ARGUMENT, text }));
            return;
        }
        let number = self.first + self.waiting.len() as u64;
        let request = Request { number, op: Some(call.op) };
        self.waiting.push_back(Some(Waiting { request, answer: call.answer }));
        self.unsent.push_back(number);
        self.count += 1;
    }

    /// Everything unanswered is to be sent: a new connection knows nothing.
    pub(crate) fn resend(&mut self) {
        self.rejected.clear();
        let unanswered = (self.first..).zip(&self.waiting).filter(|(_, waiting)| waiting.is_some());
        self.unsent = unanswered.map(|(number, _)| number).collect();
    }

    /// What a replica would not take is to be sent again.
    pub(crate) fn resend_rejected(&mut self) {
        self.unsent.extend(self.rejected.drain(..));
    }

    pub(crate) fn has_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// Appends one frame of what is to be sent, if there is anything.
    pub(crate) fn send(&mut self, out: &mut BytesMut) {
        if self.unsent.is_empty() {
            return;
        }
        let start = frame::begin(out);
        while out.len() - start < frame::FULL
            && let Some(number) = self.unsent.pop_front()
        {
            if let Some(Some(waiting)) = self.slot(number) {
                // Field 2 of ToReplica: a message of many requests is the sequence of them.
                prost::encoding::message::encode(2, &waiting.request, out);
            }
        }
        frame::end(out, start);
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Waiting>> {
        self.waiting.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// An answer; one that nobody waits for is dropped. Whether a call was settled by it: a replica that only says that it
    /// takes nothing may go on saying so for ever.
    pub(crate) fn answered(&mut self, answer: Answer) -> bool {
        let Answer { number, outcome } = answer;
        let Some(Some(_)) = self.slot(number) else { return false };
        let result = match outcome {
            Some(Outcome::Ok(op)) => op.response.ok_or(Error::Mismatch),
            Some(Outcome::Refusal(Refusal { code, text })) => Err(Error::Refused { code, text }),
            Some(Outcome::Fate(fate)) if fate == Fate::Rejected as i32 => {
                self.rejected.push(number);
                return false;
            }
            Some(Outcome::Fate(fate)) if fate == Fate::Again as i32 => {
                self.renumber(number);
                return false;
            }
            Some(Outcome::Fate(_)) => Err(Error::Unknown),
            None => Err(Error::Mismatch),
        };
        if let Some(waiting) = self.slot(number).and_then(Option::take) {
            // Whoever asked may have gone.
            let _ = waiting.answer.send(result);
            self.count -= 1;
        }
        self.trim();
        true
    }

    fn trim(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
    }

    /// It was executed without effect: the same again, as another request.
    fn renumber(&mut self, number: u64) {
        let Some(mut waiting) = self.slot(number).and_then(Option::take) else { return };
        let next = self.first + self.waiting.len() as u64;
        waiting.request.number = next;
        self.waiting.push_back(Some(waiting));
        self.rejected.push(next);
        self.trim();
    }
}

/// A number that no other session has: 63 random bits below the bit that says "client".
fn number() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // A version 4 UUID has fixed bits in each half; none of the two has all of them in the same places.
    (high ^ low.rotate_left(17)) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::response_op::Response;

    fn session() -> (Session, mpsc::Sender<Call>) {
        let (calls, asked) = mpsc::channel(8);
        let mut session = Session::new(asked, 4);
        session.welcomed(&welcome(1, 1)).expect("the first one is as good as any");
        (session, calls)
    }

    fn welcome(generation: u64, opened: u64) -> Welcome {
        Welcome { lineage: vec![1; 16].into(), generation, opened, window: 8, ..Welcome::default() }
    }

    fn ask(session: &mut Session) -> oneshot::Receiver<Result<Response, Error>> {
        let (answer, answered) = oneshot::channel();
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
        session.take(Call { op, answer });
        answered
    }

    fn ok(number: u64) -> Answer {
        let response = Response::ResponsePut(pb::PutResponse::default());
        Answer { number, outcome: Some(Outcome::Ok(pb::ResponseOp { response: Some(response) })) }
    }

    fn fate(number: u64, fate: Fate) -> Answer {
        Answer { number, outcome: Some(Outcome::Fate(fate as i32)) }
    }

    fn sent(session: &mut Session) -> Vec<u64> {
        session.resend();
        let (mut out, mut numbers) = (BytesMut::new(), Vec::new());
        session.send(&mut out);
        while let Some(payload) = frame::next_payload(&mut out).expect("well formed") {
            let message = vr_proto::client::ToReplica::decode(payload).expect("it was just encoded");
            numbers.extend(message.requests.iter().map(|request| request.number));
            session.send(&mut out);
        }
        numbers
    }

    #[test]
    fn each_call_is_answered_once_and_only_the_unanswered_are_sent_again() {
        let (mut session, _calls) = session();
        let mut asked: Vec<_> = (0..4).map(|_| ask(&mut session)).collect();
        assert_eq!(session.room(), 0);
        session.answered(ok(2));
        session.answered(ok(2));
        session.answered(ok(99));
        assert_eq!(sent(&mut session), [1, 3, 4]);
        assert!(matches!(asked[1].try_recv(), Ok(Ok(_))));
        assert!(asked[0].try_recv().is_err());
        assert_eq!((session.room(), session.unanswered()), (1, 3));
    }

    #[test]
    fn what_is_not_taken_is_asked_again_and_what_had_no_effect_under_another_number() {
        let (mut session, _calls) = session();
        let _asked: Vec<_> = (0..3).map(|_| ask(&mut session)).collect();
        session.answered(fate(1, Fate::Rejected));
        session.answered(fate(2, Fate::Again));
        assert!(session.has_rejected());
        assert_eq!(sent(&mut session), [1, 3, 4]);
        session.answered(ok(4));
        assert_eq!(sent(&mut session), [1, 3]);
    }

    #[test]
    fn large_calls_go_in_frames_of_their_own_and_what_fits_none_is_refused() {
        let (mut session, _calls) = session();
        let mut put = |bytes: usize| {
            let (answer, answered) = oneshot::channel();
            let put = pb::PutRequest { key: "k".into(), value: vec![7; bytes].into(), ..Default::default() };
            let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
            session.take(Call { op, answer });
            answered
        };
        let mut asked: Vec<_> = [600 << 10, 600 << 10, 600 << 10, 65 << 20].map(&mut put).into();
        let refused = asked.remove(3).try_recv().expect("at once").expect_err("it fits no frame");
        assert!(matches!(refused, Error::Refused { code: 3, .. }), "{refused:?}");
        let mut frames = Vec::new();
        loop {
            let mut out = BytesMut::new();
            session.send(&mut out);
            if out.is_empty() {
                break;
            }
            frames.push(out.len() >> 10);
        }
        assert_eq!(frames, [1200, 600]);
        assert_eq!(sent(&mut session), [1, 2, 3]);
    }

    #[test]
    fn a_forgotten_session_leaves_its_calls_unknown_and_another_begins() {
        let (mut session, _calls) = session();
        let mut asked = ask(&mut session);
        let before = session.hello();
        session.forgotten();
        assert_eq!(asked.try_recv(), Ok(Err(Error::Unknown)));
        assert_ne!(session.hello().client, before.client);
        assert_eq!(session.hello().opened, 0);
    }

    #[test]
    fn another_lineage_is_refused_and_a_newer_generation_begins_anew() {
        let (mut session, _calls) = session();
        let mut asked = ask(&mut session);
        let other = Welcome { lineage: vec![2; 16].into(), ..welcome(1, 1) };
        assert!(session.welcomed(&other).expect_err("refused").contains("lineage"));
        assert!(asked.try_recv().is_err(), "it still waits");
        session.welcomed(&welcome(2, 5)).expect("restored");
        assert_eq!(asked.try_recv(), Ok(Err(Error::Unknown)));
        assert!(session.welcomed(&welcome(1, 1)).expect_err("refused").contains("over"));
    }
}
