//! What can be wrong with the files of a port.

use std::path::PathBuf;

/// A file that TLS cannot be spoken with: which one, why, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("`{field}`: cannot read {path}: {source}")]
    Read {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not the PEM that is expected.
    #[error("`{field}`: {path} holds no {what} in PEM form: {why}")]
    Malformed {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is expected.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key are of different pairs.
    #[error(
        "`{section}`: the key in {key} does not belong to the certificate in {cert}: give both of the same pair"
    )]
    KeyMismatch {
        /// The section.
        section: String,
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Its time is over.
    #[error("`{field}`: the certificate in {path} expired on {on}: renew it")]
    Expired {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// When, UTC.
        on: String,
    },
    /// Its time has not come.
    #[error("`{field}`: the certificate in {path} is not valid before {on}: check this machine's clock")]
    NotYet {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// When, UTC.
        on: String,
    },
    /// It does not say what this replica's own must say, so no peer would let it in.
    #[error("`{field}`: the certificate in {path} {why}")]
    Identity {
        /// The field that names it.
        field: String,
        /// The file.
        path: PathBuf,
        /// What it says and what it must say.
        why: String,
    },
    /// rustls refuses it.
    #[error("`{section}`: {why}")]
    Refused {
        /// The section.
        section: String,
        /// Its words.
        why: String,
    },
}
