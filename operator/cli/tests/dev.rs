//! `vr dev` as a script uses it: start, crash, stop, continue, refuse, restore; and nothing stays behind.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{run, vr};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use vr::client::Client;
use vr::endpoint::Endpoint;
use vr_proto::etcdserverpb::{PutRequest, RangeRequest};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `vr dev`; killed when the test fails.
struct Dev {
    child: Child,
    started: Value,
}

impl Dev {
    fn start(dir: &Path, arguments: &[&str]) -> Dev {
        let mut command = vr(["dev", "-o", "json", "--dir"]);
        let mut child = command.arg(dir).args(arguments).stdout(Stdio::piped()).spawn().expect("vr starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("readable");
        let started = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Dev { child, started }
    }

    fn pids(&self) -> Vec<Pid> {
        let replicas = self.started["replicas"].as_array().expect("a list");
        replicas.iter().map(|replica| pid(replica["pid"].as_u64().expect("a number"))).collect()
    }

    fn client(&self) -> Client {
        let endpoints = self.started["endpoints"].as_array().expect("a list");
        let endpoints: Vec<Endpoint> = endpoints
            .iter()
            .map(|endpoint| endpoint.as_str().expect("a string").parse().expect("an endpoint"))
            .collect();
        Client::new(&endpoints, Duration::from_secs(5))
    }

    fn interrupt(mut self) {
        kill_process(pid(self.child.id().into()), Signal::INT).expect("it runs");
        assert!(self.child.wait().expect("waited").success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(number: u64) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process id")).expect("not 0")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tries until it is served: after a start the first reservation may be under way.
async fn put(client: &Client, key: &'static str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let put = PutRequest {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(b"value"),
            ..PutRequest::default()
        };
        match client.kv().put(put).await {
            Ok(answer) => break answer.into_inner().header.expect("a header").revision,
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        client.go_on();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn get(client: &Client, key: &'static str) -> bool {
    let range = RangeRequest { key: Bytes::from_static(key.as_bytes()), ..RangeRequest::default() };
    client.kv().range(range).await.expect("served").into_inner().count == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_goes_on_after_a_stop_and_refuses_to_forget() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    assert_eq!(dev.pids().len(), 3);
    put(&dev.client(), "kept").await;
    dev.interrupt();

    // A second start continues; a first one of two is told about the other.
    let dev = Dev::start(dir.path(), &[]);
    assert!(get(&dev.client(), "kept").await, "a clean stop has lost a write");
    let mut second = vr(["dev", "--dir"]);
    let second = run(second.arg(dir.path()));
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another vr is running"));

    // When vr itself is killed, the replicas stop in order.
    let before = put(&dev.client(), "kept too").await;
    let replicas = dev.pids();
    drop(dev);
    wait_until("no replica outlives its vr", || replicas.iter().all(|&pid| test_kill_process(pid).is_err()));
    let dev = Dev::start(dir.path(), &["--no-restart"]);
    assert!(get(&dev.client(), "kept too").await, "a stop without vr has lost a write");

    // Everybody's memory is gone.
    let replicas = dev.pids();
    replicas.iter().for_each(|&pid| kill_process(pid, Signal::KILL).expect("it runs"));
    wait_until("the replicas are dead", || replicas.iter().all(|&pid| test_kill_process(pid).is_err()));
    dev.interrupt();
    let mut plain = vr(["dev", "--dir"]);
    let plain = run(plain.arg(dir.path()));
    let said = String::from_utf8_lossy(&plain.stderr);
    assert_eq!(plain.status.code(), Some(1));
    for expected in ["has lost its memory", "nvme of replica 3", "objectStore", "--restore"] {
        assert!(said.contains(expected), "{expected:?} is not said");
    }

    // And the disks as well.
    for replica in ["r1", "r2", "r3"] {
        for disk in ["nvme", "volume"] {
            std::fs::remove_dir_all(dir.path().join(replica).join(disk)).expect("removed");
        }
    }
    let mut plain = vr(["dev", "--dir"]);
    let plain = run(plain.arg(dir.path()));
    assert!(
        String::from_utf8_lossy(&plain.stderr)
            .contains("has lost its disks: replica 1, replica 2, replica 3")
    );

    let dev = Dev::start(dir.path(), &["--restore"]);
    assert!(get(&dev.client(), "kept").await, "the restore has lost a write that was on the object store");
    let after = put(&dev.client(), "new").await;
    assert!(after > before, "revision {after} was handed out before (highest: {before})");
    dev.interrupt();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_replica_is_started_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    let client = dev.client();
    put(&client, "before").await;
    kill_process(dev.pids()[1], Signal::KILL).expect("it runs");
    let admin = dev.started["replicas"][1]["admin"].as_str().expect("a string");
    let admin = admin.trim_start_matches("http://").parse().expect("an address");
    let deadline = Instant::now() + PATIENCE;
    let incarnation = |status: &vr_replica::status::Report| status.incarnation;
    let first = loop {
        // Its successor has another incarnation and is ready.
        if let Some(status) = vr::dev::cluster::status(admin).await
            && status.ready
            && incarnation(&status) & 0xffff_ffff == 2
        {
            break status;
        }
        assert!(Instant::now() < deadline, "replica 2 did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(first.replica_id, 2);
    assert!(get(&client, "before").await);
    dev.interrupt();
}

#[test]
fn what_cannot_be_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (arguments, expected) in [
        (vec!["--replicas", "4"], "must be 1, 3, 5, 7 or 9"),
        (vec!["--base-port", &port], "is in use"),
        (vec!["--dir", "/proc/nowhere"], "/proc/nowhere"),
        (vec!["--restore"], "--dir"),
        (vec!["--s3-endpoint", "nowhere"], "not a URL"),
        (vec!["--colour"], "unexpected argument"),
    ] {
        let output = run(vr(["dev"]).args(&arguments));
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{arguments:?} does not say {expected:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} prints data");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let output = run(vr(["dev", "--restore", "--dir"]).arg(dir.path()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds no cluster"));
}
