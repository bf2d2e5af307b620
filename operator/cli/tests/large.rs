//! A cluster with much state: one that was away fetches what has changed and no more, a new one fetches everything, and
//! those who write meanwhile hardly notice.
//!
//! `VR_STATE_MB` is how much state, in 10^6 bytes; the default is small, so that the test is short. What is meant to hold
//! on a quiet machine:
//!
//! ```sh
//! VR_STATE_MB=1024 VR_PAUSE_MS=300 VR_P99_RATIO=1.3 cargo test --release -p vr --test large -- --nocapture
//! ```

mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/dev.rs"]
mod running;
#[path = "common/story.rs"]
mod story;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{run, vr};
use load::Step;
use running::{Dev, counted, settled, wait_until};
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;
use story::{Story, longest_pause};

/// Bytes of state that a key of the load takes: its value of 256 bytes, its names, its entry in the history.
const PER_KEY: u64 = 340;
/// A page of the tree is at most 8 KiB; on the average about this much of it is used.
const PAGE: f64 = 6_000.0;
/// One in so many keys changes while a replica is away.
const CHANGED: u64 = 100;
/// Seconds between two cuts: after two, the log no longer reaches back to what was before.
const CADENCE: u64 = 5;

fn given<T: std::str::FromStr<Err: std::fmt::Debug>>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

fn keys() -> u64 {
    given::<u64>("VR_STATE_MB").unwrap_or(24) * 1_000_000 / PER_KEY
}

/// A cluster whose replicas cut every [`CADENCE`].
fn start(dir: &Path) -> Dev {
    Dev::start(dir, &[]).interrupt();
    let path = dir.join("cluster.json");
    let mut cluster: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("it is there")).expect("JSON");
    cluster["cadence"]["nvme"]["checkpoint"] = CADENCE.into();
    std::fs::write(&path, cluster.to_string()).expect("written");
    Dev::start(dir, &["--no-restart"])
}

/// Writes `total` values under keys drawn from all of them.
fn write(dev: &Dev, total: u64) {
    let endpoints = dev.endpoints().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (keys, total) = (keys().to_string(), total.to_string());
    let mut command = vr(["bench", "put", "--native", "--sessions", "256", "--warmup", "0s"]);
    let done = run(command.args(["--keys", &keys, "--total", &total, "--endpoints", &endpoints]));
    assert!(done.status.success());
}

async fn is_normal(admin: SocketAddr, commit: u64) -> bool {
    let report = vr::dev::cluster::status(admin).await;
    report.is_some_and(|report| report.ready && report.status == "Normal" && report.commit >= commit)
}

async fn wait_until_normal(admin: SocketAddr, commit: u64) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !is_normal(admin, commit).await {
        assert!(Instant::now() < deadline, "{admin} does not come to op {commit}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_fetched_is_what_has_changed_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = start(dir.path());
    let (primary, _) = settled(&dev).await;
    write(&dev, keys());
    let (admins, away) = (dev.admins(), (primary + 1) % 3);
    let process = dev.pids()[away];
    let state = counted(admins[primary], "vr_state_bytes ");
    let mut story = Story::begin(dev, dir);
    story.load.no_longer_at(away);
    story.load.step("as ever").await;

    tokio::time::sleep(Duration::from_secs(CADENCE * 2)).await;
    story.load.step("a replica stands still").await;
    kill_process(process, Signal::STOP).expect("it runs");
    let cut = |admin| counted(admin, "vr_checkpoint_op{tier=\"nvme\"} ");
    let (before, began) = (counted(admins[primary], "vr_commit "), counted(admins[primary], "vr_revision "));
    write(&story.dev, keys() / CHANGED);
    for _ in 0..2 {
        let last = cut(admins[primary]);
        wait_until("another cut", || cut(admins[primary]) > last.max(before));
    }
    let changed = counted(admins[primary], "vr_revision ") - began;
    story.load.step("it fetches what has changed").await;
    let commit = counted(admins[primary], "vr_commit ");
    kill_process(process, Signal::CONT).expect("it runs");
    let woken = Instant::now();
    wait_until_normal(admins[away], commit).await;
    let took = woken.elapsed();
    story.load.step("as ever again").await;
    let fetched = counted(admins[away], "vr_state_fetched_bytes_total ");
    assert_eq!(counted(admins[away], "vr_states_fetched_total "), 1, "by its state, not by the log");

    // A key drawn at random changes the page it is in, however many others there are in it.
    let (pages, changed) = (state as f64 / PAGE, changed as f64);
    let changed_pages = pages * (1.0 - (-changed / pages).exp()) * PAGE;
    eprintln!(
        "state {state} B, {changed} keys changed, pages of them about {changed_pages:.0} B, fetched {fetched} B in {took:?}: \
         {:.2} of the changed pages, {:.3} of the state",
        fetched as f64 / changed_pages,
        fetched as f64 / state as f64
    );
    assert!(fetched as f64 <= 3.0 * changed_pages, "{fetched} B were fetched");

    let victim = u64::try_from(away).expect("small") + 1;
    story.load.step("it is lost for good, and another takes its place").await;
    kill_process(process, Signal::KILL).expect("it runs");
    wait_until("it is dead", || test_kill_process(process).is_err());
    for disk in ["nvme", "volume"] {
        let path = story.dir.path().join(format!("r{victim}")).join(disk);
        std::fs::remove_dir_all(path).expect("removed");
    }
    let replaced = Instant::now();
    let (new, endpoint) = story.join(&["--replaces", &victim.to_string()]);
    eprintln!("replica {new} has taken the place of {victim} after {:?}", replaced.elapsed());
    assert!(!story.voters().contains(&victim) && story.voters().contains(&new));
    story.load.also_at(endpoint);
    story.load.step("three again").await;
    story.load.step("end").await;

    let steps = story.load.finish().await;
    let as_ever = steps.iter().filter(|step| step.name.starts_with("as ever")).map(|step| step.p99).max();
    let as_ever = as_ever.expect("there are two");
    for Step { name, pause, p99, untold } in &steps {
        assert!(*pause <= longest_pause(), "{name}: nobody's write was acknowledged for {pause:?}");
        assert_eq!(*untold, 0, "{name}: writes were answered with an error");
        let ratio = p99.as_secs_f64() / as_ever.as_secs_f64();
        eprintln!("p99 {ratio:.2} of what it is as ever: {name}");
        let fetches = name.starts_with("it fetches");
        assert!(!fetches || ratio <= given("VR_P99_RATIO").unwrap_or(f64::INFINITY), "{name}: {ratio:.2}");
    }
    story.dev.interrupt();
}
