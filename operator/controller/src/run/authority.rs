//! A cluster's own authority: the Secret `NAME-ca`, and the turns by which another one takes its place ([`rotation`]).
//!
//! In it `tls.crt` and `tls.key` sign, and `ca.crt` is what is trusted: replicas get it, and so do clients. For as long as
//! another authority is only trusted, it is in `next.crt` and `next.key`. Each turn is one write, of the version that was
//! read: of two operators the slower one is refused.
//!
//! [`rotation`]: crate::rotation

use super::given;
use crate::ids::*;
use crate::objects::Naming;
use crate::rotation::{Stage, Turn};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::collections::BTreeMap;
use std::time::Duration;
use vr_api::{ROTATION, ROTATION_BESIDE, ROTATION_SIGNS, VRCluster, authority_secret};

pub(super) const HOUR: i64 = 3600;
const LIFE_HOURS: i64 = 10 * 365 * 24;

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

/// The authority of a cluster.
pub(super) struct Authority {
    signs: Pair,
    next: Option<Pair>,
    /// What is trusted.
    pub(super) bundle: String,
    pub(super) stage: Stage,
    version: Option<String>,
}

/// A certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

/// What a certificate is for.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) uri: Option<String>,
}

impl Subject {
    /// The operator itself.
    pub(super) fn operator() -> Subject {
        Subject { name: "vr-operator".to_owned(), hosts: Vec::new(), uri: None }
    }
}

/// Which Secret it is.
pub(super) fn secret_name(cluster: &VRCluster) -> String {
    authority_secret(Naming::of(cluster).name())
}

/// Reads it, or makes it where there is none.
pub(super) async fn of(secrets: &Api<Secret>, cluster: &VRCluster, now: Moment) -> anyhow::Result<Authority> {
    let name = secret_name(cluster);
    if let Some(secret) = secrets.get_opt(&name).await? {
        return Authority::read(&secret);
    }
    let authority = Authority {
        bundle: String::new(),
        signs: Pair::authority(&common_name(cluster), now)?,
        next: None,
        stage: Stage::Alone,
        version: None,
    };
    match secrets.create(&PostParams::default(), &authority.alone().secret(cluster)).await {
        Ok(made) => Authority::read(&made),
        // Another operator was first.
        Err(kube::Error::Api(status)) if status.code == 409 => Authority::read(&secrets.get(&name).await?),
        Err(error) => Err(error.into()),
    }
}

fn common_name(cluster: &VRCluster) -> String {
    let naming = Naming::of(cluster);
    format!("vr-operator authority of {}/{}", naming.namespace(), naming.name())
}

