//! What is large: requests at the limit, and watch responses above it.

use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_request::RequestUnion;

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;
use crate::server;
use crate::watch::{self, Stream, Told};

/// etcd's default limit of a request.
const LIMIT: usize = 1536 * 1024;
/// And of a fragment: as much again as gRPC lets in above that.
const FRAGMENT: usize = LIMIT + 512 * 1024;
/// Together well above the limit, each far below it.
const VALUES: usize = 24;
const VALUE_BYTES: usize = 100_000;

async fn story(client: &Client) -> (Vec<Answer>, Told) {
    let mut answers = Vec::new();
    answers.push(client.call(&Call::put("too large", &"v".repeat(LIMIT + 100_000), 0)).await);
    // Its transport takes half a MiB more than that, and no byte above.
    for spare in [200, 0] {
        let value = "v".repeat(FRAGMENT - spare);
        answers.push(client.call(&Call::put("more than the transport takes", &value, 0)).await);
    }
    answers.push(client.call(&Call::put("just small enough", &"v".repeat(LIMIT - 100_000), 0)).await);
    for n in 0..VALUES {
        answers.push(client.call(&Call::put(&format!("many/{n:02}"), &"v".repeat(VALUE_BYTES), 0)).await);
    }
    answers.push(client.call(&Call::everything()).await);
    let past = pb::WatchCreateRequest {
        key: "many/".into(),
        range_end: "many0".into(),
        start_revision: 2,
        fragment: true,
        ..Default::default()
    };
    let stream = Stream::open(client, &[RequestUnion::CreateRequest(past)]).await.expect("it serves");
    let revision = answers.iter().filter_map(Answer::revision).max().expect("most answers have a header");
    let largest_of = |all: &[pb::WatchResponse]| all.iter().map(prost::Message::encoded_len).max();
    stream
        .wait("all events", |all| all.iter().map(|r| r.events.len()).sum::<usize>() == VALUES)
        .await
        .expect("history is read");
    let largest = stream.look(largest_of).expect("there were responses");
    assert!(largest <= FRAGMENT, "{}: a fragment of {largest} bytes", client.name);
    (answers, stream.told_up_to(1, revision).await.expect("the watcher sees the puts"))
}

#[tokio::test]
async fn large_values_travel_as_with_etcd() {
    let Some(binary) = server::binary("VR_ETCD", "etcd") else { return };
    let (reference, other) = (server::etcd(&binary).await, server::replicas(1).await);
    let ((theirs, saw), (ours, we_saw)) = tokio::join!(story(&reference.client), story(&other[0].client));
    for (place, (their, our)) in theirs.iter().zip(&ours).enumerate() {
        // Not assert_eq: nobody wants to read megabytes.
        assert!(their == our, "answer {place} differs; refused: {:?} and {:?}", refusal(their), refusal(our));
    }
    assert!(watch::difference(&saw, &we_saw).is_none(), "the watchers were told different things");
}

fn refusal(answer: &Answer) -> Option<&str> {
    if let Answer::Refused { message, .. } = answer { Some(message) } else { None }
}
