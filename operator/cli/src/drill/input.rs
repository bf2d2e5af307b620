//! What a drill loads: a directory tree (path -> contents), or a file of keys and values.
//!
//! Everything is read by a thread of its own, a little ahead of the load and never as a whole. What is larger than a
//! request may be is skipped and counted, and so is what cannot be read below a directory; a line that makes no sense
//! is an error, because a file of keys and values was written on purpose.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use vr_evidence::report::Counted;

/// Keys of the input begin with this.
pub const PREFIX: &str = "drill/input/";
/// Key and value together; a request of etcd's may have 1.5 MiB, and its own frame needs a little.
pub const MAX_ENTRY: usize = 1536 * 1024 - 1024;
/// A batch is one transaction: etcd allows 128 operations.
const BATCH_ENTRIES: usize = 128;
const BATCH_BYTES: usize = 256 * 1024;
/// Batches read ahead.
const READ_AHEAD: usize = 64;
/// The most that is loaded when no input was given.
const DEFAULT_BYTES: u64 = 48 << 20;

/// Where the input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Every regular file below, its path without the directory's own as the key. Links are not followed.
    Directory {
        /// The directory.
        root: PathBuf,
        /// Stop after so many bytes.
        limit: Option<u64>,
    },
    /// Lines of `key<TAB>value`.
    Tsv(PathBuf),
    /// Lines of `{"key": "…", "value": "…"}`, where `{"base64": "…"}` may stand for a string.
    JsonLines(PathBuf),
}

/// Entries that go into one transaction; their keys differ.
pub type Batch = Vec<(Bytes, Bytes)>;

/// An input that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The path cannot be read.
    #[error("cannot read the input {path}; give a directory or a readable .tsv, .jsonl or .ndjson file")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is something else.
    #[error("{0} is neither a directory nor a .tsv, .jsonl or .ndjson file")]
    Kind(PathBuf),
    /// A line makes no sense.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Nothing to load.
    #[error("{path} holds nothing to load ({skipped} skipped); give another --input")]
    Empty {
        /// The path.
        path: PathBuf,
        /// Entries that were skipped.
        skipped: u64,
    },
}

impl Input {
    /// What `path` is.
    ///
    /// # Errors
    /// When it is not there, or is no kind of input.
    pub fn at(path: &Path) -> Result<Input, InputError> {
        let kind = fs::metadata(path)
            .map_err(|source| InputError::Unreadable { path: path.to_owned(), source })?
            .file_type();
        if kind.is_dir() {
            return Ok(Input::Directory { root: path.to_owned(), limit: None });
        }
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("tsv") if kind.is_file() => Ok(Input::Tsv(path.to_owned())),
            Some("jsonl" | "ndjson") if kind.is_file() => Ok(Input::JsonLines(path.to_owned())),
            _ => Err(InputError::Kind(path.to_owned())),
        }
    }

    /// A tree that every machine has: the Rust toolchain's, where there is one, or the system's; its first 48 MiB.
    #[must_use]
    pub fn of_every_machine() -> Input {
        let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok();
        let sysroot = sysroot.filter(|out| out.status.success()).map(|out| out.stdout);
        let root = sysroot
            .map(|path| PathBuf::from(String::from_utf8_lossy(&path).trim()))
            .filter(|path| path.is_dir())
            .unwrap_or_else(|| PathBuf::from("/usr"));
        Input::Directory { root, limit: Some(DEFAULT_BYTES) }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Input::Directory { root, .. } => root,
            Input::Tsv(path) | Input::JsonLines(path) => path,
        }
    }

    /// Starts to read. The batches end with the input; then the thread's own result tells how it went.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn read(&self) -> std::io::Result<Reading> {
        let (sender, batches) = mpsc::channel(READ_AHEAD);
        let input = self.clone();
        let reader = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            let mut batcher = Batcher { sender, ..Batcher::new() };
            input.read_into(&mut batcher)?;
            batcher.flush();
            let counted = batcher.counted;
            if counted.entries == 0 && !batcher.receiver_gone {
                let skipped = counted.skipped_too_large + counted.skipped_unreadable;
                return Err(InputError::Empty { path: input.path().to_owned(), skipped });
            }
            Ok(counted)
        })?;
        Ok(Reading { batches, reader })
    }

    /// Reads its beginning, so that what cannot be loaded at all is said before anything is started for it.
    ///
    /// # Errors
    /// When it cannot be read, makes no sense from the first line on, or holds nothing.
    pub async fn look(&self) -> anyhow::Result<()> {
        let mut reading = self.read()?;
        if reading.batches.recv().await.is_none() {
            reading.counted()?;
        }
        Ok(())
    }

    fn read_into(&self, batcher: &mut Batcher) -> Result<(), InputError> {
        match self {
            Input::Directory { root, limit } => {
                // The root itself must be readable; what lies below may be skipped.
                fs::read_dir(root).map_err(|source| InputError::Unreadable { path: root.clone(), source })?;
                walk(root, root, limit.unwrap_or(u64::MAX), batcher);
                Ok(())
            }
            Input::Tsv(path) => lines(path, |line| {
                let tab = line.iter().position(|&b| b == b'\t').ok_or("no tab between key and value")?;
                batcher.add(&line[..tab], Bytes::copy_from_slice(&line[tab + 1..]));
                Ok(())
            }),
            Input::JsonLines(path) => lines(path, |line| {
                let text = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
                let entry: Entry = serde_json::from_str(text).map_err(|error| {
                    format!("not an object with \"key\" and \"value\", each a string or {{\"base64\": …}}: {error}")
                })?;
                batcher.add(&entry.key.bytes()?, entry.value.bytes()?);
                Ok(())
            }),
        }
    }
}

