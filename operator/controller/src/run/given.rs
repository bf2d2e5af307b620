//! A Secret that people bring (`tls.secretRef`): whether the replicas of a cluster can live by it, and until when.
//!
//! One certificate is for all of them: it must name every replica's host, and be good for both ends of a connection.

use crate::ids::*;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// What is in the Secret, as PEM.
pub(super) struct Given<'a> {
    pub(super) ca: &'a str,
    pub(super) cert: &'a str,
    pub(super) key: &'a str,
}

impl Given<'_> {
    /// When the first certificate of it expires.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(super) fn expires(&self, hosts: &[String], now: Moment) -> Result<Moment, String> {
        let chain = certificates("tls.crt", self.cert)?;
        let roots = certificates("ca.crt", self.ca)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        let key = key.map_err(|_| "tls.key holds no private key in PEM".to_owned())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        match CertifiedKey::from_der(chain.clone(), key, &provider) {
            Ok(_) => {}
            Err(Error::InconsistentKeys(_)) => return Err("tls.key is not the key of tls.crt".to_owned()),
            Err(error) => return Err(format!("tls.key cannot be used: {error}")),
        }
        let mut trusted = RootCertStore::empty();
        for root in &roots {
            trusted.add(root.clone()).map_err(|error| format!("ca.crt is no authority: {error}"))?;
        }
        let trusted = Arc::new(trusted);
        let (own, between) = chain.split_first().ok_or("tls.crt holds no certificate")?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.0).unwrap_or_default()));
        let serves = WebPkiServerVerifier::builder_with_provider(trusted.clone(), provider.clone()).build();
        let serves = serves.map_err(|error| format!("ca.crt cannot be used: {error}"))?;
        for host in hosts {
            let name = ServerName::try_from(host.as_str()).map_err(|_| format!("{host} is no host name"))?;
            if let Err(error) = serves.verify_server_cert(own, between, &name, &[], at) {
                return Err(why(&error, host));
            }
        }
        let dials = WebPkiClientVerifier::builder_with_provider(trusted, provider).build();
        let dials = dials.map_err(|error| format!("ca.crt cannot be used: {error}"))?;
        dials.verify_client_cert(own, between, at).map_err(|error| why(&error, "any client"))?;
        let ends = chain.iter().map(ends).collect::<Result<Vec<_>, _>>()?;
        ends.into_iter().min().ok_or_else(|| "tls.crt holds no certificate".to_owned())
    }
}

fn certificates(key: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("{key} is not PEM: {error}"))?;
    if found.is_empty() { Err(format!("{key} holds no certificate in PEM")) } else { Ok(found) }
}

/// What the first certificate of a PEM says.
pub(super) fn read<T>(
    pem: &str,
    what: impl Fn(&x509_parser::certificate::X509Certificate<'_>) -> T,
) -> anyhow::Result<T> {
    let first = CertificateDer::from_pem_slice(pem.as_bytes())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&first)
        .map_err(|error| anyhow::anyhow!("a certificate of the authority cannot be read: {error}"))?;
    Ok(what(&parsed))
}

fn ends(certificate: &CertificateDer<'_>) -> Result<Moment, String> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|error| format!("tls.crt cannot be read: {error}"))?;
    Ok(Moment(parsed.validity().not_after.timestamp()))
}

fn why(error: &Error, host: &str) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "tls.crt has expired: renew it".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "tls.crt is not valid yet".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "tls.crt is not signed by an authority of ca.crt".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("tls.crt does not name {host}: add it, or a wildcard for all replicas"),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "tls.crt must be for servers and for clients (extended key usage)".to_owned(),
        other => format!("tls.crt cannot be used for {host}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let pair = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&pair).expect("it signs itself").pem();
        Authority { pem, issuer: Issuer::new(params, pair) }
    }

    /// A certificate for these names, from a day ago to so many days from now, and its key.
    fn signed(authority: &Authority, names: &[&str], days: i64, client: bool) -> (String, String) {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).expect("names");
        let at = |moment: i64| {
            rcgen::date_time_ymd(1970, 1, 1)
                + Duration::from_secs(u64::try_from(moment).expect("it is after 1970"))
        };
        (params.not_before, params.not_after) = (at(NOW - 2 * DAY), at(NOW + days * DAY));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        if client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let pair = KeyPair::generate().expect("a key");
        (params.signed_by(&pair, &authority.issuer).expect("it signs").pem(), pair.serialize_pem())
    }

    #[test]
    fn what_is_right_is_good_until_it_expires_and_what_is_wrong_is_named() {
        let (ours, other) = (authority(), authority());
        let hosts = ["shop-0.shop-peers.ns.svc", "shop.ns.svc"].map(str::to_owned);
        let names = ["*.shop-peers.ns.svc", "shop.ns.svc"];
        let (cert, key) = signed(&ours, &names, 30, true);
        let look = |ca: &str, cert: &str, key: &str| Given { ca, cert, key }.expires(&hosts, Moment(NOW));
        assert_eq!(look(&ours.pem, &cert, &key), Ok(Moment(NOW + 30 * DAY)));
        // While authorities change, both are trusted.
        let both = format!("{}{}", other.pem, ours.pem);
        assert_eq!(look(&both, &cert, &key), Ok(Moment(NOW + 30 * DAY)));

        let (expired, old) = signed(&ours, &names, -1, true);
        let (few, less) = signed(&ours, &names[..1], 30, true);
        let (half, serves) = signed(&ours, &names, 30, false);
        for (ca, cert, key, words) in [
            (&ours.pem, &expired, &old, "has expired"),
            (&ours.pem, &few, &less, "does not name shop.ns.svc"),
            (&ours.pem, &half, &serves, "for servers and for clients"),
            (&ours.pem, &cert, &old, "is not the key of tls.crt"),
            (&other.pem, &cert, &key, "not signed by an authority of ca.crt"),
            (&ours.pem, &String::new(), &key, "tls.crt holds no certificate"),
            (&String::new(), &cert, &key, "ca.crt holds no certificate"),
            (&ours.pem, &cert, &"nothing".to_owned(), "tls.key holds no private key"),
        ] {
            let said = look(ca, cert, key).expect_err(words);
            assert!(said.contains(words), "{said}");
        }
    }
}
