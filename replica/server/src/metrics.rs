//! What `/metrics` shows: counters kept on the request path as plain numbers, made into text when somebody asks.

use crate::node::Node;
use crate::status::TierReport;
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
    /// Frames dropped because there was no connection to a peer, or its queue was full.
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

/// A metric: what it is called, what it means, and where its values come from.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// counter or gauge.
    pub kind: &'static str,
    /// What it means.
    pub help: &'static str,
    values: Values,
}

enum Values {
    One(fn(&Node) -> f64),
    Each(&'static str, fn(&Node) -> Vec<(String, f64)>),
    Tier(fn(&TierReport) -> f64),
}

impl Family {
    /// The label that tells its values apart, if there are several.
    #[must_use]
    pub fn label(&self) -> Option<&'static str> {
        match self.values {
            Values::One(_) => None,
            Values::Each(label, _) => Some(label),
            Values::Tier(_) => Some("tier"),
        }
    }
}

const fn one(name: &'static str, kind: &'static str, help: &'static str, value: fn(&Node) -> f64) -> Family {
    Family { name, kind, help, values: Values::One(value) }
}

const fn each(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: fn(&Node) -> Vec<(String, f64)>,
) -> Family {
    Family { name, kind: "gauge", help, values: Values::Each(label, values) }
}

const fn tier(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&TierReport) -> f64,
) -> Family {
    Family { name, kind, help, values: Values::Tier(value) }
}

