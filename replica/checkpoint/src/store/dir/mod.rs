//! A tier in a directory: NVMe or a volume.
//!
//! ```text
//! <dir>/HEAD.0, HEAD.1   HEAD
//! <dir>/tmp/             files on their way, erased when the directory is opened
//! <dir>/lock             locked by the process that writes here
//! <dir>/stall            (fault switch) a number of seconds: every write first waits as long, once per write
//! <dir>/full             (fault switch) every write fails as on a device without room
//! <dir>/<key>            everything else
//! ```
//!
//! A file is written beside its place, synced, linked into it, and its folder synced, before it counts as created: also
//! one that is found there, since whoever put it there may have ended, or failed, before that. The same holds for each
//! folder in the one above, once per process, and for HEAD. A file whose sync failed is lost: it is removed and another
//! one written. Work runs on tokio's blocking threads; the caller never waits for a disk.

mod head;

use super::files::{Disk, Files, absent};
use super::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use crate::mutants::{Mutant, on};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// A directory; clones of the pointer share it.
#[derive(Debug)]
pub struct DirStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// Whether the HEAD that stands there is known to last. Held by whoever changes it: the comparison and the write are
    /// one step.
    head_lasts: Mutex<bool>,
    /// Folders that are known to stay, whatever happens to the machine.
    lasting: Mutex<BTreeSet<PathBuf>>,
    /// Folders whose names are known to stay: what was found in them at first may have been left there by a process that
    /// ended before it had synced them.
    settled: Mutex<BTreeSet<PathBuf>>,
    /// What makes the directory ours; none for one that is only read.
    lock: Option<Box<dyn Any + Send + Sync>>,
    requests: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
}

impl DirStore {
    /// The directory for writing; created if it is not there, and locked.
    ///
    /// # Errors
    /// It cannot be written to, or another process writes there.
    pub fn open(dir: &Path) -> Result<DirStore, StoreError> {
        DirStore::open_on(Arc::new(Disk), dir)
    }

    /// As [`DirStore::open`], on other files than this machine's.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(files: Arc<dyn Files>, dir: &Path) -> Result<DirStore, StoreError> {
        let mut shared = Shared::new(files, dir);
        let store = shared.describe();
        match shared.prepare() {
            Ok(true) => Ok(DirStore { shared: Arc::new(shared) }),
            Ok(false) => Err(StoreError::Permanent {
                store,
                what: "lock".to_owned(),
                reason: "another process writes here: stop it or use another directory".to_owned(),
            }),
            Err(error) => Err(failure(&store, "open", &error)),
        }
    }

    /// The directory for reading only, while another process may write to it.
    #[must_use]
    pub fn read_only(dir: &Path) -> DirStore {
        DirStore::read_only_on(Arc::new(Disk), dir)
    }

    /// As [`DirStore::read_only`], on other files than this machine's.
    #[must_use]
    pub fn read_only_on(files: Arc<dyn Files>, dir: &Path) -> DirStore {
        DirStore { shared: Arc::new(Shared::new(files, dir)) }
    }

    /// Whether a HEAD, whole or not, stands in the directory.
    #[must_use]
    pub fn holds_head(dir: &Path) -> bool {
        head::HEADS.iter().any(|name| dir.join(name).exists())
    }

    /// Runs `work` where waiting for a disk harms nobody.
    fn blocking<'a, T: Send + 'static>(
        &'a self,
        what: String,
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let shared = Arc::clone(&self.shared);
        shared.requests.fetch_add(1, Ordering::Relaxed);
        async move {
            let store = shared.describe();
            let done = tokio::task::spawn_blocking(move || work(&shared)).await;
            done.map_err(io::Error::other).flatten().map_err(|error| failure(&store, &what, &error))
        }
        .boxed()
    }
}

fn failure(store: &str, what: &str, error: &io::Error) -> StoreError {
    let (store, what) = (store.to_owned(), what.to_owned());
    let permanent = |reason| StoreError::Permanent { store: store.clone(), what: what.clone(), reason };
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            permanent(format!("{error}: make the directory writable for this user"))
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            permanent(error.to_string())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Transient {
            store,
            what,
            reason: format!("{error}: make room; what is there stays valid"),
        },
        _ => StoreError::Transient { store, what, reason: error.to_string() },
    }
}

impl Shared {
    fn new(files: Arc<dyn Files>, dir: &Path) -> Shared {
        // Whoever opens it for writing syncs HEAD.
        let (head_lasts, lasting, settled) = (Mutex::new(true), Mutex::default(), Mutex::default());
        let (requests, written, read) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Shared {
            files,
            dir: dir.to_owned(),
            head_lasts,
            lasting,
            settled,
            lock: None,
            requests,
            written,
            read,
        }
    }

