//! `vr checkpoint repair-index`: indexes from the ends of packs alone.

use anyhow::bail;
use vr_checkpoint::repair::{Repairs, repair_indexes};

use super::Place;
use crate::output::{self, Format};

/// # Errors
/// When an index cannot be made whole, or the tier cannot be used.
pub(super) async fn run(place: &Place, dry_run: bool, format: Format) -> anyhow::Result<()> {
    let (mut source, lineage) = place.one().await?;
    if !dry_run {
        source.store = place.for_writing(lineage).await?;
    }
    let found = repair_indexes(&*source.store, &lineage.to_string(), !dry_run).await?;
    match format {
        Format::Json => output::json(&found)?,
        Format::Table => output::text(show(&found, dry_run))?,
    }
    if found.ok() {
        return Ok(());
    }
    bail!(
        "{}: not every index is whole: restores need none, but a replica that writes here ships anew what it cannot find",
        source.name
    )
}

fn show(found: &Repairs, dry_run: bool) -> String {
    let done = if dry_run { "can be repaired" } else { "repaired" };
    let mut table = output::table(["INDEX", "PROBLEM", "PACKS", "FRAMES", "RESULT"]);
    for repair in &found.repairs {
        table.add_row([
            repair.index.clone(),
            repair.problem.clone(),
            repair.packs.to_string(),
            repair.frames.to_string(),
            repair.failed.clone().unwrap_or_else(|| done.to_owned()),
        ]);
    }
    for problem in &found.unreadable {
        table.add_row(["-", problem, "-", "-", "what it needs is not known"]);
    }
    if table.row_count() == 0 {
        return format!("all {} indexes are whole", found.indexes);
    }
    output::trimmed(&table)
}
