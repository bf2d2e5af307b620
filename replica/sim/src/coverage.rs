//! What a sweep must have met to mean anything: each fault, each kind of message in each status, each thing the core
//! can say. A sweep in which an expected counter stays at zero has proven less than it claims, and fails.

use std::collections::BTreeMap;
use vr_core::{Message, Status};

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// Their names in reports, in the order of their numbers.
            pub const NAMES: &'static [&'static str] = &[$($text),*];
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
        }
    };
}

counted!(
    /// What the world did to the processes.
    Fault {
        /// A message that never arrived.
        Drop = "drop",
        /// A message that arrived twice.
        Duplicate = "duplicate",
        /// A message kept for very long, across crashes.
        Hold = "hold",
        /// Neither of the two knew where the other is.
        NoWay = "noWay",
        /// Delivered although its sender has started anew since.
        Stale = "stale",
        /// From another lineage or generation.
        Foreign = "foreign",
        /// A link that delivers nothing for a while, then everything.
        Clog = "clog",
        /// Two groups that do not hear each other.
        Partition = "partition",
        /// Some links dead in one direction.
        OneWay = "oneWay",
        /// A process gone with its memory.
        Crash = "crash",
        /// The same while it recovered from the one before.
        CrashRecovering = "crashRecovering",
        /// The same between the order to write a vote and the word that it is durable.
        CrashVoting = "crashVoting",
        /// The same with only some of a step's effects carried out.
        CrashMidStep = "crashMidStep",
        /// The same before the first step of a start.
        CrashBooting = "crashBooting",
        /// More than the tolerated number of memories lost at once.
        MajorityLoss = "majorityLoss",
        /// A process that kept all it had.
        CleanStop = "cleanStop",
        /// A process that stood still and then went on.
        Pause = "pause",
        /// The wall clock moved by itself.
        WallJump = "wallJump",
        /// Both clocks of a machine stood still.
        Freeze = "freeze",
        /// A vote in flight at a crash that did not become durable.
        VoteLost = "voteLost",
        /// A vote in flight at a crash that did.
        VoteLanded = "voteLanded",
        /// A vote that took very long to become durable.
        SlowVote = "slowVote",
        /// A start from a checkpoint after loss of memory.
        FromCheckpoint = "fromCheckpoint",
        /// A start with nothing.
        FromNothing = "fromNothing",
        /// A root that was computed long after its cut.
        LateRoot = "lateRoot",
        /// A broken connection to a process that is down.
        PeerLostTrue = "peerLostTrue",
        /// A broken connection to a process that is well.
        PeerLostFalse = "peerLostFalse",
        /// Another configuration was proposed.
        Propose = "propose",
        /// The very same proposal was made once more.
        ProposeAgain = "proposeAgain",
        /// A primary was asked to let another lead.
        HandOff = "handOff",
        /// A disk was lost, and the vote record with it.
        DiskLost = "diskLost",
        /// A crash that lost which members a replica had been told of.
        MembersLost = "membersLost",
        /// A replica whose disk is lost was started as a new one.
        StartedAsNew = "startedAsNew",
        /// A process lived on beside the one that was started in its place.
        Twin = "twin",
        /// One device showed an older vote record than the other: a write it had called durable was lost, or a copy of
        /// it put back.
        VotesDisagree = "votesDisagree",
        /// One device had no vote record any more.
        VoteGone = "voteGone",
    }
);

