//! Execution of committed entries: the same filter and the same order for a running replica and for a restore.

use crate::core_state::CoreState;
use crate::ids::*;
use crate::message::{Entry, Kind};
use crate::mutants::{Mutant, on};
use crate::proposal::Proposal;
use crate::sessions::Sessions;
use crate::state_machine::{Accepted, At, StateMachine};

/// Where execution stands: everything a cut stores, kept up to date.
#[derive(Clone, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Executor {
    pub(crate) core: CoreState,
}

impl Executor {
    pub(crate) fn new(core: CoreState) -> Executor {
        Executor { core }
    }

    pub(crate) fn op(&self) -> Op {
        self.core.op
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.core.sessions
    }

    /// Executes the next entry. `wanted` says whose replies are needed; `answered` receives theirs, in the order of
    /// `replies`, and `opened` the sessions that the entry registers. Returns the snapshot if the entry is a cut.
    #[allow(clippy::too_many_arguments, reason = "buffers of the caller's, so that execution allocates none")]
    pub(crate) fn execute<S: StateMachine>(
        &mut self,
        state: &mut S,
        entry: &Entry,
        digest: Digest,
        wanted: impl Fn(SessionId, RequestNumber) -> bool,
        answered: &mut Vec<(SessionId, RequestNumber)>,
        replies: &mut Vec<S::Reply>,
        opened: &mut Vec<SessionId>,
    ) -> Option<S::Snapshot> {
        let header = &entry.header;
        assert!(
            header.op == self.core.op.next() && header.parent == self.core.digest,
            "entry {} does not follow what was executed, {}",
            header.op,
            self.core.op
        );
        self.core.op = header.op;
        self.core.digest = digest;
        self.core.ballot = header.ballot;
        self.core.time = header.time;
        match header.kind {
            Kind::Requests => {
                let mut accepted = Vec::with_capacity(entry.body.len() / 64);
                for request in crate::batch::requests(&entry.body) {
                    let request = request.expect("a batch is checked before it enters the log");
                    if request.number == RequestNumber::REGISTER {
                        opened.push(self.core.sessions.register(header.op, request.session));
                        continue;
                    }
                    let new = self.core.sessions.admit(header.op, request.session, request.number);
                    if !new && !on(Mutant::EveryRequestNew) {
                        continue;
                    }
                    let reply_wanted = wanted(request.session, request.number);
                    if reply_wanted {
                        answered.push((request.session, request.number));
                    }
                    accepted.push(Accepted {
                        session: request.session,
                        number: request.number,
                        body: request.body,
                        reply_wanted,
                    });
                }
                if !accepted.is_empty() {
                    state.execute(At { op: header.op, time: header.time }, &accepted, replies);
                }
                assert_eq!(
                    answered.len(),
                    replies.len(),
                    "a state machine answers every wanted request, once"
                );
                None
            }
            Kind::NewView => None,
            Kind::Reconfigure => {
                //= R15
                let proposal = Proposal::decode(&entry.body);
                let Proposal { next, highest_id, .. } =
                    proposal.expect("it is checked before it enters the log");
                assert!(
                    next.epoch.0 == self.core.configuration.epoch.0 + 1,
                    "entry {} begins epoch {} after epoch {}",
                    header.op,
                    next.epoch,
                    self.core.configuration.epoch
                );
                //= R20
                self.core.highest_id = self.core.highest_id.max(highest_id).max(next.highest_id());
                self.core.configuration = next;
                None
            }
            Kind::Checkpoint => Some(state.cut(header.op, &self.core.encode())),
        }
    }
}

/// Why a log cannot be replayed onto a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The state's own record of the protocol is unreadable.
    #[error("the protocol's part of the state is unreadable: {0}; take another checkpoint")]
    CoreState(crate::codec::DecodeError),
    /// An entry's body is not the one its header names.
    #[error("the log is damaged: {0}")]
    Entry(crate::codec::DecodeError),
    /// An entry is missing.
    #[error("the log has a gap: after {after} comes {found}")]
    Gap {
        /// The last op executed.
        after: Op,
        /// The op found instead of the next.
        found: Op,
    },
    /// An entry belongs to another history.
    #[error("entry {op} does not continue the state: it follows a log of digest {parent}, ours is {ours}")]
    Chain {
        /// The entry.
        op: Op,
        /// What it names as the log before it.
        parent: Digest,
        /// What the state stands on.
        ours: Digest,
    },
}

/// Where a replay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayEnd {
    /// The last op executed; the state's own when there was no entry above it.
    pub op: Op,
    /// Digest of the log through it.
    pub digest: Digest,
    /// The ballot of that entry.
    pub ballot: Ballot,
    /// Its time: microseconds since the Unix epoch.
    pub time: u64,
    /// Entries executed.
    pub entries: u64,
    /// The protocol's state there. To make the state a base for [`Start::Complete`](crate::Start::Complete), hand its
    /// encoding to [`StateMachine::cut`].
    pub core: CoreState,
}

/// Executes committed entries on a state exactly as a running replica would, cuts included (their snapshots are
/// dropped). `core_state` is the state's [`StateMachine::core_state`]. Entries at or below the state's op are skipped.
///
/// # Errors
/// At the first entry that is damaged or does not continue the state; those before it have been executed.
pub fn replay<S: StateMachine>(
    state: &mut S,
    core_state: &[u8],
    entries: impl IntoIterator<Item = Entry>,
) -> Result<ReplayEnd, ReplayError> {
    let core = if core_state.is_empty() {
        CoreState::empty()
    } else {
        CoreState::decode(core_state).map_err(ReplayError::CoreState)?
    };
    let mut executor = Executor::new(core);
    let mut count = 0;
    for entry in entries {
        let header = &entry.header;
        if header.op <= executor.op() {
            continue;
        }
        if header.op != executor.op().next() {
            return Err(ReplayError::Gap { after: executor.op(), found: header.op });
        }
        if header.parent != executor.core.digest {
            return Err(ReplayError::Chain {
                op: header.op,
                parent: header.parent,
                ours: executor.core.digest,
            });
        }
        entry.check().map_err(ReplayError::Entry)?;
        let (mut answered, mut replies, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        let digest = entry.digest();
        executor.execute(state, &entry, digest, |_, _| false, &mut answered, &mut replies, &mut opened);
        count += 1;
    }
    let core = executor.core;
    Ok(ReplayEnd {
        op: core.op,
        digest: core.digest,
        ballot: core.ballot,
        time: core.time,
        entries: count,
        core,
    })
}
