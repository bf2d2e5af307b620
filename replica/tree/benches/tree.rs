//! What the tree costs, each figure beside what was promised: time of a put, alone and in batches, with and
//! without snapshots; memory beside the plain bytes; the pause of a snapshot.
//!
//! `cargo bench -p vr-tree` prints a table; `-- <entries>` takes another number of entries than a million.
//!
//! The tree never waits, so its cost is CPU time, and that is what is held against the promises; beside it stands
//! the time that passed, longer where other programs want the processor too. Either is cache misses above all:
//! compare the figures of one run rather than runs on different machines.

#![allow(clippy::disallowed_methods, reason = "a bench measures time, and frees on a thread of its own")]

use std::collections::BTreeMap;
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
    println!("{:<46} {:>11} {:>11} {:>11}", "", "CPU", "passed", "at most");

    let empty = resident();
    let mut bench = Bench::new(entries, puts);
    time("first put of each key", entries, None, || bench.fill());
    bench.memory("memory, times the plain bytes", empty, Some(1.35));
    time("root of it all, nothing hashed yet", 1, None, || bench.tree.snapshot().root());
    bench.load();

    let alone = bench.rounds("put alone", Some(2.0), |bench| bench.puts(1));
    let batched = bench.rounds("put in batches of 16", Some(0.8), |bench| bench.puts(BATCH));
    bench.memory("memory after random puts", empty, Some(1.35));
    let mut cuts = Cuts::start();
    bench.rounds("put alone, a snapshot every 100,000", Some(2.5), |bench| bench.puts_and_cuts(1, &mut cuts));
    bench.rounds("put in batches, a snapshot every 100,000", Some(1.5), |bench| {
        bench.puts_and_cuts(BATCH, &mut cuts)
    });
    if let Some((cpu, wall)) = cuts.longest {
        row("longest pause to cut and hand over", Some(cpu), Some(wall), Unit::Milliseconds, Some(1.0));
    }
    // One snapshot is held and the one before is being freed, each 100,000 puts older than what follows it.
    bench.memory("most memory, with two snapshots alive", empty, None);
    cuts.finish();

    let get = bench.rounds("get alone", None, |bench| bench.gets(1));
    let get_batched = bench.rounds("get in batches of 16", None, |bench| bench.gets(BATCH));
    bench.rounds("rank", None, Bench::ranks);
    let all = || bench.tree.view().range(&[], None).map(|entry| entry.value().len()).sum::<usize>();
    time("range over everything, an entry", entries, None, all);

    let before = bench.tree.snapshot();
    let _ = before.root();
    let since = bench.op;
    bench.puts_of(entries / 100, 1, |_| {});
    let after = bench.tree.snapshot();
    let pages = time("walk of what 1 % of puts changed", 1, None, || after.changed_since(since).count());
    time("root after 1 % of puts", 1, None, || after.root());
    let differences = time("difference of 1 % of puts", 1, None, || after.diff(&before).count());
    drop((before, after));
    time("remove", puts / 2, None, || bench.remove(puts / 2));

    println!();
    println!("batched / alone: put {:.2}, get {:.2}", batched / alone, get_batched / get);
    println!("{pages} pages changed, {differences} entries differ after {} puts", entries / 100);
}

/// Time spent by this thread, and time gone by.
#[derive(Clone, Copy)]
struct Clock {
    cpu: Duration,
    wall: Instant,
}

impl Clock {
    fn start() -> Clock {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu = cpu.try_into().expect("CPU time counts from zero");
        Clock { cpu, wall: Instant::now() }
    }

