//! The sections `tls.client`, `tls.peer`, `tls.control` and `tls.admin`: which files each port speaks TLS with, and
//! whom it lets in. The files themselves are read by [`crate::tls`].

use super::units::Span;
use super::{ConfigError, fields};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Kubernetes itself takes up to a minute to bring a new secret into a pod.
const RELOAD: Duration = Duration::from_secs(10);

/// TLS of each port that has it; a port without speaks plainly.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// For etcd clients.
    pub client: Option<PortTls>,
    /// Among replicas, in both directions.
    pub peer: Option<PeerTls>,
    /// For the operator and for `vr`.
    pub control: Option<PortTls>,
    /// For probes and metrics.
    pub admin: Option<PortTls>,
    /// Between two looks at the files.
    pub reload: Duration,
}

/// What one port speaks TLS with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTls {
    /// The section it was set in, `tls.client`, to be named when one of its files is wrong.
    pub section: &'static str,
    /// This side's certificate, then its intermediates, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Certificates of the authorities that the other side's must be signed by, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether the other side must show a certificate.
    pub demand: Demand,
}

/// Whether who connects must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is not asked for one.
    Nothing,
    /// It need not, but a wrong one is refused.
    IfAny,
    /// Without one it is refused.
    Always,
}

/// TLS among replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    /// The files.
    pub port: PortTls,
    /// What a peer's certificate must say.
    pub identity: Identity,
}

/// What a peer's certificate must say beside being signed by the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Which replica it is: a URI name `vr://LINEAGE/replica/ID`. No replica can pose as another.
    #[default]
    Replica,
    /// Which database it belongs to: a URI name `vr://LINEAGE` or `vr://LINEAGE/…`.
    Lineage,
    /// Nothing: whoever the authority signed for is a peer. For an authority that signs for nobody else.
    Authority,
}

/// The whole section.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<RawPortTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<RawPeerTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<RawPortTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<RawPortTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_interval: Option<Span>,
}

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawPortTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_auth: Option<bool>,
}

/// The peer port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[allow(missing_docs, reason = "documented once, in the table of fields")]
pub struct RawPeerTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl RawTls {
    pub(super) fn resolve(self) -> Result<Tls, ConfigError> {
        let reload = self.reload_interval.map_or(RELOAD, |span| span.0);
        if reload.is_zero() {
            return Err(value("tls.reloadInterval", "must not be zero"));
        }
        Ok(Tls {
            client: self.client.map(|raw| raw.resolve("tls.client", false)).transpose()?,
            peer: self.peer.map(RawPeerTls::resolve).transpose()?,
            control: self.control.map(|raw| raw.resolve("tls.control", true)).transpose()?,
            admin: self.admin.map(|raw| raw.resolve("tls.admin", false)).transpose()?,
            reload,
        })
    }
}

impl RawPortTls {
    /// `mutual`: this port lets nobody in without a certificate.
    fn resolve(self, section: &'static str, mutual: bool) -> Result<PortTls, ConfigError> {
        let (cert_file, key_file) = pair(section, self.cert_file, self.key_file)?;
        let ca_file = self.client_ca_file;
        let field = |name: &str| format!("{section}.{name}");
        let demand = match (&ca_file, self.client_cert_auth) {
            (None, _) if mutual => return Err(missing(section, "clientCaFile")),
            (_, Some(false)) if mutual => {
                return Err(value(
                    field("clientCertAuth"),
                    "cannot be false: whoever reaches this port could take the cluster over",
                ));
            }
            (None, Some(true)) => {
                return Err(value(
                    field("clientCertAuth"),
                    format!("is true, but `{}` does not say whose certificates count", field("clientCaFile")),
                ));
            }
            (None, _) => Demand::Nothing,
            (Some(_), Some(false)) => Demand::IfAny,
            (Some(_), _) => Demand::Always,
        };
        Ok(PortTls { section, cert_file, key_file, ca_file, demand })
    }
}

impl RawPeerTls {
    fn resolve(self) -> Result<PeerTls, ConfigError> {
        let section = "tls.peer";
        let (cert_file, key_file) = pair(section, self.cert_file, self.key_file)?;
        let ca_file = Some(self.ca_file.ok_or_else(|| missing(section, "caFile"))?);
        let port = PortTls { section, cert_file, key_file, ca_file, demand: Demand::Always };
        Ok(PeerTls { port, identity: self.identity.unwrap_or_default() })
    }
}

fn pair(
    section: &'static str,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<(PathBuf, PathBuf), ConfigError> {
    let cert = cert.ok_or_else(|| missing(section, "certFile"))?;
    let key = key.ok_or_else(|| missing(section, "keyFile"))?;
    Ok((cert, key))
}

fn missing(section: &str, name: &str) -> ConfigError {
    let path = format!("{section}.{name}");
    let field = fields::FIELDS.iter().map(|f| f.path).find(|known| *known == path);
    let field = field.expect("every field stands in the table");
    ConfigError::Missing { field, flag: fields::flag_of(field), env: fields::env_of(field) }
}

fn value(field: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { field: field.into(), reason: reason.into() }
}
