//! Certificates of a cluster on this machine, for `vr dev --tls`: an authority for each kind of port, so that what one
//! lets in the others do not, and what it signed.
//!
//! ```text
//! <dir>/tls/client/ca.crt ca.key  server.crt server.key (all replicas)  client.crt client.key (for you)
//! <dir>/tls/control/…             the same for the control ports
//! <dir>/tls/peer/ca.crt ca.key    r1.crt r1.key, … one pair for each replica, which names it
//! ```
//!
//! Authorities stay as they are; what they sign is made anew at every start, good for a year. Keys are readable by
//! their owner alone.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use vr_replica::config::{RawPeerTls, RawPortTls, RawTls};
use vr_replica::tls::ClientFiles;

/// Names by which this machine reaches itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("cannot use {path}; remove the directory `tls` above it to have all certificates made anew")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key or a certificate.
    #[error("cannot make the certificate {path}; remove the directory `tls` above it to begin anew")]
    Make {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
}

/// The certificates below one directory.
#[derive(Clone, Debug)]
pub struct Certificates {
    root: PathBuf,
}

impl Certificates {
    /// Of the cluster in `dir`.
    #[must_use]
    pub fn below(dir: &Path) -> Certificates {
        Certificates { root: dir.join("tls") }
    }

    /// Where they are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes what a start needs.
    ///
    /// # Errors
    /// When a file cannot be written, or an authority's key not be read.
    pub fn make(&self, lineage: uuid::Uuid, ids: &[u64]) -> Result<(), CertificateError> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        for port in ["client", "control"] {
            let authority = self.authority(port, lineage)?;
            let server = self.root.join(port).join("server");
            authority.sign(&server, "vr dev replica", &LOOPBACK, None, &[ServerAuth])?;
            let client = self.root.join(port).join("client");
            authority.sign(&client, "vr dev user", &[], None, &[ClientAuth])?;
        }
        self.peers(lineage, ids)
    }

    /// Makes what these replicas show to each other.
    ///
    /// # Errors
    /// As [`Certificates::make`].
    pub fn peers(&self, lineage: uuid::Uuid, ids: &[u64]) -> Result<(), CertificateError> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let authority = self.authority("peer", lineage)?;
        for id in ids {
            let name = format!("vr://{lineage}/replica/{id}");
            let stem = self.root.join("peer").join(format!("r{id}"));
            authority.sign(&stem, &format!("replica {id}"), &[], Some(name), &[ServerAuth, ClientAuth])?;
        }
        Ok(())
    }

    /// The section of replica `id`'s configuration.
    #[must_use]
    pub fn configuration(&self, id: u64) -> RawTls {
        let port = |port: &str| RawPortTls {
            cert_file: Some(self.root.join(port).join("server.crt")),
            key_file: Some(self.root.join(port).join("server.key")),
            client_ca_file: Some(self.root.join(port).join("ca.crt")),
            client_cert_auth: None,
        };
        let peer = RawPeerTls {
            cert_file: Some(self.root.join("peer").join(format!("r{id}.crt"))),
            key_file: Some(self.root.join("peer").join(format!("r{id}.key"))),
            ca_file: Some(self.root.join("peer").join("ca.crt")),
            identity: None,
        };
        RawTls {
            client: Some(port("client")),
            control: Some(port("control")),
            peer: Some(peer),
            ..RawTls::default()
        }
    }

    /// What a client of `port` (`client` or `control`) shows and trusts.
    #[must_use]
    pub fn files(&self, port: &str) -> ClientFiles {
        let file = |name: &str| self.root.join(port).join(name);
        ClientFiles { ca: file("ca.crt"), pair: Some((file("client.crt"), file("client.key"))) }
    }

    /// The authority for one kind of port, made if there is none.
    fn authority(&self, port: &str, lineage: uuid::Uuid) -> Result<Authority, CertificateError> {
        let directory = self.root.join(port);
        let (cert, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        fs::create_dir_all(&directory).map_err(file(&directory))?;
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(file(&directory))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("vr dev {port} authority {lineage}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = if cert.exists() && key.exists() {
            let text = fs::read_to_string(&key).map_err(file(&key))?;
            KeyPair::from_pem(&text).map_err(make(&key))?
        } else {
            let pair = KeyPair::generate().map_err(make(&key))?;
            let signed = params.self_signed(&pair).map_err(make(&cert))?;
            write(&key, &pair.serialize_pem())?;
            write(&cert, &signed.pem())?;
            pair
        };
        Ok(Authority { issuer: Issuer::new(params, pair) })
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Writes `stem.crt` and `stem.key`.
    fn sign(
        &self,
        stem: &Path,
        subject: &str,
        hosts: &[&str],
        uri: Option<String>,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Result<(), CertificateError> {
        let cert = stem.with_extension("crt");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).map_err(make(&cert))?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        let (year, month, day) = in_a_year();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(make(&cert))?));
        }
        let pair = KeyPair::generate().map_err(make(&cert))?;
        let signed = params.signed_by(&pair, &self.issuer).map_err(make(&cert))?;
        write(&stem.with_extension("key"), &pair.serialize_pem())?;
        write(&cert, &signed.pem())
    }
}

/// Year, month and day.
fn in_a_year() -> (i32, u8, u8) {
    let today = jiff::Zoned::now().date();
    let number = |n: i8| u8::try_from(n).expect("months and days are positive");
    // Every month of every year has a 28th.
    (i32::from(today.year()) + 1, number(today.month()), number(today.day()).min(28))
}

/// A file that only its owner reads, from its first byte on.
fn write(path: &Path, text: &str) -> Result<(), CertificateError> {
    let temporary = path.with_extension("new");
    let put = || {
        // A leftover may have other rights.
        let _ = fs::remove_file(&temporary);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)
    };
    put().map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> CertificateError + use<> {
    let path = path.to_owned();
    move |source| CertificateError::File { path, source }
}

fn make(path: &Path) -> impl FnOnce(rcgen::Error) -> CertificateError + use<> {
    let path = path.to_owned();
    move |source| CertificateError::Make { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_their_owners_and_authorities_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let certificates = Certificates::below(dir.path());
        let lineage = uuid::Uuid::new_v4();
        certificates.make(lineage, &[1, 2]).expect("made");
        let read = |name: &str| fs::read(dir.path().join("tls").join(name)).expect(name);
        let (authority, leaf) = (read("peer/ca.crt"), read("peer/r2.crt"));
        for key in ["peer/ca.key", "peer/r1.key", "client/client.key", "control/server.key"] {
            let mode = fs::metadata(dir.path().join("tls").join(key)).expect(key).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        certificates.files("client").load().expect("usable");
        certificates.make(lineage, &[1, 2, 3]).expect("made again");
        assert_eq!(read("peer/ca.crt"), authority);
        assert_ne!(read("peer/r2.crt"), leaf);
        read("peer/r3.crt");
    }
}
