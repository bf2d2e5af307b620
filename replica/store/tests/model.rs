//! Random requests against a model that keeps every version of every key in one list.
//!
//! Compared: answers, events, ranges at every revision, history for watchers, across compactions, snapshots and
//! transfers to another replica.

mod common;

use common::{Driven, encoded};
use proptest::prelude::*;
use std::collections::BTreeMap;
use vr_core::{Digest, Import, Op, StateMachine, import_from};
use vr_store::{
    Body, Command, Compacted, DeleteRange, Event, EventKind, KeyValue, Options, Put, RangeQuery, Revision,
    Span, Store, StoreError, Txn, TxnOp, Watch,
};
use vr_tree::Snapshot;

const KEYS: &[&[u8]] = &[b"a", b"a\0", b"a\x01", b"ab", b"b", b"c/1", b"c/2", b"\0"];
const ENDS: &[&[u8]] = &[b"", b"\0", b"ab", b"c0"];

/// What happens. Numbers are places in [`KEYS`] and [`ENDS`].
#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Delete(usize, usize),
    /// Puts, then one deletion: all at one revision.
    Several(Vec<(usize, u8)>, usize),
    Compact(prop::sample::Index),
    /// A snapshot is taken and the store opened from it.
    Reopen,
    /// The state moves to a new replica, in portions of so many bytes.
    Move(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..KEYS.len(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (0..KEYS.len(), 0..ENDS.len()).prop_map(|(k, e)| Step::Delete(k, e)),
        3 => (prop::collection::btree_map(0..KEYS.len(), any::<u8>(), 0..4), 0..KEYS.len())
            .prop_map(|(puts, delete)| Step::Several(puts.into_iter().collect(), delete)),
        1 => any::<prop::sample::Index>().prop_map(Step::Compact),
        1 => Just(Step::Reopen),
        1 => (1usize..200).prop_map(Step::Move),
    ]
}

/// A version as the model knows it; its value is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    at: i64,
    create: i64,
    version: i64,
}

#[derive(Default)]
struct Model {
    revision: i64,
    compacted: i64,
    log: Vec<Version>,
}

type State = BTreeMap<Vec<u8>, Version>;

impl Model {
    fn state_at(&self, revision: i64) -> State {
        let mut state = State::new();
        for version in self.log.iter().filter(|v| v.at <= revision) {
            match version.value {
                Some(_) => state.insert(version.key.clone(), version.clone()),
                None => state.remove(&version.key),
            };
        }
        state
    }

    fn put(&mut self, at: i64, key: &[u8], value: u8) {
        let old = self.state_at(at).remove(key);
        let (create, version) = old.map_or((at, 1), |old| (old.create, old.version + 1));
        self.log.push(Version { key: key.to_vec(), value: Some(vec![value]), at, create, version });
    }

    fn delete(&mut self, at: i64, span: Span<'_>) -> usize {
        let keys: Vec<_> = self.state_at(at).into_keys().filter(|key| span.contains(key)).collect();
        for key in &keys {
            self.log.push(Version { key: key.clone(), value: None, at, create: 0, version: 0 });
        }
        keys.len()
    }

    /// What was current just before a version, as far as that can be asked for.
    fn before(&self, version: &Version) -> Option<Version> {
        (version.at > self.compacted).then(|| self.state_at(version.at - 1).remove(&version.key)).flatten()
    }
}

/// The store's answer in the model's terms.
fn version_of(kv: &KeyValue, deleted: bool) -> Version {
    Version {
        key: kv.key().to_vec(),
        value: (!deleted).then(|| kv.value_bytes().to_vec()),
        at: kv.mod_revision().0,
        create: kv.create_revision().0,
        version: kv.version(),
    }
}

fn event_of(event: &Event) -> (Version, Option<Version>) {
    let kv = version_of(&event.kv, event.kind == EventKind::Delete);
    (kv, event.prev.as_ref().map(|prev| version_of(prev, false)))
}

struct Pair {
    driven: Driven,
    /// What the store was when it last moved.
    away: Option<Snapshot>,
    model: Model,
    /// The same log executed without interruption.
    twin: Driven,
}

impl Pair {
    fn new() -> Pair {
        let options = Options::default();
        let model = Model { revision: 1, compacted: -1, log: Vec::new() };
        Pair { driven: Driven::new(options), away: None, model, twin: Driven::new(options) }
    }

    fn run(&mut self, command: &Command<'_>) -> vr_store::Reply {
        let reply = self.driven.run(command);
        assert_eq!(self.twin.run(command), reply, "two replicas answer the same");
        reply
    }

