//! A replica of the old generation that somebody starts by hand after the restore. It must find itself fenced, say so,
//! and take no write.
//!
//! It has what a machine that was only unreachable would have: the old configuration, and the old disks where the
//! disaster left any. Where it took them, the replica begins on empty disks with the configuration of the first start,
//! as an old manifest that is applied again would make it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use vr_proto::etcdserverpb::PutRequest;

use crate::client::Client;
use crate::dev::cluster::{Cluster, FENCED, status};
use crate::dev::layout::{Description, Layout, Ports};
use crate::dev::ports;
use crate::dev::process::{Ended, Process};

/// How long it may take to find out.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// What is left of the old generation.
pub struct Keepsake {
    description: Description,
    directory: tempfile::TempDir,
    has_disks: bool,
}

/// What became of the replica that was started by hand.
pub struct Verdict {
    /// It said that it is fenced, and took no write.
    pub fenced: bool,
    /// In words.
    pub detail: String,
}

impl Keepsake {
    /// Copies the disks of one dead replica, where the disaster leaves them, before anything else happens to them.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn take(cluster: &Cluster, loses_disks: bool) -> std::io::Result<Keepsake> {
        let directory = tempfile::Builder::new().prefix("old-").tempdir_in(cluster.layout().root())?;
        let description = cluster.description().clone();
        let id = description.replicas[0].id;
        if !loses_disks {
            let replica = directory.path().join(format!("r{id}"));
            copy(&cluster.layout().nvme(id), &replica.join("nvme"))?;
            copy(&cluster.layout().volume(id), &replica.join("volume"))?;
        }
        Ok(Keepsake { description, directory, has_disks: !loses_disks })
    }

    /// Starts it on ports of its own, beside the cluster that has taken its place.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_by_hand(mut self, cluster: &Cluster) -> anyhow::Result<Verdict> {
        let fresh = ports::free(4, None)?;
        let first = &mut self.description.replicas[0];
        *first = Ports {
            id: first.id,
            client: fresh[0],
            peer: fresh[1],
            admin: fresh[2],
            control: fresh[3],
            joined: false,
        };
        let ports = *first;
        self.description.served = self.has_disks;
        let layout = Layout::take(self.directory.path())?;
        if self.description.tls {
            copy(cluster.layout().certificates().root(), layout.certificates().root())?;
        }
        layout.write(&self.description)?;
        let program = std::env::current_exe().context("cannot find this executable")?;
        let file = layout.configuration_file(ports.id).to_string_lossy().into_owned();
        let arguments = ["replica".to_owned(), "serve".to_owned(), "--config".to_owned(), file];
        let environment = cluster.environment();
        let name = format!("replica {} of generation {}", ports.id, self.description.generation);
        let mut process = Process::start(&name, &program, &arguments, &environment, &layout.log(ports.id))?;
        let endpoint = self.description.client_endpoint(&ports);
        let client = Client::new(&[endpoint], CALL_TIMEOUT, &cluster.connector()?);
        let verdict = watch(&mut process, &name, ports, &client).await;
        process.kill().await.context("cannot kill the replica that was started by hand")?;
        Ok(verdict)
    }
}

/// Until it says that it is fenced, by `/status` or by its exit status, or shows that it is not.
async fn watch(process: &mut Process, name: &str, ports: Ports, client: &Client) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    let not = |detail: String| Verdict { fenced: false, detail };
    while Instant::now() < deadline {
        if let Some(ended) = process.ended() {
            let log = process.last_lines(3);
            return match ended {
                Ended::Exit(FENCED) => Verdict { fenced: true, detail: last_line(&log) },
                other => not(format!("{name} {other}, but not because it is fenced:\n{log}")),
            };
        }
        if let Some(status) = status(ports.admin_address()).await
            && status.fenced
        {
            let detail = status.halted.unwrap_or_else(|| "its status says fenced".to_owned());
            return Verdict { fenced: true, detail };
        }
        let put = PutRequest {
            key: Bytes::from_static(b"probe/zombie"),
            value: Bytes::from_static(b"written by the old generation"),
            ..PutRequest::default()
        };
        if client.kv().put(put).await.is_ok() {
            return not(format!("{name} took a write"));
        }
        tokio::time::sleep(POLL).await;
    }
    not(format!(
        "{name} did not say that it is fenced within {} s:\n{}",
        PATIENCE.as_secs(),
        process.last_lines(3)
    ))
}

fn last_line(log: &str) -> String {
    log.lines().last().unwrap_or("fenced").to_owned()
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
