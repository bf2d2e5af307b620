//! Short forms of etcd's requests.

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Response, Status};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::kv_client::KvClient;
use vr_proto::mvccpb;

/// Above what a watch delivers at once in these tests.
const MOST: usize = 64 << 20;

pub(crate) fn kv(channel: &Channel) -> KvClient<Channel> {
    KvClient::new(channel.clone())
}

pub(crate) async fn put(
    channel: &Channel,
    key: impl Into<Bytes>,
    value: impl Into<Bytes>,
) -> Result<i64, Status> {
    let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    kv(channel).put(request).await.map(|answer| revision(answer.into_inner().header))
}

pub(crate) async fn get(
    channel: &Channel,
    key: impl Into<Bytes>,
) -> Result<Option<mvccpb::KeyValue>, Status> {
    let request = pb::RangeRequest { key: key.into(), ..Default::default() };
    Ok(kv(channel).range(request).await?.into_inner().kvs.into_iter().next())
}

pub(crate) fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// One part of a transaction that writes.
pub(crate) fn put_op(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

/// Every key from `revision` on.
pub(crate) fn everything(start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision,
        ..Default::default()
    }
}

/// A watch; its stream of requests stays open for as long as this lives.
pub(crate) struct Watching {
    responses: tonic::Streaming<pb::WatchResponse>,
    _requests: tokio::sync::mpsc::Sender<pb::WatchRequest>,
}

impl Watching {
    pub(crate) async fn open(
        channel: &Channel,
        create: pb::WatchCreateRequest,
        hasleader: bool,
    ) -> Result<Watching, Status> {
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let create =
            pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        sender.try_send(create).expect("there is room for one");
        let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
        if hasleader {
            request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        }
        let mut client = pb::watch_client::WatchClient::new(channel.clone()).max_decoding_message_size(MOST);
        let responses = client.watch(request).await.map(Response::into_inner)?;
        Ok(Watching { responses, _requests: sender })
    }

    pub(crate) async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        self.responses.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
    }
}
