//! One history: what was committed at an op is the same everywhere and for ever, and executing it gave the same.

use super::{Broken, Check, Gateways, require};
use crate::machine::{Execution, Machine};
use crate::rng::mix;
use std::collections::BTreeMap;
use vr_core::{Accepted, Ballot, Digest, Header, Op, ReplicaId, RequestNumber, SessionId};

/// What executing an entry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    time: u64,
    requests: u64,
    fingerprint: u64,
}

/// The history as the world has seen it, and a machine beside the replicas that executes it from what clients asked.
pub struct History<M> {
    reference: M,
    headers: Vec<Header>,
    /// Until which ballot the newest of them was committed at the latest.
    by: Ballot,
    done: Vec<Option<Done>>,
    roots: BTreeMap<Op, Digest>,
    certified: BTreeMap<Op, Digest>,
}

fn requests_digest(requests: &[(SessionId, RequestNumber, u64)]) -> u64 {
    requests.iter().fold(requests.len() as u64, |h, (session, number, body)| {
        mix(mix(mix(h ^ session.client) ^ session.incarnation.0 ^ number.0.rotate_left(32)) ^ body)
    })
}

impl<M: Machine> History<M> {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> History<M> {
        History {
            reference: M::empty(),
            headers: Vec::new(),
            by: Ballot::default(),
            done: Vec::new(),
            roots: BTreeMap::new(),
            certified: BTreeMap::new(),
        }
    }

    /// The newest op that anyone has committed.
    #[must_use]
    pub fn newest(&self) -> Op {
        Op(self.headers.len() as u64)
    }

    /// What the newest committed entry says of itself, and the ballot of whoever was the first to say that it is
    /// committed. That is not the ballot in which it was proposed: a later view may have taken it over.
    #[must_use]
    pub fn newest_committed(&self) -> Option<(&Header, Ballot)> {
        self.headers.last().map(|header| (header, self.by))
    }

    /// A replica executed an entry's requests. The first to do so defines what was executed, by the clients' own
    /// record of what they asked; everyone else must have come to the same.
    ///
    /// # Errors
    /// Other requests, another time, another state, a request repeated or never made.
    pub fn executed(&mut self, replica: ReplicaId, e: &Execution, gateways: &mut Gateways) -> Check {
        let op = e.at.op;
        require!(
            op > Op(0),
            "executes-in-order",
            "replica {replica} executed op 0, which is before every entry"
        );
        let index = (op.0 - 1) as usize;
        if index < self.done.len() {
            let theirs =
                Done { time: e.at.time, requests: requests_digest(&e.requests), fingerprint: e.fingerprint };
            let ours = self.done[index];
            require!(
                ours == Some(theirs),
                "same-execution",
                "replica {replica} executed op {op} as {theirs:?}, the first replica to do so as {ours:?}"
            );
            return Ok(());
        }
        let mut bodies = Vec::with_capacity(e.requests.len());
        for &(session, number, body) in &e.requests {
            bodies.push(gateways.body_of(session, number, body)?);
        }
        let accepted: Vec<_> = e
            .requests
            .iter()
            .zip(&bodies)
            .map(|(&(session, number, _), body)| Accepted { session, number, body, reply_wanted: true })
            .collect();
        let mut replies = Vec::with_capacity(accepted.len());
        self.reference.execute(e.at, &accepted, &mut replies);
        require!(
            replies.len() == accepted.len(),
            "one-reply-each",
            "{} replies for {} requests at op {op}",
            replies.len(),
            accepted.len()
        );
        for (&(session, number, _), reply) in e.requests.iter().zip(&replies) {
            gateways.executed(session, number, op, M::reply_digest(reply))?;
        }
        let done = Done {
            time: e.at.time,
            requests: requests_digest(&e.requests),
            fingerprint: self.reference.fingerprint(),
        };
        require!(
            done.fingerprint == e.fingerprint,
            "same-execution",
            "replica {replica} came to fingerprint {:016x} at op {op}, the reference to {:016x}",
            e.fingerprint,
            done.fingerprint
        );
        self.done.resize(index, None);
        self.done.push(Some(done));
        Ok(())
    }

    /// A replica says in a ballot that an entry is committed; whether nobody had said so of this op before.
    ///
    /// # Errors
    /// Another entry stands at this op, the op is beyond the next one, or the log's time went back.
    pub fn committed(&mut self, replica: ReplicaId, header: &Header, ballot: Ballot) -> Result<bool, Broken> {
        let op = header.op;
        require!(op > Op(0), "one-history", "replica {replica} committed op 0, which is before every entry");
        match self.headers.get((op.0 - 1) as usize) {
            Some(known) => {
                require!(
                    known == header,
                    "one-history",
                    "replica {replica} committed {header:?} where {known:?} was committed before"
                );
                Ok(false)
            }
            None => {
                require!(
                    op.0 == self.headers.len() as u64 + 1,
                    "one-history",
                    "replica {replica} committed op {op}, the first of all, but nobody committed {}",
                    self.headers.len() + 1
                );
                if let Some(before) = self.headers.last() {
                    require!(
                        before.time <= header.time,
                        "time-never-back",
                        "op {op} has time {}, the entry before it {}",
                        header.time,
                        before.time
                    );
                    require!(
                        before.ballot <= header.ballot,
                        "ballots-ascend",
                        "op {op} was proposed in {}, the entry before it in {}",
                        header.ballot,
                        before.ballot
                    );
                }
                self.headers.push(*header);
                self.by = ballot.max(header.ballot);
                Ok(true)
            }
        }
    }

    /// A replica cut its state.
    ///
    /// # Errors
    /// Another replica's state had another root there.
    pub fn cut(&mut self, replica: ReplicaId, op: Op, root: Digest) -> Check {
        let known = *self.roots.entry(op).or_insert(root);
        require!(
            known == root,
            "equal-roots",
            "replica {replica} has root {} at cut {op}, the first one there has {}",
            root.short(),
            known.short()
        );
        Ok(())
    }

    /// A root was certified.
    ///
    /// # Errors
    /// It is not the one of the cut, or there was no such cut.
    pub fn certified(&mut self, replica: ReplicaId, op: Op, root: Digest) -> Check {
        let known = self.roots.get(&op);
        require!(
            known == Some(&root),
            "certified-roots",
            "replica {replica} reports root {} certified at {op}, where the cut had {:?}",
            root.short(),
            known
        );
        self.certified.insert(op, root);
        Ok(())
    }

    /// The newest certified cut.
    #[must_use]
    pub fn newest_certified(&self) -> Option<Op> {
        self.certified.keys().next_back().copied()
    }
}

impl<M: Machine> Default for History<M> {
    fn default() -> History<M> {
        History::new()
    }
}
