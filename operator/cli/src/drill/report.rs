//! The result of a drill: the same structure whoever ran it, on this machine or in Kubernetes.

use serde::{Deserialize, Serialize};

use super::input::Counted;
use super::scenario::{Sabotage, Scenario};
use crate::output;
use crate::units::show_bytes;

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Everything that was to be proven was proven.
    Passed,
    /// The disaster was rehearsed, and something did not come back as promised.
    Failed,
    /// The drill could not be carried out; it says nothing about the service.
    Errored,
}

impl Outcome {
    /// The exit status that tells it to scripts.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Outcome::Passed => 0,
            Outcome::Failed => 1,
            Outcome::Errored => 2,
        }
    }
}

/// Everything a drill found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// How it ended.
    pub result: Outcome,
    /// Why, when it did not pass.
    pub reason: Option<String>,
    /// What was rehearsed.
    pub scenario: String,
    /// What was broken on purpose.
    pub sabotage: Option<String>,
    /// Writes of keys that were acknowledged before the disaster.
    pub acknowledged_ops: u64,
    /// Of these, those that did not come back.
    pub lost_ops: u64,
    /// From the first lost write's acknowledgement to the disaster; 0 when nothing was lost.
    pub rpo_seconds: f64,
    /// From the disaster to the first acknowledged write after it.
    pub rto_seconds: Option<f64>,
    /// What took how long, in order.
    pub phases: Vec<Phase>,
    /// The recovery point that the service came back from; none when no restore was needed.
    pub restored_from: Option<RestoredFrom>,
    /// The root that the manifest of that recovery point names.
    pub expected_root: Option<String>,
    /// Around the disaster.
    pub revision: Revisions,
    /// What was loaded, and what the tiers took.
    pub bytes: Bytes,
    /// What was loaded.
    pub input: Option<LoadedInput>,
    /// What was proven.
    pub checks: Vec<Check>,
}

/// A stretch of the drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub millis: u64,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoredFrom {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// The database.
    pub lineage: String,
    /// The generation that wrote it.
    pub generation: u64,
    /// The op it reaches.
    pub op: u64,
    /// The root that the restored service reports for it.
    pub root: String,
}

impl From<vr_replica::status::RestoredFrom> for RestoredFrom {
    fn from(loaded: vr_replica::status::RestoredFrom) -> RestoredFrom {
        let vr_replica::status::RestoredFrom { tier, lineage, generation, checkpoint: _, op, root } = loaded;
        RestoredFrom { tier, lineage, generation, op, root }
    }
}

/// Revisions around the disaster.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revisions {
    /// The highest one seen before.
    pub before: i64,
    /// Of the first write after.
    pub after: Option<i64>,
}

/// Sizes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bytes {
    /// Keys and values of the input.
    pub loaded: u64,
    /// What each tier reported as written before the disaster, all replicas together.
    pub written: Vec<TierBytes>,
}

/// What one tier took.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierBytes {
    /// nvme, volume or objectStore.
    pub tier: String,
    /// Bytes.
    pub bytes: u64,
}

/// Where the input came from, and how much it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedInput {
    /// Its path.
    pub path: String,
    /// How much.
    #[serde(flatten)]
    pub counted: Counted,
}

/// One thing that was to be proven.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name, the same in every release.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

impl Report {
    /// Of a drill that could not even begin.
    #[must_use]
    pub fn errored(scenario: Scenario, sabotage: Option<Sabotage>) -> Report {
        Report {
            result: Outcome::Errored,
            reason: None,
            scenario: scenario.to_string(),
            sabotage: sabotage.map(|sabotage| sabotage.to_string()),
            acknowledged_ops: 0,
            lost_ops: 0,
            rpo_seconds: 0.0,
            rto_seconds: None,
            phases: Vec::new(),
            restored_from: None,
            expected_root: None,
            revision: Revisions::default(),
            bytes: Bytes::default(),
            input: None,
            checks: Vec::new(),
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut facts = output::table(["", ""]);
        let mut row = |name: &str, value: String| {
            facts.add_row([name.to_owned(), value]);
        };
        row("result", format!("{:?}", self.result));
        if let Some(reason) = &self.reason {
            row("reason", reason.clone());
        }
        row("scenario", self.scenario.clone());
        if let Some(sabotage) = &self.sabotage {
            row("sabotage", sabotage.clone());
        }
        if let Some(input) = &self.input {
            row("input", input.describe());
        }
        row("acknowledged writes", self.acknowledged_ops.to_string());
        row("lost writes", self.lost_ops.to_string());
        row("recovery point", format!("{:.2} s before the disaster", self.rpo_seconds));
        match self.rto_seconds {
            Some(seconds) => row("recovery time", format!("{seconds:.2} s to the first served write")),
            None => row("recovery time", "no write was served".to_owned()),
        }
        if let Some(from) = &self.restored_from {
            row("restored from", format!("{}, generation {}, op {}", from.tier, from.generation, from.op));
            row("root found", from.root.clone());
        }
        if let Some(root) = &self.expected_root {
            row("root expected", root.clone());
        }
        let after = self.revision.after.map_or_else(|| "none".to_owned(), |revision| revision.to_string());
        row("revision", format!("{} before, {after} after", self.revision.before));
        for tier in &self.bytes.written {
            row(&format!("written to {}", tier.tier), show_bytes(tier.bytes));
        }
        let mut phases = output::table(["PHASE", "SECONDS"]);
        for phase in &self.phases {
            phases.add_row([phase.name.clone(), format!("{:.2}", phase.millis as f64 / 1_000.0)]);
        }
        let mut checks = output::table(["CHECK", "", "DETAIL"]);
        for check in &self.checks {
            let verdict = if check.passed { "passed" } else { "FAILED" };
            checks.add_row([check.name.as_str(), verdict, check.detail.as_str()]);
        }
        [facts, phases, checks].map(|table| output::trimmed(&table)).join("\n\n")
    }
}

impl LoadedInput {
    fn describe(&self) -> String {
        let counted = &self.counted;
        let mut text = format!("{}: {} entries, {}", self.path, counted.entries, show_bytes(counted.bytes));
        for (count, why) in [
            (counted.skipped_too_large, "over the request limit"),
            (counted.skipped_unreadable, "unreadable"),
        ] {
            if count > 0 {
                text = format!("{text}, {count} skipped ({why})");
            }
        }
        text
    }
}
