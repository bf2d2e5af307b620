//! What is gone from all disks of one replica comes back from those of another.

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::{Cluster, LINEAGE, Replica, eventually, rpc};
use vr_checkpoint::format::Head;
use vr_checkpoint::store::{DirStore, ObjectStore, Swapped};
use vr_replica::config::{Raw, Span};

const DISKS: [&str; 2] = ["nvme", "volume"];
const KEYS: usize = 300;

/// Both disks get a checkpoint soon after each change, and keep all of them.
fn often(raw: &mut Raw) {
    let tiers = raw.tiers.get_or_insert_default();
    for disk in [&mut tiers.nvme, &mut tiers.volume].into_iter().flatten() {
        disk.checkpoint_interval = Some(Span(Duration::from_secs(1)));
        disk.keep = Some(30);
    }
}

/// Changes every page of the state, and waits until all disks of all replicas have that as a checkpoint.
async fn another_state(cluster: &Cluster, version: &str) {
    let channel = cluster.replicas[0].channel();
    for key in 0..KEYS {
        let value = format!("{version} {key} ").repeat(20);
        rpc::put(&channel, format!("key/{key:04}"), value).await.expect("it is written");
    }
    let commit = cluster.replicas[0].status().await.expect("it runs").commit;
    for replica in &cluster.replicas {
        eventually("both disks have a checkpoint of it", async || {
            let tiers = replica.status().await?.tiers;
            tiers.iter().all(|tier| tier.checkpoint_op >= commit).then_some(())
        })
        .await;
    }
}

fn files_below(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("it can be read").map(|entry| entry.expect("an entry")) {
        match entry.path() {
            path if path.is_dir() => files_below(&path, into),
            path => {
                let body = fs::read(&path).expect("it can be read");
                into.insert(path, body);
            }
        }
    }
}

/// All packs of a replica, on both disks.
fn packs(replica: &Replica) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut packs = BTreeMap::new();
    for disk in DISKS {
        for part in ["tree", "data"] {
            let folder = replica.disk(disk).join(LINEAGE).join("g/0000000000000001").join(part);
            files_below(&folder, &mut packs);
        }
    }
    packs
}

/// As if everything had been read long ago.
async fn long_ago(disk: &Path) {
    let store = DirStore::open(&disk.join(LINEAGE)).expect("nobody writes there now");
    let (bytes, tag) = store.head().await.expect("it can be read").expect("there is one");
    let mut head = Head::parse("HEAD", &bytes).expect("valid");
    head.scrubbed_micros = 1;
    let swapped = store.swap_head(Some(&tag), head.encode().into()).await.expect("it can be written");
    assert_eq!(swapped, Swapped::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_from_all_disks_of_a_replica_comes_back_from_another() {
    let mut cluster = Cluster::start_as(3, often).await;
    cluster.settled().await;
    another_state(&cluster, "old").await;
    another_state(&cluster, "new").await;

    let harmed = &mut cluster.replicas[2];
    harmed.kill();
    let before = packs(harmed);
    assert!(before.len() >= 8, "old and new pages on two disks: {:?}", before.keys());
    before.keys().for_each(|path| fs::remove_file(path).expect("it is there"));
    for disk in DISKS {
        long_ago(&harmed.disk(disk)).await;
    }
    harmed.start();
    harmed.ready().await.expect("it has the state from the others");
    eventually("everything stands where it stood", async || {
        let back = packs(harmed);
        let same = |(path, body): (&PathBuf, &Vec<u8>)| back.get(path) == Some(body);
        before.iter().all(same).then_some(())
    })
    .await;
    let status = eventually("nothing is damaged any more", async || {
        let tiers = harmed.status().await?.tiers;
        tiers.iter().all(|tier| tier.damaged == 0).then_some(tiers)
    })
    .await;
    let repaired: u64 = status.iter().map(|tier| tier.repaired).sum();
    assert!(repaired >= before.len() as u64, "{status:?}");
}
