//! `--cacert`, `--cert` and `--key`: how a command that dials trusts a server and shows who it is.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use vr_replica::tls::{ClientFiles, Connector, TlsError};

use crate::endpoint::Endpoint;

/// Certificates for https endpoints.
#[derive(Clone, Debug, Default, Args)]
pub struct Trust {
    /// Trust https endpoints whose certificate is signed by an authority in this file (PEM)
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Show this certificate to https endpoints (PEM)
    #[arg(long, value_name = "FILE", requires = "key", requires = "cacert")]
    cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// What was typed does not go together.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// An https endpoint and nothing to trust it by.
    #[error("{0} speaks TLS: give --cacert with the file of the authority that signed its certificate")]
    NoAuthority(Endpoint),
    /// Certificates for an endpoint that takes none.
    #[error("--cacert is given, but {0} is not https: write https:// before it, or leave --cacert out")]
    Plain(Endpoint),
    /// A file.
    #[error(transparent)]
    File(#[from] TlsError),
}

impl Trust {
    /// With files that are known already.
    #[must_use]
    pub fn of(files: ClientFiles) -> Trust {
        let (cert, key) = files.pair.unzip();
        Trust { cacert: Some(files.ca), cert, key }
    }

    /// What connects to all of these.
    ///
    /// # Errors
    /// When the files cannot be used, or endpoints and files do not go together.
    pub fn connector(&self, endpoints: &[Endpoint]) -> Result<Connector, TrustError> {
        let Some(ca) = &self.cacert else {
            return match endpoints.iter().find(|endpoint| endpoint.is_tls()) {
                Some(endpoint) => Err(TrustError::NoAuthority(endpoint.clone())),
                None => Ok(Connector::default()),
            };
        };
        if let Some(plain) = endpoints.iter().find(|endpoint| !endpoint.is_tls()) {
            return Err(TrustError::Plain(plain.clone()));
        }
        let files = ClientFiles { ca: ca.clone(), pair: self.cert.clone().zip(self.key.clone()) };
        Ok(Connector::new(Some(Arc::new(files.load()?))))
    }
}
