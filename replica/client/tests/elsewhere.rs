//! A replica that is there and takes nothing does not hold a client for ever.

use bytes::BytesMut;
use prost::Message as _;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vr_client::{Client, Error, Options, pb};
use vr_proto::client::{Answer, Fate, MAGIC, ToClient, ToReplica, Welcome, answer::Outcome};
use vr_proto::frame;

fn framed(message: &ToClient) -> BytesMut {
    let mut out = BytesMut::new();
    let start = frame::begin(&mut out);
    message.encode(&mut out).expect("a buffer that grows");
    frame::end(&mut out, start);
    out
}

/// Welcomes every client, one at a time, and answers all that it asks in the same way; where it listens.
async fn replica(outcome: Outcome) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = BytesMut::new();
            let mut begun = false;
            while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                if !begun && buffer.len() >= MAGIC.len() {
                    let _ = buffer.split_to(MAGIC.len());
                    begun = true;
                }
                while begun && let Some(payload) = frame::next_payload(&mut buffer).expect("well formed") {
                    let asked = ToReplica::decode(payload).expect("a client's message");
                    let welcome = asked.hello.map(|_| Welcome {
                        replica: 1,
                        opened: 1,
                        window: 8,
                        ..Welcome::default()
                    });
                    let answer = |number| Answer { number, outcome: Some(outcome.clone()) };
                    let answers = asked.requests.iter().map(|request| answer(request.number)).collect();
                    let said = ToClient { welcome, answers, ..ToClient::default() };
                    // The client may have gone elsewhere.
                    let _ = stream.write_all(&framed(&said)).await;
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn a_replica_that_takes_nothing_is_left_for_another() {
    let response = pb::response_op::Response::ResponsePut(pb::PutResponse::default());
    let takes_nothing = replica(Outcome::Fate(Fate::Rejected as i32)).await;
    let answers = replica(Outcome::Ok(pb::ResponseOp { response: Some(response) })).await;
    let options = Options { silence: Duration::from_millis(200), ..Options::to([takes_nothing, answers]) };
    let client = Client::new(options);
    let put = tokio::time::timeout(Duration::from_secs(10), client.put("a", "b"));
    put.await.expect("it goes on to the other").expect("that one answers");
}

#[tokio::test]
async fn without_endpoints_there_is_a_reason() {
    let client = Client::new(Options::to([]));
    for _ in 0..2 {
        assert_eq!(client.put("a", "b").await, Err(Error::Rejected));
    }
    assert_eq!(client.problem().as_deref(), Some("no endpoint is given"));
}

/// Who gives up on a service that cannot be reached, and drops the client, keeps no task behind.
#[tokio::test]
async fn a_client_that_nobody_waits_for_ends() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = nobody.local_addr().expect("it is bound").to_string();
    drop(nobody);
    let client = Client::new(Options::to([endpoint]));
    for _ in 0..3 {
        let put = tokio::time::timeout(Duration::from_millis(50), client.put("a", "b"));
        assert!(put.await.is_err(), "nobody answers");
    }
    let tasks = tokio::runtime::Handle::current().metrics();
    assert_eq!(tasks.num_alive_tasks(), 1);
    drop(client);
    let ended = async {
        while tasks.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the task ends");
}
