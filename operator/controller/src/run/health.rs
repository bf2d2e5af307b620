//! `/livez`, `/readyz` and `/metrics` of the operator itself.

use super::metrics::Known;
use super::world;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Rounds and renewals come every few seconds: whoever does neither for so long is hung.
const HUNG: Duration = Duration::from_secs(120);
/// So long ago an answer of the API server may be.
const READY: Duration = Duration::from_secs(30);

/// What is known of this process.
#[derive(Clone, Default)]
pub(super) struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    turned: Option<Instant>,
    reached: Option<Instant>,
    known: Known,
}

impl Health {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().expect("nobody panics while holding it"))
    }

    /// The API server has answered.
    pub(super) fn reached(&self) {
        self.with(|state| state.reached = Some(Instant::now()));
    }

    /// Whether this process acts.
    pub(super) fn leads(&self, leads: bool) {
        self.with(|state| state.known.leads = leads);
    }

    /// The loop turns.
    pub(super) fn turned(&self) {
        self.with(|state| state.turned = Some(Instant::now()));
    }

    /// What `/metrics` is made of changes.
    pub(super) fn note(&self, change: impl FnOnce(&mut Known)) {
        self.with(|state| change(&mut state.known));
    }

    fn alive(&self) -> StatusCode {
        let hung = self.with(|state| state.turned.is_some_and(|at| at.elapsed() > HUNG));
        if hung { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }

    fn ready(&self) -> StatusCode {
        let ready = self.with(|state| state.reached.is_some_and(|at| at.elapsed() < READY));
        if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    fn metrics(&self) -> String {
        self.with(|state| state.known.page(world::now()))
    }
}

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, health: Health, mut stopped: watch::Receiver<bool>) {
    let (live, ready, metrics) = (health.clone(), health.clone(), health);
    let routes = Router::new()
        .route("/livez", get(move || async move { live.alive() }))
        .route("/readyz", get(move || async move { ready.ready() }))
        .route("/metrics", get(move || async move { metrics.metrics() }));
    let until = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(until).await {
        tracing::error!(error = %error, "probes and metrics are not served any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_reached_the_api_is_alive_and_not_ready() {
        let health = Health::default();
        assert_eq!((health.alive(), health.ready()), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
        health.reached();
        assert_eq!(health.ready(), StatusCode::OK);
    }
}
