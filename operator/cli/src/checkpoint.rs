//! `vr checkpoint`: what stands on a tier, read directly, with no cluster alive.
//!
//! Reads only. A location is a directory or an `s3://bucket/prefix`, either the root below which lineages stand or one
//! lineage's own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;
use vr_checkpoint::format::{Head, Manifest};
use vr_checkpoint::restore::{self, Candidate, Inventory, Source, TierKind};
use vr_checkpoint::store::{DirStore, ObjectStore, S3Location, S3Store};
use vr_replica::export::Contents;

use crate::output::{self, Format};
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
    /// Loads checkpoints, recomputes their roots and compares; exit status 1 if one is damaged
    Verify {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        choice: Choice,
        /// Every checkpoint that is retained, not only the newest
        #[arg(long, conflicts_with = "op")]
        all: bool,
        /// How to print the findings
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Gets the keys and values out: a checkpoint and the log above it, as JSON Lines
    ///
    /// One line for each key, {"key": …, "value": …}, which `vr drill --input` reads as well. What is not UTF-8 is
    /// written as {"base64": …} instead of a string.
    Restore {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        choice: Choice,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// A directory, or s3://BUCKET/PREFIX with credentials as for the AWS tools
    location: Location,

    /// Which lineage, where several stand
    #[arg(long, value_name = "UUID")]
    lineage: Option<Uuid>,

    /// An S3 server other than AWS
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,

    /// The bucket's region
    #[arg(long, value_name = "REGION", default_value = "us-east-1")]
    s3_region: String,
}

#[derive(Debug, Args)]
struct Choice {
    /// The checkpoint at this op [default: the newest]
    #[arg(long, value_name = "OP")]
    op: Option<u64>,
}

/// Where a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A prefix of a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its ends.
        prefix: String,
    },
}

impl FromStr for Location {
    type Err = String;

    fn from_str(typed: &str) -> Result<Location, String> {
        let Some(rest) = typed.strip_prefix("s3://") else {
            return match typed.contains("://") {
                true => Err(format!("{typed:?} is neither a directory nor s3://bucket/prefix")),
                false => Ok(Location::Directory(PathBuf::from(typed))),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("{typed:?} names no bucket: give s3://bucket/prefix"));
        }
        Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    generation: u64,
    op: u64,
    root: String,
    whole: bool,
    problem: Option<String>,
    log_entries: usize,
    reaches_op: u64,
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
                What::Restore { place, choice, to } => export(&place, &choice, &to).await,
                What::Verify { place, choice, all, output } => verify(&place, &choice, all, output).await,
            }
        })
    }
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
    let mut table = output::table(["LINEAGE", "GENERATION", "OP", "REACHES OP", "TIME", "STATE", "ROOT"]);
    for listing in &listings {
        if let Some(problem) = &listing.problem {
            eprintln!("warning: lineage {}: {problem}", listing.lineage);
        }
        for checkpoint in &listing.checkpoints {
            table.add_row([
                listing.lineage.clone(),
                checkpoint.generation.to_string(),
                checkpoint.checkpoint_op.to_string(),
                checkpoint.reachable_op.to_string(),
                output::time(checkpoint.time_micros),
                show_bytes(checkpoint.bytes),
                short(&checkpoint.root),
            ]);
        }
    }
    output::text(output::trimmed(&table))
}

