//! Whom a peer's certificate names, and the two verifiers that ask for it during the handshake.
//!
//! A replica's certificate carries a URI name `vr://LINEAGE/replica/ID`. Host names say nothing here: pods move, and
//! the address is not what a replica is. The dialling side knows which replica it wants; the accepting one learns who
//! it is and holds every message against that ([`Names`]).

use crate::config::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore};
use rustls::{PeerIncompatible, SignatureScheme};
use std::sync::Arc;
use vr_core::{Lineage, ReplicaId};
use x509_parser::extensions::{GeneralName, ParsedExtension};

/// The URI name of a replica in its certificate.
#[must_use]
pub fn peer_name(lineage: Lineage, id: ReplicaId) -> String {
    format!("vr://{lineage}/replica/{id}")
}

/// The name under which the dialling side asks rustls for a replica; it never leaves this process.
pub(super) fn asked_for(id: ReplicaId) -> ServerName<'static> {
    ServerName::try_from(format!("replica-{id}")).expect("a letter, digits and a hyphen are a host name")
}

fn asked(name: &ServerName<'_>) -> Option<ReplicaId> {
    let ServerName::DnsName(name) = name else { return None };
    name.as_ref().strip_prefix("replica-")?.parse().ok().map(ReplicaId)
}

/// Replicas that a connection may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All of them: without TLS, or where certificates need not name replicas.
    Any,
    /// Those that its certificate names.
    Only(Vec<ReplicaId>),
}

impl Names {
    /// Whether a message from this replica may come over the connection.
    #[must_use]
    pub fn allow(&self, from: ReplicaId) -> bool {
        match self {
            Names::Any => true,
            Names::Only(ids) => ids.contains(&from),
        }
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Names::Any => write!(f, "any replica"),
            Names::Only(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| format!("replica {id}")).collect();
                write!(f, "{}", ids.join(" and "))
            }
        }
    }
}

/// What a certificate does not say and must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names {found} and not {wanted}; tls.peer.identity asks for that")]
pub(super) struct NotNamed {
    found: String,
    wanted: String,
}

/// What certificates must say among the replicas of one lineage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) lineage: Lineage,
    pub(super) identity: Identity,
}

impl Rule {
    /// Whom a certificate names, if that is enough; `wanted` is the one replica that it must name, if it is known.
    pub(super) fn names(
        self,
        certificate: &CertificateDer<'_>,
        wanted: Option<ReplicaId>,
    ) -> Result<Names, NotNamed> {
        let uris = uris(certificate);
        let lineage = format!("vr://{}", self.lineage);
        let found =
            || if uris.is_empty() { "nobody (it has no URI name)".to_owned() } else { uris.join(", ") };
        match self.identity {
            Identity::Authority => Ok(Names::Any),
            Identity::Lineage => {
                let ours = |uri: &String| {
                    uri.strip_prefix(&lineage).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                if uris.iter().any(ours) {
                    return Ok(Names::Any);
                }
                Err(NotNamed { found: found(), wanted: lineage })
            }
            Identity::Replica => {
                let prefix = format!("{lineage}/replica/");
                let ids: Vec<ReplicaId> = uris
                    .iter()
                    .filter_map(|uri| uri.strip_prefix(&prefix)?.parse().ok().map(ReplicaId))
                    .collect();
                if wanted.map_or(!ids.is_empty(), |wanted| ids.contains(&wanted)) {
                    return Ok(Names::Only(ids));
                }
                let wanted = wanted.map_or_else(|| format!("{prefix}ID"), |id| peer_name(self.lineage, id));
                Err(NotNamed { found: found(), wanted })
            }
        }
    }
}

fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let names = parsed.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect()
}

fn refused(reason: NotNamed) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// Peers speak TLS 1.3 only.
fn never_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
}

/// For the accepting side.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) rule: Rule,
}

impl ClientCertVerifier for Accepting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.rule.names(end_entity, None).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// For the dialling side.
#[derive(Debug)]
pub(super) struct Dialling {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) rule: Rule,
}

impl ServerCertVerifier for Dialling {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let wanted = asked(name).ok_or_else(|| Error::General("no replica was asked for".to_owned()))?;
        self.rule.names(end_entity, Some(wanted)).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