impl Authority {
    fn read(secret: &Secret) -> anyhow::Result<Authority> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let part = |key: &str| text(secret, key);
        let lacks = |what: &str| {
            anyhow::anyhow!(
                "Secret {name} lacks {what}: put it back, or delete the Secret and every replica gets another authority at once"
            )
        };
        let pair = |cert: &str, key: &str| part(cert).zip(part(key)).map(|(cert, key)| Pair { cert, key });
        let signs = pair("tls.crt", "tls.key").ok_or_else(|| lacks("tls.crt or tls.key"))?;
        let next = pair("next.crt", "next.key");
        let noted =
            secret.metadata.annotations.as_ref().and_then(|all| all.get(ROTATION)).map(String::as_str);
        let stage = match noted {
            None => Stage::Alone,
            Some(ROTATION_SIGNS) => Stage::Signs,
            Some(text) => {
                let until = text.strip_prefix(ROTATION_BESIDE).and_then(Moment::parse);
                let until = until.ok_or_else(|| {
                    anyhow::anyhow!("Secret {name}: {ROTATION} says {text:?}, which is no stage")
                })?;
                if next.is_none() {
                    return Err(lacks("next.crt or next.key"));
                }
                Stage::Beside(until)
            }
        };
        let bundle = match stage {
            Stage::Alone => signs.cert.clone(),
            Stage::Beside(_) | Stage::Signs => part("ca.crt").ok_or_else(|| lacks("ca.crt"))?,
        };
        let version = secret.metadata.resource_version.clone();
        Ok(Authority { signs, next, bundle, stage, version })
    }

    /// It alone is trusted.
    fn alone(self) -> Authority {
        Authority { bundle: self.signs.cert.clone(), next: None, stage: Stage::Alone, ..self }
    }

    fn secret(&self, cluster: &VRCluster) -> Secret {
        let mut metadata = Naming::of(cluster).owned(secret_name(cluster));
        metadata.resource_version = self.version.clone();
        let stage = match self.stage {
            Stage::Alone => None,
            Stage::Beside(until) => Some(format!("{ROTATION_BESIDE}{}", until.text())),
            Stage::Signs => Some(ROTATION_SIGNS.to_owned()),
        };
        metadata.annotations = stage.map(|stage| BTreeMap::from([(ROTATION.to_owned(), stage)]));
        let mut data = vec![
            ("tls.crt", self.signs.cert.clone()),
            ("tls.key", self.signs.key.clone()),
            ("ca.crt", self.bundle.clone()),
        ];
        if let Some(next) = &self.next {
            data.extend([("next.crt", next.cert.clone()), ("next.key", next.key.clone())]);
        }
        secret(metadata, data)
    }

    /// The Secret as it is after a turn.
    pub(super) fn after(&self, cluster: &VRCluster, turn: Turn, now: Moment) -> anyhow::Result<Secret> {
        let Authority { signs, next, bundle, version, .. } = self;
        let (signs, version) = (signs.again(), version.clone());
        let after = match (turn, next) {
            (Turn::Introduce(until), None) => {
                // Another name: who verifies goes by the name to find the key.
                let next = Pair::authority(&format!("{} since {}", common_name(cluster), now.text()), now)?;
                let bundle = format!("{bundle}{}", next.cert);
                Authority { signs, next: Some(next), bundle, stage: Stage::Beside(until), version }
            }
            (Turn::Settle(until), Some(next)) => {
                let (next, bundle) = (Some(next.again()), bundle.clone());
                Authority { signs, next, bundle, stage: Stage::Beside(until), version }
            }
            (Turn::Sign, Some(next)) => Authority {
                signs: next.again(),
                next: None,
                bundle: bundle.clone(),
                stage: Stage::Signs,
                version,
            },
            (Turn::Retire, None) => {
                Authority { signs, next: None, bundle: String::new(), stage: Stage::Alone, version }.alone()
            }
            (turn, _) => anyhow::bail!("{turn:?} does not follow from Secret {}", secret_name(cluster)),
        };
        Ok(after.secret(cluster))
    }

    /// With what it is proven that a replica is ready for the next turn: what is trusted, and who has signed.
    pub(super) fn proof(&self) -> Option<(&str, &Pair)> {
        match self.stage {
            Stage::Alone => None,
            Stage::Beside(_) => self.next.as_ref().map(|next| (self.bundle.as_str(), next)),
            Stage::Signs => Some((&self.signs.cert, &self.signs)),
        }
    }

    /// What of it certificates depend on: those of another seal are made anew.
    pub(super) fn seal(&self) -> String {
        let mut seal = blake3::Hasher::new();
        seal.update(self.signs.cert.as_bytes()).update(self.bundle.as_bytes());
        seal.finalize().to_hex()[..16].to_owned()
    }

    /// When it ends.
    pub(super) fn ends(&self) -> anyhow::Result<Moment> {
        self.signs.ends()
    }

    /// A certificate, by whoever signs now.
    pub(super) fn sign(&self, subject: &Subject, now: Moment, hours: i64) -> anyhow::Result<Pair> {
        self.signs.sign(subject, now, hours)
    }
}

impl Pair {
    fn authority(name: &str, now: Moment) -> anyhow::Result<Pair> {
        let pair = KeyPair::generate()?;
        let mut params = issuing(name);
        (params.not_before, params.not_after) = life!(now, LIFE_HOURS);
        Ok(Pair { cert: params.self_signed(&pair)?.pem(), key: pair.serialize_pem() })
    }

    fn again(&self) -> Pair {
        Pair { cert: self.cert.clone(), key: self.key.clone() }
    }

    fn ends(&self) -> anyhow::Result<Moment> {
        given::read(&self.cert, |certificate| Moment(certificate.validity().not_after.timestamp()))
    }

    pub(super) fn sign(&self, subject: &Subject, now: Moment, hours: i64) -> anyhow::Result<Pair> {
        let name = given::read(&self.cert, |certificate| {
            let names = certificate.subject().iter_common_name().next();
            names.and_then(|name| name.as_str().ok()).map(str::to_owned)
        })?;
        let name = name.ok_or_else(|| anyhow::anyhow!("the authority has no common name"))?;
        let issuer = Issuer::new(issuing(&name), KeyPair::from_pem(&self.key)?);
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
        Ok(Pair { cert: params.signed_by(&pair, &issuer)?.pem(), key: pair.serialize_pem() })
    }
}

