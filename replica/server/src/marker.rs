//! The clean-stop marker: what makes the next start of a replica remember everything it promised.
//!
//! Written last at a clean stop, after a checkpoint of exactly the state it names; erased durably at the next start,
//! before the first message. A replica that is killed leaves none, and starts without its memory.
//!
//! ```text
//! clean-stop: one line of JSON (Marker), then each entry above the commit: 4 bytes length, Entry::encode, and at the
//!             end 4 bytes CRC32C of everything before (integers little-endian)
//! ```

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vr_core::Entry;

const NAME: &str = "clean-stop";

/// What a replica had when it stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Marker {
    /// `vrstop/1`.
    pub(crate) format: String,
    /// The start that stopped here; the vote record must name the same.
    pub(crate) incarnation: u64,
    /// Its generation.
    pub(crate) generation: u64,
    /// Epoch of the last ballot in which it was Normal.
    pub(crate) last_normal_epoch: u64,
    /// View of that ballot.
    pub(crate) last_normal_view: u64,
    /// Op of the checkpoint that holds its state.
    pub(crate) op: u64,
    /// Root of that state, hexadecimal.
    pub(crate) root: String,
}

/// The format this code writes and reads.
pub(crate) const FORMAT: &str = "vrstop/1";

/// Makes the marker durable in a directory.
///
/// # Errors
/// Those of the file system; the stop is then not a clean one.
pub(crate) fn write(disk: &Path, marker: &Marker, tail: &[Entry]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(marker).expect("plain data is always JSON");
    bytes.push(b'\n');
    for entry in tail {
        let encoded = entry.encode();
        bytes.extend((encoded.len() as u32).to_le_bytes());
        bytes.extend(encoded);
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let temporary = disk.join("clean-stop.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, disk.join(NAME))?;
    File::open(disk)?.sync_all()
}

/// Reads the marker, if a whole and valid one is there. A damaged one counts as absent: the replica then starts
/// without its memory, which is always safe.
#[must_use]
pub(crate) fn read(disk: &Path) -> Option<(Marker, Vec<Entry>)> {
    let bytes = fs::read(disk.join(NAME)).ok()?;
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        tracing::warn!(disk = %disk.display(), "the clean-stop marker is damaged: starting without memory");
        return None;
    }
    let line = content.iter().position(|b| *b == b'\n')?;
    let marker: Marker = serde_json::from_slice(&content[..line]).ok()?;
    if marker.format != FORMAT {
        tracing::warn!(
            format = marker.format,
            "the clean-stop marker is of another format: starting without memory"
        );
        return None;
    }
    let mut rest = &content[line + 1..];
    let mut tail = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (encoded, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        tail.push(Entry::decode(encoded).ok()?);
        rest = after;
    }
    rest.is_empty().then_some((marker, tail))
}

/// Erases the marker durably from every disk: from now on this replica may promise again.
///
/// # Errors
/// Those of the file system; the replica must then not start as one that remembers.
pub(crate) fn erase(disks: &[PathBuf]) -> io::Result<()> {
    for disk in disks {
        match fs::remove_file(disk.join(NAME)) {
            Ok(()) => File::open(disk)?.sync_all()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vr_core::{Ballot, Digest, Kind, Op};

    fn example() -> (Marker, Vec<Entry>) {
        let marker = Marker {
            format: FORMAT.to_owned(),
            incarnation: 4,
            generation: 1,
            last_normal_epoch: 0,
            last_normal_view: 7,
            op: 99,
            root: "ab".repeat(32),
        };
        let entry = Entry::new(Op(100), Ballot::default(), Kind::NewView, 5, Digest::default(), Bytes::new());
        (marker, vec![entry])
    }

    #[test]
    fn it_comes_back_and_goes_away() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (marker, tail) = example();
        assert_eq!(read(dir.path()), None);
        write(dir.path(), &marker, &tail).expect("written");
        let (found, entries) = read(dir.path()).expect("there");
        assert_eq!((found, entries.len()), (marker, 1));
        erase(&[dir.path().to_owned()]).expect("erased");
        assert_eq!(read(dir.path()), None);
        erase(&[dir.path().to_owned()]).expect("nothing to erase is no error");
    }

    #[test]
    fn a_damaged_one_counts_as_absent() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (marker, tail) = example();
        write(dir.path(), &marker, &tail).expect("written");
        let whole = fs::read(dir.path().join(NAME)).expect("there");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            fs::write(dir.path().join(NAME), &damaged).expect("written");
            assert_eq!(read(dir.path()), None, "byte {at}");
            fs::write(dir.path().join(NAME), &whole[..at]).expect("written");
            assert_eq!(read(dir.path()), None, "cut at {at}");
        }
    }
}
