//! Plain HTTP: what etcd offers beside gRPC on the client port, and the admin port.

use crate::etcd::ETCD_VERSION;
use crate::node::Failure;
use crate::{metrics, node, status};
use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::AsyncReadExt;

/// Bytes of a recording that are read and sent at a time.
const PIECE: usize = 256 << 10;

/// `/health`, `/version` and `/metrics` as etcd's clients and monitors expect them beside gRPC.
pub(crate) fn client_routes() -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
}

/// `/livez`, `/readyz`, `/status`, `/metrics` and `/debug/flight-recorder`.
pub(crate) fn admin_routes() -> Router {
    Router::new()
        // The event loop answers, so it is alive. Never quorum: a partition must not restart everyone.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(report))
        .route("/debug/flight-recorder", get(recording))
        .route("/metrics", get(metrics))
}

async fn health() -> impl IntoResponse {
    // As etcd: healthy means that a linearizable read is possible; without a primary nobody has to wait for the answer.
    let read = match node::with(|node| node.leaderless()) {
        true => Err(Failure::NoPrimary),
        false => node::read_index().await,
    };
    let (status, health, reason) = match read {
        Ok(()) => (StatusCode::OK, "true", ""),
        Err(Failure::NoPrimary) => {
            (StatusCode::SERVICE_UNAVAILABLE, "false", "no primary that a quorum follows")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "false", "a linearizable read was not confirmed in time"),
    };
    (status, axum::Json(serde_json::json!({"health": health, "reason": reason})))
}

async fn version() -> impl IntoResponse {
    axum::Json(serde_json::json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": ETCD_VERSION,
        "storage": ETCD_VERSION,
        "vr": env!("CARGO_PKG_VERSION"),
    }))
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], node::with(|node| metrics::page(node)))
}

async fn report() -> impl IntoResponse {
    axum::Json(node::with(|node| status::report(node)))
}

/// Writes a recording to the disk and hands it out, with the path in `x-recording-path`.
async fn recording() -> Response {
    let path = match node::record().await {
        Ok(Some(path)) => path,
        Ok(None) => {
            let off = "there is no recording: the flight recorder is off (flightRecorderBytes)\n";
            return (StatusCode::NOT_FOUND, off).into_response();
        }
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    };
    match tokio::fs::File::open(&path).await {
        Ok(file) => {
            let named = [("x-recording-path", path.display().to_string())];
            (named, Body::from_stream(pieces(file))).into_response()
        }
        Err(error) => {
            let why =
                format!("the recording was written to {}, but cannot be read: {error}\n", path.display());
            (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

/// A file, piece by piece: it may be as large as the state.
fn pieces(file: tokio::fs::File) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = file.read_buf(&mut piece).await?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })
}

async fn ready() -> impl IntoResponse {
    node::with(|node| match status::ready(node) {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => {
            let report = status::report(node);
            let why = report.halted.unwrap_or(report.status);
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n"))
        }
    })
}
