//! The vote record on disk (R1): 64 bytes, in two alternating files on each disk tier; the highest valid one wins.
//!
//! It promises that a record whose write was reported is found again by [`read`] whatever crashes next, as long as one
//! of the disks survives. It is written at start and in view changes, never while requests are served.
//!
//! ```text
//! offset  0  4  magic "VRV1"
//!         4 16  lineage
//!        20  8  generation      (this and all below: little-endian)
//!        28  8  epoch
//!        36  8  view
//!        44  8  replica id
//!        52  8  incarnation
//!        60  4  CRC32C of the bytes before
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vr_core::{Ballot, Epoch, Generation, Incarnation, Lineage, ReplicaId, View, VoteRecord};

const MAGIC: &[u8; 4] = b"VRV1";
/// What every format of a record begins with.
const FAMILY: &[u8] = b"VRV";
/// Size of a record.
pub const LEN: usize = 64;

/// What the disks say about this replica's past. The three are never confused (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No disk has ever held a record.
    Empty,
    /// The highest promise.
    Present(VoteRecord),
    /// A disk holds a record file, and none that can be read.
    Unreadable,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("vote record {path}: {source}")]
pub struct VoteError {
    path: PathBuf,
    source: io::Error,
}

/// Reads all disks and takes the maximum.
///
/// # Errors
/// A file that exists and cannot be read, or that a newer program wrote: the promise in it may be the highest, so
/// nothing is concluded without it.
pub fn read(disks: &[PathBuf]) -> Result<Found, VoteError> {
    let mut records = Vec::new();
    for disk in disks {
        let (mut exists, before) = (false, records.len());
        for path in slots(disk) {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    if let Some(source) = newer_format(&bytes) {
                        return Err(VoteError { path, source });
                    }
                    exists = true;
                    records.extend(decode(&bytes));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(VoteError { path, source }),
            }
        }
        // One torn file is what a crash leaves; two are damage, and the lost promise may be the highest.
        if exists && records.len() == before {
            return Ok(Found::Unreadable);
        }
    }
    Ok(VoteRecord::newest(records).map_or(Found::Empty, Found::Present))
}

/// A record beside this one may be whole and of this format, and yet be the older promise.
fn newer_format(bytes: &[u8]) -> Option<io::Error> {
    let format = bytes.get(..MAGIC.len()).filter(|magic| magic.starts_with(FAMILY) && magic != MAGIC)?;
    Some(io::Error::other(format!(
        "it is of format `{}`, this program knows `{}`: run the version that wrote it",
        format.escape_ascii(),
        MAGIC.escape_ascii()
    )))
}

/// Makes a record durable on every disk, over the older of its two files.
///
/// # Errors
/// The first disk that failed. The caller must then treat the promise as not made; a later attempt may be made.
pub fn write(disks: &[PathBuf], record: VoteRecord) -> Result<(), VoteError> {
    for disk in disks {
        std::fs::create_dir_all(disk).map_err(|source| VoteError { path: disk.clone(), source })?;
        let [a, b] = slots(disk);
        let path = if age_of(&a) <= age_of(&b) { a } else { b };
        overwrite(disk, &path, record).map_err(|source| VoteError { path, source })?;
    }
    Ok(())
}

fn overwrite(disk: &Path, path: &Path, record: VoteRecord) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    file.write_all(&encode(record))?;
    file.sync_all()?;
    File::open(disk)?.sync_all()
}

fn slots(disk: &Path) -> [PathBuf; 2] {
    [disk.join("vote.0"), disk.join("vote.1")]
}

fn age_of(path: &Path) -> Option<(Generation, Ballot, Incarnation)> {
    std::fs::read(path).ok().as_deref().and_then(decode).as_ref().map(VoteRecord::age)
}

