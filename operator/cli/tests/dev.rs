//! `vr dev` as a script uses it: start, crash, stop, continue, refuse, restore; and nothing stays behind.

mod common;
#[path = "common/dev.rs"]
mod running;
#[path = "common/s3.rs"]
mod s3;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{run, vr};
use running::{Dev, PATIENCE, put, settled, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use s3::S3Server;
use vr::client::Client;
use vr_proto::etcdserverpb::RangeRequest;
use vr_replica::tls::{ClientFiles, Connector};

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

/// The directory is gone as well, and what `vr dev` knew of the cluster: only the bucket is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_comes_back_from_its_bucket_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| dir.path().join(name);
    let server = S3Server::start(&place("s3"), &[]);
    let bucket = ["--s3-endpoint", &server.endpoint, "--s3-prefix", "shop"];
    let dev = Dev::start(&place("first"), &bucket);
    let before = put(&dev.client(), "kept").await;
    dev.interrupt();

    let restore: Vec<&str> = bucket.iter().copied().chain(["--restore"]).collect();
    let refused = |name: &str, more: &[&str]| {
        let output = run(vr(["dev", "--dir"]).arg(place(name)).args(&restore).args(more));
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nobodys = "00000000-0000-4000-8000-000000000000";
    let said = refused("strange", &["--lineage", nobodys]);
    assert!(said.contains(&format!("lineage {nobodys} does not stand in s3://vr-dev/shop")), "{said}");
    assert!(refused("first", &["--lineage", nobodys]).contains("leave out --lineage"));

    let dev = Dev::start(&place("second"), &restore);
    assert!(get(&dev.client(), "kept").await, "what was on the object store is lost");
    let after = put(&dev.client(), "new").await;
    assert!(after > before, "revision {after} was handed out before (highest: {before})");
    dev.interrupt();

    // Another cluster below the same prefix: which one is meant has to be said.
    Dev::start(&place("other"), &bucket).interrupt();
    let said = refused("third", &[]);
    assert!(
        said.contains("several lineages stand in s3://vr-dev/shop") && said.contains("--lineage"),
        "{said}"
    );
    let empty = S3Server::start(&place("empty"), &[]);
    let nothing = ["--restore", "--s3-endpoint", &empty.endpoint];
    let output = run(vr(["dev", "--dir"]).arg(place("fourth")).args(nothing));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no lineage stands in s3://vr-dev/dev"));
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

/// Certificates are made, used, told of, and kept for the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_speaks_tls_when_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    for (flags, key) in [(&["--tls"][..], "first"), (&[], "second")] {
        let dev = Dev::start(dir.path(), flags);
        let endpoint = dev.started["endpoints"][0].as_str().expect("a string").to_owned();
        assert!(endpoint.starts_with("https://"), "{endpoint}");
        let file =
            |port: &str, name: &str| dev.started["tls"][port][name].as_str().expect("a path").to_owned();
        let files =
            |port: &str| ["cacert", "cert", "key"].map(|name| format!("--{name}={}", file(port, name)));
        let trusted = ClientFiles {
            ca: file("client", "cacert").into(),
            pair: Some((file("client", "cert").into(), file("client", "key").into())),
        };
        let connector = Connector::new(Some(std::sync::Arc::new(trusted.load().expect("usable"))));
        let endpoints = [endpoint.parse().expect("an endpoint")];
        put(&Client::new(&endpoints, Duration::from_secs(5), &connector), key).await;

        let control = dev.started["replicas"][0]["control"].as_str().expect("a string").to_owned();
        let bench = ["bench", "put", "--total=50", "--warmup=0s", "--sessions=2", "--endpoints", &endpoint];
        let status = ["status", "--endpoints", &control];
        for (arguments, port, other) in
            [(&bench[..], "client", "control"), (&status[..], "control", "client")]
        {
            let ours = run(vr([]).args(arguments).args(files(port)));
            assert!(ours.status.success(), "{arguments:?}");
            let theirs = run(vr([]).args(arguments).args(files(other)));
            assert!(!theirs.status.success(), "the {port} port trusts certificates of the {other} port");
            let nothing = run(vr([]).args(arguments));
            assert!(String::from_utf8_lossy(&nothing.stderr).contains("give --cacert"), "{arguments:?}");
        }
        dev.interrupt();
    }
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

/// `VR_FAILOVERS` primaries (5 by default) are killed one after the other; each time it is measured how long the next
/// write takes until it is acknowledged, through another replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_write_after_a_killed_primary_is_soon() {
    let rounds = std::env::var("VR_FAILOVERS").map_or(5, |n| n.parse::<u32>().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let mut dev = Dev::start(dir.path(), &[]);
    let mut took = Vec::new();
    for round in 1..=rounds {
        // A replica that is killed too often in a short time is left dead: begin anew before that.
        if round % 10 == 0 {
            dev.interrupt();
            dev = Dev::start(dir.path(), &[]);
        }
        let (place, process) = settled(&dev).await;
        let other = dev.endpoints()[(place + 1) % 3].clone();
        let client = Client::new(&[other], Duration::from_secs(5), &Connector::default());
        put(&client, "before").await;
        let killed = Instant::now();
        kill_process(process, Signal::KILL).expect("it runs");
        put(&client, "after").await;
        took.push(killed.elapsed().as_millis());
    }
    took.sort_unstable();
    eprintln!("first acknowledged write after SIGKILL of the primary, ms: {took:?}");
    let median = took[took.len() / 2];
    assert!(median <= 500, "median {median} ms of {took:?}");
    dev.interrupt();
}

/// The slowest of a hundred of these writes, in microseconds.
async fn p99(client: &Client) -> u128 {
    let mut took = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        put(client, "hot").await;
        took.push(began.elapsed().as_micros());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// Every write of every disk tier waits for 30 s: requests do not notice. The best of some rounds on each side counts, because
/// the machine may be busy with something else; disks that did stand in the way would be there in every round.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_disk_stands_in_the_path_of_a_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    settled(&dev).await;
    let client = dev.client();
    let mut moving = u128::MAX;
    for _ in 0..3 {
        moving = moving.min(p99(&client).await);
    }
    for replica in ["r1", "r2", "r3"] {
        for disk in ["nvme", "volume"] {
            let tier = dir.path().join(replica).join(disk);
            let lineages = std::fs::read_dir(tier).expect("a directory").flatten().map(|e| e.path());
            for lineage in lineages.filter(|path| path.is_dir()) {
                std::fs::write(lineage.join("stall"), "30").expect("written");
            }
        }
    }
    let mut stalled = u128::MAX;
    for _ in 0..10 {
        stalled = stalled.min(p99(&client).await);
        if stalled * 2 <= moving * 3 {
            break;
        }
    }
    eprintln!("p99 of a put: {moving} us, with stalled disks {stalled} us");
    assert!(stalled * 2 <= moving * 3, "p99 went from {moving} us to {stalled} us");
}

/// MiB that a process has in memory.
fn resident(process: Pid) -> u64 {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") >> 10
}

/// What a backup hands on is small, and what it arrives in is not: 4,000 requests, each with a buffer of 64 KiB that it
/// shares with few others, would be some 140 MiB if anybody kept them as they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn writes_through_a_backup_leave_the_primary_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    let (place, process) = settled(&dev).await;
    let backup = dev.endpoints()[(place + 1) % 3].clone();
    let client = Client::new(&[backup], Duration::from_secs(5), &Connector::default());
    put(&client, "first").await;
    let before = resident(process);
    for _ in 0..4000 {
        put(&client, "next").await;
    }
    let grown = resident(process).saturating_sub(before);
    assert_eq!(settled(&dev).await, (place, process), "another one leads: this proves nothing");
    eprintln!("4,000 writes through a backup: the primary grew by {grown} MiB");
    assert!(grown < 64, "4,000 writes took {grown} MiB of the primary");
    dev.interrupt();
}