/// Every metric of a replica, in the order of the page.
pub const FAMILIES: &[Family] = &[
    one("vr_op", "gauge", "Newest entry in this replica's log.", |n| n.replica().op().0 as f64),
    one("vr_commit", "gauge", "Newest entry known to be committed.", |n| n.replica().commit().0 as f64),
    one("vr_view", "gauge", "View of this replica.", |n| n.replica().ballot().view.0 as f64),
    one("vr_epoch", "gauge", "Epoch of this replica's configuration.", |n| {
        n.replica().ballot().epoch.0 as f64
    }),
    one("vr_generation", "gauge", "Generation of the lineage.", |n| n.config.generation.0 as f64),
    one("vr_primary", "gauge", "1 where this replica leads.", |n| flag(n.replica().is_primary())),
    each("vr_status", "1 for the status this replica is in.", "status", statuses),
    one("vr_revision", "gauge", "The store's revision.", |n| n.store().revision().0 as f64),
    one("vr_state_bytes", "gauge", "Bytes of state.", |n| n.store().bytes() as f64),
    one("vr_watchers", "gauge", "Watches of this replica's clients.", |n| n.watches.len() as f64),
    one("vr_requests_waiting", "gauge", "Client requests that wait for their reply.", |n| n.waiting() as f64),
    one(
        "vr_writes_admission",
        "gauge",
        "0 where clients' writes are let in, 1 where they are slowed, 2 where they are refused, as a tier is behind.",
        |n| n.admission().0 as f64,
    ),
    one("vr_writes_delayed_total", "counter", "Writes that were slowed.", |n| n.admission().1 as f64),
    one("vr_writes_refused_total", "counter", "Writes that were refused as a tier was behind.", |n| {
        n.admission().2 as f64
    }),
    one("vr_ranges_total", "counter", "Ranges answered.", |n| n.counters.ranges as f64),
    one("vr_read_rounds_total", "counter", "Rounds that confirmed this primary's reads.", |n| {
        n.replica().counters().read_rounds as f64
    }),
    one("vr_leased_reads_total", "counter", "Reads that a lease answered without one.", |n| {
        n.replica().counters().leased_reads as f64
    }),
    one("vr_states_fetched_total", "counter", "States taken over from another replica.", |n| {
        n.replica().counters().states_fetched as f64
    }),
    one("vr_state_fetched_bytes_total", "counter", "Bytes of other replicas' pages that arrived.", |n| {
        n.replica().counters().portion_bytes_fetched as f64
    }),
    one("vr_entries_fetched_total", "counter", "Log entries fetched from others.", |n| {
        n.replica().counters().entries_fetched as f64
    }),
    one("vr_watch_responses_total", "counter", "Watch responses queued.", |n| {
        n.counters.watch_responses as f64
    }),
    one("vr_standings_total", "counter", "Changes of status, view or primary.", |n| {
        n.counters.standings as f64
    }),
    one("vr_peer_sent_bytes_total", "counter", "Bytes queued for peers.", |n| {
        n.counters.peer_bytes_sent as f64
    }),
    one("vr_peer_received_bytes_total", "counter", "Bytes from peers.", |n| {
        n.counters.peer_bytes_received as f64
    }),
    one(
        "vr_peer_frames_dropped_total",
        "counter",
        "Frames to peers without a connection, or with a full queue.",
        |n| n.counters.peer_frames_dropped as f64,
    ),
    each(
        "vr_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that the port uses expires.",
        "port",
        |n| n.tls.iter().map(|port| (name(port), port.expires() as f64)).collect(),
    ),
    each(
        "vr_tls_reload_failing",
        "1 while the files of the port cannot be used and older ones are.",
        "port",
        |n| n.tls.iter().map(|port| (name(port), flag(port.failing()))).collect(),
    ),
    one(
        "vr_peer_connections_refused_total",
        "counter",
        "Connections closed because what came over them was no peer's.",
        |n| n.counters.peer_connections_refused as f64,
    ),
    one(
        "vr_client_connections_broken_total",
        "counter",
        "Connections of clients that ended with an error: garbage, or a client that vanished.",
        |n| n.counters.client_connections_broken as f64,
    ),
    tier("vr_checkpoint_op", "gauge", "Op of the newest checkpoint on the tier.", |t| t.checkpoint_op as f64),
    tier("vr_shipped_op", "gauge", "Newest op that a restore from the tier could reach.", |t| {
        t.recovery_op as f64
    }),
    tier(
        "vr_checkpoint_lag_seconds",
        "gauge",
        "Time since the oldest op that the tier lacks was committed.",
        |t| t.lag_seconds,
    ),
    tier("vr_checkpoint_last_success_timestamp_seconds", "gauge", "When the tier was last written.", |t| {
        t.last_success
    }),
    tier("vr_checkpoint_dirty_bytes", "gauge", "Bytes the tier lacks.", |t| t.dirty_bytes as f64),
    tier("vr_checkpoint_written_bytes_total", "counter", "Bytes written to the tier.", |t| {
        t.written_bytes as f64
    }),
    tier("vr_checkpoint_requests_total", "counter", "Requests made to the tier.", |t| t.requests as f64),
    tier(
        "vr_checkpoint_damaged_objects",
        "gauge",
        "Objects on the tier that a retained checkpoint needs and that were found damaged.",
        |t| t.damaged as f64,
    ),
    tier(
        "vr_checkpoint_repaired_objects_total",
        "counter",
        "Objects on the tier that were found damaged and made whole where they stand.",
        |t| t.repaired as f64,
    ),
    tier("vr_checkpoint_failing", "gauge", "1 while the tier's last run failed.", |t| {
        f64::from(u8::from(t.error.is_some()))
    }),
];

/// The whole page, in the Prometheus text format 0.0.4.
#[must_use]
pub fn page(node: &Node) -> String {
    let mut page = String::with_capacity(4096);
    let tiers = node.tiers();
    for Family { name, kind, help, values } in FAMILIES {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        let mut labelled = |label: &str, of: &str, value: f64| {
            let _ = writeln!(page, "{name}{{{label}=\"{of}\"}} {value}");
        };
        match values {
            Values::Tier(value) => tiers.iter().for_each(|t| labelled("tier", &t.tier, value(t))),
            Values::Each(label, values) => {
                values(node).into_iter().for_each(|(of, value)| labelled(label, &of, value));
            }
            Values::One(value) => {
                let _ = writeln!(page, "{name} {}", value(node));
            }
        }
    }
    page
}

fn statuses(node: &Node) -> Vec<(String, f64)> {
    let all = [
        Status::Normal,
        Status::ViewChange,
        Status::Recovering,
        Status::Syncing,
        Status::Transitioning,
        Status::Retiring,
        Status::QuorumLost,
    ];
    let of = |status: Status| (format!("{status:?}"), flag(node.replica().status() == status));
    all.into_iter().map(of).collect()
}

fn name(port: &crate::tls::Port) -> String {
    port.section().trim_start_matches("tls.").to_owned()
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
