//! `etcdserverpb.Cluster`: who the members are, and changing that.

use super::{header, linearize, members};
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
        Ok(Response::new(pb::MemberListResponse { header: Some(header()), members: members::list() }))
    }

    /// As a learner, whatever the caller asks; who is asked to vote does so once it is in sync.
    async fn member_add(&self, request: Request<pb::MemberAddRequest>) -> Answer<pb::MemberAddResponse> {
        let request = request.into_inner();
        let (added, members) = members::add(&request.peer_ur_ls, !request.is_learner).await?;
        Ok(Response::new(pb::MemberAddResponse { header: Some(header()), member: Some(added), members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Answer<pb::MemberRemoveResponse> {
        let members = members::remove(request.into_inner().id).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(header()), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Answer<pb::MemberUpdateResponse> {
        let request = request.into_inner();
        let members = members::update(request.id, &request.peer_ur_ls).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(header()), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::MemberPromoteResponse> {
        let members = members::promote(request.into_inner().id).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(header()), members }))
    }
}