/// An input that is being read.
pub struct Reading {
    /// Its entries.
    pub batches: mpsc::Receiver<Batch>,
    reader: std::thread::JoinHandle<Result<Counted, InputError>>,
}

impl Reading {
    /// What was read, once the batches have ended.
    ///
    /// # Errors
    /// Those of the input.
    pub fn counted(self) -> Result<Counted, InputError> {
        drop(self.batches);
        self.reader.join().expect("the reader does not panic on input")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: Text,
    value: Text,
}

/// Bytes as `vr checkpoint restore` writes them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Encoded(Encoded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

impl Text {
    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Text::Plain(text) => Ok(Bytes::from(text)),
            Text::Encoded(Encoded { base64 }) => base64_simd::STANDARD
                .decode_to_vec(&base64)
                .map(Bytes::from)
                .map_err(|_| format!("{base64:?} is not base64")),
        }
    }
}

/// In the order of names, so that the same tree gives the same load.
fn walk(root: &Path, directory: &Path, limit: u64, batcher: &mut Batcher) {
    let Ok(listing) = fs::read_dir(directory) else {
        batcher.counted.skipped_unreadable += 1;
        return;
    };
    let mut entries: Vec<_> = listing.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if batcher.receiver_gone || batcher.counted.bytes >= limit {
            return;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(root, &path, limit, batcher),
            Ok(kind) if kind.is_file() => file(root, &path, batcher),
            // Links, sockets and the like have no contents of their own.
            Ok(_) => {}
            Err(_) => batcher.counted.skipped_unreadable += 1,
        }
    }
}

fn file(root: &Path, path: &Path, batcher: &mut Batcher) {
    let key = path.strip_prefix(root).expect("the walk stays below its root").as_os_str().as_bytes();
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    // Not read just to be refused.
    if length > MAX_ENTRY as u64 {
        batcher.counted.skipped_too_large += 1;
        return;
    }
    match fs::read(path) {
        Ok(contents) => batcher.add(key, Bytes::from(contents)),
        Err(_) => batcher.counted.skipped_unreadable += 1,
    }
}

fn lines(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), InputError> {
    let unreadable = |source| InputError::Unreadable { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            each(text).map_err(|what| InputError::Line { path: path.to_owned(), line: number, what })?;
        }
    }
    Ok(())
}

/// Gathers entries into batches.
struct Batcher {
    sender: mpsc::Sender<Batch>,
    batch: Batch,
    keys: HashSet<Bytes>,
    bytes: usize,
    counted: Counted,
    receiver_gone: bool,
}

impl Batcher {
    fn new() -> Batcher {
        Batcher {
            sender: mpsc::channel(1).0,
            batch: Vec::new(),
            keys: HashSet::new(),
            bytes: 0,
            counted: Counted::default(),
            receiver_gone: false,
        }
    }

    fn add(&mut self, name: &[u8], value: Bytes) {
        let key = Bytes::from([PREFIX.as_bytes(), name].concat());
        let size = key.len() + value.len();
        if size > MAX_ENTRY {
            self.counted.skipped_too_large += 1;
            return;
        }
        // A transaction with the same key twice would be refused as a whole.
        let full = self.batch.len() >= BATCH_ENTRIES || self.bytes + size > BATCH_BYTES;
        if full || self.keys.contains(&key) {
            self.flush();
        }
        self.counted.entries += 1;
        self.counted.bytes += size as u64;
        self.bytes += size;
        self.keys.insert(key.clone());
        self.batch.push((key, value));
    }

