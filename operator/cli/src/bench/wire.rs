//! One HTTP/2 connection for gRPC calls, without the queue, the extra task and the hand-offs that tonic's `Channel`
//! puts between a call and its connection: the generator must cost little, or it measures itself.
//!
//! Does not reconnect: a call on a broken connection fails, and its caller opens another.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use vr_replica::tls::Connector;

use crate::endpoint::Endpoint;

/// Enough for any answer without a round trip for credit in the middle.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection that calls share; a clone is another handle to the same one.
#[derive(Clone)]
pub struct Wire {
    requests: SendRequest<Body>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there, or what listens there does not speak HTTP/2.
    pub async fn open(endpoint: &Endpoint, connector: &Connector) -> Result<Wire, WireError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| WireError {
            endpoint: endpoint.clone(),
            source,
        };
        let stream =
            connector.connect(endpoint.host(), endpoint.port()).await.map_err(|e| failed(e.into()))?;
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(e.into()))?;
        // Ends with the connection; what went wrong on it, every call on it hears.
        tokio::spawn(connection);
        Ok(Wire { requests })
    }

    /// Whether calls on it can only fail.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

/// A connection that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {endpoint}")]
pub struct WireError {
    endpoint: Endpoint,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
