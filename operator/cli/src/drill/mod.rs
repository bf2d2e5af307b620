//! `vr drill`: the disaster rehearsal on this machine. Loads, kills, wipes, restores, proves, reports; and can fail.
//!
//! The proof goes through the client API and rests on what the load generator recorded, never on the server's word.

pub mod copy;
pub mod course;
pub mod evidence;
pub mod input;
pub mod kills;
pub mod load;
pub mod loss;
pub mod probe;
pub mod progress;
pub mod promise;
pub mod proof;
pub mod record;
pub mod recording;
pub mod rehearsal;
pub mod report;
pub mod sabotage;
pub mod scenario;
mod sheet;
pub mod workplace;
pub mod zombie;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tokio::task::LocalSet;

use self::input::Input;
use self::progress::Progress;
use self::rehearsal::Settings;
use self::report::{Outcome, Report};
use self::scenario::{Sabotage, Scenario};
use self::workplace::Workplace;
use crate::dev::cluster::Cluster;
use crate::dev::layout::{Cadence, Cadences};
use crate::dev::object_store::ObjectStoreArgs;
use crate::dev::process::last_lines;
use crate::dev::signals::Signals;
use crate::dev::{self, tiers};
use crate::output::{self, Format};
use crate::units;

/// Checkpoints come often, so that a drill is short: the disaster waits for one.
const CADENCE: Cadences = Cadences {
    nvme: Cadence { checkpoint: 3, log: 1, keep: 3 },
    volume: Cadence { checkpoint: 6, log: 1, keep: 3 },
    object_store: Cadence { checkpoint: 4, log: 1, keep: 6 },
};
/// Lines of each process's log that are shown when a drill does not pass.
const LOG_LINES: usize = 8;

/// Rehearses a disaster on this machine: loads, kills, restores, proves, reports
///
/// Exit status: 0 passed; 1 failed, something did not come back as promised; 2 the drill could not be carried out.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Drill {
    #[command(subcommand)]
    action: Option<Action>,

    /// What is rehearsed
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,

    /// Break something on purpose after the disaster: the drill must then fail
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,

    /// What is loaded: a directory (paths and contents), or a .tsv, .jsonl or .ndjson file of keys and values
    /// [default: the first 48 MiB of the Rust toolchain's directory, or of /usr]
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,

    /// How long is written between the recovery point and the disaster
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = units::duration)]
    write_on: Duration,

    /// Number of replicas: 1, 3, 5, 7 or 9
    #[arg(long, value_name = "N", default_value = "3", value_parser = dev::replicas)]
    replicas: u16,

    /// Use consecutive ports from this one on [default: free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    base_port: Option<u16>,

    /// Work in this directory and keep it; it must not hold a cluster [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// Speak TLS on the client, peer and control ports
    #[arg(long)]
    tls: bool,

    /// How to print the report
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    object_store: ObjectStoreArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    Restore(copy::Restore),
    Probe(probe::Probe),
    Evidence(evidence::Evidence),
    RecoveryPoint(kills::RecoveryPoint),
}

impl Drill {
    /// Carries it out and prints the report.
    ///
    /// # Errors
    /// When the report cannot be printed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Some(Action::Restore(restore)) => return restore.run(),
            Some(Action::Probe(probe)) => return probe.run(),
            Some(Action::Evidence(evidence)) => return evidence.run(),
            Some(Action::RecoveryPoint(kills)) => return kills.run(),
            None => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = LocalSet::new().block_on(&runtime, self.carry_out());
        match self.output {
            Format::Json => output::json(&report)?,
            Format::Table => output::text(report::table(&report))?,
        }
        Ok(ExitCode::from(report.result.exit_status()))
    }

    async fn carry_out(&self) -> Report {
        self.try_to().await.unwrap_or_else(|error| Report {
            reason: Some(crate::with_causes(&error)),
            ..report::errored(self.scenario, self.sabotage)
        })
    }

    /// # Errors
    /// What kept the drill from beginning, or from tidying up.
    async fn try_to(&self) -> anyhow::Result<Report> {
        let breaks_tiers = matches!(self.sabotage, Some(Sabotage::CorruptFrame | Sabotage::MissingPack));
        if breaks_tiers && !self.scenario.loses_quorum() {
            bail!(
                "that --sabotage breaks what a restore needs, and {} needs none: leave out one of the two",
                self.scenario
            );
        }
        if self.scenario.stops_object_store() && !self.object_store.is_embedded() {
            bail!(
                "{} takes the object store away, and that one is not ours: leave out --s3-endpoint",
                self.scenario
            );
        }
        let settings = Settings {
            scenario: self.scenario,
            sabotage: self.sabotage,
            input: self.input.as_deref().map_or_else(|| Ok(Input::of_every_machine()), Input::at)?,
            write_on: self.write_on,
        };
        // Before anything is started for it.
        settings.input.look().await?;
        let mut signals = Signals::new()?;
        workplace::sweep().iter().for_each(|told| eprintln!("{told}"));
        let workplace = Workplace::new(self.dir.as_deref())?;
        let mut cluster = self.cluster(&workplace)?;
        let progress = Progress::on_terminal();
        let report = tokio::select! {
            report = rehearsal::rehearse(&mut cluster, &settings, &progress) => Ok(report),
            () = signals.wait() => Err(anyhow::anyhow!("interrupted")),
        };
        progress.done();
        let tidied = self.tidy_up(&mut cluster).await;
        if report.as_ref().is_ok_and(|report| report.result != Outcome::Passed) {
            show_logs(&cluster);
        }
        let report = report?;
        tidied?;
        workplace.leave()?;
        Ok(report)
    }

    fn cluster(&self, workplace: &Workplace) -> anyhow::Result<Cluster> {
        let layout = workplace.take()?;
        if layout.description()?.is_some() {
            bail!("{} holds a cluster: a drill needs a directory of its own", layout.root().display());
        }
        // Beside whatever else is in somebody's bucket, and not to be taken for a lineage.
        let prefix = format!("drill/run-{}", uuid::Uuid::new_v4().simple());
        let description =
            dev::describe(self.replicas, self.base_port, &self.object_store, &prefix, CADENCE, self.tls)?;
        Ok(Cluster::new(layout, description)?)
    }

    /// Leaves nothing in an object store that is not ours.
    async fn tidy_up(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let all = cluster.ids();
        // There is nothing to keep: no need to wait for last checkpoints.
        cluster.kill(&all).await?;
        if !self.object_store.is_embedded() {
            let store = tiers::object_store(cluster.description()).await.store;
            for object in store.list("").await.context("cannot tidy up the object store")? {
                store.delete(&object.key).await.context("cannot tidy up the object store")?;
            }
        }
        cluster.stop().await?;
        Ok(())
    }
}

fn show_logs(cluster: &Cluster) {
    let layout = cluster.layout();
    let replicas = cluster.ids().into_iter().map(|id| (format!("replica {id}"), layout.log(id)));
    for (name, path) in replicas.chain([("the S3 server".to_owned(), layout.s3_log())]) {
        let end = last_lines(&path, LOG_LINES);
        if !end.is_empty() {
            eprintln!("the end of the log of {name}:\n{end}\n");
        }
    }
}
