//! What is damaged on one tier is made whole where it stands, from wherever else it is: older checkpoints too.

use crate::support::{LINEAGE, committed, cut, entry, identity, open, retained, source, state};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vr_checkpoint::chain::{Chain, Options, Others, TierOptions};
use vr_checkpoint::format::{Head, Manifest};
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::fault::{Act, FaultStore, On, Rule};
use vr_checkpoint::store::files::{Fate, Strike, VolatileDisk};
use vr_checkpoint::store::{Created, DirStore, MemStore, ObjectStore, Swapped};
use vr_checkpoint::verify::{self, Depth};

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemStore::new())
}

/// Three checkpoints, of which the newest needs packs of the first, and log above each.
async fn tier(store: &Arc<dyn ObjectStore>) {
    let mut writer = open(store, 1, 3).await.expect("opens");
    for op in [1, 4, 7] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
        writer.ship_log(&[entry(op + 1), entry(op + 2)]).await.expect("ships");
    }
}

async fn objects(store: &Arc<dyn ObjectStore>) -> Vec<(String, Bytes)> {
    let mut objects = Vec::new();
    for listed in store.list("g/").await.expect("lists") {
        let body = store.get(&listed.key).await.expect("reads").expect("there");
        objects.push((listed.key, body));
    }
    objects
}

async fn put(store: &Arc<dyn ObjectStore>, key: &str, body: Option<Bytes>) {
    store.delete(key).await.expect("deletes");
    if let Some(body) = body {
        assert_eq!(store.create(key, body).await.expect("writes"), Created::Yes);
    }
}

async fn problems(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let all = verify::Only::default();
    let report = verify::verify(&source("tier", store), &LINEAGE.to_string(), all, Depth::Root).await;
    let found = report.checkpoints.iter().flat_map(|checkpoint| &checkpoint.problems);
    report
        .problems
        .iter()
        .chain(found)
        .map(|problem| format!("{}: {}", problem.object, problem.reason))
        .collect()
}

