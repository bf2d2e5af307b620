//! Mutual TLS: the operator's own authority for each cluster, a certificate for each replica, one for itself.
//!
//! The authority is a Secret `NAME-ca`, made once; a replica's is `NAME-SLOT-tls`, made for the replica id that is
//! to run there and renewed at two thirds of its life. A cluster with `tls.secretRef` brings its own for everybody.
//! The authority itself is not rotated.

use super::given::Given;
use crate::ids::*;
use crate::objects::Naming;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vr_api::VRCluster;

const FOR: &str = "vr-operator.io/certificate-of";
const RENEW: &str = "vr-operator.io/renew-after";
const HOUR: i64 = 3600;
const LIFE_HOURS: i64 = 720;
const AUTHORITY_HOURS: i64 = 10 * 365 * 24;

/// From an hour ago, for clocks that disagree, until so many hours from now.
macro_rules! life {
    ($now:expr, $hours:expr) => {{
        let at = |moment: Moment| {
            let since = Duration::from_secs(u64::try_from(moment.0).unwrap_or_default());
            rcgen::date_time_ymd(1970, 1, 1) + since
        };
        (at($now + Seconds(-HOUR)), at($now + Seconds($hours * HOUR)))
    }};
}

/// How this operator reaches the replicas of one cluster.
pub(super) struct Trust {
    /// What it dials with.
    pub(super) client: Arc<ClientConfig>,
    /// After this it is made anew.
    pub(super) until: Moment,
    /// When what people have brought expires.
    pub(super) expires: Option<Moment>,
    authority: Option<Authority>,
}

struct Authority {
    cert: String,
    key: String,
}

