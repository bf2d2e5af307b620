//! Certificates by cert-manager (`tls.issuerRef`): a `Certificate` for each replica and one for this operator, and the
//! Secrets that come of them.
//!
//! Keys are made by cert-manager, and renewed by it. What a Secret holds is used only if it is for whom it was asked for: a
//! slot that another replica takes over has the certificate of the one before until the new one is there.

use super::authority::{Pair, Subject, text};
use super::given::{self, Given};
use crate::ids::*;
use crate::objects::Naming;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};
use vr_api::{IssuerReference, VRCluster};
use x509_parser::extensions::GeneralName;

const GROUP: &str = "cert-manager.io";
const ABSENT: &str = "tls.issuerRef needs cert-manager, whose definitions are not here (certificates.cert-manager.io): \
                      install it, or use tls.secretRef or the operator's own authority";

/// What cert-manager has made.
pub(super) struct Issued {
    pub(super) ca: String,
    pub(super) pair: Pair,
    pub(super) ends: Moment,
}

/// Has a certificate made for a subject, and gives it back once it is there. `reached` are the hosts by which it must do.
///
/// # Errors
/// What is awaited, or in the way.
pub(super) async fn certificate(
    client: &Client,
    cluster: &VRCluster,
    issuer: &IssuerReference,
    name: &str,
    (subject, reached): (&Subject, &[String]),
    now: Moment,
) -> anyhow::Result<Issued> {
    let namespace = Naming::of(cluster).namespace();
    let kind = ApiResource {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{GROUP}/v1"),
        kind: "Certificate".to_owned(),
        plural: "certificates".to_owned(),
    };
    let certificates: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let wanted = wanted(issuer, name, subject);
    let known = certificates.get_opt(name).await.map_err(|error| failed(name, error))?;
    let mut made = DynamicObject::new(name, &kind).data(json!({"spec": wanted}));
    made.metadata = Naming::of(cluster).owned(name.to_owned());
    let written = match &known {
        Some(known) if includes(&known.data["spec"], &wanted) => Ok(()),
        Some(known) => {
            made.metadata.resource_version.clone_from(&known.metadata.resource_version);
            certificates.replace(name, &PostParams::default(), &made).await.map(drop)
        }
        None => certificates.create(&PostParams::default(), &made).await.map(drop),
    };
    written.map_err(|error| failed(name, error))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get_opt(name).await?;
    found.and_then(|secret| issued(&secret, subject, reached, now)).ok_or_else(|| {
        anyhow::anyhow!("{}", awaited(name, issuer, known.map_or(Value::Null, |known| known.data)))
    })
}

/// A kind that nobody has defined is not found, in other words than an object that is not there.
fn failed(name: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 404 => anyhow::anyhow!(ABSENT),
        error => anyhow::Error::from(error).context(format!("Certificate {name}")),
    }
}

/// What a Certificate is to say.
fn wanted(issuer: &IssuerReference, name: &str, subject: &Subject) -> Value {
    let (addresses, hosts): (Vec<_>, Vec<_>) =
        subject.hosts.iter().partition(|host| host.parse::<std::net::IpAddr>().is_ok());
    let mut spec = json!({
        "secretName": name,
        "dnsNames": hosts,
        "usages": ["digital signature", "server auth", "client auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Always"},
        "issuerRef": {"name": issuer.name, "kind": issuer.kind.as_deref().unwrap_or("Issuer"), "group": GROUP},
    });
    if !addresses.is_empty() {
        spec["ipAddresses"] = json!(addresses);
    }
    if let Some(uri) = &subject.uri {
        spec["uris"] = json!([uri]);
    }
    spec
}