/// The same for whoever signs: the name is all that a signature needs of it.
fn issuing(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

pub(super) fn secret(metadata: ObjectMeta, data: impl IntoIterator<Item = (&'static str, String)>) -> Secret {
    let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    Secret {
        metadata,
        data: Some(data.collect()),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fake;
    use super::super::given::Given;
    use super::*;
    use serde_json::json;

    const NOW: Moment = Moment(1_800_000_000);

    fn cluster() -> VRCluster {
        fake::cluster(json!({"bucket": "b"}))
    }

    /// One that nobody else has.
    pub(in super::super) fn first() -> Authority {
        let signs = Pair::authority("somebody", NOW).expect("it signs itself");
        Authority { signs, next: None, bundle: String::new(), stage: Stage::Alone, version: None }.alone()
    }

    fn turned(authority: &Authority, turn: Turn) -> Authority {
        let after = authority.after(&cluster(), turn, NOW).expect("it follows");
        Authority::read(&after).expect("it is read as it was written")
    }

    /// At no turn does anybody show what another one does not trust yet, or not any more.
    #[test]
    fn neighbours_in_time_trust_each_other() {
        let until = NOW + Seconds(60);
        let alone = first();
        let both = turned(&alone, Turn::Introduce(until));
        assert_eq!(both.stage, Stage::Beside(until));
        let later = turned(&both, Turn::Settle(until + Seconds(60)));
        assert_eq!((later.stage, &later.bundle), (Stage::Beside(until + Seconds(60)), &both.bundle));
        let signs = turned(&later, Turn::Sign);
        assert_eq!(signs.stage, Stage::Signs);
        let after = turned(&signs, Turn::Retire);
        assert_eq!(after.stage, Stage::Alone);
        assert!(after.signs.cert != alone.signs.cert && after.bundle == after.signs.cert);

        let hosts = ["h".to_owned()];
        let leaf = |authority: &Authority| {
            let subject = Subject { name: "x".to_owned(), hosts: hosts.to_vec(), uri: None };
            authority.sign(&subject, NOW, 24).expect("it signs")
        };
        let trusts = |bundle: &str, leaf: &Pair| {
            Given { ca: bundle, cert: &leaf.cert, key: &leaf.key }.expires(&hosts, NOW).is_ok()
        };
        let turns = [&alone, &both, &later, &signs, &after];
        for pair in turns.windows(2) {
            assert!(
                trusts(&pair[0].bundle, &leaf(pair[1])),
                "{:?} shows what {:?} does not trust",
                pair[1].stage,
                pair[0].stage
            );
            assert!(
                trusts(&pair[1].bundle, &leaf(pair[0])),
                "{:?} trusts {:?} no more",
                pair[1].stage,
                pair[0].stage
            );
        }
        // In one step it would not be so.
        assert!(!trusts(&alone.bundle, &leaf(&after)) && !trusts(&after.bundle, &leaf(&alone)));
        // Certificates are made anew wherever what they depend on is another one.
        let seals: std::collections::BTreeSet<_> = turns.iter().map(|authority| authority.seal()).collect();
        assert_eq!(seals.len(), 4);
        assert_eq!(both.seal(), later.seal());
    }

    #[test]
    fn a_turn_out_of_turn_and_a_secret_that_is_not_whole_are_refused() {
        let alone = first();
        for turn in [Turn::Settle(NOW), Turn::Sign] {
            assert!(alone.after(&cluster(), turn, NOW).is_err(), "{turn:?}");
        }
        let both = turned(&alone, Turn::Introduce(NOW));
        assert!(both.after(&cluster(), Turn::Introduce(NOW), NOW).is_err());
        assert!(both.after(&cluster(), Turn::Retire, NOW).is_err());
        for missing in ["tls.key", "next.crt", "ca.crt"] {
            let mut secret = both.secret(&cluster());
            secret.data.iter_mut().for_each(|data| drop(data.remove(missing)));
            let why = Authority::read(&secret).map(drop).expect_err(missing).to_string();
            assert!(why.contains("Secret prod-ca lacks") && why.contains("put it back"), "{why}");
        }
        let mut strange = both.secret(&cluster());
        strange.metadata.annotations = Some(BTreeMap::from([(ROTATION.to_owned(), "somehow".to_owned())]));
        assert!(
            Authority::read(&strange)
                .map(drop)
                .expect_err("no stage")
                .to_string()
                .contains("which is no stage")
        );
        assert_eq!(alone.ends().expect("it is read"), NOW + Seconds(LIFE_HOURS * HOUR));
    }
}
