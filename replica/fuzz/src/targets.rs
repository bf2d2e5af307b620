//! The decoders, each with what must hold of it, and how an input becomes one that passes its checksum.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use vr_checkpoint::format;
use vr_core::{Accepted, At, CoreState, Entry, Header, Op, RequestNumber, SessionId, StateMachine, batch};
use vr_proto::client::{ToClient, ToReplica};
use vr_proto::etcdserverpb as pb;
use vr_proto::frame;
use vr_replica::peer::codec::{self, Incoming};
use vr_replica::{config, vote};
use vr_store::{Command, Options, Store};
use vr_tree::{Page, PageError, VerifiedPage};

/// What a decoder made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, and what must hold of that was checked.
    Accepted,
    /// Refused with an error.
    Refused,
}

/// A decoder.
pub struct Target {
    /// Its directory in `corpus/`.
    pub name: &'static str,
    /// Decodes; panics when something that must hold does not.
    pub decode: fn(&[u8]) -> Verdict,
    /// Puts the checksums of a changed input right, so that what lies behind them is reached.
    pub seal: fn(&mut Vec<u8>),
}

/// All of them.
#[must_use]
pub fn targets() -> Vec<Target> {
    let target = |name, decode, seal| Target { name, decode, seal };
    vec![
        target("core-header", header, unsealed),
        target("core-entry", entry, entry_seal),
        target("core-batch", requests, unsealed),
        target("core-state", core_state, unsealed),
        target("peer-frame", peer_frame, unsealed),
        target("client-frame", client_frame, client_frame_seal),
        target("vote-record", vote_record, trailing_crc),
        target("store-command", command, unsealed),
        target("store-execute", execute, unsealed),
        target("tree-page", page, unsealed),
        target("tree-delta", delta, unsealed),
        target("checkpoint-frame", checkpoint_frame, frame_seal),
        target("checkpoint-pack", pack, pack_seal),
        target("checkpoint-index", index, trailing_crc),
        target("checkpoint-segment", segment, trailing_crc),
        target("checkpoint-manifest", manifest, manifest_seal),
        target("checkpoint-head", head, unsealed),
        target("configuration", configuration, unsealed),
        target("etcd-requests", etcd_requests, unsealed),
    ]
}

fn verdict<T, E>(result: &Result<T, E>) -> Verdict {
    if result.is_ok() { Verdict::Accepted } else { Verdict::Refused }
}

fn header(bytes: &[u8]) -> Verdict {
    let decoded = Header::decode(bytes);
    if let Ok(header) = &decoded {
        assert_eq!(header.encode().as_slice(), bytes);
    }
    verdict(&decoded)
}

fn entry(bytes: &[u8]) -> Verdict {
    let decoded = Entry::decode(bytes);
    if let Ok(entry) = &decoded {
        assert_eq!(entry.encode(), bytes);
        assert_eq!(entry.check(), Ok(()));
    }
    verdict(&decoded)
}

/// The header names the body's digest.
fn entry_seal(bytes: &mut Vec<u8>) {
    let Some((head, rest)) = bytes.split_at_checked(vr_core::codec::HEADER_BYTES) else { return };
    let (Ok(header), Some((_, body))) = (Header::decode(head), rest.split_at_checked(4)) else { return };
    let body = Bytes::copy_from_slice(body);
    *bytes = Entry::new(header.op, header.ballot, header.kind, header.time, header.parent, body).encode();
}

fn requests(bytes: &[u8]) -> Verdict {
    let checked = batch::check(bytes);
    if checked.is_ok() {
        let mut again = Vec::new();
        for request in batch::requests(bytes).flatten() {
            batch::push(&mut again, request.session, request.number, request.body);
        }
        assert_eq!(again, bytes);
    }
    verdict(&checked)
}

fn core_state(bytes: &[u8]) -> Verdict {
    let decoded = CoreState::decode(bytes);
    if let Ok(state) = &decoded {
        // Older formats are read and not written: the same state, not the same bytes.
        let again = state.encode();
        assert_eq!(CoreState::decode(&again).as_ref(), Ok(state));
        assert!(again == bytes || again[0] != bytes[0], "one format writes a state in two ways");
    }
    verdict(&decoded)
}

