//! Processor time that one request costs the thread that executes: `cargo bench -p vr-store`. `KEYS=1000000` for more keys.
//!
//! Everything is counted that a replica does with a committed entry: decoding, the tree, history, events and dropping
//! them. Keys are hit at random, values are 256 bytes, and compactions follow so that history does not grow.

#![expect(clippy::disallowed_methods, reason = "the size of a measurement comes from outside")]

use std::hint::black_box;
use std::time::Duration;
use vr_core::{Accepted, At, Op, RequestNumber, SessionId, StateMachine};
use vr_store::{Command, Options, Put, RangeQuery, Revision, Span, Store, encode_put};

const REQUESTS: usize = 200_000;

fn main() {
    let keys: u64 = std::env::var("KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let mut bench = Bench { store: Store::new(Options::default()), op: Op(0), keys, random: 1 };
    bench.fill();
    println!("{keys} keys of 256 B, {REQUESTS} requests a line");
    for size in [1, 4, 16, 64, 256] {
        bench.puts(size);
    }
    bench.gets();
    bench.lists();
}

struct Bench {
    store: Store,
    op: Op,
    keys: u64,
    random: u64,
}

impl Bench {
    fn key(number: u64) -> String {
        format!("/registry/things/{number:012}")
    }

    fn some_key(&mut self) -> String {
        // splitmix64: the same keys in every run.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Bench::key((z ^ (z >> 31)) % self.keys)
    }

    fn put(key: &str) -> Vec<u8> {
        let mut body = Vec::new();
        encode_put(&mut body, &Put { key: key.as_bytes(), value: &[7; 256], ..Put::default() });
        body
    }

    fn execute(&mut self, bodies: &[Vec<u8>]) {
        self.op = self.op.next();
        let session = SessionId::default();
        let accepted = |body| Accepted { session, number: RequestNumber(1), body, reply_wanted: true };
        let requests: Vec<_> = bodies.iter().map(|body| accepted(&body[..])).collect();
        let mut replies = Vec::with_capacity(requests.len());
        self.store.execute(At { op: self.op, time: 0 }, &requests, &mut replies);
        assert!(replies.iter().all(Result::is_ok), "nothing here may be refused");
        let mut events = Vec::new();
        self.store.drain_events(&mut events);
        black_box((&replies, &events));
    }

    fn fill(&mut self) {
        for from in (0..self.keys).step_by(256) {
            let bodies: Vec<_> =
                (from..self.keys.min(from + 256)).map(|n| Bench::put(&Bench::key(n))).collect();
            self.execute(&bodies);
        }
    }

    fn puts(&mut self, size: usize) {
        let bodies: Vec<_> = (0..REQUESTS).map(|_| Bench::put(&self.some_key())).collect();
        let start = cpu();
        for entry in bodies.chunks(size) {
            self.execute(entry);
        }
        report(&format!("put, {size} in an entry"), start, REQUESTS);
        let mut body = Vec::new();
        Command::Compact { revision: self.store.revision() }.encode(&mut body);
        self.execute(&[body]);
        let (start, before) = (cpu(), self.op);
        while self.store.is_sweeping() {
            self.execute(&[]);
        }
        report("  then removal, an entry", start, (self.op.0 - before.0) as usize);
    }

    fn gets(&mut self) {
        let keys: Vec<_> = (0..REQUESTS).map(|_| self.some_key()).collect();
        let start = cpu();
        for key in &keys {
            let query = RangeQuery { span: Span::one(key.as_bytes()), ..RangeQuery::default() };
            black_box(self.store.range(&query).expect("now"));
        }
        report("get", start, REQUESTS);
    }

    fn lists(&mut self) {
        // So that there is an old revision to read at.
        let one = Bench::put(&self.some_key());
        self.execute(&[one]);
        let span = Span { key: b"/registry/", end: b"/registry0" };
        let list = |name: &str, query: RangeQuery<'_>| {
            let start = cpu();
            let found = self.store.range(&query).expect("within the horizon");
            report(name, start, found.count as usize);
        };
        list("list everything, a key", RangeQuery { span, ..RangeQuery::default() });
        let old = Revision(self.store.revision().0 - 1);
        list("list at a revision, a key", RangeQuery { span, revision: old, ..RangeQuery::default() });
        let start = cpu();
        for _ in 0..1_000 {
            let count = RangeQuery { span, count_only: true, ..RangeQuery::default() };
            black_box(self.store.range(&count).expect("now"));
        }
        report("count everything", start, 1_000);
        let start = cpu();
        black_box(self.store.view().hash_kv(Revision(0)).expect("now"));
        report("HashKV, a key", start, self.keys as usize);
    }
}

/// Processor time of this thread so far: other load does not count, and the tree runs on this thread only.
fn cpu() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells what a thread has used");
    let used = text.split_whitespace().next().and_then(|n| n.parse().ok());
    Duration::from_nanos(used.expect("nanoseconds come first"))
}

fn report(name: &str, start: Duration, requests: usize) {
    let each = (cpu() - start).as_secs_f64() * 1e6 / requests.max(1) as f64;
    println!("{name:<28} {each:>8.3} us");
}
