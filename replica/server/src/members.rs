//! The newest configuration of the members, beside the vote record on each disk: whom a replica connects to when it
//! starts, long before it holds the log that says so.
//!
//! It promises that a configuration whose write was reported is found again by [`read`], whatever crashes next, as
//! long as one of the disks survives. A damaged file counts as absent on its disk: the members that are found instead
//! are older ones, and those tell of the newer (R18).
//!
//! ```text
//! members:  4  magic "VRM1"
//!          16  lineage
//!           8  generation (little-endian)
//!           …  the configuration, as vr-core encodes it
//!           4  CRC32C of the bytes before (little-endian)
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vr_core::{Configuration, Generation, Lineage};

const NAME: &str = "members";
const MAGIC: &[u8; 4] = b"VRM1";

/// The configuration of the highest epoch on any of these disks, of this generation.
#[must_use]
pub fn read(disks: &[PathBuf], lineage: Lineage, generation: Generation) -> Option<Configuration> {
    let found = disks.iter().filter_map(|disk| read_one(disk, lineage, generation));
    found.max_by_key(|configuration| configuration.epoch)
}

fn read_one(disk: &Path, lineage: Lineage, generation: Generation) -> Option<Configuration> {
    let path = disk.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the members on this disk cannot be read");
            return None;
        }
    };
    let found = decode(&bytes);
    if found.is_none() {
        tracing::warn!(path = %path.display(), "the members on this disk are damaged");
    }
    let (of, number, configuration) = found?;
    (of == lineage && number == generation).then_some(configuration)
}

/// Makes a configuration durable on every disk.
///
/// # Errors
/// The first disk that failed; a vote in its epoch must not be written then.
pub fn write(
    disks: &[PathBuf],
    lineage: Lineage,
    generation: Generation,
    configuration: &Configuration,
) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&lineage.0);
    bytes.extend_from_slice(&generation.0.to_le_bytes());
    bytes.extend_from_slice(&configuration.encode());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    for disk in disks {
        let temporary = disk.join("members.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, disk.join(NAME))?;
        File::open(disk)?.sync_all()?;
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Option<(Lineage, Generation, Configuration)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let content = content.strip_prefix(MAGIC)?;
    let (lineage, content) = content.split_first_chunk::<16>()?;
    let (generation, content) = content.split_first_chunk::<8>()?;
    let configuration = Configuration::decode(content).ok()?;
    Some((Lineage(*lineage), Generation(u64::from_le_bytes(*generation)), configuration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{Epoch, ReplicaId};

    const LINEAGE: Lineage = Lineage([7; 16]);

    fn configuration(epoch: u64) -> Configuration {
        Configuration::bare(Epoch(epoch), [1, 2, 3].map(ReplicaId))
    }

    #[test]
    fn the_newest_of_both_disks_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        disks.iter().for_each(|disk| fs::create_dir(disk).expect("made"));
        assert_eq!(read(&disks, LINEAGE, Generation(1)), None);
        write(&disks, LINEAGE, Generation(1), &configuration(1)).expect("written");
        write(&disks[1..], LINEAGE, Generation(1), &configuration(2)).expect("written");
        assert_eq!(read(&disks, LINEAGE, Generation(1)), Some(configuration(2)));
        assert_eq!(read(&disks, LINEAGE, Generation(2)), None, "another generation has members of its own");
        assert_eq!(read(&disks, Lineage([8; 16]), Generation(1)), None);
    }

    #[test]
    fn damage_leaves_the_other_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = vec![dir.path().to_owned()];
        write(&disks, LINEAGE, Generation(1), &configuration(1)).expect("written");
        let whole = fs::read(dir.path().join(NAME)).expect("there");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(dir.path().join(NAME), &damaged).expect("written");
            assert_eq!(read(&disks, LINEAGE, Generation(1)), None, "byte {at}");
            fs::write(dir.path().join(NAME), &whole[..at]).expect("written");
            assert_eq!(read(&disks, LINEAGE, Generation(1)), None, "cut at {at}");
        }
    }
}
