//! `kubectl vr`: a VRCluster in Kubernetes, for people in trouble. What it knows it reads from the API server, and what
//! it changes it changes there, by the resources: the operator does the work, and would undo what went past it.
//!
//! Each command makes text of a client and a time, so that tests need no cluster. Not here: what needs the replicas'
//! own ports (`vr status --endpoints …`) or the bucket (`vr checkpoint ls`).

mod authority;
mod change;
mod drain;
mod recovery;
mod report;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde_json::{Value, json};
use vr_api::VRCluster;

use crate::output;

/// VRClusters in Kubernetes: how they are, and what to do about it
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-vr",
    bin_name = "kubectl vr",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    place: Flags,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Flags {
    /// The namespace [default: that of the context]
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Plan(recovery::Plan),
    Recover(recovery::Recover),
    RollBack(recovery::RollBack),
    RestorePoints(recovery::RestorePoints),
    Promote(change::Promote),
    Fence(change::Fence),
    Authority(authority::Authority),
    DrainCheck(drain::DrainCheck),
    Report(report::Report),
    View(view::View),
}

/// Where a command looks, and when.
struct Place {
    client: Client,
    namespace: String,
    now: Timestamp,
}

/// What a command has to say, and whether that is good.
#[derive(Debug)]
struct Said {
    text: String,
    good: bool,
}

impl From<String> for Said {
    fn from(text: String) -> Said {
        Said { text, good: true }
    }
}

/// Asks a person; `None` where there is nobody to answer.
type Ask<'a> = &'a mut dyn FnMut(&str) -> anyhow::Result<Option<String>>;

/// Has `answer` typed, which is `what`, so that nobody goes on by mistake.
fn confirmed(question: &str, answer: &str, what: &str, ask: Ask<'_>) -> anyhow::Result<()> {
    match ask(question)? {
        Some(typed) if typed == answer => Ok(()),
        Some(_) => bail!("that is not {what}; nothing was done"),
        None => bail!("there is nobody to ask; nothing was done. With --yes it is not asked"),
    }
}

/// The command line.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the command line, carries it out, and says how that went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    vr_replica::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let place = cli.place.place().await?;
            cli.command.run(&place, &mut from_terminal).await
        })
    });
    let printed = outcome.and_then(|said| output::text(&said.text).map(|()| said.good));
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", crate::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

impl Flags {
    async fn place(self) -> anyhow::Result<Place> {
        let options = KubeConfigOptions { context: self.context.clone(), cluster: None, user: None };
        let config = match Config::from_kubeconfig(&options).await {
            Ok(config) => config,
            // In a pod there is no file, and nothing to choose from.
            Err(error) if self.context.is_some() => {
                return Err(error).context("the kubeconfig cannot be used");
            }
            Err(error) => Config::incluster().map_err(|_| error).context(
                "there is no way to an API server: set KUBECONFIG, or name a context with --context",
            )?,
        };
        let namespace = self.namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Place { client, namespace, now: Timestamp::now() })
    }
}

impl Command {
    async fn run(&self, place: &Place, ask: Ask<'_>) -> anyhow::Result<Said> {
        match self {
            Command::Status(status) => status.run(place).await,
            Command::Plan(plan) => plan.run(place).await,
            Command::Recover(recover) => recover.run(place, ask).await,
            Command::RollBack(back) => back.run(place, ask).await,
            Command::RestorePoints(points) => points.run(place).await,
            Command::Promote(promote) => promote.run(place).await,
            Command::Fence(fence) => fence.run(place, ask).await,
            Command::Authority(authority) => authority.run(place, ask).await,
            Command::DrainCheck(check) => check.run(place).await,
            Command::Report(report) => report.run(place).await,
            Command::View(view) => view.run(place).await,
        }
    }
}

impl Place {
    fn clusters(&self) -> Api<VRCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn cluster(&self, name: &str) -> anyhow::Result<VRCluster> {
        match self.clusters().get_opt(name).await {
            Ok(Some(cluster)) => Ok(cluster),
            Ok(None) => Err(anyhow!(
                "there is no VRCluster {name} in namespace {}, or Kubernetes knows none at all: `kubectl get vrc -A` \
                 lists them",
                self.namespace
            )),
            Err(error) => Err(refused(error, &format!("VRCluster {name} cannot be read"))),
        }
    }

    /// Changes a cluster. The version that was read goes along, so that of two people one is refused.
    async fn change(&self, cluster: &VRCluster, mut change: Value) -> anyhow::Result<()> {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        change["metadata"]["resourceVersion"] = json!(cluster.metadata.resource_version);
        let made = self.clusters().patch(name, &PatchParams::default(), &Patch::Merge(&change)).await;
        made.map(drop).map_err(|error| refused(error, &format!("VRCluster {name} cannot be changed")))
    }

    /// What lets the operator work on a cluster again.
    fn unpause(&self, name: &str) -> String {
        format!("kubectl patch vrc {} --type merge -p '{{\"spec\":{{\"paused\":false}}}}'", self.named(name))
    }

    /// How a person names the cluster in a command that they copy.
    fn named(&self, name: &str) -> String {
        format!("-n {} {name}", self.namespace)
    }

    /// How long ago that was.
    fn ago(&self, at: Timestamp) -> String {
        let seconds = self.now.duration_since(at).as_secs();
        match seconds {
            ..120 => format!("{} s", seconds.max(0)),
            120..7200 => format!("{} min", seconds / 60),
            7200..172_800 => format!("{} h", seconds / 3600),
            _ => format!("{} d", seconds / 86_400),
        }
    }

    /// The same of a moment as it stands in a status.
    fn ago_text(&self, at: Option<&str>) -> String {
        let parsed = at.and_then(|text| text.parse::<Timestamp>().ok());
        parsed.map_or_else(|| "-".to_owned(), |at| self.ago(at))
    }
}

/// What the API server has against it, with what to do where that can be said.
fn refused(error: kube::Error, what: &str) -> anyhow::Error {
    let hint = match &error {
        kube::Error::Api(status) if status.code == 403 => {
            ": your account may not; ask for a role that allows it, or use another --context"
        }
        kube::Error::Api(status) if status.code == 409 => {
            ": somebody else changed it at this moment; try again"
        }
        kube::Error::Api(_) => "",
        _ => ": is the API server reachable? `kubectl version` says so",
    };
    match error {
        kube::Error::Api(status) => anyhow!("{what}: {}{hint}", status.message),
        other => anyhow::Error::from(other).context(format!("{what}{hint}")),
    }
}

/// A number or a word, or a dash where there is none.
fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn from_terminal(question: &str) -> anyhow::Result<Option<String>> {
    use std::io::{IsTerminal as _, Write as _};
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(Some(line.trim().to_owned()))
}
