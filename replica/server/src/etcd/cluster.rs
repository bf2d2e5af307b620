//! `etcdserverpb.Cluster`: who the members are. Changing them is not here yet and answers `Unimplemented`.

use super::{header, ids::peer_url, linearize};
use crate::node;
use tonic::{Request, Response, Status};
use vr_proto::etcdserverpb as pb;

pub(super) struct Cluster;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Cluster {
    async fn member_list(&self, request: Request<pb::MemberListRequest>) -> Answer<pb::MemberListResponse> {
        if request.into_inner().linearizable {
            linearize().await?;
        }
        let members = node::with(|node| {
            node.config
                .members
                .iter()
                .map(|m| pb::Member {
                    id: node.ids.member(m.id),
                    name: format!("replica-{}", m.id),
                    peer_ur_ls: vec![peer_url(&m.peer)],
                    client_ur_ls: vec![m.client.clone()],
                    is_learner: false,
                })
                .collect()
        });
        Ok(Response::new(pb::MemberListResponse { header: Some(header()), members }))
    }

    async fn member_add(&self, _: Request<pb::MemberAddRequest>) -> Answer<pb::MemberAddResponse> {
        Err(fixed())
    }
    async fn member_remove(&self, _: Request<pb::MemberRemoveRequest>) -> Answer<pb::MemberRemoveResponse> {
        Err(fixed())
    }
    async fn member_update(&self, _: Request<pb::MemberUpdateRequest>) -> Answer<pb::MemberUpdateResponse> {
        Err(fixed())
    }
    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::MemberPromoteResponse> {
        Err(fixed())
    }
}

fn fixed() -> Status {
    Status::unimplemented("the membership is fixed by the configuration of the replicas")
}
