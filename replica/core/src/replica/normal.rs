//! The normal case: batches, Prepare, acknowledgements, commit, execution.

use super::lease::Lease;
use super::peer::Role;
use super::{AHEAD, Effect, Effects, Replica, Status};
use crate::ids::*;
use crate::message::{Entry, Kind, Message};
use crate::mutants::{Mutant, on};
use crate::sessions::{Sessions, Verdict};
use crate::state_machine::StateMachine;
use crate::{batch, codec, quorum};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Unacknowledged entries that are sent again to a peer at once, at most.
const RESEND: u64 = 8;

#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Queued {
    session: SessionId,
    number: RequestNumber,
    body: Bytes,
}

/// What only a primary has.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Lead {
    queue: VecDeque<Queued>,
    /// Bytes of their bodies.
    queued: usize,
    /// Requests that are queued here or stand in the log above the commit: tracked apart from the client table,
    /// which changes by execution only.
    in_flight: Sessions,
    /// Reads wait until this op is executed (R14).
    pub(super) serves_from: Op,
    /// The newest read-confirmation round. Counted on from the start's number, so that no answer to an earlier start
    /// of this replica can be taken for one to this.
    pub(super) round: u64,
    pub(super) commit_sent: Op,
    /// When it began to lead.
    pub(super) since: u64,
    pub(super) lease: Lease,
    pub(super) heartbeat_at: u64,
    pub(super) cut_wanted: bool,
    cut_proposed: Op,
    /// What the voters hold, while it is being counted: kept, so that counting allocates nothing.
    held: Vec<(Op, u16)>,
}

impl Lead {
    pub(super) fn new(incarnation: Incarnation) -> Lead {
        Lead {
            queue: VecDeque::new(),
            queued: 0,
            in_flight: Sessions::default(),
            serves_from: Op(0),
            round: incarnation.0 << 32,
            commit_sent: Op(0),
            since: 0,
            lease: Lease::default(),
            heartbeat_at: 0,
            cut_wanted: false,
            cut_proposed: Op(0),
            held: Vec::new(),
        }
    }

    /// Notes a request as on its way. A Register that is on its way lets the requests behind it follow at once.
    fn track(&mut self, op: Op, session: SessionId, number: RequestNumber) {
        self.in_flight.track(op, session);
        if number != RequestNumber::REGISTER {
            self.in_flight.admit(op, session, number);
        }
    }
}

impl<S: StateMachine> Replica<S> {
    /// The first view of a new lineage or generation: nothing is inherited.
    pub(super) fn start_leading_fresh(&mut self, out: &mut Effects<S>) {
        self.lead.serves_from = self.commit();
        self.take_the_lead(out);
    }

    /// Common to every beginning of a term as primary.
    pub(super) fn take_the_lead(&mut self, out: &mut Effects<S>) {
        self.counters.views_led += 1;
        self.lose_the_lead();
        self.lead.commit_sent = self.commit();
        self.lead.cut_proposed = Op(0);
        self.lead.since = self.now.mono;
        self.lead.heartbeat_at = self.now.mono;
        self.peers.iter_mut().for_each(super::peer::Peer::forget_acknowledgements);
        let mut op = self.commit().next();
        while let Some(entry) = self.log.entry(op) {
            match entry.header.kind {
                Kind::Requests => batch::requests(&entry.body).flatten().for_each(|request| {
                    self.lead.track(op, request.session, request.number);
                }),
                Kind::Checkpoint => self.lead.cut_proposed = op,
                Kind::NewView | Kind::Reconfigure => {}
            }
            op = op.next();
        }
        self.choose_shipper();
        let open = self.executor.sessions().is_open(self.gateway.session());
        for (session, number, body) in self.gateway.all(open) {
            self.enqueue(session, number, body);
        }
        if self.alone() {
            self.advance_commit(out);
        }
        self.flush(out);
    }

