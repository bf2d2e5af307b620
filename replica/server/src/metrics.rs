//! What `/metrics` shows: counters kept on the request path as plain numbers, made into text when somebody asks.

use crate::node::Node;
use std::fmt::Write;
use vr_core::Status;

/// Counted since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Ranges answered.
    pub ranges: u64,
    /// Bytes received from peers.
    pub peer_bytes_received: u64,
    /// Bytes queued for peers.
    pub peer_bytes_sent: u64,
    /// Frames dropped because a peer's queue was full.
    pub peer_frames_dropped: u64,
    /// Connections to the peer port that were closed because of what came over them.
    pub peer_connections_refused: u64,
    /// Connections of clients that ended with an error.
    pub client_connections_broken: u64,
    /// Changes of status, view or primary.
    pub standings: u64,
    /// Watch responses queued for clients.
    pub watch_responses: u64,
}

/// The whole page, in the Prometheus text format 0.0.4.
#[must_use]
pub fn page(node: &Node) -> String {
    let mut page = Page(String::with_capacity(4096));
    let (replica, counters) = (node.replica(), node.counters);
    page.one("vr_op", "gauge", "Newest entry in this replica's log.", replica.op().0);
    page.one("vr_commit", "gauge", "Newest entry known to be committed.", replica.commit().0);
    page.one("vr_view", "gauge", "View of this replica.", replica.ballot().view.0);
    page.one("vr_epoch", "gauge", "Epoch of this replica's configuration.", replica.ballot().epoch.0);
    page.one("vr_generation", "gauge", "Generation of the lineage.", node.config.generation.0);
    page.one("vr_primary", "gauge", "1 where this replica leads.", replica.is_primary());
    let statuses = [
        Status::Normal,
        Status::ViewChange,
        Status::Recovering,
        Status::Syncing,
        Status::Transitioning,
        Status::Retiring,
        Status::QuorumLost,
    ];
    page.head("vr_status", "gauge", "1 for the status this replica is in.");
    for status in statuses {
        page.labelled("vr_status", "status", &format!("{status:?}"), u64::from(replica.status() == status));
    }
    page.one("vr_revision", "gauge", "The store's revision.", node.store().revision().0);
    page.one("vr_state_bytes", "gauge", "Bytes of state.", node.store().bytes());
    page.one("vr_watchers", "gauge", "Watches of this replica's clients.", node.watches.len());
    page.one("vr_requests_waiting", "gauge", "Client requests that wait for their reply.", node.waiting());
    let (admission, delayed, refused) = node.admission();
    page.one(
        "vr_writes_admission",
        "gauge",
        "0 where clients' writes are let in, 1 where they are slowed, 2 where they are refused, as a tier is behind.",
        admission,
    );
    page.one("vr_writes_delayed_total", "counter", "Writes that were slowed.", delayed);
    page.one("vr_writes_refused_total", "counter", "Writes that were refused as a tier was behind.", refused);
    page.one("vr_ranges_total", "counter", "Ranges answered.", counters.ranges);
    let core = replica.counters();
    page.one(
        "vr_read_rounds_total",
        "counter",
        "Rounds that confirmed this primary's reads.",
        core.read_rounds,
    );
    page.one(
        "vr_leased_reads_total",
        "counter",
        "Reads that a lease answered without one.",
        core.leased_reads,
    );
    page.one(
        "vr_states_fetched_total",
        "counter",
        "States taken over from another replica.",
        core.states_fetched,
    );
    page.one(
        "vr_state_fetched_bytes_total",
        "counter",
        "Bytes of other replicas' states that arrived: of pages that this replica lacked.",
        core.portion_bytes_fetched,
    );
    page.one("vr_entries_fetched_total", "counter", "Log entries fetched from others.", core.entries_fetched);
    page.one("vr_watch_responses_total", "counter", "Watch responses queued.", counters.watch_responses);
    page.one("vr_standings_total", "counter", "Changes of status, view or primary.", counters.standings);
    page.one("vr_peer_sent_bytes_total", "counter", "Bytes queued for peers.", counters.peer_bytes_sent);
    page.one("vr_peer_received_bytes_total", "counter", "Bytes from peers.", counters.peer_bytes_received);
    page.one(
        "vr_peer_frames_dropped_total",
        "counter",
        "Frames to full queues.",
        counters.peer_frames_dropped,
    );
    page.head(
        "vr_tls_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate that the port uses expires.",
    );
    for port in node.tls.iter() {
        page.labelled("vr_tls_certificate_expiry_timestamp_seconds", "port", name(port), port.expires());
    }
    page.head(
        "vr_tls_reload_failing",
        "gauge",
        "1 while the files of the port cannot be used and older ones are.",
    );
    for port in node.tls.iter() {
        page.labelled("vr_tls_reload_failing", "port", name(port), port.failing());
    }
    page.one(
        "vr_peer_connections_refused_total",
        "counter",
        "Connections closed because what came over them was no peer's.",
        counters.peer_connections_refused,
    );
    page.one(
        "vr_client_connections_broken_total",
        "counter",
        "Connections of clients that ended with an error: garbage, or a client that vanished.",
        counters.client_connections_broken,
    );
    let tiers = node.tiers();
    for (name, kind, help, value) in TIER_FAMILIES {
        page.head(name, kind, help);
        for tier in &tiers {
            page.labelled(name, "tier", &tier.tier, value(tier));
        }
    }
    page.0
}

fn name(port: &crate::tls::Port) -> &'static str {
    port.section().trim_start_matches("tls.")
}

type TierValue = fn(&crate::status::TierReport) -> f64;

const TIER_FAMILIES: &[(&str, &str, &str, TierValue)] = &[
    ("vr_checkpoint_op", "gauge", "Op of the newest checkpoint on the tier.", |t| t.checkpoint_op as f64),
    ("vr_shipped_op", "gauge", "Newest op that a restore from the tier could reach.", |t| {
        t.recovery_op as f64
    }),
    (
        "vr_checkpoint_lag_seconds",
        "gauge",
        "Time since the oldest op that the tier lacks was committed.",
        |t| t.lag_seconds,
    ),
    ("vr_checkpoint_last_success_timestamp_seconds", "gauge", "When the tier was last written.", |t| {
        t.last_success
    }),
    ("vr_checkpoint_dirty_bytes", "gauge", "Bytes the tier lacks.", |t| t.dirty_bytes as f64),
    ("vr_checkpoint_written_bytes_total", "counter", "Bytes written to the tier.", |t| {
        t.written_bytes as f64
    }),
    ("vr_checkpoint_requests_total", "counter", "Requests made to the tier.", |t| t.requests as f64),
    (
        "vr_checkpoint_damaged_objects",
        "gauge",
        "Objects on the tier that a retained checkpoint needs and that were found damaged.",
        |t| t.damaged as f64,
    ),
    (
        "vr_checkpoint_repaired_objects_total",
        "counter",
        "Objects on the tier that were found damaged and made whole where they stand.",
        |t| t.repaired as f64,
    ),
    ("vr_checkpoint_failing", "gauge", "1 while the tier's last run failed.", |t| {
        f64::from(u8::from(t.error.is_some()))
    }),
];

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Number) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {}", value.number());
    }
    fn labelled(&mut self, name: &str, label: &str, of: &str, value: impl Number) {
        let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {}", value.number());
    }
}

/// What the text format can show.
trait Number {
    fn number(self) -> f64;
}
impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}
impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}
impl Number for i64 {
    fn number(self) -> f64 {
        self as f64
    }
}
impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}
impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}
