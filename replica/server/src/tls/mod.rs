//! TLS of the four ports: certificates are read, checked, watched for new ones, and handed to each new connection.
//!
//! Promises: what is wrong with a file is found at the start and named; new files are taken without a restart, and
//! broken ones are not: the connections that come meanwhile get what was good before. A connection keeps what it began
//! with. Private keys go nowhere but into rustls. Does not look at revocation lists.
//!
//! Files are read by a thread of its own, never by the one that carries requests.

mod connector;
mod error;
mod explain;
mod identity;
mod material;
mod port;
mod reload;

pub use connector::{Connector, Stream};
pub use error::TlsError;
pub use explain::explain;
pub use identity::{Names, peer_name};
pub use material::ClientFiles;
pub use port::{Port, Ports};
pub use reload::Reloader;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// Makes ring the provider of the whole process: the first thing in `main`. Two linked providers and none installed
/// would be a panic at the first connection.
pub fn install_provider() {
    // An error means that it was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
