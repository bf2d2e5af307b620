//! `vr dev`: a whole cluster on this machine, until Ctrl-C.
//!
//! Promises: what a clean stop leaves, the next start continues from; a start that would silently lose acknowledged
//! writes is refused with everything that is needed to decide; no process stays behind, whatever ends this one.

pub mod certificates;
pub mod cluster;
pub mod join;
pub mod layout;
pub mod object_store;
pub mod ports;
pub mod process;
pub mod recovery;
pub mod signals;
pub mod tiers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use self::cluster::{CRASHED, Cluster, ClusterError, FENCED, RETIRED};
use self::layout::{Cadences, Description, Layout, Ports};
use self::object_store::ObjectStoreArgs;
use self::process::Ended;
use self::signals::Signals;
use crate::checkpoint::lineages_in;
use crate::output::{self, Format};
use crate::recovery_point::{self, TargetArgs};
use vr_checkpoint::restore::Target;
use vr_replica::tls::ClientFiles;

/// How long a start may take: a restore of a large state is part of it.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the processes.
const WATCH: Duration = Duration::from_millis(100);
/// Between two looks at what the replicas say of themselves.
const ASK: Duration = Duration::from_secs(1);
/// A replica that ends this often within [`CRASH_WINDOW`] is not started again.
const CRASHES: usize = 5;
const CRASH_WINDOW: Duration = Duration::from_secs(30);

/// Starts a cluster on this machine and keeps it until Ctrl-C
///
/// Three replicas and an S3 server, as processes of this executable. What is in --dir continues; without --dir
/// everything is removed at the end.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dev {
    #[command(subcommand)]
    action: Option<Action>,

    /// Number of replicas: 1, 3, 5, 7 or 9 [default: 3]
    #[arg(long, value_name = "N", value_parser = replicas)]
    replicas: Option<u16>,

    /// Use consecutive ports from this one on: client, peer, admin and control of each replica, then S3 [default: free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    base_port: Option<u16>,

    /// Keep everything in this directory, and continue from what is there
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// Speak TLS on the client, peer and control ports, with certificates made below the directory
    #[arg(long)]
    tls: bool,

    /// Begin a new generation from the newest recovery point that any tier still holds, or from the one that is named
    #[arg(long, requires = "dir")]
    restore: bool,

    /// With --restore in a directory that holds no cluster: which lineage, where several stand in the bucket
    #[arg(long, value_name = "UUID", requires = "restore")]
    lineage: Option<Uuid>,

    #[command(flatten)]
    target: TargetArgs,

    /// Leave a replica dead that was killed from outside
    #[arg(long)]
    no_restart: bool,

    /// How to print what was started
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,

    #[command(flatten)]
    object_store: ObjectStoreArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    Join(join::Join),
}

/// The clusters that can lose a minority and know it.
///
/// # Errors
/// A text for people.
pub fn replicas(typed: &str) -> Result<u16, String> {
    match typed.parse() {
        Ok(n @ (1 | 3 | 5 | 7 | 9)) => Ok(n),
        _ => Err(format!("{typed:?}: must be 1, 3, 5, 7 or 9")),
    }
}

/// What `-o json` prints, once everything serves.
#[derive(Debug, Serialize)]
struct Started {
    endpoints: Vec<String>,
    s3: StartedS3,
    replicas: Vec<StartedReplica>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<StartedTls>,
}

/// What clients of each kind of port need.
#[derive(Debug, Serialize)]
struct StartedTls {
    client: StartedFiles,
    control: StartedFiles,
}

