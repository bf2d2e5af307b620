//! `etcdserverpb.Lease`. Grants and revocations go through the log; keepalives never do: the primary's clock counts,
//! and any other replica asks it.

use super::{convert, execute, header, linearize};
use crate::node::{self, Failure};
use std::pin::Pin;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vr_proto::etcdserverpb as pb;
use vr_store::{Body, Command, LeaseId, StoreError};

/// Answers waiting for a client that does not read them.
const BUFFERED: usize = 64;

pub(super) struct Lease;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::lease_server::Lease for Lease {
    async fn lease_grant(&self, request: Request<pb::LeaseGrantRequest>) -> Answer<pb::LeaseGrantResponse> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        // An id of our choice must not collide; a client's own may, and is then refused at execution.
        let id = if id == 0 { (uuid::Uuid::new_v4().as_u64_pair().0 >> 1) as i64 } else { id };
        let (header, body) = execute(&Command::LeaseGrant { id: LeaseId(id), ttl }).await?;
        let Body::LeaseGrant { id, ttl } = body else { unreachable!("a grant answers as one") };
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(header),
            id: id.0,
            ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Answer<pb::LeaseRevokeResponse> {
        let id = LeaseId(request.into_inner().id);
        let (header, _) = execute(&Command::LeaseRevoke { id }).await?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(header) }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let mut requests = request.into_inner();
        let (answers, stream) = tokio::sync::mpsc::channel(BUFFERED);
        tokio::spawn(async move {
            while let Ok(Some(pb::LeaseKeepAliveRequest { id })) = requests.message().await {
                let answer = keep_alive(id).await;
                let ended = answer.is_err();
                if answers.send(answer).await.is_err() || ended {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let (granted, remaining) = remaining(id, false).await?;
        let keys = match keys && remaining >= 0 {
            true => {
                linearize().await?;
                node::with(|node| {
                    node.store().lease_keys(LeaseId(id)).map(bytes::Bytes::copy_from_slice).collect()
                })
            }
            false => Vec::new(),
        };
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header: Some(header()),
            id,
            ttl: remaining,
            granted_ttl: granted,
            keys,
        }))
    }

    async fn lease_leases(&self, _: Request<pb::LeaseLeasesRequest>) -> Answer<pb::LeaseLeasesResponse> {
        linearize().await?;
        node::with(|node| {
            let leases = node.store().leases().map(|(id, _)| pb::LeaseStatus { id: id.0 }).collect();
            Ok(Response::new(pb::LeaseLeasesResponse {
                header: Some(node.header(node.store().revision())),
                leases,
            }))
        })
    }
}

async fn keep_alive(id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let (granted, remaining) = remaining(id, true).await?;
    // A lease that is not there is no error of this stream: its time is over, TTL 0.
    let ttl = if remaining < 0 { 0 } else { granted };
    Ok(pb::LeaseKeepAliveResponse { header: Some(header()), id, ttl })
}

/// Granted and remaining seconds by the primary's clock, confirmed; remaining is -1 if there is no such lease.
async fn remaining(id: i64, renew: bool) -> Result<(i64, i64), Status> {
    node::remaining(LeaseId(id), renew).await.map_err(|failure| match failure {
        Failure::Timeout => convert::status(StoreError::Timeout),
        _ => convert::status(StoreError::NoLeader),
    })
}