counted!(
    /// What the world saw the core do.
    Seen {
        /// A request answered.
        Reply = "reply",
        /// A request surely not executed.
        Rejected = "rejected",
        /// A request whose answer is lost.
        Unknown = "unknown",
        /// A linearizable read served.
        ReadReady = "readReady",
        /// A read served by a lease.
        LeasedRead = "leasedRead",
        /// A request answered by a process in whose place another had been started.
        TwinReply = "twinReply",
        /// A linearizable read served by one.
        TwinRead = "twinRead",
        /// A read not confirmed.
        ReadFailed = "readFailed",
        /// An entry committed somewhere.
        Committed = "committed",
        /// An entry committed first of all.
        CommittedFirst = "committedFirst",
        /// The same where a commit must span two failure domains.
        CommittedSpanning = "committedSpanning",
        /// A replica became primary of a ballot.
        Primary = "primary",
        /// A replica that had lost its memory came back.
        Recovered = "recovered",
        /// A replica took the whole state from another.
        StateReplaced = "stateReplaced",
        /// A transfer of a state went on with another source where an earlier one had stopped.
        TransferResumed = "transferResumed",
        /// A transfer of a state went on to a newer cut with what had arrived of an older one.
        TransferMovedOn = "transferMovedOn",
        /// A cut.
        Cut = "cut",
        /// A certified root.
        Certified = "certified",
        /// `QuorumLost`, rightly.
        QuorumLost = "quorumLost",
        /// The same by all voters of an epoch that a reconfiguration began.
        EpochLost = "epochLost",
        /// A world of lost majorities that lived on through its primary.
        SurvivedMajorityLoss = "survivedMajorityLoss",
        /// A healed world in which all agreed again.
        Converged = "converged",
        /// A client that gave up on a replica and went to another.
        ClientTimeout = "clientTimeout",
        /// A start of a replica.
        Boot = "boot",
        /// A start with all it had.
        BootComplete = "bootComplete",
        /// A key of which clients saw one history.
        Linearizable = "linearizable",
        /// A key whose history has too many orders to try.
        Undecided = "undecided",
        /// A client got a session of its own.
        SessionOpened = "sessionOpened",
        /// A client got an answer in it.
        SessionAnswer = "sessionAnswer",
        /// A client sent the same request again, to whichever replica.
        SessionRetry = "sessionRetry",
        /// A client was told that a replica does not take its request.
        SessionDeclined = "sessionDeclined",
        /// A client was told that its answer is lost.
        SessionUnknown = "sessionUnknown",
        /// A new replica was started.
        Joining = "joining",
        /// It acts, for the first time.
        Joined = "joined",
        /// A replica was named a voter for the first time after it had been a learner.
        Promoted = "promoted",
        /// An epoch was agreed on.
        EpochAgreed = "epochAgreed",
        /// An epoch without its primary was.
        PrimaryRemoved = "primaryRemoved",
        /// One with the same voters in another order.
        OrderChanged = "orderChanged",
        /// A replica took an epoch for the one in force.
        EpochTaken = "epochTaken",
        /// A proposer was told of its epoch.
        Reconfigured = "reconfigured",
        /// A proposal was refused because the configuration it would replace is not in force.
        RefusedStale = "refusedStale",
        /// Because another one is under way.
        RefusedPending = "refusedPending",
        /// Because somebody it needs is not ready.
        RefusedNotReady = "refusedNotReady",
        /// Because it uses an id again.
        RefusedReusedId = "refusedReusedId",
        /// Because it contradicts itself.
        RefusedInvalid = "refusedInvalid",
        /// No primary answered it.
        RefusedUnanswered = "refusedUnanswered",
        /// The primary moved where it was asked to.
        HandedOff = "handedOff",
        /// It did not.
        HandOffRefused = "handOffRefused",
        /// A replica that is no member any more was let go.
        Released = "released",
        /// A replica whose disk is lost found that it must not act, and stopped.
        RefusedToForget = "refusedToForget",
        /// The store set a key.
        StorePut = "storePut",
        /// The store deleted a range.
        StoreDelete = "storeDelete",
        /// A transaction of the store whose comparisons held.
        StoreTxnHeld = "storeTxnHeld",
        /// One whose did not.
        StoreTxnFailed = "storeTxnFailed",
        /// The store compacted.
        StoreCompact = "storeCompact",
        /// The store granted a lease.
        StoreLeaseGrant = "storeLeaseGrant",
        /// The store ended a lease for a client.
        StoreLeaseRevoke = "storeLeaseRevoke",
        /// The store was told of leases whose time is over.
        StoreLeaseExpire = "storeLeaseExpire",
        /// The store took a reservation.
        StoreReserve = "storeReserve",
        /// The store refused a command.
        StoreError = "storeError",
    }
);