#[derive(Debug, Serialize)]
struct StartedFiles {
    cacert: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl StartedFiles {
    fn of(files: ClientFiles) -> Option<StartedFiles> {
        let (cert, key) = files.pair?;
        Some(StartedFiles { cacert: files.ca, cert, key })
    }

    fn flags(&self) -> String {
        let word = |path: &Path| shell_word(path);
        format!(" --cacert={} --cert={} --key={}", word(&self.cacert), word(&self.cert), word(&self.key))
    }
}

#[derive(Debug, Serialize)]
struct StartedS3 {
    endpoint: Option<String>,
    bucket: String,
    prefix: String,
}

#[derive(Debug, Serialize)]
struct StartedReplica {
    id: u64,
    pid: Option<u32>,
    client: String,
    admin: String,
    control: String,
    nvme: PathBuf,
    volume: PathBuf,
}

impl Dev {
    /// Runs the cluster until it is told to stop.
    ///
    /// # Errors
    /// When it cannot be started, or must not be.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if let Some(Action::Join(join)) = self.action {
            return runtime.block_on(join.run());
        }
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            // Removed when this ends; not when `--dir` names a place to keep.
            let temporary = match self.dir {
                Some(_) => None,
                None => Some(
                    tempfile::Builder::new()
                        .prefix("vr-dev-")
                        .tempdir()
                        .context("cannot make a directory")?,
                ),
            };
            let directory = self.dir.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
            let mut cluster = self.open(directory.expect("one of the two")).await?;
            let outcome = tokio::select! {
                outcome = self.serve(&mut cluster) => outcome,
                () = signals.wait() => Ok(()),
            };
            tokio::select! {
                stopped = stop(&mut cluster) => stopped?,
                () = signals.wait() => eprintln!("stopping at once: the replicas lose what was not shipped"),
            }
            outcome
        })
    }

    /// The cluster in the directory, or a new one.
    async fn open(&self, directory: &Path) -> anyhow::Result<Cluster> {
        let layout = Layout::take(directory)?;
        let description = match layout.description()? {
            Some(found) => {
                self.must_fit(&found, layout.root())?;
                found
            }
            None if self.restore && self.object_store.is_embedded() => {
                bail!(
                    "{} holds no cluster: nothing to restore; leave out --restore to begin one, or name the bucket that \
                     holds one by the --s3 flags",
                    directory.display()
                )
            }
            None => {
                let mut new = describe(
                    self.replicas.unwrap_or(3),
                    self.base_port,
                    &self.object_store,
                    "dev",
                    Cadences::default(),
                    self.tls,
                )?;
                if self.restore {
                    new.lineage = self.lineage_in(&new).await?;
                }
                new
            }
        };
        Ok(Cluster::new(layout, description)?)
    }

    /// The lineage that a cluster of which only the bucket is left goes on with.
    async fn lineage_in(&self, new: &Description) -> anyhow::Result<Uuid> {
        let place = &new.object_store;
        let found = lineages_in(&tiers::below(place, &place.prefix).await).await?;
        match (self.lineage, &found[..]) {
            (Some(wanted), _) if found.contains(&wanted) => Ok(wanted),
            (Some(wanted), _) => bail!("lineage {wanted} does not stand in {place}: {}", listed(&found)),
            (None, [one]) => Ok(*one),
            (None, []) => bail!("no lineage stands in {place}: nothing to restore; check bucket and prefix"),
            (None, _) => {
                bail!("several lineages stand in {place}, choose one by --lineage: {}", listed(&found))
            }
        }
    }

    /// What was typed must not contradict what is there.
    fn must_fit(&self, found: &Description, root: &Path) -> anyhow::Result<()> {
        let there = root.display();
        if let Some(wanted) = self.replicas
            && usize::from(wanted) != found.replicas.len()
        {
            let count = found.replicas.len();
            bail!(
                "the cluster in {there} has {count} replicas, not {wanted}: leave out --replicas, or give another --dir"
            );
        }
        if let Some(wanted) = self.base_port
            && found.replicas.first().is_some_and(|first| first.client != wanted)
        {
            bail!(
                "the cluster in {there} has its ports already: leave out --base-port, or give another --dir"
            );
        }
        if self.tls && !found.tls {
            bail!("the cluster in {there} began without TLS: leave out --tls, or give another --dir");
        }
        if let Some(wanted) = self.lineage
            && wanted != found.lineage
        {
            bail!(
                "the cluster in {there} is lineage {}, not {wanted}: leave out --lineage, or give another --dir",
                found.lineage
            );
        }
        if !self.object_store.fits(&found.object_store) {
            bail!(
                "the cluster in {there} ships to {}: leave out the --s3 flags, or give another --dir",
                found.object_store
            );
        }
        Ok(())
    }

    async fn serve(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        self.start(cluster).await?;
        let started = started(cluster);
        match self.output {
            Format::Json => output::json(&started)?,
            Format::Table => output::text(self.describe_started(&started, cluster))?,
        }
        self.watch(cluster).await
    }

    async fn start(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        if !self.restore && self.target.target() != Target::Newest {
            bail!("a recovery point is named, but nothing is to be restored: give --restore as well");
        }
        cluster.start_object_store().await?;
        if self.restore {
            let plan = recovery::restore(cluster, &self.target.target()).await?;
            eprintln!("{}\n{plan}", recovery_point::show(&plan.candidates));
        } else if cluster.description().served {
            let gone = cluster.without_disks();
            if gone.len() > cluster.ids().len() / 2 {
                let names = gone.iter().map(|id| format!("replica {id}")).collect::<Vec<_>>().join(", ");
                return Err(refusal(cluster, ClusterError::DisksLost(names)).await);
            }
        }
        cluster.start_replicas()?;
        match cluster.wait_until_ready(START_PATIENCE).await {
            Ok(_) => {
                for (id, how, log) in cluster.reap() {
                    eprintln!("warning: replica {id} {how} and is left dead; the end of its log:\n{log}");
                }
            }
            Err(lost @ ClusterError::QuorumLost) => return Err(refusal(cluster, lost).await),
            Err(error) => return Err(error.into()),
        }
        // From now on a replica without its vote record must not come back as if nothing had been.
        if !cluster.description().served {
            cluster.describe(|description| {
                description.served = true;
                description.restore = None;
            })?;
        }
        Ok(())
    }

    /// Starts replicas again that were killed, and tells what else happens. Returns only when nothing is left to do.
    async fn watch(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let mut crashes: Vec<(u64, Instant)> = Vec::new();
        let mut told = false;
        let mut asked = Instant::now();
        loop {
            tokio::time::sleep(WATCH).await;
            if let Some(error) = cluster.object_store_ended() {
                eprintln!("warning: {error}\nstarting it again");
                cluster.start_object_store().await?;
            }
            for (id, how, log) in cluster.reap() {
                crashes.retain(|(_, at)| at.elapsed() < CRASH_WINDOW);
                crashes.push((id, Instant::now()));
                let often = crashes.iter().filter(|(who, _)| *who == id).count() >= CRASHES;
                match how {
                    Ended::Exit(FENCED) => {
                        eprintln!("replica {id} is fenced: a newer generation of this lineage exists\n{log}");
                    }
                    Ended::Exit(RETIRED) => {
                        cluster.forget(id)?;
                        eprintln!("replica {id} is no member any more and has ended; its files stay");
                    }
                    _ if self.no_restart => eprintln!("replica {id} {how}; --no-restart leaves it dead"),
                    Ended::Exit(code) if code != CRASHED => {
                        eprintln!("replica {id} {how} and is left dead; the end of its log:\n{log}")
                    }
                    _ if often => {
                        eprintln!(
                            "replica {id} {how}, for the {CRASHES}th time within {CRASH_WINDOW:?}; left dead"
                        );
                    }
                    _ => {
                        cluster.start_replica(id)?;
                        let pid = cluster.pid(id).map(|pid| pid.to_string()).unwrap_or_default();
                        eprintln!("replica {id} {how}; started again as process {pid}");
                    }
                }
            }
            if asked.elapsed() >= ASK {
                asked = Instant::now();
                let changes = cluster.take_over_changes()?;
                for id in changes.added {
                    eprintln!("replica {id} joins");
                }
                for id in changes.gone {
                    eprintln!("replica {id}, which does not run, was replaced; its files stay");
                }
                let lost = cluster.statuses().await.iter().flatten().any(|status| status.quorum_lost);
                if lost && !told {
                    let root = shell_word(cluster.layout().root());
                    eprintln!("a majority of the replicas has lost its memory: the service has stopped.");
                    match self.dir {
                        Some(_) => {
                            eprintln!("Stop with Ctrl-C, then restore with\n  vr dev --dir {root} --restore")
                        }
                        None => eprintln!(
                            "Without --dir, there is nothing to restore it from once this has stopped."
                        ),
                    }
                }
                told = lost;
            }
        }
    }

    fn describe_started(&self, started: &Started, cluster: &Cluster) -> String {
        let mut table = output::table(["REPLICA", "PID", "CLIENT", "ADMIN", "CONTROL", "NVME", "VOLUME"]);
        for replica in &started.replicas {
            table.add_row([
                replica.id.to_string(),
                replica.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                replica.client.clone(),
                replica.admin.clone(),
                replica.control.clone(),
                replica.nvme.display().to_string(),
                replica.volume.display().to_string(),
            ]);
        }
        let description = cluster.description();
        let kept = match self.dir {
            Some(_) => "kept",
            None => "removed at the end; --dir keeps it",
        };
        let table = output::trimmed(&table);
        let flags = started.tls.as_ref().map(|tls| tls.client.flags()).unwrap_or_default();
        let control = started.tls.as_ref().map(|tls| {
            let endpoints: Vec<&str> = started.replicas.iter().map(|r| r.control.as_str()).collect();
            format!("\n  vr status --endpoints={}{}", endpoints.join(","), tls.control.flags())
        });
        let control = control.unwrap_or_default();
        format!(
            "lineage     {}, generation {}\nendpoints   {}\nobjects     {}\ndirectory   {} ({kept})\n\n{table}\n\nTry it:\n  \
             etcdctl --endpoints={}{flags} put greeting hello{control}\n\nCtrl-C stops everything.",
            description.lineage,
            description.generation,
            started.endpoints.join(","),
            description.object_store,
            cluster.layout().root().display(),
            started.endpoints.join(","),
        )
    }
}