fn flipped(body: &Bytes, at: usize) -> Bytes {
    let mut bytes = body.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

/// Every object of a tier is lost, cut short, of the wrong bits, or another one: what was there comes back.
#[tokio::test]
async fn every_object_comes_back_from_another_tier() {
    let (near, far) = (memory(), memory());
    tier(&near).await;
    tier(&far).await;
    let sources = [source("near", &near), source("far", &far)];
    let before = objects(&near).await;
    assert!(before.len() > 10, "{}", before.len());
    for (place, (key, body)) in before.iter().enumerate() {
        let other = &before[(place + 1) % before.len()].1;
        let ways = [
            ("gone", None),
            ("cut short", Some(body.slice(..body.len() / 2))),
            ("empty", Some(Bytes::new())),
            ("a bit at its beginning", Some(flipped(body, 9))),
            ("a bit in the middle", Some(flipped(body, body.len() / 2))),
            ("a bit at its end", Some(flipped(body, body.len() - 2))),
            ("another object", Some(other.clone())),
        ];
        for (way, damage) in ways {
            put(&near, key, damage).await;
            let mut writer = open(&near, 1, 3).await.unwrap_or_else(|e| panic!("{key}, {way}: {e}"));
            let repaired = writer.repair(key, &sources[0], &sources).await.expect("not fenced");
            repaired.unwrap_or_else(|e| panic!("{key}, {way}: {e}"));
            let now = near.get(key).await.expect("reads").expect("there");
            if key.contains("/ckpt/") {
                // Who wrote it and when is another matter.
                let [was, is] = [body, &now].map(|bytes| Manifest::parse(key, bytes).expect("valid"));
                let [was, is] = [was, is].map(|mut manifest| {
                    manifest.packs.sort();
                    manifest
                });
                assert_eq!(
                    (was.state, was.packs, was.indexes),
                    (is.state, is.packs, is.indexes),
                    "{key}, {way}"
                );
            } else {
                assert!(now == *body, "{key}, {way}: not what stood there");
            }
            assert_eq!(problems(&near).await, Vec::<String>::new(), "{key}, {way}");
        }
    }
}

/// An index or a manifest that stands in another one's place is whole by itself, and says nothing of what it should name.
#[tokio::test]
async fn what_stands_in_the_place_of_another_is_found_and_made_anew() {
    let (near, far) = (memory(), memory());
    tier(&near).await;
    tier(&far).await;
    for kind in ["/idx/", "/ckpt/"] {
        let mut all = objects(&near).await;
        all.retain(|(key, _)| key.contains(kind));
        let [(key, _), (_, other), ..] = &all[..] else { panic!("{} of {kind}", all.len()) };
        put(&near, key, Some(other.clone())).await;
        let mut writer = open(&near, 1, 3).await.expect("opens");
        assert_eq!(writer.unreadable().iter().collect::<Vec<_>>(), [key]);
        let sources = [source("near", &near), source("far", &far)];
        writer.repair(key, &sources[0], &sources).await.expect("not fenced").expect("it can be made anew");
        assert!(open(&near, 1, 3).await.expect("opens").unreadable().is_empty());
        assert_eq!(problems(&near).await, Vec::<String>::new());
    }
}

/// What only arrived damaged is not touched: in a bucket it would have to be deleted first.
#[tokio::test]
async fn what_only_arrived_damaged_stays_as_it_is() {
    let inner = Arc::new(MemStore::new());
    let near: Arc<dyn ObjectStore> = Arc::clone(&inner) as _;
    tier(&near).await;
    let before = objects(&near).await;
    for kind in ["/idx/", "/ckpt/"] {
        let faulty = Arc::new(FaultStore::new(Arc::clone(&inner)));
        let watched: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
        let rule = |on, times, act| Rule { on, key_contains: kind.to_owned(), skip: 0, times, act };
        faulty.add(rule(On::Read, 1, Act::Garble));
        let mut writer = open(&watched, 1, 3).await.expect("opens");
        let keys: Vec<String> = writer.unreadable().iter().cloned().collect();
        assert_eq!(keys.len(), 1, "{kind}");
        for on in [On::Create, On::Write, On::Delete] {
            faulty.add(rule(on, u32::MAX, Act::Fail));
        }
        let sources = [source("near", &watched)];
        let repaired = writer.repair(&keys[0], &sources[0], &sources).await.expect("not fenced");
        repaired.unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert!(objects(&near).await == before, "{kind}");
    }
}

/// What a collection has taken is left out of an index that is made anew, and nobody misses it.
#[tokio::test]
async fn an_index_of_which_a_pack_was_collected_is_whole_without_it() {
    let near = memory();
    let mut writer = open(&near, 1, 1).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    // Before there is a second one: names made in the same millisecond are in no order.
    let (key, before) = objects(&near).await.into_iter().find(|(key, _)| key.contains("/idx/")).expect("one");
    writer.checkpoint(&cut(4), &state(4)).await.expect("ships");
    // A part in each run.
    for _ in 0..20 {
        writer.collect(Duration::ZERO).await.expect("collects");
    }
    put(&near, &key, None).await;
    let mut writer = open(&near, 1, 1).await.expect("opens");
    let sources = [source("near", &near)];
    writer
        .repair(&key, &sources[0], &sources)
        .await
        .expect("not fenced")
        .expect("its packs say what it held");
    let now = near.get(&key).await.expect("reads").expect("there");
    assert!(now.len() < before.len(), "nothing of it was collected");
    assert_eq!(problems(&near).await, Vec::<String>::new());
    let mut writer = open(&near, 1, 1).await.expect("opens");
    writer.checkpoint(&cut(5), &state(5)).await.expect("ships");
    assert_eq!(problems(&near).await, Vec::<String>::new(), "the next one relies on it");
}

/// Nothing is written instead of what nobody has.
#[tokio::test]
async fn what_is_on_no_tier_stays_as_it_is_and_is_named() {
    let (near, empty) = (memory(), memory());
    tier(&near).await;
    let sources = [source("near", &near), source("empty", &empty)];
    for (key, body) in objects(&near).await {
        let says = match &key {
            key if key.contains("/ckpt/") => "no other tier retains the checkpoint",
            key if key.contains("/log/") => "is on no source",
            // Its packs say what it held.
            key if key.contains("/idx/") => continue,
            _ => "is whole on no tier",
        };
        // The first frame, where it is a pack.
        let damage = flipped(&body, 70);
        put(&near, &key, Some(damage.clone())).await;
        let mut writer = open(&near, 1, 3).await.expect("opens");
        let why =
            writer.repair(&key, &sources[0], &sources).await.expect("not fenced").expect_err("nobody has it");
        assert!(why.contains(says), "{key}: {why}");
        assert!(near.get(&key).await.expect("reads") == Some(damage), "{key}");
        put(&near, &key, Some(body)).await;
    }
}

/// A page that changed back stands in two packs: one tier alone can help itself.
#[tokio::test]
async fn a_page_that_stands_twice_on_a_tier_needs_no_other() {
    let near = memory();
    let mut writer = open(&near, 1, 3).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    let first = objects(&near).await;
    let packs: Vec<&(String, Bytes)> = first.iter().filter(|(key, _)| key.ends_with(".pk")).collect();
    writer.distrust(&packs.iter().map(|(key, _)| key.clone()).collect());
    writer.checkpoint(&cut(2), &state(1)).await.expect("ships all of it again");
    let sources = [source("near", &near)];
    for (key, body) in packs {
        put(&near, key, Some(flipped(body, 70))).await;
        let mut writer = open(&near, 1, 3).await.expect("opens");
        writer.repair(key, &sources[0], &sources).await.expect("not fenced").expect("made whole");
        assert!(near.get(key).await.expect("reads").as_ref() == Some(body), "{key}");
    }
}

/// At every operation of a repair the power goes: the damaged object is there, or the whole one.
#[tokio::test]
async fn a_repair_that_ends_anywhere_makes_nothing_worse() {
    const TIER: &str = "/machine/nvme/lineage";
    let far = memory();
    tier(&far).await;
    let mut survived = [0, 0];
    for n in 1.. {
        let disk = VolatileDisk::new();
        let open_disk = || -> Arc<dyn ObjectStore> {
            Arc::new(DirStore::open_on(Arc::new(disk.clone()), Path::new(TIER)).expect("opens"))
        };
        let near = open_disk();
        tier(&near).await;
        let all = objects(&near).await;
        let (key, whole) = all.into_iter().find(|(key, _)| key.contains("/data/")).expect("a pack");
        let damaged = flipped(&whole, 70);
        near.replace(&key, damaged.clone()).await.expect("writes");
        let mut writer = open(&near, 1, 3).await.expect("opens");
        let sources = [source("near", &near), source("far", &far)];
        disk.strike_at(n, Strike::Stop);
        let done = writer.repair(&key, &sources[0], &sources).await;
        let ended = matches!(done, Ok(Ok(())));
        let struck = disk.struck();
        drop((writer, sources, near));
        let disk = disk.fork();
        disk.lose_power(if n % 2 == 0 { Fate::Lost } else { Fate::Torn(n) });
        let left = DirStore::open_on(Arc::new(disk), Path::new(TIER)).expect("opens");
        let now = left.get(&key).await.expect("reads").expect("there");
        assert!(now == whole || (now == damaged && !ended), "operation {n} ({struck:?})");
        survived[usize::from(now == whole)] += 1;
        if struck.is_none() {
            assert!(ended && survived[0] > 3 && survived[1] > 0, "{survived:?}");
            return;
        }
    }
}

/// As if everything had been read long ago.
async fn long_ago(store: &Arc<dyn ObjectStore>) {
    let (bytes, tag) = store.head().await.expect("reads").expect("there");
    let mut head = Head::parse("HEAD", &bytes).expect("valid");
    head.scrubbed_micros = 1;
    assert_eq!(store.swap_head(Some(&tag), head.encode().into()).await.expect("writes"), Swapped::Yes);
}

/// The disks of other replicas.
struct Elsewhere(Vec<Source>);

impl Others for Elsewhere {
    fn disks(&self) -> BoxFuture<'_, Vec<Source>> {
        std::future::ready(self.0.clone()).boxed()
    }
}

