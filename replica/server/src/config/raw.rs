//! The configuration file as it is written: every field optional, unknown ones refused, and how it becomes a
//! [`Config`](super::Config).

use super::tiers::RawTiers;
use super::tls::RawTls;
use super::units::Span;
use super::{Config, ConfigError, Initial, LogFormat, Member, Restore, fields};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use vr_core::{Generation, Lineage, Op, ReplicaId};

/// The whole file. What each field means stands in [`fields::FIELDS`](super::FIELDS).
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct Raw {
    pub lineage: Option<uuid::Uuid>,
    pub generation: Option<u64>,
    pub replica_id: Option<u64>,
    pub members: Option<Vec<RawMember>>,
    pub client_address: Option<SocketAddr>,
    pub peer_address: Option<SocketAddr>,
    pub admin_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RawTls>,
    pub initial: Option<Initial>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flight_recorder_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiers: Option<RawTiers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RawRestore>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawMember {
    /// Its replica id, at least 1.
    pub id: u64,
    /// Its failure domain, a zone for example.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// `host:port` for peers.
    pub peer: String,
    /// URL for clients.
    pub client: String,
}

/// A decided restore.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawRestore {
    /// The generation that held the recovery point.
    pub from_generation: u64,
    /// Op of its checkpoint.
    pub checkpoint: u64,
    /// Root of that checkpoint, hexadecimal.
    pub root: String,
    /// Replay the shipped log up to here.
    pub to_op: u64,
    /// No revision above this one was handed out before.
    pub reserved_revision: i64,
    /// Chosen at random by this restore, the same for all replicas.
    pub token: String,
    /// Directories to read beside this replica's own tiers, fastest first.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
}

