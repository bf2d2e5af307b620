//! What a transfer of a store moves when most of it is there already, and how long the steps of both sides take.
//!
//! A gigabyte: `KEYS=3400000 cargo test --release -p vr-store --test transfer -- --nocapture`. Without `KEYS` it is some
//! thirty megabytes.

#![expect(
    clippy::disallowed_methods,
    reason = "the size of a measurement comes from outside, and it is timed"
)]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::Driven;
use vr_core::{Digest, Import, ImportError, Op, StateMachine};
use vr_store::{Options, Put, Revision, Store, StoreImport, encode_put};
use vr_tree::{NodeRef, Snapshot};

const PORTION: usize = 128 << 10;

fn key(number: u64) -> Vec<u8> {
    format!("/registry/things/{number:012}").into_bytes()
}

/// Puts these keys, each with a value of 256 bytes that begins with `mark`.
fn put_all(driven: &mut Driven, keys: impl Iterator<Item = u64>, mark: u8) {
    let bodies: Vec<Vec<u8>> = keys
        .map(|number| {
            let mut body = Vec::new();
            let (key, value) = (key(number), [mark; 256]);
            encode_put(&mut body, &Put { key: &key, value: &value, ..Put::default() });
            body
        })
        .collect();
    for bodies in bodies.chunks(200) {
        driven.bodies(&bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
        driven.store.drain_events(&mut Vec::new());
    }
}

fn splitmix(seed: u64) -> u64 {
    let a = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    b ^ (b >> 29)
}

fn pages(snapshot: &Snapshot) -> Vec<NodeRef<'_>> {
    let mut stack: Vec<_> = snapshot.node().into_iter().collect();
    let mut all = Vec::new();
    while let Some(page) = stack.pop() {
        stack.extend(page.children());
        all.push(page);
    }
    all
}

#[derive(Default)]
struct Moved {
    bytes: usize,
    longest_export: Duration,
    longest_take: Duration,
    end: Duration,
    whole: Duration,
}

fn carry(snapshot: &Snapshot, mut import: StoreImport) -> (Store, Moved) {
    let (mut moved, begun) = (Moved::default(), Instant::now());
    while let Some(want) = import.want() {
        let at = Instant::now();
        let portion = Store::export(snapshot, &want, PORTION);
        moved.longest_export = moved.longest_export.max(at.elapsed());
        moved.bytes += want.len() + portion.len();
        let at = Instant::now();
        import.take(&want, &portion).expect("the answer to a want");
        moved.longest_take = moved.longest_take.max(at.elapsed());
    }
    let at = Instant::now();
    let store = import.end().expect("all of it arrived");
    (moved.end, moved.whole) = (at.elapsed(), begun.elapsed());
    (store, moved)
}

#[test]
fn what_moves_is_what_changed() {
    let keys: u64 = std::env::var("KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut source = Driven::new(Options::default());
    put_all(&mut source, 0..keys, 1);
    let before = source.store.cut(source.op, b"core");
    let stood: BTreeSet<_> = {
        let _ = before.root();
        pages(&before).iter().map(NodeRef::id).collect()
    };
    put_all(&mut source, (0..keys / 100).map(|n| splitmix(n) % keys), 2);
    let after = source.store.cut(source.op, b"core");
    let root = Digest(after.root());
    let differ = pages(&after).into_iter().filter(|page| !stood.contains(&page.id()));
    let changed: usize = differ.map(|page| page.encoded_len()).sum();

    let away = Store::from_snapshot(before.clone(), Options::default()).expect("just cut");
    let (store, some) = carry(&after, away.import(source.op, root, None));
    assert_eq!(store.view().hash_kv(Revision(0)), source.store.view().hash_kv(Revision(0)));
    let empty = Store::new(Options::default());
    let (_, all) = carry(&after, empty.import(source.op, root, None));
    let ratio = some.bytes as f64 / changed as f64;
    for (what, moved) in [("1 % changed", &some), ("nothing there", &all)] {
        println!(
            "{what}: {} of {} bytes in {:?}; longest export {:?}, take {:?}; end {:?}",
            moved.bytes,
            after.bytes(),
            moved.whole,
            moved.longest_export,
            moved.longest_take,
            moved.end
        );
    }
    println!("moved {ratio:.3} times the pages changed ({changed} bytes)");
    assert!(ratio < 1.1, "{ratio}");
    assert!(all.bytes as f64 / (after.bytes() as f64) < 1.1);
}

#[test]
fn wrong_portions_are_refused_and_do_no_harm() {
    let mut source = Driven::new(Options::default());
    put_all(&mut source, 0..2_000, 1);
    let snapshot = source.store.cut(source.op, b"core");
    let root = Digest(snapshot.root());
    let here = Store::new(Options::default());
    let mut import = here.import(source.op, root, None);
    let top = import.want().expect("all is missing");
    let answer = Store::export(&snapshot, &top, PORTION);
    let mut flipped = answer.to_vec();
    flipped[30] ^= 1;
    assert!(matches!(import.take(&top, &flipped), Err(ImportError::Digest(_))));
    // Again and again nothing: each time it is a fault, which the protocol counts.
    for _ in 0..20 {
        let want = import.want().expect("still missing");
        assert!(matches!(import.take(&want, &[]), Err(ImportError::Malformed(_))));
    }
    assert_eq!(Store::export(&snapshot, b"none", PORTION).len(), 0);
    let (store, _) = carry(&snapshot, import);
    assert_eq!(store.view().hash_kv(Revision(0)), source.store.view().hash_kv(Revision(0)));
    assert_eq!(here.revision(), Revision(1));

    // A root that is none of this sender's: every page it has is refused.
    let mut import = here.import(Op(9), Digest([9; 32]), None);
    let want = import.want().expect("all is missing");
    let answer = Store::export(&snapshot, &want, PORTION);
    assert!(matches!(import.take(&want, &answer), Err(ImportError::Digest(_))));
    assert_eq!(import.end().err(), Some(ImportError::Incomplete));
}
