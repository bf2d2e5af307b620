//! HEAD in two files: a version 8, a length 4, the body, CRC32C of all that. The valid one of the higher version counts, and
//! the next one is written over the other.

use crate::mutants::{Mutant, on};
use crate::store::Tag;
use crate::store::files::{Files, absent};
use bytes::Bytes;
use std::io;
use std::path::Path;

pub(super) const HEADS: [&str; 2] = ["HEAD.0", "HEAD.1"];

/// A HEAD, and where it stands.
#[derive(Debug)]
pub(super) struct Found {
    version: u64,
    at: usize,
    pub(super) body: Bytes,
}

impl Found {
    pub(super) fn tag(&self) -> Tag {
        Tag(format!("{}-{}", self.version, &blake3::hash(&self.body).to_hex()[..16]))
    }
}

/// The one that counts.
pub(super) fn read(files: &dyn Files, dir: &Path) -> io::Result<Option<Found>> {
    let mut best: Option<Found> = None;
    let mut damaged = None;
    for (at, name) in HEADS.into_iter().enumerate() {
        let Some(bytes) = absent(files.read(&dir.join(name)))? else { continue };
        match parse(&bytes) {
            Some((version, body))
                if best.as_ref().is_none_or(|newest| newest.version < version && !on(Mutant::AnyHead)) =>
            {
                best = Some(Found { version, at, body });
            }
            Some(_) => {}
            None => damaged = Some(name),
        }
    }
    // One torn file is what a crash leaves; without a whole one beside it there is no telling what was there.
    match (best, damaged) {
        (None, Some(name)) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{name} is damaged and no other HEAD is whole: restore this tier from another one"),
        )),
        (best, _) => Ok(best),
    }
}

/// The next one with this body: what is written, and into which file.
pub(super) fn next(standing: Option<&Found>, body: &[u8]) -> (Vec<u8>, &'static str) {
    let (version, at) = standing.map_or((1, 0), |standing| (standing.version + 1, 1 - standing.at));
    let mut out = version.to_le_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(body.len()).expect("a HEAD is small").to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    (out, HEADS[at])
}

fn parse(bytes: &[u8]) -> Option<(u64, Bytes)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let (version, rest) = content.split_first_chunk::<8>()?;
    let (length, body) = rest.split_first_chunk::<4>()?;
    let whole = crc32c::crc32c(content) == u32::from_le_bytes(*crc) || on(Mutant::TornHead);
    let whole = whole && body.len() == u32::from_le_bytes(*length) as usize;
    whole.then(|| (u64::from_le_bytes(*version), Bytes::copy_from_slice(body)))
}
