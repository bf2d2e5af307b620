//! What clients asked and what they were told: exactly once, the right answer, and nothing that reads older than what
//! somebody has seen already (R14).
//!
//! With one history this is strict linearizability: an op is each write's moment, a read's moment is just after the
//! newest op its replica had executed, and no moment lies before the question or after the answer.

use super::{Broken, Check, require};
use bytes::Bytes;
use std::collections::BTreeMap;
use vr_core::{Incarnation, Op, RequestNumber, SessionId};

/// What became of a request, as far as its gateway said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// Its answer.
    Replied,
    /// Surely not executed.
    Rejected,
    /// The gateway cannot know.
    Unknown,
}

#[derive(Debug)]
struct Request {
    body: Bytes,
    digest: u64,
    /// The newest op that anyone had been shown when it was asked.
    floor: Op,
    outcome: Outcome,
    executed: Option<(Op, u64)>,
}

/// All sessions of all gateways.
#[derive(Debug, Default)]
pub struct Gateways {
    sessions: BTreeMap<(u64, Incarnation), Vec<Request>>,
    shown: Op,
}

impl Gateways {
    /// The newest op whose effect anyone was shown: what a read that begins now must include.
    #[must_use]
    pub fn shown(&self) -> Op {
        self.shown
    }

    /// A client asks; numbers of a session are consecutive.
    pub fn asked(&mut self, session: SessionId, body: Bytes) -> RequestNumber {
        let requests = self.sessions.entry((session.client, session.incarnation)).or_default();
        let digest = crate::machine::digest(&body);
        requests.push(Request { body, digest, floor: self.shown, outcome: Outcome::Pending, executed: None });
        RequestNumber(requests.len() as u64)
    }

    fn request(&mut self, session: SessionId, number: RequestNumber) -> Result<&mut Request, Broken> {
        let index = usize::try_from(number.0.wrapping_sub(1)).unwrap_or(usize::MAX);
        self.sessions
            .get_mut(&(session.client, session.incarnation))
            .and_then(|requests| requests.get_mut(index))
            .ok_or_else(|| {
                Broken::new("nothing-invented", format!("nobody made request {number} of {session:?}"))
            })
    }

    /// What was asked, if its digest is the one that was executed.
    ///
    /// # Errors
    /// Nobody asked this.
    pub fn body_of(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        digest: u64,
    ) -> Result<Bytes, Broken> {
        let request = self.request(session, number)?;
        require!(
            request.digest == digest,
            "nothing-invented",
            "request {number} of {session:?} was executed with another body than was asked"
        );
        Ok(request.body.clone())
    }

    /// The first execution of an entry had this request in it; `reply` is the reference's answer.
    ///
    /// # Errors
    /// It was executed before, or its gateway had promised that it never would be, or its moment lies before its
    /// question.
    pub fn executed(&mut self, session: SessionId, number: RequestNumber, op: Op, reply: u64) -> Check {
        let request = self.request(session, number)?;
        if let Some((before, _)) = request.executed {
            return Err(Broken::new(
                "exactly-once",
                format!("request {number} of {session:?} was executed at op {before} and again at op {op}"),
            ));
        }
        require!(
            request.outcome != Outcome::Rejected,
            "rejected-never-executed",
            "request {number} of {session:?} was rejected, and executed at op {op}"
        );
        require!(
            op > request.floor,
            "linearizable",
            "request {number} of {session:?} stands at op {op}, but op {} had been shown before it was asked",
            request.floor
        );
        request.executed = Some((op, reply));
        Ok(())
    }

    /// A gateway answered.
    ///
    /// # Errors
    /// The answer is not the reference's, the op is another, or it had answered before.
    pub fn replied(&mut self, session: SessionId, number: RequestNumber, op: Op, reply: u64) -> Check {
        let request = self.request(session, number)?;
        require!(
            request.outcome == Outcome::Pending,
            "one-answer",
            "request {number} of {session:?} was answered after it was {:?}",
            request.outcome
        );
        self.told(session, number, op, reply)?;
        self.request(session, number)?.outcome = Outcome::Replied;
        self.shown = self.shown.max(op);
        Ok(())
    }

    /// A replica tells a client's answer that it was not asked for, or that the client has already.
    ///
    /// # Errors
    /// The answer is not the reference's, or the op is another.
    pub fn told(&mut self, session: SessionId, number: RequestNumber, op: Op, reply: u64) -> Check {
        let request = self.request(session, number)?;
        require!(
            request.executed == Some((op, reply)),
            "right-answer",
            "request {number} of {session:?} was answered at op {op} with {reply:016x}; executed: {:x?}",
            request.executed
        );
        Ok(())
    }

    /// A client's session is over: what it has no answer to was executed before, or never will be.
    ///
    /// # Errors
    /// It has an answer.
    pub fn forgotten(&mut self, session: SessionId, number: RequestNumber) -> Check {
        let executed = self.request(session, number)?.executed.is_some();
        let outcome = if executed { Outcome::Unknown } else { Outcome::Rejected };
        self.given_up(session, number, outcome)
    }

