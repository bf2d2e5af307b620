//! `/livez`, `/readyz` and `/metrics` of the operator itself.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use vr_api::VRClusterStatus;

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
    leads: bool,
    rounds: u64,
    failures: u64,
    steps: u64,
    round_seconds: f64,
    clusters: BTreeMap<(String, String), VRClusterStatus>,
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
        self.with(|state| state.leads = leads);
    }

    /// The loop turns.
    pub(super) fn turned(&self) {
        self.with(|state| state.turned = Some(Instant::now()));
    }

    /// A round is over.
    pub(super) fn round(&self, took: Duration, failures: u64, steps: u64) {
        self.with(|state| {
            state.rounds += 1;
            state.failures += failures;
            state.steps += steps;
            state.round_seconds = took.as_secs_f64();
        });
    }

    /// What is said of the clusters now.
    pub(super) fn clusters(&self, clusters: BTreeMap<(String, String), VRClusterStatus>) {
        self.with(|state| state.clusters = clusters);
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
        self.with(|state| state.page())
    }
}

impl State {
    fn page(&self) -> String {
        let mut page = String::new();
        let mut put = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(page, "{name}{labels} {value}");
            }
        };
        #[allow(clippy::cast_precision_loss, reason = "counters stay far below 2^52")]
        let one = |n: u64| vec![(String::new(), n as f64)];
        put("vr_operator_leader", "gauge", "Whether this process acts.", one(u64::from(self.leads)));
        put("vr_reconcile_rounds_total", "counter", "Rounds over all clusters.", one(self.rounds));
        put("vr_reconcile_failures_total", "counter", "Clusters whose round failed.", one(self.failures));
        put("vr_reconcile_steps_total", "counter", "Steps that were carried out.", one(self.steps));
        let took = vec![(String::new(), self.round_seconds)];
        put("vr_reconcile_round_seconds", "gauge", "How long the last round took.", took);
        let name = |of: &(String, String)| format!("namespace=\"{}\",name=\"{}\"", of.0, of.1);
        let conditions = self.clusters.iter().flat_map(|(of, status)| {
            status.conditions.iter().map(move |c| {
                let value = match c.status.as_str() {
                    "True" => 1.0,
                    "False" => 0.0,
                    _ => -1.0,
                };
                (format!("{{{},condition=\"{}\"}}", name(of), c.type_), value)
            })
        });
        put(
            "vr_cluster_condition",
            "gauge",
            "A condition of a cluster: 1 true, 0 false, -1 unknown.",
            conditions.collect(),
        );
        let tolerance = self.clusters.iter().filter_map(|(of, status)| {
            Some((format!("{{{}}}", name(of)), f64::from(status.fault_tolerance?)))
        });
        put(
            "vr_cluster_fault_tolerance",
            "gauge",
            "Voters that may be lost now without an outage.",
            tolerance.collect(),
        );
        page
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

    #[test]
    fn metrics_name_the_cluster_and_its_conditions() {
        let health = Health::default();
        let status = VRClusterStatus { fault_tolerance: Some(-1), ..VRClusterStatus::default() };
        health.clusters(BTreeMap::from([(("shop".to_owned(), "prod".to_owned()), status)]));
        let page = health.metrics();
        assert!(page.contains("vr_cluster_fault_tolerance{namespace=\"shop\",name=\"prod\"} -1\n"), "{page}");
    }
}
