//! Mutual TLS: what this operator dials the replicas of a cluster with, and a certificate for each of them.
//!
//! A replica's Secret is `NAME-SLOT-tls`, signed by the cluster's own [`authority`](super::authority) for the replica id
//! that is to run there. It is made anew at two thirds of its life, and where the authority has changed. With
//! `tls.issuerRef` cert-manager makes and renews them ([`issuer`]). A cluster with `tls.secretRef` brings one for everybody.

use super::authority::{self, Authority, HOUR, Pair, Subject, secret, text};
use super::given::Given;
use super::issuer;
use crate::ids::*;
use crate::objects::Naming;
use crate::rotation::Stage;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use vr_api::VRCluster;

const FOR: &str = "vr-operator.io/certificate-of";
const RENEW: &str = "vr-operator.io/renew-after";
const SEAL: &str = "vr-operator.io/authority";
const LIFE_HOURS: i64 = 720;
/// How often it is looked whether cert-manager has renewed the operator's own.
const ISSUED_AGAIN: Seconds = Seconds(300);
/// Life of the operator's own.
const OWN_HOURS: i64 = 24;

/// How this operator reaches the replicas of one cluster.
pub(super) struct Trust {
    /// What it dials with.
    pub(super) client: Arc<ClientConfig>,
    /// After this it is made anew.
    pub(super) until: Moment,
    /// When what people have brought expires.
    pub(super) expires: Option<Moment>,
    /// The cluster's own authority, if it has one.
    pub(super) own: Option<Own>,
}

/// The cluster's own authority.
pub(super) struct Own {
    pub(super) authority: Authority,
    /// When it ends.
    pub(super) ends: Moment,
    /// Who answers to this is ready for the next turn of a change of the authority, if one goes on.
    pub(super) proof: Option<Arc<ClientConfig>>,
}

impl Trust {
    /// What the certificates of replicas depend on.
    pub(super) fn seal(&self) -> String {
        self.own.as_ref().map(|own| own.authority.seal()).unwrap_or_default()
    }
}

/// Makes or reads what there is for a cluster.
pub(super) async fn trust(client: &Client, cluster: &VRCluster, now: Moment) -> anyhow::Result<Trust> {
    let naming = Naming::of(cluster);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    let tls = cluster.spec.tls.as_ref();
    if let Some(issuer) = tls.and_then(|tls| tls.issuer_ref.as_ref()) {
        // Nobody is reached by this name; a certificate must have one.
        let hosts = vec![format!("vr-operator.{}.{}.svc", naming.name(), naming.namespace())];
        let subject = Subject { hosts: hosts.clone(), ..Subject::operator() };
        let name = naming.operator_secret();
        let of = (&subject, &*hosts);
        let issuer::Issued { ca, pair, ends } =
            issuer::certificate(client, cluster, issuer, &name, of, now).await?;
        let client = dialling(&ca, &pair.cert, &pair.key)?;
        return Ok(Trust { client, until: now + ISSUED_AGAIN, expires: Some(ends), own: None });
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
        return Ok(Trust { client, until: now + Seconds(60), expires: Some(expires), own: None });
    }
    let authority = authority::of(&secrets, cluster, now).await?;
    let dials = |bundle: &str, Pair { cert, key }: &Pair| dialling(bundle, cert, key);
    let client = dials(&authority.bundle, &authority.sign(&Subject::operator(), now, OWN_HOURS)?)?;
    let proof = authority
        .proof()
        .map(|(bundle, signer)| dials(bundle, &signer.sign(&Subject::operator(), now, OWN_HOURS)?));
    let own = Own { ends: authority.ends()?, proof: proof.transpose()?, authority };
    Ok(Trust { client, until: now + Seconds(12 * HOUR), expires: None, own: Some(own) })
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

/// Sees to it that a slot has a certificate for the replica that is to run there, and says when that is due to be made
/// anew, if it is the operator's, or ends, if an issuer has signed it. Nothing is written if there is one.
pub(super) async fn of_replica(
    client: &Client,
    cluster: &VRCluster,
    trust: &Trust,
    lineage: &Lineage,
    (slot, id): (Slot, ReplicaId),
    now: Moment,
) -> anyhow::Result<Option<Moment>> {
    let naming = Naming::of(cluster);
    let tls = cluster.spec.tls.as_ref();
    let uri = format!("vr://{lineage}/replica/{id}");
    let subject =
        Subject { name: format!("replica {id}"), hosts: hosts(&naming, slot), uri: Some(uri.clone()) };
    let name = format!("{}-tls", naming.slot(slot));
    if let Some(issuer) = tls.and_then(|tls| tls.issuer_ref.as_ref()) {
        let reached = [naming.host(slot), format!("{}.{}.svc", naming.name(), naming.namespace())];
        let of = (&subject, &reached[..]);
        let issued = issuer::certificate(client, cluster, issuer, &name, of, now).await?;
        return Ok(Some(issued.ends));
    }
    let Some(Own { authority, .. }) = &trust.own else { return Ok(None) };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), naming.namespace());
    let seal = authority.seal();
    let known = secrets.get_opt(&name).await?;
    if let Some(secret) = &known {
        let noted = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let lasts = noted(RENEW).and_then(|text| Moment::parse(text)).filter(|at| now < *at);
        if let Some(at) = lasts
            && noted(FOR) == Some(&uri)
            && text(secret, "ca.crt").as_deref() == Some(&authority.bundle)
            // Before there was more than one authority none was noted.
            && noted(SEAL).map_or(authority.stage == Stage::Alone, |noted| *noted == seal)
        {
            return Ok(Some(at));
        }
    }
    let managed = tls.and_then(|tls| tls.operator_managed.as_ref());
    let hours = managed.and_then(|managed| managed.validity_hours).map_or(LIFE_HOURS, i64::from);
    let Pair { cert, key } = authority.sign(&subject, now, hours)?;
    let mut metadata = naming.owned(name.clone());
    let renew = now + Seconds(hours * HOUR * 2 / 3);
    let notes = [(FOR, uri), (RENEW, renew.text()), (SEAL, seal)].map(|(key, text)| (key.to_owned(), text));
    metadata.annotations = Some(BTreeMap::from(notes));
    metadata.resource_version = known.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
    let data = [("tls.crt", cert), ("tls.key", key), ("ca.crt", authority.bundle.clone())];
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