fn listed(lineages: &[Uuid]) -> String {
    let names: Vec<String> = lineages.iter().map(Uuid::to_string).collect();
    if names.is_empty() { "there is none".to_owned() } else { names.join(", ") }
}

/// Why a cluster is not started, what every tier holds, and the command that goes on from there.
async fn refusal(cluster: &Cluster, lost: ClusterError) -> anyhow::Error {
    let inventory = match recovery::inventory(cluster).await {
        Ok(inventory) => recovery::show(&inventory),
        Err(error) => error.to_string(),
    };
    let next = cluster.description().generation + 1;
    let root = shell_word(cluster.layout().root());
    anyhow::anyhow!(
        "{lost}; to start would be to lose what they had acknowledged without saying so\n\nWhat the tiers \
         hold:\n{inventory}\n\nTo begin generation {next} from the newest recovery point, run\n  vr dev --dir {root} \
         --restore"
    )
}

/// A cluster that is to begin: free ports, a lineage of its own.
///
/// # Errors
/// When there are not enough free ports.
pub fn describe(
    replicas: u16,
    base_port: Option<u16>,
    object_store: &ObjectStoreArgs,
    prefix: &str,
    cadence: Cadences,
    tls: bool,
) -> anyhow::Result<Description> {
    let embedded = object_store.is_embedded();
    let count = usize::from(replicas) * 4 + usize::from(embedded);
    let mut free = ports::free(count, base_port)?.into_iter();
    let mut next = || free.next().expect("as many as were asked for");
    let replicas = (1..=u64::from(replicas))
        .map(|id| Ports { id, client: next(), peer: next(), admin: next(), control: next(), joined: false })
        .collect();
    let object_store = object_store.resolve(embedded.then(&mut next), prefix);
    Ok(Description { tls, ..Description::new(replicas, object_store, cadence) })
}

