//! `vr checkpoint garbage`: what collections would delete, and why. Writes nothing.

use clap::Args;
use vr_checkpoint::writer::{Preview, Retention, Stage, preview};

use super::Place;
use crate::output::{self, Format};
use crate::units::show_bytes;

/// The rules by which checkpoints stay.
#[derive(Debug, Args)]
pub(super) struct Rules {
    /// So many of the newest checkpoints stay [default: all that HEAD retains]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// And the newest of each of so many hours
    #[arg(long, value_name = "N", default_value_t = 0, requires = "keep")]
    keep_hourly: u16,
    /// And the newest of each of so many days
    #[arg(long, value_name = "N", default_value_t = 0, requires = "keep")]
    keep_daily: u16,
    /// And the newest of each of so many months
    #[arg(long, value_name = "N", default_value_t = 0, requires = "keep")]
    keep_monthly: u16,
}

impl Rules {
    fn retention(&self) -> Option<Retention> {
        let [hourly, daily, monthly] =
            [self.keep_hourly, self.keep_daily, self.keep_monthly].map(usize::from);
        self.keep.map(|last| Retention { last: last.into(), hourly, daily, monthly })
    }
}

/// # Errors
/// When the tier cannot be read.
pub(super) async fn run(place: &Place, rules: &Rules, format: Format) -> anyhow::Result<()> {
    let (source, lineage) = place.one().await?;
    let found = preview(&source, &lineage.to_string(), rules.retention(), source.tier.grace()).await;
    let found = found.map_err(|reason| anyhow::anyhow!("{}: {reason}", source.name))?;
    match format {
        Format::Json => output::json(&found),
        Format::Table => output::text(show(&found)),
    }
}

fn show(found: &Preview) -> String {
    let ops = |ops: &[u64]| match ops {
        [] => "none".to_owned(),
        ops => ops.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!(
        "checkpoints that stay, by op: {}\nlet go of with the next checkpoint: {}\n",
        ops(&found.stay),
        ops(&found.let_go)
    );
    if let Some(held) = &found.held {
        return format!("{text}nothing is deleted for now: {held}");
    }
    if found.objects.is_empty() {
        return format!("{text}nothing is to be deleted");
    }
    let mut table = output::table(["OBJECT", "SIZE", "WHY", "WHEN"]);
    for object in &found.objects {
        let why = match &object.needed_by[..] {
            [] => "no retained checkpoint needs it".to_owned(),
            needed => format!("only what is let go of needs it: op {}", ops(needed)),
        };
        table.add_row([object.key.clone(), show_bytes(object.bytes), why, when(object.stage).to_owned()]);
    }
    let bytes = found.objects.iter().map(|object| object.bytes).sum();
    text.push_str(&output::trimmed(&table));
    text.push_str(&format!(
        "\n{} objects, {}; one collection deletes at most {}. Nothing was written.",
        found.objects.len(),
        show_bytes(bytes),
        found.most
    ));
    text
}

fn when(stage: Stage) -> &'static str {
    match stage {
        Stage::Due => "with the next collection",
        Stage::Planned => "once the plan that names it is old enough",
        Stage::Found => "the next collection plans it",
        Stage::Young => "it is left alone until it is older: an upload may be under way",
        Stage::LetGo => "it is found once the next checkpoint is there",
    }
}
