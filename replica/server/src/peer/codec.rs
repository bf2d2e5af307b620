//! Envelopes to protobuf and back, and the two messages that drivers exchange beside the protocol.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use vr_core::{
    Ballot, Configuration, Digest, Entry, Envelope, Epoch, Generation, Header, Incarnation, Kind, Lineage,
    Message, Op, Refusal, ReplicaId, RequestNumber, SessionId, View,
};
use vr_proto::frame;
use vr_proto::peer as pb;
use vr_proto::peer::envelope::Message as Pb;

/// What a frame held.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// For the protocol.
    Protocol(Envelope),
    /// For the driver.
    Driver {
        /// The sender's database.
        lineage: Lineage,
        /// The sender's generation.
        generation: Generation,
        /// The sender.
        from: ReplicaId,
        /// What.
        message: DriverMessage,
    },
}

/// What drivers say to each other beside the protocol; nothing of it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverMessage {
    /// A lease question or its answer.
    Lease(LeaseMessage),
    /// A tier of the sender waits for a cut, which only the primary can propose.
    CutWanted,
    /// A control call that concerns this replica.
    ControlAsk {
        /// The asker's.
        token: u64,
        /// An encoded `vr.control.v1.Forwarded`.
        call: Bytes,
    },
    /// What became of a control call of this replica.
    ControlAnswer {
        /// As asked.
        token: u64,
        /// An encoded `vr.control.v1.ForwardedAnswer`.
        answer: Bytes,
    },
}

/// Who sends a driver's frame.
pub type Sender = (Lineage, Generation, ReplicaId, Incarnation);

/// Leases' deadlines live at the primary; its peers ask there. Not part of the protocol: nothing of it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMessage {
    /// How long does it still live? With `renew`, its time begins anew.
    Ask {
        /// The asker's.
        token: u64,
        /// Which lease.
        id: i64,
        /// Keepalive or a look.
        renew: bool,
    },
    /// The answer; `remaining` is in seconds, -1 if there is no such lease, absent if the asked is no primary.
    Answer {
        /// The asker's.
        token: u64,
        /// Granted seconds.
        granted: i64,
        /// Seconds left.
        remaining: Option<i64>,
    },
}

/// Appends a frame's payload.
pub fn encode(envelope: &Envelope, out: &mut BytesMut) {
    frame(
        out,
        &pb::Envelope {
            lineage: Bytes::copy_from_slice(&envelope.lineage.0),
            generation: envelope.generation.0,
            from: envelope.from.0,
            incarnation: envelope.incarnation.0,
            message: Some(to_pb(&envelope.message)),
        },
    );
}

/// Appends a driver's frame with a lease question or its answer.
pub fn encode_lease(who: Sender, message: LeaseMessage, out: &mut BytesMut) {
    let message = match message {
        LeaseMessage::Ask { token, id, renew } => Pb::LeaseAsk(pb::LeaseAsk { token, id, renew }),
        LeaseMessage::Answer { token, granted, remaining } => {
            Pb::LeaseAnswer(pb::LeaseAnswer { token, granted, remaining })
        }
    };
    driver(who, message, out);
}

/// Appends a driver's frame with a control call.
pub fn encode_control_ask(who: Sender, token: u64, call: Bytes, out: &mut BytesMut) {
    driver(who, Pb::ControlAsk(pb::ControlAsk { token, call }), out);
}

/// Appends a driver's frame with the answer to a control call.
pub fn encode_control_answer(who: Sender, token: u64, answer: Bytes, out: &mut BytesMut) {
    driver(who, Pb::ControlAnswer(pb::ControlAnswer { token, answer }), out);
}

/// Appends a driver's frame that asks the primary for a cut.
pub fn encode_cut_wanted(who: Sender, out: &mut BytesMut) {
    driver(who, Pb::CutWanted(pb::CutWanted {}), out);
}

