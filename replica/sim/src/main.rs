//! `vr-sim`: sweeps over seeds and replays of one. Exit status 0: nothing broke; 1: something did; 2: bad usage.

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vr_recorder::Recording;
use vr_sim::plan::knobs::Knob;
use vr_sim::plan::{MachineKind, Plan, Sabotage};
use vr_sim::recording::RecordingReport;
use vr_sim::report::Report;
use vr_sim::run::run;
use vr_sim::search::{Bounds, search};
use vr_sim::shrink::{Shrunk, shrink};
use vr_sim::sweep::sweep;
use vr_sim::tiers::{self, Story};
use vr_sim::trace::Trace;

/// The deterministic simulator: the real core and state machine under a seeded world of faults.
#[derive(Parser)]
#[command(name = "vr-sim", version)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Play many seeds out; every fault, message and effect must come up somewhere.
    Swarm(SwarmArgs),
    /// Play many seeds of worlds of tiers out: disks and a bucket that go wrong, and memory that is lost again and again.
    Tiers(TiersArgs),
    /// Play one seed out, exactly as it went in a sweep.
    Replay(ReplayArgs),
    /// Try everything that can happen within bounds, and tell the shortest story that breaks a rule.
    Search(SearchArgs),
    /// Break each rule on purpose: every mutant must be noticed within its budget (needs the feature `mutants`).
    Mutants(MutantsArgs),
}

#[derive(Args)]
struct SwarmArgs {
    /// How many seeds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// The machine to replicate; by the seed if not given.
    #[arg(long)]
    machine: Option<MachineKind>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Args)]
struct TiersArgs {
    /// How many seeds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Print every line of the story of the first seed to standard output, and play only that one out (the report then
    /// goes to standard error).
    #[arg(long)]
    trace: bool,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Args)]
struct ReplayArgs {
    /// Which seed.
    #[arg(required_unless_present = "recording")]
    seed: Option<u64>,
    /// Instead of a seed: what a replica's flight recorder has written (see /debug/flight-recorder of its admin port).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "shrink", "set", "sabotage", "machine"])]
    recording: Option<PathBuf>,
    /// Print every line of the trace to standard output (the report then goes to standard error).
    #[arg(long)]
    trace: bool,
    /// Take away what is not needed to break the rule that breaks, and replay what is left.
    #[arg(long)]
    shrink: bool,
    /// Change a number of the seed's plan, as a shrunk one says; repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Break a rule in the place of driver and disks.
    #[arg(long)]
    sabotage: Option<Sabotage>,
    /// The machine to replicate; by the seed if not given.
    #[arg(long)]
    machine: Option<MachineKind>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Args)]
