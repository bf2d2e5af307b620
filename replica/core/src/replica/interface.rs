//! What goes into a replica and what comes out: inputs, effects, and how it comes to life.

use crate::configuration::Configuration;
use crate::ids::*;
use crate::message::{Entry, Message};
use crate::proposal::Refusal;
use crate::state_machine::StateMachine;

/// The driver's clocks at an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Now {
    /// Monotonic, microseconds from any origin.
    pub mono: u64,
    /// Wall clock, microseconds since the Unix epoch. May jump; the log's time never goes back.
    pub wall: u64,
}

/// Tunables. Every queue they bound refuses at its bound.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Options {
    /// A primary that has nothing to say says so this often. Microseconds.
    pub heartbeat: u64,
    /// A backup that has heard nothing from its primary this long intends a view change. Microseconds; each replica
    /// adds a spread of up to a half by its id, so that not all move at once.
    pub view_timeout: u64,
    /// Unanswered requests to a peer (entries, state, view) are repeated this often. Microseconds.
    pub retry: u64,
    /// A batch is closed at this many bytes.
    pub batch_bytes: usize,
    /// Entries prepared and not yet committed.
    pub pipeline: usize,
    /// Requests queued or in flight at this replica's gateway.
    pub window: usize,
    /// Bytes of those requests; one alone may have more.
    pub window_bytes: usize,
    /// Bytes of log since the last cut at which the primary proposes another by itself.
    pub log_bytes: usize,
    /// A portion of a state that another replica fetches is about this many bytes; a few are under way at a time.
    pub portion_bytes: usize,
}

/// 64 bytes on two devices: what this replica has promised (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VoteRecord {
    /// The database.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: Generation,
    /// The highest promised ballot.
    pub ballot: Ballot,
    /// Whose promise.
    pub replica: ReplicaId,
    /// The start that wrote it.
    pub incarnation: Incarnation,
}

impl VoteRecord {
    /// What the devices together say of the past: the highest promise that any of them shows. One that was put back from
    /// a copy, or lost a write that it had called durable, only says less.
    #[must_use]
    pub fn newest(shown: impl IntoIterator<Item = VoteRecord>) -> Option<VoteRecord> {
        shown.into_iter().max_by_key(VoteRecord::age)
    }

    /// Orders records: a later generation, then a higher ballot, then a later start.
    #[must_use]
    pub fn age(&self) -> (Generation, Ballot, Incarnation) {
        (self.generation, self.ballot, self.incarnation)
    }
}

/// An op at or above the entry that began an epoch, committed, and the digest of the log through it. Whoever holds a log
/// with that digest holds all of the epochs before, even if it has not heard that the last entry is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Begun {
    /// The op.
    pub op: Op,
    /// The digest.
    pub digest: Digest,
}

/// How a replica comes to life.
pub struct Boot<S> {
    /// Its own id.
    pub id: ReplicaId,
    /// The vote record as it stands durably, this start's incarnation included.
    pub vote: VoteRecord,
    /// The newest configuration that was made durable ([`Effect::Configuration`]); before there is one, that of the
    /// bootstrap. A newer one in the state or the log wins over it.
    pub configuration: Configuration,
    /// What came with that configuration in [`Effect::Configuration`].
    pub begun: Option<Begun>,
    /// What it still has.
    pub start: Start<S>,
    /// Randomness for nonces and spreads; the driver's.
    pub seed: u64,
}

