//! The highest fencing token that this replica has seen: in memory, and in the file `fence` on each disk.
//!
//! A token that comes with a call is durable here before the call is carried out; one that a peer tells of is written
//! soon. It never goes down. A file that cannot be read counts as absent: the peers tell the token again, and the
//! membership itself is guarded by the configuration's id.

use super::refusal::{self, Refused};
use crate::node;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use vr_proto::control as pb;

const NAME: &str = "fence";
const FORMAT: &str = "vrfence/1";
/// One writer at a time, so that a lower token cannot overtake a higher one between its look and its rename.
static WRITING: Mutex<()> = Mutex::new(());

/// The token, and where it is kept.
#[derive(Debug)]
pub(crate) struct Fence {
    disks: Vec<PathBuf>,
    highest: u64,
}

impl Fence {
    /// As the disks have it; 0 where nobody ever came with a token.
    #[must_use]
    pub(crate) fn open(disks: Vec<PathBuf>) -> Fence {
        let highest = disks.iter().filter_map(|disk| read(disk)).max().unwrap_or(0);
        Fence { disks, highest }
    }

    /// The highest token seen.
    #[must_use]
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// A peer knows of this one.
    pub(crate) fn learn(&mut self, token: u64) {
        if token > self.highest {
            self.highest = token;
            let disks = self.disks.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = write(&disks, token) {
                    tracing::warn!(%error, "the fencing token is not written");
                }
            });
        }
    }

    fn judge(&self, fence: &pb::Fence) -> Result<(), Refused> {
        match (fence.token, self.highest) {
            (0, 0) => Ok(()),
            (0, _) if fence.r#override => Ok(()),
            (token, highest) if token >= highest => Ok(()),
            (_, highest) => Err(refusal::fenced(fence.token, highest)),
        }
    }
}

/// Lets a call with this token pass, once the token is durable here and on its way to the peers.
///
/// # Errors
/// A higher one was seen.
pub(super) async fn pass(fence: Option<pb::Fence>) -> Result<(), Refused> {
    let fence = fence.unwrap_or_default();
    let new = node::with(|node| {
        node.fence.judge(&fence)?;
        Ok::<_, Refused>((fence.token > node.fence.highest).then(|| node.fence.disks.clone()))
    })?;
    if let Some(disks) = new {
        let token = fence.token;
        let written = tokio::task::spawn_blocking(move || write(&disks, token)).await;
        let written = written.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|e| refusal::not_serving(&format!("the fencing token cannot be written: {e}")))?;
        return node::with(|node| {
            // Another may have come meanwhile.
            node.fence.judge(&fence)?;
            node.fence.highest = node.fence.highest.max(token);
            node.tell_fence();
            Ok(())
        });
    }
    Ok(())
}

fn read(disk: &Path) -> Option<u64> {
    let text = fs::read_to_string(disk.join(NAME)).ok()?;
    let token = text.strip_prefix(FORMAT)?.trim().parse().ok();
    if token.is_none() {
        tracing::warn!(disk = %disk.display(), "the fencing token is unreadable: waiting for the peers to tell it");
    }
    token
}

/// On every disk, never over a higher one.
fn write(disks: &[PathBuf], token: u64) -> io::Result<()> {
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    for disk in disks {
        if read(disk).is_some_and(|there| there >= token) {
            continue;
        }
        let temporary = disk.join(format!("fence.{token}.new"));
        let mut file = File::create(&temporary)?;
        writeln!(file, "{FORMAT} {token}")?;
        file.sync_all()?;
        fs::rename(&temporary, disk.join(NAME))?;
        File::open(disk)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(token: u64) -> pb::Fence {
        pb::Fence { token, r#override: false }
    }

    #[test]
    fn what_was_written_is_found_and_never_goes_down() {
        let dir = tempfile::tempdir().expect("a directory");
        let disks = vec![dir.path().to_owned()];
        assert_eq!(Fence::open(disks.clone()).highest(), 0);
        write(&disks, 7).expect("written");
        write(&disks, 5).expect("nothing to do");
        assert_eq!(Fence::open(disks.clone()).highest(), 7);
        fs::write(dir.path().join(NAME), b"rubbish").expect("written");
        assert_eq!(Fence::open(disks).highest(), 0);
    }

    #[test]
    fn a_lower_token_is_told_what_to_do() {
        let mut fence = Fence { disks: Vec::new(), highest: 0 };
        assert!(fence.judge(&token(0)).is_ok(), "a person, where no operator ever was");
        fence.highest = 7;
        assert!(fence.judge(&token(7)).is_ok() && fence.judge(&token(8)).is_ok());
        for refused in [fence.judge(&token(6)), fence.judge(&token(0))] {
            let refused = refused.expect_err("lower");
            assert_eq!((refused.reason(), refused.fence), (pb::refusal::Reason::Fenced, 7));
            assert!(!refused.remedy.is_empty());
        }
        assert!(fence.judge(&pb::Fence { token: 0, r#override: true }).is_ok());
        assert!(
            fence.judge(&pb::Fence { token: 6, r#override: true }).is_err(),
            "a deposed operator is no person"
        );
    }
}
