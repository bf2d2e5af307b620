//! etcd's v3 interface. Every RPC is answered by any replica: writes through the log, linearizable reads after a
//! confirmed round, the rest locally. What is not here answers `Unimplemented`.

mod cluster;
mod convert;
mod ids;
mod kv;
mod lease;
mod maintenance;
mod members;
pub(crate) mod native;
mod read;
mod shape;
mod size;
mod watch;
mod watches;

pub(crate) use convert::response_op;
pub use ids::{Ids, peer_url};
pub use watches::Watches;

use crate::node::{self, Failure};
use size::Exhausting;
use tonic::Status;
use vr_core::Status as Standing;
use vr_proto::etcdserverpb as pb;
use vr_store::{Body, Command, Revision, StoreError};

/// The version of etcd whose interface this is; clients decide by it what they may ask for.
pub const ETCD_VERSION: &str = "3.7.0";

/// How long a write waits for revisions to be reserved, as at the start of a lineage or a generation.
const RESERVATION: std::time::Duration = std::time::Duration::from_secs(5);

/// The service of ranges, puts, deletions, transactions and compactions.
pub(crate) type KeyValue = Exhausting<pb::kv_server::KvServer<kv::Kv>>;

/// As etcd's transport: above its own limit, so that a request somewhat too large gets a more telling error.
fn most_of_message(max_request_bytes: usize) -> usize {
    max_request_bytes + (512 << 10)
}

/// What most calls are for, for whoever finds its way to it without a router.
pub(crate) fn key_value(max_request_bytes: usize) -> KeyValue {
    let most = most_of_message(max_request_bytes);
    Exhausting(pb::kv_server::KvServer::new(kv::Kv).max_decoding_message_size(most))
}

/// All other services on one router.
pub(crate) fn routes(max_request_bytes: usize) -> tonic::service::Routes {
    let most = most_of_message(max_request_bytes);
    let watch = pb::watch_server::WatchServer::new(watch::Watch).max_decoding_message_size(most);
    let lease = pb::lease_server::LeaseServer::new(lease::Lease).max_decoding_message_size(most);
    let cluster = pb::cluster_server::ClusterServer::new(cluster::Cluster).max_decoding_message_size(most);
    let maintenance = pb::maintenance_server::MaintenanceServer::new(maintenance::Maintenance)
        .max_decoding_message_size(most);
    let mut routes = tonic::service::RoutesBuilder::default();
    routes
        .add_service(Exhausting(watch))
        .add_service(Exhausting(lease))
        .add_service(Exhausting(cluster))
        .add_service(Exhausting(maintenance));
    routes.routes()
}

/// A header at the store's current revision.
fn header() -> pb::ResponseHeader {
    node::with(|node| node.header(node.store().revision()))
}

impl node::Node {
    /// The header of an answer that was made at `revision`.
    #[must_use]
    pub fn header(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.ids.cluster,
            member_id: self.ids.member(self.config.id),
            revision: revision.0,
            raft_term: self.term(),
        }
    }

    /// A number that grows with every ballot, and with every generation.
    #[must_use]
    pub fn term(&self) -> u64 {
        let ballot = self.replica().ballot();
        (self.config.generation.0 << 48) + (ballot.epoch.0 << 32) + ballot.view.0 + 1
    }
}

/// Writes through the log; the revision of the answer and what it says.
async fn execute(command: &Command<'_>) -> Result<(pb::ResponseHeader, Body), Status> {
    let mut body = Vec::new();
    command.encode(&mut body);
    propose(body).await
}

async fn propose(body: Vec<u8>) -> Result<(pb::ResponseHeader, Body), Status> {
    let most = node::with(|node| node.config.max_request_bytes);
    if body.len() > most {
        return Err(convert::status(StoreError::RequestTooLarge));
    }
    let body = bytes::Bytes::from(body);
    let deadline = tokio::time::Instant::now() + RESERVATION;
    let response = loop {
        match node::propose(body.clone()).await.map_err(failed)? {
            // Surely not executed: at a start, the first reservation is on its way to the tiers.
            Err(StoreError::ReservationExhausted) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(RESERVATION / 250).await;
            }
            answer => break answer.map_err(convert::status)?,
        }
    };
    Ok((node::with(|node| node.header(response.revision)), response.body))
}

/// Waits until everything acknowledged before is visible here.
async fn linearize() -> Result<(), Status> {
    node::read_index().await.map_err(failed)
}

/// What must hold before the local state may be shown to a reader that accepts an old one.
fn has_memory() -> Result<(), Status> {
    node::with(|node| if node.serves() { Ok(()) } else { Err(unavailable(node)) })
}

fn failed(failure: Failure) -> Status {
    match failure {
        Failure::Behind => Status::unavailable(node::with(|node| node.refuses())),
        Failure::NotExecuted => convert::status(StoreError::RequestTooManyRequests),
        Failure::Unknown => convert::status(StoreError::TimeoutDueToConnectionLost),
        Failure::Timeout => convert::status(StoreError::Timeout),
        Failure::NoPrimary => {
            node::try_with(|node| unavailable(node)).unwrap_or_else(|| convert::status(StoreError::Stopped))
        }
    }
}

fn unavailable(node: &node::Node) -> Status {
    match (node.halt(), node.replica().status()) {
        (Some(_), _) => convert::status(StoreError::Stopped),
        (None, Standing::QuorumLost) => Status::unavailable(
            "etcdserver: unhealthy cluster: a majority has lost its memory, restore from a checkpoint",
        ),
        _ => convert::status(StoreError::NoLeader),
    }
}