struct SearchArgs {
    /// Timeouts of views, at most.
    #[arg(long, default_value_t = 2)]
    timeouts: u8,
    /// Crashes with loss of memory, at most.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Writes, at most.
    #[arg(long, default_value_t = 1)]
    writes: u8,
    /// Changes of the members that are proposed, at most: their order, who votes, who learns, who goes.
    #[arg(long, default_value_t = 0)]
    changes: u8,
    /// Messages that overtake others on the same link, at most.
    #[arg(long, default_value_t = 0)]
    overtakes: u8,
    /// Steps of a story, at most.
    #[arg(long, default_value_t = 14)]
    steps: u32,
    /// What replicas say of their standing arrives, too; without it, that is lost.
    #[arg(long)]
    standings: bool,
    /// That a promise is durable is a step of its own.
    #[arg(long)]
    slow_votes: bool,
    /// A crash takes the vote record along, as in the paper.
    #[arg(long)]
    without_votes: bool,
    /// Break the rule of this mutant.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

impl SearchArgs {
    fn bounds(&self) -> anyhow::Result<Bounds> {
        Ok(Bounds {
            timeouts: self.timeouts,
            crashes: self.crashes,
            writes: self.writes,
            changes: self.changes,
            overtakes: self.overtakes,
            steps: self.steps,
            standings: self.standings,
            slow_votes: self.slow_votes,
            without_votes: self.without_votes,
            #[cfg(feature = "mutants")]
            mutant: match &self.mutant {
                None => None,
                Some(name) => {
                    Some(vr_sim::mutants::named(name).context(format!("there is no mutant {name}"))?)
                }
            },
        })
    }
}

#[derive(Args)]
#[cfg_attr(not(feature = "mutants"), allow(dead_code, reason = "without mutants there is nothing to hunt"))]
struct MutantsArgs {
    /// Only those whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// The first seed of each mutant's worlds.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; as many as there are cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// How to print the report.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// A plan with some of its numbers changed.
fn with(mut plan: Plan, set: &[String]) -> anyhow::Result<Plan> {
    for set in set {
        let (name, value) = set.split_once('=').with_context(|| format!("{set} is not NAME=VALUE"))?;
        let knob = Knob::named(name).with_context(|| {
            let names: Vec<_> = Knob::ALL.iter().map(|knob| knob.name).collect();
            format!("a plan has no number {name}; it has {}", names.join(", "))
        })?;
        let value: u64 = value.parse().with_context(|| format!("{value} is no number"))?;
        anyhow::ensure!(value >= knob.least, "{name} must be at least {}", knob.least);
        plan = knob.set(&plan, value);
    }
    Ok(plan)
}

/// As many as wanted, or as there are cores.
fn threads(jobs: Option<u16>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    jobs.map_or(cores, usize::from)
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().mode) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("vr-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how fast a sweep was is told to people; no world sees it")]
fn carry_out(mode: Mode) -> anyhow::Result<bool> {
    let began = Instant::now();
    let (report, output, to_stderr) = match mode {
        Mode::Swarm(SwarmArgs { seeds, from, jobs, machine, output }) => {
            let sweep = sweep(from, seeds, threads(jobs), machine);
            (Report::swarm(sweep, began.elapsed()), output, false)
        }
        Mode::Tiers(TiersArgs { from, trace: true, output, .. }) => {
            let story = Story::printed(Box::new(BufWriter::new(io::stdout())));
            (Report::tiers(tiers::alone(from, story), began.elapsed()), output, true)
        }
        Mode::Tiers(TiersArgs { seeds, from, jobs, output, .. }) => {
            (Report::tiers(tiers::sweep(from, seeds, threads(jobs)), began.elapsed()), output, false)
        }
        Mode::Search(args) => {
            let found = search(&args.bounds()?, threads(args.jobs));
            (Report::search(found, began.elapsed()), args.output, false)
        }
        #[cfg(feature = "mutants")]
        Mode::Mutants(MutantsArgs { only, from, jobs, output }) => {
            let verdicts = vr_sim::mutants::hunt_all(from, threads(jobs), &only);
            anyhow::ensure!(!verdicts.is_empty(), "no mutant has a name that contains \"{only}\"");
            (Report::mutants(verdicts, began.elapsed()), output, false)
        }
        #[cfg(not(feature = "mutants"))]
        Mode::Mutants(_) => anyhow::bail!(
            "this build keeps every rule; build one that can break them: \
             cargo run --release -p vr-sim --features mutants -- mutants"
        ),
        Mode::Replay(ReplayArgs { recording: Some(path), trace, output, .. }) => {
            return tell_again(&path, trace, output);
        }
        Mode::Replay(ReplayArgs {
            seed,
            recording: None,
            trace: printed,
            shrink: small,
            set,
            sabotage,
            machine,
            output,
        }) => {
            let seed = seed.expect("required where there is no recording");
            let mut plan = Plan { sabotage, ..with(Plan::of(seed).around(machine), &set)? };
            let shrunk = if small { shrink(plan.clone()) } else { None };
            if let Some(Shrunk { plan: small, set, tried, events }) = shrunk {
                let again: String = set.iter().map(|set| format!(" --set {set}")).collect();
                eprintln!("{} of {} events are left after {tried} tries:", events.1, events.0);
                let broken = sabotage.and_then(|rule| rule.to_possible_value());
                let broken = broken.map_or(String::new(), |rule| format!(" --sabotage {}", rule.get_name()));
                eprintln!("  vr-sim replay {seed}{broken}{again}");
                plan = small;
            }
            let trace = match printed {
                true => Trace::printed(Box::new(BufWriter::new(io::stdout()))),
                false => Trace::quiet(),
            };
            (Report::replay(run(plan, trace), began.elapsed()), output, printed)
        }
    };
    print(&report, output, to_stderr)?;
    Ok(report.is_good())
}

fn print(report: &(impl Display + Serialize), output: Output, to_stderr: bool) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => report.to_string(),
        Output::Json => serde_json::to_string(report).context("the report cannot be written as JSON")?,
    };
    let mut to: Box<dyn Write> = if to_stderr { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    match writeln!(to, "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("the report cannot be printed")
        }
        _ => Ok(()),
    }
}

#[allow(clippy::disallowed_methods, reason = "how fast it was is told to people; no replica sees it")]
fn tell_again(path: &Path, printed: bool, output: Output) -> anyhow::Result<bool> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let recording =
        Recording::read(&bytes).with_context(|| format!("{} cannot be replayed", path.display()))?;
    let mut lines = BufWriter::new(io::stdout());
    let began = Instant::now();
    let trace = printed.then_some(&mut lines as &mut dyn Write);
    let report = RecordingReport::of(&recording, trace, || began.elapsed());
    let _ = lines.flush();
    print(&report, output, printed)?;
    Ok(report.is_good())
}
