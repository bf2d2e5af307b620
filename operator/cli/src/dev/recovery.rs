//! From where a cluster on this machine comes back: inventory, choice, fence, and the next generation's configuration.
//!
//! The choice is [`recovery_point`]'s, which loads it once. Loading it into the replicas, and saying so on every tier, is
//! the replicas' part.

use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;
use vr_checkpoint::format::Parent;
use vr_checkpoint::restore::{self, Candidate, Inventory, Target, TierKind};
use vr_checkpoint::store::StoreError;
use vr_replica::config::RawRestore;
use vr_replica::node::tier_name;
use vr_replica::status::RestoredFrom;

use super::cluster::Cluster;
use super::tiers::{self, Access};
use crate::output;
use crate::recovery_point::{self, Found};

/// Where a cluster comes back from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Which one, for people.
    pub source: String,
    /// The database.
    pub lineage: String,
    /// The generation that is restored.
    pub generation: u64,
    /// The generation that begins.
    pub next_generation: u64,
    /// The checkpoint's op.
    pub checkpoint: u64,
    /// The op that is reached by the log on top of it.
    pub op: u64,
    /// The checkpoint's root, hexadecimal.
    pub root: String,
    /// No revision above this one was handed out.
    pub reserved_revision: i64,
    /// Tells this restore from another that plans the same at the same time.
    pub token: String,
    /// The places that hold a HEAD.
    pub heads: Vec<String>,
    /// Every candidate, best first, and what became of it.
    pub candidates: Vec<(Candidate, String)>,
    /// What would have been better and could not be loaded, and why.
    pub passed_over: Vec<String>,
}

impl Plan {
    /// Whether this, which a replica says that it has loaded, is what was chosen.
    #[must_use]
    pub fn chose(&self, loaded: &RestoredFrom) -> bool {
        let RestoredFrom { tier: _, lineage, generation, checkpoint, op, root } = loaded;
        (&**lineage, *generation, *checkpoint, *op, &**root)
            == (&*self.lineage, self.generation, self.checkpoint, self.op, &*self.root)
    }
}

/// What every tier holds, best first.
///
/// # Errors
/// None but those of the system; a tier that cannot be read is a finding.
pub async fn inventory(cluster: &Cluster) -> Result<Inventory, StoreError> {
    let sources = tiers::all(cluster, Access::Read).await?;
    Ok(restore::inventory(&sources, &cluster.description().lineage.to_string()).await)
}

/// Chooses, fences everything older, and writes the next generation into the cluster's configuration. Its replicas
/// load the state at their start.
///
/// # Errors
/// When no candidate can be loaded, a tier that can be reached cannot be fenced, or the configuration cannot be
/// written.
pub async fn restore(cluster: &mut Cluster, target: &Target) -> anyhow::Result<Plan> {
    let plan = plan(cluster, target).await?;
    fence(cluster, &plan).await?;
    configure(cluster, &plan)?;
    Ok(plan)
}

/// Chooses, and changes nothing.
///
/// # Errors
/// When no candidate can be loaded.
pub async fn plan(cluster: &Cluster, target: &Target) -> anyhow::Result<Plan> {
    let sources = tiers::all(cluster, Access::Write).await?;
    let description = cluster.description();
    let lineage = description.lineage.to_string();
    let inventory = restore::inventory(&sources, &lineage).await;
    let Found { candidate: best, op, table, passed_over, loaded } =
        recovery_point::find(&inventory, &sources, target).await?;
    // Its replicas load it again; until then it would be there twice.
    drop(loaded);
    Ok(Plan {
        tier: tier_name(best.tier).to_owned(),
        source: best.source.clone(),
        lineage,
        generation: best.generation,
        next_generation: inventory.generation.max(description.generation) + 1,
        checkpoint: best.checkpoint_op,
        op,
        root: best.root.clone(),
        reserved_revision: inventory.reserved_revision,
        token: Uuid::new_v4().to_string(),
        heads: inventory
            .findings
            .iter()
            .filter(|f| f.generation.is_some())
            .map(|f| f.source.clone())
            .collect(),
        candidates: table,
        passed_over,
    })
}

