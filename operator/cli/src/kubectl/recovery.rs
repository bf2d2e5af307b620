//! `kubectl vr plan`, `recover`, `roll-back` and `restore-points`: what there is to go back to, and the word that it takes.

use std::fmt::Write as _;

use anyhow::{anyhow, bail};
use clap::Args;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use vr_api::{
    LocalReference, RecoveryPlan, RestoreTarget, VRCheckpoint, VRCluster, VRRestore, VRRestoreSpec,
};

use super::{Ask, Place, Said, confirmed, or_dash, refused};
use crate::output::{table, trimmed};

/// Shows what the operator would restore after a total loss, and what that costs
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The VRCluster
    name: String,
}

/// Acknowledges the recovery plan: makes the VRRestore that names it
///
/// Every write after the best candidate is given up. The name of the cluster has to be typed, or --yes given.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// The VRCluster
    name: String,

    /// Only the plan with this nonce
    #[arg(long, value_name = "NONCE")]
    nonce: Option<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Rolls a cluster back to an earlier state: makes the VRRestore that orders it
///
/// Every write after that state is given up. The name of the cluster has to be typed, or --yes given. The target is looked
/// for first; where nothing whole leads to it the cluster is not touched.
#[derive(Debug, Args)]
pub(super) struct RollBack {
    /// The VRCluster
    name: String,

    #[command(flatten)]
    target: Target,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The newest state of this time or before, for example 2026-11-23T07:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_time: Option<String>,

    /// The state through this op
    #[arg(long, value_name = "OP", value_parser = clap::value_parser!(i64).range(1..))]
    to_op: Option<i64>,

    /// The last state at or below this revision
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    to_revision: Option<i64>,

    /// A VRCheckpoint in the same namespace
    #[arg(long, value_name = "NAME")]
    to_checkpoint: Option<String>,
}

fn time(typed: &str) -> Result<String, String> {
    let refused =
        || format!("{typed:?} is not a time: give a date, a time and a zone, as 2026-11-23T07:00:00Z");
    typed.parse::<jiff::Timestamp>().map(|at| at.to_string()).map_err(|_| refused())
}

/// Shows the states that a restore could reach, as far as the resources say
#[derive(Debug, Args)]
pub(super) struct RestorePoints {
    /// The VRCluster
    name: String,
}

fn plan_of(cluster: &VRCluster) -> Option<&RecoveryPlan> {
    cluster.status.as_ref()?.recovery_plan.as_ref()
}

impl Plan {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let Some(plan) = plan_of(&cluster) else {
            let says = format!(
                "VRCluster {} has no recovery plan: nothing waits for your word. `kubectl vr status {}` says how it is",
                self.name,
                place.named(&self.name)
            );
            return Ok(says.into());
        };
        let next = place.named(&self.name);
        Ok(format!("{}\n\nTo go on: kubectl vr recover {next} --nonce {}", show(place, plan), plan.nonce)
            .into())
    }
}

fn show(place: &Place, plan: &RecoveryPlan) -> String {
    let mut out = format!("Plan {}: {}\n", plan.nonce, plan.reason);
    let loss = plan.expected_data_loss_seconds;
    let loss = loss
        .map_or("how much is lost is not known".to_owned(), |s| format!("about {s} s of writes are lost"));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "Expected: {loss}\n");
    let mut rows = table(["", "SOURCE", "OP", "AGE", "REMARK"]);
    let mut best = true;
    for candidate in &plan.candidates {
        let usable = candidate.remark.is_none();
        rows.add_row([
            (if usable && best { "->" } else { "" }).to_owned(),
            candidate.source.clone(),
            candidate.op.to_string(),
            place.ago_text(candidate.time.as_deref()),
            or_dash(candidate.remark.clone()),
        ]);
        best &= !usable;
    }
    out + &trimmed(&rows)
}

impl Recover {
    pub(super) async fn run(&self, place: &Place, ask: Ask<'_>) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let plan = plan_of(&cluster).ok_or_else(|| {
            anyhow!(
                "VRCluster {} has no recovery plan, so there is nothing to acknowledge: the operator makes one once it has \
                 proof that a majority has lost its memory. `kubectl vr status {}` says what it knows",
                self.name,
                place.named(&self.name)
            )
        })?;
        if self.nonce.as_ref().is_some_and(|nonce| *nonce != plan.nonce) {
            bail!(
                "the plan has changed, it is {} now: read it again with `kubectl vr plan {}`",
                plan.nonce,
                place.named(&self.name)
            );
        }
        if !plan.candidates.iter().any(|c| c.remark.is_none()) {
            bail!("the plan names nothing that can be restored; nothing was done:\n{}", show(place, plan));
        }
        if !self.yes {
            given_up(&self.name, &format!("{}\n\n", show(place, plan)), ask)?;
        }
        let name = format!("{}-{}", self.name, plan.nonce.to_lowercase());
        let spec = VRRestoreSpec {
            cluster_ref: LocalReference { name: self.name.clone() },
            plan_nonce: Some(plan.nonce.clone()),
            target: None,
            acknowledge_data_loss: self.name.clone(),
        };
        let there = "there already: this plan was acknowledged before";
        make(place, &name, spec, there).await
    }
}

