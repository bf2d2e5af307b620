//! `etcdserverpb.Maintenance`: how this replica is, and the digest by which replicas and etcd itself are compared.

use super::{ETCD_VERSION, convert, has_memory, header, linearize};
use crate::node;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use vr_core::Status as Standing;
use vr_proto::etcdserverpb as pb;
use vr_store::Revision;

pub(super) struct Maintenance;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Maintenance {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        node::with(|node| {
            let bytes = i64::try_from(node.store().bytes()).unwrap_or(i64::MAX);
            let mut errors = Vec::new();
            if node.primary().is_none() {
                errors.push("etcdserver: no leader".to_owned());
            }
            if node.replica().status() == Standing::QuorumLost {
                errors.push("quorum lost: a majority has lost its memory".to_owned());
            }
            errors.extend(node.halt().map(|halt| format!("{halt:?}")));
            Ok(Response::new(pb::StatusResponse {
                header: Some(node.header(node.store().revision())),
                version: ETCD_VERSION.to_owned(),
                db_size: bytes,
                leader: node.primary().map_or(0, |primary| node.ids.member(primary)),
                raft_index: node.replica().op().0,
                raft_term: node.term(),
                raft_applied_index: node.executed().0,
                errors,
                db_size_in_use: bytes,
                is_learner: node.members().is_learner(node.config.id),
                storage_version: ETCD_VERSION.to_owned(),
                db_size_quota: i64::try_from(node.config.memory_limit).unwrap_or(i64::MAX),
                ..Default::default()
            }))
        })
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Answer<pb::HashKvResponse> {
        has_memory()?;
        let revision = Revision(request.into_inner().revision);
        let view = node::with(|node| node.store().view());
        // All versions are sorted and read: not on the thread that serves.
        let hash = tokio::task::spawn_blocking(move || view.hash_kv(revision))
            .await
            .map_err(|e| Status::internal(format!("hashing failed: {e}")))?
            .map_err(convert::status)?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(header()),
            hash: hash.hash,
            compact_revision: hash.compacted.0,
            hash_revision: hash.revision.0,
        }))
    }

    /// Freed memory is free at once: there is nothing to do, and tools that do it regularly may go on.
    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Answer<pb::DefragmentResponse> {
        linearize().await?;
        Ok(Response::new(pb::DefragmentResponse { header: Some(header()) }))
    }

    async fn alarm(&self, _: Request<pb::AlarmRequest>) -> Answer<pb::AlarmResponse> {
        Err(not_here("Alarm"))
    }
    async fn hash(&self, _: Request<pb::HashRequest>) -> Answer<pb::HashResponse> {
        Err(not_here("Hash"))
    }
    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;
    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Answer<Self::SnapshotStream> {
        Err(not_here("Snapshot"))
    }
    /// From any replica; etcd wants its leader to be asked.
    async fn move_leader(&self, request: Request<pb::MoveLeaderRequest>) -> Answer<pb::MoveLeaderResponse> {
        super::members::move_leader(request.into_inner().target_id).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: Some(header()) }))
    }
    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Answer<pb::DowngradeResponse> {
        Err(not_here("Downgrade"))
    }
}

fn not_here(rpc: &str) -> Status {
    Status::unimplemented(format!("{rpc} is not offered"))
}
