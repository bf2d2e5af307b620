//! Who comes to the peer port and is no peer of this replica is told why, both logs say it, and the others go on. What
//! certificates have to do with it is in `tls.rs`.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, Replica, eventually, http, rpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vr_replica::config::Raw;

const OTHER_LINEAGE: &str = "11111111-2222-4333-8444-555555555555";

async fn logged(replica: &Replica, text: &str) {
    eventually(&format!("replica {} logs {text:?}", replica.id), async || {
        replica.log().contains(text).then_some(())
    })
    .await;
}

async fn refused_connections(replica: &Replica) -> u64 {
    let (_, page) = http::get(replica.admin, "/metrics").await.expect("served");
    let line = page.lines().find_map(|line| line.strip_prefix("vr_peer_connections_refused_total "));
    line.expect("on the page").parse().expect("a number")
}

/// What is changed in a replica's configuration.
type Change = fn(&mut Raw);

/// Begins anew, with other disks and `change` made to its configuration.
fn start_as_another(replica: &mut Replica, change: impl FnOnce(&mut Raw)) {
    replica.kill();
    for tier in ["nvme", "volume"] {
        std::fs::remove_dir_all(replica.disk(tier)).expect("it was there");
    }
    replica.reconfigure(change);
    replica.start();
}

#[tokio::test]
async fn a_peer_of_another_lineage_or_generation_is_told_so() {
    let mut cluster = Cluster::start(3).await;
    cluster.settled().await;
    rpc::put(&cluster.replicas[0].channel(), "a", "b").await.expect("it is ready");
    let changes: [(Change, String); 2] = [
        (
            |raw| raw.lineage = Some(OTHER_LINEAGE.parse().expect("a UUID")),
            format!(
                "replica 3 there belongs to lineage {OTHER_LINEAGE}, replica 1 here to lineage {}: one of them has the \
                 wrong `lineage`",
                cluster::LINEAGE
            ),
        ),
        (
            |raw| {
                raw.lineage = Some(cluster::LINEAGE.parse().expect("a UUID"));
                raw.generation = Some(2);
            },
            "replica 3 there is of generation 2, replica 1 here of generation 1: the lower one is over"
                .to_owned(),
        ),
    ];
    for (change, reason) in changes {
        start_as_another(&mut cluster.replicas[2], change);
        logged(&cluster.replicas[0], &format!("connection refused: {reason}")).await;
        logged(&cluster.replicas[2], &format!("no connection to the peer: it says: {reason}")).await;
        // And the other way round.
        logged(&cluster.replicas[2], "connection refused: replica 1 there").await;
        logged(&cluster.replicas[0], "no connection to the peer: it says: replica 1 there").await;
        eventually("a write", async || rpc::put(&cluster.replicas[0].channel(), "c", "d").await.ok()).await;
        assert!(refused_connections(&cluster.replicas[0]).await > 0);
    }
    // It tries for ever, and the logs do not grow with that.
    let told = || cluster.replicas[0].log().matches("connection refused: replica 3").count();
    let before = refused_connections(&cluster.replicas[0]).await;
    eventually("it tries on", async || {
        (refused_connections(&cluster.replicas[0]).await > before + 20).then_some(())
    })
    .await;
    assert!(told() <= 20, "{} lines for one stubborn peer", told());
}

#[tokio::test]
async fn another_version_is_told_so_on_both_sides() {
    let mut cluster = Cluster::start(3).await;
    cluster.settled().await;
    // A newer replica dials.
    let mut newer = TcpStream::connect(cluster.replicas[0].peer).await.expect("it listens");
    newer.write_all(b"VRPEER\0\x02").await.expect("written");
    let mut said = String::new();
    let heard = tokio::time::timeout(Duration::from_secs(10), newer.read_to_string(&mut said)).await;
    heard.expect("the connection is closed").expect("in words");
    let reason = "version 2 of the peers' protocol is spoken by the one that dials, and version 1";
    assert!(said.starts_with(reason), "{said}");
    logged(&cluster.replicas[0], reason).await;

    // It is dialled, and refuses in the same way.
    cluster.replicas[2].kill();
    let listener = TcpListener::bind(cluster.replicas[2].peer).await.expect("free now");
    let answer = async {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            stream
                .write_all(b"version 1 is spoken by the one that dials, and version 2 here")
                .await
                .expect("sent");
        }
    };
    tokio::select! {
        () = answer => unreachable!("it accepts for ever"),
        () = logged(&cluster.replicas[0], "no connection to the peer: it says: version 1 is spoken") => {}
    }
}
