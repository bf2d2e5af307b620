//! Catching up: fetching the entries, or the state, that a replica must hold before it may go on.
//!
//! One procedure serves three purposes. What is fetched either continues the log and is appended, or replaces
//! entries of it and is staged beside it until all of it is in hand (R13).

use super::{Effect, Effects, Replica, Status};
use crate::core_state::CoreState;
use crate::execute::Executor;
use crate::ids::*;
use crate::log::Log;
use crate::message::{Entry, Header, Message};
use crate::mutants::{Mutant, on};
use crate::state_machine::StateMachine;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Entries are sent in answers of about this many bytes.
const ENTRIES_BYTES: usize = 1 << 20;
/// A state travels in portions of about this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// A transfer in which this many portions in a row were known already begins again.
const MAX_REPEATS: u32 = 4;

/// What it catches up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A new primary gathers the log that was chosen.
    Lead,
    /// A replica adopts the log of a view that has begun.
    Follow,
    /// A backup has missed entries of its own ballot.
    Gap,
}

/// A state on its way in.
#[derive(Clone, Hash)]
struct Transfer<S> {
    cut: Op,
    root: Digest,
    state: Option<S>,
    cursor: Bytes,
    /// Ends of the portions taken in: a repeated portion is known by them.
    ends: BTreeSet<Bytes>,
    /// Portions in a row that were known already.
    repeats: u32,
}

#[derive(Clone, Hash)]
pub(super) struct CatchUp<S> {
    pub(super) purpose: Purpose,
    pub(super) ballot: Ballot,
    pub(super) source: ReplicaId,
    /// The last op needed, and its digest where it is known.
    target: Op,
    pub(super) digest: Option<Digest>,
    /// What is known to be committed of the log it fetches.
    commit: Op,
    /// What the source itself knows to be committed.
    pub(super) source_commit: Op,
    /// Headers of the last entries, as far as they are known; the last is the target's.
    headers: Vec<Header>,
    /// The own log through here is the one that is fetched.
    keep: Op,
    /// What follows, where the own log has something else.
    staged: Vec<Entry>,
    transfer: Option<Transfer<S>>,
    asked: bool,
    pub(super) silent_retries: u32,
}