fn peer_frame(bytes: &[u8]) -> Verdict {
    let decoded = codec::decode(Bytes::copy_from_slice(bytes));
    if let Ok(Incoming::Protocol(envelope)) = &decoded {
        // Protobuf allows several spellings of one message; ours must be understood as what was meant.
        let mut frame = BytesMut::new();
        codec::encode(envelope, &mut frame);
        let again = codec::decode(frame.split_off(8).freeze());
        assert_eq!(again.as_ref(), Ok(&Incoming::Protocol(envelope.clone())));
    }
    verdict(&decoded)
}

/// What a native client sends and is sent: frames of either message.
fn client_frame(bytes: &[u8]) -> Verdict {
    let mut buffer = BytesMut::from(bytes);
    let Ok(Some(payload)) = frame::next_payload(&mut buffer) else { return Verdict::Refused };
    let _ = ToClient::decode(payload.clone()).map(|said| {
        assert_eq!(ToClient::decode(said.encode_to_vec().as_slice()).as_ref(), Ok(&said));
    });
    let decoded = ToReplica::decode(payload);
    if let Ok(asked) = &decoded {
        assert_eq!(ToReplica::decode(asked.encode_to_vec().as_slice()).as_ref(), Ok(asked));
    }
    verdict(&decoded)
}

/// Length and checksum of one frame that is the whole input.
#[allow(clippy::ptr_arg, reason = "a seal may change the length; this one does not")]
fn client_frame_seal(bytes: &mut Vec<u8>) {
    let Some(payload) = bytes.get(frame::HEAD..) else { return };
    let mut sealed = BytesMut::new();
    let start = frame::begin(&mut sealed);
    sealed.extend_from_slice(payload);
    frame::end(&mut sealed, start);
    bytes.copy_from_slice(&sealed);
}

fn vote_record(bytes: &[u8]) -> Verdict {
    let decoded = vote::decode(bytes);
    if let Some(record) = decoded {
        assert_eq!(vote::encode(record).as_slice(), bytes);
    }
    decoded.map_or(Verdict::Refused, |_| Verdict::Accepted)
}

fn command(bytes: &[u8]) -> Verdict {
    let decoded = Command::decode(bytes);
    if let Ok(command) = &decoded {
        let mut again = Vec::new();
        command.encode(&mut again);
        assert_eq!(again, bytes);
    }
    verdict(&decoded)
}

/// Every body that reaches the log is executed by every replica: to the same state and the same answers, and in peace.
fn execute(bytes: &[u8]) -> Verdict {
    let mut stores = [Store::new(Options::default()), Store::new(Options::default())];
    let reserve = {
        let mut body = Vec::new();
        Command::Reserve { revision: vr_store::Revision(1_000_000) }.encode(&mut body);
        body
    };
    let answers = stores.each_mut().map(|store| {
        let mut replies = Vec::new();
        for (op, body) in [reserve.as_slice(), bytes, bytes].into_iter().enumerate() {
            let at = At { op: Op(op as u64 + 1), time: 1_000_000 };
            let request = Accepted {
                session: SessionId::default(),
                number: RequestNumber(op as u64 + 1),
                body,
                reply_wanted: true,
            };
            store.execute(at, &[request], &mut replies);
        }
        assert_eq!(replies.len(), 3, "one answer for each request");
        format!("{replies:?}")
    });
    assert_eq!(answers[0], answers[1]);
    let roots = stores.map(|mut store| {
        let snapshot = store.cut(Op(3), b"core");
        Store::export(&snapshot, &[], 1 << 20)
    });
    assert_eq!(roots[0], roots[1]);
    verdict(&Command::decode(bytes))
}

fn page(bytes: &[u8]) -> Verdict {
    verdict(&Page::decode(bytes))
}

/// The length of a page 4, that page, and a delta on it. Whatever page comes out is made again by the delta that is made
/// of it.
fn delta(bytes: &[u8]) -> Verdict {
    let split = bytes
        .split_first_chunk()
        .and_then(|(len, rest)| rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?));
    let Some((page, delta)) = split else { return Verdict::Refused };
    // Nobody knows the ids of pages that nobody wrote but whoever compares them with another.
    let of_its_own_id = |result: &dyn Fn(&[u8; 32]) -> Result<VerifiedPage, PageError>| match result(&[0; 32])
    {
        Err(PageError::Id(id)) => result(&id),
        other => other,
    };
    let Ok(base) = of_its_own_id(&|id| Page::verify(id, page)) else { return Verdict::Refused };
    let made = of_its_own_id(&|id| base.apply([delta], id));
    if let Ok(made) = &made {
        let mut again = Vec::new();
        assert!(made.delta(&base, usize::MAX, &mut again));
        assert_eq!(base.apply([&again[..]], &made.id()).map(|page| page.id()), Ok(made.id()));
    }
    verdict(&made)
}

