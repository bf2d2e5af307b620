//! A recording as a file.
//!
//! `vrflight` (8 bytes), the format (`u32`, little endian), frames under zstd, and BLAKE3 over all before it (32 bytes). A
//! frame is its length (`u32`, little endian) and a value in postcard. In order: [`Head`], the replica without its state,
//! a state that its log leads on from, each cut it keeps as what differs from that state, the steps in pieces, and the
//! end. States and steps end with a piece that is empty.

use crate::recorder::{Step, Tape};
use crate::state::{self, Changes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use vr_core::{Apart, Digest};
use vr_store::{Options, Revision};
use vr_tree::{Snapshot, Tree};

/// The format that this build writes and reads.
pub const FORMAT: u32 = 2;

const MAGIC: &[u8; 8] = b"vrflight";
/// Fast, and still a fifth of the size.
const LEVEL: i32 = 1;
/// A longer frame was not written by this program.
const MAX_FRAME: usize = 1 << 30;

/// What everything else depends on.
#[derive(Serialize, serde::Deserialize)]
struct Head {
    /// The release that recorded it.
    release: String,
    max_txn_ops: u64,
    min_lease_ttl: i64,
    memory_limit: u64,
    first_reservation: i64,
    cuts: u64,
}

/// How it all ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct End {
    /// The replica without its state, hashed.
    pub(crate) apart: Digest,
    /// The state.
    pub(crate) root: Digest,
}

impl End {
    pub(crate) fn of(apart: &Apart, state: &Snapshot) -> End {
        let bytes = postcard::to_stdvec(apart).expect("a replica is plain data");
        End { apart: Digest(*blake3::hash(&bytes).as_bytes()), root: Digest(state.root()) }
    }
}

/// A tape, read back.
pub struct Recording {
    /// The release that recorded it.
    pub release: String,
    pub(crate) options: Options,
    pub(crate) apart: Apart,
    pub(crate) state: Snapshot,
    pub(crate) cuts: Vec<Snapshot>,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: Option<End>,
}

/// Why a file is no recording that can be told again.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another kind of file.
    #[error("this is no recording of a replica: it does not begin with \"vrflight\"")]
    Foreign,
    /// A newer or older release.
    #[error("the recording has format {0}, this build reads {FORMAT}: use the release that recorded it")]
    Format(u32),
    /// Cut short, or changed on its way.
    #[error("the recording is damaged ({0}): copy it again from where it was written")]
    Damaged(String),
}

fn damaged(why: impl ToString) -> ReadError {
    ReadError::Damaged(why.to_string())
}

/// Hashes all that goes through.
struct Hashing<W> {
    to: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn frame(value: &impl Serialize, to: &mut impl Write) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&bytes)
}

impl Tape {
    /// Writes it out. Takes as long as the state is large: not a matter for the thread of the replica.
    ///
    /// # Errors
    /// What writing to `to` came to.
    pub fn write(&self, options: Options, to: impl Write) -> io::Result<()> {
        let mut to = Hashing { to, hasher: blake3::Hasher::new() };
        to.write_all(MAGIC)?;
        to.write_all(&FORMAT.to_le_bytes())?;
        let mut frames = zstd::Encoder::new(&mut to, LEVEL)?;
        let Options { max_txn_ops, min_lease_ttl, memory_limit, first_reservation } = options;
        let head = Head {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            max_txn_ops: max_txn_ops as u64,
            min_lease_ttl,
            memory_limit,
            first_reservation: first_reservation.0,
            cuts: self.base.cuts.len() as u64,
        };
        frame(&head, &mut frames)?;
        frame(&self.base.apart, &mut frames)?;
        state::changes(&self.base.state, &Snapshot::default(), |piece| frame(&piece, &mut frames))?;
        for cut in &self.base.cuts {
            state::changes(cut, &self.base.state, |piece| frame(&piece, &mut frames))?;
        }
        for steps in self.steps.iter().filter(|steps| !steps.is_empty()) {
            frame(&**steps, &mut frames)?;
        }
        frame(&Vec::<Step>::new(), &mut frames)?;
        frame(&self.end.as_ref().map(|end| End::of(&end.apart, &end.state)), &mut frames)?;
        frames.finish()?;
        let Hashing { mut to, hasher } = to;
        to.write_all(hasher.finalize().as_bytes())?;
        to.flush()
    }
}

/// Frames on their way in.
struct Frames<R>(R);

impl<R: Read> Frames<R> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        let mut len = [0; 4];
        self.0.read_exact(&mut len).map_err(damaged)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_FRAME {
            return Err(damaged(format!("a piece of {len} bytes")));
        }
        // What is claimed is not taken for granted: memory is used as bytes arrive.
        let mut bytes = Vec::new();
        (&mut self.0).take(len as u64).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() < len {
            return Err(damaged("it ends too early"));
        }
        postcard::from_bytes(&bytes).map_err(damaged)
    }

    fn state(&mut self, base: &Snapshot) -> Result<Snapshot, ReadError> {
        let mut tree = Tree::from(base.clone());
        loop {
            let piece: Changes = self.next()?;
            if piece.is_end() {
                return Ok(tree.snapshot());
            }
            piece.apply(&mut tree);
        }
    }
}

impl Recording {
    /// The recording in the bytes of a file.
    ///
    /// # Errors
    /// When they are anything else than what [`Tape::write`] of this build wrote.
    pub fn read(bytes: &[u8]) -> Result<Recording, ReadError> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(ReadError::Foreign) };
        let (format, rest) = rest.split_first_chunk().ok_or_else(|| damaged("it ends too early"))?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(ReadError::Format(format));
        }
        let (frames, sum) = rest.split_last_chunk::<32>().ok_or_else(|| damaged("it ends too early"))?;
        let covered = &bytes[..bytes.len() - sum.len()];
        if blake3::hash(covered) != blake3::Hash::from_bytes(*sum) {
            return Err(damaged("its checksum is wrong"));
        }
        let mut frames = Frames(zstd::Decoder::new(frames).map_err(damaged)?);
        let Head { release, max_txn_ops, min_lease_ttl, memory_limit, first_reservation, cuts } =
            frames.next()?;
        let options = Options {
            max_txn_ops: usize::try_from(max_txn_ops).map_err(damaged)?,
            min_lease_ttl,
            memory_limit,
            first_reservation: Revision(first_reservation),
        };
        let apart = frames.next()?;
        let state = frames.state(&Snapshot::default())?;
        let cuts = (0..cuts).map(|_| frames.state(&state)).collect::<Result<_, _>>()?;
        let mut steps = Vec::new();
        loop {
            let mut piece: Vec<Step> = frames.next()?;
            if piece.is_empty() {
                break;
            }
            steps.append(&mut piece);
        }
        let end = frames.next()?;
        Ok(Recording { release, options, apart, state, cuts, steps, end })
    }

    /// Steps in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
