//! A tier in a directory: NVMe or a volume.
//!
//! ```text
//! <dir>/HEAD.0, HEAD.1   a version 8, a length 4, the body, CRC32C of all that; the valid one of the higher version counts
//! <dir>/tmp/             files on their way, erased when the directory is opened
//! <dir>/lock             locked by the process that writes here
//! <dir>/stall            (fault switch) a number of seconds: every write first waits as long, once per write
//! <dir>/full             (fault switch) every write fails as on a device without room
//! <dir>/unsynced         (fault switch) the folder it names (`.` for the directory) cannot be synced
//! <dir>/<key>            everything else
//! ```
//!
//! A file is written beside its place, synced, linked into it, and its folder synced, before it counts as created: also
//! one that is found there, since whoever put it there may have ended, or failed, before that. The same holds for each
//! folder in the one above, once per process. A file whose sync failed is lost: it is removed and the descriptor never
//! used again, because the kernel may have thrown the data away and call the next sync a success. Files are preallocated,
//! so that a full disk shows early, and leave the page cache when they are written. Work runs on tokio's blocking threads;
//! the caller never waits for a disk.

use super::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

const HEADS: [&str; 2] = ["HEAD.0", "HEAD.1"];

/// A directory; clones of the pointer share it.
#[derive(Debug)]
pub struct DirStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// Whether the HEAD that stands there is known to last. Held by whoever changes it: the comparison and the write are
    /// one step.
    head_lasts: Mutex<bool>,
    /// Folders that are known to stay, whatever happens to the machine.
    lasting: Mutex<BTreeSet<PathBuf>>,
    /// What makes the directory ours; none for one that is only read.
    lock: Option<File>,
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
        let shared = |lock| Arc::new(Shared::new(dir, lock));
        let failed = |e: &io::Error| failure(&shared(None).describe(), "open", e);
        let temporary = dir.join("tmp");
        let prepared = || {
            create_durably(dir)?;
            let lock = File::options().create(true).write(true).truncate(false).open(dir.join("lock"))?;
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                locked => locked?,
            }
            if temporary.exists() {
                fs::remove_dir_all(&temporary)?;
            }
            fs::create_dir(&temporary)?;
            sync_dir(dir)?;
            Ok(Some(lock))
        };
        match prepared() {
            Ok(Some(lock)) => Ok(DirStore { shared: shared(Some(lock)) }),
            Ok(None) => Err(StoreError::Permanent {
                store: shared(None).describe(),
                what: "lock".to_owned(),
                reason: "another process writes here: stop it or use another directory".to_owned(),
            }),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The directory for reading only, while another process may write to it.
    #[must_use]
    pub fn read_only(dir: &Path) -> DirStore {
        DirStore { shared: Arc::new(Shared::new(dir, None)) }
    }

    /// Whether a HEAD, whole or not, stands in the directory.
    #[must_use]
    pub fn holds_head(dir: &Path) -> bool {
        HEADS.iter().any(|name| dir.join(name).exists())
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
    fn new(dir: &Path, lock: Option<File>) -> Shared {
        let (requests, written, read) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        // Whoever opens it for writing syncs it.
        let (head_lasts, lasting) = (Mutex::new(true), Mutex::default());
        Shared { dir: dir.to_owned(), head_lasts, lasting, lock, requests, written, read }
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
        match fs::read_to_string(self.dir.join("stall")) {
            Ok(text) => {
                let seconds = text.trim().parse().map_err(|_| {
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
        match self.dir.join("full").exists() {
            true => Err(io::Error::from(rustix::io::Errno::NOSPC)),
            false => Ok(()),
        }
    }

    /// Writes a file beside its place, whole and durable.
    fn write_beside(&self, body: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join("tmp").join(ulid::Ulid::generate().to_string());
        let written = (|| {
            let mut file = File::create_new(&path)?;
            if !body.is_empty() {
                match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, body.len() as u64) {
                    // Not every file system can; the write itself will tell then.
                    Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            file.write_all(body)?;
            file.sync_data()?;
            // Advice: what it does not take is harmless.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            Ok(())
        })();
        self.written.fetch_add(body.len() as u64, Ordering::Relaxed);
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn create(&self, key: &str, body: &[u8]) -> io::Result<Created> {
        self.writable()?;
        let path = self.path(key)?;
        let folder = path.parent().expect("a key stands below the directory");
        self.make_folder(folder)?;
        if path.exists() {
            return self.sync_folder(folder).map(|()| Created::Exists);
        }
        let beside = self.write_beside(body)?;
        // A link, unlike a rename, never replaces what another writer may have put there meanwhile.
        let linked = fs::hard_link(&beside, &path);
        fs::remove_file(&beside)?;
        let created = match linked {
            Ok(()) => Created::Yes,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Created::Exists,
            Err(e) => return Err(e),
        };
        self.sync_folder(folder).map(|()| created)
    }

    /// Makes a folder and those above it durable, from the directory down.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let lasting = || self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == self.dir || (lasting().contains(folder) && folder.is_dir()) {
            return Ok(());
        }
        let above = folder.parent().expect("it stands below the directory");
        self.make_folder(above)?;
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => self.sync_folder(above)?,
        }
        lasting().insert(folder.to_owned());
        Ok(())
    }

    /// Makes what stands in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if let Some(named) = absent(fs::read_to_string(self.dir.join("unsynced")))?
            && self.dir.join(named.trim()) == folder
        {
            return Err(io::Error::from(rustix::io::Errno::IO));
        }
        sync_dir(folder)
    }

    fn read(&self, key: &str) -> io::Result<Option<Bytes>> {
        let bytes = absent(fs::read(self.path(key)?))?;
        self.read.fetch_add(bytes.as_ref().map_or(0, Vec::len) as u64, Ordering::Relaxed);
        Ok(bytes.map(Bytes::from))
    }

    fn read_range(&self, key: &str, offset: u64, len: u64) -> io::Result<Option<Bytes>> {
        let Some(file) = absent(File::open(self.path(key)?))? else { return Ok(None) };
        if file.metadata()?.len() < offset.saturating_add(len) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short"));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        self.read.fetch_add(len, Ordering::Relaxed);
        Ok(Some(bytes.into()))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        // Keys end in files: only the folder that the prefix names, and what is below it, has to be walked.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders = vec![if folder.is_empty() { self.dir.clone() } else { self.path(folder)? }];
        let mut all = Vec::new();
        while let Some(folder) = folders.pop() {
            let Some(entries) = absent(fs::read_dir(&folder))? else { continue };
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                let key = path.strip_prefix(&self.dir).ok().and_then(Path::to_str).map(str::to_owned);
                let Some(key) = key else { continue };
                let Some(about) = absent(entry.metadata())? else { continue };
                if about.is_dir() {
                    if key != "tmp" {
                        folders.push(path);
                    }
                } else if key.starts_with(prefix) && key.contains('/') {
                    let modified =
                        about.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    all.push(Listed { key, size: about.len(), modified: modified.as_secs() });
                }
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.writable()?;
        let path = self.path(key)?;
        match absent(fs::remove_file(&path))? {
            Some(()) => self.sync_folder(path.parent().expect("a key stands below the directory")),
            None => Ok(()),
        }
    }

    /// HEAD as something to rely upon: a rename that was not synced is made good before it is believed.
    fn lasting_head(&self) -> io::Result<Option<(u64, usize, Bytes)>> {
        self.settle(&mut self.head_lasts())?;
        self.head()
    }

    fn settle(&self, lasts: &mut bool) -> io::Result<()> {
        if !*lasts {
            self.sync_folder(&self.dir)?;
            *lasts = true;
        }
        Ok(())
    }

    fn head_lasts(&self) -> MutexGuard<'_, bool> {
        self.head_lasts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The valid HEAD of the higher version, and where it stands.
    fn head(&self) -> io::Result<Option<(u64, usize, Bytes)>> {
        let mut best: Option<(u64, usize, Bytes)> = None;
        let mut damaged = None;
        for (at, name) in HEADS.into_iter().enumerate() {
            let Some(bytes) = absent(fs::read(self.dir.join(name)))? else { continue };
            match parse_head(&bytes) {
                Some((version, body)) if best.as_ref().is_none_or(|(newest, ..)| *newest < version) => {
                    best = Some((version, at, body));
                }
                Some(_) => {}
                None => damaged = Some(name),
            }
        }
        // One torn file is what a crash leaves; without a whole one beside it there is no telling what was there.
        match (best, damaged) {
            (None, Some(name)) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{name} is damaged and no other HEAD is whole: restore this tier from another one"),
            )),
            (best, _) => Ok(best),
        }
    }

    fn swap_head(&self, expected: Option<&Tag>, body: &[u8]) -> io::Result<Swapped> {
        self.writable()?;
        let mut lasts = self.head_lasts();
        self.settle(&mut lasts)?;
        let standing = self.head()?;
        let tag = standing.as_ref().map(|(version, _, body)| tag(*version, body));
        match (&tag, expected) {
            (None, Some(_)) => return Ok(Swapped::Gone),
            (standing, expected) if standing.as_ref() != expected => return Ok(Swapped::Lost),
            _ => {}
        }
        let (version, at) = standing.map_or((1, 0), |(version, at, _)| (version + 1, 1 - at));
        let beside = self.write_beside(&encode_head(version, body))?;
        *lasts = false;
        fs::rename(&beside, self.dir.join(HEADS[at]))?;
        // From here on a reader may see it: a failure leaves open which one survives a crash.
        Ok(self.settle(&mut lasts).map_or(Swapped::Unknown, |()| Swapped::Yes))
    }
}

fn tag(version: u64, body: &[u8]) -> Tag {
    Tag(format!("{version}-{}", &blake3::hash(body).to_hex()[..16]))
}

fn encode_head(version: u64, body: &[u8]) -> Vec<u8> {
    let mut out = version.to_le_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(body.len()).expect("a HEAD is small").to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

fn parse_head(bytes: &[u8]) -> Option<(u64, Bytes)> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let (version, rest) = content.split_first_chunk::<8>()?;
    let (length, body) = rest.split_first_chunk::<4>()?;
    let whole = crc32c::crc32c(content) == u32::from_le_bytes(*crc);
    let whole = whole && body.len() == u32::from_le_bytes(*length) as usize;
    whole.then(|| (u64::from_le_bytes(*version), Bytes::copy_from_slice(body)))
}

/// Makes a directory and those above it that are missing, each durable in the one above.
fn create_durably(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            create_durably(dir.parent().ok_or(e)?)?;
            fs::create_dir(dir)?;
        }
        made => made?,
    }
    match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => sync_dir(above),
        _ => sync_dir(Path::new(".")),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
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

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.blocking("read HEAD".to_owned(), |shared| {
            Ok(shared.lasting_head()?.map(|(version, _, body)| (body.clone(), tag(version, &body))))
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