fn driver((lineage, generation, from, incarnation): Sender, message: Pb, out: &mut BytesMut) {
    let lineage = Bytes::copy_from_slice(&lineage.0);
    let (generation, from, incarnation) = (generation.0, from.0, incarnation.0);
    frame(out, &pb::Envelope { lineage, generation, from, incarnation, message: Some(message) });
}

fn frame(out: &mut BytesMut, envelope: &pb::Envelope) {
    out.reserve(frame::HEAD + envelope.encoded_len());
    let start = frame::begin(out);
    envelope.encode(out).expect("a buffer that grows never runs out");
    frame::end(out, start);
}

/// Reads a frame's payload. `Err` says what is malformed. Nothing of what comes out keeps the payload's memory.
///
/// # Errors
/// Anything that no correct peer sends.
pub fn decode(payload: Bytes) -> Result<Incoming, String> {
    let envelope = pb::Envelope::decode(payload).map_err(|e| e.to_string())?;
    let lineage = Lineage(envelope.lineage.as_ref().try_into().map_err(|_| "lineage is not 16 bytes")?);
    let (generation, from) = (Generation(envelope.generation), ReplicaId(envelope.from));
    let incarnation = Incarnation(envelope.incarnation);
    let driver = |message| Ok(Incoming::Driver { lineage, generation, from, message });
    let message = match envelope.message.ok_or("an envelope without a message")? {
        Pb::LeaseAsk(pb::LeaseAsk { token, id, renew }) => {
            return driver(DriverMessage::Lease(LeaseMessage::Ask { token, id, renew }));
        }
        Pb::LeaseAnswer(pb::LeaseAnswer { token, granted, remaining }) => {
            return driver(DriverMessage::Lease(LeaseMessage::Answer { token, granted, remaining }));
        }
        Pb::CutWanted(pb::CutWanted {}) => return driver(DriverMessage::CutWanted),
        Pb::ControlAsk(pb::ControlAsk { token, call }) => {
            return driver(DriverMessage::ControlAsk { token, call: own(&call) });
        }
        Pb::ControlAnswer(pb::ControlAnswer { token, answer }) => {
            return driver(DriverMessage::ControlAnswer { token, answer: own(&answer) });
        }
        other => from_pb(other)?,
    };
    Ok(Incoming::Protocol(Envelope { lineage, generation, from, incarnation, message }))
}

