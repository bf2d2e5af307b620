//! A cluster of processes on this machine: start, watch, kill, stop.
//!
//! Promises: no process outlives this value or this program; what a replica says when it ends is passed on. Decides
//! nothing about restores.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use vr_replica::status::Report as Status;
use vr_replica::tls::{Connector, TlsError};
use vr_replica::vote;

use super::certificates::CertificateError;
use super::layout::{Description, Layout, LayoutError, Ports};
use super::process::{Ended, Process, ProcessError};
use crate::http;
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};

/// How long a replica may take to leave its last checkpoint.
const STOP_GRACE: Duration = Duration::from_secs(60);
/// The S3 server keeps nothing in memory.
const S3_GRACE: Duration = Duration::from_secs(5);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// For one answer of an admin port.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);
const S3_PATIENCE: Duration = Duration::from_secs(20);

/// A cluster and its processes.
pub struct Cluster {
    layout: Layout,
    description: Description,
    program: PathBuf,
    s3: Option<Process>,
    replicas: Vec<Replica>,
    /// Others whose directories must stay locked.
    beside: Vec<Cluster>,
}

/// What others changed in a cluster that runs.
#[derive(Debug, Default)]
pub struct Changes {
    /// These were added, and started.
    pub added: Vec<u64>,
    /// These do not run, and are no part of it any more.
    pub gone: Vec<u64>,
}

struct Replica {
    ports: Ports,
    process: Option<Process>,
}

/// Why a cluster does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its directory.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Its certificates.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// Certificates that were made, and are not what was made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The system.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process that should run has ended.
    #[error("{name} {how}; the end of its log:\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        how: Ended,
        /// Its last lines.
        log: String,
    },
    /// The replicas that are left have found it out.
    #[error("a majority of the replicas has lost its memory without a clean stop")]
    QuorumLost,
    /// There is nothing that the replicas could start with.
    #[error("a majority of the replicas has lost its disks: {0}")]
    DisksLost(String),
    /// Nothing wrong was seen, but it took too long.
    #[error("not ready after {seconds} s: {why}")]
    TooSlow {
        /// How long.
        seconds: u64,
        /// Who was not ready, and why.
        why: String,
    },
}

/// What exit status tells that a replica's generation is over.
pub const FENCED: i32 = 3;
/// What exit status tells that a replica is no member any more.
pub const RETIRED: i32 = 4;
/// Exit status of a replica that was asked to end like a crash.
pub const CRASHED: i32 = 137;