    fn take(&mut self, step: &Step) {
        let next = self.model.revision + 1;
        let known = self.model.log.len();
        match step {
            Step::Put(key, value) => {
                let put = Put { key: KEYS[*key], value: &[*value], ..Put::default() };
                let reply = self.run(&Command::Put(put)).expect("nothing forbids it");
                self.model.put(next, KEYS[*key], *value);
                assert_eq!(reply.revision.0, next);
            }
            Step::Delete(key, end) => {
                let span = Span { key: KEYS[*key], end: ENDS[*end] };
                let reply = self.run(&Command::DeleteRange(DeleteRange { span, prev_kv: true }));
                let Ok(Body::DeleteRange { deleted, prev }) = reply.map(|r| r.body) else {
                    panic!("not a deletion")
                };
                let count = self.model.delete(next, span);
                assert_eq!((deleted as usize, prev.len()), (count, count));
            }
            Step::Several(puts, delete) => {
                let mut ops: Vec<TxnOp<'_>> = puts
                    .iter()
                    .map(|(key, value)| {
                        let value = std::slice::from_ref(value);
                        TxnOp::Put(Put { key: KEYS[*key], value, ..Put::default() })
                    })
                    .collect();
                // Put and deleted at the same revision: etcd lets that through in two nested transactions.
                let span = Span::one(KEYS[*delete]);
                let gone = TxnOp::DeleteRange(DeleteRange { span, prev_kv: false });
                ops = vec![
                    TxnOp::Txn(Txn { success: ops, ..Txn::default() }),
                    TxnOp::Txn(Txn { success: vec![gone], ..Txn::default() }),
                ];
                self.run(&Command::Txn(Txn { success: ops, ..Txn::default() })).expect("nothing forbids it");
                for (key, value) in puts {
                    self.model.put(next, KEYS[*key], *value);
                }
                self.model.delete(next, span);
            }
            Step::Compact(index) => {
                let to = index.index(self.model.revision as usize + 1) as i64;
                let reply = self.run(&Command::Compact { revision: Revision(to) });
                if to <= self.model.compacted {
                    assert_eq!(reply, Err(StoreError::Compacted));
                } else {
                    assert_eq!(reply.expect("it lies ahead").revision.0, self.model.revision);
                    self.model.compacted = to;
                }
            }
            Step::Reopen => {
                let snapshot = self.driven.store.cut(self.driven.op, b"core");
                self.driven.store = Store::from_snapshot(snapshot, Options::default()).expect("just cut");
            }
            Step::Move(portion) => {
                let (op, snapshot) = (self.driven.op, self.driven.store.cut(self.driven.op, b"core"));
                // To a store that has nothing, or that has been away since the last move.
                let away = match self.away.take().filter(|_| portion % 2 == 0) {
                    Some(past) => Store::from_snapshot(past, Options::default()).expect("once cut"),
                    None => Store::new(Options::default()),
                };
                let import = away.import(op, Digest(snapshot.root()), None);
                let other: Store =
                    import_from(&snapshot, import, *portion).expect("it answers its own wants");
                assert_eq!(other.view().hash_kv(Revision(0)), self.driven.store.view().hash_kv(Revision(0)));
                let reopened = Store::from_snapshot(snapshot.clone(), Options::default()).expect("just cut");
                assert!(other.leases().eq(reopened.leases()));
                for (id, _) in reopened.leases() {
                    assert!(other.lease_keys(id).eq(reopened.lease_keys(id)), "the keys of {id:?}");
                }
                self.away = Some(snapshot);
                self.driven.store = other;
            }
        }
        if self.model.log.len() > known {
            self.model.revision = next;
        }
        assert_eq!(self.driven.store.revision().0, self.model.revision);
        let told: Vec<_> = self.driven.events().iter().map(event_of).collect();
        let new = &self.model.log[known..];
        let expected: Vec<_> = new.iter().map(|v| (v.clone(), self.model.before(v))).collect();
        assert_eq!(told, expected, "what watchers hear of {step:?}");
    }

    fn compare_ranges(&self) {
        let spans = KEYS.iter().flat_map(|key| ENDS.iter().map(move |end| Span { key, end }));
        for revision in 1..=self.model.revision {
            let state = self.model.state_at(revision);
            for span in spans.clone() {
                let query = RangeQuery { span, revision: Revision(revision), ..RangeQuery::default() };
                let found = self.driven.store.range(&query);
                if revision < self.model.compacted {
                    assert_eq!(found, Err(StoreError::Compacted));
                    continue;
                }
                let found = found.expect("within the horizon");
                let expected: Vec<_> = state.values().filter(|v| span.contains(&v.key)).cloned().collect();
                let kvs: Vec<_> = found.kvs.iter().map(|kv| version_of(kv, false)).collect();
                assert_eq!(kvs, expected, "{span:?} at {revision}");
                assert_eq!(found.count as usize, expected.len());

                let limited = self.driven.store.range(&RangeQuery { limit: 2, ..query }).expect("as before");
                assert_eq!(limited.kvs[..], found.kvs[..found.kvs.len().min(2)]);
                assert_eq!((limited.count, limited.more), (found.count, found.kvs.len() > 2));
                let counted =
                    self.driven.store.range(&RangeQuery { count_only: true, ..query }).expect("as before");
                assert_eq!((counted.count, counted.kvs.len()), (found.count, 0));
            }
        }
    }

