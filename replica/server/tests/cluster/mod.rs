//! Replicas as processes, for the tests in this folder: each with its own ports and disks in one temporary directory.
//!
//! Whatever was started is killed by its process id when the cluster goes out of scope, and if the test fails then, the
//! ends of the logs are printed. Waiting is always for a condition, with [`PATIENCE`] as its end.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod http;
pub(crate) mod object_store;
pub(crate) mod ports;
pub(crate) mod rpc;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};
use vr_replica::config::{Initial, Raw, RawMember, RawTier, RawTiers};
use vr_replica::status::Report;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);
/// Another process may take a port between the look and the start.
const TRIES: usize = 5;
/// Lines of a log shown after a failure.
const TAIL: usize = 40;
/// The database of every test.
pub(crate) const LINEAGE: &str = "0a4c3d5e-7d0b-4f7e-9a57-6c1e52f0b7aa";
/// Credentials of every embedded S3 server here.
pub(crate) const S3_KEYS: (&str, &str) = ("vr", "only-on-this-machine");

/// Some replicas that know each other.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// `count` replicas with the default settings and both disk tiers, once all of them are ready.
    pub(crate) async fn start(count: usize) -> Cluster {
        Cluster::start_as(count, |_| {}).await
    }

    /// The same, with `change` made to each configuration.
    pub(crate) async fn start_as(count: usize, change: impl Fn(&mut Raw)) -> Cluster {
        for _ in 0..TRIES {
            let mut cluster = Cluster::new(count, &change);
            cluster.replicas.iter_mut().for_each(Replica::start);
            match cluster.ready().await {
                Ok(()) => return cluster,
                Err(problem) if problem.contains("cannot listen") => {}
                Err(problem) => panic!("{problem}"),
            }
        }
        panic!("no free ports in {TRIES} tries");
    }

    /// The same, without starting anything.
    pub(crate) fn new(count: usize, change: impl Fn(&mut Raw)) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = ports::free(count * 3);
        let addresses: Vec<[SocketAddr; 3]> = ports
            .chunks_exact(3)
            .map(|three| [three[0], three[1], three[2]].map(|port| ([127, 0, 0, 1], port).into()))
            .collect();
        let members: Vec<RawMember> = (1..)
            .zip(&addresses)
            .map(|(id, [client, peer, _])| RawMember {
                domain: String::new(),
                id,
                peer: peer.to_string(),
                client: format!("http://{client}"),
            })
            .collect();
        let replicas = (1..)
            .zip(&addresses)
            .map(|(id, &[client, peer, admin])| {
                let home = dir.path().join(format!("r{id}"));
                let tier = |name: &str| RawTier { path: Some(home.join(name)), ..RawTier::default() };
                let mut raw = Raw {
                    lineage: Some(LINEAGE.parse().expect("a UUID")),
                    replica_id: Some(id),
                    members: Some(members.clone()),
                    client_address: Some(client),
                    peer_address: Some(peer),
                    admin_address: Some(admin),
                    initial: Some(Initial::Bootstrap),
                    tiers: Some(RawTiers {
                        nvme: Some(tier("nvme")),
                        volume: Some(tier("volume")),
                        ..RawTiers::default()
                    }),
                    ..Raw::default()
                };
                change(&mut raw);
                fs::create_dir(&home).expect("the temporary directory is writable");
                let replica = Replica { id, client, peer, admin, home, environment: None, child: None };
                replica.configure(&raw);
                replica
            })
            .collect();
        Cluster { replicas, _dir: dir }
    }

    /// Waits until every replica says that it is ready; or what the first that ended said.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        for replica in &mut self.replicas {
            replica.ready().await?;
        }
        Ok(())
    }

    /// Waits until all replicas are ready and agree on a primary; its place.
    pub(crate) async fn settled(&self) -> usize {
        eventually("all replicas are ready and agree on a primary", async || {
            let mut primary = None;
            for replica in &self.replicas {
                let report = replica.status().await.filter(|report| report.ready)?;
                let leads = report.primary?;
                if *primary.get_or_insert(leads) != leads {
                    return None;
                }
            }
            self.replicas.iter().position(|replica| Some(replica.id) == primary)
        })
        .await
    }

    /// The URLs of all, for clients.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.replicas.iter().map(Replica::channel).collect()
    }
}

