//! A cluster on this machine as files below one directory, so that a second start finds everything again.
//!
//! ```text
//! <dir>/cluster.json           Description: lineage, generation, ports, object store
//! <dir>/lock                   held by the `vr` that runs the cluster
//! <dir>/s3/  <dir>/s3.log      the embedded S3 server's objects and its log
//! <dir>/tls/                   certificates, with --tls (see certificates.rs)
//! <dir>/r1/replica.yaml        configuration of replica 1, written at every start
//! <dir>/r1/replica.log  <dir>/r1/nvme/  <dir>/r1/volume/
//! ```

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vr_replica::config::{
    Initial, LogFormat, Raw, RawMember, RawObjectStore, RawRestore, RawTier, RawTiers, Span,
};

use super::certificates::Certificates;
use crate::endpoint::Endpoint;

const FORMAT: &str = "vrdev/2";
const FILE: &str = "cluster.json";

/// A directory that cannot be used for a cluster.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file below it.
    #[error("cannot {what} {path}")]
    File {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not ours, or of another version.
    #[error("{path} is not a cluster of this version of vr: {what}; give another --dir")]
    Foreign {
        /// Its description.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// In use.
    #[error("another vr is running the cluster in {0}; stop that one, or give another --dir")]
    Locked(PathBuf),
}

/// What a cluster is, whichever of its processes run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Description {
    /// `vrdev/2`.
    pub format: String,
    /// The database.
    pub lineage: Uuid,
    /// Its generation.
    pub generation: u64,
    /// Whether this generation has ever served: from then on a replica without its vote record must not come back.
    pub served: bool,
    /// The recovery point that this generation begins from.
    pub restore: Option<RawRestore>,
    /// The replicas, most preferred primary first.
    pub replicas: Vec<Ports>,
    /// Where checkpoints go in the end.
    pub object_store: ObjectStore,
    /// When the tiers are written.
    pub cadence: Cadences,
    /// Whether its ports speak TLS.
    #[serde(default)]
    pub tls: bool,
}

/// One replica's ports on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Its replica id.
    pub id: u64,
    /// For clients.
    pub client: u16,
    /// For its peers.
    pub peer: u16,
    /// For `/status` and the like.
    pub admin: u16,
    /// For `vr status`, `vr member` and the like.
    pub control: u16,
    /// It was added to this generation while it ran.
    #[serde(default)]
    pub joined: bool,
}

/// A bucket and a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStore {
    /// The port of the embedded server, if it is that.
    pub embedded_port: Option<u16>,
    /// URL of the server; AWS's own without.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The prefix, without slashes at its ends.
    pub prefix: String,
    /// The region.
    pub region: String,
}

/// When each tier is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cadences {
    /// Local NVMe.
    pub nvme: Cadence,
    /// The volume.
    pub volume: Cadence,
    /// The object store.
    pub object_store: Cadence,
}

/// When one tier is written, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// Between two checkpoints.
    pub checkpoint: u64,
    /// Between two shipments of the committed log.
    pub log: u64,
    /// Checkpoints kept.
    pub keep: usize,
}

impl Default for Cadences {
    /// As replicas have it by default, but for a checkpoint in the object store every hour.
    fn default() -> Cadences {
        Cadences {
            nvme: Cadence { checkpoint: 60, log: 1, keep: 3 },
            volume: Cadence { checkpoint: 600, log: 1, keep: 6 },
            object_store: Cadence { checkpoint: 3_600, log: 10, keep: 24 },
        }
    }
}

impl Ports {
    /// On one machine everything fails together; these are names to play with.
    #[must_use]
    pub fn domain(&self) -> String {
        format!("zone-{}", ["a", "b", "c"][(self.id.saturating_sub(1) % 3) as usize])
    }

    /// For clients.
    #[must_use]
    fn client_endpoint(&self) -> Endpoint {
        format!("127.0.0.1:{}", self.client).parse().expect("a loopback address with a port is an endpoint")
    }

    /// For `vr status`, `vr member` and the like.
    #[must_use]
    fn control_endpoint(&self) -> Endpoint {
        format!("127.0.0.1:{}", self.control).parse().expect("a loopback address with a port is an endpoint")
    }

    /// For `/status` and the like.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin).into()
    }
}

/// The files of a cluster. Holds the lock on its directory.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    _lock: File,
}

