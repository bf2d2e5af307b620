//! The tier over S3 servers that others wrote: moto's, from PyPI, where `VR_MOTO` names a Python that has it, and Versity's
//! gateway, a module of Go, where `VR_VERSITYGW` names the program.
//!
//! Both honour conditional writes, which is what the format rests on, so all of a tier's life is tried on each. What one of
//! them does not do is not tried: moto takes an object whose checksum is wrong.

use super::support::{LINEAGE, cut, entry, open, state};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vr_checkpoint::format::Parent;
use vr_checkpoint::restore::{self, Source, TierKind};
use vr_checkpoint::store::{Created, ObjectStore, S3Keys, S3Location, S3Store, Swapped};
use vr_checkpoint::verify::{self, Depth};
use vr_checkpoint::writer::WriteError;

const BUCKET: &str = "tiers";
const KEYS: [&str; 2] = ["key", "secret-of-the-tests"];

/// One of them; ends with the test.
struct Server {
    process: Child,
    address: String,
    /// What Versity's keeps its objects in: each folder is a bucket.
    buckets: Option<TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a variable names; none where it names nothing and nobody requires that it does.
fn named(variable: &str, made_by: &str) -> Option<OsString> {
    let named = std::env::var_os(variable);
    if named.is_none() {
        assert!(std::env::var_os(format!("{variable}_REQUIRED")).is_none(), "{variable} names nothing");
        eprintln!("skipped: {variable} names nothing; `{made_by}` makes it");
    }
    named
}

/// All that are there, each with an empty bucket.
fn servers() -> Vec<Server> {
    let servers = [Server::moto(), Server::versity()];
    servers.into_iter().flatten().inspect(Server::make_bucket).collect()
}

impl Server {
    fn moto() -> Option<Server> {
        let python = named("VR_MOTO", "bash .ci/python.sh moto moto.server,flask")?;
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
        Some(Server { process, address, buckets: None })
    }

    fn versity() -> Option<Server> {
        let made_by = "bash .ci/go.sh versitygw versitygw=github.com/versity/versitygw/cmd/versitygw";
        let program = named("VR_VERSITYGW", made_by)?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [buckets, sidecar] = ["buckets", "sidecar"].map(|name| dir.path().join(name));
        for path in [&buckets, &sidecar] {
            std::fs::create_dir(path).expect("creates");
        }
        let [access, secret] = KEYS;
        let mut process = Command::new(program)
            .args(["--port", "127.0.0.1:0", "--access", access, "--secret", secret, "--quiet", "posix"])
            // What it notes of objects stands beside them: not every file system of a test has extended attributes.
            .arg("--sidecar")
            .args([&sidecar, &buckets])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("VR_VERSITYGW is a program");
        let began = Instant::now();
        // It does not say which port it was given.
        let port = loop {
            if let Some(port) = listens_on(process.id()) {
                break port;
            }
            assert!(process.try_wait().expect("a child").is_none(), "versitygw has ended");
            assert!(began.elapsed() < Duration::from_secs(20), "versitygw listens nowhere");
            std::thread::sleep(Duration::from_millis(10));
        };
        Some(Server { process, address: format!("127.0.0.1:{port}"), buckets: Some(dir) })
    }

    fn name(&self) -> &'static str {
        if self.buckets.is_some() { "versitygw" } else { "moto" }
    }

    fn make_bucket(&self) {
        if let Some(dir) = &self.buckets {
            return std::fs::create_dir(dir.path().join("buckets").join(BUCKET)).expect("creates");
        }
        let answer = self.ask(&format!("PUT /{BUCKET} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket was made: {answer}");
    }

    /// Somebody deletes the bucket with all that is in it.
    fn lose_bucket(&self) {
        if let Some(dir) = &self.buckets {
            return ["buckets", "sidecar"].into_iter().for_each(|of| {
                let path = dir.path().join(of).join(BUCKET);
                if path.exists() {
                    std::fs::remove_dir_all(path).expect("deletes");
                }
            });
        }
        let answer = self.ask("POST /moto-api/reset HTTP/1.1");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
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
        let [access_key, secret_key] = KEYS.map(str::to_owned);
        S3Location {
            endpoint: Some(format!("http://{}", self.address)),
            bucket: BUCKET.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            path_style: true,
            kms_key: None,
            keys: Some(S3Keys { access_key, secret_key }),
        }
    }
}

/// The TCP port on which a process listens, once it does.
fn listens_on(process: u32) -> Option<u16> {
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .ok()?
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        // 0A: it listens.
        (*state == "0A" && sockets.contains(*inode)).then_some(port)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_lives_on_s3_servers_of_others() {
    for server in servers() {
        lives_on(&server).await;
    }
}

async fn lives_on(server: &Server) {
    let location = server.location("p/lineage");
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
        [Source { name: server.name().to_owned(), tier: TierKind::ObjectStore, store: Arc::clone(&store) }];
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
    for server in servers() {
        one_wins_on(&server).await;
    }
}

async fn one_wins_on(server: &Server) {
    let location = server.location("race");
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
        assert_eq!((won.0.len(), won.1.len()), (1, 1), "{}, round {round}: {won:?}", server.name());
        let store = S3Store::open(&location).await.expect("opens");
        assert_eq!(store.get(&key).await.expect("reads"), Some(Bytes::from(won.0)));
        let (head, _) = store.head().await.expect("reads").expect("there");
        assert_eq!(head, Bytes::from(vec![round, won.1[0]]));
    }
}

/// A bucket that somebody deletes, and an empty one that is made in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_deleted_is_named_and_not_begun_again() {
    for server in servers() {
        is_not_begun_again_on(&server).await;
    }
}

async fn is_not_begun_again_on(server: &Server) {
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::open(&server.location("p")).await.expect("opens"));
    let mut writer = open(&store, 1, 2).await.expect("opens");
    writer.checkpoint(&cut(1), &state(1)).await.expect("ships");
    server.lose_bucket();
    let error = writer.checkpoint(&cut(2), &state(2)).await.expect_err("no bucket").to_string();
    assert!(error.contains("create the bucket or correct its name"), "{error}");
    server.make_bucket();
    let error = writer.checkpoint(&cut(2), &state(2)).await.expect_err("no HEAD").to_string();
    assert!(error.contains("HEAD is gone: somebody deleted it"), "{error}");
    assert_eq!(store.head().await.expect("reads"), None);
}