async fn show(place: &Place, choice: &Choice, format: Format) -> anyhow::Result<()> {
    let (source, inventory) = place.only().await?;
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

async fn verify(place: &Place, choice: &Choice, all: bool, format: Format) -> anyhow::Result<()> {
    let (source, inventory) = place.only().await?;
    let chosen: Vec<&Candidate> =
        if all { inventory.candidates.iter().collect() } else { vec![choice.candidate(&inventory)?] };
    let mut findings = Vec::new();
    for candidate in chosen {
        let loaded = restore::load(candidate, std::slice::from_ref(&source), None).await;
        findings.push(Verified {
            generation: candidate.generation,
            op: candidate.checkpoint_op,
            root: candidate.root.clone(),
            whole: loaded.is_ok(),
            log_entries: loaded.as_ref().map_or(0, |loaded| loaded.entries.len()),
            problem: loaded.err().map(|error| error.to_string()),
            reaches_op: candidate.reachable_op,
        });
    }
    match format {
        Format::Json => output::json(&findings)?,
        Format::Table => {
            let mut table = output::table(["GENERATION", "OP", "VERDICT", "ROOT", "LOG", "DETAIL"]);
            for finding in &findings {
                table.add_row([
                    finding.generation.to_string(),
                    finding.op.to_string(),
                    if finding.whole { "whole" } else { "DAMAGED" }.to_owned(),
                    short(&finding.root),
                    format!("to op {}", finding.reaches_op),
                    finding.problem.clone().unwrap_or_default(),
                ]);
            }
            output::text(output::trimmed(&table))?;
        }
    }
    // A problem that keeps a retained checkpoint from even being listed counts as well.
    let unlisted = inventory.findings.iter().find_map(|finding| finding.problem.as_ref()).filter(|_| all);
    match (findings.iter().find(|finding| !finding.whole), unlisted) {
        (Some(damaged), _) => bail!("the checkpoint at op {} is damaged", damaged.op),
        (None, Some(problem)) => bail!("{problem}"),
        (None, None) => Ok(()),
    }
}

async fn export(place: &Place, choice: &Choice, to: &Path) -> anyhow::Result<()> {
    let (source, inventory) = place.only().await?;
    let candidate = choice.candidate(&inventory)?;
    let loaded = restore::load(candidate, std::slice::from_ref(&source), None).await?;
    let contents = Contents::open(loaded)?;
    let failed = || format!("cannot write {}", to.display());
    let file = File::options().write(true).create_new(true).open(to).with_context(failed)?;
    let mut out = BufWriter::new(file);
    let count = contents.for_each(|key, value| {
        serde_json::to_writer(&mut out, &Line { key: Text(key), value: Text(value) })?;
        out.write_all(b"\n")
    })?;
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .with_context(failed)?;
    eprintln!(
        "{count} keys at op {} (revision {}) written to {}",
        contents.op(),
        contents.revision(),
        to.display()
    );
    Ok(())
}

#[derive(Serialize)]
struct Line<'a> {
    key: Text<'a>,
    value: Text<'a>,
}

/// Bytes as JSON: a string where they are one.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &base64_simd::STANDARD.encode_to_string(self.0))?;
        map.end()
    }
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

impl Place {
    /// The lineages below the location; the location itself, if it is one.
    async fn lineages(&self) -> anyhow::Result<Vec<Uuid>> {
        if let Some(lineage) = self.lineage.or_else(|| self.location.lineage()) {
            return Ok(vec![lineage]);
        }
        let found = match &self.location {
            Location::Directory(root) => below_directory(root)?,
            Location::S3 { .. } => {
                let store = self.open_s3(None).await;
                let listed = store.list("").await?;
                let names = listed.iter().filter_map(|object| object.key.split('/').next()?.parse().ok());
                names.collect::<std::collections::BTreeSet<Uuid>>().into_iter().collect()
            }
        };
        if found.is_empty() {
            bail!("no lineage stands in {}", self.location);
        }
        Ok(found)
    }

    /// The one lineage that is meant.
    async fn only(&self) -> anyhow::Result<(Source, Inventory)> {
        let lineages = self.lineages().await?;
        let [lineage] = lineages[..] else {
            let all = lineages.iter().map(|lineage| format!("\n  {lineage}")).collect::<String>();
            bail!("several lineages stand in {}: choose one by --lineage:{all}", self.location);
        };
        let source = self.source(lineage).await;
        let inventory = restore::inventory(std::slice::from_ref(&source), &lineage.to_string()).await;
        Ok((source, inventory))
    }