fn to_pb(message: &Message) -> Pb {
    match message {
        Message::Forward { requests } => Pb::Forward(pb::Forward { requests: requests.clone() }),
        Message::Refused { session, numbers } => Pb::Refused(pb::Refused {
            numbers: numbers.iter().map(|n| n.0).collect(),
            client: session.client,
            incarnation: session.incarnation.0,
        }),
        Message::Prepare { ballot, commit, entry } => Pb::Prepare(pb::Prepare {
            ballot: ballot_to(*ballot),
            commit: commit.0,
            entry: Some(entry_to(entry)),
        }),
        Message::PrepareOk { ballot, op, digest } => {
            Pb::PrepareOk(pb::PrepareOk { ballot: ballot_to(*ballot), op: op.0, digest: digest_to(digest) })
        }
        Message::Commit { ballot, commit, digest, round, shipper } => Pb::Commit(pb::Commit {
            ballot: ballot_to(*ballot),
            commit: commit.0,
            digest: digest_to(digest),
            round: *round,
            shipper: shipper.map(|s| s.0),
        }),
        Message::CommitOk { ballot, round, op } => {
            Pb::CommitOk(pb::CommitOk { ballot: ballot_to(*ballot), round: *round, op: op.0 })
        }
        Message::ReadIndex { token } => Pb::ReadIndex(pb::ReadIndex { token: *token }),
        Message::ReadIndexIs { token, op } => {
            Pb::ReadIndexIs(pb::ReadIndexIs { token: *token, op: op.map(|op| op.0) })
        }
        Message::StartViewChange { ballot } => {
            Pb::StartViewChange(pb::StartViewChange { ballot: ballot_to(*ballot) })
        }
        Message::DoViewChange { ballot, last_normal, commit, op, headers } => {
            Pb::DoViewChange(pb::DoViewChange {
                ballot: ballot_to(*ballot),
                last_normal: ballot_to(*last_normal),
                commit: commit.0,
                op: op.0,
                headers: headers.iter().map(header_to).collect(),
            })
        }
        Message::StartView { ballot, commit, op, headers } => Pb::StartView(pb::StartView {
            ballot: ballot_to(*ballot),
            commit: commit.0,
            op: op.0,
            headers: headers.iter().map(header_to).collect(),
        }),
        Message::GetView { nonce, promised, checkpoint, epoch } => Pb::GetView(pb::GetView {
            nonce: *nonce,
            promised: ballot_to(*promised),
            checkpoint: checkpoint.0,
            epoch: epoch.0,
        }),
        Message::ViewIs { nonce, ballot, commit, op, digest } => Pb::ViewIs(pb::ViewIs {
            nonce: *nonce,
            ballot: ballot_to(*ballot),
            commit: commit.0,
            op: op.0,
            digest: digest_to(digest),
        }),
        Message::Standing { nonce, promised, amnesiac, holds } => Pb::Standing(pb::Standing {
            nonce: *nonce,
            promised: ballot_to(*promised),
            amnesiac: *amnesiac,
            holds: holds.0,
        }),
        Message::GetEntries { ballot, from, to } => {
            Pb::GetEntries(pb::GetEntries { ballot: ballot_to(*ballot), from: from.0, to: to.0 })
        }
        Message::Entries { ballot, oldest, entries } => Pb::Entries(pb::Entries {
            ballot: ballot_to(*ballot),
            oldest: oldest.0,
            entries: entries.iter().map(entry_to).collect(),
        }),
        Message::GetState { ballot, cut, number, want } => Pb::GetState(pb::GetState {
            ballot: ballot_to(*ballot),
            cut: cut.0,
            number: *number,
            want: want.clone(),
        }),
        Message::State { ballot, cut, root, number, portion } => Pb::State(pb::State {
            ballot: ballot_to(*ballot),
            cut: cut.0,
            root: digest_to(root),
            number: *number,
            portion: portion.clone(),
        }),
        Message::Root { op, root } => Pb::Root(pb::Root { op: op.0, root: digest_to(root) }),
        Message::NewEpoch { configuration, op, digest, hearsay } => Pb::NewEpoch(pb::NewEpoch {
            configuration: configuration.encode().into(),
            op: op.0,
            digest: digest_to(digest),
            hearsay: *hearsay,
        }),
        Message::EpochStarted { epoch } => Pb::EpochStarted(pb::EpochStarted { epoch: epoch.0 }),
        Message::Reconfigure { token, replaces, next } => Pb::Reconfigure(pb::Reconfigure {
            token: *token,
            replaces: digest_to(replaces),
            next: next.encode().into(),
        }),
        Message::ReconfigureIs { token, outcome } => {
            Pb::ReconfigureIs(pb::ReconfigureIs { token: *token, outcome: Some(outcome_to(outcome)) })
        }
        Message::HandOff { ballot, view } => {
            Pb::HandOff(pb::HandOff { ballot: ballot_to(*ballot), view: view.0 })
        }
    }
}

