//! The server as its clients see it: the tier's own store, and the SDK where the store does not go.

use super::*;
use crate::store::tests::keeps_the_contract;
use crate::store::{Created, ObjectStore, S3Keys, S3Location, S3Store, StoreError, Swapped};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

async fn start(dir: &Path) -> Server {
    let options = Options {
        access_key: "key".to_owned(),
        secret_key: "secret".to_owned(),
        buckets: vec!["bucket".to_owned()],
        faults: Faults::default(),
    };
    Server::start(dir, ([127, 0, 0, 1], 0).into(), options).await.expect("a free port and a fresh directory")
}

fn location(server: &Server) -> S3Location {
    S3Location {
        endpoint: Some(server.endpoint()),
        bucket: "bucket".to_owned(),
        prefix: "a/lineage".to_owned(),
        region: None,
        path_style: true,
        kms_key: None,
        keys: Some(S3Keys { access_key: "key".to_owned(), secret_key: "secret".to_owned() }),
    }
}

async fn store(server: &Server) -> S3Store {
    S3Store::open(&location(server)).await.expect("an honest store")
}

fn client(server: &Server) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

fn rule(verb: Verb, path: &str, act: Act) -> Rule {
    Rule { verb, path_contains: path.to_owned(), skip: 0, times: 1, act }
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[tokio::test]
async fn the_store_of_a_tier_keeps_its_contract_on_it_and_a_restart_forgets_nothing() {
    let dir = dir();
    let server = start(dir.path()).await;
    let store = store(&server).await;
    keeps_the_contract(&store).await;
    let refused = Server::start(
        dir.path(),
        ([127, 0, 0, 1], 0).into(),
        Options {
            access_key: String::new(),
            secret_key: String::new(),
            buckets: vec![],
            faults: Faults::default(),
        },
    );
    assert!(matches!(refused.await.err(), Some(StartError::InUse(_))));
    server.stop().await;
    let again = start(dir.path()).await;
    let store = S3Store::connect(&location(&again)).await;
    assert_eq!(store.head().await.expect("works").expect("there").0, Bytes::from_static(b"two"));
    assert_eq!(store.list("g/").await.expect("works").len(), 4);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_by_name() {
    let dir = dir();
    let server = start(dir.path()).await;
    server.faults().ignore_conditions(true);
    let error = S3Store::open(&location(&server)).await.expect_err("dishonest").to_string();
    assert!(error.contains("s3://bucket/a/lineage at http://127.0.0.1:"), "{error}");
    assert!(error.contains("ignored If-None-Match and overwrote"), "{error}");
    server.faults().ignore_conditions(false);
    store(&server).await;
}

#[tokio::test]
async fn one_of_eight_racing_creators_wins() {
    let dir = dir();
    let server = start(dir.path()).await;
    let store = store(&server).await;
    for round in 0..5 {
        let key = format!("g/{round}");
        let racers = (0..8u8).map(|i| store.create(&key, Bytes::from(vec![i; 70_000])));
        let outcomes = futures_util::future::join_all(racers).await;
        let won: Vec<usize> = (0..8).filter(|i| matches!(outcomes[*i], Ok(Created::Yes))).collect();
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Created::Exists))).count();
        assert_eq!((won.len(), lost), (1, 7), "{outcomes:?}");
        let body = store.get(&key).await.expect("works").expect("there");
        assert_eq!(body, vec![won[0] as u8; 70_000], "what stands is what the winner wrote");
    }
}

