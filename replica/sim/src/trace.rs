//! What happened, as lines of fixed width: hashed always, printed on request.
//!
//! Two runs with the same hash did the same things at the same times. The hash detects differences between runs of
//! this program; it is not a cryptographic one.

use std::fmt;
use std::io::{self, Write};

/// What a line is about. The order is part of the trace's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each name is the text of its line")]
pub enum What {
    Send,
    Lost,
    Receive,
    Tick,
    Turn,
    Submit,
    Read,
    Reply,
    Rejected,
    Unknown,
    ReadReady,
    ReadFailed,
    WriteVote,
    VoteWritten,
    Standing,
    Committed,
    Cut,
    CutRoot,
    Certified,
    StateReplaced,
    Boot,
    Crash,
    Stop,
    Pause,
    Partition,
    Clog,
    Jump,
    Freeze,
    PeerLost,
    Heal,
    Converged,
    End,
    Propose,
    Decided,
    HandOff,
    Handed,
    Epoch,
    Released,
    Wipe,
    Session,
    Twin,
}

/// One line: when, where, what, and three numbers whose meaning depends on what.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Simulated microseconds since the world began.
    pub time: u64,
    /// Index of the process, or [`Line::WORLD`].
    pub node: u8,
    /// What happened.
    pub what: What,
    /// A name that goes with it (a message's kind, a status), for the reader.
    pub name: &'static str,
    /// Usually a peer.
    pub a: u64,
    /// Usually a ballot, as epoch and view in one number.
    pub b: u64,
    /// Usually an op.
    pub c: u64,
}

impl Line {
    /// A line about no process in particular.
    pub const WORLD: u8 = u8::MAX;
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { time, node, what, name, a, b, c } = *self;
        let what = format!("{what:?}");
        match node {
            Line::WORLD => write!(f, "{time:>10} --  {what:<13} {name:<16} {a:>6} {b:>6} {c:>20}"),
            node => write!(f, "{time:>10} R{node}  {what:<13} {name:<16} {a:>6} {b:>6} {c:>20}"),
        }
    }
}

/// Collects lines.
pub struct Trace {
    hash: u64,
    lines: u64,
    out: Option<Box<dyn Write>>,
}

impl Trace {
    /// Hashes only.
    #[must_use]
    pub fn quiet() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: 0, out: None }
    }

    /// Hashes and prints.
    #[must_use]
    pub fn printed(out: Box<dyn Write>) -> Trace {
        Trace { out: Some(out), ..Trace::quiet() }
    }

    /// Adds a line.
    pub fn line(&mut self, line: Line) {
        let Line { time, node, what, name, a, b, c } = line;
        let name = u64::from(name.as_bytes().first().copied().unwrap_or(0)) | (name.len() as u64) << 8;
        for word in [time, u64::from(node) << 32 | (what as u64) << 16 | name, a, b, c] {
            self.hash = (self.hash ^ word).wrapping_mul(0x2127_599b_f432_5c37).rotate_left(29);
        }
        self.lines += 1;
        if let Some(out) = &mut self.out {
            // A reader that went away (`| head`) ends the printing, not the run: its verdict still counts.
            if writeln!(out, "{line}").is_err() {
                self.out = None;
            }
        }
    }

    /// The hash of all lines so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Hands on what has been printed so far.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), |out| out.flush())
    }
}
