//! An authority that signs certificates for tests.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

/// Certificate and key, PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// For these hosts and with this URI name; good for servers and clients.
    pub(crate) fn sign(&self, hosts: &[&str], uri: Option<String>) -> Pair {
        self.signed(hosts, uri, |_| {})
    }

    /// One whose time was over on 2001-02-03.
    pub(crate) fn expired(&self) -> Pair {
        self.signed(&["127.0.0.1"], None, |params| params.not_after = date_time_ymd(2001, 2, 3))
    }

    fn signed(&self, hosts: &[&str], uri: Option<String>, change: impl Fn(&mut CertificateParams)) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        }
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Pair { cert, key: key.serialize_pem() }
    }
}
