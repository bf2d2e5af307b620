//! What the tree costs, each figure beside what was promised: time of a put, alone and in batches, with and
//! without snapshots; memory beside the plain bytes; the pause of a snapshot.
//!
//! `cargo bench -p vr-tree` prints a table; `-- <entries>` takes another number of entries than a million. The
//! figures are cache misses above all: compare the columns of one run rather than runs on different machines.

#![allow(clippy::disallowed_methods, reason = "a bench measures time, and frees on a thread of its own")]

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vr_tree::{Snapshot, Tree};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: usize = 256;
const BATCH: usize = 16;
const SNAPSHOT_EVERY: u64 = 100_000;
/// Each figure is the median of so many rounds: this is often measured on a machine that does other things too.
const ROUNDS: usize = 5;

fn main() {
    // Cargo passes `--bench` to every bench program.
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let entries = argument.map_or(1_000_000, |text| text.parse().expect("the number of entries"));
    let puts = entries.min(1_000_000);
    println!(
        "{entries} entries of {VALUE} B under keys of 16 to 24 B, {puts} random puts a round, median of {ROUNDS}"
    );
    println!();
    println!("{:<46} {:>10} {:>10}", "", "measured", "target");

    let empty = resident();
    let mut bench = Bench::new(entries, puts);
    let started = Instant::now();
    bench.fill();
    row("first put of each key", per(started.elapsed(), entries), "us", None);
    bench.memory("memory, times the plain bytes", empty, Some(1.35));

    let started = Instant::now();
    let root = bench.tree.snapshot().root();
    row("root of it all, nothing hashed yet", started.elapsed().as_secs_f64() * 1e3, "ms", None);
    assert_ne!(root, Snapshot::default().root());

    let alone = bench.rounds(|bench| bench.puts(1, None));
    row("put alone", alone, "us", Some(2.0));
    let batched = bench.rounds(|bench| bench.puts(BATCH, None));
    row("put in batches of 16", batched, "us", Some(0.8));
    bench.memory("memory after random puts", empty, Some(1.35));
    let mut pauses = Pauses::default();
    let with_snapshots = bench.rounds(|bench| bench.puts(1, Some(&mut pauses)));
    row("put alone, a snapshot every 100,000", with_snapshots, "us", Some(2.5));
    let both = bench.rounds(|bench| bench.puts(BATCH, Some(&mut pauses)));
    row("put in batches, a snapshot every 100,000", both, "us", Some(1.5));
    row("longest pause to cut and hand over a snapshot", pauses.longest.as_secs_f64() * 1e3, "ms", Some(1.0));

    // One snapshot is held and the one before is being freed, each 100,000 puts older than what follows it.
    bench.memory("most memory, with two snapshots alive", empty, None);

    let get = bench.rounds(|bench| bench.gets(1));
    row("get alone", get, "us", None);
    let get_batched = bench.rounds(|bench| bench.gets(BATCH));
    row("get in batches of 16", get_batched, "us", None);
    let rank = bench.rounds(Bench::ranks);
    row("rank", rank, "us", None);
    let started = Instant::now();
    assert_eq!(
        bench.tree.view().range(&[], None).map(|e| e.value().len() as u64).sum::<u64>(),
        entries * 256
    );
    row("range over everything, an entry", per(started.elapsed(), entries) * 1e3, "ns", None);

    let before = bench.tree.snapshot();
    let _ = before.root();
    let since = bench.op;
    bench.puts_of(entries / 100, 1, None);
    let after = bench.tree.snapshot();
    let started = Instant::now();
    let pages = after.changed_since(since).count();
    row("walk of what 1 % of puts changed", started.elapsed().as_secs_f64() * 1e3, "ms", None);
    let started = Instant::now();
    let _ = after.root();
    row("root after 1 % of puts", started.elapsed().as_secs_f64() * 1e3, "ms", None);
    let started = Instant::now();
    let differences = after.diff(&before).count();
    row("difference of 1 % of puts", started.elapsed().as_secs_f64() * 1e3, "ms", None);
    println!();
    println!("batched / alone: put {:.2}, get {:.2}", batched / alone, get_batched / get);
    println!("{pages} pages changed, {differences} entries differ after {} puts", entries / 100);
    drop((before, after));

    let started = Instant::now();
    for number in 0..puts / 2 {
        bench.op += 1;
        assert!(bench.tree.remove(&bench.keys.key(number), bench.op).is_some());
    }
    println!("remove {:.2} us", per(started.elapsed(), puts / 2));
}

fn row(what: &str, measured: f64, unit: &str, target: Option<f64>) {
    let target = target.map_or(String::new(), |target| {
        format!("{target:>7.2} {unit}{}", if measured <= target { "" } else { "   MISSED" })
    });
    println!("{what:<46} {measured:>7.2} {unit:<2} {target:>10}");
}