/// The 64 bytes of a record.
#[must_use]
pub fn encode(record: VoteRecord) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..20].copy_from_slice(&record.lineage.0);
    let numbers = [
        record.generation.0,
        record.ballot.epoch.0,
        record.ballot.view.0,
        record.replica.0,
        record.incarnation.0,
    ];
    for (place, number) in bytes[20..60].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The record that [`encode`] wrote; `None` for anything else.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<VoteRecord> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let crc = u32::from_le_bytes(bytes[60..].try_into().expect("four bytes"));
    if &bytes[..4] != MAGIC || crc32c::crc32c(&bytes[..60]) != crc {
        return None;
    }
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Some(VoteRecord {
        lineage: Lineage(bytes[4..20].try_into().expect("sixteen bytes")),
        generation: Generation(number(20)),
        ballot: Ballot { epoch: Epoch(number(28)), view: View(number(36)) },
        replica: ReplicaId(number(44)),
        incarnation: Incarnation(number(52)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64, view: u64, incarnation: u64) -> VoteRecord {
        VoteRecord {
            lineage: Lineage([7; 16]),
            generation: Generation(generation),
            ballot: Ballot { epoch: Epoch(1), view: View(view) },
            replica: ReplicaId(3),
            incarnation: Incarnation(incarnation),
        }
    }

    fn disks() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disks = vec![dir.path().join("nvme"), dir.path().join("volume")];
        (dir, disks)
    }

    #[test]
    fn the_layout_is_fixed() {
        let hex: String = encode(record(1, 2, 3)).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(&hex[..8], "56525631");
        assert_eq!(
            &hex[40..120],
            "01000000000000000100000000000000020000000000000003000000000000000300000000000000"
        );
    }

    #[test]
    fn the_highest_of_both_disks_wins() {
        let (_dir, disks) = disks();
        assert_eq!(read(&disks).expect("readable"), Found::Empty);
        for view in 1..5 {
            write(&disks, record(1, view, 1)).expect("written");
            assert_eq!(read(&disks).expect("readable"), Found::Present(record(1, view, 1)));
        }
        write(&disks[1..], record(2, 0, 9)).expect("written");
        assert_eq!(read(&disks).expect("readable"), Found::Present(record(2, 0, 9)));
        std::fs::remove_dir_all(&disks[1]).expect("lost");
        assert_eq!(read(&disks).expect("readable"), Found::Present(record(1, 4, 1)));
    }

    #[test]
    fn a_torn_write_leaves_the_record_before() {
        let (_dir, disks) = disks();
        write(&disks, record(1, 1, 1)).expect("written");
        write(&disks, record(1, 2, 1)).expect("written");
        for disk in &disks {
            let newest = slots(disk).into_iter().max_by_key(|path| age_of(path)).expect("two");
            std::fs::write(newest, [0; 17]).expect("torn");
        }
        assert_eq!(read(&disks).expect("readable"), Found::Present(record(1, 1, 1)));
        // The next write must not hit the only valid one.
        write(&disks, record(1, 3, 1)).expect("written");
        assert_eq!(read(&disks).expect("readable"), Found::Present(record(1, 3, 1)));
    }

    #[test]
    fn a_newer_format_is_neither_damage_nor_the_older_promise_beside_it() {
        let (_dir, disks) = disks();
        write(&disks, record(1, 1, 1)).expect("written");
        write(&disks, record(1, 2, 1)).expect("written");
        let mut newer = encode(record(1, 3, 1));
        newer[3] = b'2';
        std::fs::write(&slots(&disks[1])[0], newer).expect("writable");
        let error = read(&disks).expect_err("it may hold the highest promise").to_string();
        assert!(error.contains("vote.0") && error.contains("`VRV2`"), "{error}");
    }

    #[test]
    fn damage_is_not_emptiness() {
        let (_dir, disks) = disks();
        write(&disks, record(1, 1, 1)).expect("written");
        for path in slots(&disks[0]) {
            std::fs::write(path, [1; LEN]).expect("rotten");
        }
        assert_eq!(read(&disks).expect("readable"), Found::Unreadable);
    }
}
