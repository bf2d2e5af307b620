//! An S3 server in this process, for `vr dev`, `vr drill` and tests.
//!
//! Promises: conditional requests are honest (check and write are one step under a lock), an object becomes visible
//! only when all of it has arrived and its checksums agree, what was answered survives the death of the process, only
//! requests signed with the configured key are served, and any fault that a real store has shown can be asked for.
//!
//! It does not promise to survive a power failure, does not serve TLS, knows neither versions nor access lists, and
//! keeps the list of keys in memory. It is no place for production data.

mod conditions;
mod faults;
mod intake;
mod objects;
mod service;
mod tally;
#[cfg(test)]
mod tests;
mod uploads;

pub use faults::{Act, Faults, Rule, Verb};
pub use tally::Tally;

use hyper_util::rt::{TokioExecutor, TokioIo};
use objects::Objects;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use service::Service;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally::Counters;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Connections served at once; more wait to be accepted.
const CONNECTIONS: usize = 512;

/// Who may ask, and for what.
#[derive(Clone)]
pub struct Options {
    /// Access key id of the only user.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Buckets that exist from the start; those that an earlier run made exist as well.
    pub buckets: Vec<String>,
    /// What goes wrong; [`Faults::default`] for nothing.
    pub faults: Faults,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error("the S3 server's directory {} cannot be used: {source}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("the S3 server's directory {} is used by another server: stop that one or use another directory", .0.display())]
    InUse(PathBuf),
    /// The address cannot be listened on.
    #[error("the S3 server cannot listen on {address}: {source}; free the port or choose another")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An object's file is damaged.
    #[error("the S3 server found {} damaged: {reason}; remove the file to go on without the object", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A running server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    faults: Faults,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    _lock: File,
}

impl Server {
    /// Serves `dir` on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The directory cannot be used or is in use, or the address cannot be listened on.
    pub async fn start(dir: &Path, address: SocketAddr, options: Options) -> Result<Server, StartError> {
        let lock = lock(dir)?;
        let objects = Arc::new(Objects::open(dir, &options.buckets, options.faults.clone())?);
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| StartError::Address { address, source })?;
        let address = listener.local_addr().map_err(|source| StartError::Address { address, source })?;
        let mut builder = S3ServiceBuilder::new(Service::new(objects));
        builder.set_auth(SimpleAuth::from_single(options.access_key, options.secret_key));
        let (stop, stopped) = watch::channel(false);
        let (faults, counters) = (options.faults, Arc::new(Counters::default()));
        let answering = (builder.build(), faults.clone(), Arc::clone(&counters));
        let accepting = tokio::spawn(accept(listener, answering, stopped));
        Ok(Server { address, faults, counters, stop, accepting, _lock: lock })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients want it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes wrong from now on.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What it was asked for so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Closes the port and every connection; the directory can be served again afterwards.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // A task that ended by itself has nothing left to stop.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let unusable = |source| StartError::Directory { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let file =
        File::options().create(true).write(true).truncate(false).open(dir.join("lock")).map_err(unusable)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::InUse(dir.to_owned())),
        Err(errno) => Err(unusable(errno.into())),
    }
}

type Answering = (s3s::service::S3Service, Faults, Arc<Counters>);

async fn accept(listener: TcpListener, answering: Answering, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match stream {
            Ok((stream, _)) => {
                let answering = answering.clone();
                connections.spawn(async move {
                    serve(stream, answering).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the S3 server could not accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, (service, faults, counters): Answering) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let answer = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        counters.note(&request);
        let (service, faults) = (service.clone(), faults.clone());
        async move { faults.around(&service, request.map(s3s::Body::from)).await }
    });
    let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = connection.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "an S3 connection ended");
    }
}
