//! `vr bench checkpoint`: what a checkpoint and a restore cost, each beside what this machine could do in the same run.
//!
//! In this process, without a cluster: a state of keys drawn at random goes to a directory and to the embedded S3 server
//! and comes back. What it does not measure is what users notice meanwhile; that takes a cluster and `vr bench put`. A
//! directory is read as the writer leaves it, out of the page cache; where the system keeps it there all the same (a tmpfs
//! does), the disk looks faster on both sides of the ratio.
//!
//! Incremental checkpoints are made twice, of the same changes: with deltas, and on a copy of the directory with whole pages.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use vr_checkpoint::format::DELTAS_MAX;
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::s3_server::{Faults, Options, Server};
use vr_checkpoint::store::{DirStore, MemStore, ObjectStore, S3Keys, S3Location, S3Store};
use vr_checkpoint::writer::{Cut, Identity, Lineage, Writer, Written};
use vr_checkpoint::{Snapshot, Tree};

use super::cpu;
use super::nowhere::Nowhere;
use crate::output::{self, Format};
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};
use crate::units::{self, show_bytes};

pub(super) const LINEAGE: Lineage = Lineage([1; 16]);
const BUCKET: &str = "bench";
/// Piece by piece, as packs are.
const PIECE: usize = 16 << 20;

/// How large a state, and where it goes.
#[derive(Debug, Args)]
pub(super) struct CheckpointBench {
    /// Number of keys
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    keys: u64,

    /// Length of the values, which do not compress
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = units::size)]
    size: usize,

    /// So many of a thousand keys change, at random, before the incremental checkpoint
    #[arg(long, value_name = "PER MILLE", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    changed: u64,

    /// So many incremental checkpoints follow each other, each after other changes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,

    /// So many deltas at most stand between a page and one that is stored whole
    #[arg(long, value_name = "N", default_value_t = DELTAS_MAX, value_parser = deltas)]
    deltas: usize,

    /// Work below this directory, on the disk that is to be measured [default: the system's for temporary files]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn deltas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(deltas) if deltas <= DELTAS_MAX => Ok(deltas),
        _ => Err(format!("a number from 0 (whole pages only) to {DELTAS_MAX} is expected")),
    }
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    keys: u64,
    state_bytes: u64,
    /// The longest that taking a snapshot took, while a change was made between any two.
    cut_pause_ms: f64,
    /// Memory of the state over its plain bytes.
    memory_ratio: f64,
    /// What an incremental checkpoint shipped over the bytes that changed.
    bytes_ratio: f64,
    /// And over the state.
    incremental_share: f64,
    /// The same with whole pages.
    whole_bytes_ratio: f64,
    whole_incremental_share: f64,
    /// How many times as long a restore takes from deltas as from whole pages.
    delta_restore_cost: f64,
    /// A full checkpoint to the directory, as part of what the slower of disk and processor could do.
    full_ratio: f64,
    /// A restore from the directory, likewise.
    restore_ratio: f64,
    /// A restore from the embedded S3 server, likewise.
    restore_s3_ratio: f64,
    limits: Limits,
    steps: Vec<Step>,
}

/// What this machine could do, measured in the same run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    disk_write_per_second: f64,
    disk_read_per_second: f64,
    /// Hashing and compressing the state into packs that go nowhere.
    frames_seconds: f64,
    /// Decompressing, hashing and building it from packs in memory.
    build_seconds: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    name: &'static str,
    seconds: f64,
    cpu_seconds: f64,
    bytes: u64,
    requests: u64,
}

impl CheckpointBench {
    /// Runs it.
    ///
    /// # Errors
    /// When the directory cannot be used, or what comes back is not what went.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let report = runtime.block_on(self.measure())?;
        match self.output {
            Format::Json => output::json(&report),
            Format::Table => output::text(report.table()),
        }
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("vr-bench-");
        let dir = match &self.dir {
            Some(dir) => builder.tempdir_in(dir),
            None => builder.tempdir(),
        };
        let dir = dir.context("cannot make a directory to work in: give another --dir")?;

        let before = resident()?;
        let mut tree = self.tree();
        let taken = resident()?.saturating_sub(before);
        let snapshot = tree.snapshot();
        let (state_bytes, mut steps) = (snapshot.bytes(), Vec::new());

        // A limit is what was ever reached: the better of two.
        let (first, second) = (self.to_nowhere().await?, self.to_nowhere().await?);
        let frames = better(first, second);
        let frames_seconds = frames.seconds;
        steps.push(frames);