fn checkpoint_frame(bytes: &[u8]) -> Verdict {
    let parsed = format::Frame::parse("input", bytes);
    let page = parsed.and_then(|(frame, _)| match frame.delta() {
        Some(delta) => Ok(delta.to_vec()),
        None => frame.page("input"),
    });
    verdict(&page)
}

/// The checksum of a frame's header and stored bytes stands between the two.
#[allow(clippy::ptr_arg, reason = "a seal may change the length; this one does not")]
fn frame_seal(bytes: &mut Vec<u8>) {
    const CRC: usize = 42;
    let Some((head, rest)) = bytes.split_at_checked(CRC) else { return };
    let Some((_, stored)) = rest.split_at_checked(4) else { return };
    let len = u32::from_le_bytes(head[38..42].try_into().expect("four bytes")) as usize;
    let Some(stored) = stored.get(..len) else { return };
    let crc = crc32c::crc32c_append(crc32c::crc32c(head), stored);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
}

fn pack(bytes: &[u8]) -> Verdict {
    let parsed = format::Pack::parse("input", bytes);
    if let Ok(pack) = &parsed {
        for entry in &pack.entries {
            let _ = format::Frame::parse("input", pack.frame(entry)).and_then(|(f, _)| f.page("input"));
        }
    }
    verdict(&parsed)
}

/// The places' checksum: the trailer is count 4, where they begin 8, CRC32C 4, and the end mark.
#[allow(clippy::ptr_arg, reason = "a seal may change the length; this one does not")]
fn pack_seal(bytes: &mut Vec<u8>) {
    let Some(trailer) = bytes.len().checked_sub(20) else { return };
    let at = u64::from_le_bytes(bytes[trailer + 4..trailer + 12].try_into().expect("eight bytes"));
    let Some(places) = usize::try_from(at).ok().and_then(|at| bytes.get(at..trailer)) else { return };
    let crc = crc32c::crc32c(places);
    bytes[trailer + 12..trailer + 16].copy_from_slice(&crc.to_le_bytes());
}

fn index(bytes: &[u8]) -> Verdict {
    let parsed = format::Index::parse("input", bytes);
    if let Ok(index) = &parsed {
        assert_eq!(index.encode(), bytes);
    }
    verdict(&parsed)
}

fn segment(bytes: &[u8]) -> Verdict {
    let parsed = format::Segment::parse("input", &Bytes::copy_from_slice(bytes));
    if let Ok(segment) = &parsed {
        assert_eq!(segment.encode(), bytes);
    }
    verdict(&parsed)
}

fn manifest(bytes: &[u8]) -> Verdict {
    let parsed = format::Manifest::parse("input", bytes);
    if let Ok(manifest) = &parsed {
        assert_eq!(manifest.clone().encode(), bytes);
        assert!(manifest.root().is_some(), "an accepted manifest names a root");
    }
    verdict(&parsed)
}

/// A manifest hashes itself; whatever is a manifest at all is written anew.
fn manifest_seal(bytes: &mut Vec<u8>) {
    if let Ok(mut manifest) = serde_json::from_slice::<format::Manifest>(bytes) {
        *bytes = manifest.encode();
    }
}

fn head(bytes: &[u8]) -> Verdict {
    verdict(&format::Head::parse("input", bytes))
}

fn configuration(bytes: &[u8]) -> Verdict {
    let parsed = serde_yaml::from_slice::<config::Raw>(bytes);
    match parsed.map(config::Raw::resolve) {
        Ok(resolved) => verdict(&resolved),
        Err(_) => Verdict::Refused,
    }
}

/// What clients send is decoded by `prost` and judged by the state machine; here the first half.
fn etcd_requests(bytes: &[u8]) -> Verdict {
    let decoded = pb::TxnRequest::decode(bytes);
    let _ = pb::RangeRequest::decode(bytes);
    let _ = pb::WatchRequest::decode(bytes);
    verdict(&decoded)
}

fn unsealed(_: &mut Vec<u8>) {}

/// The last four bytes are the CRC32C of all before.
#[allow(clippy::ptr_arg, reason = "a seal may change the length; this one does not")]
fn trailing_crc(bytes: &mut Vec<u8>) {
    if let Some(at) = bytes.len().checked_sub(4) {
        let crc = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
    }
}