counted!(
    /// The kinds of message.
    MessageKind {
        /// Requests of a gateway.
        Forward = "Forward",
        /// Requests not taken.
        Refused = "Refused",
        /// An entry to keep.
        Prepare = "Prepare",
        /// Kept.
        PrepareOk = "PrepareOk",
        /// Heartbeat and commit number.
        Commit = "Commit",
        /// Heard.
        CommitOk = "CommitOk",
        /// A read's question.
        ReadIndex = "ReadIndex",
        /// A read's answer.
        ReadIndexIs = "ReadIndexIs",
        /// An intent.
        StartViewChange = "StartViewChange",
        /// A vote.
        DoViewChange = "DoViewChange",
        /// A new view.
        StartView = "StartView",
        /// A recovering replica's question.
        GetView = "GetView",
        /// The primary's answer.
        ViewIs = "ViewIs",
        /// Anyone else's.
        Standing = "Standing",
        /// Asks for log.
        GetEntries = "GetEntries",
        /// Log.
        Entries = "Entries",
        /// Asks for state.
        GetState = "GetState",
        /// State.
        State = "State",
        /// A root digest.
        Root = "Root",
        /// A configuration in force.
        NewEpoch = "NewEpoch",
        /// An epoch in which the sender acts.
        EpochStarted = "EpochStarted",
        /// A proposed configuration.
        Reconfigure = "Reconfigure",
        /// What became of it.
        ReconfigureIs = "ReconfigureIs",
        /// The primary moves itself away.
        HandOff = "HandOff",
    }
);

counted!(
    /// The statuses of a replica, for counting.
    StatusKind {
        /// Takes part.
        Normal = "Normal",
        /// Between views.
        ViewChange = "ViewChange",
        /// Without memory.
        Recovering = "Recovering",
        /// Behind.
        Syncing = "Syncing",
        /// Named by an epoch in which it does not act yet.
        Transitioning = "Transitioning",
        /// No member any more.
        Retiring = "Retiring",
        /// Waits for the operator.
        QuorumLost = "QuorumLost",
        /// Must not go on.
        Halted = "Halted",
    }
);

impl MessageKind {
    /// Of which kind a message is.
    #[must_use]
    pub fn of(message: &Message) -> MessageKind {
        match message {
            Message::Forward { .. } => MessageKind::Forward,
            Message::Refused { .. } => MessageKind::Refused,
            Message::Prepare { .. } => MessageKind::Prepare,
            Message::PrepareOk { .. } => MessageKind::PrepareOk,
            Message::Commit { .. } => MessageKind::Commit,
            Message::CommitOk { .. } => MessageKind::CommitOk,
            Message::ReadIndex { .. } => MessageKind::ReadIndex,
            Message::ReadIndexIs { .. } => MessageKind::ReadIndexIs,
            Message::StartViewChange { .. } => MessageKind::StartViewChange,
            Message::DoViewChange { .. } => MessageKind::DoViewChange,
            Message::StartView { .. } => MessageKind::StartView,
            Message::GetView { .. } => MessageKind::GetView,
            Message::ViewIs { .. } => MessageKind::ViewIs,
            Message::Standing { .. } => MessageKind::Standing,
            Message::GetEntries { .. } => MessageKind::GetEntries,
            Message::Entries { .. } => MessageKind::Entries,
            Message::GetState { .. } => MessageKind::GetState,
            Message::State { .. } => MessageKind::State,
            Message::Root { .. } => MessageKind::Root,
            Message::NewEpoch { .. } => MessageKind::NewEpoch,
            Message::EpochStarted { .. } => MessageKind::EpochStarted,
            Message::Reconfigure { .. } => MessageKind::Reconfigure,
            Message::ReconfigureIs { .. } => MessageKind::ReconfigureIs,
            Message::HandOff { .. } => MessageKind::HandOff,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        MessageKind::NAMES[self as usize]
    }
}

impl StatusKind {
    /// Which status this is.
    #[must_use]
    pub fn of(status: Status) -> StatusKind {
        match status {
            Status::Normal => StatusKind::Normal,
            Status::ViewChange => StatusKind::ViewChange,
            Status::Recovering => StatusKind::Recovering,
            Status::Syncing => StatusKind::Syncing,
            Status::Transitioning => StatusKind::Transitioning,
            Status::Retiring => StatusKind::Retiring,
            Status::QuorumLost => StatusKind::QuorumLost,
            Status::Halted => StatusKind::Halted,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        StatusKind::NAMES[self as usize]
    }
}

const KINDS: usize = MessageKind::ALL.len();
const STATUSES: usize = StatusKind::ALL.len();

/// The counters of one run, or the sum over many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    faults: [u64; Fault::ALL.len()],
    seen: [u64; Seen::ALL.len()],
    received: [[u64; STATUSES]; KINDS],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            faults: [0; Fault::ALL.len()],
            seen: [0; Seen::ALL.len()],
            received: [[0; STATUSES]; KINDS],
        }
    }
}

