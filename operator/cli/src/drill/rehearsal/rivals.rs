//! Two clusters that restore the same lineage at the same time, as two people who do not know of each other would.
//!
//! Both plan the same generation, and then both fence. The fence is HEAD of the object store, which changes by
//! compare-and-swap only (`vr_checkpoint::restore::fence`): one of the two is refused. It is started nevertheless, as if
//! nobody had read the refusal, and must stop by itself before it takes a write (the token of HEAD is not its own).

use std::time::{Duration, Instant};

use bytes::Bytes;
use vr_checkpoint::restore::Target;
use vr_proto::etcdserverpb::PutRequest;

use super::{PATIENCE, POLL, Rehearsal, Step, Stop};
use crate::client::Client;
use crate::dev::cluster::{Cluster, FENCED, status};
use crate::dev::layout::{Layout, Ports};
use crate::dev::ports;
use crate::dev::process::Ended;
use crate::dev::recovery::{self, Plan};

const CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// The cluster that was refused, and what it had planned.
pub(super) struct Rival {
    cluster: Cluster,
    plan: Plan,
    refusal: String,
}

fn errored(error: &dyn std::fmt::Display) -> Stop {
    Stop::Errored(format!("the second cluster: {error}"))
}

impl Rehearsal<'_> {
    /// Restores twice at once. The drill goes on with the one that was not refused.
    pub(super) async fn race(&mut self) -> Step<(Plan, Rival)> {
        let mut other = self.second_cluster("rival")?;
        let failed = |error: anyhow::Error| Stop::Failed("restore", format!("{error:#}"));
        // Both have decided before either fences.
        let mine = recovery::plan(self.cluster, &Target::Newest).await.map_err(failed)?;
        let theirs = recovery::plan(&other, &Target::Newest).await.map_err(failed)?;
        let (first, second) =
            tokio::join!(recovery::fence(self.cluster, &mine), recovery::fence(&other, &theirs));
        let (plan, lost, refusal) = match (first, second) {
            (Ok(()), Err(refusal)) => (mine, theirs, refusal),
            (Err(refusal), Ok(())) => {
                // The other cluster is the cluster from now on.
                other.take_object_store(self.cluster);
                std::mem::swap(self.cluster, &mut other);
                (theirs, mine, refusal)
            }
            (Ok(()), Ok(())) => {
                let reason = format!("both restores own HEAD as generation {}", mine.next_generation);
                return Err(Stop::Failed("oneRestoreBegins", reason));
            }
            (Err(first), Err(second)) => {
                return Err(Stop::Failed(
                    "oneRestoreBegins",
                    format!("neither restore began: {first:#}; {second:#}"),
                ));
            }
        };
        recovery::configure(self.cluster, &plan).map_err(|e| errored(&format!("{e:#}")))?;
        let connector = self.cluster.connector().map_err(|e| errored(&e))?;
        self.client = Client::new(&self.cluster.description().endpoints(), super::CALL_TIMEOUT, &connector);
        let refusal = format!("{refusal:#}");
        self.course.check("oneRestoreBegins", refusal.contains("superseded"), refusal.clone());
        Ok((plan, Rival { cluster: other, plan: lost, refusal }))
    }

    /// Another directory and other ports, the same lineage and object store.
    fn second_cluster(&self, name: &str) -> Step<Cluster> {
        let root = self.cluster.layout().root().join(name);
        std::fs::create_dir_all(&root).map_err(|e| errored(&e))?;
        let layout = Layout::take(&root).map_err(|e| errored(&e))?;
        let mut description = self.cluster.description().clone();
        let taken = |port: &u16| {
            let of = |ports: &Ports| [ports.client, ports.peer, ports.admin, ports.control];
            self.cluster.description().replicas.iter().any(|ports| of(ports).contains(port))
        };
        // Nobody listens on those of the cluster that was killed, and it will be started again.
        let wanted = 4 * description.replicas.len();
        let mut free = ports::free(2 * wanted, None).map_err(|e| errored(&e))?;
        free.retain(|port| !taken(port));
        for (replica, free) in description.replicas.iter_mut().zip(free.chunks_exact(4)) {
            (replica.client, replica.peer, replica.admin, replica.control) =
                (free[0], free[1], free[2], free[3]);
        }
        Cluster::new(layout, description).map_err(|e| errored(&e))
    }

    /// The one that was refused is started all the same.
    pub(super) async fn check_rival(&mut self, rival: Rival) -> Step<()> {
        let Rival { cluster: refused, plan, refusal } = rival;
        // One of the two has the lock of the whole drill's directory: without it another drill would tidy that up.
        self.cluster.keep_beside(refused);
        // It has no disks left; on ports that are free now, and not seconds ago.
        let mut cluster = self.second_cluster("refused")?;
        recovery::configure(&mut cluster, &plan).map_err(|e| errored(&format!("{e:#}")))?;
        cluster.start_replicas().map_err(|e| errored(&e))?;
        let connector = cluster.connector().map_err(|e| errored(&e))?;
        let client = Client::new(&cluster.description().endpoints(), CALL_TIMEOUT, &connector);
        let verdict = watch(&mut cluster, &client).await;
        let all = cluster.ids();
        cluster.kill(&all).await.map_err(|e| errored(&e))?;
        let (fenced, detail) = match verdict {
            Ok(()) => (true, format!("all {} replicas of the refused cluster stopped: {refusal}", all.len())),
            Err(reason) => (false, reason),
        };
        self.course.check("rivalFenced", fenced, detail);
        Ok(())
    }
}

/// Until each of them has found out that it is fenced, or one has shown that it is not.
async fn watch(cluster: &mut Cluster, client: &Client) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut running = cluster.ids();
    while !running.is_empty() {
        for (id, how, log) in cluster.reap() {
            if how != Ended::Exit(FENCED) {
                return Err(format!(
                    "replica {id} of the refused cluster {how}, but not because it is fenced:\n{log}"
                ));
            }
            running.retain(|other| *other != id);
        }
        for id in running.clone() {
            let Some(admin) = cluster.admin_address(id) else { continue };
            if status(admin).await.is_some_and(|status| status.fenced) {
                running.retain(|other| *other != id);
            }
        }
        let put = PutRequest {
            key: Bytes::from_static(b"probe/rival"),
            value: Bytes::from_static(b"written by the refused restore"),
            ..PutRequest::default()
        };
        if let Ok(answer) = client.kv().put(put).await {
            let header = answer.into_inner().header.unwrap_or_default();
            let (by, of) = (header.member_id, header.cluster_id);
            return Err(format!(
                "the refused cluster took a write: revision {} by member {by:x} of cluster {of:x}",
                header.revision
            ));
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "replicas {running:?} of the refused cluster go on after {} s",
                PATIENCE.as_secs()
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