/// Whether everything that is wanted is there; what else is there has somebody else's default.
fn includes(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| includes(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}

/// What a Secret holds, if it is for this subject.
fn issued(secret: &Secret, subject: &Subject, reached: &[String], now: Moment) -> Option<Issued> {
    let (ca, cert, key) = (text(secret, "ca.crt")?, text(secret, "tls.crt")?, text(secret, "tls.key")?);
    let found = Given { ca: &ca, cert: &cert, key: &key };
    let ends = found
        .expires(reached, now)
        .inspect_err(|why| tracing::info!(why, "a certificate is of no use"))
        .ok()?;
    let named = given::read(&cert, |certificate| {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        names.filter_map(uri).collect::<Vec<_>>()
    });
    let named = named.ok()?;
    let ours = subject.uri.as_ref().is_none_or(|uri| named == [uri.clone()]);
    ours.then_some(Issued { ca, pair: Pair { cert, key }, ends })
}

/// Why there is none yet, as cert-manager says.
fn awaited(name: &str, issuer: &IssuerReference, certificate: Value) -> String {
    let conditions = certificate["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let not = |kind: &str, status: &str| {
        let found = conditions.iter().find(|c| c["type"] == kind && c["status"] == status);
        found.and_then(|c| c["message"].as_str()).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let says = not("Ready", "False").or_else(|| not("Issuing", "True"));
    let says = says.map_or_else(|| "it says nothing of it yet".to_owned(), |says| format!("it says: {says}"));
    format!(
        "Certificate {name} is to be signed by {} {}, which cert-manager has not done; {says}. `kubectl describe certificate \
         {name}` tells more",
        issuer.kind.as_deref().unwrap_or("Issuer"),
        issuer.name
    )
}

#[cfg(test)]
mod tests {
    use super::super::authority::{self, tests::first};
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    const NOW: Moment = Moment(1_800_000_000);

    fn issuer() -> IssuerReference {
        IssuerReference { name: "company".to_owned(), kind: None }
    }

    fn subject(id: u64) -> Subject {
        Subject {
            name: format!("replica {id}"),
            hosts: vec!["prod-0.prod-peers.shop.svc".to_owned(), "127.0.0.1".to_owned()],
            uri: Some(format!("vr://lineage/replica/{id}")),
        }
    }

    #[test]
    fn addresses_and_names_are_told_apart_and_defaults_of_others_are_no_difference() {
        let mut spec = wanted(&issuer(), "prod-0-tls", &subject(1));
        assert_eq!(spec["ipAddresses"], json!(["127.0.0.1"]));
        assert_eq!(spec["dnsNames"], json!(["prod-0.prod-peers.shop.svc"]));
        assert_eq!(
            spec["issuerRef"],
            json!({"name": "company", "kind": "Issuer", "group": "cert-manager.io"})
        );
        let same = spec.clone();
        spec["revisionHistoryLimit"] = 1.into();
        spec["privateKey"]["somebody"] = "else".into();
        assert!(includes(&spec, &same));
        assert!(!includes(&spec, &wanted(&issuer(), "prod-0-tls", &subject(2))));
        assert!(!includes(&Value::Null, &same));
    }

    /// A slot changes hands: what its Secret holds is the certificate of the replica before.
    #[test]
    fn a_certificate_for_another_replica_is_none() {
        let authority = first();
        let pair = authority.sign(&subject(1), NOW, 24).expect("it signs");
        let data = [("ca.crt", authority.bundle.clone()), ("tls.crt", pair.cert), ("tls.key", pair.key)];
        let secret = authority::secret(ObjectMeta::default(), data);
        let hosts = ["prod-0.prod-peers.shop.svc".to_owned()];
        let look = |subject: &Subject, hosts: &[String], now: Moment| {
            issued(&secret, subject, hosts, now).map(|i| i.ends)
        };
        assert_eq!(look(&subject(1), &hosts, NOW), Some(NOW + Seconds(24 * 3600)));
        assert_eq!(look(&subject(2), &hosts, NOW), None);
        assert_eq!(look(&subject(1), &["elsewhere".to_owned()], NOW), None);
        assert_eq!(look(&subject(1), &hosts, NOW + Seconds(25 * 3600)), None);
        assert!(issued(&Secret::default(), &subject(1), &hosts, NOW).is_none());
    }

    #[test]
    fn what_is_awaited_is_said_in_the_words_of_cert_manager() {
        let no = "issuer.cert-manager.io \"company\" not found";
        let says = awaited(
            "c",
            &issuer(),
            json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "message": no}]}}),
        );
        assert!(
            says.contains(no) && says.contains("Issuer company") && says.contains("kubectl describe"),
            "{says}"
        );
        assert!(awaited("c", &issuer(), Value::Null).contains("says nothing of it yet"));
    }
}
