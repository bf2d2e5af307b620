//! `GET /status`: what a person or a script wants to know of one replica, as JSON.

use crate::node::Node;
use serde::{Deserialize, Serialize};

/// One replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The database.
    pub lineage: String,
    /// Its generation.
    pub generation: u64,
    /// This replica.
    pub replica_id: u64,
    /// Which start.
    pub incarnation: u64,
    /// Its process.
    pub process: u64,
    /// Normal, ViewChange, Recovering, Syncing or QuorumLost.
    pub status: String,
    /// Epoch of its ballot.
    pub epoch: u64,
    /// View of its ballot.
    pub view: u64,
    /// The primary, where one is known.
    pub primary: Option<u64>,
    /// Newest entry in its log.
    pub op: u64,
    /// Newest committed entry.
    pub commit: u64,
    /// The store's revision.
    pub revision: i64,
    /// Whether it takes part and can answer.
    pub ready: bool,
    /// A majority has lost its memory.
    pub quorum_lost: bool,
    /// A newer generation exists.
    pub fenced: bool,
    /// Why it stopped, if it did.
    pub halted: Option<String>,
    /// What a person should do next, if anything.
    pub remedy: Option<String>,
    /// What this start of it loaded to begin a restored generation; nothing if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<RestoredFrom>,
    /// The chain.
    pub tiers: Vec<TierReport>,
}

/// What a replica has loaded: computed from what is in its memory, not read from what a tier says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredFrom {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// The database.
    pub lineage: String,
    /// The generation that wrote it.
    pub generation: u64,
    /// Op of the checkpoint.
    pub checkpoint: u64,
    /// The op that the log on top of it led to.
    pub op: u64,
    /// Root of the checkpoint's state, hexadecimal.
    pub root: String,
}

/// One tier of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierReport {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Op of the newest checkpoint.
    pub checkpoint_op: u64,
    /// Newest op that a restore from here could reach: checkpoint and shipped log.
    pub recovery_op: u64,
    /// How long the oldest op that it lacks has been committed, seconds; 0 where nothing is missing.
    pub lag_seconds: f64,
    /// When it was last written, seconds since the Unix epoch; 0 if never.
    pub last_success: f64,
    /// Bytes it lacks.
    pub dirty_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests made.
    pub requests: u64,
    /// Objects that a retained checkpoint needs and that were found damaged.
    #[serde(default)]
    pub damaged: u64,
    /// Objects that were found damaged and made whole where they stand.
    #[serde(default)]
    pub repaired: u64,
    /// Why the last run failed, if it did.
    pub error: Option<String>,
}

/// The report of this thread's replica.
#[must_use]
pub fn report(node: &Node) -> Report {
    use crate::node::Halt;
    use vr_core::Status;
    let replica = node.replica();
    let halt = node.halt();
    let quorum_lost = replica.status() == Status::QuorumLost;
    Report {
        lineage: node.config.lineage.to_string(),
        generation: node.config.generation.0,
        replica_id: node.config.id.0,
        incarnation: node.incarnation.0,
        process: u64::from(std::process::id()),
        status: format!("{:?}", replica.status()),
        epoch: replica.ballot().epoch.0,
        view: replica.ballot().view.0,
        primary: node.primary().map(|p| p.0),
        op: replica.op().0,
        commit: replica.commit().0,
        revision: node.store().revision().0,
        ready: ready(node),
        quorum_lost,
        fenced: matches!(halt, Some(Halt::Fenced(_))),
        halted: halt
            .map(|(Halt::Fenced(reason) | Halt::Fatal(reason) | Halt::Retired(reason))| reason.clone()),
        remedy: quorum_lost.then(|| {
            "a majority lost its memory: restore the cluster from the freshest recovery point of any tier"
                .to_owned()
        }),
        restored_from: node.restored_from.clone(),
        tiers: node.tiers(),
    }
}

/// Takes part, follows a primary, is not halted, and the cluster has revisions to hand out.
#[must_use]
pub fn ready(node: &Node) -> bool {
    let takes_part = node.replica().status() == vr_core::Status::Normal && !node.leaderless();
    node.halt().is_none() && takes_part && node.store().reserved() > node.store().revision()
}