impl Layout {
    /// Takes a directory, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be written, or another `vr` has it.
    pub fn take(root: &Path) -> Result<Layout, LayoutError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LayoutError::File { what, path, source }
        };
        fs::create_dir_all(root).map_err(failed("make the directory", root))?;
        let root = root.canonicalize().map_err(failed("find", root))?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(failed("write", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Layout { root, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LayoutError::Locked(root)),
            Err(error) => Err(failed("lock", &path)(error.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the cluster here is; none when nothing was ever started here.
    ///
    /// # Errors
    /// When something else is here.
    pub fn description(&self) -> Result<Option<Description>, LayoutError> {
        read(&self.root)
    }

    /// The description in a directory that another `vr` may hold; none when nothing was ever started there.
    ///
    /// # Errors
    /// As [`Layout::description`].
    pub fn look(root: &Path) -> Result<Option<Description>, LayoutError> {
        read(root)
    }

    /// Changes the description in a directory, whoever holds it: one at a time, each from what is there.
    ///
    /// # Errors
    /// As [`Layout::description`], and when it cannot be written.
    pub fn change(root: &Path, change: impl FnOnce(&mut Description)) -> Result<Description, LayoutError> {
        let path = root.join("changing");
        let failed = |what, source| LayoutError::File { what, path: path.clone(), source };
        let one = File::create(&path).map_err(|e| failed("write", e))?;
        flock(&one, FlockOperation::LockExclusive).map_err(|e| failed("lock", e.into()))?;
        let mut description = read(root)?.ok_or_else(|| LayoutError::Foreign {
            path: root.join(FILE),
            what: "no cluster was started here".to_owned(),
        })?;
        change(&mut description);
        let text = serde_json::to_string_pretty(&description).expect("plain data is always JSON");
        replace(&root.join(FILE), text.as_bytes())?;
        Ok(description)
    }

    /// Writes the description and each replica's configuration, whole or not at all.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, description: &Description) -> Result<(), LayoutError> {
        self.configure(description)?;
        let text = serde_json::to_string_pretty(description).expect("plain data is always JSON");
        replace(&self.root.join(FILE), text.as_bytes())
    }

    /// Writes each replica's configuration.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn configure(&self, description: &Description) -> Result<(), LayoutError> {
        for ports in &description.replicas {
            let directory = self.replica(ports.id);
            let failed =
                |source| LayoutError::File { what: "make the directory", path: directory.clone(), source };
            fs::create_dir_all(&directory).map_err(failed)?;
            let configuration = self.configuration(description, ports);
            // JSON is YAML, and a person who looks at it finds it in lines.
            let text = serde_json::to_string_pretty(&configuration).expect("plain data is always JSON");
            replace(&self.configuration_file(ports.id), text.as_bytes())?;
        }
        Ok(())
    }

    /// A replica's directory.
    #[must_use]
    pub fn replica(&self, id: u64) -> PathBuf {
        self.root.join(format!("r{id}"))
    }

    /// A replica's configuration.
    #[must_use]
    pub fn configuration_file(&self, id: u64) -> PathBuf {
        self.replica(id).join("replica.yaml")
    }

    /// A replica's log.
    #[must_use]
    pub fn log(&self, id: u64) -> PathBuf {
        self.replica(id).join("replica.log")
    }

    /// A replica's directory on the fast disk.
    #[must_use]
    pub fn nvme(&self, id: u64) -> PathBuf {
        self.replica(id).join("nvme")
    }

    /// A replica's directory on the volume.
    #[must_use]
    pub fn volume(&self, id: u64) -> PathBuf {
        self.replica(id).join("volume")
    }

    /// The certificates, where it speaks TLS.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        Certificates::below(&self.root)
    }

    /// The embedded S3 server's objects.
    #[must_use]
    pub fn s3(&self) -> PathBuf {
        self.root.join("s3")
    }

    /// The embedded S3 server's log.
    #[must_use]
    pub fn s3_log(&self) -> PathBuf {
        self.root.join("s3.log")
    }

    fn configuration(&self, description: &Description, ports: &Ports) -> Raw {
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let member = |ports: &Ports| RawMember {
            id: ports.id,
            domain: ports.domain(),
            peer: loopback(ports.peer).to_string(),
            client: description.client_endpoint(ports).to_string(),
        };
        let disk = |path: PathBuf, cadence: Cadence| RawTier {
            path: Some(path),
            checkpoint_interval: Some(seconds(cadence.checkpoint)),
            log_interval: Some(seconds(cadence.log)),
            keep: Some(cadence.keep),
            ..RawTier::default()
        };
        let store = &description.object_store;
        let cadence = description.cadence;
        Raw {
            lineage: Some(description.lineage),
            generation: Some(description.generation),
            replica_id: Some(ports.id),
            // The members that the generation began with; whoever joined asks them who there is now.
            members: Some(description.replicas.iter().filter(|r| !r.joined).map(member).collect()),
            client_address: Some(loopback(ports.client)),
            peer_address: Some(loopback(ports.peer)),
            admin_address: Some(loopback(ports.admin)),
            control_address: Some(loopback(ports.control)),
            tls: description.tls.then(|| self.certificates().configuration(ports.id)),
            initial: Some(match (ports.joined, description.served) {
                (true, _) => Initial::Join,
                (false, true) => Initial::Resume,
                (false, false) => Initial::Bootstrap,
            }),
            log_format: Some(LogFormat::Plain),
            tiers: Some(RawTiers {
                nvme: Some(disk(self.nvme(ports.id), cadence.nvme)),
                volume: Some(disk(self.volume(ports.id), cadence.volume)),
                object_store: Some(RawObjectStore {
                    endpoint: store.endpoint.clone(),
                    bucket: Some(store.bucket.clone()),
                    prefix: Some(store.prefix.clone()),
                    region: Some(store.region.clone()),
                    path_style: Some(store.endpoint.is_some()),
                    checkpoint_interval: Some(seconds(cadence.object_store.checkpoint)),
                    log_interval: Some(seconds(cadence.object_store.log)),
                    keep: Some(cadence.object_store.keep),
                    ..RawObjectStore::default()
                }),
                ..RawTiers::default()
            }),
            restore: description.restore.clone(),
            ..Raw::default()
        }
    }
}