    /// No longer the primary: what others asked, they will ask again; what its own gateway was asked, the gateway has.
    pub(super) fn lose_the_lead(&mut self) {
        self.lead.queue.clear();
        self.lead.queued = 0;
        self.lead.in_flight = Sessions::default();
        self.lead.cut_wanted = false;
        self.lead.lease = Lease::default();
        // Whoever waits for it asks the next primary.
        self.epochs.proposed = None;
    }

    /// A request of this primary's own gateway, which bounds what it holds; `false` if its session is not open.
    pub(super) fn enqueue(&mut self, session: SessionId, number: RequestNumber, body: Bytes) -> bool {
        self.enqueue_within(usize::MAX, usize::MAX, session, number, body)
    }

    /// A request for this primary; `false` if it had to be turned away, because so many are queued or because its
    /// session is not open.
    fn enqueue_within(
        &mut self,
        most: usize,
        most_bytes: usize,
        session: SessionId,
        number: RequestNumber,
        body: Bytes,
    ) -> bool {
        let (table, in_flight) = (self.executor.sessions(), &self.lead.in_flight);
        let repeated = if number == RequestNumber::REGISTER {
            // A client that is in the table keeps its session; a member may have come back with a newer start.
            let known = table.of(session.client);
            let open =
                known.is_some_and(|known| session.is_client() || known.incarnation >= session.incarnation);
            open || in_flight.is_open(session)
        } else {
            match table.verdict(session, number) {
                Verdict::Closed if !in_flight.is_open(session) => {
                    self.counters.refused_requests += 1;
                    return false;
                }
                Verdict::Seen => true,
                _ => in_flight.verdict(session, number) == Verdict::Seen,
            }
        };
        let repeated = repeated && !on(Mutant::EveryRequestNew);
        if repeated {
            self.counters.repeated_requests += 1;
            return true;
        }
        let bytes = self.lead.queued + body.len();
        if self.lead.queue.len() >= most || (self.lead.queued > 0 && bytes > most_bytes) {
            self.counters.refused_requests += 1;
            return false;
        }
        self.lead.track(self.log.op(), session, number);
        self.lead.queued = bytes;
        self.lead.queue.push_back(Queued { session, number, body });
        true
    }

    pub(super) fn on_forward(&mut self, from: ReplicaId, requests: &Bytes, out: &mut Effects<S>) {
        if !self.is_primary() {
            self.counters.dropped_ballot += 1;
            return;
        }
        let most = self.options.window * self.members();
        let most_bytes = self.options.window_bytes.saturating_mul(self.members());
        let mut refused: BTreeMap<SessionId, Vec<RequestNumber>> = BTreeMap::new();
        for request in batch::requests(requests) {
            let Ok(request) = request else {
                self.counters.dropped_malformed += 1;
                break;
            };
            let body = requests.slice_ref(request.body);
            if !self.enqueue_within(most, most_bytes, request.session, request.number, body) {
                refused.entry(request.session).or_default().push(request.number);
            }
        }
        for (session, numbers) in refused {
            out.push(Effect::Send(from, Message::Refused { session, numbers }));
        }
    }

    /// The end of a turn: what was gathered leaves in as few messages as possible.
    pub(super) fn flush(&mut self, out: &mut Effects<S>) {
        if self.is_primary() {
            self.propose_what_fits(out);
            self.begin_read_round(out);
            if self.lead.commit_sent < self.commit() && !self.peers.is_empty() {
                self.send_commit(out);
            }
        } else if self.is_backup() {
            self.forward_requests(out);
            self.ask_read_index(out);
            if self.ack_due {
                self.acknowledge(out);
            }
        }
    }

    /// Whether a flush would send anything.
    pub(super) fn flush_is_due(&self) -> bool {
        if self.is_primary() {
            let room = self.has_room() && (!self.lead.queue.is_empty() || self.cut_is_due());
            room || self.reads.has_fresh()
                || (self.lead.commit_sent < self.commit() && !self.peers.is_empty())
        } else {
            self.is_backup()
                && self.status == Status::Normal
                && (self.ack_due || self.gateway.has_unsent(self.now.mono) || self.reads.has_fresh())
        }
    }

