//! Catching up: fetching the entries, or the state, that a replica must hold before it may go on.
//!
//! One procedure serves three purposes. What is fetched either continues the log and is appended, or replaces
//! entries of it and is staged beside it until all of it is in hand (R13). How entries travel is the matter of
//! `entries.rs`; how a state does, where the log does not reach back far enough, of `transfer.rs`.

use super::transfer::Transfer;
use super::{Effect, Effects, Replica, Status};
use crate::ids::*;
use crate::log::Log;
use crate::message::{Entry, Header, Message};
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;

/// What it catches up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Purpose {
    /// A new primary gathers the log that was chosen.
    Lead,
    /// A replica adopts the log of a view that has begun.
    Follow,
    /// A backup has missed entries of its own ballot.
    Gap,
    /// A replica fetches what was committed before it may act in its epoch (R16).
    Transition,
}

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct CatchUp<I> {
    pub(super) purpose: Purpose,
    pub(super) ballot: Ballot,
    pub(super) source: ReplicaId,
    /// The last op needed, and its digest where it is known.
    pub(super) target: Op,
    pub(super) digest: Option<Digest>,
    /// What is known to be committed of the log it fetches.
    commit: Op,
    /// What the source itself knows to be committed.
    pub(super) source_commit: Op,
    /// Headers of the last entries, as far as they are known; the last is the target's.
    headers: Vec<Header>,
    /// The own log through here is the one that is fetched.
    pub(super) keep: Op,
    /// What follows, where the own log has something else.
    pub(super) staged: Vec<Entry>,
    pub(super) transfer: Option<Transfer<I>>,
    pub(super) asked: bool,
    pub(super) silent_retries: u32,
}

impl<I> CatchUp<I> {
    pub(super) fn new(purpose: Purpose, ballot: Ballot, source: ReplicaId, keep: Op) -> CatchUp<I> {
        CatchUp {
            purpose,
            ballot,
            source,
            target: keep,
            digest: None,
            commit: Op(0),
            source_commit: Op(0),
            headers: Vec::new(),
            keep,
            staged: Vec::new(),
            transfer: None,
            asked: false,
            silent_retries: 0,
        }
    }

    /// The same without a state machine's part; `None` while a state is on its way in.
    pub(super) fn apart<J>(&self) -> Option<CatchUp<J>> {
        let CatchUp {
            purpose,
            ballot,
            source,
            target,
            digest,
            commit,
            source_commit,
            ref headers,
            keep,
            ref staged,
            ref transfer,
            asked,
            silent_retries,
        } = *self;
        transfer.is_none().then(|| CatchUp {
            purpose,
            ballot,
            source,
            target,
            digest,
            commit,
            source_commit,
            headers: headers.clone(),
            keep,
            staged: staged.clone(),
            transfer: None,
            asked,
            silent_retries,
        })
    }

    pub(super) fn aim(&mut self, target: Op, commit: Op, headers: Vec<Header>) {
        self.target = target;
        self.commit = commit;
        self.digest = headers.last().map(Header::digest);
        self.headers = headers;
    }

    /// Whether what the sender says of its log, or its state, is to be believed as it stands.
    pub(super) fn trusts(&self, from: ReplicaId, ballot: Ballot) -> bool {
        // What was committed before an epoch is the same in all its views.
        let here = match self.purpose {
            Purpose::Transition => ballot.epoch == self.ballot.epoch,
            Purpose::Lead | Purpose::Follow | Purpose::Gap => ballot == self.ballot,
        };
        from == self.source && here
    }

    pub(super) fn position(&self) -> Op {
        Op(self.keep.0 + self.staged.len() as u64)
    }

    pub(super) fn digest_here(&self, log: &Log) -> Option<Digest> {
        self.staged.last().map_or_else(|| log.digest_at(self.keep), |entry| Some(entry.digest()))
    }

    pub(super) fn header(&self, op: Op) -> Option<&Header> {
        let first = self.headers.first()?.op;
        self.headers.get(usize::try_from(op.0.checked_sub(first.0)?).ok()?)
    }

    /// Finds how far the own log is the fetched one. Equal digests mean equal logs below them (R12).
    //= R12
    fn match_own(&mut self, log: &Log) {
        let mut same = Op(0);
        if self.digest.is_some() && log.digest_at(self.target) == self.digest {
            same = self.target;
        } else if let Some(header) =
            self.headers.iter().rev().find(|header| log.digest_at(header.op) == Some(header.digest()))
        {
            same = header.op;
        } else if let Some(first) = self.headers.first()
            && first.op > Op(0)
            && log.digest_at(Op(first.op.0 - 1)) == Some(first.parent)
        {
            same = Op(first.op.0 - 1);
        }
        self.keep = self.keep.max(same);
    }
}