    fn compare_history(&self, max: usize) {
        let view = self.driven.store.view();
        for end in ENDS {
            let watch = Watch { key: KEYS[0].into(), end: (*end).into(), prev_kv: true, ..Watch::default() };
            for from in 1..=self.model.revision + 1 {
                if from < self.model.compacted {
                    let compacted = Revision(self.model.compacted);
                    assert_eq!(view.history_since(&watch, Revision(from), max), Err(Compacted { compacted }));
                    continue;
                }
                let (mut told, mut next) = (Vec::new(), Revision(from));
                loop {
                    let piece = view.history_since(&watch, next, max).expect("within the horizon");
                    told.extend(piece.events.iter().map(event_of));
                    assert!(piece.done || piece.next > next, "it gets on");
                    next = piece.next;
                    if piece.done {
                        break;
                    }
                }
                assert_eq!(next.0, self.model.revision + 1);
                // At the horizon itself only what was current there is left.
                let at_horizon = self.model.state_at(self.model.compacted);
                let left = |v: &Version| {
                    v.at > self.model.compacted || v.value.is_none() || at_horizon.get(&v.key) == Some(v)
                };
                let meant = self
                    .model
                    .log
                    .iter()
                    .filter(|v| v.at >= from && watch.span().contains(&v.key) && left(v));
                let expected: Vec<_> = meant.map(|v| (v.clone(), self.model.before(v))).collect();
                assert_eq!(told, expected, "{end:?} from {from}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60), max in 1usize..5) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.take(step);
        }
        pair.compare_ranges();
        pair.compare_history(max);

        // Snapshots and moves on the way have left no trace.
        let root = pair.driven.store.cut(Op(1_000), b"end").root();
        prop_assert_eq!(pair.twin.store.cut(Op(1_000), b"end").root(), root);

        // Removal is never visible, and ends with nothing left that could be removed.
        pair.driven.settle();
        pair.compare_ranges();
        pair.compare_history(max);
        let compacted = pair.model.compacted;
        let since = pair.model.log.iter().filter(|v| v.at > compacted).count();
        let kept = pair.model.state_at(compacted).len();
        let tombstones = pair.model.log.iter().filter(|v| v.at == compacted && v.value.is_none()).count();
        let entries = pair.driven.store.cut(Op(2_000), b"end").len() as usize;
        prop_assert_eq!(entries, since + kept + tombstones + 2);
    }

    #[test]
    fn batches_answer_as_single_requests_do(steps in prop::collection::vec((0..KEYS.len(), any::<u8>()), 1..40)) {
        let puts: Vec<_> = steps
            .iter()
            .map(|(key, value)| Put { key: KEYS[*key], value: std::slice::from_ref(value), ..Put::default() })
            .map(Command::Put)
            .collect();
        let (mut batched, mut single) = (Driven::new(Options::default()), Driven::new(Options::default()));
        let replies = batched.entry(&puts);
        prop_assert_eq!(replies, puts.iter().map(|put| single.run(put)).collect::<Vec<_>>());
        prop_assert_eq!(batched.events(), single.events());
        prop_assert_eq!(batched.store.cut(Op(9), b"").root(), single.store.cut(Op(9), b"").root());
    }

    #[test]
    fn garbage_harms_neither_the_store_nor_its_neighbours(garbage in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut driven = Driven::new(Options::default());
        let good = encoded(&common::put("a", "1"));
        let replies = driven.bodies(&[&good, &garbage, &good]);
        prop_assert_eq!(replies[0].as_ref().map(|r| r.revision), Ok(Revision(2)));
        prop_assert!(replies[2].as_ref().is_ok_and(|r| r.revision.0 >= 3));
    }

    #[test]
    fn garbage_is_no_import(garbage in prop::collection::vec(any::<u8>(), 1..60)) {
        let store = Store::new(Options::default());
        let mut import = store.import(Op(1), Digest([7; 32]), None);
        let want = import.want().expect("nothing is here");
        prop_assert!(import.take(&want, &garbage).is_err());
        prop_assert!(import.end().is_err());
        prop_assert_eq!(store.revision() , Revision(1));
    }
}
