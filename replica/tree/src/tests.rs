//! Tests of the tree as a whole, against a `BTreeMap` and against the rule of the format written out a second time.

mod deltas;
mod differences;
mod fetching;
mod histories;
mod pages;
mod reads;
mod rule;
mod sizes;

use std::collections::BTreeMap;

use crate::node::{Kind, Node};
use crate::shape::{Totals, fits};
use crate::{Entry, Snapshot, Tree};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

/// How keys look; every way in which keys share bytes or do not.
#[derive(Clone, Copy, Debug)]
enum Style {
    Random,
    Registry,
    Decimal,
    /// Prefix-free, but branching at every length: a chain of inner pages.
    Nested,
    /// Keys that are prefixes of other keys, the empty one among them.
    Prefixes,
    /// Zero bytes, which must not be taken for the end of a key.
    Zeros,
    /// Few keys of one byte or none.
    Tiny,
}

impl Style {
    const ALL: [Style; 7] = [
        Style::Random,
        Style::Registry,
        Style::Decimal,
        Style::Nested,
        Style::Prefixes,
        Style::Zeros,
        Style::Tiny,
    ];

    fn key(self, random: &mut Random) -> Vec<u8> {
        let x = random.below(600);
        match self {
            Style::Random => mix(x).to_be_bytes().to_vec(),
            Style::Registry => {
                format!("/registry/pods/ns-{}/pod-{:05x}", x % 7, mix(x) & 0xf_ffff).into_bytes()
            }
            Style::Decimal => format!("{x:010}").into_bytes(),
            Style::Nested => [&vec![b'a'; (x % 40) as usize][..], &[0, 0], &(x / 40).to_be_bytes()].concat(),
            Style::Prefixes => (0..x % 24).map(|at| (mix(x / 24 + at) & 1) as u8 * 0xff).collect(),
            Style::Zeros => vec![0; (x % 60) as usize],
            Style::Tiny => (x < 256).then_some(x as u8).into_iter().collect(),
        }
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let longest = if random.below(20) == 0 { 3000 } else { 60 };
    let len = random.below(longest) as usize;
    vec![random.next() as u8; len]
}

const LEAF_MAXES: [u64; 5] = [40, 200, 512, 1024, 4096];

/// One random write to both.
fn write(random: &mut Random, style: Style, tree: &mut Tree, model: &mut Model, op: u64) {
    let key = style.key(random);
    if random.below(5) < 2 {
        let removed = tree.remove(&key, op).map(|entry| entry.value().to_vec());
        assert_eq!(removed, model.remove(&key), "what was removed");
    } else {
        let value = value(random);
        let replaced = tree.put(&key, &value, op).map(|entry| entry.value().to_vec());
        assert_eq!(replaced, model.insert(key, value), "what was replaced");
    }
}

fn shuffled<T>(mut items: Vec<T>, random: &mut Random) -> Vec<T> {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
    items
}

/// A tree of the same contents and quite another history.
fn rebuilt(model: &Model, leaf_max: u64, random: &mut Random) -> Tree {
    let mut tree = Tree::with_leaf_max(leaf_max);
    for (key, value) in shuffled(model.iter().collect(), random) {
        tree.put(key, value, 1);
    }
    tree
}

fn contents(snapshot: &Snapshot) -> Model {
    snapshot.range(&[], None).map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect()
}

fn pair(entry: &Entry) -> (Vec<u8>, Vec<u8>) {
    (entry.key().to_vec(), entry.value().to_vec())
}

/// The sums and marks that a page carries for those below it.
fn check(snapshot: &Snapshot) {
    let Some(root) = &snapshot.root else { return };
    assert!(root.changed <= snapshot.changed);
    let mut stack: Vec<&Node> = vec![root];
    while let Some(node) = stack.pop() {
        match &node.kind {
            Kind::Leaf(leaf) => {
                let bytes = leaf.entries().iter().map(Entry::size).sum();
                assert_eq!(node.totals, Totals { count: leaf.entries().len() as u64, bytes });
                assert!(leaf.entries().is_sorted_by(|a, b| a.key() < b.key()));
                assert!(fits(node.totals, snapshot.leaf_max));
            }
            Kind::Inner(inner) => {
                assert!(inner.slots.len() > 1 && !fits(node.totals, snapshot.leaf_max));
                let mut totals = Totals::default();
                for slot in &inner.slots {
                    assert_eq!(slot.count(), slot.node.totals.count);
                    assert!(slot.node.changed <= node.changed, "a change below shows above");
                    totals += slot.node.totals;
                    stack.push(&slot.node);
                }
                assert_eq!(node.totals, totals);
            }
        }
    }
}
