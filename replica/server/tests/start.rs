//! What forbids a replica to start: each case has its exit status and a message that says what is wrong, with what, and
//! what to do; and once it is put right nothing is lost.

mod cluster;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use cluster::object_store::ObjectStore;
use cluster::{Cluster, Replica, damage, rpc};
use vr_core::{Ballot, Epoch, Generation, Incarnation, Lineage, ReplicaId, View, VoteRecord};
use vr_replica::config::Initial;
use vr_replica::vote;

/// It must end with this status, and its message must hold all of these.
async fn refused(replica: &mut Replica, status: i32, words: &[&str]) -> String {
    let (ended, said) = replica.refused(&[]).await;
    assert_eq!(ended, Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "it does not say `{word}`:\n{said}");
    }
    said
}

/// One replica on its own with a key, killed.
async fn killed() -> Cluster {
    let mut cluster = Cluster::start(1).await;
    rpc::put(&cluster.replicas[0].channel(), "key", "value").await.expect("it is ready");
    cluster.replicas[0].kill();
    cluster
}

/// One replica on its own with a key, stopped as it should be.
async fn stopped() -> Cluster {
    let mut cluster = Cluster::start(1).await;
    rpc::put(&cluster.replicas[0].channel(), "key", "value").await.expect("it is ready");
    assert_eq!(cluster.replicas[0].stop().await, Some(0));
    cluster
}

async fn still_has_everything(mut cluster: Cluster) {
    let replica = &mut cluster.replicas[0];
    replica.start();
    replica.ready().await.expect("nothing is wrong any more");
    let kept = rpc::get(&replica.channel(), "key").await.expect("it is ready").expect("it was put");
    assert_eq!(kept.value, "value");
}

fn votes(disk: &Path) -> [std::path::PathBuf; 2] {
    ["vote.0", "vote.1"].map(|name| disk.join(name))
}

#[tokio::test]
async fn a_tier_that_is_no_directory() {
    let mut cluster = Cluster::new(1, |_| {});
    let replica = &mut cluster.replicas[0];
    fs::write(replica.disk("volume"), "").expect("writable");
    refused(replica, 1, &["replica 1", "/volume cannot be written to", "check its owner and free space"])
        .await;
    fs::remove_file(replica.disk("volume")).expect("writable");
    replica.start();
    replica.ready().await.expect("nothing is wrong any more");
}