    fn flush(&mut self) {
        self.bytes = 0;
        self.keys.clear();
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() && self.sender.blocking_send(batch).is_err() {
            self.receiver_gone = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &Input) -> Result<(Vec<Batch>, Counted), InputError> {
        let mut reading = input.read().expect("a thread");
        let mut batches = Vec::new();
        while let Some(batch) = reading.batches.blocking_recv() {
            batches.push(batch);
        }
        Ok((batches, reading.counted()?))
    }

    fn file(name: &str, contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        fs::write(&path, contents).expect("written");
        (dir, path)
    }

    #[test]
    fn a_tree_becomes_paths_and_contents() {
        let (dir, _) = file("b.txt", b"two");
        fs::create_dir(dir.path().join("a")).expect("made");
        fs::write(dir.path().join("a/one"), b"1").expect("written");
        fs::write(dir.path().join("large"), vec![0; MAX_ENTRY + 1]).expect("written");
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).expect("linked");
        let (batches, counted) = read(&Input::at(dir.path()).expect("a directory")).expect("read");
        let all: Vec<_> = batches.concat();
        assert_eq!(all[0], (Bytes::from("drill/input/a/one"), Bytes::from("1")));
        assert_eq!(all[1], (Bytes::from("drill/input/b.txt"), Bytes::from("two")));
        assert_eq!((counted.entries, counted.skipped_too_large), (2, 1));
    }

    #[test]
    fn the_limit_ends_the_walk() {
        let (dir, _) = file("a", &[1; 100]);
        fs::write(dir.path().join("b"), [2; 100]).expect("written");
        let input = Input::Directory { root: dir.path().to_owned(), limit: Some(50) };
        assert_eq!(read(&input).expect("read").1.entries, 1);
    }

    #[test]
    fn files_of_keys_and_values() {
        let (_dir, path) = file("a.tsv", b"k\tv\twith tab\nk\tagain\r\n\n\xff\t\xfe\n");
        let (batches, counted) = read(&Input::at(&path).expect("known")).expect("read");
        assert_eq!(counted.entries, 3);
        // The same key twice is never in one batch.
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0][0].1, Bytes::from("v\twith tab"));
        assert_eq!(batches[1][0].1, Bytes::from("again"));
        let (_dir, path) = file("a.jsonl", b"{\"key\":\"k\",\"value\":{\"base64\":\"/wA=\"}}\n");
        let (batches, _) = read(&Input::at(&path).expect("known")).expect("read");
        assert_eq!(batches[0][0].1, Bytes::from_static(b"\xff\x00"));
    }

    #[test]
    fn batches_stay_within_the_limits_of_a_transaction() {
        let text: String = (0..1_000).map(|n| format!("{n}\t{}\n", "x".repeat(3_000))).collect();
        let (_dir, path) = file("a.tsv", text.as_bytes());
        let (batches, _) = read(&Input::at(&path).expect("known")).expect("read");
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 1_000);
        for batch in batches {
            assert!(batch.len() <= BATCH_ENTRIES);
            assert!(batch.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= BATCH_BYTES);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let nowhere = Input::at(Path::new("/nowhere")).expect_err("not there").to_string();
        assert!(nowhere.contains("/nowhere"), "{nowhere}");
        for (name, contents, expected) in [
            ("a.bin", &b"x"[..], "neither a directory nor"),
            ("a.tsv", b"a\tb\nno value\n", "line 2: no tab"),
            ("a.tsv", b"", "nothing to load"),
            ("a.jsonl", b"{\"key\":\"k\"}", "line 1: not an object"),
            ("a.jsonl", b"{\"key\":\"k\",\"value\":\"\xff\"}", "line 1: not UTF-8"),
            ("a.jsonl", b"{\"key\":\"k\",\"value\":\"v\",\"x\":1}", "unknown field `x`"),
            ("a.jsonl", b"{\"key\":\"k\",\"value\":{\"base64\":\"?\"}}", "line 1: \"?\" is not base64"),
        ] {
            let (_dir, path) = file(name, contents);
            let error =
                Input::at(&path).and_then(|input| read(&input).map(drop)).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        // A file by its name, but nothing that could be read to an end.
        let (dir, _) = file("a", b"");
        let device = dir.path().join("zero.tsv");
        std::os::unix::fs::symlink("/dev/zero", &device).expect("linked");
        let error = Input::at(&device).expect_err("no file").to_string();
        assert!(error.contains("neither a directory nor"), "{error}");
        let (dir, _) = file("large", &vec![0; MAX_ENTRY + 1]);
        let error =
            read(&Input::at(dir.path()).expect("a directory")).map(drop).expect_err("too large").to_string();
        assert!(error.contains("nothing to load (1 skipped)"), "{error}");

        let empty = tempfile::tempdir().expect("a directory");
        let error =
            read(&Input::at(empty.path()).expect("a directory")).map(drop).expect_err("empty").to_string();
        assert!(error.contains("nothing to load"), "{error}");
    }
}
