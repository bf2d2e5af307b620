//! Replicas that were away while the members changed, and whom nobody remembers.

mod cluster;

use cluster::{Cluster, eventually, rpc};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::cluster_client::ClusterClient;

/// The others keep connections only to members, and to those of the epoch before for a while and as long as they run.
/// They are started anew here, so that only the one who comes back knows where everybody is.
#[tokio::test]
async fn a_replica_that_was_removed_while_it_was_away_is_told_so_and_ends() {
    let mut cluster = Cluster::start(3).await;
    cluster.settled().await;
    let [first, second, away] = cluster.replicas.as_mut_slice() else { unreachable!("three were started") };
    away.kill();
    let mut members = ClusterClient::new(first.channel());
    let list =
        members.member_list(pb::MemberListRequest { linearizable: true }).await.expect("a quorum is there");
    let address = format!("http://{}", away.client);
    let gone = list.into_inner().members.into_iter().find(|member| member.client_ur_ls.contains(&address));
    let id = gone.expect("it is a member").id;
    eventually("the two that are left agree to go on alone", async || {
        members.member_remove(pb::MemberRemoveRequest { id }).await.ok()
    })
    .await;
    for replica in [&mut *first, &mut *second] {
        assert_eq!(replica.stop().await, Some(0), "{}", replica.log());
    }
    first.start();
    second.start();
    first.ready().await.expect("it remembers");
    second.ready().await.expect("it remembers");
    let (status, said) = away.refused(&[]).await;
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("replica 3 is no member since epoch 1"), "{said}");
    rpc::put(&first.channel(), "a", "b").await.expect("the two go on");
}
