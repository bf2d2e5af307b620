//! What a directory tier asks of an operating system, one operation each, so that every one of them can be made to fail.
//!
//! Nothing here lasts by itself. The contents of a file survive a loss of power once [`NewFile::sync`] has returned, the
//! names in a folder (what was created, linked, renamed and removed there) once [`Files::sync_folder`] of that folder has.
//! Until then any part of it may survive, in any order.

mod disk;
mod volatile;

pub use disk::Disk;
pub use volatile::{Fate, Strike, VolatileDisk};

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files and folders.
pub trait Files: Debug + Send + Sync {
    /// Locks a file, which is created where there is none, for as long as the answer lives; `None` if it is locked.
    ///
    /// # Errors
    /// It cannot be created or locked.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;

    /// What stands there, if anything does.
    ///
    /// # Errors
    /// Nobody can tell.
    fn look(&self, path: &Path) -> io::Result<Option<Standing>>;

    /// What stands in a folder.
    ///
    /// # Errors
    /// It is no folder, or cannot be read.
    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, Standing)>>;

    /// The contents of a file.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// As [`Files::read`]; [`io::ErrorKind::UnexpectedEof`] if there are fewer.
    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Creates a file that must not exist, with room for so many bytes, so that a full disk shows early.
    ///
    /// # Errors
    /// It exists, or cannot be created.
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn NewFile>>;

    /// Gives a file a second name, which must not exist.
    ///
    /// # Errors
    /// The name exists, or cannot be given.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of whatever file has it.
    ///
    /// # Errors
    /// It cannot be done.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name from a file.
    ///
    /// # Errors
    /// There is none, or it cannot be done.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder that must not exist, in one that does.
    ///
    /// # Errors
    /// It exists, or cannot be created.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with everything in it.
    ///
    /// # Errors
    /// Not all of it could be removed.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder last.
    ///
    /// # Errors
    /// They may be lost.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that was just created.
pub trait NewFile: Send {
    /// Appends.
    ///
    /// # Errors
    /// Any part of it may have been written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the contents last. The file cannot be written afterwards: what failed to be synced may be gone although the
    /// next sync succeeds.
    ///
    /// # Errors
    /// The contents are lost.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// Something that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is a folder; otherwise it is a file.
    pub folder: bool,
    /// Bytes of a file.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// `None` for what does not exist.
pub(crate) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