fn started(cluster: &Cluster) -> Started {
    let description = cluster.description();
    let store = &description.object_store;
    let certificates = cluster.layout().certificates();
    let files = |port: &str| StartedFiles::of(certificates.files(port));
    Started {
        tls: description
            .tls
            .then(|| Some(StartedTls { client: files("client")?, control: files("control")? }))
            .flatten(),
        endpoints: description.endpoints().iter().map(ToString::to_string).collect(),
        s3: StartedS3 {
            endpoint: store.endpoint.clone(),
            bucket: store.bucket.clone(),
            prefix: store.prefix.clone(),
        },
        replicas: description
            .replicas
            .iter()
            .map(|ports| StartedReplica {
                id: ports.id,
                pid: cluster.pid(ports.id),
                client: description.client_endpoint(ports).to_string(),
                admin: format!("http://{}", ports.admin_address()),
                control: description.control_endpoint(ports).to_string(),
                nvme: cluster.layout().nvme(ports.id),
                volume: cluster.layout().volume(ports.id),
            })
            .collect(),
    }
}

async fn stop(cluster: &mut Cluster) -> anyhow::Result<()> {
    eprintln!("stopping");
    // Whoever has ended already has been spoken of.
    cluster.reap();
    for (id, how) in cluster.stop().await? {
        if ![Ended::Exit(0), Ended::Exit(FENCED), Ended::Exit(RETIRED)].contains(&how) {
            let log = cluster.layout().log(id);
            eprintln!("warning: replica {id} {how} instead of stopping in order; see {}", log.display());
        }
    }
    Ok(())
}

/// A path as a word that a shell reads back unchanged.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_numbers_of_replicas_are_refused() {
        assert_eq!(replicas("5"), Ok(5));
        for wrong in ["0", "2", "11", "x", ""] {
            assert!(replicas(wrong).expect_err(wrong).contains("1, 3, 5, 7 or 9"));
        }
    }

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(shell_word(Path::new("/tmp/a-b_1.c")), "/tmp/a-b_1.c");
        assert_eq!(shell_word(Path::new("/tmp/it's here")), "'/tmp/it'\\''s here'");
    }
}
