//! Who is told of what: the index against the plain definition, parking, and history joined to what follows.

mod common;

use common::Driven;
use proptest::prelude::*;
use vr_store::{
    Command, DeleteRange, Event, Options, Put, Revision, Span, Txn, TxnOp, Watch, WatchSet, WatcherId,
};

fn watch(key: &str, end: &str) -> Watch {
    Watch { key: key.as_bytes().into(), end: end.as_bytes().into(), ..Watch::default() }
}

/// Who is told, and of which events.
fn told(set: &mut WatchSet, events: &[Event]) -> Vec<(u64, Vec<u32>)> {
    let mut told: Vec<_> = set.deliver(events).into_iter().map(|d| (d.watcher.0, d.events)).collect();
    told.sort();
    told
}

#[test]
fn each_watcher_gets_its_keys_in_order() {
    let mut driven = Driven::new(Options::default());
    let mut set = WatchSet::new();
    let spans = [("a", ""), ("a", ""), ("a", "c"), ("b", "\0"), ("c", "a"), ("\0", "\0")];
    for (key, end) in spans {
        let id = set.add(watch(key, end));
        assert!(set.resume(id, Revision(0)));
    }
    for key in ["a", "b", "c", "a"] {
        driven.put(key, "");
    }
    let events = driven.events();
    let expected: [(u64, &[u32]); 5] =
        [(1, &[0, 3]), (2, &[0, 3]), (3, &[0, 1, 3]), (4, &[1, 2]), (6, &[0, 1, 2, 3])];
    assert_eq!(told(&mut set, &events), expected.map(|(id, at)| (id, at.to_vec())));
    assert!(set.cancel(WatcherId(2)) && !set.cancel(WatcherId(2)));
    assert!(set.cancel(WatcherId(6)));
    assert_eq!(told(&mut set, &events[..1]), [(1, vec![0]), (3, vec![0])]);
    assert_eq!(set.len(), 4);
}

#[test]
fn filters_and_the_first_revision_hold() {
    let mut driven = Driven::new(Options::default());
    let mut set = WatchSet::new();
    let puts = set.add(Watch { no_delete: true, ..watch("a", "") });
    let deletes = set.add(Watch { no_put: true, ..watch("\0", "\0") });
    let late = set.add(watch("a", "b"));
    set.resume(puts, Revision(0));
    set.resume(deletes, Revision(0));
    set.resume(late, Revision(4));
    driven.put("a", "1");
    driven.delete("a", "");
    driven.put("a", "2");
    let events = driven.events();
    assert_eq!(told(&mut set, &events), [(1, vec![0, 2]), (2, vec![1]), (3, vec![2])]);
}

#[test]
fn a_parked_watcher_misses_nothing() {
    let mut driven = Driven::new(Options::default());
    let mut set = WatchSet::new();
    let id = set.add(watch("a", "z"));
    assert_eq!(set.is_parked(id), Some(true));
    set.resume(id, driven.store.revision().next());
    driven.put("a", "1");
    assert_eq!(told(&mut set, &driven.events()), [(id.0, vec![0])]);
    let next = driven.store.revision().next();
    assert!(set.park(id));
    for i in 0..5 {
        driven.put(&format!("k{i}"), "");
        assert_eq!(told(&mut set, &driven.events()), []);
    }
    let view = driven.store.view();
    let wanted = set.watch(id).expect("it is there").clone();
    let first = view.history_since(&wanted, next, 2).expect("nothing is compacted");
    assert_eq!((first.events.len(), first.next, first.done), (2, Revision(5), false));
    let rest = view.history_since(&wanted, first.next, 99).expect("nothing is compacted");
    assert_eq!((rest.events.len(), rest.next, rest.done), (3, Revision(8), true));

    // What happened since the view is delivered, what was in it is not told twice.
    driven.put("last", "");
    set.resume(id, rest.next);
    let view = driven.store.view();
    assert_eq!(
        view.history_since(&wanted, rest.next, 99).expect("nothing is compacted").events,
        driven.events()
    );
    driven.put("after", "");
    assert_eq!(told(&mut set, &driven.events()), [(id.0, vec![0])]);
    assert!(!set.park(WatcherId(99)) && !set.resume(WatcherId(99), Revision(1)));
}

/// etcd lets a range without an end delete a key that the same transaction sets. What was there before is told with the
/// deletion, and whoever reads it up later is told the same.
#[test]
fn a_key_deleted_and_set_at_once_is_new() {
    let mut driven = Driven::new(Options::default());
    driven.put("k", "old");
    let _ = driven.events();
    let from_here_on = Span { key: b"b", end: b"\0" };
    let success = vec![
        TxnOp::DeleteRange(DeleteRange { span: from_here_on, prev_kv: false }),
        TxnOp::Put(Put { key: b"k", value: b"new", ..Put::default() }),
    ];
    driven.run(&Command::Txn(Txn { success, ..Txn::default() })).expect("etcd takes it");
    let live = driven.events();
    let prev: Vec<_> = live.iter().map(|event| event.prev.as_ref().map(|kv| kv.value().to_vec())).collect();
    assert_eq!(prev, [Some(b"old".to_vec()), None]);
    let all = Watch { prev_kv: true, ..watch("a", "\0") };
    let read = driven.store.view().history_since(&all, Revision(3), 9).expect("nothing is compacted");
    assert_eq!(read.events, live);
}

const KEYS: &[&str] = &["a", "ab", "b", "ba", "c", "d"];
const ENDS: &[&str] = &["", "\0", "b", "bb", "d", "a"];

proptest! {
    #[test]
    fn the_index_finds_exactly_those_who_asked(
        spans in prop::collection::vec((0..KEYS.len(), 0..ENDS.len()), 1..40),
        toggles in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..60),
    ) {
        let mut driven = Driven::new(Options::default());
        let mut set = WatchSet::new();
        let ids: Vec<_> = spans.iter().map(|(key, end)| set.add(watch(KEYS[*key], ENDS[*end]))).collect();
        let mut active = vec![false; ids.len()];
        for (at, on) in &toggles {
            let at = at.index(ids.len());
            let known = if *on { set.resume(ids[at], Revision(0)) } else { set.park(ids[at]) };
            prop_assert!(known);
            active[at] = *on;
        }
        for key in KEYS {
            driven.put(key, "");
        }
        let events = driven.events();
        let expected: Vec<_> = ids
            .iter()
            .zip(active)
            .filter(|(_, active)| *active)
            .map(|(id, _)| {
                let wanted = set.watch(*id).expect("it is there").span();
                let of = |at: &u32| wanted.contains(events[*at as usize].kv.key());
                (id.0, (0..events.len() as u32).filter(of).collect::<Vec<_>>())
            })
            .filter(|(_, events)| !events.is_empty())
            .collect();
        prop_assert_eq!(told(&mut set, &events), expected);
    }
}