    fn has_room(&self) -> bool {
        let room = self.log.op().0 - self.commit().0 < self.options.pipeline as u64;
        room && !self.closes() && self.epochs.moving.is_none()
    }

    fn cut_is_due(&self) -> bool {
        let wanted = self.lead.cut_wanted || self.cuts.log_bytes() >= self.options.log_bytes;
        wanted && self.lead.cut_proposed <= self.commit()
    }

    pub(super) fn propose_what_fits(&mut self, out: &mut Effects<S>) {
        while self.has_room() && !self.lead.queue.is_empty() {
            // The log keeps this memory for long: exactly what is needed.
            let (mut bytes, mut fit) = (0, 0);
            for next in &self.lead.queue {
                let len = next.body.len() + batch::REQUEST_BYTES;
                if fit > 0 && bytes + len > self.options.batch_bytes {
                    break;
                }
                (bytes, fit) = (bytes + len, fit + 1);
            }
            let mut body = Vec::with_capacity(bytes);
            for next in self.lead.queue.drain(..fit) {
                self.lead.queued -= next.body.len();
                batch::push(&mut body, next.session, next.number, &next.body);
            }
            self.propose(Kind::Requests, body.into(), out);
        }
        if self.has_room() && self.cut_is_due() {
            self.lead.cut_wanted = false;
            self.lead.cut_proposed = self.log.op().next();
            self.propose(Kind::Checkpoint, Bytes::new(), out);
        }
    }

    pub(super) fn propose(&mut self, kind: Kind, body: Bytes, out: &mut Effects<S>) {
        let before = self.log.entry(self.log.op()).map_or(self.executor.core.time, |entry| entry.header.time);
        // The log's time never goes back, whatever the wall clock does.
        let time = if on(Mutant::ClockInLog) { self.now.wall } else { before.max(self.now.wall) };
        let entry = Entry::new(self.log.op().next(), self.ballot, kind, time, self.log.digest(), body);
        self.log.append(entry.clone());
        self.counters.proposed += 1;
        if !self.peers.is_empty() {
            self.lead.commit_sent = self.commit();
            let (ballot, commit) = (self.ballot, self.commit());
            out.push(Effect::Broadcast(Message::Prepare { ballot, commit, entry }));
        }
        if self.alone() {
            self.execute_to(self.log.op(), out);
        }
    }

    /// Tells the backups what is committed; with the newest round's number, which they confirm if it is new to them.
    pub(super) fn send_commit(&mut self, out: &mut Effects<S>) {
        self.lead.commit_sent = self.commit();
        self.lead.heartbeat_at = self.now.mono + self.options.heartbeat;
        out.push(Effect::Broadcast(Message::Commit {
            ballot: self.ballot,
            commit: self.commit(),
            digest: self.digest(),
            round: self.lead.round,
            shipper: self.shipper,
        }));
    }

    pub(super) fn on_prepare(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        commit: Op,
        entry: Entry,
        out: &mut Effects<S>,
    ) {
        if !self.follows(from, ballot, out) {
            // Not there yet: what comes now will be needed then.
            let awaited = self.catch_up.as_ref().map_or(self.ballot, |catch_up| catch_up.ballot);
            if ballot == awaited && from == self.configuration.primary(ballot.view) {
                self.keep_ahead(entry);
            }
            return;
        }
        let op = entry.header.op;
        if op <= self.log.op() {
            // A repetition: the answer to the first may have been lost.
            self.ack_due = true;
        } else if self.log.continued_by(&entry.header) {
            if entry.check().is_err() {
                self.counters.dropped_malformed += 1;
                return;
            }
            self.log.append(entry);
            self.ack_due = true;
            self.use_ahead();
        } else if op > self.log.op().next() {
            self.keep_ahead(entry);
            self.close_gap(Op(op.0 - 1), out);
        } else {
            self.counters.dropped_digest += 1;
            return;
        }
        self.learn_commit(commit, out);
    }

