//! The directory that a drill works in, and what drills that were killed have left behind.
//!
//! A drill that ends by itself, whatever its result, removes its temporary directory. One that is ended by SIGKILL
//! cannot; the next drill finds its directory by a mark, sees by the lock that nobody works there any more, and removes
//! it. Nothing without the mark is ever touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::dev::layout::{Layout, LayoutError};

const PREFIX: &str = "vr-drill-";
/// Made once the lock is held, so that whoever finds it and can take the lock knows that its maker is gone.
const MARK: &str = "temporary-drill";

/// Where a drill works.
pub enum Workplace {
    /// A directory that stays.
    Kept(PathBuf),
    /// One that goes with the drill.
    Temporary(TempDir),
}

impl Workplace {
    /// The directory that was asked for, or a temporary one.
    ///
    /// # Errors
    /// When the system gives no temporary directory.
    pub fn new(asked_for: Option<&Path>) -> anyhow::Result<Workplace> {
        match asked_for {
            Some(directory) => Ok(Workplace::Kept(directory.to_owned())),
            None => {
                let made = tempfile::Builder::new().prefix(PREFIX).tempdir();
                Ok(Workplace::Temporary(made.context("cannot make a temporary directory")?))
            }
        }
    }

    /// Takes it for this process.
    ///
    /// # Errors
    /// When another process works there, or it cannot be written.
    pub fn take(&self) -> anyhow::Result<Layout> {
        match self {
            Workplace::Kept(directory) => Ok(Layout::take(directory)?),
            Workplace::Temporary(directory) => {
                let layout = Layout::take(directory.path())?;
                let mark = directory.path().join(MARK);
                fs::write(&mark, format!("{}\n", std::process::id()))
                    .with_context(|| format!("cannot write {}", mark.display()))?;
                Ok(layout)
            }
        }
    }

    /// Removes it, if it is a temporary one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn leave(self) -> anyhow::Result<()> {
        let Workplace::Temporary(directory) = self else { return Ok(()) };
        let path = directory.path().to_owned();
        directory.close().with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// Removes what killed drills have left in the directory for temporary files; says in words what was found.
#[must_use]
pub fn sweep() -> Vec<String> {
    sweep_in(&std::env::temp_dir())
}

fn sweep_in(place: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let left = entries.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.path().join(MARK).is_file()
    });
    left.filter_map(|entry| remove(&entry.path())).collect()
}

fn remove(directory: &Path) -> Option<String> {
    let whose = fs::read_to_string(directory.join(MARK)).unwrap_or_default();
    let name = format!("{}, left by a drill that was killed (process {})", directory.display(), whose.trim());
    let layout = match Layout::take(directory) {
        Ok(layout) => layout,
        // It is at work.
        Err(LayoutError::Locked(_)) => return None,
        Err(error) => return Some(format!("cannot remove {name}: {error}")),
    };
    let elsewhere = layout.description().ok().flatten().map(|description| description.object_store);
    let objects = elsewhere.filter(|store| store.embedded_port.is_none()).map_or_else(String::new, |store| {
        format!("; its objects still stand in {store}: remove what is below that prefix")
    });
    match fs::remove_dir_all(directory) {
        Ok(()) => Some(format!("removed {name}{objects}")),
        // Its replicas may still be writing their last checkpoint.
        Err(error) => Some(format!("cannot remove {name}: {error}; the next drill tries again{objects}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_drill_has_left_is_removed() {
        let place = tempfile::tempdir().expect("a directory");
        let drill = |name: &str| {
            let path = place.path().join(format!("{PREFIX}{name}"));
            fs::create_dir_all(path.join("r1/nvme")).expect("made");
            path
        };
        let (dead, alive, unmarked) = (drill("dead"), drill("alive"), drill("unmarked"));
        let other = place.path().join("other");
        fs::create_dir(&other).expect("made");
        for marked in [&dead, &alive, &other] {
            fs::write(marked.join(MARK), "77\n").expect("written");
        }
        let held = Layout::take(&alive).expect("nobody else's");
        let told = sweep_in(place.path());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("removed ") && told[0].ends_with("killed (process 77)"), "{told:?}");
        assert!(!dead.exists() && alive.exists() && unmarked.exists() && other.exists());
        drop(held);
        assert_eq!(sweep_in(place.path()).len(), 1);
        assert!(!alive.exists());
    }

    #[test]
    fn a_temporary_one_goes_and_a_given_one_stays() {
        let temporary = Workplace::new(None).expect("made");
        let layout = temporary.take().expect("taken");
        let root = layout.root().to_owned();
        assert!(root.join(MARK).is_file());
        drop(layout);
        temporary.leave().expect("removed");
        assert!(!root.exists());

        let given = tempfile::tempdir().expect("a directory");
        let kept = Workplace::new(Some(given.path())).expect("taken as it is");
        drop(kept.take().expect("taken"));
        kept.leave().expect("nothing to do");
        assert!(given.path().exists() && !given.path().join(MARK).exists());
    }
}
