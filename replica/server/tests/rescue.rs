//! What a replica has by itself is brought to the object store where nobody leads any more: the memory of a survivor, and
//! what the disks of one lead to that has lost its memory.

mod cluster;

use std::net::SocketAddr;
use std::time::Duration;

use cluster::object_store::ObjectStore;
use cluster::{Cluster, Replica, eventually, ports, rpc};
use tonic::Code;
use tonic::transport::Endpoint;
use vr_proto::control::control_client::ControlClient;
use vr_proto::control::{CutRequest, CutResponse};
use vr_replica::config::Span;
use vr_replica::status::Report;

const NEVER: Span = Span(Duration::from_secs(3600));

/// Three replicas whose object store gets nothing by itself once they have begun.
async fn cluster(store: &ObjectStore) -> (Cluster, Vec<SocketAddr>) {
    let control: Vec<SocketAddr> =
        ports::free(3).into_iter().map(|port| ([127, 0, 0, 1], port).into()).collect();
    let cluster = Cluster::start_as(3, |raw| {
        store.join(raw);
        let tier = raw.tiers.as_mut().and_then(|tiers| tiers.object_store.as_mut()).expect("it has joined");
        (tier.checkpoint_interval, tier.log_interval) = (Some(NEVER), Some(NEVER));
        let place = usize::try_from(raw.replica_id.expect("it has an id")).expect("few") - 1;
        raw.control_address = Some(control[place]);
    })
    .await;
    (cluster, control)
}

async fn cut(control: SocketAddr, leaderless: bool) -> Result<CutResponse, tonic::Status> {
    let channel = Endpoint::from_shared(format!("http://{control}")).expect("a URL").connect_lazy();
    let request =
        CutRequest { tiers: vec!["objectStore".to_owned()], timeout_ms: 20_000, leaderless, fence: None };
    ControlClient::new(channel).cut(request).await.map(tonic::Response::into_inner)
}

async fn report(replica: &Replica) -> Report {
    eventually("it says how it is", async || replica.status().await).await
}

fn reaches(report: &Report, name: &str) -> u64 {
    report.tiers.iter().find(|tier| tier.tier == name).map_or(0, |tier| tier.recovery_op)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_survivor_is_brought_to_the_object_store() {
    let store = ObjectStore::start().await;
    let (mut cluster, control) = cluster(&store).await;
    let primary = cluster.settled().await;
    let survivor = (primary + 1) % 3;
    for number in 0..20 {
        let channel = cluster.replicas[survivor].channel();
        rpc::put(&channel, format!("key/{number}"), "value").await.expect("it is served");
    }
    // Not as long as somebody leads.
    let refused = cut(control[survivor], true).await.expect_err("a primary leads");
    assert!(refused.message().contains("a primary leads"), "{refused}");
    let before = report(&cluster.replicas[survivor]).await;
    assert!(reaches(&before, "objectStore") < before.commit, "nothing is shipped by itself: {before:?}");

    for other in (0..3).filter(|other| *other != survivor) {
        cluster.replicas[other].kill();
        for disk in ["nvme", "volume"] {
            std::fs::remove_dir_all(cluster.replicas[other].disk(disk)).expect("its disks are gone");
        }
    }
    let saved = eventually("it hands in what it has", async || cut(control[survivor], true).await.ok()).await;
    let after = report(&cluster.replicas[survivor]).await;
    assert!(saved.op >= before.commit, "op {} of {before:?}", saved.op);
    assert!(reaches(&after, "objectStore") >= before.commit, "{after:?}");
    // It has what it had, and asking again is answered at once.
    assert!(after.op >= before.op, "{after:?}");
    assert_eq!(cut(control[survivor], true).await.expect("it is there").op, saved.op);
    // What needs a primary is still refused.
    assert_eq!(cut(control[survivor], false).await.expect_err("nobody leads").code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_disks_lead_to_is_brought_to_the_object_store() {
    let store = ObjectStore::start().await;
    let (mut cluster, control) = cluster(&store).await;
    // One that hears from whoever led last, who has lost its memory as well.
    let asked = (cluster.settled().await + 1) % 3;
    for number in 0..20 {
        rpc::put(&cluster.replicas[0].channel(), format!("key/{number}"), "value").await.expect("served");
    }
    let commit = report(&cluster.replicas[0]).await.commit;
    eventually("a disk has all of it", async || {
        (reaches(&report(&cluster.replicas[asked]).await, "volume") >= commit).then_some(())
    })
    .await;
    cluster.replicas.iter_mut().for_each(Replica::kill);
    cluster.replicas.iter_mut().for_each(Replica::start);
    eventually("all have lost their memory", async || {
        (report(&cluster.replicas[asked]).await.status == "QuorumLost").then_some(())
    })
    .await;
    let saved = eventually("it hands in what it has", async || cut(control[asked], true).await.ok()).await;
    assert!(saved.op >= commit, "op {} of {commit}", saved.op);
    assert!(reaches(&report(&cluster.replicas[asked]).await, "objectStore") >= commit);
}