        let tier = dir.path().join("tier");
        let disk: Arc<dyn ObjectStore> = Arc::new(DirStore::open(&tier)?);
        let mut with_deltas = writer(&disk).await?;
        with_deltas.limit_deltas(self.deltas);
        let (written, full) = ship_with(&mut with_deltas, &disk, 1, &snapshot).await?;
        let full_seconds = full.seconds;
        steps.push(Step { name: "full to the directory", ..full });
        let root = written.root;

        let file = dir.path().join("limit");
        let disk_write_per_second = write_limit(&file, written.shipped_bytes)?;
        let disk_read_per_second = read_limit(&file)?;

        let server = server(&dir.path().join("s3")).await?;
        let s3: Arc<dyn ObjectStore> = Arc::new(S3Store::open(&place(&server)).await?);
        let (_, shipped) = ship(&s3, 1, &snapshot).await?;
        steps.push(Step { name: "full to embedded S3", ..shipped });
        let memory: Arc<dyn ObjectStore> = Arc::new(MemStore::new());
        ship(&memory, 1, &snapshot).await?;
        drop(snapshot);

        let build = better(load(&memory, &root).await?, load(&memory, &root).await?);
        let build_seconds = build.seconds;
        steps.push(Step { name: "restore from memory", ..build });
        drop(memory);
        let from_disk = load(&disk, &root).await?;
        let from_s3 = load(&s3, &root).await?;
        let restored = (from_disk.seconds, from_s3.seconds);
        steps.push(Step { name: "restore from the directory", ..from_disk });
        steps.push(Step { name: "restore from embedded S3", ..from_s3 });

        server.stop().await;

        let twin = dir.path().join("twin");
        link(&tier, &twin)?;
        let whole: Arc<dyn ObjectStore> = Arc::new(DirStore::open(&twin)?);
        let mut with_whole = writer(&whole).await?;
        let (mut cut_pause, mut changed_bytes) = (Duration::ZERO, 0);
        let (mut shipped, mut shipped_whole) = (0, 0);
        for round in 1..=self.rounds {
            let (pause, bytes) = change(&mut tree, round, self.keys, self.changed, self.size);
            (cut_pause, changed_bytes) = (cut_pause.max(pause), changed_bytes + bytes);
            let snapshot = tree.snapshot();
            let (written, step) = ship_with(&mut with_deltas, &disk, 1 + round, &snapshot).await?;
            shipped += written.shipped_bytes;
            steps.push(Step { name: "incremental to the directory", ..step });
            let (written, step) = ship_with(&mut with_whole, &whole, 1 + round, &snapshot).await?;
            shipped_whole += written.shipped_bytes;
            steps.push(Step { name: "the same with whole pages", ..step });
        }
        let root = tree.snapshot().root();
        drop((with_deltas, with_whole, tree));
        // The first to be read may pay for what the second finds ready: each is the better of two, in turns.
        let (mut from_deltas, mut from_whole) = (load(&disk, &root).await?, load(&whole, &root).await?);
        from_whole = better(from_whole, load(&whole, &root).await?);
        from_deltas = better(from_deltas, load(&disk, &root).await?);
        let delta_restore_cost = from_deltas.seconds / from_whole.seconds;
        steps.push(Step { name: "restore with deltas", ..from_deltas });
        steps.push(Step { name: "restore with whole pages", ..from_whole });

        let per_round = |bytes: u64| bytes as f64 / self.rounds as f64;
        let stored = written.shipped_bytes as f64;
        let ideal_read = (stored / disk_read_per_second).max(build_seconds);
        Ok(Report {
            keys: self.keys,
            state_bytes,
            cut_pause_ms: cut_pause.as_secs_f64() * 1e3,
            memory_ratio: taken as f64 / state_bytes as f64,
            bytes_ratio: shipped as f64 / changed_bytes as f64,
            incremental_share: per_round(shipped) / state_bytes as f64,
            whole_bytes_ratio: shipped_whole as f64 / changed_bytes as f64,
            whole_incremental_share: per_round(shipped_whole) / state_bytes as f64,
            delta_restore_cost,
            full_ratio: (stored / disk_write_per_second).max(frames_seconds) / full_seconds,
            restore_ratio: ideal_read / restored.0,
            restore_s3_ratio: ideal_read / restored.1,
            limits: Limits { disk_write_per_second, disk_read_per_second, frames_seconds, build_seconds },
            steps,
        })
    }

    /// Hashes are kept with the pages: each full checkpoint needs a state that nobody has hashed.
    async fn to_nowhere(&self) -> anyhow::Result<Step> {
        let nowhere: Arc<dyn ObjectStore> = Arc::new(Nowhere::default());
        let (_, step) = ship(&nowhere, 1, &self.tree().snapshot()).await?;
        Ok(Step { name: "frames alone", ..step })
    }

    fn tree(&self) -> Tree {
        tree(self.keys, self.size)
    }
}