#[tokio::test]
async fn a_lost_answer_and_a_busy_store_are_unknown_and_reading_back_tells() {
    let dir = dir();
    let server = start(dir.path()).await;
    let store = store(&server).await;
    server.faults().add(rule(Verb::Put, "/lost", Act::LoseResponse));
    assert_eq!(
        store.create("lost", Bytes::from_static(b"mine")).await.expect("an outcome"),
        Created::Unknown
    );
    assert_eq!(store.get("lost").await.expect("works"), Some(Bytes::from_static(b"mine")), "it had happened");
    for status in [409, 500, 503] {
        server.faults().add(rule(Verb::Put, "/busy", Act::Status(status)));
        assert_eq!(
            store.create("busy", Bytes::new()).await.expect("an outcome"),
            Created::Unknown,
            "{status}"
        );
        assert_eq!(store.get("busy").await.expect("works"), None, "it had not happened");
    }
    server.faults().add(rule(Verb::Put, "/HEAD", Act::LoseResponse));
    assert_eq!(store.swap_head(None, Bytes::from_static(b"1")).await.expect("an outcome"), Swapped::Unknown);
    assert_eq!(store.head().await.expect("works").expect("there").0, Bytes::from_static(b"1"));
    assert_eq!(server.faults().pending(), 0, "every fault struck");
}

#[tokio::test]
async fn reads_survive_cut_slow_and_refused_answers() {
    let dir = dir();
    let server = start(dir.path()).await;
    let store = store(&server).await;
    let body = Bytes::from(vec![7; 300_000]);
    store.create("big", body.clone()).await.expect("works");
    server.faults().add(rule(Verb::Get, "/big", Act::TruncateBody(100_000)));
    assert_eq!(store.get("big").await.expect("the second try is whole"), Some(body.clone()));
    server.faults().add(rule(Verb::Get, "/big", Act::Status(503)));
    assert_eq!(store.get_range("big", 5, 10).await.expect("the second try"), Some(body.slice(5..15)));
    server.faults().add(rule(Verb::Get, "/big", Act::SlowBody(std::time::Duration::from_millis(1))));
    assert_eq!(store.get("big").await.expect("slow"), Some(body));
    assert_eq!(server.faults().pending(), 0, "every fault struck");
}

#[tokio::test]
async fn wrong_places_and_wrong_keys_are_told_apart() {
    let dir = dir();
    let server = start(dir.path()).await;
    let mut wrong = location(&server);
    wrong.bucket = "nosuchbucket".to_owned();
    let error = S3Store::open(&wrong).await.expect_err("no such bucket");
    assert!(error.to_string().contains("create the bucket or correct its name"), "{error}");
    assert!(matches!(error, StoreError::Permanent { .. }));
    let error = S3Store::connect(&wrong).await.head().await.expect_err("no such bucket is not no HEAD");
    assert!(matches!(error, StoreError::Permanent { .. }), "{error}");
    for keys in [("key", "wrong"), ("other", "secret")] {
        let mut wrong = location(&server);
        wrong.keys = Some(S3Keys { access_key: keys.0.to_owned(), secret_key: keys.1.to_owned() });
        let error = S3Store::open(&wrong).await.expect_err("wrong keys");
        assert!(error.to_string().contains("check the credentials"), "{error}");
    }
    let gone = location(&server);
    server.stop().await;
    let error = S3Store::open(&gone).await.expect_err("nobody listens");
    assert!(matches!(error, StoreError::Transient { .. }), "{error}");
}

#[tokio::test]
async fn an_unsigned_request_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = dir();
    let server = start(dir.path()).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.expect("listens");
    let request = b"PUT /bucket/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    stream.write_all(request).await.expect("takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn what_does_not_match_its_checksum_never_becomes_an_object() {
    let dir = dir();
    let server = start(dir.path()).await;
    let client = client(&server);
    let put = || client.put_object().bucket("bucket").key("x").body(ByteStream::from_static(b"body"));
    let wrong = put().checksum_crc64_nvme("AAAAAAAAAAA=").send().await.expect_err("another body's checksum");
    assert_eq!(wrong.raw_response().map(|r| r.status().as_u16()), Some(400));
    let wrong = put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await.expect_err("another body's MD5");
    assert_eq!(wrong.raw_response().map(|r| r.status().as_u16()), Some(400));
    let absent =
        client.head_object().bucket("bucket").key("x").send().await.expect_err("nothing became visible");
    assert_eq!(absent.raw_response().map(|r| r.status().as_u16()), Some(404));
    let right = put().metadata("a", "b").send().await.expect("right");
    let head = client.head_object().bucket("bucket").key("x").send().await.expect("there");
    assert_eq!((head.e_tag(), head.content_length()), (right.e_tag(), Some(4)));
    assert_eq!(head.metadata().and_then(|m| m.get("a")).map(String::as_str), Some("b"));
    let left = std::fs::read_dir(dir.path().join("bucket/tmp")).expect("there").count();
    assert_eq!(left, 0, "what was refused is not kept either");
}

