//! `vr checkpoint locate`: which op a target is, found by loading what leads there.

use std::path::Path;

use anyhow::{Context, bail};
use vr_checkpoint::restore::{Answer, Inventory, Located, Target, TargetError};
use vr_replica::export::Contents;

use super::Search;
use crate::output::{self, Format};
use crate::recovery_point::{self, Found, NotFound};

pub(super) async fn run(search: &Search, report: Option<&Path>, format: Format) -> anyhow::Result<()> {
    let target = &search.target.target();
    let answer = match find(search, target).await? {
        Ok((found, ..)) => Answer::Located(located(found)?),
        Err(why) => Answer::Nowhere(why),
    };
    tell(&answer, report)?;
    match answer {
        Answer::Nowhere(why) => bail!("{why}"),
        Answer::Located(found) if format == Format::Json => output::json(&found),
        Answer::Located(found) => output::text(sentence(target, &found)),
    }
}

fn sentence(target: &Target, found: &Located) -> String {
    format!(
        "{target} is op {} (revision {}, {}), by checkpoint {} of generation {} and {} log entries",
        found.op,
        found.revision,
        output::time(found.time_micros),
        found.checkpoint,
        found.generation,
        found.op - found.checkpoint
    )
}

/// Writes an answer down for whoever has asked for it.
pub(super) fn tell(answer: &Answer, report: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = report else { return Ok(()) };
    let text = serde_json::to_vec(answer)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// What leads to a target, loaded, and what else there is; or why nothing does. What cannot be read is an error: it says
/// nothing about the target.
pub(super) async fn find(
    search: &Search,
    target: &Target,
) -> anyhow::Result<Result<(Found, Inventory), String>> {
    let (sources, _, inventory) = search.inventory().await?;
    let problems = inventory.findings.iter().filter_map(|finding| finding.problem.as_deref());
    let problems: Vec<&str> = problems.collect();
    let found = match recovery_point::find(&inventory, &sources, target).await {
        Ok(found) => found,
        Err(NotFound::Target(TargetError::Nothing)) if !problems.is_empty() => {
            bail!("{}", problems.join("; "))
        }
        Err(NotFound::Target(error)) => return Ok(Err(error.to_string())),
        Err(NotFound::Damaged { passed_over, .. }) => {
            let why = format!("nothing that leads to {target} can be loaded: {}", passed_over.join("; "));
            return Ok(Err(why));
        }
    };
    problems
        .iter()
        .chain(&found.passed_over.iter().map(String::as_str).collect::<Vec<_>>())
        .for_each(|why| eprintln!("warning: {why}"));
    Ok(Ok((found, inventory)))
}

fn located(found: Found) -> anyhow::Result<Located> {
    let Found { candidate, loaded, op, .. } = found;
    let lineage = loaded.manifest.lineage.clone();
    let time_micros = loaded.entries.last().map_or(candidate.time_micros, |entry| entry.time_micros);
    let contents = Contents::open(loaded)?;
    Ok(Located {
        lineage,
        generation: candidate.generation,
        checkpoint: candidate.checkpoint_op,
        root: candidate.root,
        op,
        time_micros,
        revision: contents.revision(),
    })
}