/// What a starting replica still has. The op and the log digest of a state come from its
/// [`StateMachine::core_state`]; an empty one is op 0.
pub enum Start<S> {
    /// All it ever promised is in hand: a bootstrap (once, ever), a clean stop, or the base of a restored generation.
    Complete {
        /// The state, verified by the driver.
        state: S,
        /// The entries above it.
        log: Vec<Entry>,
        /// How many of them are known to be committed.
        commit: Op,
        /// The last ballot in which it was Normal.
        last_normal: Ballot,
    },
    /// A new id that has never acted: no vote record of it exists anywhere. It waits until a configuration names it as a
    /// learner, and asks a primary whether that is so *now* before it makes its first promise: another start of the
    /// same id, whose disk was lost since, might have become a voter, and what that one promised must never be
    /// forgotten (R6). The driver writes no vote record for it; that comes as [`Effect::WriteVote`]. Its incarnation
    /// must lie above any earlier start's: the wall clock in microseconds will do.
    Joining {
        /// An empty state.
        state: S,
    },
    /// It lost its memory. The state is a verified checkpoint or an empty one: a base, never evidence (R5).
    Amnesiac {
        /// The base.
        state: S,
    },
}

impl Default for Options {
    fn default() -> Options {
        Options {
            heartbeat: 50_000,
            view_timeout: 250_000,
            retry: 100_000,
            batch_bytes: 64 << 10,
            pipeline: 8,
            window: 8192,
            window_bytes: 128 << 20,
            log_bytes: 64 << 20,
            portion_bytes: 128 << 10,
        }
    }
}

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Status {
    /// Takes part.
    Normal,
    /// Between two views.
    ViewChange,
    /// Started without memory; asks for the view (R2). Votes nowhere (R4).
    Recovering,
    /// Fetches state or log it must have before it may vote (R4).
    Syncing,
    /// Named by a newer epoch, but without its log or a durable promise in it yet (R16). Votes nowhere (R4). A joining
    /// replica that no configuration names yet is in this state, too.
    Transitioning,
    /// No member any more. Serves state and redirects until the new epoch has started (R18); see [`Effect::Retired`].
    Retiring,
    /// A majority is without memory and no primary is left (R7): waits for the operator.
    QuorumLost,
    /// Must not go on ([`Effect::Fatal`], [`Effect::Diverged`]): ignores everything, keeps the evidence.
    Halted,
}

/// What a driver hands in.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// A peer said something. The driver has decoded it; everything else is checked here.
    Message(crate::message::Envelope),
    /// A request of this replica's own gateway. Numbers are consecutive from 1, per incarnation.
    Submit {
        /// Its number.
        number: RequestNumber,
        /// What the state machine will be given.
        body: bytes::Bytes,
    },
    /// A client wants a session of its own; answered by [`Effect::Registered`] once that is executed here, or not at
    /// all: then the client asks again, here or at another replica.
    Register {
        /// A random number of the client's with the bit [`SessionId::CLIENT`], chosen once per session.
        client: u64,
    },
    /// Requests of a client in its own session, answered by [`Effect::Answers`], [`Effect::Declined`] or
    /// [`Effect::Forgotten`]. The client may have sent them to other replicas before. Their numbers reach at most
    /// [`crate::WINDOW`]` / 2` beyond the lowest that the client has no answer to.
    Requests {
        /// As registered.
        session: SessionId,
        /// What is asked; numbers from 1.
        requests: Vec<(RequestNumber, bytes::Bytes)>,
    },
    /// A client is not connected any more: its unanswered requests are not sent on again by this replica.
    Leave {
        /// Its session; with incarnation 0 where it only waited for one.
        session: SessionId,
    },
    /// A gateway read wants to be linearizable; answered by [`Effect::ReadReady`]. Tokens are the driver's.
    Read {
        /// Chosen by the driver, unique among those waiting.
        token: u64,
    },
    /// The end of the driver's loop turn: what was queued becomes a batch.
    Turn,
    /// Time has passed: [`Replica::next_deadline`] was reached.
    Tick,
    /// The record of an [`Effect::WriteVote`] is durable.
    VoteWritten(VoteRecord),
    /// The connection to a peer broke: a hint that may hasten suspicion, never a proof.
    PeerLost(ReplicaId),
    /// Please cut soon (a tier's cadence); ignored unless primary.
    Cut,
    /// Put `next` in the place of the configuration whose id is `replaces` (R15). At any replica: it is sent on to the
    /// primary. Answered by [`Effect::Reconfigured`]; to ask again with the same configurations is safe.
    Reconfigure {
        /// Chosen by the driver, unique among those waiting.
        token: u64,
        /// [`Configuration::id`] of the one to be replaced.
        replaces: Digest,
        /// What takes its place; its epoch is one higher.
        next: Configuration,
    },
    /// Let `to` lead: a primary moves itself away to the smallest higher view led by it. Answered by
    /// [`Effect::HandedOff`].
    HandOff {
        /// Chosen by the driver.
        token: u64,
        /// Who is to lead.
        to: ReplicaId,
    },
    /// The root digest of a cut, computed on another thread.
    CutRoot {
        /// Which cut.
        op: Op,
        /// Its root.
        root: Digest,
    },
}