impl<S> CatchUp<S> {
    pub(super) fn new(purpose: Purpose, ballot: Ballot, source: ReplicaId, keep: Op) -> CatchUp<S> {
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

    pub(super) fn aim(&mut self, target: Op, commit: Op, headers: Vec<Header>) {
        self.target = target;
        self.commit = commit;
        self.digest = headers.last().map(Header::digest);
        self.headers = headers;
    }

    fn position(&self) -> Op {
        Op(self.keep.0 + self.staged.len() as u64)
    }

    fn digest_here(&self, log: &Log) -> Option<Digest> {
        self.staged.last().map_or_else(|| log.digest_at(self.keep), |entry| Some(entry.digest()))
    }

    fn header(&self, op: Op) -> Option<&Header> {
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
        if ballot > self.ballot {
            self.enter_view(ballot, false, out);
        }
        self.heard = self.now.mono;
        match self.status {
            Status::Normal | Status::Syncing => {
                self.suspect_at = self.now.mono + self.patience();
                self.withdraw_intent();
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
        let mut catch_up = CatchUp::new(Purpose::Follow, self.ballot, primary, self.commit());
        catch_up.aim(op, commit, headers);
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
        if let Some(state) = self.catch_up.take().and_then(|c| c.transfer).and_then(|t| t.state) {
            out.push(Effect::ReleaseState(Box::new(state)));
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

    fn contradicted(&mut self, source: ReplicaId, ballot: Ballot, out: &mut Effects<S>) {
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
    fn finish_catch_up(&mut self, mut catch_up: CatchUp<S>, out: &mut Effects<S>) {
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
        if catch_up.purpose == Purpose::Lead {
            return self.begin_view(out);
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

    pub(super) fn on_get_entries(&mut self, from: ReplicaId, first: Op, to: Op, out: &mut Effects<S>) {
        if self.amnesiac || !self.durable() || first > self.log.op() {
            self.counters.dropped_invisible += u64::from(self.amnesiac);
            return;
        }
        let entries = self.log.entries(first, to, ENTRIES_BYTES);
        let message = Message::Entries { ballot: self.ballot, oldest: self.log.oldest(), entries };
        out.push(Effect::Send(from, message));
    }

    pub(super) fn on_entries(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        oldest: Op,
        entries: Vec<Entry>,
        out: &mut Effects<S>,
    ) {
        let Some(mut catch_up) = self.catch_up.take() else { return };
        // What the source says in this very ballot is believed; from others, only what a known digest proves.
        let trusted = from == catch_up.source && ballot == catch_up.ballot;
        let before = catch_up.position();
        if catch_up.transfer.is_some() {
            self.catch_up = Some(catch_up);
            return;
        }
        if catch_up.purpose == Purpose::Gap {
            catch_up.keep = self.log.op();
        }
        for entry in entries {
            let position = catch_up.position();
            if entry.header.op != position.next() || position >= catch_up.target {
                continue;
            }
            let digest = entry.digest();
            let expected = catch_up.header(entry.header.op).map(Header::digest);
            if expected.map_or(!trusted, |expected| expected != digest) {
                self.counters.dropped_digest += 1;
                break;
            }
            if catch_up.digest_here(&self.log) != Some(entry.header.parent) {
                self.counters.dropped_digest += 1;
                if trusted && catch_up.staged.is_empty() && position == self.commit() {
                    return self.contradicted(from, ballot, out);
                }
                break;
            }
            if entry.check().is_err() {
                self.counters.dropped_malformed += 1;
                break;
            }
            self.counters.entries_fetched += 1;
            if catch_up.staged.is_empty() {
                if self.log.digest_at(entry.header.op) == Some(digest) {
                    catch_up.keep = entry.header.op;
                    continue;
                }
                if self.log.op() == catch_up.keep {
                    catch_up.keep = entry.header.op;
                    self.log.append(entry);
                    continue;
                }
            }
            catch_up.staged.push(entry);
        }
        let moved = catch_up.position() > before;
        if trusted || moved {
            catch_up.asked = false;
        }
        if moved {
            self.progress(&mut catch_up);
        } else if trusted && oldest > catch_up.position().next() {
            self.begin_transfer(&mut catch_up, out);
        } else {
            // Nothing new: ask again at the next retry, not in a loop.
            catch_up.asked = true;
        }
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    fn progress(&mut self, catch_up: &mut CatchUp<S>) {
        catch_up.silent_retries = 0;
        if self.status == Status::ViewChange {
            self.views.deadline = self.views.deadline.max(self.now.mono + self.patience());
        }
    }

    /// The source no longer has the entries: its state is fetched instead, beside the own one.
    fn begin_transfer(&mut self, catch_up: &mut CatchUp<S>, out: &mut Effects<S>) {
        if catch_up.purpose == Purpose::Gap {
            self.status = Status::Syncing;
        }
        catch_up.transfer = Some(Transfer {
            cut: Op(0),
            root: Digest::default(),
            state: None,
            cursor: Bytes::new(),
            ends: BTreeSet::new(),
            repeats: 0,
        });
        Self::ask_state(catch_up, out);
    }

    fn ask_state(catch_up: &CatchUp<S>, out: &mut Effects<S>) {
        if let Some(transfer) = &catch_up.transfer {
            let message = Message::GetState {
                ballot: catch_up.ballot,
                cut: transfer.cut,
                cursor: transfer.cursor.clone(),
            };
            out.push(Effect::Send(catch_up.source, message));
        }
    }

    pub(super) fn on_get_state(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        cut: Op,
        cursor: &Bytes,
        out: &mut Effects<S>,
    ) {
        if self.amnesiac || !self.durable() || ballot != self.ballot {
            self.counters.dropped_ballot += 1;
            return;
        }
        let message = match self.cuts.with_root(cut) {
            Some((op, root, snapshot)) => {
                let chunk = S::export(snapshot, cursor, CHUNK_BYTES);
                Message::State { ballot, cut: op, root, chunk: chunk.bytes, next: chunk.next }
            }
            None => Message::State {
                ballot,
                cut: Op(0),
                root: Digest::default(),
                chunk: Bytes::new(),
                next: None,
            },
        };
        out.push(Effect::Send(from, message));
    }

    #[allow(clippy::too_many_arguments, reason = "the message's fields")]
    pub(super) fn on_state(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        cut: Op,
        root: Digest,
        chunk: &Bytes,
        next: Option<Bytes>,
        out: &mut Effects<S>,
    ) {
        let Some(mut catch_up) = self.catch_up.take() else { return };
        let trusted = from == catch_up.source && ballot == catch_up.ballot;
        let Some(mut transfer) = catch_up.transfer.take().filter(|_| trusted) else {
            self.catch_up = Some(catch_up);
            return;
        };
        let outcome = self.take_portion(&mut transfer, cut, root, chunk, next);
        match outcome {
            Portion::Ignored => catch_up.transfer = Some(transfer),
            Portion::More => {
                catch_up.transfer = Some(transfer);
                self.progress(&mut catch_up);
                Self::ask_state(&catch_up, out);
            }
            Portion::Useless => {
                if let Some(state) = transfer.state.take() {
                    out.push(Effect::ReleaseState(Box::new(state)));
                }
                transfer.cut = Op(0);
                transfer.cursor = Bytes::new();
                transfer.ends.clear();
                transfer.repeats = 0;
                catch_up.transfer = Some(transfer);
            }
            Portion::Last(state, core) => {
                self.progress(&mut catch_up);
                self.install_state(&mut catch_up, state, core, root, out);
            }
        }
        self.catch_up = Some(catch_up);
        self.advance_catch_up(out);
    }

    fn take_portion(
        &mut self,
        transfer: &mut Transfer<S>,
        cut: Op,
        root: Digest,
        chunk: &Bytes,
        next: Option<Bytes>,
    ) -> Portion<S> {
        if cut == Op(0) {
            return Portion::Useless;
        }
        if transfer.state.is_none() {
            if cut <= self.commit() {
                return Portion::Ignored;
            }
            transfer.cut = cut;
            transfer.root = root;
            transfer.state = Some(self.state.import_begin());
        }
        let repeated = next.as_ref().is_some_and(|end| transfer.ends.contains(end));
        if transfer.cut != cut || transfer.root != root {
            return Portion::Ignored;
        }
        if repeated {
            // A late portion of an earlier attempt may have been taken for the first of this one; then the right one
            // looks like a repetition for ever.
            transfer.repeats += 1;
            return if transfer.repeats > MAX_REPEATS { Portion::Useless } else { Portion::Ignored };
        }
        transfer.repeats = 0;
        let state = transfer.state.as_mut().expect("it was begun above");
        if !state.import(chunk) {
            self.counters.dropped_malformed += 1;
            return Portion::Useless;
        }
        if let Some(end) = next {
            transfer.ends.insert(end.clone());
            transfer.cursor = end;
            return Portion::More;
        }
        let found = state.import_end();
        let core = CoreState::decode(&state.core_state());
        match core {
            Ok(core) if found == root && core.op == cut => {
                let state = transfer.state.take().expect("it was begun above");
                Portion::Last(state, core)
            }
            _ => {
                self.counters.dropped_digest += 1;
                Portion::Useless
            }
        }
    }

    /// A verified state, further than the own one, takes its place. Entries above it stay if they continue it.
    //= R13
    fn install_state(
        &mut self,
        catch_up: &mut CatchUp<S>,
        state: S,
        core: CoreState,
        root: Digest,
        out: &mut Effects<S>,
    ) {
        let (op, digest) = (core.op, core.digest);
        self.counters.states_fetched += 1;
        let old = std::mem::replace(&mut self.state, state);
        out.push(Effect::ReleaseState(Box::new(old)));
        if self.log.op() > op && self.log.digest_at(op) == Some(digest) {
            self.log.trim(op);
        } else {
            // What this replica holds above is of another history than the committed one: never committed itself.
            self.log = Log::new(op, digest);
        }
        self.executor = Executor::new(core);
        self.cuts.replaced(op, out);
        self.cut_kept(Some(root), out);
        self.gateway.jumped(self.executor.sessions(), op, out);
        out.push(Effect::StateReplaced(op));
        catch_up.keep = op;
        catch_up.staged.clear();
        catch_up.transfer = None;
        catch_up.asked = false;
        if catch_up.purpose == Purpose::Gap {
            self.status = Status::Normal;
        }
    }

    /// Asks again for what has not come.
    pub(super) fn retry_catch_up(&mut self, out: &mut Effects<S>) {
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.silent_retries += 1;
        if catch_up.transfer.is_some() {
            Self::ask_state(catch_up, out);
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

enum Portion<S> {
    Ignored,
    More,
    /// There is none, or it was damaged: from the beginning, at the next retry.
    Useless,
    Last(S, CoreState),
}