fn read(root: &Path) -> Result<Option<Description>, LayoutError> {
    let path = root.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LayoutError::File { what: "read", path, source }),
    };
    let foreign = |what: String| LayoutError::Foreign { path: path.clone(), what };
    let description: Description = serde_json::from_str(&text).map_err(|error| foreign(error.to_string()))?;
    if description.format != FORMAT {
        return Err(foreign(format!("its format is {:?}, not {FORMAT:?}", description.format)));
    }
    Ok(Some(description))
}

fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

/// A new file in the place of the old one, durable when this returns.
fn replace(path: &Path, contents: &[u8]) -> Result<(), LayoutError> {
    let failed = |source| LayoutError::File { what: "write", path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let write = || {
        fs::write(&temporary, contents)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().expect("a file below the cluster's directory"))?.sync_all()
    };
    write().map_err(failed)
}

impl Description {
    /// Of a cluster that is to begin.
    #[must_use]
    pub fn new(replicas: Vec<Ports>, object_store: ObjectStore, cadence: Cadences) -> Description {
        Description {
            format: FORMAT.to_owned(),
            lineage: Uuid::new_v4(),
            generation: 1,
            served: false,
            restore: None,
            replicas,
            object_store,
            cadence,
            tls: false,
        }
    }

    /// Where clients of one replica connect.
    #[must_use]
    pub fn client_endpoint(&self, ports: &Ports) -> Endpoint {
        ports.client_endpoint().with_tls(self.tls)
    }

    /// Where `vr status` and the like connect.
    #[must_use]
    pub fn control_endpoint(&self, ports: &Ports) -> Endpoint {
        ports.control_endpoint().with_tls(self.tls)
    }

    /// Where clients connect.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.replicas.iter().map(|ports| self.client_endpoint(ports)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let ports = |id: u64| {
            let port = |base: u16| base + id as u16;
            Ports {
                id,
                client: port(100),
                peer: port(200),
                admin: port(300),
                control: port(500),
                joined: false,
            }
        };
        let store = ObjectStore {
            embedded_port: Some(400),
            endpoint: Some("http://127.0.0.1:400".to_owned()),
            bucket: "vr".to_owned(),
            prefix: "dev".to_owned(),
            region: "us-east-1".to_owned(),
        };
        Description::new((1..=3).map(ports).collect(), store, Cadences::default())
    }

    #[test]
    fn what_is_written_is_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::take(dir.path()).expect("taken");
        assert_eq!(layout.description().expect("nothing is no error"), None);
        let description = description();
        layout.write(&description).expect("written");
        assert_eq!(layout.description().expect("read"), Some(description));
    }

    #[test]
    fn the_configuration_is_one_that_a_replica_accepts() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::take(dir.path()).expect("taken");
        let mut description = description();
        for served in [false, true] {
            description.served = served;
            layout.write(&description).expect("written");
            let file = layout.configuration_file(2);
            let command = vr_replica::config::arguments(clap::Command::new("serve"));
            let arguments = ["serve".into(), "--config".into(), file.into_os_string()];
            let matches = command.try_get_matches_from(arguments).expect("parsed");
            let config = vr_replica::config::load(&matches).expect("accepted");
            assert_eq!((config.members.len(), config.client.port()), (3, 102));
            assert_eq!(config.initial == Initial::Resume, served);
        }
    }

    #[test]
    fn a_directory_belongs_to_one_vr_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Layout::take(dir.path()).expect("taken");
        let error = Layout::take(dir.path()).expect_err("taken twice").to_string();
        assert!(error.contains("another vr is running"), "{error}");
        drop(first);
        Layout::take(dir.path()).expect("free again");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::take(dir.path()).expect("taken");
        let mut newer = description();
        newer.format = "vrdev/9".to_owned();
        for (text, expected) in [
            ("not JSON".to_owned(), "expected"),
            ("{\"format\": \"vrdev/1\", \"colour\": 1}".to_owned(), "unknown field `colour`"),
            (serde_json::to_string(&newer).expect("JSON"), "its format is \"vrdev/9\""),
        ] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let error = layout.description().expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("--dir"), "{error}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let error = Layout::take(Path::new("/proc/nowhere")).expect_err("no such place").to_string();
        assert!(error.contains("/proc/nowhere"), "{error}");
    }
}