/// What is known of a client's request that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Not executed by being handed in now. If no other replica was handed it either, it is surely not executed.
    Rejected,
    /// Executed, once; its answer is lost here.
    Unknown,
}

/// What a driver is to do.
pub enum Effect<S: StateMachine> {
    /// Send to one peer; may be lost.
    Send(ReplicaId, Message),
    /// Send to every other member; encode once.
    Broadcast(Message),
    /// Make durable on both devices, then hand back [`Input::VoteWritten`].
    WriteVote(VoteRecord),
    /// A request of this replica's gateway was executed at `op`.
    Reply {
        /// Which.
        number: RequestNumber,
        /// Where.
        op: Op,
        /// What it answered.
        reply: S::Reply,
    },
    /// A request was surely not executed and never will be under this number.
    Rejected {
        /// Which.
        number: RequestNumber,
    },
    /// A request may or may not have been executed; its answer is lost (the state jumped over it).
    Unknown {
        /// Which.
        number: RequestNumber,
    },
    /// Requests in clients' own sessions were executed at `op`. Every replica says so of every client, connected here or
    /// not, so that a driver can keep the answers for clients that come over from another replica: what was executed is
    /// not executed again, and nobody but the drivers has its answer.
    Answers {
        /// Where.
        op: Op,
        /// Whose, which, and what it answered.
        answers: Vec<(SessionId, RequestNumber, S::Reply)>,
    },
    /// A client's request is not taken.
    Declined {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
        /// What is known of it.
        fate: Fate,
    },
    /// A client that asked for a session has it.
    Registered {
        /// Its name, to be used in all requests.
        session: SessionId,
    },
    /// A client's session is no longer in the table: others were more active. Of its unanswered requests nothing is
    /// known, and none of them will be executed from now on.
    Forgotten {
        /// Which.
        session: SessionId,
    },
    /// The read may be served from the state as it is now.
    ReadReady {
        /// Which.
        token: u64,
    },
    /// The read cannot be confirmed now; the client may try again.
    ReadFailed {
        /// Which.
        token: u64,
    },
    /// These entries are committed and executed: for the log shipper.
    Committed(Entry),
    /// The state was cut at `op`.
    Cut {
        /// Where.
        op: Op,
        /// The ballot of the Checkpoint entry.
        ballot: Ballot,
        /// Time of the entry, microseconds since the Unix epoch.
        time: u64,
        /// Digest of the log through `op`.
        digest: Digest,
        /// The state.
        snapshot: S::Snapshot,
    },
    /// f+1 members reported this root for this cut.
    Certified {
        /// Which cut.
        op: Op,
        /// Its root.
        root: Digest,
        /// Who reported it.
        by: Vec<ReplicaId>,
    },
    /// This replica's root differs from a certified one: stop serving, keep the evidence.
    Diverged {
        /// Which cut.
        op: Op,
        /// What a quorum has.
        certified: Digest,
        /// What this replica has.
        ours: Digest,
    },
    /// What became of an [`Input::Reconfigure`]: the epoch that it began, or why it did not.
    Reconfigured {
        /// Which.
        token: u64,
        /// What became of it.
        outcome: Result<Epoch, Refusal>,
    },
    /// What became of an [`Input::HandOff`]: the ballot that the other now leads, or why it does not.
    HandedOff {
        /// Which.
        token: u64,
        /// What became of it.
        outcome: Result<Ballot, HandOffRefusal>,
    },
    /// These are the members from here on: [`Effect::Broadcast`] means all of these. Keep both durable beside the vote
    /// record before any later [`Effect::WriteVote`], hand them in with the [`Boot`] of the next start, and
    /// connect to those it names. Connections to the members before it are still needed for a while (R18).
    Configuration(Configuration, Option<Begun>),
    /// This replica is no member any more and nobody needs it: it may be stopped for good (R18).
    Retired(Epoch),
    /// The status, the ballot or the primary changed.
    Standing(Status, Ballot),
    /// The state was replaced by another replica's: watchers and caches must start over.
    StateReplaced(Op),
    /// An old snapshot is no longer needed: drop it on another thread, it may be large.
    Release(S::Snapshot),
    /// The state that was replaced: drop it on another thread, it may be large.
    ReleaseState(Box<S>),
    /// A state that will not be needed after all, as far as it had arrived: drop it on another thread, it may be large.
    ReleaseImport(Box<S::Import>),
    /// This replica must not go on (R5, R6): the reason for a person.
    Fatal(String),
}

