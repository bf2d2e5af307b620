//! What a replica is told: one YAML file, and for every field of it a flag and an environment variable.
//!
//! `raw.rs` is what was typed (everything optional, unknown fields refused with the line they stand on), `fields.rs`
//! names each field once for flags, environment and documentation, and [`Config`] is what it means: complete and
//! checked. Nothing here opens a file other than the configuration itself.

mod fields;
mod raw;
mod tiers;
mod tls;
mod units;

pub use fields::{FIELDS, Field, arguments, env_of, flag_of, load};
pub use raw::{Raw, RawMember, RawRestore};
pub use tiers::{RawObjectStore, RawTier, RawTiers};
pub use tls::{Demand, Identity, PeerTls, PortTls, RawPeerTls, RawPortTls, RawTls, Tls};
pub use units::Span;
pub use vr_core::Member;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use vr_checkpoint::writer::Retention;
use vr_core::{Generation, Lineage, Op, ReplicaId};

/// A configuration that cannot be used, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not the YAML that is expected here; the parser's sentence names field, line and column.
    #[error("{path}: {source}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// What and where.
        source: serde_yaml::Error,
    },
    /// A flag's or environment variable's value is not of the field's kind.
    #[error("--{flag} (or {env}): {reason}")]
    Flag {
        /// Its flag.
        flag: String,
        /// Its variable.
        env: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field that has no default is absent.
    #[error("`{field}` is missing: set it in the configuration file, by --{flag} or by {env}")]
    Missing {
        /// Its path in the file.
        field: &'static str,
        /// Its flag.
        flag: String,
        /// Its variable.
        env: String,
    },
    /// A field's value makes no sense.
    #[error("`{field}`: {reason}")]
    Value {
        /// Its path in the file.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// Everything a replica needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: Generation,
    /// This replica.
    pub id: ReplicaId,
    /// The members that the generation begins with, most preferred primary first, this replica among them. Of a replica
    /// that joins: members to ask who the others are.
    pub members: Vec<Member>,
    /// etcd v3 clients connect here.
    pub client: SocketAddr,
    /// Peers connect here.
    pub peer: SocketAddr,
    /// `/metrics`, `/livez`, `/readyz`, `/status`, `/debug/flight-recorder`.
    pub admin: SocketAddr,
    /// The operator, and people with `vr`, ask here; without, nobody can.
    pub control: Option<SocketAddr>,
    /// Certificates of the ports.
    pub tls: Tls,
    /// What a missing vote record means.
    pub initial: Initial,
    /// Where checkpoints go, fastest first.
    pub tiers: Tiers,
    /// Set when this generation begins from a recovery point of an older one.
    pub restore: Option<Restore>,
    /// Silence of the primary after which a view change is intended.
    pub view_timeout: Duration,
    /// How often an idle primary is heard.
    pub heartbeat: Duration,
    /// Largest client request, bytes.
    pub max_request_bytes: usize,
    /// State limit, bytes; 0 is none.
    pub memory_limit: u64,
    /// Bytes of inputs that the flight recorder keeps; 0 is off.
    pub flight_recorder: usize,
    /// Lines for people or JSON for machines, on stderr.
    pub log_format: LogFormat,
}

/// What a missing vote record means (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Initial {
    /// The lineage begins here: once, ever.
    Bootstrap,
    /// This replica has been a member before: without its vote record it must not come back under this id.
    Resume,
    /// A new id, which a running cluster has just been given as a learner, or will be. Goes on like `resume` where the
    /// disks have its vote record.
    Join,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// What becomes of clients' writes while a tier is behind by more than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLag {
    /// They go on; the lag is in the metrics.
    #[default]
    Alert,
    /// From half the limit on they are taken more and more slowly.
    Throttle,
    /// They are refused beyond the limit.
    Block,
}

/// The chain below RAM.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// What becomes of writes while one is behind.
    pub on_lag: OnLag,
    /// Local NVMe: fast, gone with the node.
    pub nvme: Option<DiskTier>,
    /// An EBS volume: survives the node.
    pub volume: Option<DiskTier>,
    /// S3: survives the zone.
    pub object_store: Option<ObjectStoreTier>,
}

impl Tiers {
    /// The directories of the disk tiers, fastest first: vote records and the clean-stop marker live on each (R1).
    #[must_use]
    pub fn disks(&self) -> Vec<PathBuf> {
        [&self.nvme, &self.volume].into_iter().flatten().map(|tier| tier.path.clone()).collect()
    }
}

/// When a tier is written, and how much of it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Between two checkpoints.
    pub checkpoint: Duration,
    /// Between two shipments of the committed log.
    pub log: Duration,
    /// Checkpoints kept.
    pub keep: Retention,
    /// How far it may be behind.
    pub lag_limit: Duration,
    /// Bytes a second at which the packs of a checkpoint may follow each other, if that is bounded.
    pub rate: Option<u64>,
}

/// A directory on a disk.
#[derive(Clone, Debug)]
pub struct DiskTier {
    /// The directory.
    pub path: PathBuf,
    /// When.
    pub cadence: Cadence,
}

/// A bucket and a prefix in it.
#[derive(Clone, Debug)]
pub struct ObjectStoreTier {
    /// Another endpoint than AWS's.
    pub endpoint: Option<String>,
    /// The bucket; it must exist.
    pub bucket: String,
    /// Key prefix without slashes at its ends; may be empty.
    pub prefix: String,
    /// Region; without, what the SDK finds.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// Key of KMS that objects are encrypted with; without, what the bucket is set to.
    pub kms_key: Option<String>,
    /// When.
    pub cadence: Cadence,
}

/// The recovery point that this generation begins from; written by whoever decided the restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// The generation that held it.
    pub from_generation: Generation,
    /// Op of its checkpoint.
    pub checkpoint: Op,
    /// Root of that checkpoint, hexadecimal.
    pub root: String,
    /// Replay the shipped log up to here.
    pub to_op: Op,
    /// No revision above this one was handed out before.
    pub reserved_revision: i64,
    /// Tells this restore from another that takes the same generation.
    pub token: String,
    /// Directories to read beside this replica's own tiers, fastest first.
    pub sources: Vec<PathBuf>,
}
