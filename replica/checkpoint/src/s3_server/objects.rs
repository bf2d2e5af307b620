//! Objects on disk: one file each, so that replacing an object is one rename.
//!
//! ```text
//! <dir>/<bucket>/objects/<first 32 digits of BLAKE3 of the key>   body, description (JSON), its length 4, "VS3O"
//! <dir>/<bucket>/tmp/       bodies on their way, erased at the start
//! <dir>/<bucket>/uploads/   parts of unfinished uploads
//! ```

use super::conditions::Conditions;
use super::faults::Faults;
use super::{StartError, intake::Arrived};
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MAGIC: [u8; 4] = *b"VS3O";
const TRAILER: u64 = 8;

/// What is known of an object beside its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct About {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified_micros: u64,
    pub(super) crc64nvme: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// All buckets.
pub(super) struct Objects {
    dir: PathBuf,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    pub(super) faults: Faults,
}

impl Objects {
    pub(super) fn open(dir: &Path, buckets: &[String], faults: Faults) -> Result<Objects, StartError> {
        let unusable = |source| StartError::Directory { dir: dir.to_owned(), source };
        let objects = Objects { dir: dir.to_owned(), buckets: Mutex::default(), faults };
        let mut names = buckets.to_vec();
        for entry in fs::read_dir(dir).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            if entry.path().join("objects").is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        for name in names {
            let bucket = Bucket::open(dir.join(&name))?;
            lock(&objects.buckets).insert(name, Arc::new(bucket));
        }
        Ok(objects)
    }

    pub(super) fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        let found = lock(&self.buckets).get(name).cloned();
        found.ok_or_else(|| s3_error!(NoSuchBucket, "there is no bucket of this name"))
    }

    pub(super) fn create_bucket(&self, name: &str) -> S3Result<()> {
        let mut buckets = lock(&self.buckets);
        if buckets.contains_key(name) {
            return Err(s3_error!(BucketAlreadyOwnedByYou, "the bucket exists and is yours"));
        }
        let bucket = Bucket::open(self.dir.join(name)).map_err(S3Error::internal_error)?;
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(())
    }
}

/// One bucket.
pub(super) struct Bucket {
    dir: PathBuf,
    /// Held while a condition is checked and the write it guards is done: that is what makes them one step.
    index: Mutex<BTreeMap<String, About>>,
}

impl Bucket {
    fn open(dir: PathBuf) -> Result<Bucket, StartError> {
        let unusable = |source| StartError::Directory { dir: dir.clone(), source };
        let temporary = dir.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(unusable)?;
        }
        for part in ["objects", "tmp", "uploads"] {
            fs::create_dir_all(dir.join(part)).map_err(unusable)?;
        }
        let mut index = BTreeMap::new();
        for entry in fs::read_dir(dir.join("objects")).map_err(unusable)? {
            let file = entry.map_err(unusable)?.path();
            let read = File::open(&file).and_then(|open| describe(&open));
            let about = read.map_err(|e| StartError::Damaged { file, reason: e.to_string() })?;
            index.insert(about.key.clone(), about);
        }
        Ok(Bucket { dir, index: Mutex::new(index) })
    }

    /// Where bodies arrive.
    pub(super) fn arrivals(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Where parts of unfinished uploads are.
    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// Makes an arrived body the object, if the conditions hold.
    pub(super) fn put(&self, body: &Arrived, about: About, conditions: &Conditions) -> S3Result<()> {
        append_description(body.path(), &about).map_err(S3Error::internal_error)?;
        let mut index = lock(&self.index);
        conditions.check(index.get(&about.key).map(|standing| standing.etag.as_str()))?;
        fs::rename(body.path(), self.file(&about.key)).map_err(S3Error::internal_error)?;
        index.insert(about.key.clone(), about);
        Ok(())
    }

    /// Removes an object, if the conditions hold.
    pub(super) fn delete(&self, key: &str, conditions: &Conditions) -> S3Result<()> {
        let mut index = lock(&self.index);
        let standing = index.get(key).map(|standing| standing.etag.as_str());
        conditions.check(standing)?;
        if standing.is_some() {
            fs::remove_file(self.file(key)).map_err(S3Error::internal_error)?;
            index.remove(key);
        }
        Ok(())
    }

    /// An object's file with its description, which belong together even if the object is replaced meanwhile.
    pub(super) fn open_object(&self, key: &str) -> S3Result<(File, About)> {
        let absent = || s3_error!(NoSuchKey, "there is no such object");
        if !lock(&self.index).contains_key(key) {
            return Err(absent());
        }
        let file = match File::open(self.file(key)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(absent()),
            Err(e) => return Err(S3Error::internal_error(e)),
        };
        let about = describe(&file).map_err(S3Error::internal_error)?;
        Ok((file, about))
    }

    /// What is known of an object.
    pub(super) fn about(&self, key: &str) -> S3Result<About> {
        lock(&self.index).get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey, "there is no such object"))
    }

    /// At most `max` objects with this prefix and a key above `after`, ascending.
    pub(super) fn list(&self, prefix: &str, after: &str, max: usize) -> Vec<About> {
        let from = if after.is_empty() {
            std::ops::Bound::Included(prefix.to_owned())
        } else {
            std::ops::Bound::Excluded(after.max(prefix).to_owned())
        };
        // `after` may stand before the prefix; then the prefix itself counts.
        let from = if !after.is_empty() && after < prefix {
            std::ops::Bound::Included(prefix.to_owned())
        } else {
            from
        };
        let index = lock(&self.index);
        let below = index.range((from, std::ops::Bound::Unbounded)).map(|(_, about)| about);
        below.take_while(|about| about.key.starts_with(prefix)).take(max).cloned().collect()
    }

    fn file(&self, key: &str) -> PathBuf {
        self.dir.join("objects").join(&blake3::hash(key.as_bytes()).to_hex()[..32])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is changed in one step each time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn append_description(body: &Path, about: &About) -> io::Result<()> {
    let mut description = serde_json::to_vec(about).expect("plain data is always JSON");
    let length = u32::try_from(description.len()).expect("a description is short");
    description.extend_from_slice(&length.to_le_bytes());
    description.extend_from_slice(&MAGIC);
    File::options().append(true).open(body)?.write_all(&description)
}

pub(super) fn describe(file: &File) -> io::Result<About> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let end = file.metadata()?.len().checked_sub(TRAILER).ok_or_else(|| invalid("it is cut short"))?;
    let mut trailer = [0; TRAILER as usize];
    file.read_exact_at(&mut trailer, end)?;
    let (length, magic) = trailer.split_at(4);
    if magic != MAGIC {
        return Err(invalid("it does not end as an object does"));
    }
    let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
    let start = end.checked_sub(length.into()).ok_or_else(|| invalid("it is cut short"))?;
    let mut description = vec![0; length as usize];
    file.read_exact_at(&mut description, start)?;
    let about: About = serde_json::from_slice(&description)?;
    if about.size != start {
        return Err(invalid("its body has another size than its description says"));
    }
    Ok(about)
}
