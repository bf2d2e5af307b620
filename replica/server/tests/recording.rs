//! What a replica was told, written out by a real process and told again here.

mod cluster;

use cluster::{Cluster, Replica, eventually, http, rpc};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use vr_recorder::{Recording, Replayed};
use vr_replica::config::Initial;

const PAGE: &str = "/debug/flight-recorder";

fn again(bytes: &[u8]) -> Replayed {
    let recording = Recording::read(bytes).expect("a recording");
    recording.replay(|_| {}).expect("the same comes of it")
}

fn recordings(replica: &Replica) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(replica.disk("volume").join("flight")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "vrflight")).collect()
}

async fn put(replica: &Replica, keys: std::ops::Range<u32>) {
    for key in keys {
        rpc::put(&replica.channel(), format!("key {key}"), "value").await.expect("a majority is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_replica_hands_out_what_it_was_told() {
    let mut cluster = Cluster::start_as(3, |raw| raw.flight_recorder_bytes = Some(256 << 10)).await;
    let primary = cluster.settled().await;
    put(&cluster.replicas[primary], 0..300).await;
    for replica in &cluster.replicas {
        let (status, body) = http::get_bytes(replica.admin, PAGE).await.expect("it answers");
        assert_eq!(status, 200);
        let replayed = again(&body);
        assert!(replayed.op.0 >= 1 && replayed.steps > 100 && replayed.root.is_some(), "{replayed:?}");
        assert_eq!(fs::read(&recordings(replica)[0]).expect("it was written"), body);
    }
    // The primary goes; what the next one was told shows how it came to lead.
    cluster.replicas[primary].kill();
    let next = &cluster.replicas[(primary + 1) % 3];
    put(next, 300..330).await;
    next.signal(Signal::USR1);
    eventually("another recording", async || (recordings(next).len() > 1).then_some(())).await;
    for path in recordings(next) {
        again(&fs::read(path).expect("it was written"));
    }
    // Only so many are kept.
    for _ in 0..6 {
        put(next, 0..1).await;
        eventually("its turn", async || {
            let (status, _) = http::get_bytes(next.admin, PAGE).await.expect("it answers");
            assert!([200, 503].contains(&status), "{status}");
            (status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(recordings(next).len(), 4);
}

#[tokio::test]
async fn a_replica_without_a_recorder_says_so() {
    let cluster = Cluster::start_as(1, |raw| raw.flight_recorder_bytes = Some(0)).await;
    let (status, body) = http::get(cluster.replicas[0].admin, PAGE).await.expect("it answers");
    assert_eq!((status, body.contains("flightRecorderBytes")), (404, true), "{body}");
}

#[tokio::test]
async fn a_disk_that_takes_no_recording_is_reported_and_no_more() {
    let cluster = Cluster::start(1).await;
    let replica = &cluster.replicas[0];
    fs::write(replica.disk("volume").join("flight"), "in the way").expect("writable");
    let (status, body) = http::get(replica.admin, PAGE).await.expect("it answers");
    assert_eq!((status, body.contains("flight")), (503, true), "{body}");
    put(replica, 0..3).await;
}

/// A replica whose checkpoint is of another history ends, and leaves what it was told until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_writes_its_recording_by_itself() {
    let mut cluster = Cluster::start(3).await;
    let primary = cluster.settled().await;
    put(&cluster.replicas[primary], 0..200).await;
    assert_eq!(cluster.replicas[2].stop().await, Some(0));
    // Its checkpoint stays; that it remembers everything must not be believed, or it would not have to recover.
    forget_the_clean_stop(&cluster.replicas[2]);
    for replica in &mut cluster.replicas[..2] {
        replica.kill();
        fs::remove_dir_all(replica.disk("nvme")).expect("it is there");
        fs::remove_dir_all(replica.disk("volume")).expect("it is there");
        replica.reconfigure(|raw| raw.initial = Some(Initial::Bootstrap));
        replica.start();
    }
    for replica in &mut cluster.replicas[..2] {
        replica.ready().await.expect("they begin anew");
    }
    let (status, said) = cluster.replicas[2].refused(&[]).await;
    assert!(status == Some(1) && said.contains("different histories"), "{status:?}: {said}");
    assert!(said.contains("recording written"), "{said}");
    let [recording] = &recordings(&cluster.replicas[2])[..] else { panic!("{said}") };
    let bytes = fs::read(recording).expect("it was written");
    let mut last = String::new();
    let recording = Recording::read(&bytes).expect("a recording");
    recording.replay(|told| last = told.to_string()).expect("the same comes of it");
    assert!(last.contains("Fatal"), "{last}");
}

fn forget_the_clean_stop(replica: &Replica) {
    for tier in ["nvme", "volume"] {
        let marker =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("stop"));
        for entry in fs::read_dir(replica.disk(tier)).expect("its disk").flatten() {
            if marker(&entry.path()) {
                fs::remove_file(entry.path()).expect("writable");
            }
        }
    }
}