    fn keep_ahead(&mut self, entry: Entry) {
        let near = entry.header.op.0 <= self.log.op().0.saturating_add(1 << 20);
        if near && self.ahead.len() < AHEAD && entry.header.op > self.log.op() && entry.check().is_ok() {
            self.ahead.insert(entry.header.op, entry);
        }
    }

    /// Appends what had arrived ahead of its turn.
    pub(super) fn use_ahead(&mut self) {
        while let Some((&op, _)) = self.ahead.first_key_value() {
            if op > self.log.op().next() {
                break;
            }
            let (_, entry) = self.ahead.pop_first().expect("it was just seen");
            if self.log.continued_by(&entry.header) {
                self.log.append(entry);
                self.ack_due = true;
            }
        }
    }

    //= R4
    //= R12
    pub(super) fn acknowledge(&mut self, out: &mut Effects<S>) {
        let syncing = on(Mutant::SyncingAcknowledges) && self.status == Status::Syncing;
        if (self.status != Status::Normal && !syncing) || self.amnesiac {
            return;
        }
        self.ack_due = false;
        let message =
            Message::PrepareOk { ballot: self.ballot, op: self.log.op(), digest: self.log.digest() };
        out.push(Effect::Send(self.primary(), message));
    }

    pub(super) fn on_prepare_ok(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        op: Op,
        digest: Digest,
        out: &mut Effects<S>,
    ) {
        if !self.is_primary() || ballot != self.ballot {
            self.counters.dropped_ballot += 1;
            return;
        }
        //= R12
        let other = self.log.digest_at(op).is_some_and(|ours| ours != digest) && !on(Mutant::WrongDigest);
        if op > self.log.op() || other {
            self.counters.dropped_digest += 1;
            return;
        }
        let peer = self.peer(from);
        if op > peer.acked {
            peer.acked = op;
            if peer.is_voter() || on(Mutant::LearnersCount) {
                self.advance_commit(out);
            }
            self.go_on_moving(out);
        }
    }

