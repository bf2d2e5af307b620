//! The files of this machine. They leave the page cache when they are written: a checkpoint is not read again soon, and
//! its pages would count against the memory limit of the pod.

use super::{Files, NewFile, Standing, absent};
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use std::any::Any;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

struct DiskFile(File);

fn standing(about: &Metadata) -> io::Result<Standing> {
    Ok(Standing { folder: about.is_dir(), size: about.len(), modified: about.modified()? })
}

impl Files for Disk {
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = File::options().create(true).write(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn look(&self, path: &Path) -> io::Result<Option<Standing>> {
        absent(fs::metadata(path))?.map(|about| standing(&about)).transpose()
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, Standing)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(about) = absent(entry.metadata())? {
                all.push((entry.path(), standing(&about)?));
            }
        }
        Ok(all)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        if file.metadata()?.len() < offset.saturating_add(len as u64) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short"));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn NewFile>> {
        let file = File::create_new(path)?;
        if room > 0 {
            match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, room) {
                // Not every file system can; the write itself will tell then.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    let _ = fs::remove_file(path);
                    return Err(errno.into());
                }
            }
        }
        Ok(Box::new(DiskFile(file)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl NewFile for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        self.0.sync_data()?;
        // Advice: what it does not take is harmless.
        let _ = rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed);
        Ok(())
    }
}
