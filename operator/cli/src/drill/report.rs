//! The report of a drill, for people; what it consists of is `vr-evidence`'s.

pub use vr_evidence::report::*;

use super::scenario::{Sabotage, Scenario};
use crate::output;
use crate::units::show_bytes;

/// Of a drill on this machine that could not even begin.
#[must_use]
pub fn errored(scenario: Scenario, sabotage: Option<Sabotage>) -> Report {
    Report { sabotage: sabotage.map(|sabotage| sabotage.to_string()), ..Report::of(&scenario.to_string()) }
}

/// What a replica says that it has loaded.
#[must_use]
pub fn restored_from(loaded: vr_replica::status::RestoredFrom) -> RestoredFrom {
    let vr_replica::status::RestoredFrom { tier, lineage, generation, checkpoint: _, op, root } = loaded;
    RestoredFrom { tier, lineage, generation, op, root }
}

/// For people.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut facts = output::table(["", ""]);
    let mut row = |name: &str, value: String| {
        facts.add_row([name.to_owned(), value]);
    };
    row("result", format!("{:?}", report.result));
    if let Some(reason) = &report.reason {
        row("reason", reason.clone());
    }
    row("scenario", report.scenario.clone());
    if let Some(sabotage) = &report.sabotage {
        row("sabotage", sabotage.clone());
    }
    if let Some(input) = &report.input {
        row("input", described(input));
    }
    row("acknowledged writes", report.acknowledged_ops.to_string());
    row("lost writes", report.lost_ops.to_string());
    row("recovery point", format!("{:.2} s before the disaster", report.rpo_seconds));
    match report.rto_seconds {
        Some(seconds) => row("recovery time", format!("{seconds:.2} s to the first served write")),
        None => row("recovery time", "no write was served".to_owned()),
    }
    if let Some(from) = &report.restored_from {
        row("restored from", format!("{}, generation {}, op {}", from.tier, from.generation, from.op));
        row("root found", from.root.clone());
    }
    if let Some(root) = &report.expected_root {
        row("root expected", root.clone());
    }
    let after = report.revision.after.map_or_else(|| "none".to_owned(), |revision| revision.to_string());
    row("revision", format!("{} before, {after} after", report.revision.before));
    for tier in &report.bytes.written {
        row(&format!("written to {}", tier.tier), show_bytes(tier.bytes));
    }
    let mut phases = output::table(["PHASE", "SECONDS"]);
    for phase in &report.phases {
        phases.add_row([phase.name.clone(), format!("{:.2}", phase.millis as f64 / 1_000.0)]);
    }
    let mut checks = output::table(["CHECK", "", "DETAIL"]);
    for check in &report.checks {
        let verdict = if check.passed { "passed" } else { "FAILED" };
        checks.add_row([check.name.as_str(), verdict, check.detail.as_str()]);
    }
    [facts, phases, checks].map(|table| output::trimmed(&table)).join("\n\n")
}

fn described(input: &LoadedInput) -> String {
    let counted = &input.counted;
    let mut text = format!("{}: {} entries, {}", input.path, counted.entries, show_bytes(counted.bytes));
    for (count, why) in
        [(counted.skipped_too_large, "over the request limit"), (counted.skipped_unreadable, "unreadable")]
    {
        if count > 0 {
            text = format!("{text}, {count} skipped ({why})");
        }
    }
    text
}