    pub(super) fn advance_commit(&mut self, out: &mut Effects<S>) {
        if self.waits_for_leases() {
            return;
        }
        let mut held = std::mem::take(&mut self.lead.held);
        held.clear();
        held.extend(self.peers.iter().filter(|peer| peer.is_voter()).map(|peer| (peer.acked, peer.domain)));
        held.push((self.log.op(), self.domain));
        if on(Mutant::LearnersCount) {
            let learners = self.peers.iter().filter(|peer| peer.role == Role::Learner);
            held.extend(learners.map(|peer| (peer.acked, peer.domain)));
            held.sort_unstable_by(|a, b| b.cmp(a));
            held.truncate(self.configuration.order.len());
        }
        if on(Mutant::MinorityCommits) && held.len() > 2 {
            held.sort_unstable();
            held.drain(..2);
        }
        let span = self.configuration.span_domains && !on(Mutant::SpanIgnored);
        let commit = quorum::committed(&mut held, span);
        self.lead.held = held;
        if commit > self.commit() {
            self.execute_to(commit, out);
            self.propose_what_fits(out);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the message's fields")]
    pub(super) fn on_commit(
        &mut self,
        from: ReplicaId,
        ballot: Ballot,
        commit: Op,
        digest: Digest,
        round: u64,
        shipper: Option<ReplicaId>,
        out: &mut Effects<S>,
    ) {
        if !self.follows(from, ballot, out) {
            return;
        }
        self.shipper = shipper;
        if self.log.digest_at(commit).is_some_and(|ours| ours != digest) {
            self.counters.dropped_digest += 1;
            return;
        }
        //= R4
        if round > self.round_seen && self.status == Status::Normal {
            self.round_seen = round;
            out.push(Effect::Send(from, Message::CommitOk { ballot, round, op: self.log.op() }));
        }
        self.learn_commit(commit, out);
    }

    fn learn_commit(&mut self, commit: Op, out: &mut Effects<S>) {
        self.commit_heard = self.commit_heard.max(commit);
        if self.status == Status::Normal {
            // In its ballot a backup's log is a prefix of the primary's: what it holds of the committed part is it.
            let ahead = if on(Mutant::AheadOfCommit) { self.log.op() } else { self.commit_heard };
            self.execute_to(ahead.min(self.log.op()), out);
        }
        if self.commit_heard > self.log.op() {
            self.close_gap(self.commit_heard, out);
        }
    }

    /// Executes committed entries in log order, through `target`.
    pub(super) fn execute_to(&mut self, target: Op, out: &mut Effects<S>) {
        while self.executor.op() < target {
            let op = self.executor.op().next();
            let entry = self.log.entry(op).expect("what is committed is held before it is executed").clone();
            let digest = self.log.digest_at(op).expect("a held entry has a digest");
            self.cuts.count_bytes(codec::HEADER_BYTES + entry.body.len());
            let (mut answered, mut replies, mut opened) = (Vec::new(), Vec::new(), Vec::new());
            let gateway = &self.gateway;
            let snapshot = self.executor.execute(
                &mut self.state,
                &entry,
                digest,
                |session, number| gateway.wants(session, number),
                &mut answered,
                &mut replies,
                &mut opened,
            );
            self.counters.executed += 1;
            if !opened.is_empty() {
                opened.iter().for_each(|session| self.lead.in_flight.executed_register(*session));
                self.gateway.opened(&opened, self.executor.sessions(), op, out);
                // When this replica took the lead it had not executed this, and could queue nothing of theirs.
                if self.is_primary() {
                    for (session, number, body) in self.gateway.of(&opened) {
                        self.enqueue(session, number, body);
                    }
                }
            }
            let (ours, mut answers) = (self.gateway.session(), Vec::new());
            for ((session, number), reply) in answered.into_iter().zip(replies) {
                self.gateway.answered(session, number);
                if session == ours {
                    out.push(Effect::Reply { number, op, reply });
                } else {
                    answers.push((session, number, reply));
                }
            }
            if !answers.is_empty() {
                out.push(Effect::Answers { op, answers });
            }
            let header = entry.header;
            out.push(Effect::Committed(entry));
            if header.kind == Kind::Reconfigure {
                self.reconfiguration_agreed(out);
            }
            if let Some(snapshot) = snapshot {
                self.cut_taken(&header, digest, snapshot, out);
            }
        }
    }

    /// The backup that ships to the object store: the named one while it is alive, else the one furthest ahead; the
    /// primary itself when it is alone.
    pub(super) fn choose_shipper(&mut self) {
        let alive_since = self.now.mono.saturating_sub(2 * self.options.view_timeout);
        let alive = |peer: &&super::peer::Peer| peer.heard.is_some_and(|heard| heard >= alive_since);
        let members = self.peers.iter().filter(|peer| peer.role != Role::Former);
        if members.filter(alive).any(|peer| Some(peer.id) == self.shipper) {
            return;
        }
        let voters = self.peers.iter().filter(|peer| peer.is_voter());
        let best = voters.filter(alive).max_by_key(|peer| (peer.acked, std::cmp::Reverse(peer.id)));
        self.shipper = Some(best.map_or(self.id, |peer| peer.id));
    }

    /// Sends a peer again what it has not acknowledged since the last retry.
    pub(super) fn resend_prepares(&mut self, out: &mut Effects<S>) {
        for peer in &mut self.peers {
            // A peer that has said nothing in this ballot has not entered it, and heartbeats will make it ask.
            let here = peer.acked > Op(0) || peer.round > 0;
            let has = peer.acked.max(peer.held);
            let stuck = here && peer.acked == peer.acked_at_retry && has < self.log.op();
            peer.acked_at_retry = peer.acked;
            if !stuck {
                continue;
            }
            let last = Op(self.log.op().0.min(has.0 + RESEND));
            for entry in self.log.entries(has.next(), last, 1 << 20) {
                let message = Message::Prepare { ballot: self.ballot, commit: self.executor.op(), entry };
                out.push(Effect::Send(peer.id, message));
            }
        }
    }
}
