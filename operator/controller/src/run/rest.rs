//! How much the operator asks while nothing happens, and how soon it has found its way about after a restart. Against
//! an API server and replicas in this process; `VR_FLEET` is how many clusters there are.

use super::fake::{Call, Fake};
use super::fleet::{Fleet, Operator};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long nothing happens.
const REST: Duration = Duration::from_secs(20);

fn clusters() -> usize {
    std::env::var("VR_FLEET").ok().map_or(3, |text| text.parse().expect("VR_FLEET is a number"))
}

/// What was asked beside watches and the lease since `before`.
fn since(fake: &Fake, before: &BTreeMap<Call, u64>) -> BTreeMap<Call, u64> {
    let now = fake.counts().into_iter();
    let more = now.map(|(call, n)| (call.clone(), n - before.get(&call).copied().unwrap_or_default()));
    more.filter(|((verb, _, resource), n)| *n > 0 && verb != "watch" && resource != "leases").collect()
}

/// Waits until everything that is asked by the way (the second look at each store) has been asked.
async fn settled(fleet: &Fleet) {
    loop {
        let before = fleet.fake.counts();
        tokio::time::sleep(Duration::from_secs(8)).await;
        if since(&fleet.fake, &before).is_empty() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_nothing_is_asked_and_a_change_is_seen_at_once() {
    let fleet = Fleet::of(clusters()).await;
    let began = Instant::now();
    let first = Operator::begin(&fleet, "first");
    fleet.until_ready(Duration::from_secs(40)).await;
    println!("{} clusters have begun in {:.1?}", clusters(), began.elapsed());
    let settling = tokio::time::timeout(Duration::from_secs(120), settled(&fleet)).await;
    assert!(settling.is_ok(), "it never comes to rest");
    let before = fleet.fake.counts();
    tokio::time::sleep(REST).await;
    let asked = since(&fleet.fake, &before);
    assert!(asked.is_empty(), "at rest the API server was asked: {asked:#?}");
    first.end().await;

    // Somebody changes a cluster while no operator runs, and another operator comes.
    let mut changed = fleet.fake.all("vrclusters").remove(0);
    changed["metadata"]["generation"] = 2.into();
    changed["spec"]["placement"]["handbackDelaySeconds"] = 299.into();
    let name = changed["metadata"]["name"].clone();
    fleet.fake.put("vrclusters", changed);
    let began = Instant::now();
    let before = fleet.fake.counts();
    let second = Operator::begin(&fleet, "second");
    until_seen(&fleet, &name, 2).await;
    println!("after a restart it was seen in {:.1?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60));
    let written: u64 = since(&fleet.fake, &before)
        .iter()
        .filter(|((_, _, r), _)| r == "vrclusters/status")
        .map(|(_, n)| n)
        .sum();
    assert!(written >= 1, "the change was never written down");

    // And once more while it runs, after its watches have ended.
    tokio::time::timeout(Duration::from_secs(120), settled(&fleet)).await.expect("it comes to rest again");
    fleet.fake.end_watches();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut changed = fleet
        .fake
        .all("vrclusters")
        .into_iter()
        .find(|c| c["metadata"]["name"] == name)
        .expect("it is there");
    changed["metadata"]["generation"] = 3.into();
    let began = Instant::now();
    fleet.fake.put("vrclusters", changed);
    until_seen(&fleet, &name, 3).await;
    println!("while it ran it was seen in {:.1?}", began.elapsed());
    second.end().await;
}

async fn until_seen(fleet: &Fleet, name: &serde_json::Value, generation: i64) {
    let seen = async {
        loop {
            let all = fleet.fake.all("vrclusters");
            if all
                .iter()
                .any(|c| c["metadata"]["name"] == *name && c["status"]["observedGeneration"] == generation)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), seen).await;
    assert!(waited.is_ok(), "generation {generation} of {name} was not seen");
}
