//! `vr checkpoint`: what stands on a tier, read directly, with no cluster alive.
//!
//! Reads only, but for `repair-index`, `pin`, `unpin` and `copy`. A location is a directory or an `s3://bucket/prefix`, either the root below which
//! lineages stand or one lineage's own.

mod copy;
mod export;
mod garbage;
mod locate;
mod pin;
mod place;
mod repair;
mod verify;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;
use vr_checkpoint::format::{Head, Manifest};
use vr_checkpoint::restore::{self, Candidate, Inventory, Source};

pub use self::place::Location;
pub(crate) use self::place::Place;
pub(crate) use self::place::lineages_in;
use crate::output::{self, Format};
use crate::recovery_point::TargetArgs;
use crate::units::show_bytes;

/// Reads checkpoints of a tier directly, with no cluster alive
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the lineages there and the checkpoints that each retains, newest first
    Ls {
        #[command(flatten)]
        place: Place,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Shows HEAD and a checkpoint's manifest
    Show {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        choice: Choice,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Reads checkpoints and names every object and frame that is damaged
    ///
    /// It looks at one tier alone: what another tier could help out with is damage all the same. Exit status 1 if
    /// anything is damaged.
    Verify {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        extent: verify::Extent,
        /// How to print the findings
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Makes indexes anew that were lost or are damaged, from the ends of the packs alone
    ///
    /// Nothing else is touched, and no replica may be writing to the directory. Exit status 1 if an index that is needed
    /// is not whole afterwards.
    RepairIndex {
        #[command(flatten)]
        place: Place,
        /// Only say what would be repaired
        #[arg(long)]
        dry_run: bool,
        /// How to print what was done
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Says what collections would delete, and why; writes nothing
    ///
    /// A replica deletes what no retained checkpoint needs, by rules of its configuration. With --keep these are the
    /// rules to go by, so that it shows what another configuration would let go of.
    Garbage {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        rules: garbage::Rules,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Gives a checkpoint a name: as long as it has one it is not deleted, whatever the rules of retention say
    ///
    /// The log is not kept for it: it can be restored as it is. No replica may be writing to a directory meanwhile; in a
    /// bucket replicas may go on.
    Pin {
        #[command(flatten)]
        place: Place,
        /// The name: up to 63 letters, digits, dots, dashes and underscores
        #[arg(long, value_name = "NAME")]
        name: String,
        #[command(flatten)]
        choice: Choice,
        /// How to print what was pinned
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Takes such a name away: the rules of retention hold for the checkpoint again
    Unpin {
        #[command(flatten)]
        place: Place,
        /// The name
        #[arg(long, value_name = "NAME")]
        name: String,
        /// How to print what was unpinned
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Lists the names that checkpoints have
    Pins {
        #[command(flatten)]
        place: Place,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Says which op a time, a revision or a checkpoint is, and whether a restore would reach it; writes nothing
    ///
    /// What leads there is loaded and the log executed, as a restore would. Exit status 1 if nothing whole leads there.
    Locate {
        #[command(flatten)]
        search: Search,
        /// Write the answer there as well, as JSON; also where nothing leads there
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Begins a lineage of its own elsewhere, with what is here at a moment
    ///
    /// What leads there is loaded and the log executed, as a restore would; the state is written to the other place as one
    /// checkpoint, from which a cluster can be restored. Here nothing is written. Done again it changes nothing.
    Copy {
        #[command(flatten)]
        search: Search,
        /// The other place, reached in the same way: a directory, or s3://BUCKET/PREFIX
        #[arg(long, value_name = "LOCATION")]
        to: Location,
        /// The new lineage [default: a random one]
        #[arg(long, value_name = "UUID")]
        new_lineage: Option<Uuid>,
        /// Write the answer there as well, as JSON; also where nothing leads to the moment
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Gets the keys and values out: a checkpoint and the log above it, as JSON Lines
    ///
    /// One line for each key, {"key": …, "value": …}, which `vr drill --input` reads as well. What is not UTF-8 is
    /// written as {"base64": …} instead of a string.
    ///
    /// Candidates are tried in order, the nearest to what is asked for first; what a candidate lacks is taken from the
    /// other places.
    Restore {
        #[command(flatten)]
        search: Search,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Choice {
    /// The checkpoint at this op [default: the newest]
    #[arg(long, value_name = "OP")]
    op: Option<u64>,
}

/// What is looked for, and where.
#[derive(Debug, Args)]
struct Search {
    #[command(flatten)]
    place: Place,
    /// Another tier of the same lineage, whose checkpoints, pages and log count as well; may be given several times
    #[arg(long, value_name = "LOCATION")]
    also: Vec<Location>,
    #[command(flatten)]
    target: TargetArgs,
}

impl Search {
    /// The places, the lineage, and what stands there of it.
    async fn inventory(&self) -> anyhow::Result<(Vec<Source>, Uuid, Inventory)> {
        let (sources, lineage) = self.place.one_with(&self.also).await?;
        let inventory = restore::inventory(&sources, &lineage.to_string()).await;
        Ok((sources, lineage, inventory))
    }
}

/// One lineage and what stands there of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    lineage: String,
    generation: Option<u64>,
    problem: Option<String>,
    checkpoints: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    head: Head,
    manifest: Manifest,
}

impl Checkpoint {
    /// Carries it out.
    ///
    /// # Errors
    /// When the location cannot be read, or what was asked for is not there or damaged.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.what {
                What::Ls { place, output } => list(&place, output).await,
                What::Show { place, choice, output } => show(&place, &choice, output).await,
                What::Restore { search, to } => export::export(&search, &to).await,
                What::Locate { search, report, output } => {
                    locate::run(&search, report.as_deref(), output).await
                }
                What::Copy { search, to, new_lineage, report, output } => {
                    let to = copy::Destination { location: to, lineage: new_lineage };
                    copy::run(&search, &to, report.as_deref(), output).await
                }
                What::Pin { place, name, choice, output } => pin::pin(&place, &name, choice.op, output).await,
                What::Unpin { place, name, output } => pin::unpin(&place, &name, output).await,
                What::Pins { place, output } => pin::list(&place, output).await,
                What::Garbage { place, rules, output } => garbage::run(&place, &rules, output).await,
                What::RepairIndex { place, dry_run, output } => repair::run(&place, dry_run, output).await,
                What::Verify { place, extent, output } => verify::run(&place, &extent, output).await,
            }
        })
    }
}

async fn inventory(place: &Place) -> anyhow::Result<(Source, Inventory)> {
    let (source, lineage) = place.one().await?;
    let inventory = restore::inventory(std::slice::from_ref(&source), &lineage.to_string()).await;
    Ok((source, inventory))
}

async fn list(place: &Place, format: Format) -> anyhow::Result<()> {
    let mut listings = Vec::new();
    for lineage in place.lineages().await? {
        let inventory = restore::inventory(&[place.source(lineage).await], &lineage.to_string()).await;
        let finding = inventory.findings.into_iter().next();
        listings.push(Listing {
            lineage: lineage.to_string(),
            generation: finding.as_ref().and_then(|finding| finding.generation),
            problem: finding.and_then(|finding| finding.problem),
            checkpoints: inventory.candidates,
        });
    }
    if format == Format::Json {
        return output::json(&listings);
    }
    let mut table = output::table([
        "LINEAGE",
        "GENERATION",
        "CHECKPOINT",
        "OP",
        "REACHES OP",
        "REVISION",
        "TIME",
        "STATE",
    ]);
    for listing in &listings {
        if let Some(problem) = &listing.problem {
            eprintln!("warning: lineage {}: {problem}", listing.lineage);
        }
        for checkpoint in &listing.checkpoints {
            table.add_row([
                listing.lineage.clone(),
                checkpoint.generation.to_string(),
                checkpoint.name().to_owned(),
                checkpoint.checkpoint_op.to_string(),
                checkpoint.reachable_op.to_string(),
                checkpoint.revision.to_string(),
                output::time(checkpoint.time_micros),
                show_bytes(checkpoint.bytes),
            ]);
        }
    }
    output::text(output::trimmed(&table))
}

async fn show(place: &Place, choice: &Choice, format: Format) -> anyhow::Result<()> {
    let (source, inventory) = inventory(place).await?;
    let candidate = choice.candidate(&inventory)?;
    let gone = || format!("{} is gone from {}", candidate.manifest, source.store.describe());
    let bytes = source.store.get(&candidate.manifest).await?.with_context(gone)?;
    let manifest = Manifest::parse(&candidate.manifest, &bytes)?;
    let (bytes, _) = source.store.head().await?.context("HEAD has just gone")?;
    let head = Head::parse("HEAD", &bytes)?;
    if format == Format::Json {
        return output::json(&Shown { head, manifest });
    }
    let mut table = output::table(["", ""]);
    let packs: u64 = manifest.packs.iter().map(|pack| pack.bytes).sum();
    for (name, value) in [
        ("lineage", manifest.lineage.clone()),
        ("generation", format!("{} (HEAD: {}, {:?})", manifest.generation, head.generation, head.state)),
        (
            "began from",
            head.parent.as_ref().map_or_else(
                || "nothing: the first".to_owned(),
                |parent| {
                    format!(
                        "generation {}, op {}, root {}",
                        parent.generation,
                        parent.op,
                        short(&parent.root)
                    )
                },
            ),
        ),
        ("manifest", candidate.manifest.clone()),
        ("op", format!("{} (view {}, epoch {})", manifest.op, manifest.view, manifest.epoch)),
        ("log reaches op", candidate.reachable_op.to_string()),
        ("time", output::time(manifest.time_micros)),
        ("written", format!("{} by replica {}", output::time(manifest.written_micros), manifest.writer)),
        ("revision", format!("{}, reserved up to {}", manifest.revision, manifest.reserved_revision)),
        ("root", manifest.state.root.clone()),
        (
            "state",
            format!(
                "{} entries, {} pages, {}",
                manifest.state.entries,
                manifest.state.pages,
                show_bytes(manifest.state.bytes)
            ),
        ),
        ("packs", format!("{}, {}", manifest.packs.len(), show_bytes(packs))),
        ("retained", format!("{} checkpoints", head.retained.len())),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    output::text(output::trimmed(&table))
}

impl Choice {
    fn candidate<'a>(&self, inventory: &'a Inventory) -> anyhow::Result<&'a Candidate> {
        let wanted = |candidate: &&Candidate| self.op.is_none_or(|op| candidate.checkpoint_op == op);
        if let Some(candidate) = inventory.candidates.iter().find(wanted) {
            return Ok(candidate);
        }
        let problem = inventory.findings.iter().find_map(|finding| finding.problem.as_deref());
        match (self.op, problem) {
            (Some(op), _) => {
                bail!("no checkpoint at op {op} is retained there; vr checkpoint ls shows what is")
            }
            (None, Some(problem)) => bail!("no checkpoint there: {problem}"),
            (None, None) => bail!("no checkpoint there"),
        }
    }
}

fn short(root: &str) -> String {
    root.chars().take(16).collect()
}
