//! Recordings on disk: what a replica was told, written out beside its checkpoints so that it can be told again.
//!
//! They go to the directory `flight` of the slowest disk, the one most likely to be there afterwards; the newest few are
//! kept. Nothing in a running replica waits for one, and nothing here is needed for going on: a recording that cannot be
//! written is reported, and that is all.

use crate::boot::state_options;
use crate::config::Config;
use anyhow::Context;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use vr_recorder::Tape;

/// Beside the lineage's directory.
const DIRECTORY: &str = "flight";
const ENDING: &str = "vrflight";
/// Recordings kept; an older one goes before a new one is written.
const KEPT: usize = 4;

/// One at a time: each may take as much of the disk's time as there is.
static WRITING: Mutex<()> = Mutex::new(());

/// Whether one is being written: then there is no use in taking a tape for another.
pub(crate) fn is_writing() -> bool {
    WRITING.try_lock().is_err()
}

/// Writes a tape out. Takes as long as the state is large.
///
/// # Errors
/// The disk would not take it, or another one is being written.
pub fn write(config: &Config, name: &str, tape: &Tape) -> anyhow::Result<PathBuf> {
    let Ok(_one) = WRITING.try_lock() else { anyhow::bail!("another recording is being written") };
    let disks = config.tiers.disks();
    let folder = disks.last().context("there is no disk to write a recording to")?.join(DIRECTORY);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the directory {}", folder.display()))?;
    make_room(&folder);
    let path = folder.join(format!("{name}.{ENDING}"));
    let beside = folder.join(format!("{name}.tmp"));
    let written = File::create(&beside).and_then(|file| {
        let mut to = BufWriter::with_capacity(1 << 20, file);
        tape.write(state_options(config), &mut to)?;
        to.flush()?;
        to.get_ref().sync_all()?;
        fs::rename(&beside, &path)
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error).with_context(|| format!("the recording {} cannot be written", path.display()));
    }
    tracing::info!(path = %path.display(), "recording written; tell it again with vr-sim replay --recording");
    Ok(path)
}

/// Removes what an ended process left half-written, and the oldest recordings.
fn make_room(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut recordings = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("tmp") => {
                let _ = fs::remove_file(&path);
            }
            Some(ENDING) => {
                let modified = fs::metadata(&path).and_then(|about| about.modified()).ok();
                recordings.push((modified, path));
            }
            _ => {}
        }
    }
    recordings.sort();
    let surplus = (recordings.len() + 1).saturating_sub(KEPT);
    recordings.iter().take(surplus).for_each(|(_, path)| {
        let _ = fs::remove_file(path);
    });
}