/// Makes or reads what there is for a cluster.
pub(super) async fn trust(client: &Client, cluster: &VRCluster, now: Moment) -> anyhow::Result<Trust> {
    let naming = Naming::of(cluster);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    let tls = cluster.spec.tls.as_ref();
    if tls.is_some_and(|tls| tls.issuer_ref.is_some()) {
        anyhow::bail!(
            "tls.issuerRef is not supported by this version of the operator: let cert-manager write a Secret and name \
             it in tls.secretRef, or leave tls out"
        );
    }
    if let Some(given) = tls.and_then(|tls| tls.secret_ref.as_ref()) {
        let secret = secrets.get_opt(&given.name).await?;
        let secret =
            secret.ok_or_else(|| anyhow::anyhow!("tls.secretRef: there is no Secret {}", given.name))?;
        let part = |key: &str| {
            text(&secret, key)
                .ok_or_else(|| anyhow::anyhow!("tls.secretRef: Secret {} has no {key}", given.name))
        };
        let (ca, cert, key) = (part("ca.crt")?, part("tls.crt")?, part("tls.key")?);
        let found = Given { ca: &ca, cert: &cert, key: &key };
        // One replica more than wanted: the one that takes the place of another runs beside it for a while.
        let slots = 0..=u64::try_from(cluster.spec.replicas).unwrap_or_default();
        let mut hosts: Vec<_> = slots.map(|slot| naming.host(Slot(slot))).collect();
        hosts.push(format!("{}.{}.svc", naming.name(), naming.namespace()));
        let expires = found.expires(&hosts, now).map_err(|why| {
            anyhow::anyhow!("tls.secretRef: Secret {} in {}: {why}", given.name, naming.namespace())
        })?;
        let client = dialling(&ca, &cert, &key)?;
        return Ok(Trust { client, until: now + Seconds(60), expires: Some(expires), authority: None });
    }
    let authority = authority(&secrets, cluster, now).await?;
    let subject = Subject { name: "vr-operator".to_owned(), hosts: Vec::new(), uri: None };
    let (cert, key) = authority.sign(cluster, &subject, now, 24)?;
    let client = dialling(&authority.cert, &cert, &key)?;
    Ok(Trust { client, until: now + Seconds(12 * HOUR), expires: None, authority: Some(authority) })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

fn dialling(ca: &str, cert: &str, key: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(cert?)?;
    }
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let mut config =
        ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn authority(secrets: &Api<Secret>, cluster: &VRCluster, now: Moment) -> anyhow::Result<Authority> {
    let naming = Naming::of(cluster);
    let name = format!("{}-ca", naming.name());
    let read = |secret: &Secret| {
        let (cert, key) = (text(secret, "tls.crt"), text(secret, "tls.key"));
        let parts =
            cert.zip(key).ok_or_else(|| anyhow::anyhow!("Secret {name} lacks tls.crt or tls.key: delete it"));
        parts.map(|(cert, key)| Authority { cert, key })
    };
    if let Some(secret) = secrets.get_opt(&name).await? {
        return read(&secret);
    }
    let pair = KeyPair::generate()?;
    let mut params = issuing(cluster);
    (params.not_before, params.not_after) = life!(now, AUTHORITY_HOURS);
    let (cert, key) = (params.self_signed(&pair)?.pem(), pair.serialize_pem());
    let data = [("tls.crt", cert.clone()), ("tls.key", key.clone()), ("ca.crt", cert)];
    let made = secret(naming.owned(name.clone()), data);
    match secrets.create(&PostParams::default(), &made).await {
        Ok(made) => read(&made),
        // Another operator was first.
        Err(kube::Error::Api(status)) if status.code == 409 => read(&secrets.get(&name).await?),
        Err(error) => Err(error.into()),
    }
}

fn secret(metadata: ObjectMeta, data: impl IntoIterator<Item = (&'static str, String)>) -> Secret {
    let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    Secret {
        metadata,
        data: Some(data.collect()),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    }
}

/// The same for whoever signs: the name is all that a signature needs of it.
fn issuing(cluster: &VRCluster) -> CertificateParams {
    let naming = Naming::of(cluster);
    let mut params = CertificateParams::default();
    let name = format!("vr-operator authority of {}/{}", naming.namespace(), naming.name());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

struct Subject {
    name: String,
    hosts: Vec<String>,
    uri: Option<String>,
}

impl Authority {
    fn sign(
        &self,
        cluster: &VRCluster,
        subject: &Subject,
        now: Moment,
        hours: i64,
    ) -> anyhow::Result<(String, String)> {
        let issuer = Issuer::new(issuing(cluster), KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new(subject.hosts.clone())?;
        params.distinguished_name.push(DnType::CommonName, subject.name.clone());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = life!(now, hours);
        if let Some(uri) = &subject.uri {
            params.subject_alt_names.push(SanType::URI(uri.clone().try_into()?));
        }
        let pair = KeyPair::generate()?;
        Ok((params.signed_by(&pair, &issuer)?.pem(), pair.serialize_pem()))
    }
}

/// Sees to it that a slot has a certificate for the replica that is to run there, and says when that is due to be made
/// anew, if it is the operator's. Nothing is written if there is one.
pub(super) async fn of_replica(
    client: &Client,
    cluster: &VRCluster,
    trust: &Trust,
    lineage: &Lineage,
    (slot, id): (Slot, ReplicaId),
    now: Moment,
) -> anyhow::Result<Option<Moment>> {
    let Some(authority) = &trust.authority else { return Ok(None) };
    let naming = Naming::of(cluster);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    let name = format!("{}-tls", naming.slot(slot));
    let uri = format!("vr://{lineage}/replica/{id}");
    let known = secrets.get_opt(&name).await?;
    if let Some(secret) = &known {
        let noted = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let lasts = noted(RENEW).and_then(|text| Moment::parse(text)).filter(|at| now < *at);
        if let Some(at) = lasts
            && noted(FOR) == Some(&uri)
            && text(secret, "ca.crt").as_deref() == Some(&authority.cert)
        {
            return Ok(Some(at));
        }
    }
    let managed = cluster.spec.tls.as_ref().and_then(|tls| tls.operator_managed.as_ref());
    let hours = managed.and_then(|managed| managed.validity_hours).map_or(LIFE_HOURS, i64::from);
    let subject =
        Subject { name: format!("replica {id}"), hosts: hosts(&naming, slot), uri: Some(uri.clone()) };
    let (cert, key) = authority.sign(cluster, &subject, now, hours)?;
    let mut metadata = naming.owned(name.clone());
    let renew = now + Seconds(hours * HOUR * 2 / 3);
    metadata.annotations = Some(BTreeMap::from([(FOR.to_owned(), uri), (RENEW.to_owned(), renew.text())]));
    metadata.resource_version = known.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
    let data = [("tls.crt", cert), ("tls.key", key), ("ca.crt", authority.cert.clone())];
    let made = secret(metadata, data);
    if known.is_some() {
        secrets.replace(&name, &PostParams::default(), &made).await?;
    } else {
        secrets.create(&PostParams::default(), &made).await?;
    }
    Ok(Some(renew))
}

/// All names under which a replica is reached.
fn hosts(naming: &Naming<'_>, slot: Slot) -> Vec<String> {
    let (name, namespace) = (naming.name(), naming.namespace());
    let mut hosts = vec![naming.host(slot), format!("{}.cluster.local", naming.host(slot))];
    hosts.extend([name.to_owned(), format!("{name}.{namespace}")]);
    hosts.extend([format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.cluster.local")]);
    hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    hosts
}
