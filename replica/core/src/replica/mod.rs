//! The replica: one [`Replica::step`] for every input, effects as values.
//!
//! The sub-protocols are one file each; this one holds what they share: the state, and what happens at the end of
//! every step.

mod checkpoint;
mod door;
mod entries;
mod epoch;
mod fingerprint;
mod freeze;
mod gateway;
mod hand_off;
mod interface;
mod invariants;
mod lease;
mod normal;
mod peer;
mod reads;
mod reconfigure;
mod recovery;
mod survey;
mod sync;
mod timers;
mod transfer;
mod view_change;

pub use checkpoint::{Executed, Leaving};
pub use freeze::{Apart, Frozen, ThawError};
pub use interface::*;

use crate::configuration::Configuration;
use crate::core_state::CoreState;
use crate::execute::Executor;
use crate::ids::*;
use crate::log::Log;
use crate::message::{Entry, Kind};
use crate::mutants::{Mutant, on};
use crate::proposal::{Proposal, Refusal};
use crate::state_machine::StateMachine;
use std::collections::BTreeMap;

/// Prepares that arrived ahead of their turn and are kept, at most.
const AHEAD: usize = 64;

/// One member of the cluster. See the crate's documentation for what it promises.
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "S: serde::Serialize, S::Snapshot: serde::Serialize, S::Import: serde::Serialize",
        deserialize = "S: serde::de::DeserializeOwned, S::Snapshot: serde::de::DeserializeOwned, \
                       S::Import: serde::de::DeserializeOwned",
    ))
)]
pub struct Replica<S: StateMachine> {
    id: ReplicaId,
    position: usize,
    /// The number of its failure domain.
    domain: u16,
    configuration: Configuration,
    options: Options,
    vote: VoteRecord,
    now: Now,

    status: Status,
    reported: (Status, Ballot),
    ballot: Ballot,
    last_normal: Ballot,
    /// The highest ballot that was asked to be made durable; `vote.ballot` is the highest that is.
    promised: Ballot,
    writing: Option<Ballot>,
    /// Lost its memory and has not been Normal since (R4).
    amnesiac: bool,
    /// A majority is without memory and no primary is in sight (R7).
    lost: bool,

    state: S,
    executor: Executor,
    log: Log,
    peers: Vec<peer::Peer>,

    /// When the primary was last heard, and when a backup starts to suspect it.
    heard: u64,
    suspect_at: u64,
    ahead: BTreeMap<Op, Entry>,
    commit_heard: Op,
    ack_due: bool,
    round_seen: u64,
    shipper: Option<ReplicaId>,

    lead: normal::Lead,
    views: view_change::Views,
    epochs: epoch::Epochs,
    recovery: recovery::Recovery,
    catch_up: Option<sync::CatchUp<S::Import>>,
    transfers: transfer::Transfers<S::Import>,
    gateway: gateway::Gateway,
    reads: reads::Reads,
    cuts: checkpoint::Cuts<S::Snapshot>,
    retry_at: u64,
    counters: Counters,
}