/// A state of so many keys with values of this length.
pub(super) fn tree(keys: u64, size: usize) -> Tree {
    let mut tree = Tree::new();
    let mut value = vec![0; size];
    for number in 0..keys {
        noise(number, 0, &mut value);
        tree.put(&key(number), &value, 1);
    }
    tree
}

/// Changes so many of a thousand keys at random, with a snapshot after each hundredth part; the longest that one of these
/// took, and the bytes that changed.
pub(super) fn change(tree: &mut Tree, round: u64, keys: u64, per_mille: u64, size: usize) -> (Duration, u64) {
    let changes = (keys * per_mille / 1_000).max(1);
    let (mut pause, mut bytes) = (Duration::ZERO, 0);
    let mut value = vec![0; size];
    for change in 0..changes {
        let number = hash(change, round) % keys;
        noise(number, round * changes + change, &mut value);
        let key = key(number);
        tree.put(&key, &value, 1 + round);
        bytes += (key.len() + value.len()) as u64;
        if change.is_multiple_of((changes / 100).max(1)) {
            let began = Instant::now();
            let snapshot = tree.snapshot();
            pause = pause.max(began.elapsed());
            drop(snapshot);
        }
    }
    (pause, bytes)
}

/// An embedded S3 server with files in this directory.
pub(super) async fn server(dir: &Path) -> anyhow::Result<Server> {
    let options = Options {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        buckets: vec![BUCKET.to_owned()],
        faults: Faults::default(),
    };
    Ok(Server::start(dir, "127.0.0.1:0".parse().expect("an address"), options).await?)
}

fn better(first: Step, second: Step) -> Step {
    if first.seconds < second.seconds { first } else { second }
}

/// Keys as they come, in no order of their number.
pub(super) fn key(number: u64) -> Vec<u8> {
    format!("bench/{:016x}", hash(number, 0)).into_bytes()
}

fn hash(number: u64, of: u64) -> u64 {
    let hash = blake3::hash(&[number.to_le_bytes(), of.to_le_bytes()].concat());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// What does not compress.
pub(super) fn noise(number: u64, version: u64, out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(&version.to_le_bytes());
    hasher.finalize_xof().fill(out);
}

pub(super) fn place(server: &Server) -> S3Location {
    S3Location {
        endpoint: Some(server.endpoint()),
        bucket: BUCKET.to_owned(),
        prefix: "tier".to_owned(),
        region: None,
        path_style: true,
        kms_key: None,
        keys: Some(S3Keys { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() }),
    }
}

/// A stretch of time with what this process used in it.
async fn timed<T>(
    store: &Arc<dyn ObjectStore>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Step)> {
    let me = std::process::id();
    let (usage, used, began) = (store.usage(), cpu::used_by(me)?, Instant::now());
    let done = work.await?;
    let after = store.usage();
    let step = Step {
        name: "",
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu::used_by(me)?.saturating_sub(used).as_secs_f64(),
        bytes: (after.written + after.read).saturating_sub(usage.written + usage.read),
        requests: after.requests.saturating_sub(usage.requests),
    };
    Ok((done, step))
}

async fn writer(store: &Arc<dyn ObjectStore>) -> anyhow::Result<Writer> {
    let identity = Identity { lineage: LINEAGE, generation: 1, replica: 1 };
    Ok(Writer::open(Arc::clone(store), identity, None, true, 2).await?)
}

async fn ship(store: &Arc<dyn ObjectStore>, op: u64, snapshot: &Snapshot) -> anyhow::Result<(Written, Step)> {
    ship_with(&mut writer(store).await?, store, op, snapshot).await
}

async fn ship_with(
    writer: &mut Writer,
    store: &Arc<dyn ObjectStore>,
    op: u64,
    snapshot: &Snapshot,
) -> anyhow::Result<(Written, Step)> {
    timed(store, async { Ok(writer.checkpoint(&cut(op), snapshot).await?) }).await
}

/// A copy of a directory tier that shares what never changes, and has its own HEAD.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?.path(), to.to_owned());
        let name = entry.file_name().context("a directory's entry has a name")?;
        let to = to.join(name);
        if entry.is_dir() {
            link(&entry, &to)?;
        } else if entry
            .extension()
            .is_some_and(|ending| ["pk", "idx", "json"].iter().any(|kept| ending == *kept))
        {
            std::fs::hard_link(&entry, &to)?;
        } else {
            std::fs::copy(&entry, &to)?;
        }
    }
    Ok(())
}