impl Raw {
    /// What it means.
    ///
    /// # Errors
    /// Names the first field that is missing or makes no sense, and what would be right.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let lineage = Lineage(*need(self.lineage, "lineage")?.as_bytes());
        let generation = positive("generation", self.generation.unwrap_or(1)).map(Generation)?;
        let id = positive("replicaId", need(self.replica_id, "replicaId")?).map(ReplicaId)?;
        let initial = self.initial.unwrap_or(Initial::Resume);
        let members = members(need(self.members, "members")?, id, initial, self.restore.is_some())?;
        let tiers = self.tiers.unwrap_or_default().resolve()?;
        if tiers.disks().is_empty() {
            return Err(value(
                "tiers",
                "no disk: set tiers.nvme.path or tiers.volume.path, the vote record must survive this process",
            ));
        }
        let heartbeat = nonzero("heartbeat", self.heartbeat, Duration::from_millis(50))?;
        let view_timeout = nonzero("viewTimeout", self.view_timeout, Duration::from_millis(250))?;
        if view_timeout < heartbeat * 3 {
            return Err(value(
                "viewTimeout",
                "must be at least three heartbeats, or idle primaries are deposed",
            ));
        }
        let control = self.control_address;
        let tls = self.tls.unwrap_or_default().resolve()?;
        if let Some(open) = control.filter(|address| tls.control.is_none() && !address.ip().is_loopback()) {
            return Err(value(
                "controlAddress",
                format!(
                    "{open} is not a loopback address: without TLS anybody could take the cluster over; set \
                     `tls.control`"
                ),
            ));
        }
        if tls.control.is_some() && control.is_none() {
            return Err(value("tls.control", "there is no such port: set `controlAddress`"));
        }
        if let Some(me) =
            members.iter().find(|m| m.id == id && tls.client.is_some() && m.client.starts_with("http://"))
        {
            return Err(value(
                "members",
                format!(
                    "{} tells clients to come without TLS, but `tls.client` is set: make it https://",
                    me.client
                ),
            ));
        }
        let restore = self.restore.map(|r| restore(r, generation)).transpose()?;
        Ok(Config {
            lineage,
            generation,
            id,
            members,
            client: need(self.client_address, "clientAddress")?,
            peer: need(self.peer_address, "peerAddress")?,
            admin: need(self.admin_address, "adminAddress")?,
            control,
            tls,
            initial,
            tiers,
            restore,
            view_timeout,
            heartbeat,
            max_request_bytes: self.max_request_bytes.unwrap_or(1536 * 1024),
            memory_limit: self.memory_limit_bytes.unwrap_or(0),
            flight_recorder: self.flight_recorder_bytes.unwrap_or(16 << 20),
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

fn members(
    raw: Vec<RawMember>,
    id: ReplicaId,
    initial: Initial,
    restores: bool,
) -> Result<Vec<Member>, ConfigError> {
    match initial {
        // Only a lineage that begins is of this size; afterwards it is as was agreed on.
        Initial::Bootstrap if !restores && !matches!(raw.len(), 1 | 3 | 5 | 7 | 9) => {
            return Err(value("members", format!("{} members: must be 1, 3, 5, 7 or 9", raw.len())));
        }
        _ if raw.is_empty() => {
            return Err(value(
                "members",
                "no members: name those of the cluster, one that can be reached at least",
            ));
        }
        _ => {}
    }
    let mut members: Vec<Member> = Vec::with_capacity(raw.len());
    for (place, member) in raw.into_iter().enumerate() {
        let field = format!("members[{place}]");
        let id = positive("members[].id", member.id).map(ReplicaId)?;
        if members.iter().any(|m| m.id == id) {
            return Err(value(field, format!("replica id {id} is listed twice")));
        }
        if members.iter().any(|m| m.peer == member.peer) {
            return Err(value(field, format!("peer address {} is listed twice", member.peer)));
        }
        if member.peer.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
            return Err(value(field, format!("peer `{}` is not host:port", member.peer)));
        }
        if !member.client.starts_with("http://") && !member.client.starts_with("https://") {
            return Err(value(
                field,
                format!("client `{}` is not an http:// or https:// URL", member.client),
            ));
        }
        members.push(Member { id, domain: member.domain, peer: member.peer, client: member.client });
    }
    if initial != Initial::Join && !members.iter().any(|m| m.id == id) {
        return Err(value("replicaId", format!("replica {id} is not among the members")));
    }
    Ok(members)
}

fn restore(raw: RawRestore, generation: Generation) -> Result<Restore, ConfigError> {
    if raw.from_generation >= generation.0 {
        return Err(value(
            "restore.fromGeneration",
            format!(
                "{} must be below this generation ({generation}): every restore adds one",
                raw.from_generation
            ),
        ));
    }
    if raw.root.len() != 64 || !raw.root.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(value("restore.root", "is not 64 hexadecimal digits"));
    }
    if raw.to_op < raw.checkpoint {
        return Err(value(
            "restore.toOp",
            format!("{} is below the checkpoint's op {}", raw.to_op, raw.checkpoint),
        ));
    }
    if raw.token.is_empty() {
        return Err(value(
            "restore.token",
            "is empty: it tells this restore from another that takes the same generation",
        ));
    }
    Ok(Restore {
        from_generation: Generation(raw.from_generation),
        checkpoint: Op(raw.checkpoint),
        root: raw.root,
        to_op: Op(raw.to_op),
        reserved_revision: raw.reserved_revision,
        token: raw.token,
        sources: raw.sources,
    })
}

fn need<T>(given: Option<T>, field: &'static str) -> Result<T, ConfigError> {
    given.ok_or_else(|| missing(field))
}

pub(super) fn missing(field: &'static str) -> ConfigError {
    ConfigError::Missing { field, flag: fields::flag_of(field), env: fields::env_of(field) }
}

pub(super) fn value(field: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { field: field.into(), reason: reason.into() }
}

fn positive(field: &str, number: u64) -> Result<u64, ConfigError> {
    if number == 0 { Err(value(field, "must be at least 1")) } else { Ok(number) }
}

fn nonzero(field: &str, given: Option<Span>, default: Duration) -> Result<Duration, ConfigError> {
    match given.map_or(default, |s| s.0) {
        Duration::ZERO => Err(value(field, "must not be zero")),
        span => Ok(span),
    }
}
