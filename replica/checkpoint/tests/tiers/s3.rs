//! The writer and the restore over HTTP, against a server that misbehaves on demand.

use crate::support::{cut, entry, newest, newest_op, open, retained, source, state};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vr_checkpoint::s3_server::{Act, Faults, Options, Rule, Server, Verb};
use vr_checkpoint::store::{ObjectStore, S3Keys, S3Location, S3Store};

async fn server(dir: &tempfile::TempDir) -> (Server, Arc<dyn ObjectStore>) {
    let keys = S3Keys { access_key: "key".to_owned(), secret_key: "secret".to_owned() };
    let options = Options {
        access_key: keys.access_key.clone(),
        secret_key: keys.secret_key.clone(),
        buckets: vec!["bucket".to_owned()],
        faults: Faults::default(),
    };
    let server = Server::start(dir.path(), ([127, 0, 0, 1], 0).into(), options).await.expect("starts");
    let location = S3Location {
        endpoint: Some(server.endpoint()),
        bucket: "bucket".to_owned(),
        prefix: "p/lineage".to_owned(),
        region: None,
        path_style: true,
        kms_key: None,
        keys: Some(keys),
    };
    let store = S3Store::open(&location).await.expect("an honest store");
    (server, Arc::new(store))
}

/// The first words of a request to a server that answers nothing good.
async fn asked(location: impl FnOnce(String) -> S3Location) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let location = location(format!("http://{}", listener.local_addr().expect("bound")));
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody asks");
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("it goes on") > 0, "the request ended early");
        }
        let no = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(no).await.expect("it listens");
        String::from_utf8_lossy(&head).to_lowercase()
    });
    S3Store::open(&location).await.expect_err("it was refused");
    heard.await.expect("it was heard")
}

#[tokio::test]
async fn a_write_names_the_key_of_kms_and_the_region_where_there_are_some() {
    let location = |region: Option<&str>, kms_key: Option<&str>| {
        let (region, kms_key) = (region.map(str::to_owned), kms_key.map(str::to_owned));
        move |endpoint| S3Location {
            endpoint: Some(endpoint),
            bucket: "bucket".to_owned(),
            prefix: String::new(),
            region,
            path_style: true,
            kms_key,
            keys: Some(S3Keys { access_key: "key".to_owned(), secret_key: "secret".to_owned() }),
        }
    };
    let plain = asked(location(None, None)).await;
    assert!(plain.starts_with("put /bucket/probe/"), "{plain}");
    assert!(
        plain.contains("/us-east-1/s3/aws4_request") && !plain.contains("server-side-encryption"),
        "{plain}"
    );
    let encrypted = asked(location(Some("eu-central-1"), Some("arn:aws:kms:eu-central-1:1:key/k"))).await;
    for header in [
        "x-amz-server-side-encryption: aws:kms\r\n",
        "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-central-1:1:key/k\r\n",
        "/eu-central-1/s3/aws4_request",
    ] {
        assert!(encrypted.contains(header), "no {header} in {encrypted}");
    }
}

fn rule(verb: Verb, path: &str, times: u32, act: Act) -> Rule {
    Rule { verb, path_contains: path.to_owned(), skip: 0, times, act }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_at_any_step_of_a_checkpoint_is_overcome() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, store) = server(&dir).await;
    let mut writer = open(&store, 1, 100).await.expect("opens");
    let mut expected = Vec::new();
    for path in ["/tree/", "/data/", "/idx/", "/ckpt/", "/HEAD"] {
        for act in [Act::Status(503), Act::Status(409), Act::Status(500), Act::LoseResponse] {
            let op = expected.len() as u64 + 1;
            server.faults().add(rule(Verb::Put, path, 1, act));
            writer.checkpoint(&cut(op), &state(op)).await.unwrap_or_else(|e| panic!("{path} {act:?}: {e}"));
            assert_eq!(server.faults().pending(), 0, "{path} {act:?} has struck");
            expected.push(op);
            assert_eq!(retained(&store).await, expected, "{path} {act:?}: each once");
        }
    }
    server.faults().add(rule(Verb::Put, "/log/", 1, Act::LoseResponse));
    let last = expected.len() as u64;
    writer.ship_log(&[entry(last + 1)]).await.expect("reads back what became of it");
    let loaded = newest(&[source("s3", &store)]).await.expect("there").expect("loads");
    assert_eq!((loaded.manifest.op, loaded.entries.len()), (last, 1));
    assert_eq!(loaded.snapshot.root(), state(last).root());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_keeps_what_it_has_and_is_gone_on_with_later() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, store) = server(&dir).await;
    let mut writer = open(&store, 1, 3).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    for (op, path) in [(2, "/data/"), (3, "/ckpt/"), (4, "/HEAD")] {
        server.faults().add(rule(Verb::Put, path, u32::MAX, Act::Status(503)));
        writer.checkpoint(&cut(op), &state(op)).await.expect_err("stays away");
        server.faults().clear();
        assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1], 1), "{path}");
    }
    // As the chain does it: what was known is forgotten.
    let mut writer = open(&store, 1, 3).await.expect("opens");
    writer.checkpoint(&cut(5), &state(5)).await.expect("ships");
    assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1, 5], 5));

    server.faults().add(rule(Verb::Get, "/data/", u32::MAX, Act::TruncateBody(100)));
    let error = newest(&[source("s3", &store)]).await.expect("there").err().expect("cut").to_string();
    assert!(error.contains("missing or corrupt"), "{error}");
    server.faults().clear();
    assert_eq!(newest_op(&store).await, 5);
}

/// Keys that end in the middle of an upload: what the tier says, and that it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_the_middle_of_an_upload_is_named_and_gone_on_with_later() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (server, store) = server(&dir).await;
    let mut writer = open(&store, 1, 9).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    let (forbids, ends) =
        ((Act::Status(403), "check the credentials and what they permit"), (Act::Expired, "get new ones"));
    for (op, path, (act, says)) in
        [(2, "/data/", forbids), (3, "/idx/", ends), (4, "/ckpt/", forbids), (5, "/HEAD", ends)]
    {
        server.faults().add(rule(Verb::Put, path, u32::MAX, act));
        let error = writer.checkpoint(&cut(op), &state(op)).await.expect_err("refused").to_string();
        assert!(error.contains(says), "{path}: {error}");
        server.faults().clear();
        assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1], 1), "{path}");
    }
    let mut writer = open(&store, 1, 9).await.expect("opens");
    writer.checkpoint(&cut(6), &state(6)).await.expect("ships");
    assert_eq!((retained(&store).await, newest_op(&store).await), (vec![1, 6], 6));
}
