//! `vr bench`: the load generator behind every published figure. Works against any server that speaks etcd v3.
//!
//! Promises: latencies at a fixed rate count from the moment an operation was due; failed operations are counted and
//! never part of a latency; the generator's own CPU time is reported, so that nobody takes its limits for the
//! server's. Does not clean up the keys it wrote (`bench/…`).

mod checkpoint;
pub mod cpu;
pub mod histogram;
pub mod load;
mod nowhere;
mod object_store;
pub mod pace;
pub mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use self::checkpoint::CheckpointBench;
use self::load::{Load, Measured, Operation, Until};
use self::object_store::ObjectStoreBench;
use crate::endpoint::Endpoint;
use crate::output::{self, Format};
use crate::trust::{Trust, TrustError};
use crate::units;

/// Measures a server that speaks the etcd v3 API, or checkpoints on this machine
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Writes values under keys drawn at random
    Put {
        /// Length of the values
        #[arg(long, value_name = "BYTES", default_value = "256", value_parser = units::size)]
        size: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Reads keys drawn at random; `vr bench put` with the same --keys writes them
    Get {
        /// Let the replica that is asked answer from what it has, without asking the primary
        #[arg(long)]
        serializable: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Measures checkpoints and restores in this process, each beside what this machine could do; needs no server
    Checkpoint(CheckpointBench),
    /// Counts what a cluster asks of its object store in an hour, beside what a formula predicts; needs no server
    ObjectStore(ObjectStoreBench),
}

#[derive(Debug, Args)]
struct Common {
    /// Where the servers listen, separated by commas; connections go round them
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<Endpoint>,

    #[command(flatten)]
    trust: Trust,

    /// Speak the native protocol of VR replicas instead of gRPC: connections go to the primary
    #[arg(long)]
    native: bool,

    /// Operations in flight: each session waits for its answer before it sends again
    #[arg(long, visible_alias = "clients", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,

    /// Connections that the sessions share [default: one for every 16 sessions, 100 at most; one for 8192 with --native]
    #[arg(long, visible_alias = "conns", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Option<u32>,

    /// Start this many operations a second, whether or not the server keeps up; latency then counts from the
    /// moment an operation was due
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// Number of different keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,

    /// Stop after this many operations
    #[arg(long, value_name = "OPERATIONS", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    total: Option<u64>,

    /// Stop after this long
    #[arg(long, default_value = "10s", value_parser = units::positive_duration)]
    duration: Duration,

    /// Run this long before measuring
    #[arg(long, default_value = "1s", value_parser = units::duration)]
    warmup: Duration,

    /// Give up on an operation after this long and count it as an error
    #[arg(long, default_value = "10s", value_parser = units::positive_duration)]
    timeout: Duration,

    /// Server processes on this machine whose CPU time is to be reported, separated by commas
    #[arg(long = "pid", value_name = "PID,…", value_delimiter = ',')]
    pids: Vec<u32>,

    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn rate(typed: &str) -> Result<f64, String> {
    match typed.parse::<f64>() {
        Ok(rate) if rate.is_finite() && (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "{typed:?} is not a rate: give operations a second, more than 0 and at most 10000000"
        )),
    }
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    operation: &'static str,
    endpoints: Vec<String>,
    sessions: u32,
    connections: u32,
    rate: Option<f64>,
    native: bool,
    keys: u64,
    value_bytes: Option<usize>,
    operations: u64,
    errors: BTreeMap<String, u64>,
    first_error: Option<String>,
    /// Reads that found their key.
    found: Option<u64>,
    seconds: f64,
    throughput: f64,
    latency_millis: Latency,
    /// Seconds of all server processes for 1,000 operations that succeeded.
    server_cpu_seconds_per1000: Option<f64>,
    server_cpu: Vec<ProcessCpu>,
    generator_cpu_seconds_per1000: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct ProcessCpu {
    pid: u32,
    seconds: f64,
}

impl Bench {
    /// Runs it on the calling thread.
    ///
    /// # Errors
    /// When a server cannot be reached at the start, a process is not there, or not one operation succeeded.
    pub fn run(self) -> anyhow::Result<()> {
        let (operation, common) = match self.what {
            What::Put { size, common } => (Operation::Put { size }, common),
            What::Get { serializable, common } => (Operation::Get { serializable }, common),
            What::Checkpoint(checkpoint) => return checkpoint.run(),
            What::ObjectStore(bench) => return bench.run(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(common.measure(operation))?;
        match common.output {
            Format::Json => output::json(&report)?,
            Format::Table => output::text(report.table())?,
        }
        if report.operations == 0 {
            let why = report.first_error.as_deref().unwrap_or("no operation ended in time");
            bail!("not one operation succeeded: {why}");
        }
        if report.found == Some(0) {
            eprintln!("note: no key was found; write them first: vr bench put --keys {}", common.keys);
        }
        Ok(())
    }
}

impl Common {
    fn load(&self, operation: Operation) -> Result<Load, TrustError> {
        Ok(Load {
            operation,
            endpoints: self.endpoints.clone(),
            connector: self.trust.connector(&self.endpoints)?,
            sessions: self.sessions as usize,
            connections: self.connections() as usize,
            rate: self.rate,
            keys: self.keys,
            native: self.native,
            warmup: self.warmup,
            until: self.total.map_or(Until::Duration(self.duration), Until::Total),
            timeout: self.timeout,
        })
    }

    fn connections(&self) -> u32 {
        let usual =
            || if self.native { self.sessions.div_ceil(8192) } else { self.sessions.div_ceil(16).min(100) };
        self.connections.unwrap_or_else(usual).min(self.sessions)
    }

    async fn measure(&self, operation: Operation) -> anyhow::Result<Report> {
        let mut edges: Vec<Vec<Duration>> = Vec::with_capacity(2);
        let processes: Vec<u32> = self.pids.iter().copied().chain([std::process::id()]).collect();
        let measured = self
            .load(operation)?
            .run(|| -> anyhow::Result<()> {
                edges.push(processes.iter().map(|&pid| cpu::used_by(pid)).collect::<Result<_, _>>()?);
                Ok(())
            })
            .await?;
        let mut spent: Vec<Duration> =
            edges[1].iter().zip(&edges[0]).map(|(after, before)| *after - *before).collect();
        let own = spent.pop().expect("this process is the last of the list");
        Ok(self.report(operation, measured, &spent, own))
    }

    fn report(&self, operation: Operation, measured: Measured, spent: &[Duration], own: Duration) -> Report {
        let operations = measured.latencies.count();
        let per_1000 = |cpu: Duration| cpu.as_secs_f64() * 1_000.0 / operations.max(1) as f64;
        let millis = |fraction| measured.latencies.quantile(fraction).as_secs_f64() * 1_000.0;
        let seconds = measured.elapsed.as_secs_f64();
        let (name, value_bytes, found) = match operation {
            Operation::Put { size } => ("put", Some(size), None),
            Operation::Get { serializable: false } => ("get", None, Some(measured.found)),
            Operation::Get { serializable: true } => ("get serializable", None, Some(measured.found)),
        };
        Report {
            operation: name,
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
            sessions: self.sessions,
            connections: self.connections(),
            rate: self.rate,
            native: self.native,
            keys: self.keys,
            value_bytes,
            operations,
            found,
            seconds,
            throughput: operations as f64 / seconds.max(f64::EPSILON),
            latency_millis: Latency {
                mean: measured.latencies.mean().as_secs_f64() * 1_000.0,
                p50: millis(0.5),
                p99: millis(0.99),
                p999: millis(0.999),
                max: measured.latencies.max().as_secs_f64() * 1_000.0,
            },
            server_cpu_seconds_per1000: (!spent.is_empty()).then(|| per_1000(spent.iter().sum())),
            server_cpu: self
                .pids
                .iter()
                .zip(spent)
                .map(|(&pid, cpu)| ProcessCpu { pid, seconds: cpu.as_secs_f64() })
                .collect(),
            generator_cpu_seconds_per1000: per_1000(own),
            errors: measured.errors,
            first_error: measured.first_error,
        }
    }
}

impl Report {
    fn table(&self) -> String {
        let mut table = output::table(["", ""]);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        let load = match self.rate {
            Some(rate) => format!("{rate} a second"),
            None => "closed loop".to_owned(),
        };
        let size = self.value_bytes.map(|size| format!(", values of {size} B")).unwrap_or_default();
        row("operation", format!("{}{size}, {} keys", self.operation, self.keys));
        row("load", format!("{load}, {} sessions, {} connections", self.sessions, self.connections));
        row("operations", format!("{} in {:.2} s", self.operations, self.seconds));
        row("throughput", format!("{:.0} a second", self.throughput));
        for (name, millis) in [
            ("mean", self.latency_millis.mean),
            ("p50", self.latency_millis.p50),
            ("p99", self.latency_millis.p99),
            ("p99.9", self.latency_millis.p999),
            ("max", self.latency_millis.max),
        ] {
            row(name, format!("{millis:.2} ms"));
        }
        if let Some(found) = self.found {
            row("found", found.to_string());
        }
        if let Some(cpu) = self.server_cpu_seconds_per1000 {
            row("server CPU", format!("{cpu:.4} s per 1,000 operations"));
        }
        for process in &self.server_cpu {
            row(&format!("  process {}", process.pid), format!("{:.2} s", process.seconds));
        }
        row("generator CPU", format!("{:.4} s per 1,000 operations", self.generator_cpu_seconds_per1000));
        for (kind, count) in &self.errors {
            row("errors", format!("{count} {kind}"));
        }
        if let Some(text) = &self.first_error {
            row("first error", text.clone());
        }
        output::trimmed(&table)
    }
}
