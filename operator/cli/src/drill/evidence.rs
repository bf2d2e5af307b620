//! `vr drill evidence`: the signed records of a cluster's drills, read from its bucket with no cluster alive.
//!
//! Reads only. Without a public key the chain is checked and the signatures are not, and that is said.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use vr_evidence::chain::{self, ChainError, Found};
use vr_evidence::envelope::PublicKey;

use super::sheet::Sheet;
use crate::checkpoint::Place;
use crate::output::{self, Format};

/// Reads the signed records of a cluster's drills, where its checkpoints are
#[derive(Debug, Args)]
pub struct Evidence {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists them, oldest first
    Ls {
        #[command(flatten)]
        place: Place,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Checks that none was changed, taken away or put between, and who has signed them
    ///
    /// Exit status 1 if something is wrong. That the newest ones are there, only somebody can tell who knows of them.
    Verify {
        #[command(flatten)]
        place: Place,
        /// The public key of whoever signs, PEM: `public.pem` of the Secret NAME-evidence. Without it no signature is
        /// checked
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// How to print what was found
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Shows one record, the newest unless another is named
    Show {
        #[command(flatten)]
        place: Place,
        /// Number of the record
        #[arg(long, value_name = "NUMBER")]
        sequence: Option<u64>,
        /// As what
        #[arg(short, long, value_enum, default_value_t)]
        output: Page,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Page {
    /// Markdown
    #[default]
    Md,
    /// One page of HTML that needs nothing else
    Html,
    /// The record as it was signed
    Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    sequence: u64,
    finished_at: &'a str,
    cluster: String,
    drill: &'a str,
    scenario: &'a str,
    result: String,
    digest: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    records: usize,
    signed_by: Option<String>,
    newest: Option<String>,
    fault: Option<String>,
}

impl Evidence {
    /// Carries it out.
    ///
    /// # Errors
    /// When the place cannot be read, or holds something else.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.what {
                What::Ls { place, output } => ls(&all(&place).await?, output),
                What::Verify { place, public_key, output } => verify(&place, public_key, output).await,
                What::Show { place, sequence, output } => show(&all(&place).await?, sequence, output),
            }
        })
    }
}

async fn all(place: &Place) -> anyhow::Result<Vec<Found>> {
    Ok(chain::read_all(&*place.root().await).await?)
}

fn ls(all: &[Found], format: Format) -> anyhow::Result<ExitCode> {
    let rows: Vec<Row<'_>> = all
        .iter()
        .map(|found| {
            let drill = &found.record.drill;
            Row {
                sequence: found.record.sequence,
                finished_at: &drill.finished_at,
                cluster: format!("{}/{}", drill.namespace, drill.cluster),
                drill: &drill.drill,
                scenario: &drill.scenario,
                result: format!("{:?}", drill.report.result),
                digest: &found.digest,
            }
        })
        .collect();
    match format {
        Format::Json => output::json(&rows)?,
        Format::Table => {
            let mut table = output::table(["NUMBER", "FINISHED", "CLUSTER", "DRILL", "SCENARIO", "RESULT"]);
            for row in &rows {
                let number = row.sequence.to_string();
                table.add_row([&number, row.finished_at, &row.cluster, row.drill, row.scenario, &row.result]);
            }
            output::text(output::trimmed(&table))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(place: &Place, public_key: Option<PathBuf>, format: Format) -> anyhow::Result<ExitCode> {
    let key = public_key.map(|path| {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        PublicKey::from_pem(&text).with_context(|| format!("{} cannot be used", path.display()))
    });
    let key = key.transpose()?;
    let (records, newest, outcome) = match chain::read_all(&*place.root().await).await {
        Ok(all) => {
            let newest = all.last().map(|found| found.record.drill.finished_at.clone());
            (all.len(), newest, chain::verify(&all, key.as_ref()))
        }
        Err(ChainError::Store(error)) => return Err(error.into()),
        Err(error) => (0, None, Err(error)),
    };
    let fault = outcome.err().map(|error| error.to_string());
    let verdict = Verdict { records, signed_by: key.as_ref().map(PublicKey::id), newest, fault };
    match format {
        Format::Json => output::json(&verdict)?,
        Format::Table => {
            let signed = verdict.signed_by.as_ref().map_or_else(
                || "signatures were not checked: give --public-key".to_owned(),
                |id| format!("all signed by key {id}"),
            );
            output::text(match (&verdict.fault, &verdict.newest) {
                (Some(fault), _) => format!("the evidence is not whole: {fault}"),
                (None, None) => "there is no record here".to_owned(),
                (None, Some(newest)) => {
                    format!("{records} records, none missing, the newest of {newest}; {signed}")
                }
            })?;
        }
    }
    Ok(if verdict.fault.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(all: &[Found], sequence: Option<u64>, page: Page) -> anyhow::Result<ExitCode> {
    let found = match sequence {
        Some(wanted) => all.iter().find(|found| found.record.sequence == wanted),
        None => all.last(),
    };
    let Some(found) = found else {
        match sequence {
            Some(wanted) => bail!("there is no record {wanted}: `vr drill evidence ls` lists what there is"),
            None => bail!("there is no record: no drill of a cluster with this prefix has ended yet"),
        }
    };
    match page {
        Page::Json => output::json(&found.record)?,
        Page::Md => output::text(Sheet::of(found).markdown())?,
        Page::Html => output::text(Sheet::of(found).html())?,
    }
    Ok(ExitCode::SUCCESS)
}