/// Before anything else happens: whoever is of an older generation must find out wherever it can write. Of several that
/// planned at the same time exactly one gets past the object store.
///
/// # Errors
/// A tier that has a HEAD cannot be written, or another restore was faster.
pub async fn fence(cluster: &Cluster, plan: &Plan) -> anyhow::Result<()> {
    let parent = Parent { generation: plan.generation, op: plan.op, root: plan.root.clone() };
    let mut sources = tiers::all(cluster, Access::Write).await?;
    // Where all meet first: whoever is refused there has touched nothing.
    sources.sort_by_key(|source| source.tier != TierKind::ObjectStore);
    // Without a HEAD there is nothing to fence; its replica will begin the tier anew.
    for source in sources.iter().filter(|source| plan.heads.contains(&source.name)) {
        restore::fence(&*source.store, &parent, plan.next_generation, plan.reserved_revision, &plan.token)
            .await
            .map_err(|reason| anyhow::anyhow!("cannot fence the older generations: {reason}"))?;
    }
    Ok(())
}

/// Writes the next generation into the cluster's configuration.
///
/// # Errors
/// When it cannot be written.
pub fn configure(cluster: &mut Cluster, plan: &Plan) -> anyhow::Result<()> {
    let sources = directories(cluster, &plan.source)?;
    cluster.describe(|description| {
        description.generation = plan.next_generation;
        description.served = false;
        // The new generation begins with all of them.
        description.replicas.iter_mut().for_each(|ports| ports.joined = false);
        description.restore = Some(RawRestore {
            from_generation: plan.generation,
            checkpoint: plan.checkpoint,
            root: plan.root.clone(),
            to_op: plan.op,
            reserved_revision: plan.reserved_revision,
            token: plan.token.clone(),
            sources,
        });
    })?;
    Ok(())
}

/// All disk tiers, so that every replica finds what only one of them has; the chosen one first.
fn directories(cluster: &Cluster, best: &str) -> Result<Vec<PathBuf>, StoreError> {
    let mut disks = tiers::disks(cluster, Access::Read)?;
    disks.retain(|(directory, _)| directory.exists());
    disks.sort_by_key(|(_, source)| source.name != best);
    Ok(disks.into_iter().map(|(directory, _)| directory).collect())
}

/// An inventory for people: every place, and of each the newest recovery point.
#[must_use]
pub fn show(inventory: &Inventory) -> String {
    let header = ["PLACE", "GENERATION", "CHECKPOINTS", "NEWEST", "REACHES OP", "TIME", "PROBLEM"];
    let mut table = output::table(header);
    for finding in &inventory.findings {
        let newest = inventory.candidates.iter().find(|candidate| candidate.source == finding.source);
        let dash = || "-".to_owned();
        table.add_row([
            finding.source.clone(),
            finding.generation.map_or_else(dash, |generation| generation.to_string()),
            finding.checkpoints.to_string(),
            newest.map_or_else(dash, |candidate| format!("op {}", candidate.checkpoint_op)),
            newest.map_or_else(dash, |candidate| candidate.reachable_op.to_string()),
            newest.map_or_else(dash, |candidate| output::time(candidate.time_micros)),
            finding.problem.clone().unwrap_or_default(),
        ]);
    }
    output::trimmed(&table)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.passed_over {
            writeln!(f, "passed over: {reason}")?;
        }
        write!(
            f,
            "generation {} begins from generation {} at op {} (checkpoint {} and {} log entries), from {}",
            self.next_generation,
            self.generation,
            self.op,
            self.checkpoint,
            self.op - self.checkpoint,
            self.source
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_as_a_sentence() {
        let plan = Plan {
            tier: "volume".to_owned(),
            source: "volume of replica 2".to_owned(),
            lineage: "l".to_owned(),
            generation: 1,
            next_generation: 2,
            checkpoint: 90,
            op: 99,
            root: "r".to_owned(),
            reserved_revision: 7,
            token: "t".to_owned(),
            heads: Vec::new(),
            candidates: Vec::new(),
            passed_over: vec!["checkpoint at op 95: gone".to_owned()],
        };
        let expected = "passed over: checkpoint at op 95: gone\ngeneration 2 begins from generation 1 at op 99 \
                        (checkpoint 90 and 9 log entries), from volume of replica 2";
        assert_eq!(plan.to_string(), expected);
    }
}
