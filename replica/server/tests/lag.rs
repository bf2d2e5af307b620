//! Tiers that fall behind by more than they may: what `tiers.onLag` makes of clients' writes, and of nothing else.

mod cluster;

use std::fs;
use std::time::{Duration, Instant};

use cluster::object_store::ObjectStore;
use cluster::{Cluster, Replica, eventually, http, rpc};
use tonic::Code;
use vr_replica::config::{OnLag, Raw, Span};

const LIMIT: Duration = Duration::from_secs(3);
/// What is not held up by a tier takes no longer than this, on a busy machine.
const SOON: Duration = Duration::from_secs(2);

fn limited(raw: &mut Raw, on_lag: OnLag) {
    let tiers = raw.tiers.get_or_insert_default();
    tiers.on_lag = Some(on_lag);
    for disk in [&mut tiers.nvme, &mut tiers.volume].into_iter().flatten() {
        disk.lag_limit = Some(Span(LIMIT));
    }
    if let Some(store) = &mut tiers.object_store {
        store.lag_limit = Some(Span(LIMIT));
    }
}

async fn metric(replica: &Replica, name: &str) -> Option<f64> {
    let page = http::get(replica.admin, "/metrics").await.ok()?.1;
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Writes until a write is refused; what is said then.
async fn refused(replica: &Replica) -> tonic::Status {
    eventually("a write is refused", async || rpc::put(&replica.channel(), "key", "value").await.err()).await
}

async fn accepted(replica: &Replica) {
    eventually("a write is accepted", async || rpc::put(&replica.channel(), "key", "value").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_refuses_writes_while_the_object_store_is_away_and_nothing_else() {
    let mut store = ObjectStore::start().await;
    let cluster = Cluster::start_as(3, |raw| {
        store.join(raw);
        limited(raw, OnLag::Block);
    })
    .await;
    cluster.settled().await;
    rpc::put(&cluster.replicas[0].channel(), "kept", "value").await.expect("nothing is behind");
    let before = cluster.replicas[0].status().await.expect("it runs");

    store.go().await;
    let away = Instant::now();
    rpc::put(&cluster.replicas[0].channel(), "lacking", "value").await.expect("the limit is not reached");
    // Only one of them ships there, and all of them know.
    for replica in &cluster.replicas {
        let refusal = refused(replica).await;
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        let says = refusal.message();
        for word in ["objectStore", "behind", "limit is 3 s", "tiers.onLag", "reads are served"] {
            assert!(says.contains(word), "it does not say `{word}`: {says}");
        }
        assert!(away.elapsed() >= LIMIT, "refused before the limit");
        assert_eq!(metric(replica, "vr_writes_admission").await, Some(2.0));
        assert!(metric(replica, "vr_writes_refused_total").await >= Some(1.0));
        let began = Instant::now();
        assert!(rpc::get(&replica.channel(), "lacking").await.expect("reads are served").is_some());
        assert!(began.elapsed() < SOON);
    }
    let after = cluster.replicas[0].status().await.expect("it runs");
    assert_eq!((after.view, after.primary), (before.view, before.primary), "nobody was deposed for it");
    let lag = after.tiers.iter().find(|tier| tier.tier == "objectStore").expect("configured").lag_seconds;
    assert!(lag >= LIMIT.as_secs_f64(), "every replica reports the lag: {lag}");

    store.come().await;
    for replica in &cluster.replicas {
        accepted(replica).await;
    }
    assert_eq!(metric(&cluster.replicas[0], "vr_writes_admission").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stalled_disk_of_three_is_no_reason_to_refuse() {
    let cluster = Cluster::start_as(3, |raw| limited(raw, OnLag::Block)).await;
    cluster.settled().await;
    let stall = |replica: &Replica| replica.disk("nvme").join(cluster::LINEAGE).join("stall");
    accepted(&cluster.replicas[0]).await;
    fs::write(stall(&cluster.replicas[0]), "600").expect("the tier was begun");
    let begun = Instant::now();
    // Twice as long as would be refused if it were.
    while begun.elapsed() < LIMIT * 2 {
        rpc::put(&cluster.replicas[0].channel(), "key", "value")
            .await
            .expect("the others have it on their disks");
        tokio::time::sleep(LIMIT / 30).await;
    }
    let lag = |tiers: Vec<vr_replica::status::TierReport>| {
        tiers.iter().find(|tier| tier.tier == "nvme").expect("configured").lag_seconds
    };
    let own = lag(cluster.replicas[0].status().await.expect("it runs").tiers);
    assert!(own >= LIMIT.as_secs_f64(), "its own disk is {own} s behind");
    for other in &cluster.replicas[1..] {
        fs::write(stall(other), "600").expect("the tier was begun");
    }
    let says = refused(&cluster.replicas[1]).await;
    assert!(says.message().contains("nvme"), "{says}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttle_slows_writes_until_the_object_store_is_back() {
    const WRITES: u32 = 10;
    let mut store = ObjectStore::start().await;
    let cluster = Cluster::start_as(1, |raw| {
        store.join(raw);
        limited(raw, OnLag::Throttle);
    })
    .await;
    let replica = &cluster.replicas[0];
    let channel = replica.channel();
    rpc::put(&channel, "key", "value").await.expect("nothing is behind");
    assert_eq!(metric(replica, "vr_writes_delayed_total").await, Some(0.0));

    store.go().await;
    rpc::put(&channel, "lacking", "value").await.expect("nothing is behind yet");
    let name = "vr_checkpoint_lag_seconds{tier=\"objectStore\"}";
    eventually("it is far behind", async || {
        (metric(replica, name).await? > LIMIT.as_secs_f64() * 1.5).then_some(())
    })
    .await;
    assert_eq!(metric(replica, "vr_writes_admission").await, Some(1.0));
    let began = Instant::now();
    for _ in 0..=WRITES {
        rpc::put(&channel, "key", "value").await.expect("slow, and accepted");
    }
    let slow = began.elapsed();
    assert!(slow >= Duration::from_millis(900), "ten a second at most: {slow:?}");
    let began = Instant::now();
    rpc::get(&channel, "key").await.expect("reads are served");
    assert!(began.elapsed() < SOON);

    store.come().await;
    eventually("it has caught up", async || {
        (metric(replica, "vr_writes_admission").await? == 0.0).then_some(())
    })
    .await;
    assert!(metric(replica, "vr_writes_delayed_total").await >= Some(f64::from(WRITES)));
}