fn from_pb(message: Pb) -> Result<Message, String> {
    Ok(match message {
        Pb::Forward(m) => Message::Forward { requests: own(&m.requests) },
        Pb::Refused(m) => Message::Refused {
            session: SessionId { client: m.client, incarnation: Incarnation(m.incarnation) },
            numbers: m.numbers.into_iter().map(RequestNumber).collect(),
        },
        Pb::Prepare(m) => Message::Prepare {
            ballot: ballot(m.ballot)?,
            commit: Op(m.commit),
            entry: entry(m.entry.ok_or("a Prepare without an entry")?)?,
        },
        Pb::PrepareOk(m) => {
            Message::PrepareOk { ballot: ballot(m.ballot)?, op: Op(m.op), digest: digest(&m.digest)? }
        }
        Pb::Commit(m) => Message::Commit {
            ballot: ballot(m.ballot)?,
            commit: Op(m.commit),
            digest: digest(&m.digest)?,
            round: m.round,
            shipper: m.shipper.map(ReplicaId),
        },
        Pb::CommitOk(m) => Message::CommitOk { ballot: ballot(m.ballot)?, round: m.round, op: Op(m.op) },
        Pb::ReadIndex(m) => Message::ReadIndex { token: m.token },
        Pb::ReadIndexIs(m) => Message::ReadIndexIs { token: m.token, op: m.op.map(Op) },
        Pb::StartViewChange(m) => Message::StartViewChange { ballot: ballot(m.ballot)? },
        Pb::DoViewChange(m) => Message::DoViewChange {
            ballot: ballot(m.ballot)?,
            last_normal: ballot(m.last_normal)?,
            commit: Op(m.commit),
            op: Op(m.op),
            headers: m.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        },
        Pb::StartView(m) => Message::StartView {
            ballot: ballot(m.ballot)?,
            commit: Op(m.commit),
            op: Op(m.op),
            headers: m.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        },
        Pb::GetView(m) => {
            let (promised, checkpoint) = (ballot(m.promised)?, Op(m.checkpoint));
            Message::GetView { nonce: m.nonce, promised, checkpoint, epoch: Epoch(m.epoch) }
        }
        Pb::ViewIs(m) => Message::ViewIs {
            nonce: m.nonce,
            ballot: ballot(m.ballot)?,
            commit: Op(m.commit),
            op: Op(m.op),
            digest: digest(&m.digest)?,
        },
        Pb::Standing(m) => {
            let (promised, holds) = (ballot(m.promised)?, Epoch(m.holds));
            Message::Standing { nonce: m.nonce, promised, amnesiac: m.amnesiac, holds }
        }
        Pb::GetEntries(m) => {
            Message::GetEntries { ballot: ballot(m.ballot)?, from: Op(m.from), to: Op(m.to) }
        }
        Pb::Entries(m) => Message::Entries {
            ballot: ballot(m.ballot)?,
            oldest: Op(m.oldest),
            entries: m.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        },
        Pb::GetState(m) => Message::GetState {
            ballot: ballot(m.ballot)?,
            cut: Op(m.cut),
            number: m.number,
            want: own(&m.want),
        },
        Pb::State(m) => Message::State {
            ballot: ballot(m.ballot)?,
            cut: Op(m.cut),
            root: digest(&m.root)?,
            number: m.number,
            portion: own(&m.portion),
        },
        Pb::Root(m) => Message::Root { op: Op(m.op), root: digest(&m.root)? },
        Pb::NewEpoch(m) => Message::NewEpoch {
            configuration: configuration(&m.configuration)?,
            op: Op(m.op),
            digest: digest(&m.digest)?,
            hearsay: m.hearsay,
        },
        Pb::EpochStarted(m) => Message::EpochStarted { epoch: Epoch(m.epoch) },
        Pb::Reconfigure(m) => Message::Reconfigure {
            token: m.token,
            replaces: digest(&m.replaces)?,
            next: configuration(&m.next)?,
        },
        Pb::ReconfigureIs(m) => Message::ReconfigureIs {
            token: m.token,
            outcome: outcome(m.outcome.ok_or("an answer without an outcome")?)?,
        },
        Pb::HandOff(m) => Message::HandOff { ballot: ballot(m.ballot)?, view: View(m.view) },
        Pb::LeaseAsk(_)
        | Pb::LeaseAnswer(_)
        | Pb::CutWanted(_)
        | Pb::ControlAsk(_)
        | Pb::ControlAnswer(_) => {
            return Err("a driver's message in the protocol".to_owned());
        }
    })
}

fn configuration(bytes: &[u8]) -> Result<Configuration, String> {
    Configuration::decode(bytes).map_err(|e| e.to_string())
}