impl<S: StateMachine> Replica<S> {
    /// A replica comes to life. Committed entries of a [`Start::Complete`] log are executed here, and reported again; so
    /// is the cut that the state was loaded from, if it is not an empty one: others may have to fetch it.
    ///
    /// # Errors
    /// When what it is told contradicts itself; nothing has been done then.
    pub fn new(
        boot: Boot<S>,
        options: Options,
        now: Now,
        out: &mut Effects<S>,
    ) -> Result<Replica<S>, BootError> {
        let Boot { id, mut vote, mut configuration, begun, start, seed } = boot;
        if on(Mutant::PaperRecovery) && matches!(start, Start::Amnesiac { .. }) {
            vote.ballot.view = View(0);
        }
        crate::proposal::well_formed(&configuration)
            .map_err(|why| BootError::Members { epoch: configuration.epoch, why })?;
        let joining = matches!(start, Start::Joining { .. });
        let (state, entries, commit, last_normal, amnesiac) = match start {
            Start::Complete { state, log, commit, last_normal } => {
                (state, log, Some(commit), last_normal, false)
            }
            //= R5
            // A checkpoint is a base for state and nothing else: no log, no last normal ballot, no vote.
            Start::Amnesiac { state } | Start::Joining { state } => {
                (state, Vec::new(), None, Ballot::default(), !on(Mutant::CheckpointIsEvidence))
            }
        };
        let stored = state.core_state();
        let core = if stored.is_empty() {
            CoreState::empty()
        } else {
            CoreState::decode(&stored).map_err(BootError::CoreState)?
        };
        let told = configuration.epoch;
        if core.configuration.epoch > told {
            configuration = core.configuration.clone();
        } else if core.configuration.epoch == told && told > Epoch(0) {
            let ids = |of: &Configuration| of.members().map(|member| member.id).collect::<Vec<_>>();
            let (agreed, told) = (ids(&core.configuration), ids(&configuration));
            if agreed != told {
                return Err(BootError::Differs { epoch: configuration.epoch, agreed, told });
            }
        }
        //= R6
        if joining && configuration.is_voter(id) && !on(Mutant::JoinerUnasked) {
            return Err(BootError::Forgotten(id));
        }
        // Whose process ended before the next epoch stood without it may be the only one that can say that there is one.
        //= R18
        let left = !joining && configuration.member(id).is_none();
        if left && configuration.epoch == Epoch(0) {
            return Err(BootError::NotAMember(id));
        }
        if vote.replica != id {
            return Err(BootError::Vote { expected: id, found: vote.replica });
        }
        if on(Mutant::OwnOrder) && id == ReplicaId(1) {
            configuration.order.reverse();
        }
        let (base, executed) = (core.op, core.ballot);
        let begun =
            if configuration.epoch > told { Some(Begun { op: base, digest: core.digest }) } else { begun };
        let mut log = Log::new(base, core.digest);
        for entry in entries {
            if !log.continued_by(&entry.header) || entry.check().is_err() {
                return Err(BootError::Log(entry.header.op));
            }
            log.append(entry);
        }
        let commit = commit.unwrap_or(base);
        if commit < base || commit > log.op() {
            return Err(BootError::Commit { commit, base, op: log.op() });
        }
        let epoch = configuration.epoch;
        if !amnesiac && vote.ballot.epoch > epoch.max(epoch_reached(&log, commit)) {
            return Err(BootError::Epoch { ballot: vote.ballot, epoch });
        }
        let here = vote.ballot.epoch == epoch;
        let ballot = if here { vote.ballot } else { Ballot { epoch, view: View(0) } };
        // Nobody has ever voted and nothing is uncertain: the first view needs no election.
        let fresh = !amnesiac && here && vote.ballot.view == View(0) && log.op() == Op(0);
        let status = match (amnesiac, fresh) {
            _ if left => Status::Retiring,
            _ if joining || vote.ballot.epoch < epoch => Status::Transitioning,
            (true, _) => Status::Recovering,
            (false, true) => Status::Normal,
            (false, false) => Status::ViewChange,
        };
        let mut replica = Replica {
            id,
            position: 0,
            domain: 0,
            peers: epoch::peers_of(&configuration, id, Vec::new()),
            now,
            status,
            // Nothing has been reported yet; the first settling must report whatever it is.
            reported: (Status::Halted, vote.ballot),
            ballot,
            last_normal: if fresh { vote.ballot } else { last_normal },
            promised: vote.ballot,
            writing: None,
            amnesiac,
            lost: false,
            state,
            executor: Executor::new(core),
            log,
            heard: now.mono,
            suspect_at: 0,
            ahead: BTreeMap::new(),
            commit_heard: commit,
            ack_due: false,
            round_seen: 0,
            shipper: None,
            lead: normal::Lead::new(vote.incarnation),
            views: view_change::Views::new(),
            epochs: epoch::Epochs::new(joining, begun, now.mono),
            recovery: recovery::Recovery::new(seed, vote.incarnation, base, executed),
            catch_up: None,
            transfers: transfer::Transfers::new(vote.incarnation),
            gateway: gateway::Gateway::new(SessionId { client: id.0, incarnation: vote.incarnation }),
            reads: reads::Reads::new(seed ^ vote.incarnation.0.rotate_left(17)),
            cuts: checkpoint::Cuts::new(base),
            retry_at: now.mono + options.retry,
            counters: Counters::default(),
            vote,
            configuration,
            options,
        };
        replica.place();
        if epoch > told {
            out.push(Effect::Configuration(replica.configuration.clone(), begun));
        }
        replica.suspect_at = now.mono + replica.patience();
        if base > Op(0) {
            replica.cut_kept(None, out);
        }
        replica.execute_to(commit, out);
        match replica.status {
            // The log leads to a later epoch, which begins when this start settles.
            _ if !replica.holds_only_its_epoch() => {}
            Status::Retiring => replica.retire(out),
            Status::Recovering | Status::Transitioning => replica.ask_for_view(out),
            Status::Normal if replica.is_primary() => replica.start_leading_fresh(out),
            Status::Normal => {}
            _ => replica.resume_after_clean_stop(out),
        }
        replica.settle(out);
        Ok(replica)
    }