    /// A gateway gave a request up.
    ///
    /// # Errors
    /// It had answered before, or says "surely not executed" of what was executed.
    pub fn given_up(&mut self, session: SessionId, number: RequestNumber, outcome: Outcome) -> Check {
        let request = self.request(session, number)?;
        require!(
            request.outcome == Outcome::Pending,
            "one-answer",
            "request {number} of {session:?} became {outcome:?} after it was {:?}",
            request.outcome
        );
        require!(
            outcome != Outcome::Rejected || request.executed.is_none(),
            "rejected-never-executed",
            "request {number} of {session:?} was executed ({:?}), and rejected afterwards",
            request.executed
        );
        request.outcome = outcome;
        Ok(())
    }

    /// A read was served from a state that had executed up to `executed`; it began when `floor` had been shown.
    ///
    /// # Errors
    /// It misses something that had been shown before it began.
    pub fn read(&mut self, session: SessionId, floor: Op, executed: Op) -> Check {
        require!(
            executed >= floor,
            "linearizable",
            "a read at {session:?} was served at op {executed}, but op {floor} had been shown before it began"
        );
        self.shown = self.shown.max(executed);
        Ok(())
    }

    /// How many requests of a session still wait for an answer.
    #[must_use]
    pub fn pending(&self, session: SessionId) -> usize {
        self.sessions
            .get(&(session.client, session.incarnation))
            .map_or(0, |requests| requests.iter().filter(|r| r.outcome == Outcome::Pending).count())
    }

    /// What became of a request.
    #[must_use]
    pub fn outcome(&self, session: SessionId, number: RequestNumber) -> Option<Outcome> {
        let requests = self.sessions.get(&(session.client, session.incarnation))?;
        requests.get(usize::try_from(number.0).ok()?.checked_sub(1)?).map(|r| r.outcome)
    }

    /// Where a request was executed, by anyone.
    #[must_use]
    pub fn executed_at(&self, session: SessionId, number: RequestNumber) -> Option<Op> {
        let requests = self.sessions.get(&(session.client, session.incarnation))?;
        requests.get(usize::try_from(number.0).ok()?.checked_sub(1)?)?.executed.map(|(op, _)| op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { client: 1, incarnation: Incarnation(1) };

    fn asked() -> (Gateways, RequestNumber, u64) {
        let mut gateways = Gateways::default();
        let body = Bytes::from_static(b"body");
        let digest = crate::machine::digest(&body);
        let number = gateways.asked(SESSION, body);
        (gateways, number, digest)
    }

    #[test]
    fn twice_is_too_often() {
        let (mut g, n, digest) = asked();
        assert!(g.body_of(SESSION, n, digest).is_ok());
        assert!(g.executed(SESSION, n, Op(1), 7).is_ok());
        assert_eq!(g.executed(SESSION, n, Op(2), 7).expect_err("this breaks a rule").oracle, "exactly-once");
    }

    #[test]
    fn what_a_session_had_no_answer_to_is_executed_before_its_end_or_never() {
        let (mut g, n, _) = asked();
        assert_eq!(g.told(SESSION, n, Op(1), 7).expect_err("this breaks a rule").oracle, "right-answer");
        assert!(g.forgotten(SESSION, n).is_ok());
        let after = g.executed(SESSION, n, Op(2), 7).expect_err("this breaks a rule");
        assert_eq!(after.oracle, "rejected-never-executed");
        let (mut g, n, _) = asked();
        assert!(g.executed(SESSION, n, Op(1), 7).is_ok() && g.forgotten(SESSION, n).is_ok());
        assert!(g.told(SESSION, n, Op(1), 7).is_ok());
    }

    #[test]
    fn answers_are_compared() {
        let (mut g, n, digest) = asked();
        assert_eq!(
            g.body_of(SESSION, n, digest ^ 1).expect_err("this breaks a rule").oracle,
            "nothing-invented"
        );
        assert_eq!(
            g.body_of(SESSION, RequestNumber(2), digest).expect_err("this breaks a rule").oracle,
            "nothing-invented"
        );
        assert!(g.executed(SESSION, n, Op(1), 7).is_ok());
        assert_eq!(g.replied(SESSION, n, Op(1), 8).expect_err("this breaks a rule").oracle, "right-answer");
        assert!(g.replied(SESSION, n, Op(1), 7).is_ok());
        assert_eq!(g.replied(SESSION, n, Op(1), 7).expect_err("this breaks a rule").oracle, "one-answer");
    }

    #[test]
    fn reads_do_not_go_back() {
        let (mut g, n, _) = asked();
        assert!(g.executed(SESSION, n, Op(1), 7).is_ok());
        assert!(g.replied(SESSION, n, Op(1), 7).is_ok());
        let floor = g.shown();
        assert_eq!(g.read(SESSION, floor, Op(0)).expect_err("this breaks a rule").oracle, "linearizable");
        assert!(g.read(SESSION, floor, Op(1)).is_ok());
    }

    #[test]
    fn rejected_is_for_ever() {
        let (mut g, n, _) = asked();
        assert!(g.given_up(SESSION, n, Outcome::Rejected).is_ok());
        assert_eq!(
            g.executed(SESSION, n, Op(1), 7).expect_err("this breaks a rule").oracle,
            "rejected-never-executed"
        );
    }
}