    fn stop(self) -> (Duration, Duration) {
        let now = Clock::start();
        (now.cpu.saturating_sub(self.cpu), now.wall - self.wall)
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Microseconds,
}

/// Runs it, and prints what each of `count` took of it.
fn time<T>(what: &str, count: u64, target: Option<f64>, run: impl FnOnce() -> T) -> T {
    let clock = Clock::start();
    let result = run();
    let (cpu, wall) = clock.stop();
    let each = |time: Duration| time.div_f64(count.max(1) as f64);
    let unit = if count == 1 { Unit::Milliseconds } else { Unit::Microseconds };
    row(what, Some(each(cpu)), Some(each(wall)), unit, target);
    result
}

fn row(what: &str, cpu: Option<Duration>, wall: Option<Duration>, unit: Unit, target: Option<f64>) {
    let (name, per_second) = match unit {
        Unit::Milliseconds => ("ms", 1e3),
        Unit::Microseconds => ("us", 1e6),
    };
    let show = |number: Option<f64>| number.map_or(String::new(), |number| format!("{number:.2} {name}"));
    let [cpu, wall] = [cpu, wall].map(|time| time.map(|time| time.as_secs_f64() * per_second));
    let missed = target.zip(cpu.or(wall)).is_some_and(|(target, measured)| measured > target);
    let missed = if missed { "  MISSED" } else { "" };
    println!("{what:<46} {:>11} {:>11} {:>11}{missed}", show(cpu), show(wall), show(target));
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

    /// All pages to bytes and a tree from them, every page verified.
    fn load(&self) {
        let snapshot = self.tree.snapshot();
        let mut pages = time("all pages to bytes", 1, None, || {
            let mut pages = BTreeMap::new();
            for page in snapshot.changed_since(0) {
                let mut bytes = Vec::with_capacity(page.encoded_len());
                page.encode(&mut bytes);
                pages.insert(page.id(), bytes);
            }
            pages
        });
        let loaded = time("a tree from them, verified", 1, None, || {
            Snapshot::load(&snapshot.root(), |id| pages.remove(id).ok_or("no such page"))
        });
        assert_eq!(loaded.expect("the pages of a tree").len(), self.entries);
    }

    /// Beside the plain bytes of keys and values; only where the system tells.
    fn memory(&self, what: &str, empty: Option<u64>, target: Option<f64>) {
        let Some((now, empty)) = resident().zip(empty) else { return };
        let factor = (now - empty) as f64 / self.plain_bytes as f64;
        let missed = if target.is_some_and(|target| factor > target) { "  MISSED" } else { "" };
        let target = target.map_or(String::new(), |target| format!("{target:.2} x "));
        println!("{what:<46} {factor:>9.2} x  {:>10} {target:>11}{missed}", "");
    }

    fn any_key(&mut self) -> Key {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.keys.key(mix(self.random) % self.entries)
    }

    /// Prints and returns the median of the rounds: microseconds of CPU each. A round says how many it did.
    fn rounds(&mut self, what: &str, target: Option<f64>, mut round: impl FnMut(&mut Bench) -> u64) -> f64 {
        let mut times: Vec<(Duration, Duration)> = (0..ROUNDS)
            .map(|_| {
                let clock = Clock::start();
                let count = round(self).max(1) as f64;
                let (cpu, wall) = clock.stop();
                (cpu.div_f64(count), wall.div_f64(count))
            })
            .collect();
        times.sort();
        let (cpu, wall) = times[ROUNDS / 2];
        row(what, Some(cpu), Some(wall), Unit::Microseconds, target);
        cpu.as_secs_f64() * 1e6
    }

    fn puts(&mut self, batch: usize) -> u64 {
        self.puts_of(self.puts, batch, |_| {})
    }

    /// Random puts and a snapshot every 100,000.
    fn puts_and_cuts(&mut self, batch: usize, cuts: &mut Cuts) -> u64 {
        let mut next = SNAPSHOT_EVERY;
        self.puts_of(self.puts, batch, |(tree, done)| {
            if done >= next {
                next += SNAPSHOT_EVERY;
                cuts.cut(tree);
            }
        })
    }

    /// So many random puts, or a few more to fill the last batch; calls back after each batch.
    fn puts_of(&mut self, count: u64, batch: usize, mut after: impl FnMut((&Tree, u64))) -> u64 {
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
            done += batch as u64;
            after((&self.tree, done));
        }
        done
    }

    fn gets(&mut self, batch: usize) -> u64 {
        let mut done = 0;
        while done < self.puts {
            let keys: Vec<Key> = (0..batch).map(|_| self.any_key()).collect();
            if batch > 1 {
                self.tree.view().warm(&keys.iter().map(|key| &**key).collect::<Vec<_>>());
            }
            for key in &keys {
                let entry = self.tree.view().get(key).expect("every key was put");
                std::hint::black_box(entry.value()[0]);
            }
            done += batch as u64;
        }
        done
    }

    fn ranks(&mut self) -> u64 {
        let count = self.puts / 10;
        for _ in 0..count {
            let key = self.any_key();
            std::hint::black_box(self.tree.view().rank(&key));
        }
        count
    }

    fn remove(&mut self, count: u64) {
        for number in 0..count {
            self.op += 1;
            assert!(self.tree.remove(&self.keys.key(number), self.op).is_some());
        }
    }
}

fn value(number: u64) -> [u8; VALUE] {
    let mut value = [number as u8; VALUE];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// The newest snapshot, and a thread that frees the ones before in portions, as the servers do.
struct Cuts {
    last: Option<Snapshot>,
    freed: mpsc::Sender<Snapshot>,
    freer: JoinHandle<()>,
    /// The longest by CPU time.
    longest: Option<(Duration, Duration)>,
}

impl Cuts {
    fn start() -> Cuts {
        let (freed, snapshots) = mpsc::channel::<Snapshot>();
        let freer = std::thread::spawn(move || {
            for snapshot in snapshots {
                let mut release = snapshot.release();
                while release.step(10_000) {}
            }
        });
        Cuts { last: None, freed, freer, longest: None }
    }

    fn cut(&mut self, tree: &Tree) {
        let clock = Clock::start();
        if let Some(old) = self.last.replace(tree.snapshot()) {
            self.freed.send(old).expect("the other thread waits for more");
        }
        self.longest = self.longest.max(Some(clock.stop()));
    }

    fn finish(self) {
        drop((self.last, self.freed));
        self.freer.join().expect("freeing does not panic");
    }
}