pub(super) fn cut(op: u64) -> Cut {
    Cut {
        op,
        view: 0,
        epoch: 0,
        time_micros: op,
        log_digest: [0; 32],
        revision: 1,
        reserved_revision: 1,
        configuration: serde_json::Value::Null,
    }
}

/// Loads what stands there, which must be the state of this root.
async fn load(store: &Arc<dyn ObjectStore>, root: &[u8; 32]) -> anyhow::Result<Step> {
    let sources = [Source { name: "tier".to_owned(), tier: TierKind::Volume, store: Arc::clone(store) }];
    let inventory = restore::inventory(&sources, &LINEAGE.to_string()).await;
    let candidate = inventory.candidates.first().context("what was shipped is not there")?;
    let (loaded, step) = timed(store, async { Ok(restore::load(candidate, &sources, None).await?) }).await?;
    if loaded.snapshot.root() != *root {
        bail!("what came back from {} is not what went there", store.describe());
    }
    Ok(step)
}

/// Bytes a second of the disk, written and synced as packs are.
fn write_limit(path: &Path, bytes: u64) -> anyhow::Result<f64> {
    let mut piece = vec![0; PIECE];
    noise(0, 0, &mut piece);
    let began = Instant::now();
    let mut file = File::create(path)?;
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        let part = left.min(PIECE);
        file.write_all(&piece[..part])?;
        file.sync_data()?;
        left -= part;
    }
    let rate = bytes as f64 / began.elapsed().as_secs_f64();
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(rate)
}

fn read_limit(path: &Path) -> anyhow::Result<f64> {
    let mut piece = vec![0; PIECE];
    let (mut file, mut bytes, began) = (File::open(path)?, 0, Instant::now());
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(bytes as f64 / began.elapsed().as_secs_f64()),
            read => bytes += read,
        }
    }
}

/// Bytes of memory of this process.
fn resident() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: Option<u64> = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    Ok(pages.context("/proc/self/statm is not what proc(5) says")? * rustix::param::page_size() as u64)
}

impl Report {
    fn table(&self) -> String {
        let mut facts = output::table(["", ""]);
        let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
        let speed = |rate: f64| format!("{}/s", show_bytes(rate as u64));
        for (name, value) in [
            ("state", format!("{} keys, {}", self.keys, show_bytes(self.state_bytes))),
            ("memory", format!("{:.2} of the plain bytes", self.memory_ratio)),
            ("pause at a cut", format!("{:.3} ms", self.cut_pause_ms)),
            ("full checkpoint", format!("{} of what the machine could do", percent(self.full_ratio))),
            (
                "incremental",
                format!(
                    "{:.1} x what changed, {} of the state",
                    self.bytes_ratio,
                    percent(self.incremental_share)
                ),
            ),
            (
                "with whole pages",
                format!(
                    "{:.1} x what changed, {} of the state",
                    self.whole_bytes_ratio,
                    percent(self.whole_incremental_share)
                ),
            ),
            ("restore, directory", format!("{} of what the machine could do", percent(self.restore_ratio))),
            (
                "restore, embedded S3",
                format!("{} of what the machine could do", percent(self.restore_s3_ratio)),
            ),
            ("restore, with deltas", format!("{:.2} x the time of whole pages", self.delta_restore_cost)),
            ("disk writes", speed(self.limits.disk_write_per_second)),
            ("disk reads", speed(self.limits.disk_read_per_second)),
        ] {
            facts.add_row([name.to_owned(), value]);
        }
        let mut steps = output::table(["STEP", "SECONDS", "CPU SECONDS", "BYTES", "REQUESTS"]);
        for step in &self.steps {
            steps.add_row([
                step.name.to_owned(),
                format!("{:.2}", step.seconds),
                format!("{:.2}", step.cpu_seconds),
                show_bytes(step.bytes),
                step.requests.to_string(),
            ]);
        }
        [facts, steps].map(|table| output::trimmed(&table)).join("\n\n")
    }
}