/// Microseconds each.
fn per(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

/// Keys by number, in random order: 16 to 24 bytes each.
struct Keys;

struct Key {
    bytes: [u8; 24],
    len: usize,
}

impl std::ops::Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Keys {
    fn key(&self, number: u64) -> Key {
        let mut bytes = [0; 24];
        for (chunk, salt) in bytes.chunks_exact_mut(8).zip([0, 77, 99]) {
            chunk.copy_from_slice(&mix(mix(number) ^ salt).to_be_bytes());
        }
        Key { bytes, len: 16 + (mix(number) % 9) as usize }
    }
}

#[derive(Default)]
struct Pauses {
    longest: Duration,
}

struct Bench {
    tree: Tree,
    keys: Keys,
    entries: u64,
    puts: u64,
    op: u64,
    random: u64,
    plain_bytes: u64,
}

impl Bench {
    fn new(entries: u64, puts: u64) -> Bench {
        Bench { tree: Tree::new(), keys: Keys, entries, puts, op: 0, random: 42, plain_bytes: 0 }
    }

    fn fill(&mut self) {
        for number in 0..self.entries {
            self.op += 1;
            let key = self.keys.key(number);
            self.plain_bytes += (key.len() + VALUE) as u64;
            self.tree.put(&key, &value(number), self.op);
        }
        assert_eq!(self.tree.view().len(), self.entries);
    }

    /// Beside the plain bytes of keys and values; only where the system tells.
    fn memory(&self, what: &str, empty: Option<u64>, target: Option<f64>) {
        if let (Some(now), Some(empty)) = (resident(), empty) {
            row(what, (now - empty) as f64 / self.plain_bytes as f64, "x", target);
        }
    }

    fn any_key(&mut self) -> Key {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.keys.key(mix(self.random) % self.entries)
    }

    /// The median of the rounds' microseconds.
    fn rounds(&mut self, mut round: impl FnMut(&mut Bench) -> f64) -> f64 {
        let mut times: Vec<f64> = (0..ROUNDS).map(|_| round(self)).collect();
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    }

    fn puts(&mut self, batch: usize, pauses: Option<&mut Pauses>) -> f64 {
        self.puts_of(self.puts, batch, pauses)
    }

    /// Random puts; with `pauses`, a snapshot every 100,000, the one before freed on another thread.
    fn puts_of(&mut self, count: u64, batch: usize, mut pauses: Option<&mut Pauses>) -> f64 {
        let (freed, freer) = freer();
        let mut last = pauses.is_some().then(|| self.tree.snapshot());
        let started = Instant::now();
        let mut done = 0;
        while done < count {
            let keys: Vec<Key> = (0..batch).map(|_| self.any_key()).collect();
            if batch > 1 {
                self.tree.warm(&keys.iter().map(|key| &**key).collect::<Vec<_>>());
            }
            for key in &keys {
                self.op += 1;
                self.tree.put(key, &value(self.op), self.op);
            }
            let before = done;
            done += batch as u64;
            if let Some(pauses) = &mut pauses
                && before / SNAPSHOT_EVERY != done / SNAPSHOT_EVERY
            {
                let pause = Instant::now();
                if let Some(old) = last.replace(self.tree.snapshot()) {
                    freed.send(old).expect("the other thread waits for more");
                }
                pauses.longest = pauses.longest.max(pause.elapsed());
            }
        }
        let time = per(started.elapsed(), done);
        drop((freed, last));
        freer.join().expect("freeing does not panic");
        time
    }

    fn gets(&mut self, batch: usize) -> f64 {
        let started = Instant::now();
        let mut done = 0;
        let mut sum = 0;
        while done < self.puts {
            let keys: Vec<Key> = (0..batch).map(|_| self.any_key()).collect();
            if batch > 1 {
                self.tree.view().warm(&keys.iter().map(|key| &**key).collect::<Vec<_>>());
            }
            for key in &keys {
                sum += u64::from(self.tree.view().get(key).expect("every key was put").value()[0]);
            }
            done += batch as u64;
        }
        std::hint::black_box(sum);
        per(started.elapsed(), done)
    }

    fn ranks(&mut self) -> f64 {
        let started = Instant::now();
        let count = self.puts / 10;
        for _ in 0..count {
            let key = self.any_key();
            std::hint::black_box(self.tree.view().rank(&key));
        }
        per(started.elapsed(), count)
    }
}

fn value(number: u64) -> [u8; VALUE] {
    let mut value = [number as u8; VALUE];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// A thread that frees snapshots in portions, as the servers do.
fn freer() -> (mpsc::Sender<Snapshot>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel::<Snapshot>();
    let thread = std::thread::spawn(move || {
        for snapshot in receiver {
            let mut release = snapshot.release();
            while release.step(10_000) {}
        }
    });
    (sender, thread)
}
