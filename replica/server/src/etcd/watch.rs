//! `etcdserverpb.Watch`: the RPC of a stream. Who is told what stands in `watches.rs`.

use super::watches::{PROGRESS_INTERVAL, StreamId};
use super::{convert, size};
use crate::node;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_request::RequestUnion;
use vr_store::{StoreError, Watch as Wanted};

/// Responses that may wait for a client; beyond, its watches are parked and brought up to date as it reads.
const QUEUE: usize = 128;
/// Changes read from history at a time.
const CATCH_UP: usize = 1000;

pub(super) struct Watch;

#[tonic::async_trait]
impl pb::watch_server::Watch for Watch {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let needs_primary = request.metadata().get("hasleader").is_some_and(|v| v == "true");
        super::has_memory()?;
        if needs_primary && node::with(|node| node.leaderless()) {
            return Err(convert::status(StoreError::NoLeader));
        }
        let (queue, responses) = mpsc::channel(QUEUE);
        let (stream, parked) = node::with(|node| node.watches.open(queue.clone(), needs_primary));
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
            let mut more = true;
            loop {
                tokio::select! {
                    // The client's half may end long before it stops listening.
                    message = requests.message(), if more => match message {
                        Ok(Some(message)) => {
                            if handle(stream, &queue, message).await.is_none() {
                                break;
                            }
                        }
                        Err(error) if let Some(refused) = size::exhausted(&error) => {
                            let _ = queue.send(Err(refused)).await;
                            break;
                        }
                        _ => more = false,
                    },
                    () = parked.notified() => {
                        if catch_up(stream, &queue).await.is_none() {
                            break;
                        }
                    }
                    _ = progress.tick() => {
                        node::try_with(|node| node.notify_progress(stream));
                    }
                    () = queue.closed() => break,
                }
            }
            node::try_with(|node| node.watches.close(stream));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

type Queue = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Carries out a request; `None` once nobody listens any more.
async fn handle(stream: StreamId, queue: &Queue, message: pb::WatchRequest) -> Option<()> {
    // The place for the answer first: what it says must be true at the moment it is queued.
    let place = queue.reserve().await.ok()?;
    // etcd passes over a request of a kind that it does not know.
    let Some(request) = message.request_union else { return Some(()) };
    match request {
        RequestUnion::CreateRequest(create) => {
            let response = node::try_with(|node| node.create_watch(stream, create))?;
            place.send(Ok(response));
        }
        RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }) => {
            if let Some(response) = node::try_with(|node| node.cancel_watch(stream, watch_id))? {
                place.send(Ok(response));
            }
        }
        RequestUnion::ProgressRequest(_) => {
            if let Some(response) = node::try_with(|node| node.progress(stream))? {
                place.send(Ok(response));
            }
        }
    }
    Some(())
}

/// Brings the parked watches of a stream up to date, as fast as its client reads.
async fn catch_up(stream: StreamId, queue: &Queue) -> Option<()> {
    while let Some((watcher, next)) = node::try_with(|node| node.watches.next_parked(stream))? {
        let place = queue.reserve().await.ok()?;
        if node::try_with(|node| node.resume_if_current(watcher, next))? {
            continue;
        }
        let Some((wanted, view)) =
            node::try_with(|node| Some((node.watches.wanted(watcher)?, node.store().view())))?
        else {
            continue;
        };
        let read = move |wanted: &Wanted| view.history_since(wanted, next, CATCH_UP);
        let past = if wanted.end.is_empty() {
            read(&wanted)
        } else {
            // A wide range is read on another thread: this one serves.
            tokio::task::spawn_blocking(move || read(&wanted)).await.ok()?
        };
        let mut responses = node::try_with(|node| node.told_past(stream, watcher, past))?.into_iter();
        if let Some(first) = responses.next() {
            place.send(Ok(first));
        }
        // While it is parked nothing else is queued for this watch: its fragments stay together.
        for fragment in responses {
            queue.send(Ok(fragment)).await.ok()?;
        }
    }
    let place = queue.reserve().await.ok()?;
    if let Some(response) = node::try_with(|node| node.deferred_progress(stream))? {
        place.send(Ok(response));
    }
    Some(())
}