/// Why the primary did not move. Nothing was changed unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOffRefusal {
    /// Only the primary can move itself away.
    #[error("this replica does not lead; ask replica {0}, which may")]
    NotPrimary(ReplicaId),
    /// It leads already.
    #[error("replica {0} leads already")]
    AlreadyLeads(ReplicaId),
    /// Nobody but a voter can lead.
    #[error("replica {0} is no voter of this epoch; promote it by a reconfiguration first")]
    NotAVoter(ReplicaId),
    /// The target is not alive, or not up to date.
    #[error("replica {id} is not ready to lead: {why}")]
    NotReady {
        /// Which.
        id: ReplicaId,
        /// What it lacks, in words.
        why: String,
    },
    /// Something else is under way.
    #[error("{0} is under way; try again after it")]
    Busy(&'static str),
    /// It was tried, and replica `leads` leads instead.
    #[error("replica {leads} leads in ballot {ballot} instead; try again if the move is still wanted")]
    Missed {
        /// Who leads.
        leads: ReplicaId,
        /// In which ballot.
        ballot: Ballot,
    },
}

/// Effects in the order in which they arose; reused between steps.
pub struct Effects<S: StateMachine>(pub Vec<Effect<S>>);

impl<S: StateMachine> Default for Effects<S> {
    fn default() -> Effects<S> {
        Effects(Vec::new())
    }
}

impl<S: StateMachine> Effects<S> {
    /// None yet.
    #[must_use]
    pub fn new() -> Effects<S> {
        Effects::default()
    }

    pub(crate) fn push(&mut self, effect: Effect<S>) {
        self.0.push(effect);
    }
}