    async fn source(&self, lineage: Uuid) -> Source {
        // A prefix may look like a lineage and not be the one that is meant.
        let own = self.location.lineage() == Some(lineage);
        let (tier, store): (_, Arc<dyn ObjectStore>) = match &self.location {
            Location::Directory(root) if own => (TierKind::Volume, Arc::new(DirStore::read_only(root))),
            Location::Directory(root) => {
                (TierKind::Volume, Arc::new(DirStore::read_only(&root.join(lineage.to_string()))))
            }
            Location::S3 { .. } => {
                let below = (!own).then_some(lineage);
                (TierKind::ObjectStore, Arc::new(self.open_s3(below).await))
            }
        };
        Source { name: self.location.to_string(), tier, store }
    }

    async fn open_s3(&self, lineage: Option<Uuid>) -> S3Store {
        let Location::S3 { bucket, prefix } = &self.location else {
            unreachable!("only asked for S3 locations")
        };
        let prefix = match lineage {
            Some(lineage) => format!("{prefix}/{lineage}").trim_matches('/').to_owned(),
            None => prefix.clone(),
        };
        let location = S3Location {
            endpoint: self.s3_endpoint.clone(),
            bucket: bucket.clone(),
            prefix,
            region: self.s3_region.clone(),
            path_style: self.s3_endpoint.is_some(),
            keys: None,
        };
        S3Store::connect(&location).await
    }
}

impl Location {
    /// The lineage whose own root this is.
    fn lineage(&self) -> Option<Uuid> {
        let last = match self {
            Location::Directory(path) => path.file_name()?.to_str()?,
            Location::S3 { prefix, .. } => prefix.rsplit('/').next()?,
        };
        last.parse().ok()
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::Directory(path) => write!(f, "{}", path.display()),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn below_directory(root: &Path) -> anyhow::Result<Vec<Uuid>> {
    let entries = std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut lineages: Vec<Uuid> = names.collect();
    lineages.sort_unstable();
    Ok(lineages)
}

fn short(root: &str) -> String {
    root.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_as_people_type_them() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!("s3://b/p/q/".parse(), Ok(s3("b", "p/q")));
        assert_eq!("s3://b".parse(), Ok(s3("b", "")));
        assert_eq!("/data/nvme".parse(), Ok(Location::Directory("/data/nvme".into())));
        for (wrong, expected) in
            [("s3:///p", "names no bucket"), ("gs://b/p", "neither a directory nor s3://")]
        {
            let error = wrong.parse::<Location>().expect_err(wrong);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_written_as_such() {
        let line = Line { key: Text(b"k"), value: Text(b"\xff\x00") };
        let json = serde_json::to_string(&line).expect("JSON");
        assert_eq!(json, r#"{"key":"k","value":{"base64":"/wA="}}"#);
    }

    #[test]
    fn a_lineages_own_root_is_recognised() {
        let uuid = "6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b";
        for location in [format!("/data/nvme/{uuid}"), format!("s3://b/p/{uuid}"), format!("s3://b/{uuid}/")]
        {
            let location: Location = location.parse().expect("a location");
            assert_eq!(location.lineage(), Some(uuid.parse().expect("a UUID")));
        }
        assert_eq!("s3://b/p".parse::<Location>().expect("a location").lineage(), None);
    }

    #[tokio::test]
    async fn a_place_without_lineages_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = |location: &Path| Place {
            location: Location::Directory(location.to_owned()),
            lineage: None,
            s3_endpoint: None,
            s3_region: String::new(),
        };
        let error = place(dir.path()).only().await.map(drop).expect_err("empty").to_string();
        assert!(error.contains("no lineage stands in"), "{error}");
        let error = place(Path::new("/nowhere")).only().await.map(drop).expect_err("not there").to_string();
        assert!(error.contains("cannot read /nowhere"), "{error}");
        for _ in 0..2 {
            std::fs::create_dir(dir.path().join(Uuid::new_v4().to_string())).expect("made");
        }
        let error = place(dir.path()).only().await.map(drop).expect_err("two").to_string();
        assert!(error.contains("choose one by --lineage"), "{error}");
    }
}
