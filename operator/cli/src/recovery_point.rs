//! Which recovery point comes back: the candidates that lead to a target, tried in order until one is whole.
//!
//! A load takes what one place lacks from the others; only what no place has makes a candidate be passed over.

use clap::Args;
use vr_checkpoint::restore::{self, Candidate, Inventory, Loaded, Source, Target};
use vr_replica::export;

use crate::output;

/// Which moment is to come back, as it is typed. Without any: the newest.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Recovery point")]
pub struct TargetArgs {
    /// Exactly through this op
    #[arg(long, value_name = "OP", group = "target")]
    to_op: Option<u64>,

    /// Everything that was proposed until then, for example 2026-11-23T07:00:00Z
    #[arg(long, value_name = "TIME", group = "target", value_parser = time)]
    to_time: Option<u64>,

    /// Everything through the last op that leaves the store at this revision or below
    #[arg(long, value_name = "REVISION", group = "target")]
    to_revision: Option<i64>,

    /// This checkpoint alone, by the name that vr checkpoint ls shows, without the log above it
    #[arg(long, value_name = "NAME", group = "target")]
    checkpoint: Option<String>,
}

impl TargetArgs {
    /// What it means.
    #[must_use]
    pub fn target(&self) -> Target {
        match (self.to_op, self.to_time, self.to_revision, &self.checkpoint) {
            (Some(op), ..) => Target::Op(op),
            (_, Some(micros), ..) => Target::Time(micros),
            (_, _, Some(revision), _) => Target::Revision(revision),
            (_, _, _, Some(name)) => Target::Checkpoint(name.clone()),
            _ => Target::Newest,
        }
    }
}

/// Microseconds since the Unix epoch.
fn time(typed: &str) -> Result<u64, String> {
    let refused =
        || format!("{typed:?} is not a time: give a date, a time and a zone, as 2026-11-23T07:00:00Z");
    let at: jiff::Timestamp = typed.parse().map_err(|_| refused())?;
    u64::try_from(at.as_microsecond()).map_err(|_| refused())
}

/// A recovery point, loaded.
pub struct Found {
    /// The checkpoint.
    pub candidate: Candidate,
    /// Its state, and the log above it through `op`.
    pub loaded: Loaded,
    /// The op that it reaches.
    pub op: u64,
    /// Every candidate, best first, and what became of it.
    pub table: Vec<(Candidate, String)>,
    /// What would have been better and is not whole, and why.
    pub passed_over: Vec<String>,
}

/// Nothing that leads to the target can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// Nothing leads there.
    #[error(transparent)]
    Target(#[from] restore::TargetError),
    /// What leads there is damaged.
    #[error("no recovery point can be loaded:{}\n{}", lines(.passed_over), show(.table))]
    Damaged {
        /// Why, one by one.
        passed_over: Vec<String>,
        /// Every candidate, and what became of it.
        table: Vec<(Candidate, String)>,
    },
}

/// Finds and loads it.
///
/// # Errors
/// When nothing leads to the target, or nothing that does is whole.
pub async fn find(inventory: &Inventory, sources: &[Source], target: &Target) -> Result<Found, NotFound> {
    let leading = target.candidates(inventory)?;
    let mut verdicts: Vec<(&Candidate, String)> = Vec::new();
    let mut passed_over = Vec::new();
    let mut found = None;
    for candidate in &leading {
        let same = |(other, _): &&(&Candidate, String)| {
            (other.checkpoint_op, &other.root) == (candidate.checkpoint_op, &candidate.root)
        };
        if verdicts.iter().any(|tried| same(&tried)) {
            verdicts.push((
                candidate,
                "the same as one above, which took what it lacked from here as well".to_owned(),
            ));
            continue;
        }
        match load(candidate, sources, target).await {
            Ok((loaded, op)) => {
                passed_over.extend(loaded.cut_short.clone());
                let log = op - candidate.checkpoint_op;
                verdicts.push((candidate, format!("chosen: with {log} log entries it reaches op {op}")));
                found = Some(((*candidate).clone(), loaded, op));
                break;
            }
            Err(reason) => {
                verdicts.push((candidate, format!("passed over: {reason}")));
                passed_over.push(reason);
            }
        }
    }
    let verdict = |candidate: &Candidate| {
        let told = verdicts.iter().find(|(other, _)| *other == candidate).map(|(_, verdict)| verdict.clone());
        let known = leading.contains(&candidate);
        told.unwrap_or_else(|| if known { String::new() } else { format!("does not lead to {target}") })
    };
    let table =
        inventory.candidates.iter().map(|candidate| (candidate.clone(), verdict(candidate))).collect();
    match found {
        Some((candidate, loaded, op)) => Ok(Found { candidate, loaded, op, table, passed_over }),
        None => Err(NotFound::Damaged { passed_over, table }),
    }
}

async fn load(candidate: &Candidate, sources: &[Source], target: &Target) -> Result<(Loaded, u64), String> {
    let loaded = restore::load(candidate, sources, target.load_to(candidate)).await;
    let mut loaded = loaded.map_err(|error| error.to_string())?;
    let place = format!("checkpoint at op {} on {}", candidate.checkpoint_op, candidate.source);
    export::is_of_its_op(&loaded).map_err(|error| format!("{place}: {error:#}"))?;
    let op = match (target.op_in(&loaded), target) {
        (Some(op), _) => op,
        (None, Target::Revision(revision)) => export::op_at_revision(&loaded, *revision)
            .map_err(|error| format!("{place}: {error:#}{}", because(&loaded)))?,
        (None, _) => unreachable!("every other target is a place in the log"),
    };
    if loaded.entries.iter().any(|entry| entry.op > op) {
        loaded.entries.retain(|entry| entry.op <= op);
        // What is not whole lies beyond what was asked for.
        loaded.cut_short = None;
    }
    Ok((loaded, op))
}

fn because(loaded: &Loaded) -> String {
    loaded.cut_short.as_ref().map_or_else(String::new, |reason| format!(", because {reason}"))
}

/// The candidates for people, best first.
#[must_use]
pub fn show(table: &[(Candidate, String)]) -> String {
    let header = ["PLACE", "GENERATION", "CHECKPOINT", "OP", "REACHES OP", "REVISION", "TIME", "VERDICT"];
    let mut shown = output::table(header);
    for (candidate, verdict) in table {
        shown.add_row([
            candidate.source.clone(),
            candidate.generation.to_string(),
            candidate.name().to_owned(),
            candidate.checkpoint_op.to_string(),
            candidate.reachable_op.to_string(),
            candidate.revision.to_string(),
            output::time(candidate.time_micros),
            verdict.clone(),
        ]);
    }
    output::trimmed(&shown)
}

fn lines(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("\n  {reason}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        assert_eq!(time("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(0));
        for wrong in ["", "yesterday", "2026-11-23", "2026-11-23T07:00:00", "1969-12-31T23:59:59Z"] {
            assert!(time(wrong).expect_err(wrong).contains("a zone"), "{wrong}");
        }
    }
}
