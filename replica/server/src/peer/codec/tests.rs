use super::*;

fn members() -> Configuration {
    let mut it = Configuration::bare(Epoch(1), [3, 1].map(ReplicaId));
    it.learners.push(vr_core::Member { domain: "b".to_owned(), ..vr_core::Member::bare(ReplicaId(7)) });
    it
}

#[test]
fn every_outcome_of_a_reconfiguration_comes_back_as_it_was() {
    let refusals = [
        Refusal::Stale { now: Digest([1; 32]), epoch: Epoch(2) },
        Refusal::Pending { epoch: Epoch(3) },
        Refusal::NotReady { id: ReplicaId(4), lag: Some(0) },
        Refusal::NotReady { id: ReplicaId(4), lag: None },
        Refusal::ReusedId(ReplicaId(5)),
        Refusal::Invalid("why".to_owned()),
        Refusal::Unanswered,
    ];
    for sent in refusals.into_iter().map(Err).chain([Ok(Epoch(0)), Ok(Epoch(9))]) {
        assert_eq!(outcome(outcome_to(&sent)), Ok(sent));
    }
    assert!(from_pb(Pb::ReconfigureIs(pb::ReconfigureIs { token: 1, outcome: None })).is_err());
}

fn every_message() -> Vec<Message> {
    let ballot = Ballot { epoch: Epoch(1), view: View(7) };
    let header = Header {
        op: Op(9),
        ballot,
        kind: Kind::Requests,
        time: 11,
        body: Digest([3; 32]),
        parent: Digest([4; 32]),
    };
    let entry = Entry { header, body: Bytes::from_static(b"body") };
    let (op, commit, digest) = (Op(9), Op(8), Digest([5; 32]));
    vec![
        Message::Forward { requests: Bytes::from_static(b"batch") },
        Message::Refused {
            session: SessionId { client: 7, incarnation: Incarnation(3) },
            numbers: vec![RequestNumber(1), RequestNumber(9)],
        },
        Message::Prepare { ballot, commit, entry: entry.clone() },
        Message::PrepareOk { ballot, op, digest },
        Message::Commit { ballot, commit, digest, round: 3, shipper: Some(ReplicaId(2)) },
        Message::Commit { ballot, commit, digest, round: 0, shipper: None },
        Message::CommitOk { ballot, round: 3, op },
        Message::ReadIndex { token: 1 },
        Message::ReadIndexIs { token: 1, op: Some(op) },
        Message::ReadIndexIs { token: 1, op: None },
        Message::StartViewChange { ballot },
        Message::DoViewChange { ballot, last_normal: ballot, commit, op, headers: vec![header] },
        Message::StartView { ballot, commit, op, headers: vec![header, header] },
        Message::GetView { nonce: 1, promised: ballot, checkpoint: op, epoch: Epoch(3) },
        Message::ViewIs { nonce: 1, ballot, commit, op, digest },
        Message::Standing { nonce: 1, promised: ballot, amnesiac: true, holds: Epoch(3) },
        Message::GetEntries { ballot, from: commit, to: op },
        Message::Entries { ballot, oldest: Op(1), entries: vec![entry] },
        Message::GetState { ballot, cut: Op(0), number: 1, want: Bytes::new() },
        Message::GetState { ballot, cut: op, number: 2, want: Bytes::from_static(b"w") },
        Message::State { ballot, cut: op, root: digest, number: 2, portion: Bytes::from_static(b"p") },
        Message::Root { op, root: digest },
        Message::NewEpoch { configuration: members(), op, digest, hearsay: true },
        Message::EpochStarted { epoch: Epoch(4) },
        Message::Reconfigure { token: 5, replaces: digest, next: members() },
        Message::HandOff { ballot, view: View(9) },
    ]
}

fn driver_message(message: DriverMessage) -> Incoming {
    let (lineage, generation, from) = (Lineage([1; 16]), Generation(2), ReplicaId(3));
    Incoming::Driver { lineage, generation, from, message }
}

/// Who sends everything here.
const WHO: Sender = (Lineage([1; 16]), Generation(2), ReplicaId(3), Incarnation(4));

fn payload(out: &BytesMut) -> Bytes {
    Bytes::copy_from_slice(&out[8..])
}

/// A message in its envelope, and the frame of it.
fn encoded(message: Message) -> (Envelope, BytesMut) {
    let (lineage, generation, from, incarnation) = WHO;
    let envelope = Envelope { lineage, generation, from, incarnation, message };
    let mut out = BytesMut::new();
    encode(&envelope, &mut out);
    (envelope, out)
}

#[test]
fn every_message_survives_the_wire() {
    for message in every_message() {
        let (envelope, out) = encoded(message);
        assert_eq!(decode(payload(&out)), Ok(Incoming::Protocol(envelope)));
    }
    for message in [
        LeaseMessage::Ask { token: 1, id: -5, renew: true },
        LeaseMessage::Answer { token: 1, granted: 60, remaining: Some(-1) },
        LeaseMessage::Answer { token: 1, granted: 0, remaining: None },
    ] {
        let mut out = BytesMut::new();
        encode_lease(WHO, message, &mut out);
        assert_eq!(decode(payload(&out)), Ok(driver_message(DriverMessage::Lease(message))));
    }
    let mut out = BytesMut::new();
    encode_cut_wanted(WHO, &mut out);
    assert_eq!(decode(payload(&out)), Ok(driver_message(DriverMessage::CutWanted)));
    let (mut out, call) = (BytesMut::new(), Bytes::from_static(b"call"));
    encode_control_ask(WHO, 7, call.clone(), &mut out);
    let ask = DriverMessage::ControlAsk { token: 7, call: call.clone() };
    assert_eq!(decode(payload(&out)), Ok(driver_message(ask)));
    let mut out = BytesMut::new();
    encode_control_answer(WHO, 7, call.clone(), &mut out);
    assert_eq!(
        decode(payload(&out)),
        Ok(driver_message(DriverMessage::ControlAnswer { token: 7, answer: call }))
    );
}

/// What is decoded may be kept for long, and what it was received in is a buffer many times its size.
#[test]
fn nothing_that_is_decoded_keeps_what_it_was_received_in() {
    let mut frames: Vec<BytesMut> = every_message().into_iter().map(|message| encoded(message).1).collect();
    let call = Bytes::from_static(b"call");
    let (mut ask, mut answer) = (BytesMut::new(), BytesMut::new());
    encode_control_ask(WHO, 7, call.clone(), &mut ask);
    encode_control_answer(WHO, 7, call, &mut answer);
    frames.extend([ask, answer]);
    for frame in frames {
        let received = payload(&frame);
        let decoded = decode(received.clone()).expect("it was encoded here");
        assert!(received.is_unique(), "{decoded:?}");
    }
}

/// Whatever is cut off or flipped is an error or another message, never a panic.
#[test]
fn malformed_payloads_are_refused() {
    for message in every_message() {
        let (_, out) = encoded(message);
        let bytes = payload(&out);
        for cut in 0..bytes.len() {
            let _ = decode(bytes.slice(..cut));
            let mut flipped = bytes.to_vec();
            flipped[cut] ^= 0x55;
            let _ = decode(Bytes::from(flipped));
        }
    }
    assert!(decode(Bytes::new()).is_err());
    assert!(decode(Bytes::from_static(b"GET / HTTP/1.1")).is_err());
}
