//! How much the operator asks while nothing happens, and how soon it has found its way about after a restart. Against
//! an API server and replicas in this process; `VR_FLEET` is how many clusters there are.

use super::fake::{Call, Fake};
use super::fleet::{Fleet, Operator};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long nothing happens at least.
const REST: Duration = Duration::from_secs(20);

fn clusters() -> usize {
    std::env::var("VR_FLEET").ok().map_or(3, |text| text.parse().expect("VR_FLEET is a number"))
}

/// How many statuses are among what was asked.
fn statuses(asked: &BTreeMap<Call, u64>) -> u64 {
    asked.iter().filter(|((_, _, resource), _)| resource == "vrclusters/status").map(|(_, n)| n).sum()
}

/// The sum of the newest entries that the resources tell of.
fn ops(fake: &Fake) -> i64 {
    let of = |cluster: &serde_json::Value| cluster["status"]["replicaStatuses"][0]["op"].as_i64();
    fake.all("vrclusters").iter().filter_map(of).sum()
}

/// What was asked beside watches and the lease since `before`.
fn since(fake: &Fake, before: &BTreeMap<Call, u64>) -> BTreeMap<Call, u64> {
    let now = fake.counts().into_iter();
    let more = now.map(|(call, n)| (call.clone(), n - before.get(&call).copied().unwrap_or_default()));
    more.filter(|((verb, _, resource), n)| *n > 0 && verb != "watch" && resource != "leases").collect()
}

/// Waits until nothing is written but how far the replicas have come.
async fn settled(fleet: &Fleet) {
    loop {
        let before = fleet.fake.counts();
        tokio::time::sleep(Duration::from_secs(8)).await;
        if since(&fleet.fake, &before).keys().all(|(_, _, resource)| resource == "vrclusters/status") {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_only_numbers_are_written_and_a_change_is_seen_at_once() {
    let fleet = Fleet::of(clusters()).await;
    let began = Instant::now();
    let first = Operator::begin(&fleet, "first");
    fleet.until_ready(Duration::from_secs(120)).await;
    println!("{} clusters have begun in {:.1?}", clusters(), began.elapsed());
    let settling = tokio::time::timeout(Duration::from_secs(120), settled(&fleet)).await;
    assert!(settling.is_ok(), "it never comes to rest");
    let (before, old) = (fleet.fake.counts(), ops(&fleet.fake));
    let began = Instant::now();
    tokio::time::sleep(REST).await;
    let grown = async {
        while ops(&fleet.fake) == old {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), grown).await;
    assert!(waited.is_ok(), "nobody learns how far the replicas have come");
    let asked = since(&fleet.fake, &before);
    let written = statuses(&asked);
    println!("at rest {written} statuses were written in {:.0?}", began.elapsed());
    assert!(asked.len() == 1 && written > 0, "at rest the API server was asked: {asked:#?}");
    assert!(written <= 2 * clusters() as u64, "{written} statuses were written in {:?}", began.elapsed());
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
    let written = statuses(&since(&fleet.fake, &before));
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
