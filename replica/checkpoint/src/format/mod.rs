//! The records of `vrckpt/1`, byte for byte. Every parser is strict: it takes what a writer of this format wrote and
//! says of anything else which file it is, what is wrong and what to do. `docs/checkpoint-format.md` says the same for
//! whoever writes another reader; `tests/golden` and `tests/reader` hold both to it.

mod frame;
mod head;
mod index;
mod manifest;
mod names;
mod pack;
mod plan;
mod read;
mod segment;

pub use frame::{Codec, Frame, FrameHeader, Kind};
pub(crate) use frame::{Framer, frame_delta, most_of_delta};
pub use head::{Head, HeadState, Parent, Retained};
pub use index::{Index, Place};
pub use manifest::{Manifest, ManifestState, Named};
pub use names::{Names, Part};
pub use pack::{Pack, PackBuilder, PackEnd, PackEntry};
pub use plan::Plan;
pub(crate) use segment::SegmentBuilder;
pub use segment::{Committed, LogEntry, Segment};

/// Name and version of the format, in every JSON record that needs no later one.
pub const FORMAT: &str = "vrckpt/1";
/// The version that has deltas: of manifests that need them.
pub const DELTA_FORMAT: &str = "vrckpt/2";
/// The newest version of binary records.
pub(crate) const VERSION: u32 = 2;
/// How many deltas may stand between a page and one that is stored whole.
pub const DELTAS_MAX: usize = 4;

/// A file that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It was written by a newer release.
    #[error("{file} is {found}, this release reads {DELTA_FORMAT}: use a release that reads {found}")]
    Newer {
        /// Which file.
        file: String,
        /// What it says it is.
        found: String,
    },
    /// It is damaged or something else.
    #[error("{file} is not a valid {what}: {reason}")]
    Invalid {
        /// Which file.
        file: String,
        /// What it should have been.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Hexadecimal of a digest, as it stands in JSON and in names.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest from its hexadecimal form.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