/// One replica: its place on this machine, and its process while it has one.
pub(crate) struct Replica {
    pub(crate) id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Its configuration, its log and its disk tiers.
    pub(crate) home: PathBuf,
    /// Where it has its identity from, as environment variables; [`S3_KEYS`] if absent.
    pub(crate) environment: Option<Vec<(String, String)>>,
    child: Option<Child>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of replica {}\n{}", self.id, self.log_tail());
        }
    }
}

impl Replica {
    pub(crate) fn config_path(&self) -> PathBuf {
        self.home.join("config.yaml")
    }

    /// Writes its configuration.
    pub(crate) fn configure(&self, raw: &Raw) {
        let text = serde_yaml::to_string(raw).expect("plain data is always YAML");
        fs::write(self.config_path(), text).expect("the temporary directory is writable");
    }

    /// Reads its configuration, changes it and writes it.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Raw)) {
        let text = fs::read_to_string(self.config_path()).expect("written before");
        let mut raw = serde_yaml::from_str(&text).expect("written by this");
        change(&mut raw);
        self.configure(&raw);
    }

    /// Starts its process; it adds to the log of earlier ones.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, flags: &[&str]) {
        assert!(self.child.is_none(), "replica {} runs already", self.id);
        let log = File::options().create(true).append(true).open(self.log_path()).expect("writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vr-replica"));
        let keys = [("AWS_ACCESS_KEY_ID", S3_KEYS.0), ("AWS_SECRET_ACCESS_KEY", S3_KEYS.1)];
        match &self.environment {
            Some(environment) => keys
                .iter()
                .fold(&mut command, |command, (name, _)| command.env_remove(name))
                .envs(environment.iter().cloned()),
            None => command.envs(keys),
        };
        command
            .args(["serve", "--config"])
            .arg(self.config_path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().expect("the executable was built with this test"));
    }

    /// Starts it, expecting that it ends by itself: its exit status and what it said.
    pub(crate) async fn refused(&mut self, flags: &[&str]) -> (Option<i32>, String) {
        let before = fs::metadata(self.log_path()).map_or(0, |meta| meta.len() as usize);
        self.start_with(flags);
        let status = eventually("the replica ends by itself", async || self.ended()).await;
        self.child = None;
        let said = fs::read(self.log_path()).expect("it was started");
        (status.code(), String::from_utf8_lossy(&said[before..]).into_owned())
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child of this process can be waited for")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("only a running replica is sent signals");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a child that was not waited for can be sent signals");
    }

    /// SIGKILL; the process is gone afterwards, whatever state it was in.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended by itself already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let status = eventually("the replica stops", async || self.ended()).await;
        self.child = None;
        status.code()
    }

    /// Waits until it says that it is ready; what it said if it ended instead.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            if matches!(http::get(self.admin, "/readyz").await, Ok((200, _))) {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                return Err(format!("replica {} ended with {status}:\n{}", self.id, self.log_tail()));
            }
            if Instant::now() > until {
                return Err(format!("replica {} is not ready:\n{}", self.id, self.log_tail()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its report, if it answers.
    pub(crate) async fn status(&self) -> Option<Report> {
        let (_, body) = http::get(self.admin, "/status").await.ok()?;
        Some(serde_json::from_str(&body).expect("a report"))
    }

    /// A connection that is made when it is used, and made again when it broke.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.client)).expect("a URL").connect_lazy()
    }

    /// One of its disk tiers: `nvme` or `volume`.
    pub(crate) fn disk(&self, tier: &str) -> PathBuf {
        self.home.join(tier)
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// Looks again and again until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Overwrites a file that exists with bytes that are no such file.
pub(crate) fn damage(file: &Path) {
    let len = fs::metadata(file).expect("it exists").len();
    fs::write(file, vec![0x5a; usize::try_from(len).expect("small")]).expect("it is writable");
}