#[tokio::test]
async fn a_directory_that_others_may_write_to() {
    use std::os::unix::fs::PermissionsExt;
    let mut cluster = Cluster::new(1, |_| {});
    let replica = &mut cluster.replicas[0];
    let disk = replica.disk("nvme");
    fs::create_dir(&disk).expect("writable");
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o555)).expect("it is ours");
    if fs::write(disk.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    refused(replica, 1, &["/nvme cannot be written to", "check its owner", "Permission denied"]).await;
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

//= R6
#[tokio::test]
async fn a_vote_record_that_is_gone() {
    let mut cluster = killed().await;
    let replica = &mut cluster.replicas[0];
    let remedy = ["no vote record", "/nvme", "/volume", "must not come back under this id", "new replica id"];
    for path in votes(&replica.disk("nvme")).iter().chain(&votes(&replica.disk("volume"))) {
        // A disk may have been written only once.
        let _ = fs::remove_file(path);
    }
    // Its configuration still says that the lineage begins here; its checkpoints say that it does not.
    refused(replica, 1, &remedy).await;
    // And with nothing left at all, only the configuration can say so.
    fs::remove_dir_all(replica.disk("nvme")).expect("it was there");
    fs::remove_dir_all(replica.disk("volume")).expect("it was there");
    replica.reconfigure(|raw| raw.initial = Some(Initial::Resume));
    refused(replica, 1, &remedy).await;
}

//= R6
#[tokio::test]
async fn a_vote_record_that_is_damaged() {
    let mut cluster = stopped().await;
    let replica = &mut cluster.replicas[0];
    let [first, second] = votes(&replica.disk("volume"));
    let whole = fs::read(&first).expect("it was written");
    if second.exists() {
        damage(&second);
    }
    // One torn file is what a crash leaves. Two, or the only one, are damage: the higher promise may have been there.
    fs::write(&first, &whole[..40]).expect("writable");
    refused(replica, 1, &["vote record of replica 1", "/volume", "damaged", "new replica id"]).await;
}

#[tokio::test]
async fn a_vote_record_of_a_newer_format() {
    let mut cluster = stopped().await;
    let replica = &mut cluster.replicas[0];
    let [first, _] = votes(&replica.disk("nvme"));
    let whole = fs::read(&first).expect("it was written");
    let mut newer = whole.clone();
    newer[3] = b'2';
    fs::write(&first, newer).expect("writable");
    refused(replica, 1, &["nvme/vote.0", "format `VRV2`", "run the version that wrote it"]).await;
    fs::write(&first, whole).expect("writable");
    still_has_everything(cluster).await;
}

#[tokio::test]
async fn disks_of_somebody_else() {
    let other = "7d7e0f41-5f0e-4b53-8a2b-1d4a1c3a2b10";
    let mut cluster = stopped().await;
    let replica = &mut cluster.replicas[0];
    replica.reconfigure(|raw| raw.lineage = Some(other.parse().expect("a UUID")));
    let lineages = format!("belong to lineage {}, not to {other}", cluster::LINEAGE);
    refused(replica, 1, &[&lineages, "/nvme", "disks of its own"]).await;
    replica.reconfigure(|raw| {
        raw.lineage = Some(cluster::LINEAGE.parse().expect("a UUID"));
        raw.replica_id = Some(2);
        raw.members.iter_mut().flatten().for_each(|member| member.id = 2);
    });
    refused(replica, 1, &["belong to replica 1, not to 2", "disks of its own"]).await;
    replica.reconfigure(|raw| {
        raw.replica_id = Some(1);
        raw.members.iter_mut().flatten().for_each(|member| member.id = 1);
    });
    still_has_everything(cluster).await;
}

#[tokio::test]
async fn disks_of_a_newer_generation() {
    let mut cluster = stopped().await;
    let replica = &mut cluster.replicas[0];
    let lineage: uuid::Uuid = cluster::LINEAGE.parse().expect("a UUID");
    let newer = VoteRecord {
        lineage: Lineage(*lineage.as_bytes()),
        generation: Generation(2),
        ballot: Ballot { epoch: Epoch(0), view: View(0) },
        replica: ReplicaId(1),
        incarnation: Incarnation(1 << 33),
    };
    vote::write(&[replica.disk("volume")], newer).expect("writable");
    // The status of what is fenced: whoever keeps it running must not start it again.
    refused(replica, 3, &["/volume hold generation 2, the configuration says 1", "must not run again"]).await;
}

#[tokio::test]
async fn disks_that_another_process_uses() {
    let mut cluster = Cluster::start(1).await;
    let mut second = Cluster::new(1, |_| {});
    let home = cluster.replicas[0].home.clone();
    second.replicas[0].reconfigure(|raw| {
        let tiers = raw.tiers.as_mut().expect("it has tiers");
        for (tier, name) in [(&mut tiers.nvme, "nvme"), (&mut tiers.volume, "volume")] {
            tier.as_mut().expect("it has both").path = Some(home.join(name));
        }
    });
    refused(&mut second.replicas[0], 1, &["/nvme/", "another process writes here", "use another directory"])
        .await;
    rpc::put(&cluster.replicas[0].channel(), "key", "value").await.expect("it goes on");
    assert_eq!(cluster.replicas[0].stop().await, Some(0));
    still_has_everything(cluster).await;
}

#[tokio::test]
async fn a_port_in_use() {
    let mut cluster = Cluster::new(1, |_| {});
    let replica = &mut cluster.replicas[0];
    for (field, address) in
        [("clientAddress", replica.client), ("peerAddress", replica.peer), ("adminAddress", replica.admin)]
    {
        let taken = TcpListener::bind(address).expect("it was free a moment ago");
        refused(replica, 1, &[&format!("cannot listen on {field} {address}"), "free the port"]).await;
        drop(taken);
    }
    assert!(!replica.disk("nvme").exists(), "it looked at its disks before it had its ports");
}

#[tokio::test]
async fn a_field_or_flag_that_nobody_knows() {
    let mut cluster = Cluster::new(1, |_| {});
    let replica = &mut cluster.replicas[0];
    let text = fs::read_to_string(replica.config_path()).expect("it was written");
    let lines = text.lines().count();
    fs::write(replica.config_path(), format!("{text}colour: blue\n")).expect("writable");
    let line = format!("line {}", lines + 1);
    refused(replica, 2, &["config.yaml", "unknown field `colour`", &line]).await;
    fs::write(replica.config_path(), text).expect("writable");
    let (status, said) = replica.refused(&["--colour", "blue"]).await;
    assert!(status == Some(2) && said.contains("unexpected argument '--colour'"), "{said}");
}

#[tokio::test]
async fn an_object_store_that_cannot_be_used() {
    let store = ObjectStore::start().await;
    let mut cluster = stopped().await;
    let replica = &mut cluster.replicas[0];

    replica.reconfigure(|raw| {
        store.join(raw);
        let tiers = raw.tiers.as_mut().expect("it has tiers");
        tiers.object_store.as_mut().expect("set a moment ago").bucket = Some("nowhere".to_owned());
    });
    let said =
        refused(replica, 1, &["s3://nowhere/", "NoSuchBucket", "create the bucket or correct its name"])
            .await;
    let last = said.trim_end().lines().last().expect("it said something");
    assert!(last.len() < 400, "one line with the cause would do: {last}");

    let strangers = ObjectStore::start_for("somebody").await;
    replica.reconfigure(|raw| strangers.join(raw));
    refused(replica, 1, &["status 403", "check the credentials"]).await;

    store.faults().ignore_conditions(true);
    replica.reconfigure(|raw| store.join(raw));
    refused(replica, 1, &["ignored If-None-Match", "cannot fence a stale cluster", "Use a store that"]).await;
    store.faults().ignore_conditions(false);

    // None of these refusals cost the memory that the clean stop had left.
    replica.reconfigure(|raw| raw.tiers.as_mut().expect("it has tiers").object_store = None);
    still_has_everything(cluster).await;
}
