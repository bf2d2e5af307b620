//! A cluster of processes grows, loses a member for good, moves its primary and shrinks, and its clients only notice
//! pauses: no acknowledged write is lost, none happens twice.
//!
//! `VR_PAUSE_MS` is the longest pause that passes; the default leaves room for a build without optimisation beside
//! other tests. What is meant to hold on a quiet machine:
//!
//! ```sh
//! VR_PAUSE_MS=300 cargo test --release -p vr --test grow -- --nocapture
//! ```

mod common;
#[path = "common/load.rs"]
mod load;
#[path = "common/dev.rs"]
mod running;
#[path = "common/story.rs"]
mod story;

use common::{run, vr};
use load::Step;
use running::{Dev, settled, wait_until};
use rustix::process::{Signal, kill_process, test_kill_process};
use serde_json::Value;
use story::{Story, longest_pause};
use vr::endpoint::Endpoint;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn members_and_primary_change_under_load() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &["--no-restart"]);
    settled(&dev).await;
    let mut story = Story::begin(dev, dir);
    story.load.step("warm").await;

    story.load.step("another order").await;
    story.vr(&["order", "--exactly", "2,3,1"]);
    story.load.step("and back").await;
    story.vr(&["order", "--exactly", "1,2,3"]);
    story.load.step("grow to four: learner, promoted").await;
    let (fourth, endpoint) = story.join(&["--learner"]);
    story.vr(&["member", "promote", &fourth.to_string()]);
    story.load.also_at(endpoint);
    story.load.step("grow to five: in one go").await;
    let (fifth, endpoint) = story.join(&[]);
    story.load.also_at(endpoint);
    assert_eq!(story.voters(), [1, 2, 3, fourth, fifth]);

    story.load.step("a backup is killed").await;
    let leads = story.primary();
    let victim = [1, 2, 3].into_iter().find(|id| *id != leads).expect("one of three leads at most");
    let place = usize::try_from(victim).expect("small") - 1;
    let process = story.dev.pids()[place];
    kill_process(process, Signal::KILL).expect("it runs");
    wait_until("it is dead", || test_kill_process(process).is_err());
    story.load.no_longer_at(place);
    for disk in ["nvme", "volume"] {
        let path = story.dir.path().join(format!("r{victim}")).join(disk);
        std::fs::remove_dir_all(path).expect("removed");
    }
    story.load.step("it is replaced by a new one").await;
    let (sixth, endpoint) = story.join(&["--replaces", &victim.to_string()]);
    story.load.also_at(endpoint);
    assert!(!story.voters().contains(&victim) && story.voters().contains(&sixth));

    story.load.step("the primary moves to the new one").await;
    story.vr(&["promote", &sixth.to_string()]);
    assert_eq!(story.primary(), sixth);
    story.load.step("the primary moves at once after a change of the members").await;
    story.vr(&["member", "remove", &fifth.to_string()]);
    story.vr(&["promote", &fourth.to_string()]);
    assert_eq!(story.primary(), fourth);
    story.load.step("the primary is removed").await;
    story.vr(&["member", "remove", &fourth.to_string()]);
    assert_eq!(story.voters().len(), 3);
    story.load.step("three again").await;
    story.load.step("end").await;

    let cluster = std::fs::read(story.dir.path().join("cluster.json")).expect("its description");
    let cluster: Value = serde_json::from_slice(&cluster).expect("JSON");
    let known = cluster["replicas"].as_array().expect("a list").len();
    assert_eq!(known, 3, "`vr dev` goes on with those who are members: {cluster}");

    for Step { name, pause, untold, .. } in story.load.finish().await {
        assert!(pause <= longest_pause(), "{name}: nobody's write was acknowledged for {pause:?}");
        // Only who was connected to a replica that ended has to try elsewhere.
        let ends = name.contains("killed") || name.contains("remove") || name.contains("after a change");
        assert!(ends || untold == 0, "{name}: {untold} writes were answered with an error");
    }
    story.dev.interrupt();
}

/// What a commit needs and what a read may rest on is agreed like the members, and stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn read_leases_and_spanning_commits_are_agreed_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    settled(&dev).await;
    let control = dev.controls().join(",");
    let quorum =
        |arguments: &[&str]| run(vr(["quorum", "-o", "json", "--endpoints", &control]).args(arguments));
    let agreed = |arguments: &[&str]| {
        let done = quorum(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        let shown: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        (shown["epoch"].as_u64(), shown["spanDomains"].as_bool(), shown["readLeaseMicros"].as_u64())
    };
    assert_eq!(agreed(&[]), (Some(0), Some(false), Some(0)));
    assert_eq!(agreed(&["--read-lease", "400ms"]), (Some(1), Some(false), Some(400_000)));
    assert_eq!(agreed(&["--read-lease", "400ms"]), (Some(1), Some(false), Some(400_000)), "it is so already");
    let client = dev.endpoints().iter().map(Endpoint::to_string).collect::<Vec<_>>().join(",");
    for step in [["put", "--total=50"], ["get", "--total=500"]] {
        assert!(run(vr(["bench"]).args(step).args(["--endpoints", &client])).status.success(), "{step:?}");
    }
    let leased: u64 =
        dev.admins().into_iter().map(|admin| running::counted(admin, "vr_leased_reads_total")).sum();
    assert!(leased > 100, "{leased} of 500 reads were answered by a lease");
    for (arguments, reason) in [
        (["--read-lease", "11s"], "a read lease of 11000000 microseconds is too long"),
        (["--read-lease", "ever"], "ever"),
        (["--span-domains", "perhaps"], "perhaps"),
    ] {
        let refused = quorum(&arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(reason), "{arguments:?}: {said}");
    }
    assert_eq!(agreed(&["--read-lease", "off"]), (Some(2), Some(false), Some(0)));
    dev.interrupt();
}

/// The order changes, and with it the epoch, and at once somebody else is to lead: nothing is written meanwhile that
/// would tell the new primary how far the others are. Each replica is asked, leading or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn any_replica_moves_the_primary_at_any_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), &[]);
    settled(&dev).await;
    let controls = dev.controls();
    for (round, order) in [[2, 3, 1], [3, 1, 2], [1, 2, 3], [3, 2, 1]].into_iter().enumerate() {
        let control = &controls[round % 3];
        let exactly = order.map(|id| id.to_string()).join(",");
        assert!(run(vr(["order", "--exactly", &exactly, "--endpoints"]).arg(control)).status.success());
        for to in [order[2], order[1], order[0]].map(|id| id.to_string()) {
            let moved = run(vr(["promote", &to, "--endpoints"]).arg(control));
            assert!(moved.status.success(), "replica {to}, asked of {control}");
            let said = String::from_utf8_lossy(&moved.stdout).into_owned();
            assert!(said.starts_with(&format!("replica {to} leads view ")), "{said}");
        }
    }
    let nobody = run(vr(["promote", "9", "--endpoints"]).arg(&controls[1]));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("replica 9 is no voter of this epoch"));
    dev.interrupt();
}
