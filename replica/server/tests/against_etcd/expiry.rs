//! Leases whose time is over, on both sides: what they raise a small time to, and what stands there afterwards.

use std::time::{Duration, Instant};

use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_request::RequestUnion;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::server;
use crate::watch::{self, Stream};

/// The smallest time to live is about two seconds; expiry itself may take as long again.
const PATIENCE: Duration = Duration::from_secs(20);

async fn expired(client: &Client, id: i64) {
    let started = Instant::now();
    loop {
        let call = Call::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true });
        match client.call(&call).await {
            Answer::TimeToLive(answer) if answer.ttl == -1 => return,
            answer => {
                assert!(started.elapsed() < PATIENCE, "{}: lease {id} lives on: {answer:?}", client.name)
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Grants, attaches, waits, and reads what is left; everything that was answered.
async fn story(client: &Client) -> (Vec<Answer>, watch::Told) {
    let everything =
        pb::WatchCreateRequest { range_end: vec![0].into(), prev_kv: true, ..Default::default() };
    let stream = Stream::open(client, &[RequestUnion::CreateRequest(everything)]).await.expect("it serves");
    let mut answers = Vec::new();
    for call in [
        Call::Grant(pb::LeaseGrantRequest { id: 9, ttl: 1 }),
        Call::Grant(pb::LeaseGrantRequest { id: 10, ttl: 5_000 }),
        Call::put("stays", "1", 10),
        Call::put("z goes", "2", 9),
        Call::put("a goes", "3", 9),
        Call::put("moved in time", "4", 9),
        Call::put("moved in time", "5", 10),
    ] {
        answers.push(client.call(&call).await);
    }
    expired(client, 9).await;
    for call in [
        Call::everything(),
        Call::put("too late", "6", 9),
        Call::KeepAlive(pb::LeaseKeepAliveRequest { id: 9 }),
        Call::TimeToLive(pb::LeaseTimeToLiveRequest { id: 10, keys: true }),
        Call::Leases(pb::LeaseLeasesRequest {}),
        Call::HashKv(pb::HashKvRequest { revision: 0 }),
    ] {
        answers.push(client.call(&call).await);
    }
    let revision = answers.iter().filter_map(Answer::revision).max().expect("most answers have a header");
    (answers, stream.told_up_to(1, revision).await.expect("the watcher sees the deletions"))
}

#[tokio::test]
async fn leases_expire_as_with_etcd() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    let (reference, other) = (server::etcd(&binary).await, server::replicas(1).await);
    let ((theirs, saw), (ours, we_saw)) = tokio::join!(story(&reference.client), story(&other[0].client));
    for (their, our) in theirs.iter().zip(&ours) {
        assert_eq!(their, our, "etcd's answer left, the replica's right");
    }
    if let Some(difference) = watch::difference(&saw, &we_saw) {
        panic!("{difference}");
    }
}
