//! The files of one port: read, then checked, as two steps, so that a change is seen by comparing bytes.

use super::error::TlsError;
use super::provider;
use crate::config::PortTls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::time::ASN1Time;

/// What the files hold. Has no `Debug`: one of them is a private key.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(files: &PortTls) -> Result<Contents, TlsError> {
        let read = |name: &str, path: &Path| {
            let field = format!("{}.{name}", files.section);
            std::fs::read(path).map_err(|source| TlsError::Read { field, path: path.to_owned(), source })
        };
        Ok(Contents {
            cert: read("certFile", &files.cert_file)?,
            key: read("keyFile", &files.key_file)?,
            ca: files.ca_file.as_deref().map(|path| read(ca_field(files), path)).transpose()?,
        })
    }
}

fn ca_field(files: &PortTls) -> &'static str {
    if files.section == "tls.peer" { "caFile" } else { "clientCaFile" }
}

/// Certificate, key and trusted authorities, checked.
pub(super) struct Material {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// End of the certificate's validity, seconds since the Unix epoch.
    pub(super) expires: i64,
}

impl Material {
    pub(super) fn check(contents: &Contents, files: &PortTls) -> Result<Material, TlsError> {
        let field = |name: &str| format!("{}.{name}", files.section);
        let chain = certificates(&contents.cert, &field("certFile"), &files.cert_file)?;
        let key = key(&contents.key, &field("keyFile"), &files.key_file)?;
        let expires = valid_now(&chain[0], &field("certFile"), &files.cert_file)?;
        let certified = pair(chain, key, files.section, &files.cert_file, &files.key_file)?;
        let roots = match (&contents.ca, &files.ca_file) {
            (Some(text), Some(path)) => Some(Arc::new(roots(text, &field(ca_field(files)), path)?)),
            _ => None,
        };
        Ok(Material { certified: Arc::new(certified), roots, expires })
    }
}

fn certificates(text: &[u8], field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = |why: String| TlsError::Malformed {
        field: field.to_owned(),
        path: path.to_owned(),
        what: "certificate",
        why,
    };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|e| malformed(e.to_string()))?;
    if found.is_empty() {
        return Err(malformed("there is no BEGIN CERTIFICATE in it".to_owned()));
    }
    Ok(found)
}

fn key(text: &[u8], field: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // What the parser says of a line may quote it: not of a private key.
    let why = "there is no whole BEGIN … PRIVATE KEY section in it (PKCS#8, SEC1 or PKCS#1, unencrypted)";
    PrivateKeyDer::from_pem_slice(text).map_err(|_quotes_the_file| TlsError::Malformed {
        field: field.to_owned(),
        path: path.to_owned(),
        what: "private key",
        why: why.to_owned(),
    })
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    section: &str,
    cert_file: &Path,
    key_file: &Path,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch {
            section: section.to_owned(),
            key: key_file.to_owned(),
            cert: cert_file.to_owned(),
        },
        other => TlsError::Refused { section: section.to_owned(), why: other.to_string() },
    })
}

fn roots(text: &[u8], field: &str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text, field, path)? {
        roots.add(certificate).map_err(|error| TlsError::Malformed {
            field: field.to_owned(),
            path: path.to_owned(),
            what: "certificate of an authority",
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// The end of its validity, if now is within it.
fn valid_now(certificate: &CertificateDer<'_>, field: &str, path: &Path) -> Result<i64, TlsError> {
    let (field, path) = (field.to_owned(), path.to_owned());
    let (_, parsed) = match x509_parser::parse_x509_certificate(certificate) {
        Ok(parsed) => parsed,
        Err(error) => {
            return Err(TlsError::Malformed { field, path, what: "certificate", why: error.to_string() });
        }
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now > validity.not_after.timestamp() {
        return Err(TlsError::Expired { field, path, on: date(validity.not_after) });
    }
    if now < validity.not_before.timestamp() {
        return Err(TlsError::NotYet { field, path, on: date(validity.not_before) });
    }
    Ok(validity.not_after.timestamp())
}

fn date(time: ASN1Time) -> String {
    let at = time.to_datetime();
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// What a client of a TLS port is given on its command line.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Authorities that the server's certificate must be signed by, PEM.
    pub ca: PathBuf,
    /// Certificate and key to show, PEM.
    pub pair: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    /// Reads and checks them; the names in errors are those of the flags `--cacert`, `--cert` and `--key`.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn load(&self) -> Result<ClientConfig, TlsError> {
        let read = |field: &str, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                field: field.to_owned(),
                path: path.to_owned(),
                source,
            })
        };
        let roots = roots(&read("--cacert", &self.ca)?, "--cacert", &self.ca)?;
        let failed =
            |error: rustls::Error| TlsError::Refused { section: "--cert".to_owned(), why: error.to_string() };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                let chain = certificates(&read("--cert", cert_file)?, "--cert", cert_file)?;
                valid_now(&chain[0], "--cert", cert_file)?;
                let key = key(&read("--key", key_file)?, "--key", key_file)?;
                pair(chain.clone(), key.clone_key(), "--cert", cert_file, key_file)?;
                builder.with_client_auth_cert(chain, key).map_err(failed)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}