impl Coverage {
    /// Counts a fault.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// Counts something the core did.
    pub fn seen(&mut self, seen: Seen) {
        self.seen[seen as usize] += 1;
    }

    /// Counts a message at a receiver in this status.
    pub fn received(&mut self, kind: MessageKind, status: Status) {
        self.received[kind as usize][StatusKind::of(status) as usize] += 1;
    }

    /// How often the core did it.
    #[must_use]
    pub fn count(&self, seen: Seen) -> u64 {
        self.seen[seen as usize]
    }

    /// How often the world did it.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Coverage) {
        let Coverage { faults, seen, received } = other;
        self.faults.iter_mut().zip(faults).for_each(|(a, b)| *a += b);
        self.seen.iter_mut().zip(seen).for_each(|(a, b)| *a += b);
        self.received.iter_mut().flatten().zip(received.iter().flatten()).for_each(|(a, b)| *a += b);
    }

    /// Every counter by name: `fault.crash`, `seen.reply`, `received.Prepare.Normal`.
    #[must_use]
    pub fn named(&self) -> BTreeMap<String, u64> {
        let faults = Fault::NAMES.iter().zip(self.faults).map(|(name, n)| (format!("fault.{name}"), n));
        let seen = Seen::NAMES.iter().zip(self.seen).map(|(name, n)| (format!("seen.{name}"), n));
        let received = MessageKind::NAMES.iter().zip(self.received).flat_map(|(kind, row)| {
            StatusKind::NAMES.iter().zip(row).map(move |(status, n)| (format!("received.{kind}.{status}"), n))
        });
        faults.chain(seen).chain(received).collect()
    }

    /// The counters that stayed at zero although a large sweep must reach them.
    #[must_use]
    pub fn zeros(&self) -> Vec<String> {
        self.named()
            .into_iter()
            .filter(|(name, n)| *n == 0 && !UNREACHED.iter().any(|(part, _)| name.contains(part)))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Parts of names of counters that a sweep need not reach, each with the reason.
const UNREACHED: &[(&str, &str)] = &[
    ("seen.undecided", "the fewer, the better"),
    (".Halted", "a replica that halts has diverged, and ends its world as a violation"),
    (
        "State.QuorumLost",
        "portions of a state come from somebody who leads; only one held up for long finds this",
    ),
    ("Refused.QuorumLost", "as above"),
    ("StartView.QuorumLost", "as above"),
    (
        "Refused.Syncing",
        "a gateway forwards while its replica takes part; only one held up for long finds this",
    ),
    ("Refused.Recovering", "as above"),
    ("EpochStarted.QuorumLost", "worlds whose members change lose no majority"),
    ("HandOff.QuorumLost", "as above"),
    ("Reconfigure.QuorumLost", "as above"),
    ("ReconfigureIs.QuorumLost", "as above"),
    ("HandOff.Retiring", "only a message held up for long finds one that is leaving, or coming"),
    ("Refused.Retiring", "as above"),
    ("Refused.Transitioning", "as above"),
    ("StartView.Retiring", "as above"),
    ("State.Retiring", "as above"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_at_zero_is_named() {
        let mut coverage = Coverage::default();
        coverage.fault(Fault::Crash);
        coverage.received(MessageKind::Prepare, Status::Normal);
        let zeros = coverage.zeros();
        assert!(zeros.contains(&"fault.drop".to_owned()));
        assert!(zeros.contains(&"received.Prepare.Syncing".to_owned()));
        assert!(!zeros.contains(&"fault.crash".to_owned()));
        assert!(!zeros.contains(&"received.Prepare.Normal".to_owned()));
    }
}
