//! `vr checkpoint verify`: everything on one tier that is not as it was written, object by object.

use anyhow::bail;
use clap::{Args, ValueEnum};
use vr_checkpoint::verify::{self, Only, Report, Sample, Verified};

use super::{Place, short};
use crate::output::{self, Format};
use crate::units::show_bytes;

/// Which checkpoints, and how much of them.
#[derive(Debug, Args)]
pub(super) struct Extent {
    /// The checkpoint at this op [default: the newest]
    #[arg(long, value_name = "OP")]
    op: Option<u64>,

    /// Every checkpoint that is retained, not only the newest
    #[arg(long, conflicts_with = "op")]
    all: bool,

    /// How much is read of each
    #[arg(long, value_enum, default_value_t)]
    depth: Depth,

    /// Only so many of a hundred packs, others each time, at least one: as --depth frames, for a part of the cost
    #[arg(long, value_name = "PERCENT", conflicts_with = "depth", value_parser = clap::value_parser!(u8).range(1..=100))]
    sample: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// HEAD, the manifests, and the log that leads on from them
    Manifests,
    /// Every index and every frame as well: checksum, and hash of its page
    Frames,
    /// The state is built and its root recomputed as well; takes as much memory as the state
    #[default]
    Root,
}

impl Extent {
    fn only(&self) -> Only {
        Only { newest: !self.all && self.op.is_none(), op: self.op, ..Only::default() }
    }

    fn depth(&self) -> verify::Depth {
        match (self.sample, self.depth) {
            (Some(percent), _) => {
                verify::Depth::Sample(Sample { percent, seed: uuid::Uuid::new_v4().as_u64_pair().0 })
            }
            (None, Depth::Manifests) => verify::Depth::Manifests,
            (None, Depth::Frames) => verify::Depth::Frames,
            (None, Depth::Root) => verify::Depth::Root,
        }
    }
}

/// # Errors
/// When anything is damaged, or there is nothing to verify.
pub(super) async fn run(place: &Place, extent: &Extent, format: Format) -> anyhow::Result<()> {
    let (source, lineage) = place.one().await?;
    let report = verify::verify(&source, &lineage.to_string(), extent.only(), extent.depth()).await;
    match format {
        Format::Json => output::json(&report)?,
        Format::Table => output::text(show(&report))?,
    }
    if report.ok() {
        return Ok(());
    }
    let damaged = report.checkpoints.iter().filter(|checkpoint| !checkpoint.ok).count();
    match report.problems.first() {
        Some(problem) => bail!("{}: {}: {}", report.source, problem.object, problem.reason),
        None => bail!(
            "{}: {damaged} of {} checkpoints are damaged; a restore takes what is damaged here from another tier, \
             or falls back to an older checkpoint",
            report.source,
            report.checkpoints.len()
        ),
    }
}

/// The checkpoints, and below them every problem.
fn show(report: &Report) -> String {
    let mut checkpoints = output::table(["GENERATION", "OP", "VERDICT", "ROOT", "LOG", "READ"]);
    for checkpoint in &report.checkpoints {
        checkpoints.add_row([
            checkpoint.generation.to_string(),
            checkpoint.op.to_string(),
            if checkpoint.ok { "whole" } else { "DAMAGED" }.to_owned(),
            checkpoint.root.as_deref().map_or_else(|| "-".to_owned(), short),
            format!("to op {}", checkpoint.reaches_op),
            read(checkpoint),
        ]);
    }
    let mut problems = output::table(["CHECKPOINT", "OBJECT", "FRAME", "PROBLEM"]);
    let of_head = report.problems.iter().map(|problem| ("-".to_owned(), problem));
    let of_checkpoints = report.checkpoints.iter().flat_map(|checkpoint| {
        checkpoint.problems.iter().map(|problem| (format!("op {}", checkpoint.op), problem))
    });
    for (checkpoint, problem) in of_head.chain(of_checkpoints) {
        let frame = problem.frame.as_deref().map_or_else(|| "-".to_owned(), short);
        problems.add_row([checkpoint, problem.object.clone(), frame, problem.reason.clone()]);
    }
    let tables = [checkpoints, problems].into_iter().filter(|table| table.row_count() > 0);
    tables.map(|table| output::trimmed(&table)).collect::<Vec<_>>().join("\n\n")
}

fn read(checkpoint: &Verified) -> String {
    let read = &checkpoint.read;
    let mut text = format!("{} objects, {}", read.objects, show_bytes(read.bytes));
    for (count, what) in [(read.frames, "frames"), (read.log_entries, "log entries")] {
        if count > 0 {
            text = format!("{text}, {count} {what}");
        }
    }
    text
}