    /// One input. Everything to be done about it is in `out`, in order.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Effects<S>) {
        // A monotonic clock that steps back would make timers wait for ever.
        self.now = Now { mono: now.mono.max(self.now.mono), wall: now.wall };
        if self.status == Status::Halted {
            return self.refuse_everything(input, out);
        }
        match input {
            Input::Message(envelope) => self.receive(envelope, out),
            Input::Submit { number, body } => self.submit(number, body, out),
            Input::Register { client } => self.register(client, out),
            Input::Requests { session, requests } => self.requests(session, requests, out),
            Input::Leave { session } => self.left(session),
            Input::Read { token } => self.read(token, out),
            Input::Turn => self.flush(out),
            Input::Tick => self.tick(out),
            Input::VoteWritten(record) => self.vote_written(record, out),
            Input::PeerLost(peer) => self.peer_lost(peer),
            Input::Cut => self.lead.cut_wanted |= self.is_primary(),
            Input::CutRoot { op, root } => self.cut_root(op, root, out),
            Input::Reconfigure { token, replaces, next } => self.reconfigure(token, replaces, next, out),
            Input::HandOff { token, to } => self.hand_off(token, to, out),
        }
        self.settle(out);
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.lost && self.status != Status::Halted { Status::QuorumLost } else { self.status }
    }

    /// The ballot it is in, or is about to enter.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Who leads [`Replica::ballot`]; whether that replica is alive is another question.
    #[must_use]
    pub fn primary(&self) -> ReplicaId {
        self.configuration.primary(self.ballot.view)
    }

    /// Whether this replica leads now.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.status == Status::Normal && self.primary() == self.id
    }

    /// Whether a primary was heard within three timeouts (or this is one).
    #[must_use]
    pub fn has_primary(&self) -> bool {
        self.is_primary() || (self.is_backup() && self.now.mono - self.heard < 3 * self.options.view_timeout)
    }

    /// Its newest entry.
    #[must_use]
    pub fn op(&self) -> Op {
        self.log.op()
    }

    /// The newest op it knows to be committed; everything through it is executed.
    #[must_use]
    pub fn commit(&self) -> Op {
        self.executor.op()
    }

    /// The first op whose entry it still holds (or will hold next).
    #[must_use]
    pub fn oldest(&self) -> Op {
        self.log.oldest()
    }

    /// An entry that is still held.
    #[must_use]
    pub fn entry(&self, op: Op) -> Option<&Entry> {
        self.log.entry(op)
    }

    /// Digest of the log through the last executed entry.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.executor.core.digest
    }

    /// Time of the last executed entry: microseconds since the Unix epoch.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.executor.core.time
    }

    /// The last ballot in which it was Normal; what a clean stop records for [`Start::Complete`].
    #[must_use]
    pub fn last_normal(&self) -> Ballot {
        self.last_normal
    }

    /// Whether it has lost its memory and not yet recovered.
    #[must_use]
    pub fn is_amnesiac(&self) -> bool {
        self.amnesiac
    }

    /// Its own id.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The members.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The highest id that was ever given to a member of this generation, as far as this replica has executed: a new one
    /// must lie above it (R20).
    #[must_use]
    pub fn highest_id(&self) -> ReplicaId {
        self.executor.core.highest_id.max(self.configuration.highest_id())
    }

    /// The vote record that is durable.
    #[must_use]
    pub fn vote(&self) -> &VoteRecord {
        &self.vote
    }

    /// The state as executed through [`Replica::commit`].
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The state, for draining queues that the driver keeps in it. Changing anything replicated makes this replica
    /// diverge.
    pub fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }

    /// Who ships to the object store: as named by the primary, or by this replica if it leads.
    #[must_use]
    pub fn shipper(&self) -> Option<ReplicaId> {
        self.shipper
    }

    /// What it has seen and done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What it knows of the others, in the configuration's order.
    pub fn peers(&self) -> impl Iterator<Item = PeerStanding> + '_ {
        self.peers.iter().map(peer::Peer::standing)
    }

    /// Requests of this replica's gateway, its clients' own sessions included, that are not answered yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.gateway.len()
    }

    /// A member that takes part and follows somebody else.
    fn is_backup(&self) -> bool {
        !self.amnesiac && matches!(self.status, Status::Normal | Status::Syncing) && self.primary() != self.id
    }

    fn members(&self) -> usize {
        self.configuration.order.len()
    }

    /// Those of the others that count.
    fn voters(&self) -> impl Iterator<Item = &peer::Peer> + '_ {
        self.peers.iter().filter(|peer| peer.is_voter())
    }

    /// Whether it is the only one that counts.
    fn alone(&self) -> bool {
        self.configuration.order.len() == 1 && self.is_voter()
    }

    /// Whether what it has executed leads to no later epoch than the one it is in.
    fn holds_only_its_epoch(&self) -> bool {
        self.executor.core.configuration.epoch <= self.configuration.epoch
    }

    fn durable(&self) -> bool {
        self.vote.ballot >= self.ballot || on(Mutant::VoteNotAwaited)
    }

    /// The end of every step: what became possible is done, what changed is reported, what must hold is checked.
    fn settle(&mut self, out: &mut Effects<S>) {
        self.follow_epoch(out);
        self.moved(out);
        self.judge_quorum();
        if self.cannot_serve() {
            self.reads.fail_all(out);
        }
        self.reads.release(self.executor.op(), out);
        let standing = (self.status(), self.ballot);
        if standing != self.reported {
            self.reported = standing;
            out.push(Effect::Standing(standing.0, standing.1));
        }
        self.check_invariants();
    }

    /// Whether requests are turned away at once, because nothing says when they could be taken.
    fn cannot_serve(&self) -> bool {
        let between = self.status() == Status::Transitioning && !self.amnesiac;
        !between && !matches!(self.status(), Status::Normal | Status::ViewChange)
    }

    fn refuse_everything(&mut self, input: Input, out: &mut Effects<S>) {
        match input {
            Input::Submit { number, .. } => out.push(Effect::Rejected { number }),
            Input::Requests { session, requests } => {
                for (number, _) in requests {
                    out.push(Effect::Declined { session, number, fate: Fate::Rejected });
                }
            }
            Input::Read { token } => out.push(Effect::ReadFailed { token }),
            Input::Reconfigure { token, .. } => {
                out.push(Effect::Reconfigured { token, outcome: Err(Refusal::Unanswered) });
            }
            Input::HandOff { token, .. } => {
                let outcome = Err(HandOffRefusal::NotPrimary(self.primary()));
                out.push(Effect::HandedOff { token, outcome });
            }
            _ => {}
        }
    }

    fn halt(&mut self, out: &mut Effects<S>) {
        self.status = Status::Halted;
        self.catch_up = None;
        self.reads.fail_all(out);
    }

    fn fatal(&mut self, reason: String, out: &mut Effects<S>) {
        self.halt(out);
        out.push(Effect::Fatal(reason));
    }

    fn peer(&mut self, id: ReplicaId) -> &mut peer::Peer {
        self.peers.iter_mut().find(|peer| peer.id == id).expect("the door lets only members in")
    }

    /// Makes a promise durable, one write at a time (R1).
    //= R1
    fn promise(&mut self, ballot: Ballot, out: &mut Effects<S>) {
        self.promised = self.promised.max(ballot);
        if self.writing.is_none() && self.promised > self.vote.ballot {
            self.writing = Some(self.promised);
            out.push(Effect::WriteVote(VoteRecord { ballot: self.promised, ..self.vote }));
        }
    }

    fn vote_written(&mut self, record: VoteRecord, out: &mut Effects<S>) {
        // What counts is what was written, not what this replica has come to want in the meantime.
        let awaited = VoteRecord { ballot: self.writing.unwrap_or_default(), ..self.vote };
        if self.writing.is_none() || record != awaited {
            self.counters.dropped_malformed += 1;
            return;
        }
        self.vote = record;
        if on(Mutant::WantedIsWritten) {
            self.vote.ballot = self.promised.max(self.ballot).max(self.views.intent.unwrap_or_default());
            self.promised = self.vote.ballot;
        }
        self.writing = None;
        self.promise(self.promised, out);
        if self.durable() {
            self.promise_is_durable(out);
        }
    }
}

/// The newest epoch that the committed part of a log begins; 0 if none.
fn epoch_reached(log: &Log, commit: Op) -> Epoch {
    let mut reached = Epoch(0);
    let mut op = log.oldest();
    while let Some(entry) = log.entry(op).filter(|_| op <= commit) {
        if entry.header.kind == Kind::Reconfigure {
            reached = Proposal::decode(&entry.body).map_or(reached, |proposal| proposal.next.epoch);
        }
        op = op.next();
    }
    reached
}
