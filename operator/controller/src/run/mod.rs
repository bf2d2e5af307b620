//! `vr-operator run`: looks at a real Kubernetes, carries the steps of [`plan`](crate::plan) out, and says so.
//!
//! One round: whoever holds the lease takes what its watches have shown of all clusters, and for each cluster asks the
//! replicas and the object store and plans. Where that leads to a step or to another status, everything is listed (eight
//! requests, however many clusters) and it is planned again from that; then at most one step is done, and it is
//! reported. So nothing is done by what may be old, and at rest the API server is not asked. Nothing is kept between
//! rounds that another process would miss: only since when something is so, and what was last applied.
//!
//! Not here: any decision about a cluster.

mod act;
mod authority;
mod bucket;
#[cfg(test)]
mod calls;
mod canary;
mod certificates;
mod check;
mod checkpoints;
mod control;
mod drills;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fleet;
mod furnish;
mod given;
mod health;
mod issuer;
mod lease;
pub mod metrics;
mod origin;
mod requests;
#[cfg(test)]
mod rest;
mod rollbacks;
mod rotations;
mod rounds;
mod signing;
mod subject;
mod tell;
mod watched;
mod world;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// The Kubernetes operator for VRClusters
#[derive(Debug, Parser)]
#[command(name = "vr-operator", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Run),
    Check(check::Check),
}

/// Looks after VRClusters until SIGTERM
///
/// Reaches the API server by the pod's service account, or by KUBECONFIG. Any number may run: one of them, who holds
/// the lease, acts. Exit status: 0 stopped, 1 failed, 2 wrong usage.
#[derive(Debug, Args)]
#[command(after_help = "Log level by VR_LOG, for example VR_LOG=debug.")]
struct Run {
    #[command(flatten)]
    charge: Charge,

    /// Who this process is, shown in the lease; without, the host name. A random part is added
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,

    /// Where /metrics, /livez and /readyz are
    #[arg(long, value_name = "ADDRESS:PORT", env = "VR_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// How the log is written to stderr
    #[arg(long, value_name = "FORMAT", env = "VR_OPERATOR_LOG_FORMAT", default_value = "plain")]
    log_format: LogFormat,
}

/// What an operator looks after, and the lease that says which of several does.
#[derive(Debug, Args)]
struct Charge {
    /// The namespace whose VRClusters are looked after; without, those of all
    #[arg(long, value_name = "NAME", env = "VR_OPERATOR_NAMESPACE")]
    namespace: Option<String>,

    /// Where the lease is; without, the namespace of the pod or of the kubeconfig
    #[arg(long, value_name = "NAME", env = "VR_OPERATOR_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// Which lease; operators of different namespaces need different ones
    #[arg(long, value_name = "NAME", env = "VR_OPERATOR_LEASE", default_value = "vr-operator")]
    lease: String,
}

impl Charge {
    /// Where the lease is.
    fn lease_namespace(&self, config: &kube::Config) -> String {
        self.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Plain,
    Json,
}

/// The command line.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the command line and carries it out.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // A second one could only be set by this very function.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| match command {
        Command::Run(run) => {
            run.log();
            runtime.block_on(run.until_stopped())
        }
        Command::Check(check) => runtime.block_on(check.run()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vr-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no client.
const NO_WAY: &str =
    "there is no way to an API server: run it in a pod with a service account, or set KUBECONFIG";

impl Run {
    fn log(&self) {
        let filter = EnvFilter::try_from_env("VR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Plain => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }

    async fn until_stopped(self) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let config = kube::Config::infer().await.context(NO_WAY)?;
        let lease_namespace = self.charge.lease_namespace(&config);
        let Charge { namespace, lease: lease_name, .. } = self.charge;
        let client =
            kube::Client::try_from(config).context("the configuration of the API server cannot be used")?;
        let who = self.identity.or_else(host_name).unwrap_or_else(|| "vr-operator".to_owned());
        let who = format!("{who}_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let listener = tokio::net::TcpListener::bind(self.listen).await.with_context(|| {
            format!("cannot listen on {}: choose another address with --listen", self.listen)
        })?;
        let (stop, stopped) = watch::channel(false);
        let health = health::Health::default();
        tokio::spawn(health::serve(listener, health.clone(), stopped.clone()));
        let lease = lease::Lease::new(client.clone(), &lease_namespace, &lease_name, who.clone());
        let (hold, held) = watch::channel(None);
        let leading = tokio::spawn(lease.keep(hold, health.clone(), stopped.clone()));
        tracing::info!(identity = %who, lease = %format!("{lease_namespace}/{lease_name}"), "the operator runs");
        let rounds = rounds::Rounds::new(client, namespace, held, health, who);
        let working = tokio::spawn(rounds.run(stopped));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: what is being done is brought to its end");
        let _ = stop.send(true);
        // First the work ends, then the lease goes: nobody else may begin before that.
        let _ = tokio::time::timeout(Duration::from_secs(20), working).await;
        let release = leading.await.context("the lease's task has failed")?;
        release.release().await;
        Ok(())
    }
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