impl Cluster {
    /// A cluster that runs nothing yet; its description is written to its directory.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(layout: Layout, description: Description) -> Result<Cluster, ClusterError> {
        let program = std::env::current_exe()
            .map_err(|source| ClusterError::System { what: "find this executable", source })?;
        if description.tls {
            let ids: Vec<u64> = description.replicas.iter().map(|ports| ports.id).collect();
            layout.certificates().make(description.lineage, &ids)?;
        }
        layout.write(&description)?;
        let replicas = description.replicas.iter().map(|&ports| Replica { ports, process: None }).collect();
        Ok(Cluster { layout, description, program, s3: None, replicas, beside: Vec::new() })
    }

    /// Its files.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it is.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// How its clients connect.
    ///
    /// # Errors
    /// When the certificates cannot be read any more.
    pub fn connector(&self) -> Result<Connector, ClusterError> {
        if !self.description.tls {
            return Ok(Connector::default());
        }
        let config = self.layout.certificates().files("client").load()?;
        Ok(Connector::new(Some(Arc::new(config))))
    }

    /// Changes what it is, for the processes that start from now on.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn describe(&mut self, change: impl FnOnce(&mut Description)) -> Result<(), ClusterError> {
        // What others have added meanwhile stays.
        let description = Layout::change(self.layout.root(), change)?;
        self.layout.configure(&description)?;
        self.description = description;
        Ok(())
    }

    /// Starts the embedded S3 server, if the cluster has one and it does not run, and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_object_store(&mut self) -> Result<(), ClusterError> {
        let Some(port) = self.description.object_store.embedded_port else { return Ok(()) };
        if self.s3.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let arguments = [
            "s3-server".to_owned(),
            "--dir".to_owned(),
            self.layout.s3().to_string_lossy().into_owned(),
            "--listen".to_owned(),
            address.to_string(),
            "--bucket".to_owned(),
            self.description.object_store.bucket.clone(),
        ];
        let log = self.layout.s3_log();
        let environment = self.environment();
        let process = Process::start("the S3 server", &self.program, &arguments, &environment, &log)?;
        let process = self.s3.insert(process);
        let deadline = Instant::now() + S3_PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(how) = process.ended() {
                return Err(ended(process, how));
            }
            if Instant::now() >= deadline {
                let why = "the S3 server does not listen".to_owned();
                return Err(ClusterError::TooSlow { seconds: S3_PATIENCE.as_secs(), why });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Takes over what others changed in the description meanwhile: who was added is started, who was taken out and does
    /// not run is forgotten. Whoever was taken out and runs will end by itself.
    ///
    /// # Errors
    /// When the description is unreadable, or a process cannot be started.
    pub fn take_over_changes(&mut self) -> Result<Changes, ClusterError> {
        let Some(found) = self.layout.description()? else { return Ok(Changes::default()) };
        if found == self.description {
            return Ok(Changes::default());
        }
        let known = self.ids();
        let added: Vec<Ports> =
            found.replicas.iter().filter(|ports| !known.contains(&ports.id)).copied().collect();
        if found.tls {
            let ids: Vec<u64> = added.iter().map(|ports| ports.id).collect();
            self.layout.certificates().peers(found.lineage, &ids)?;
        }
        let stays = |replica: &Replica| {
            replica.process.is_some() || found.replicas.iter().any(|ports| ports.id == replica.ports.id)
        };
        let gone: Vec<u64> =
            self.replicas.iter().filter(|replica| !stays(replica)).map(|replica| replica.ports.id).collect();
        self.replicas.retain(stays);
        self.layout.configure(&found)?;
        self.description = found;
        for ports in &added {
            self.replicas.push(Replica { ports: *ports, process: None });
            self.start_replica(ports.id)?;
        }
        Ok(Changes { added: added.iter().map(|ports| ports.id).collect(), gone })
    }

    /// Forgets a replica that is no member any more; its files stay.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn forget(&mut self, id: u64) -> Result<(), ClusterError> {
        self.replicas.retain(|replica| replica.ports.id != id);
        self.describe(|description| description.replicas.retain(|ports| ports.id != id))
    }

    /// Starts every replica that does not run.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start_replicas(&mut self) -> Result<(), ClusterError> {
        for id in self.ids() {
            self.start_replica(id)?;
        }
        Ok(())
    }

    /// Starts one replica, unless it runs.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_replica(&mut self, id: u64) -> Result<(), ClusterError> {
        let environment = self.environment();
        let arguments = ["replica", "serve", "--config"].map(str::to_owned).into_iter();
        let config = self.layout.configuration_file(id).to_string_lossy().into_owned();
        let arguments: Vec<String> = arguments.chain([config]).collect();
        let log = self.layout.log(id);
        let program = self.program.clone();
        let replica = self.replica(id);
        if replica.process.as_mut().is_none_or(|process| process.ended().is_some()) {
            let name = format!("replica {id}");
            replica.process = Some(Process::start(&name, &program, &arguments, &environment, &log)?);
        }
        Ok(())
    }

    /// What a process needs to use the object store: for the embedded server any credentials will do, for another one
    /// those of this process's environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        if self.description.object_store.embedded_port.is_none() {
            return Vec::new();
        }
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    /// Waits until every replica that runs is ready, and at least a majority is; returns the ids of those that ended
    /// meanwhile.
    ///
    /// # Errors
    /// As soon as it is clear that this will not be, and when `patience` is over.
    pub async fn wait_until_ready(&mut self, patience: Duration) -> Result<Vec<u64>, ClusterError> {
        let deadline = Instant::now() + patience;
        let majority = self.replicas.len() / 2 + 1;
        loop {
            let statuses = self.statuses().await;
            let (mut ready, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
            let mut last_end = None;
            for (replica, status) in self.replicas.iter_mut().zip(statuses) {
                let Some(process) = &mut replica.process else { continue };
                if let Some(how) = process.ended() {
                    gone.push(replica.ports.id);
                    last_end = Some(ended(process, how));
                    continue;
                }
                match status {
                    Some(status) if status.quorum_lost => {
                        return Err(ClusterError::QuorumLost);
                    }
                    Some(status) if status.ready => ready += 1,
                    Some(status) => waiting.push(format!("{} is {}", process.name(), status.status)),
                    None => waiting.push(format!("{} does not answer", process.name())),
                }
            }
            if waiting.is_empty() && ready >= majority {
                return Ok(gone);
            }
            if ready + waiting.len() < majority {
                let none =
                    || ClusterError::TooSlow { seconds: 0, why: "too few replicas were started".to_owned() };
                return Err(last_end.unwrap_or_else(none));
            }
            if Instant::now() >= deadline {
                return Err(ClusterError::TooSlow { seconds: patience.as_secs(), why: waiting.join(", ") });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What each replica says of itself, in order; none where nothing answers.
    pub async fn statuses(&self) -> Vec<Option<Status>> {
        join_all(self.replicas.iter().map(|replica| async {
            match replica.process {
                Some(_) => status(replica.ports.admin_address()).await,
                None => None,
            }
        }))
        .await
    }

    /// The id of the primary that most replicas name.
    pub async fn primary(&self) -> Option<u64> {
        let statuses = self.statuses().await;
        statuses
            .iter()
            .flatten()
            .max_by_key(|status| (status.epoch, status.view))
            .and_then(|status| status.primary)
    }

    /// Where a replica's admin port is.
    #[must_use]
    pub fn admin_address(&self, id: u64) -> Option<SocketAddr> {
        let replica = self.replicas.iter().find(|replica| replica.ports.id == id)?;
        Some(replica.ports.admin_address())
    }

    /// All replica ids, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.replicas.iter().map(|replica| replica.ports.id).collect()
    }

    /// A replica's process id; none when it does not run.
    #[must_use]
    pub fn pid(&self, id: u64) -> Option<u32> {
        let replica = self.replicas.iter().find(|replica| replica.ports.id == id)?;
        replica.process.as_ref().map(Process::pid)
    }

    /// Replicas that have ended since they were last asked for; they count as not running from now on.
    pub fn reap(&mut self) -> Vec<(u64, Ended, String)> {
        let mut gone = Vec::new();
        for replica in &mut self.replicas {
            if let Some(process) = &mut replica.process
                && let Some(how) = process.ended()
            {
                gone.push((replica.ports.id, how, process.last_lines(10)));
                replica.process = None;
            }
        }
        gone
    }

    /// Replicas that have been started before and whose disks know nothing of that.
    #[must_use]
    pub fn without_disks(&self) -> Vec<u64> {
        let forgotten = |id: &u64| {
            let disks = [self.layout.nvme(*id), self.layout.volume(*id)];
            matches!(vote::read(&disks), Ok(vote::Found::Empty))
        };
        self.ids().into_iter().filter(forgotten).collect()
    }

    /// How the S3 server ended, if it did.
    pub fn object_store_ended(&mut self) -> Option<ClusterError> {
        let process = self.s3.as_mut()?;
        process.ended().map(|how| ended(process, how))
    }

    /// SIGKILL to these replicas, all before the first is waited for.
    ///
    /// # Errors
    /// When the system does not let us.
    pub async fn kill(&mut self, ids: &[u64]) -> Result<(), ClusterError> {
        let victims = self.replicas.iter_mut().filter(|replica| ids.contains(&replica.ports.id));
        let mut victims: Vec<Process> = victims.filter_map(|replica| replica.process.take()).collect();
        for killed in join_all(victims.iter_mut().map(Process::kill)).await {
            killed.map_err(|source| ClusterError::System { what: "kill a replica", source })?;
        }
        Ok(())
    }

    /// SIGKILL to the embedded S3 server, as if it were out of reach; it keeps what it has answered.
    ///
    /// # Errors
    /// When there is none, or the system does not let us.
    pub async fn kill_object_store(&mut self) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::System { what: "kill the S3 server", source };
        let mut s3 = self.s3.take().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        s3.kill().await.map_err(failed)
    }

    /// Keeps another cluster, and with it the lock of its directory, for as long as this one lives.
    pub fn keep_beside(&mut self, other: Cluster) {
        self.beside.push(other);
    }

    /// Takes over the embedded S3 server of another cluster that uses the same.
    pub fn take_object_store(&mut self, other: &mut Cluster) {
        self.s3 = other.s3.take().or(self.s3.take());
    }

    /// Removes both disks of a replica, as if its machine were gone.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn wipe_disks(&self, id: u64) -> Result<(), ClusterError> {
        for path in [self.layout.nvme(id), self.layout.volume(id)] {
            match std::fs::remove_dir_all(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LayoutError::File { what: "remove", path, source }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops everything in order: the replicas, each leaving all it has, and then the S3 server.
    ///
    /// # Errors
    /// When the system does not let us wait; everything was told to stop nevertheless.
    pub async fn stop(&mut self) -> Result<Vec<(u64, Ended)>, ClusterError> {
        let failed = |source| ClusterError::System { what: "wait for a process to stop", source };
        let running: Vec<(u64, Process)> =
            self.replicas.iter_mut().filter_map(|r| Some((r.ports.id, r.process.take()?))).collect();
        let stopping = running
            .into_iter()
            .map(|(id, mut process)| async move { process.stop(STOP_GRACE).await.map(|how| (id, how)) });
        let ends = join_all(stopping).await;
        if let Some(mut s3) = self.s3.take() {
            s3.stop(S3_GRACE).await.map_err(failed)?;
        }
        ends.into_iter().collect::<Result<_, _>>().map_err(failed)
    }

    fn replica(&mut self, id: u64) -> &mut Replica {
        self.replicas.iter_mut().find(|replica| replica.ports.id == id).expect("ids come from this cluster")
    }
}

/// What a replica says of itself; none when nothing answers.
pub async fn status(admin: SocketAddr) -> Option<Status> {
    let (_, body) = http::get(admin, "/status", ADMIN_TIMEOUT).await.ok()?;
    serde_json::from_slice(&body).ok()
}

fn ended(process: &Process, how: Ended) -> ClusterError {
    ClusterError::Ended { name: process.name().to_owned(), how, log: process.last_lines(3) }
}