const NEVER: Duration = Duration::from_secs(3600);

/// A replica with these tiers and others beside it, at whose nearest tier nothing is due but to read it.
fn replica(tiers: &[&Arc<dyn ObjectStore>], others: Vec<Source>) -> Chain {
    let kinds = [TierKind::Nvme, TierKind::Volume];
    let tiers = kinds.into_iter().zip(tiers).map(|(kind, store)| TierOptions {
        kind,
        store: Arc::clone(store),
        checkpoint: NEVER,
        log: NEVER,
        rate: None,
        keep: 3.into(),
        grace: NEVER,
        may_create: false,
    });
    let others: Option<Arc<dyn Others>> = Some(Arc::new(Elsewhere(others)));
    let (identity, tiers) = (identity(1), tiers.collect());
    let chain = Chain::start(Options { identity, beginning: None, tiers, others }).expect("a thread");
    chain.committed(committed(9));
    chain
}

/// Waits until the nearest tier of a replica is whole again.
async fn made_whole(chain: &Chain, near: &Arc<dyn ObjectStore>, what: &str) {
    let began = Instant::now();
    loop {
        let status = chain.status()[0].1.clone();
        if status.repaired > 0 && status.damaged == 0 && problems(near).await.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(retained(near).await, [1, 4, 7], "{what}: no checkpoint was needed");
}

/// An index that is made whole names packs that nobody could read before: they are read then, not a day later.
#[tokio::test]
async fn what_stands_behind_a_damaged_index_is_read_once_that_is_whole() {
    let (inner, far) = (Arc::new(MemStore::new()), memory());
    let near: Arc<dyn ObjectStore> = Arc::clone(&inner) as _;
    let faulty = Arc::new(FaultStore::new(inner));
    tier(&near).await;
    tier(&far).await;
    long_ago(&near).await;
    let watched: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let chain = replica(&[&watched, &far], Vec::new());
    let began = Instant::now();
    loop {
        let (bytes, _) = near.head().await.expect("reads").expect("there");
        if Head::parse("HEAD", &bytes).expect("valid").scrubbed_micros > 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not everything was read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (key, body) in objects(&near).await {
        if key.contains("/idx/") || key.contains("/data/") {
            put(&near, &key, Some(flipped(&body, 70))).await;
        }
    }
    // A failure is what makes it look at indexes again; a reservation, something to fail.
    let rule = Rule { on: On::SwapHead, key_contains: String::new(), skip: 0, times: 1, act: Act::Fail };
    faulty.add(rule);
    chain.reserve(1_000);
    made_whole(&chain, &near, "packs behind their indexes").await;
}

/// What a replica does with it, by itself, without a write or a checkpoint: from another tier of its own, and from the
/// disk of another replica where it has no other tier.
#[tokio::test]
async fn a_replica_makes_older_checkpoints_whole_while_nothing_is_written() {
    for kind in ["/data/", "/tree/", "/idx/", "/ckpt/", "/log/"] {
        for own in [true, false] {
            let (near, far) = (memory(), memory());
            tier(&near).await;
            tier(&far).await;
            for (key, body) in objects(&near).await.into_iter().filter(|(key, _)| key.contains(kind)) {
                put(&near, &key, Some(flipped(&body, 70))).await;
            }
            assert_ne!(problems(&near).await, Vec::<String>::new(), "{kind}");
            long_ago(&near).await;
            let chain = match own {
                true => replica(&[&near, &far], Vec::new()),
                false => replica(&[&near], vec![source("replica 2", &far)]),
            };
            made_whole(&chain, &near, kind).await;
        }
    }
}
