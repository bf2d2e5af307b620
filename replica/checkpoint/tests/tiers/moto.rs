//! The tier over an S3 server that somebody else wrote: moto's, from PyPI, where `VR_MOTO` names a Python that has it.
//!
//! It honours conditional writes, which is what the format rests on, so all of a tier's life is tried on it. What it does
//! not do is not tried: it takes an object whose checksum is wrong, so it says nothing about damage on the way there.

use super::support::{LINEAGE, cut, entry, open, state};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use vr_checkpoint::format::Parent;
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::store::{Created, ObjectStore, S3Keys, S3Location, S3Store, Swapped};
use vr_checkpoint::verify::{self, Depth};
use vr_checkpoint::writer::WriteError;

const BUCKET: &str = "tiers";

/// The server; ends with the test.
struct Moto {
    process: Child,
    address: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Moto {
    /// None where there is none and none is required.
    fn start() -> Option<Moto> {
        let Some(python) = std::env::var_os("VR_MOTO") else {
            assert!(
                std::env::var_os("VR_MOTO_REQUIRED").is_none(),
                "VR_MOTO names no Python: see .ci/python.sh"
            );
            eprintln!(
                "skipped: VR_MOTO names no Python that has moto; `.ci/python.sh moto moto.server,flask` makes one"
            );
            return None;
        };
        let mut process = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("VR_MOTO is a Python");
        let mut log = BufReader::new(process.stderr.take().expect("piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if log.read_line(&mut line).expect("readable") == 0 {
                panic!("moto has ended:\n{said}");
            }
            if let Some((_, at)) = line.split_once("Running on http://") {
                break at.trim().to_owned();
            }
            said.push_str(&line);
        };
        // It must not stand still because nobody reads what it says.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let moto = Moto { process, address };
        let answer = moto.ask(&format!("PUT /{BUCKET} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket was made: {answer}");
        Some(moto)
    }

    /// A request that needs no signature, without a body.
    fn ask(&self, request: &str) -> String {
        let mut connection = std::net::TcpStream::connect(&self.address).expect("it listens");
        let lines =
            format!("{request}\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.address);
        connection.write_all(lines.as_bytes()).expect("sends");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("answers");
        answer
    }

    fn location(&self, prefix: &str) -> S3Location {
        let keys = S3Keys { access_key: "key".to_owned(), secret_key: "secret".to_owned() };
        S3Location {
            endpoint: Some(format!("http://{}", self.address)),
            bucket: BUCKET.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            path_style: true,
            kms_key: None,
            keys: Some(keys),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_lives_on_an_s3_server_of_others() {
    let Some(moto) = Moto::start() else { return };
    let location = moto.location("p/lineage");
    let store: Arc<dyn ObjectStore> =
        Arc::new(S3Store::open(&location).await.expect("it honours conditional writes"));
    let lineage = LINEAGE.to_string();
    let mut writer = open(&store, 1, 2).await.expect("opens");
    for op in [1, 4, 7] {
        writer.checkpoint(&cut(op), &state(op)).await.expect("ships");
        writer.ship_log(&[entry(op + 1), entry(op + 2)]).await.expect("ships");
    }
    writer.reserve(500).await.expect("reserves");
    let sources =
        [Source { name: "moto".to_owned(), tier: TierKind::ObjectStore, store: Arc::clone(&store) }];
    let report = verify::verify(&sources[0], &lineage, verify::Only::default(), Depth::Root).await;
    assert!(report.ok() && report.checkpoints.len() == 2, "{report:?}");
    let inventory = restore::inventory(&sources, &lineage).await;
    let loaded = restore::load(&inventory.candidates[0], &sources, None).await.expect("loads");
    assert_eq!((loaded.manifest.op, loaded.entries.len()), (7, 2));
    assert_eq!((loaded.snapshot.root(), inventory.reserved_revision), (state(7).root(), 500));

    // What is let go of goes, and only that.
    let before = store.list("g/").await.expect("lists").len();
    writer.collect(Duration::ZERO).await.expect("plans");
    let deleted = writer.collect(Duration::ZERO).await.expect("collects");
    let after = store.list("g/").await.expect("lists").len();
    assert!(after < before, "{before} objects, {after} after, {deleted} in the second run");
    let report = verify::verify(&sources[0], &lineage, verify::Only::default(), Depth::Root).await;
    assert!(report.ok() && report.checkpoints.len() == 2, "{report:?}");

    // What is replaced is there anew.
    let key = store.list("g/").await.expect("lists").remove(0).key;
    let body = store.get(&key).await.expect("reads").expect("there");
    assert_eq!(store.replace(&key, body.clone()).await.expect("writes"), Created::Yes);
    assert_eq!(store.get(&key).await.expect("reads"), Some(body));

    // The past stops for good.
    let parent = Parent { generation: 1, op: 9, root: "00".repeat(32) };
    restore::fence(&*store, &parent, 2, 500, "restore").await.expect("fences");
    let fenced = writer.checkpoint(&cut(10), &state(10)).await.expect_err("is of the past");
    assert!(matches!(fenced, WriteError::Fenced { .. }), "{fenced}");
    assert!(matches!(open(&store, 1, 2).await, Err(WriteError::Fenced { .. })));

    let missing = S3Store::open(&S3Location { bucket: "nowhere".to_owned(), ..location }).await;
    let said = missing.expect_err("there is no such bucket").to_string();
    assert!(said.contains("create the bucket or correct its name"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_race_one_wins() {
    let Some(moto) = Moto::start() else { return };
    let location = moto.location("race");
    for round in 0..5 {
        let key = format!("g/0000000000000001/{round}");
        let expected =
            S3Store::open(&location).await.expect("opens").head().await.expect("reads").map(|h| h.1);
        let racers = (0..8u8).map(|racer| {
            let (location, key, expected) = (location.clone(), key.clone(), expected.clone());
            tokio::spawn(async move {
                let store = S3Store::open(&location).await.expect("opens");
                let created = store.create(&key, Bytes::from(vec![racer])).await.expect("answers");
                let body = Bytes::from(vec![round, racer]);
                let swapped = store.swap_head(expected.as_ref(), body).await.expect("answers");
                (created == Created::Yes, swapped == Swapped::Yes, racer)
            })
        });
        let mut won = (Vec::new(), Vec::new());
        for racer in racers.collect::<Vec<_>>() {
            let (created, swapped, racer) = racer.await.expect("ends");
            created.then(|| won.0.push(racer));
            swapped.then(|| won.1.push(racer));
        }
        assert_eq!((won.0.len(), won.1.len()), (1, 1), "round {round}: {won:?}");
        let store = S3Store::open(&location).await.expect("opens");
        assert_eq!(store.get(&key).await.expect("reads"), Some(Bytes::from(won.0)));
        let (head, _) = store.head().await.expect("reads").expect("there");
        assert_eq!(head, Bytes::from(vec![round, won.1[0]]));
    }
}

/// A bucket that somebody deletes, and an empty one that is made in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_is_named_and_not_begun_again() {
    let Some(moto) = Moto::start() else { return };
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(&moto.location("p")).await.expect("opens"));
    let mut writer = open(&store, 1, 2).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    let answer = moto.ask("POST /moto-api/reset HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let error = writer.checkpoint(&cut(2), &state(2)).await.expect_err("no bucket").to_string();
    assert!(error.contains("create the bucket or correct its name"), "{error}");
    let answer = moto.ask(&format!("PUT /{BUCKET} HTTP/1.1"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let error = writer.checkpoint(&cut(2), &state(2)).await.expect_err("no HEAD").to_string();
    assert!(error.contains("HEAD is gone: somebody deleted it"), "{error}");
    assert_eq!(store.head().await.expect("reads"), None);
}