/// Why a replica cannot come to life as told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// It is not in the list of the first members. One that a later configuration left out starts as
    /// [`Status::Retiring`].
    #[error("replica {0} is not a member of the configuration; add it by a reconfiguration under a new id")]
    NotAMember(ReplicaId),
    /// The list of members is unusable.
    #[error("the configuration of epoch {epoch} cannot be used: {why}")]
    Members {
        /// Its epoch.
        epoch: Epoch,
        /// What is wrong with it.
        why: String,
    },
    /// The vote record is another replica's.
    #[error(
        "the vote record is replica {found}'s, this is replica {expected}; it was started on the wrong disk"
    )]
    Vote {
        /// Who starts.
        expected: ReplicaId,
        /// Whose record it is.
        found: ReplicaId,
    },
    /// A state and a log that are said to be complete end before the epoch of the promise.
    #[error(
        "the vote record promises ballot {ballot}, but what is said to be complete ends in epoch {epoch}"
    )]
    Epoch {
        /// The promise.
        ballot: Ballot,
        /// Where state and log end.
        epoch: Epoch,
    },
    /// Two configurations of one epoch.
    #[error(
        "the members of epoch {epoch} were agreed as {agreed:?}, this start was told {told:?}; members and their order \
         change by reconfiguration only"
    )]
    Differs {
        /// Which epoch.
        epoch: Epoch,
        /// By the state.
        agreed: Vec<ReplicaId>,
        /// By the boot.
        told: Vec<ReplicaId>,
    },
    /// A voter starts as if it were new (R6).
    #[error(
        "replica {0} is a voter, but it has no vote record: what it promised is not known, so it must not come back \
         under this id. Replace it by a new replica id"
    )]
    Forgotten(ReplicaId),
    /// The state's own record of the protocol is unreadable.
    #[error("the protocol's part of the state is unreadable: {0}; start from another checkpoint")]
    CoreState(crate::codec::DecodeError),
    /// The log does not continue the state.
    #[error("log entry {0} does not continue the state below it; start without memory instead")]
    Log(Op),
    /// More entries are said to be committed than there are, or fewer than the state has.
    #[error("op {commit} is said to be committed, but state and log reach from {base} to {op}")]
    Commit {
        /// What was said.
        commit: Op,
        /// Where the state stands.
        base: Op,
        /// Where the log ends.
        op: Op,
    },
}

/// What a replica has seen and done, for metrics. Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counters {
    /// Messages of another lineage or generation, or from a stranger.
    pub dropped_foreign: u64,
    /// Messages of an older start of their sender.
    pub dropped_stale_incarnation: u64,
    /// Messages of a lower ballot, or not from that ballot's primary.
    pub dropped_ballot: u64,
    /// Messages that contradict themselves.
    pub dropped_malformed: u64,
    /// Messages that name another digest than this replica's log has (R12).
    pub dropped_digest: u64,
    /// Messages of another epoch.
    pub dropped_epoch: u64,
    /// Votes and the like that a replica without memory must not take part in (R4).
    pub dropped_invisible: u64,
    /// Requests that were queued, logged or executed already.
    pub repeated_requests: u64,
    /// Requests turned away because a queue was full.
    pub refused_requests: u64,
    /// Entries proposed.
    pub proposed: u64,
    /// Requests executed (including those of other gateways).
    pub executed: u64,
    /// View changes entered.
    pub view_changes: u64,
    /// Views this replica began as primary.
    pub views_led: u64,
    /// Entries fetched from others because a message was lost or memory was.
    pub entries_fetched: u64,
    /// States taken over from another replica.
    pub states_fetched: u64,
    /// Portions of states that arrived.
    pub portions_fetched: u64,
    /// Bytes of those portions.
    pub portion_bytes_fetched: u64,
    /// Portions of states sent to others.
    pub portions_sent: u64,
    /// Transfers that went on where an earlier one of the same cut had stopped.
    pub transfers_resumed: u64,
    /// Transfers that went on to another cut with what had arrived of an earlier one.
    pub transfers_moved_on: u64,
    /// Read rounds begun.
    pub read_rounds: u64,
    /// Reads that a lease answered without one.
    pub leased_reads: u64,
}

/// What is known of a peer, for status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStanding {
    /// Who.
    pub id: ReplicaId,
    /// Its newest start seen; 0 if it has not been heard.
    pub incarnation: Incarnation,
    /// When it was last heard, monotonic microseconds; `None` if never.
    pub heard: Option<u64>,
    /// The newest op it acknowledged in this ballot (known to the primary only).
    pub acknowledged: Op,
    /// Whether it said that it has lost its memory.
    pub amnesiac: bool,
    /// Whether it votes; `false` for a learner.
    pub voter: bool,
}
