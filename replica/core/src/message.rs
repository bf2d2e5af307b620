//! What replicas say to each other. The driver turns these into bytes and back (protobuf over TCP in `vr-replica`).

use crate::configuration::Configuration;
use crate::ids::*;
use crate::proposal::Refusal;
use bytes::Bytes;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum Kind {
    /// A batch of requests.
    Requests = 1,
    /// The first entry of a new primary: once committed, everything inherited is, too (R14).
    NewView = 2,
    /// Every replica cuts its state here.
    Checkpoint = 3,
    /// The last entry of its epoch: once committed, another configuration is in force (R15).
    Reconfigure = 4,
}

/// What a log entry says of itself; hash-chained by `parent` (R12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Header {
    /// Its number.
    pub op: Op,
    /// The ballot in which it was first proposed; it keeps it when a later primary proposes it again.
    pub ballot: Ballot,
    /// What it is.
    pub kind: Kind,
    /// The proposer's wall clock, microseconds since the Unix epoch.
    pub time: u64,
    /// BLAKE3 of the body.
    pub body: Digest,
    /// Digest of the entry before it.
    pub parent: Digest,
}

/// A log entry: encoded once by the primary, kept and shared by everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// What it says of itself.
    pub header: Header,
    /// For [`Kind::Requests`] the batch, for [`Kind::Reconfigure`] the [`Proposal`](crate::Proposal); empty otherwise.
    pub body: Bytes,
}

/// A message with what every message carries (R20). Foreign lineage, generation, or an older incarnation of the
/// sender: dropped and counted at the door.
#[derive(Clone, Debug, PartialEq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Envelope {
    /// The database.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: Generation,
    /// Who sends.
    pub from: ReplicaId,
    /// Which start of the sender.
    pub incarnation: Incarnation,
    /// What.
    pub message: Message,
}

/// Everything a replica can say. `ballot` is the sender's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[allow(missing_docs, reason = "the fields are the protocol's own words; each variant says what it is for")]
pub enum Message {
    /// A gateway's requests to the primary: an encoded batch (see `batch.rs`).
    Forward {
        requests: Bytes,
    },
    /// The primary will not take these requests of a session now (queue full, or the session is not open as far as it
    /// knows); surely not executed by this attempt.
    Refused {
        session: SessionId,
        numbers: Vec<RequestNumber>,
    },

    Prepare {
        ballot: Ballot,
        commit: Op,
        entry: Entry,
    },
    /// Acknowledges the whole log up to and including `op`, whose chained digest is `digest` (R12).
    PrepareOk {
        ballot: Ballot,
        op: Op,
        digest: Digest,
    },
    /// Heartbeat, eager commit notice, read-confirmation round and the shipper's name in one.
    Commit {
        ballot: Ballot,
        commit: Op,
        digest: Digest,
        round: u64,
        shipper: Option<ReplicaId>,
    },
    CommitOk {
        ballot: Ballot,
        round: u64,
        op: Op,
    },

    /// A gateway asks for an op at which its reads are linearizable. `token` is the asker's.
    ReadIndex {
        token: u64,
    },
    ReadIndexIs {
        token: u64,
        op: Option<Op>,
    },

    /// An intent, not a vote (R9).
    StartViewChange {
        ballot: Ballot,
    },
    /// The vote: the same bytes each time for a ballot (R11). `headers` are those above `commit`.
    DoViewChange {
        ballot: Ballot,
        last_normal: Ballot,
        commit: Op,
        op: Op,
        headers: Vec<Header>,
    },
    /// `headers` are those above the smallest commit the primary knows of in its quorum.
    StartView {
        ballot: Ballot,
        commit: Op,
        op: Op,
        headers: Vec<Header>,
    },

    /// `epoch` is the newest one whose log the sender holds: one behind it is told of the newer one (R18).
    GetView {
        nonce: u64,
        promised: Ballot,
        checkpoint: Op,
        epoch: Epoch,
    },
    /// Only from the Normal primary of `ballot` >= promised (R2).
    ViewIs {
        nonce: u64,
        ballot: Ballot,
        commit: Op,
        op: Op,
        digest: Digest,
    },
    /// Anyone else's answer to GetView, and gossip while there is no primary (R3, R7).
    Standing {
        nonce: u64,
        promised: Ballot,
        amnesiac: bool,
        /// The newest epoch that it has the beginning of (R16).
        holds: Epoch,
    },

    /// Ops `from..=to`, by digest where the asker knows it.
    GetEntries {
        ballot: Ballot,
        from: Op,
        to: Op,
    },
    /// Consecutive entries; `oldest` is the first op the sender still has.
    Entries {
        ballot: Ballot,
        oldest: Op,
        entries: Vec<Entry>,
    },
    /// What the asker wants of the state at a cut. `cut` 0 with an empty `want` asks which the newest one with a known
    /// root is. `number` is the asker's and never used again by it: an answer belongs to one question.
    GetState {
        ballot: Ballot,
        cut: Op,
        number: u64,
        want: Bytes,
    },
    /// The answer, in the sender's ballot, which may be a later one than the asker's. `cut` 0: the sender does not have it.
    State {
        ballot: Ballot,
        cut: Op,
        root: Digest,
        number: u64,
        portion: Bytes,
    },

    /// Root digest at a cut, for certification and the divergence alarm.
    Root {
        op: Op,
        root: Digest,
    },

    /// A configuration in force, from one who holds the log through its entry: what it has executed goes through `op`,
    /// and the digest there is `digest`. The answer to whoever is still in a lower epoch (R18).
    /// With `hearsay` the sender only repeats what it was told, and cannot show the log.
    NewEpoch {
        configuration: Configuration,
        op: Op,
        digest: Digest,
        hearsay: bool,
    },
    /// The sender acts in this epoch: it holds the state and its vote record is durable (R18).
    EpochStarted {
        epoch: Epoch,
    },
    /// A proposal on its way to the primary; `token` is the asker's.
    Reconfigure {
        token: u64,
        replaces: Digest,
        next: Configuration,
    },
    ReconfigureIs {
        token: u64,
        outcome: Result<Epoch, Refusal>,
    },
    /// The primary of `ballot` moves itself away: everybody goes to `view` of the same epoch at once.
    HandOff {
        ballot: Ballot,
        view: View,
    },
}