#[tokio::test]
async fn deletes_honour_conditions() {
    let dir = dir();
    let server = start(dir.path()).await;
    let client = client(&server);
    let put = client.put_object().bucket("bucket").key("x").body(ByteStream::from_static(b"1")).send().await;
    let tag = put.expect("works").e_tag().expect("has a tag").to_owned();
    let delete = |tag: &str| client.delete_object().bucket("bucket").key("x").if_match(tag).send();
    let lost = delete("\"00000000000000000000000000000000\"").await.expect_err("another object");
    assert_eq!(lost.raw_response().map(|r| r.status().as_u16()), Some(412));
    delete(&tag).await.expect("the very object");
    let gone = client.get_object().bucket("bucket").key("x").send().await.expect_err("gone");
    assert_eq!(gone.raw_response().map(|r| r.status().as_u16()), Some(404));
}

#[tokio::test]
async fn listings_come_in_pages_and_fold_at_a_delimiter() {
    let dir = dir();
    let server = start(dir.path()).await;
    let client = client(&server);
    for key in ["a", "b/1", "b/2", "b/3", "c/1", "d"] {
        client.put_object().bucket("bucket").key(key).send().await.expect("works");
    }
    for delimiter in [None, Some("/")] {
        let (mut next, mut seen, mut pages) = (None::<String>, Vec::new(), 0);
        loop {
            let page = client.list_objects_v2().bucket("bucket").max_keys(2).set_continuation_token(next);
            let page = page.set_delimiter(delimiter.map(str::to_owned)).send().await.expect("works");
            seen.extend(page.contents().iter().filter_map(|o| o.key()).map(str::to_owned));
            seen.extend(page.common_prefixes().iter().filter_map(|p| p.prefix()).map(str::to_owned));
            pages += 1;
            next = page.next_continuation_token().map(str::to_owned);
            assert_eq!(page.is_truncated(), Some(next.is_some()));
            if next.is_none() {
                break;
            }
        }
        seen.sort();
        match delimiter {
            None => assert_eq!((seen.join(" "), pages), ("a b/1 b/2 b/3 c/1 d".to_owned(), 3)),
            Some(_) => assert_eq!((seen.join(" "), pages), ("a b/ c/ d".to_owned(), 2)),
        }
    }
}

#[tokio::test]
async fn an_upload_in_parts_becomes_one_object_once() {
    let dir = dir();
    let server = start(dir.path()).await;
    let client = client(&server);
    let upload = async || {
        let begun = client.create_multipart_upload().bucket("bucket").key("x").send().await.expect("begins");
        let id = begun.upload_id().expect("has an id").to_owned();
        let mut parts = CompletedMultipartUpload::builder();
        for (number, byte) in [(1, 1u8), (2, 2)] {
            let part = client.upload_part().bucket("bucket").key("x").upload_id(&id).part_number(number);
            let part = part.body(ByteStream::from(vec![byte; 1_500_000])).send().await.expect("kept");
            let tag = part.e_tag().expect("has a tag");
            parts = parts.parts(CompletedPart::builder().part_number(number).e_tag(tag).build());
        }
        let complete = client.complete_multipart_upload().bucket("bucket").key("x").upload_id(id);
        complete.multipart_upload(parts.build()).if_none_match("*").send().await
    };
    upload().await.expect("the first creates it");
    let lost = upload().await.expect_err("the second finds it there");
    assert_eq!(lost.raw_response().map(|r| r.status().as_u16()), Some(412));
    let get = client.get_object().bucket("bucket").key("x").send().await.expect("there");
    let body = get.body.collect().await.expect("whole").into_bytes();
    assert_eq!(body.len(), 3_000_000);
    assert!(body[..1_500_000].iter().all(|b| *b == 1) && body[1_500_000..].iter().all(|b| *b == 2));
}
