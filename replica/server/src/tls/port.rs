//! One port's current configuration of rustls, and the exchange of it while connections come in.

use super::error::TlsError;
use super::identity::{Accepting, Dialling, Names, Rule, asked_for};
use super::material::{Contents, Material};
use super::provider;
use crate::config::{Config, Demand, PortTls};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vr_core::ReplicaId;

/// TLS of one port. Connections take what is current when they begin.
pub struct Port {
    files: PortTls,
    /// Set on the peer port: what certificates must say, and who this replica is.
    peers: Option<(Rule, ReplicaId)>,
    current: Mutex<Current>,
    /// What was read last, good or not.
    seen: Mutex<Option<Contents>>,
    expires: AtomicI64,
    failing: AtomicBool,
}

#[derive(Clone)]
struct Current {
    server: Arc<ServerConfig>,
    client: Option<Arc<ClientConfig>>,
}

/// What became of a look at the files.
#[derive(Debug)]
pub(super) enum Look {
    Same,
    New,
    Broken(TlsError),
}

impl Port {
    fn load(files: &PortTls, peers: Option<(Rule, ReplicaId)>) -> Result<Arc<Port>, TlsError> {
        let contents = Contents::read(files)?;
        let (current, expires) = configure(&contents, files, peers)?;
        Ok(Arc::new(Port {
            files: files.clone(),
            peers,
            current: Mutex::new(current),
            seen: Mutex::new(Some(contents)),
            expires: AtomicI64::new(expires),
            failing: AtomicBool::new(false),
        }))
    }

    /// For a connection that comes in.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        lock(&self.current).server.clone()
    }

    /// For a connection to peer `id`, on the peer port.
    pub(crate) fn client(&self, id: ReplicaId) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        Some((lock(&self.current).client.clone()?, asked_for(id)))
    }

    /// Whom the other side of a peer connection may speak for.
    pub(crate) fn names(&self, connection: &rustls::CommonState) -> Names {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        match (self.peers, certificate) {
            // The handshake has asked the same and got an answer; an error would let nobody speak.
            (Some((rule, _)), Some(certificate)) => {
                rule.names(certificate, None).unwrap_or(Names::Only(Vec::new()))
            }
            _ => Names::Only(Vec::new()),
        }
    }

    /// `tls.client` and the like.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.files.section
    }

    /// When the certificate in use expires, seconds since the Unix epoch.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires.load(Ordering::Relaxed)
    }

    /// Whether the files hold something that cannot be used.
    #[must_use]
    pub fn failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Looks at the files, and takes what is new in them if it can be used.
    pub(super) fn look(&self) -> Look {
        let mut seen = lock(&self.seen);
        let read = match Contents::read(&self.files) {
            Ok(contents) if seen.as_ref() == Some(&contents) => return Look::Same,
            Ok(contents) => contents,
            Err(error) => {
                // Once is enough until something else can be read.
                let told = seen.take().is_none();
                self.failing.store(true, Ordering::Relaxed);
                return if told { Look::Same } else { Look::Broken(error) };
            }
        };
        let configured = configure(&read, &self.files, self.peers);
        *seen = Some(read);
        self.failing.store(configured.is_err(), Ordering::Relaxed);
        match configured {
            Ok((current, expires)) => {
                *lock(&self.current) = current;
                self.expires.store(expires, Ordering::Relaxed);
                Look::New
            }
            Err(error) => Look::Broken(error),
        }
    }
}

/// Nothing panics while it holds one of these; if something did, what is inside is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn configure(
    contents: &Contents,
    files: &PortTls,
    peers: Option<(Rule, ReplicaId)>,
) -> Result<(Current, i64), TlsError> {
    let material = Material::check(contents, files)?;
    let current = match peers {
        None => Current { server: Arc::new(server(&material, files)?), client: None },
        Some((rule, me)) => {
            let own = &material.certified.cert[0];
            rule.names(own, Some(me)).map_err(|why| TlsError::Identity {
                field: format!("{}.certFile", files.section),
                path: files.cert_file.clone(),
                why: why.to_string(),
            })?;
            let (server, client) = among_peers(&material, files, rule)?;
            Current { server: Arc::new(server), client: Some(Arc::new(client)) }
        }
    };
    Ok((current, material.expires))
}

fn server(material: &Material, files: &PortTls) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(files, error))?;
    let builder = match (&material.roots, files.demand) {
        (None, _) | (_, Demand::Nothing) => builder.with_no_client_auth(),
        (Some(roots), demand) => builder.with_client_cert_verifier(clients(roots, files, demand)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn clients(
    roots: &Arc<RootCertStore>,
    files: &PortTls,
    demand: Demand,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    let builder = if demand == Demand::IfAny { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| refused(files, error))
}

fn among_peers(
    material: &Material,
    files: &PortTls,
    rule: Rule,
) -> Result<(ServerConfig, ClientConfig), TlsError> {
    let roots = material.roots.as_ref().expect("the peer section has always a CA file");
    let only_13 = [&rustls::version::TLS13];
    let certificate = Arc::new(SingleCertAndKey::from(material.certified.clone()));
    let accepting = Accepting { chain: clients(roots, files, Demand::Always)?, rule };
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&only_13)
        .map_err(|error| refused(files, error))?
        .with_client_cert_verifier(Arc::new(accepting))
        .with_cert_resolver(certificate.clone());
    // Every connection is looked at anew: they are few, and live long.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let algorithms = provider().signature_verification_algorithms;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&only_13)
        .map_err(|error| refused(files, error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Dialling { roots: roots.clone(), algorithms, rule }))
        .with_client_cert_resolver(certificate);
    client.enable_sni = false;
    client.resumption = rustls::client::Resumption::disabled();
    Ok((server, client))
}

fn refused(files: &PortTls, error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused { section: files.section.to_owned(), why: error.to_string() }
}

/// TLS of every port that has it.
#[derive(Clone, Default)]
pub struct Ports {
    /// For etcd clients.
    pub client: Option<Arc<Port>>,
    /// Among replicas.
    pub peer: Option<Arc<Port>>,
    /// For the operator and `vr`.
    pub control: Option<Arc<Port>>,
    /// For probes and metrics.
    pub admin: Option<Arc<Port>>,
}

impl Ports {
    /// Reads and checks the files of all ports.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(config: &Config) -> Result<Ports, TlsError> {
        let plain = |files: &Option<PortTls>| files.as_ref().map(|files| Port::load(files, None)).transpose();
        let tls = &config.tls;
        let peer = |peer: &crate::config::PeerTls| {
            let rule = Rule { lineage: config.lineage, identity: peer.identity };
            Port::load(&peer.port, Some((rule, config.id)))
        };
        Ok(Ports {
            client: plain(&tls.client)?,
            peer: tls.peer.as_ref().map(peer).transpose()?,
            control: plain(&tls.control)?,
            admin: plain(&tls.admin)?,
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Port>> {
        [&self.client, &self.peer, &self.control, &self.admin].into_iter().flatten()
    }
}
