//! `etcdserverpb.KV`: reads after a confirmed round, writes through the log.

use super::{convert, execute, failed, propose, read, shape};
use tonic::{Request, Response, Status};
use vr_proto::etcdserverpb as pb;
use vr_store::{Command, Revision};

/// Operations of one transaction: etcd's default.
pub(super) const MAX_TXN_OPS: usize = 128;

pub(crate) struct Kv;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::kv_server::Kv for Kv {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Answer<pb::RangeResponse> {
        let found = read::range(request.get_ref()).await.map_err(failed)?;
        found.map(Response::new).map_err(convert::status)
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        let request = request.into_inner();
        let mut body = Vec::new();
        vr_store::encode_put(&mut body, &convert::put(&request));
        drop(request);
        let (header, body) = propose(body).await?;
        Ok(Response::new(convert::put_response(header, &body)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Answer<pb::DeleteRangeResponse> {
        let request = request.into_inner();
        let (header, body) = execute(&Command::DeleteRange(convert::delete(&request))).await?;
        Ok(Response::new(convert::delete_response(header, &body)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Answer<pb::TxnResponse> {
        let request = request.into_inner();
        let txn = convert::txn(&request)
            .map_err(|error| convert::status(shape::fault(&request, MAX_TXN_OPS).unwrap_or(error)))?;
        if txn.is_read_only() {
            let found = read::txn(&request, &txn).await.map_err(failed)?;
            return found.map(Response::new).map_err(convert::status);
        }
        let (header, body) = execute(&Command::Txn(txn)).await?;
        Ok(Response::new(convert::txn_response(header, &body)))
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Answer<pb::CompactionResponse> {
        // Removal is incremental and never visible, so a physical compaction is done when it is executed.
        let revision = Revision(request.into_inner().revision);
        let (header, _) = execute(&Command::Compact { revision }).await?;
        Ok(Response::new(pb::CompactionResponse { header: Some(header) }))
    }
}