impl<S: StateMachine> Replica<S> {
    /// Whether a message of `ballot`'s primary is one to be acted on now. Learning of a newer ballot from its own
    /// primary moves this replica towards it.
    pub(super) fn follows(&mut self, from: ReplicaId, ballot: Ballot, out: &mut Effects<S>) -> bool {
        if self.configuration.primary(ballot.view) != from || ballot < self.ballot {
            self.counters.dropped_ballot += 1;
            return false;
        }
        //= R4
        if self.amnesiac && !on(Mutant::AmnesiacFollows) {
            self.counters.dropped_invisible += 1;
            return false;
        }
        //= R16
        if matches!(self.status, Status::Transitioning | Status::Retiring) {
            self.counters.dropped_invisible += 1;
            return false;
        }
        if ballot > self.ballot {
            self.enter_view(ballot, false, out);
        }
        self.heard = self.now.mono;
        match self.status {
            Status::Normal | Status::Syncing => {
                self.suspect_at = self.now.mono + self.patience();
                self.withdraw_intent();
                if std::mem::take(&mut self.epochs.unheard) {
                    self.gateway.resend_all();
                }
                true
            }
            Status::ViewChange => {
                // The view has begun without this replica: it asks how far it is, once until the next retry.
                self.views.deadline = self.views.deadline.max(self.now.mono + self.patience());
                if self.catch_up.is_none() && !self.views.asked {
                    self.views.asked = true;
                    out.push(Effect::Send(from, self.get_view()));
                }
                false
            }
            _ => false,
        }
    }

