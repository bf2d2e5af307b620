//! Real processes for the tests: an etcd, one replica, or three. Each in a directory of its own on ports that were free
//! a moment ago; killed when dropped; what they logged is printed when a test fails.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

/// How long a process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// Another process may take a port between our looking and our using it.
const TRIES: usize = 5;
/// Lines of a log shown after a failure.
const TAIL: usize = 40;
/// Characters of such a line.
const LINE: usize = 300;

/// A running server.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) client: Client,
    child: Child,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {} at {}\n{}", self.client.name, self.endpoint, self.tail());
        }
    }
}

impl Server {
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(LINE).collect()).collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// Waits for a linearizable answer.
    async fn serving(mut self) -> Result<Server, String> {
        let started = Instant::now();
        loop {
            if !matches!(self.client.call(&Call::everything()).await, Answer::Refused { .. }) {
                return Ok(self);
            }
            let ended = self.child.try_wait().expect("a child of this process can be waited for");
            if let Some(status) = ended {
                return Err(format!("{} ended with {status}:\n{}", self.client.name, self.tail()));
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{} did not serve in {PATIENCE:?}:\n{}", self.client.name, self.tail()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(
    name: &'static str,
    endpoint: String,
    command: &mut Command,
    directory: tempfile::TempDir,
) -> Server {
    let log = directory.path().join("log");
    let file = File::create(&log).expect("the temporary directory is writable");
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a file handle can be cloned"))
        .stderr(file)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let client = Client::new(name, &endpoint);
    Server { endpoint, client, child, log, _directory: directory }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn directory() -> tempfile::TempDir {
    // In memory where there is such a place: what etcd's disk costs is not of interest here.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a temporary directory")
}

/// The binary that `variable` names, or `name` on `PATH`; if there is none, says that the test is skipped, and fails
/// where it must not be.
pub(crate) fn binary(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    if let Some(path) = &named {
        assert!(path.is_file(), "{variable} names {}, and there is no such file", path.display());
    }
    let found = named.or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    });
    if found.is_none() {
        let why =
            format!("no {name}: set {variable} or put it on PATH (bash .ci/etcd/install.sh builds one)");
        assert!(std::env::var_os("VR_ETCD_REQUIRED").is_none(), "{why}");
        eprintln!("SKIPPED: {why}");
    }
    found
}

/// A real etcd, alone, with its defaults.
pub(crate) async fn etcd(binary: &Path) -> Server {
    for _ in 0..TRIES {
        let directory = directory();
        let (client, peer) = (free_port(), free_port());
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new(binary);
        command
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--name", "one", "--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync", "--log-level", "error"]);
        match spawn("etcd", client, &mut command, directory).serving().await {
            Ok(server) => return server,
            Err(problem) if problem.contains("address already in use") => {}
            Err(problem) => panic!("{problem}"),
        }
    }
    panic!("no free ports in {TRIES} tries");
}

/// A new cluster of `count` replicas. Without an object store; the disk tier is a directory in memory.
pub(crate) async fn replicas(count: usize) -> Vec<Server> {
    'tries: for _ in 0..TRIES {
        let ports: Vec<_> = (0..count).map(|_| (free_port(), free_port())).collect();
        let members: Vec<_> = ports
            .iter()
            .zip(1..)
            .map(|((client, peer), id)| {
                format!("{{id: {id}, peer: \"127.0.0.1:{peer}\", client: \"http://127.0.0.1:{client}\"}}")
            })
            .collect();
        let mut started = Vec::new();
        for ((client, peer), id) in ports.iter().zip(1..) {
            let directory = directory();
            let config = directory.path().join("config.yaml");
            let nvme = directory.path().join("nvme");
            fs::create_dir(&nvme).expect("the temporary directory is writable");
            let text = format!(
                "lineage: 5bd40f0a-54a2-4e0d-8d0a-6a3b6ec8f7d1\nreplicaId: {id}\nmembers: [{}]\n\
                 clientAddress: 127.0.0.1:{client}\npeerAddress: 127.0.0.1:{peer}\nadminAddress: 127.0.0.1:0\n\
                 initial: bootstrap\ntiers: {{nvme: {{path: {}}}}}\n",
                members.join(", "),
                nvme.display(),
            );
            fs::write(&config, text).expect("the temporary directory is writable");
            let mut command = Command::new(env!("CARGO_BIN_EXE_vr-replica"));
            command.arg("serve").arg("--config").arg(config);
            started.push(spawn("replica", format!("http://127.0.0.1:{client}"), &mut command, directory));
        }
        let mut serving = Vec::new();
        for server in started {
            match server.serving().await {
                Ok(server) => serving.push(server),
                Err(problem) if problem.contains("in use") => continue 'tries,
                Err(problem) => panic!("{problem}"),
            }
        }
        return serving;
    }
    panic!("no free ports in {TRIES} tries");
}