/// Has the name of the cluster typed by whoever gives something up.
fn given_up(name: &str, before: &str, ask: Ask<'_>) -> anyhow::Result<()> {
    let question = format!("{before}Type the name of the cluster to give up what is not in it: ");
    confirmed(&question, name, "the name of the cluster", ask)
}

async fn make(place: &Place, name: &str, spec: VRRestoreSpec, there: &str) -> anyhow::Result<Said> {
    let mut restore = VRRestore::new(name, spec);
    restore.metadata = ObjectMeta { namespace: Some(place.namespace.clone()), ..restore.metadata };
    let api: Api<VRRestore> = Api::namespaced(place.client.clone(), &place.namespace);
    let made = match api.create(&PostParams::default(), &restore).await {
        Ok(_) => "made",
        Err(kube::Error::Api(status)) if status.code == 409 => there,
        Err(error) => return Err(refused(error, &format!("VRRestore {name} cannot be made"))),
    };
    Ok(format!("VRRestore {name} is {made}. To watch: kubectl get vrr -n {} {name} -w", place.namespace)
        .into())
}

impl RollBack {
    pub(super) async fn run(&self, place: &Place, ask: Ask<'_>) -> anyhow::Result<Said> {
        place.cluster(&self.name).await?;
        let Target { to_time, to_op, to_revision, to_checkpoint } = &self.target;
        let target = RestoreTarget {
            before_time: to_time.clone(),
            op_number: *to_op,
            revision: *to_revision,
            checkpoint_ref: to_checkpoint.clone().map(|name| LocalReference { name }),
        };
        let words = [
            to_time.clone(),
            to_op.map(|op| format!("op {op}")),
            to_revision.map(|revision| format!("revision {revision}")),
            to_checkpoint.clone().map(|name| format!("VRCheckpoint {name}")),
        ];
        let to = words.into_iter().flatten().collect::<String>();
        if !self.yes {
            let before =
                format!("VRCluster {} goes back to {to}; every write after that is given up.\n", self.name);
            given_up(&self.name, &before, ask)?;
        }
        let name = format!("{}-back-{}", self.name, place.now.as_second());
        let spec = VRRestoreSpec {
            cluster_ref: LocalReference { name: self.name.clone() },
            plan_nonce: None,
            target: Some(target),
            acknowledge_data_loss: self.name.clone(),
        };
        make(place, &name, spec, "there already: this was ordered a moment ago").await
    }
}

impl RestorePoints {
    pub(super) async fn run(&self, place: &Place) -> anyhow::Result<Said> {
        let cluster = place.cluster(&self.name).await?;
        let api: Api<VRCheckpoint> = Api::namespaced(place.client.clone(), &place.namespace);
        let kept = api.list(&ListParams::default()).await;
        let kept = kept.map_err(|error| refused(error, "VRCheckpoints cannot be listed"))?;
        let status = cluster.status.clone().unwrap_or_default();
        let mut rows = table(["POINT", "WHERE", "OP", "AGE"]);
        let points = [("newest", &status.recovery_point), ("oldest", &status.first_recovery_point)];
        for (which, point) in points {
            if let Some(point) = point {
                let age = place.ago_text(Some(&point.time));
                rows.add_row([which.to_owned(), point.tier.clone(), point.op.to_string(), age]);
            }
        }
        for tier in &status.tiers {
            let age = place.ago_text(tier.time.as_deref());
            rows.add_row(["tier".to_owned(), tier.name.clone(), or_dash(tier.op), age]);
        }
        for checkpoint in kept.items.iter().filter(|c| c.spec.cluster_ref.name == self.name) {
            let known = checkpoint.status.clone().unwrap_or_default();
            let age = place.ago_text(known.time.as_deref());
            rows.add_row([
                "kept".to_owned(),
                format!("VRCheckpoint {}", checkpoint.name_any()),
                or_dash(known.op),
                age,
            ]);
        }
        for candidate in plan_of(&cluster).into_iter().flat_map(|plan| &plan.candidates) {
            let age = place.ago_text(candidate.time.as_deref());
            rows.add_row(["plan".to_owned(), candidate.source.clone(), candidate.op.to_string(), age]);
        }
        let known = if rows.is_empty() {
            format!("The status of VRCluster {} names no state that a restore could reach.", self.name)
        } else {
            trimmed(&rows)
        };
        let store = &cluster.spec.storage.object_store;
        let url = format!("s3://{}/{}", store.bucket, store.prefix.as_deref().unwrap_or_default());
        let endpoint = store.endpoint.as_ref().map(|at| format!(" --s3-endpoint {at}")).unwrap_or_default();
        Ok(format!("{known}\n\nAll that is in the bucket: vr checkpoint ls {url}{endpoint}").into())
    }
}
