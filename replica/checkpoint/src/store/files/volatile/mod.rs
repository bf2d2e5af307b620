//! A disk in memory that loses with the power what was not synced: a test aid.
//!
//! Its operations are counted, and one of them can be made to go wrong. A loss of power leaves of every name that was not
//! synced any of the states it went through since, and of every file that was not synced any part: chosen by a seed, so
//! that equal runs are equal. It is harsher than file systems are: the two halves of a rename may survive without each
//! other. It knows no folder that was synced and lost nevertheless, unless it is told to lie.

mod state;

use super::{Files, NewFile, Standing};
use state::{Contents, Course, Dice, Names, Node, State};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It does not happen, or of a write half, and says so: a broken device. A file whose sync fails is lost.
    Fail,
    /// It happens, and says that it did not.
    FailAfter,
    /// As on a device without room: what makes something fails.
    NoSpace,
    /// It does not happen, or of a write half, and neither does anything after it, until [`VolatileDisk::restart`].
    Stop,
}

/// What a loss of power leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Lost,
    /// Everything.
    Kept,
    /// Any part, by a seed.
    Torn(u64),
}

/// The disk. A clone of the pointer is the same disk; [`VolatileDisk::fork`] is another one.
#[derive(Clone, Debug, Default)]
pub struct VolatileDisk(Arc<Mutex<State>>);

impl VolatileDisk {
    /// An empty one, with a root.
    #[must_use]
    pub fn new() -> VolatileDisk {
        VolatileDisk::default()
    }

    /// Another disk that holds the same, with the same lost cache to come. No strike is planned for it.
    #[must_use]
    pub fn fork(&self) -> VolatileDisk {
        let mut state = self.state().clone();
        (state.strike, state.stopped) = (None, false);
        VolatileDisk(Arc::new(Mutex::new(state)))
    }

    /// The `n`-th operation from now, counted from 1, goes wrong.
    pub fn strike_at(&self, n: u64, strike: Strike) {
        let mut state = self.state();
        state.strike = Some((state.operations + n, strike));
        state.struck = None;
    }

    /// From now on it says that it has synced, and has not; or it is honest again.
    pub fn lie(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Nothing that is planned goes wrong any more.
    pub fn spare(&self) {
        self.state().strike = None;
    }

    /// Which operation has gone wrong, once one has.
    #[must_use]
    pub fn struck(&self) -> Option<String> {
        self.state().struck.clone()
    }

    /// A new process: operations happen again.
    pub fn restart(&self) {
        self.state().stopped = false;
    }

    /// The machine goes off, and on again.
    pub fn lose_power(&self, fate: Fate) {
        let mut state = self.state();
        state.stopped = false;
        let mut dice = Dice(match fate {
            Fate::Torn(seed) => seed,
            Fate::Lost | Fate::Kept => 0,
        });
        for node in &mut state.nodes {
            match node {
                Node::File(file) => file.lose_power(fate, &mut dice),
                Node::Folder(names) => names.lose_power(fate, &mut dice),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a test is the end of that test.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for VolatileDisk {
    /// Whoever asks gets it: processes on this disk follow each other.
    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        Ok(Some(Box::new(())))
    }

    fn look(&self, path: &Path) -> io::Result<Option<Standing>> {
        let state = self.state();
        let found = super::absent(state.find(path))?;
        Ok(found.map(|node| state.standing(node)))
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, Standing)>> {
        let state = self.state();
        let names = state.folder(state.find(folder)?)?;
        Ok(names.now.iter().map(|(name, node)| (folder.join(name), state.standing(*node))).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let node = state.find(path)?;
        Ok(state.file(node)?.now.clone())
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(path)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = bytes.get(from..from.saturating_add(len));
        range.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn create(&self, path: &Path, _room: u64) -> io::Result<Box<dyn NewFile>> {
        let mut state = self.state();
        let node = state.nodes.len();
        state.change(("create", path, true), |state| {
            let modified = state.operations;
            state.add_new(path, Node::File(Contents { modified, ..Contents::default() }))
        })?;
        Ok(Box::new(VolatileFile { disk: self.clone(), path: path.to_owned(), node }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().change(("link", to, true), |state| {
            let node = state.find(from)?;
            state.add(to, node)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().change(("rename", to, true), |state| {
            let node = state.find(from)?;
            state.take(from)?;
            let (names, name) = state.place(to)?;
            names.set(name, Some(node));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().change(("remove", path, false), |state| state.take(path))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state().change(("create folder", path, true), |state| {
            state.add_new(path, Node::Folder(Names::default()))
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.state().change(("remove folder", path, false), |state| state.take(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.state().change(("sync folder", path, false), |state| {
            let node = state.find(path)?;
            match &mut state.nodes[node] {
                Node::Folder(_) if state.lies => {}
                Node::Folder(names) => names.unsynced.clear(),
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            }
            Ok(())
        })
    }
}

/// A file that is being written.
struct VolatileFile {
    disk: VolatileDisk,
    path: PathBuf,
    node: usize,
}

impl NewFile for VolatileFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let course = state.operation("write", &self.path, true);
        let file = state.file(self.node)?;
        file.dirty = true;
        match course {
            Course::Happens => {
                file.now.extend_from_slice(bytes);
                Ok(())
            }
            Course::Untold(error) => {
                file.now.extend_from_slice(bytes);
                Err(error)
            }
            Course::Not(error) => {
                file.now.extend_from_slice(&bytes[..bytes.len() / 2]);
                Err(error)
            }
        }
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        let mut state = self.disk.state();
        let course = state.operation("sync", &self.path, false);
        let lies = state.lies;
        let file = state.file(self.node)?;
        let lost = matches!(course, Course::Not(_)) || file.lost;
        if lost {
            // The kernel calls its pages clean now, and writes them no more.
            file.lost = true;
        } else if !lies {
            file.synced.clone_from(&file.now);
            file.dirty = false;
        }
        match course {
            Course::Happens => Ok(()),
            Course::Not(error) | Course::Untold(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
