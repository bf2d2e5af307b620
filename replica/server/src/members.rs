//! The newest configuration of the members, beside the vote record on each disk: whom a replica connects to when it
//! starts, long before it holds the log that says so.
//!
//! It promises that a configuration whose write was reported is found again by [`read`], whatever crashes next, as
//! long as one of the disks survives. A damaged file counts as absent on its disk: the members that are found instead
//! are older ones, and those tell of the newer (R18).
//!
//! ```text
//! members:  4  magic "VRM2"
//!          16  lineage
//!           8  generation (little-endian)
//!           8  an op at or above the entry that began its epoch (little-endian); 0 where not known
//!          32  digest of the log through it
//!           …  the configuration, as vr-core encodes it
//!           4  CRC32C of the bytes before (little-endian)
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vr_core::{Begun, Configuration, Digest, Generation, Lineage, Op};

const NAME: &str = "members";
const MAGIC: &[u8; 4] = b"VRM2";

/// A configuration and where its epoch begins.
pub type Members = (Configuration, Option<Begun>);

/// The configuration of the highest epoch on any of these disks, of this generation.
#[must_use]
pub fn read(disks: &[PathBuf], lineage: Lineage, generation: Generation) -> Option<Members> {
    let found = disks.iter().filter_map(|disk| read_one(disk, lineage, generation));
    found.max_by_key(|(configuration, _)| configuration.epoch)
}

fn read_one(disk: &Path, lineage: Lineage, generation: Generation) -> Option<Members> {
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
    let (of, number, members) = found?;
    (of == lineage && number == generation).then_some(members)
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
    begun: Option<Begun>,
) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&lineage.0);
    bytes.extend_from_slice(&generation.0.to_le_bytes());
    bytes.extend_from_slice(&begun.map_or(0, |begun| begun.op.0).to_le_bytes());
    bytes.extend_from_slice(&begun.map_or([0; 32], |begun| begun.digest.0));
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

fn decode(bytes: &[u8]) -> Option<(Lineage, Generation, Members)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let content = content.strip_prefix(MAGIC)?;
    let (lineage, content) = content.split_first_chunk::<16>()?;
    let (generation, content) = content.split_first_chunk::<8>()?;
    let (op, content) = content.split_first_chunk::<8>()?;
    let (digest, content) = content.split_first_chunk::<32>()?;
    let begun = Begun { op: Op(u64::from_le_bytes(*op)), digest: Digest(*digest) };
    let members = (Configuration::decode(content).ok()?, Some(begun).filter(|begun| begun.op > Op(0)));
    Some((Lineage(*lineage), Generation(u64::from_le_bytes(*generation)), members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_core::{Epoch, ReplicaId};

    const LINEAGE: Lineage = Lineage([7; 16]);
    const BEGUN: Option<Begun> = Some(Begun { op: Op(9), digest: Digest([3; 32]) });

    fn configuration(epoch: u64) -> Configuration {
        Configuration::bare(Epoch(epoch), [1, 2, 3].map(ReplicaId))
    }

    #[test]
    fn the_newest_of_both_disks_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        disks.iter().for_each(|disk| fs::create_dir(disk).expect("made"));
        assert_eq!(read(&disks, LINEAGE, Generation(1)), None);
        write(&disks, LINEAGE, Generation(1), &configuration(1), None).expect("written");
        write(&disks[1..], LINEAGE, Generation(1), &configuration(2), BEGUN).expect("written");
        assert_eq!(read(&disks, LINEAGE, Generation(1)), Some((configuration(2), BEGUN)));
        assert_eq!(read(&disks, LINEAGE, Generation(2)), None, "another generation has members of its own");
        assert_eq!(read(&disks, Lineage([8; 16]), Generation(1)), None);
    }

    #[test]
    fn damage_leaves_the_other_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = vec![dir.path().to_owned()];
        write(&disks, LINEAGE, Generation(1), &configuration(1), None).expect("written");
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