    /// A view has begun, this replica has entered it, and must hold its log through `op`.
    pub(super) fn follow_to(
        &mut self,
        primary: ReplicaId,
        op: Op,
        commit: Op,
        headers: Vec<Header>,
        out: &mut Effects<S>,
    ) {
        if let Some(catch_up) = &self.catch_up
            && catch_up.ballot == self.ballot
            && (catch_up.purpose != Purpose::Follow || catch_up.target >= op)
        {
            return;
        }
        self.abandon_catch_up(out);
        //= R13
        // Whoever was Normal in this ballot before a clean stop has a log of this ballot, some of it acknowledged. It can
        // only grow: a start of the view that was long on its way knew less of it, and takes nothing back.
        let ours = self.last_normal == self.ballot && !on(Mutant::LateStart);
        let (keep, headers) = if ours { (self.log.op(), Vec::new()) } else { (self.commit(), headers) };
        let mut catch_up = CatchUp::new(Purpose::Follow, self.ballot, primary, keep);
        catch_up.aim(op.max(keep), commit, headers);
        catch_up.source_commit = commit;
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    /// A backup has missed entries through `target`.
    pub(super) fn close_gap(&mut self, target: Op, out: &mut Effects<S>) {
        match &mut self.catch_up {
            Some(catch_up) => catch_up.target = catch_up.target.max(target),
            None => {
                let mut catch_up = CatchUp::new(Purpose::Gap, self.ballot, self.primary(), self.log.op());
                catch_up.target = target;
                self.catch_up = Some(catch_up);
            }
        }
        self.advance_catch_up(out);
    }

    pub(super) fn abandon_catch_up(&mut self, out: &mut Effects<S>) {
        self.ahead.clear();
        if let Some(transfer) = self.catch_up.take().and_then(|catch_up| catch_up.transfer) {
            self.keep_transfer(transfer, out);
        }
    }

    /// Goes on with what is in hand: uses it, asks for more, or is done.
    pub(super) fn advance_catch_up(&mut self, out: &mut Effects<S>) {
        let Some(mut catch_up) = self.catch_up.take() else { return };
        if catch_up.transfer.is_some() {
            self.catch_up = Some(catch_up);
            return;
        }
        if catch_up.staged.is_empty() {
            if catch_up.purpose == Purpose::Gap {
                catch_up.keep = self.log.op();
            } else {
                let committed = self.commit();
                let contradicted = catch_up.headers.iter().any(|header| {
                    header.op <= committed
                        && self.log.digest_at(header.op).is_some_and(|ours| ours != header.digest())
                });
                if contradicted {
                    return self.contradicted(catch_up.source, catch_up.ballot, out);
                }
                catch_up.match_own(&self.log);
                if on(Mutant::TruncateFirst) {
                    self.log.truncate(catch_up.keep);
                }
                self.execute_to(catch_up.keep.min(catch_up.commit), out);
            }
        }
        let position = catch_up.position();
        let enough = on(Mutant::MissingBodies) && catch_up.purpose == Purpose::Lead;
        if position >= catch_up.target || enough {
            return self.finish_catch_up(catch_up, out);
        }
        if !catch_up.asked {
            catch_up.asked = true;
            let message =
                Message::GetEntries { ballot: catch_up.ballot, from: position.next(), to: catch_up.target };
            out.push(if catch_up.source == self.id {
                // Its own vote was chosen, yet entries of it are missing: impossible, but others may help.
                Effect::Broadcast(message)
            } else {
                Effect::Send(catch_up.source, message)
            });
        }
        self.catch_up = Some(catch_up);
    }

    pub(super) fn contradicted(&mut self, source: ReplicaId, ballot: Ballot, out: &mut Effects<S>) {
        let reason = format!(
            "the log of replica {source} in ballot {ballot} contradicts what replica {} has executed through op {}: \
             one of the two histories is wrong. Keep both for inspection and restore from a certified checkpoint",
            self.id,
            self.commit()
        );
        self.fatal(reason, out);
    }

    /// Everything needed is in hand: now, and not before, it replaces what is there (R13).
    //= R13
    fn finish_catch_up(&mut self, mut catch_up: CatchUp<S::Import>, out: &mut Effects<S>) {
        self.release_kept_transfer(out);
        if catch_up.purpose == Purpose::Gap {
            self.status = Status::Normal;
            self.use_ahead();
            self.ack_due = true;
            self.execute_to(self.commit_heard.min(self.log.op()), out);
            return;
        }
        if !catch_up.staged.is_empty() {
            self.log.truncate(catch_up.keep);
            catch_up.keep = catch_up.position();
            catch_up.staged.drain(..).for_each(|entry| self.log.append(entry));
        } else if self.log.op() > catch_up.keep && !on(Mutant::TailKept) {
            // Entries that the new view did not take over: its quorum never committed them.
            self.log.truncate(catch_up.keep);
        }
        self.execute_to(catch_up.commit.min(self.log.op()), out);
        match catch_up.purpose {
            Purpose::Lead => return self.begin_view(out),
            // The end of this step sees what can be done with it.
            Purpose::Transition => return,
            Purpose::Follow | Purpose::Gap => {}
        }
        //= R1
        let (ballot, commit) = (catch_up.ballot, catch_up.commit);
        if self.vote.ballot < ballot {
            self.catch_up = Some(catch_up);
            return self.promise(ballot, out);
        }
        self.ballot = ballot;
        self.reads.primary_changed();
        self.round_seen = 0;
        self.becomes_normal(out);
        self.commit_heard = self.commit_heard.max(commit);
    }

    /// Whether it may hand out log or state to one who is in `ballot`, or on its way to the epoch.
    //= R18
    pub(super) fn gives(&self, ballot: Ballot) -> bool {
        let settled = self.durable() && self.acts() || self.status == Status::Retiring;
        let fits = ballot == self.ballot || (ballot.epoch == self.ballot.epoch && ballot.view == View(0));
        !self.amnesiac && settled && fits
    }

    pub(super) fn progress(&mut self, catch_up: &mut CatchUp<S::Import>) {
        catch_up.silent_retries = 0;
        if self.status == Status::ViewChange {
            self.views.deadline = self.views.deadline.max(self.now.mono + self.patience());
        }
    }

    /// Asks again for what has not come.
    pub(super) fn retry_catch_up(&mut self, out: &mut Effects<S>) {
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.silent_retries += 1;
        if let Some(transfer) = &mut catch_up.transfer {
            let (source, ballot) = (catch_up.source, catch_up.ballot);
            transfer.ask_again(source, ballot, self.now.mono, self.options.retry, out);
        } else if catch_up.purpose == Purpose::Lead && catch_up.asked {
            //= R11
            // Whoever has the bodies may send them: the headers prove them.
            let (from, to) = (catch_up.position().next(), catch_up.target);
            out.push(Effect::Broadcast(Message::GetEntries { ballot: catch_up.ballot, from, to }));
        } else {
            catch_up.asked = false;
            self.advance_catch_up(out);
        }
    }
}