    /// Makes the directory ours; whether it could be locked.
    fn prepare(&mut self) -> io::Result<bool> {
        create_durably(&*self.files, &self.dir)?;
        self.lock = self.files.lock(&self.dir.join("lock"))?;
        if self.lock.is_some() {
            let temporary = self.dir.join("tmp");
            if self.files.look(&temporary)?.is_some() {
                self.files.remove_folder(&temporary)?;
            }
            self.files.create_folder(&temporary)?;
            self.files.sync_folder(&self.dir)?;
        }
        Ok(self.lock.is_some())
    }

    fn describe(&self) -> String {
        format!("directory {}", self.dir.display())
    }

    /// Where a key is. Keys are made by this crate or come from its manifests: none may lead out of the directory.
    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let plain = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{key}` is no name of an object"),
            ));
        }
        Ok(self.dir.join(key))
    }

    fn writable(&self) -> io::Result<()> {
        match self.lock {
            Some(_) => self.stall().and_then(|()| self.full()),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "it was opened for reading only")),
        }
    }

    /// The fault switch: a device that hangs.
    fn stall(&self) -> io::Result<()> {
        match self.files.read(&self.dir.join("stall")) {
            Ok(text) => {
                let seconds = String::from_utf8_lossy(&text).trim().parse().map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "the file `stall` does not hold a number of seconds",
                    )
                })?;
                std::thread::sleep(Duration::from_secs(seconds));
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The fault switch: a device without room.
    fn full(&self) -> io::Result<()> {
        match self.files.look(&self.dir.join("full"))? {
            Some(_) => Err(io::Error::from(rustix::io::Errno::NOSPC)),
            None => Ok(()),
        }
    }

    /// Writes a file beside its place, whole and durable.
    fn write_beside(&self, body: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join("tmp").join(ulid::Ulid::generate().to_string());
        let written = self.files.create(&path, body.len() as u64).and_then(|mut file| {
            file.write(body)?;
            if on(Mutant::FilesUnsynced) { Ok(()) } else { file.sync() }
        });
        self.written.fetch_add(body.len() as u64, Ordering::Relaxed);
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = self.files.remove(&path);
                Err(error)
            }
        }
    }

    fn create(&self, key: &str, body: &[u8]) -> io::Result<Created> {
        self.writable()?;
        let path = self.path(key)?;
        let folder = path.parent().expect("a key stands below the directory");
        self.make_folder(folder)?;
        if self.files.look(&path)?.is_some() {
            return self.files.sync_folder(folder).map(|()| Created::Exists);
        }
        let beside = self.write_beside(body)?;
        // A link, unlike a rename, never replaces what another writer may have put there meanwhile.
        let linked = self.files.link(&beside, &path);
        // What stays beside is erased by whoever opens the directory next.
        let _ = self.files.remove(&beside);
        let created = match linked {
            Ok(()) => Created::Yes,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Created::Exists,
            Err(e) => {
                // It may stand there all the same.
                self.unsettle(folder);
                return Err(e);
            }
        };
        if on(Mutant::NamesUnsynced) {
            return Ok(created);
        }
        let synced = self.files.sync_folder(folder);
        if synced.is_err() {
            self.unsettle(folder);
        }
        synced.map(|()| created)
    }

    /// A name in a folder may be there and not last: whoever lists it next syncs it first.
    fn unsettle(&self, folder: &Path) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).remove(folder);
    }

    /// One step: whoever loses power between has the damaged file, and what of it is whole, or the new one.
    fn replace(&self, key: &str, body: &[u8]) -> io::Result<Created> {
        self.writable()?;
        let path = self.path(key)?;
        let folder = path.parent().expect("a key stands below the directory");
        self.make_folder(folder)?;
        let beside = self.write_beside(body)?;
        self.files.rename(&beside, &path)?;
        self.files.sync_folder(folder).map(|()| Created::Yes)
    }

    /// Makes a folder and those above it durable, from the directory down.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let lasting = || self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == self.dir || (lasting().contains(folder) && self.files.look(folder)?.is_some()) {
            return Ok(());
        }
        let above = folder.parent().expect("it stands below the directory");
        self.make_folder(above)?;
        match self.files.create_folder(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => self.files.sync_folder(above)?,
        }
        lasting().insert(folder.to_owned());
        Ok(())
    }

    fn read(&self, key: &str) -> io::Result<Option<Bytes>> {
        let bytes = absent(self.files.read(&self.path(key)?))?;
        self.read.fetch_add(bytes.as_ref().map_or(0, Vec::len) as u64, Ordering::Relaxed);
        Ok(bytes.map(Bytes::from))
    }

    fn read_range(&self, key: &str, offset: u64, len: u64) -> io::Result<Option<Bytes>> {
        let (path, len_here) = (self.path(key)?, usize::try_from(len).map_err(io::Error::other)?);
        let Some(bytes) = absent(self.files.read_range(&path, offset, len_here))? else { return Ok(None) };
        self.read.fetch_add(len, Ordering::Relaxed);
        Ok(Some(Bytes::from(bytes)))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        // Keys end in files: only the folder that the prefix names, and what is below it, has to be walked.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders = vec![if folder.is_empty() { self.dir.clone() } else { self.path(folder)? }];
        let mut all = Vec::new();
        while let Some(folder) = folders.pop() {
            let Some(entries) = absent(self.files.entries(&folder))? else { continue };
            self.settle_names(&folder)?;
            for (path, about) in entries {
                let key = path.strip_prefix(&self.dir).ok().and_then(Path::to_str).map(str::to_owned);
                let Some(key) = key else { continue };
                if about.folder {
                    if key != "tmp" {
                        folders.push(path);
                    }
                } else if key.starts_with(prefix) && key.contains('/') {
                    let modified = about.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    all.push(Listed { key, size: about.size, modified: modified.as_secs() });
                }
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Whoever writes here relies on what it finds: a name that was not synced is made good before it is believed, once per
    /// process.
    fn settle_names(&self, folder: &Path) -> io::Result<()> {
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock.is_some() && !settled().contains(folder) {
            self.files.sync_folder(folder)?;
            settled().insert(folder.to_owned());
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.writable()?;
        let path = self.path(key)?;
        match absent(self.files.remove(&path))? {
            Some(()) => self.files.sync_folder(path.parent().expect("a key stands below the directory")),
            None => Ok(()),
        }
    }

    /// HEAD as something to rely upon: a rename that was not synced is made good before it is believed.
    fn head(&self) -> io::Result<Option<head::Found>> {
        self.settle(&mut self.head_lasts())?;
        head::read(&*self.files, &self.dir)
    }

    fn settle(&self, lasts: &mut bool) -> io::Result<()> {
        if !*lasts {
            self.files.sync_folder(&self.dir)?;
            *lasts = true;
        }
        Ok(())
    }

    fn head_lasts(&self) -> MutexGuard<'_, bool> {
        self.head_lasts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap_head(&self, expected: Option<&Tag>, body: &[u8]) -> io::Result<Swapped> {
        self.writable()?;
        let mut lasts = self.head_lasts();
        self.settle(&mut lasts)?;
        let standing = head::read(&*self.files, &self.dir)?;
        match (standing.as_ref().map(head::Found::tag), expected) {
            (None, Some(_)) => return Ok(Swapped::Gone),
            (standing, expected) if standing.as_ref() != expected => return Ok(Swapped::Lost),
            _ => {}
        }
        let (bytes, name) = head::next(standing.as_ref(), body);
        let beside = self.write_beside(&bytes)?;
        *lasts = on(Mutant::HeadUnsynced);
        self.files.rename(&beside, &self.dir.join(name))?;
        // From here on a reader may see it: a failure leaves open which one survives a crash.
        Ok(self.settle(&mut lasts).map_or(Swapped::Unknown, |()| Swapped::Yes))
    }
}

/// Makes a directory and those above it that are missing, each durable in the one above; also the lowest that is there:
/// whoever made it may have ended before it was.
fn create_durably(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let above = match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    match files.look(dir)? {
        Some(found) if !found.folder => return Err(io::ErrorKind::NotADirectory.into()),
        Some(_) => {
            return match files.sync_folder(above) {
                // It is none of those in which we could have made something.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    Ok(())
                }
                synced => synced,
            };
        }
        None => create_durably(files, above)?,
    }
    files.create_folder(dir)?;
    files.sync_folder(above)
}

impl ObjectStore for DirStore {
    fn describe(&self) -> String {
        self.shared.describe()
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        let name = key.to_owned();
        self.blocking(format!("write {key}"), move |shared| shared.create(&name, &body))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let name = key.to_owned();
        self.blocking(format!("read {key}"), move |shared| shared.read(&name))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let name = key.to_owned();
        self.blocking(format!("read {key}"), move |shared| shared.read_range(&name, offset, len))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        let name = prefix.to_owned();
        self.blocking(format!("list {prefix}"), move |shared| shared.list(&name))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let name = key.to_owned();
        self.blocking(format!("delete {key}"), move |shared| shared.delete(&name))
    }

    fn replace<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        let name = key.to_owned();
        self.blocking(format!("write {key}"), move |shared| shared.replace(&name, &body))
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.blocking("read HEAD".to_owned(), |shared| {
            Ok(shared.head()?.map(|found| (found.body.clone(), found.tag())))
        })
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        let expected = expected.cloned();
        self.blocking("write HEAD".to_owned(), move |shared| shared.swap_head(expected.as_ref(), &body))
    }

    fn usage(&self) -> Usage {
        Usage {
            requests: self.shared.requests.load(Ordering::Relaxed),
            written: self.shared.written.load(Ordering::Relaxed),
            read: self.shared.read.load(Ordering::Relaxed),
        }
    }
}