fn outcome_to(outcome: &Result<Epoch, Refusal>) -> pb::reconfigure_is::Outcome {
    use pb::reconfigure_is::{NotReady, Outcome as Pb, Stale, Unanswered};
    match outcome {
        Ok(epoch) => Pb::Epoch(epoch.0),
        Err(Refusal::Stale { now, epoch }) => Pb::Stale(Stale { now: digest_to(now), epoch: epoch.0 }),
        Err(Refusal::Pending { epoch }) => Pb::Pending(epoch.0),
        Err(Refusal::NotReady { id, lag }) => Pb::NotReady(NotReady { id: id.0, lag: *lag }),
        Err(Refusal::ReusedId(id)) => Pb::ReusedId(id.0),
        Err(Refusal::Invalid(why)) => Pb::Invalid(why.clone()),
        Err(Refusal::Unanswered) => Pb::Unanswered(Unanswered {}),
    }
}

fn outcome(outcome: pb::reconfigure_is::Outcome) -> Result<Result<Epoch, Refusal>, String> {
    use pb::reconfigure_is::Outcome as Pb;
    Ok(Err(match outcome {
        Pb::Epoch(epoch) => return Ok(Ok(Epoch(epoch))),
        Pb::Stale(m) => Refusal::Stale { now: digest(&m.now)?, epoch: Epoch(m.epoch) },
        Pb::Pending(epoch) => Refusal::Pending { epoch: Epoch(epoch) },
        Pb::NotReady(m) => Refusal::NotReady { id: ReplicaId(m.id), lag: m.lag },
        Pb::ReusedId(id) => Refusal::ReusedId(ReplicaId(id)),
        Pb::Invalid(why) => Refusal::Invalid(why),
        Pb::Unanswered(_) => Refusal::Unanswered,
    }))
}

fn ballot_to(ballot: Ballot) -> Option<pb::Ballot> {
    Some(pb::Ballot { epoch: ballot.epoch.0, view: ballot.view.0 })
}

fn ballot(ballot: Option<pb::Ballot>) -> Result<Ballot, String> {
    let pb::Ballot { epoch, view } = ballot.ok_or("no ballot")?;
    Ok(Ballot { epoch: Epoch(epoch), view: View(view) })
}

fn digest_to(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(&digest.0)
}

fn digest(bytes: &Bytes) -> Result<Digest, String> {
    Ok(Digest(bytes.as_ref().try_into().map_err(|_| "a digest is not 32 bytes")?))
}

fn header_to(header: &Header) -> pb::Header {
    pb::Header {
        op: header.op.0,
        ballot: ballot_to(header.ballot),
        kind: header.kind as u32,
        time: header.time,
        body: digest_to(&header.body),
        parent: digest_to(&header.parent),
    }
}

fn header(header: pb::Header) -> Result<Header, String> {
    let kind = match header.kind {
        1 => Kind::Requests,
        2 => Kind::NewView,
        3 => Kind::Checkpoint,
        4 => Kind::Reconfigure,
        other => return Err(format!("entry kind {other} is not known: is the sender newer?")),
    };
    Ok(Header {
        op: Op(header.op),
        ballot: ballot(header.ballot)?,
        kind,
        time: header.time,
        body: digest(&header.body)?,
        parent: digest(&header.parent)?,
    })
}

fn entry_to(entry: &Entry) -> pb::Entry {
    pb::Entry { header: Some(header_to(&entry.header)), body: entry.body.clone() }
}

fn entry(entry: pb::Entry) -> Result<Entry, String> {
    Ok(Entry { header: header(entry.header.ok_or("an entry without a header")?)?, body: own(&entry.body) })
}

/// Memory of its own for what may be kept: an entry lives as long as the log does, and the flight recorder holds every
/// message for a while. A slice of what was received would keep that whole buffer alive (64 KiB for a request of 200
/// bytes), and the next read would need a fresh one.
fn own(received: &Bytes) -> Bytes {
    Bytes::copy_from_slice(received)
}

#[cfg(test)]
mod tests;
