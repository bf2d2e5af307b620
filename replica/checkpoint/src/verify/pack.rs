//! One pack, frame by frame: what of it is whole, and everything that is not.

use super::{Problem, Read, problem};
use crate::format::{Named, Pack, PackEntry};
use crate::restore::{Opened, open_frame};
use bytes::Bytes;

/// What stands in one pack.
pub(super) struct PackFound {
    pub(super) read: Read,
    pub(super) problems: Vec<Problem>,
    pub(super) frames: Vec<([u8; 32], Opened)>,
}

impl PackFound {
    pub(super) fn absent(key: &str, reason: String) -> PackFound {
        PackFound { read: Read::default(), problems: vec![problem(key, None, reason)], frames: Vec::new() }
    }
}

/// Reads a pack frame by frame. A page is verified by its id; of a delta nothing but its checksum, unless the page that it
/// makes is asked for. A frame is looked for where the index says and where the pack itself says; where these
/// differ that is a problem too, since restores use one and writers the other.
pub(super) fn look_into(
    named: &Named,
    bytes: &Bytes,
    indexed: Option<&[PackEntry]>,
    whole_indexes: bool,
    keep: bool,
) -> PackFound {
    let read = Read { objects: 1, bytes: bytes.len() as u64, ..Read::default() };
    let mut found = PackFound { read, problems: Vec::new(), frames: Vec::new() };
    let key = &named.key;
    if named.bytes != bytes.len() as u64 {
        let reason = format!("it has {} bytes instead of {}", bytes.len(), named.bytes);
        found.problems.push(problem(key, None, reason));
    }
    let pack = match Pack::parse(key, bytes) {
        Ok(pack) => pack,
        Err(error) => {
            found.problems.push(problem(key, None, error.to_string()));
            return found;
        }
    };
    if indexed.is_some_and(|indexed| indexed != pack.entries) || (indexed.is_none() && whole_indexes) {
        let reason = "its own places of frames are not those that an index of the checkpoint gives";
        found.problems.push(problem(key, None, reason));
    }
    for entry in &pack.entries {
        let id = &entry.header.id;
        match open_frame(key, id, pack.frame(entry)) {
            Ok(frame) => {
                found.read.frames += 1;
                if keep {
                    found.frames.push((*id, frame));
                }
            }
            Err(reason) => found.problems.push(problem(key, Some(id), reason)),
        }
    }
    found
}

/// The first thing that is wrong with a pack, frame by frame.
pub(crate) fn problem_in(named: &Named, bytes: &Bytes) -> Option<String> {
    look_into(named, bytes, None, false, false).problems.into_iter().next().map(|problem| problem.reason)
}
