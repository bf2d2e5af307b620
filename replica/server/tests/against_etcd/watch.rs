//! Watch streams opened on both sides with the same requests, and what each watcher was told, compared.
//!
//! How events are spread over responses is timing. What must be the same is each watcher's own sequence: created,
//! events, canceled. What must hold on either side by itself: nothing before created, and all events of a revision in
//! one response (or in fragments of one).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use vr_proto::etcdserverpb as pb;
use vr_proto::etcdserverpb::watch_request::RequestUnion;
use vr_proto::mvccpb::Event;

use crate::client::Client;

/// How long a watcher may take to catch up before the test calls it stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// A manual progress request is answered only when every watcher is in sync; so it is repeated.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// One thing that a watcher was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Created { canceled: bool, reason: String },
    Event(Event),
    Canceled { compact_revision: i64, reason: String },
}

/// What each watcher was told, by watch id; -1 is where failed creations are told.
pub(crate) type Told = BTreeMap<i64, Vec<Item>>;

#[derive(Default)]
struct Inbox {
    responses: Mutex<Vec<pb::WatchResponse>>,
    ended: Mutex<Option<String>>,
    arrived: Notify,
}

/// One watch stream on one side.
pub(crate) struct Stream {
    name: &'static str,
    requests: mpsc::Sender<pb::WatchRequest>,
    inbox: Arc<Inbox>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    /// Opens a stream that asks for these, in order.
    pub(crate) async fn open(client: &Client, requests: &[RequestUnion]) -> Result<Stream, String> {
        let (sender, receiver) = mpsc::channel(64);
        for request in requests {
            let request = pb::WatchRequest { request_union: Some(request.clone()) };
            sender.send(request).await.expect("the receiver is held below");
        }
        let mut responses = client
            .watch(ReceiverStream::new(receiver))
            .await
            .map_err(|status| format!("{}: a watch stream was refused: {status}", client.name))?;
        let inbox = Arc::new(Inbox::default());
        let for_reader = Arc::clone(&inbox);
        let reader = tokio::spawn(async move {
            loop {
                match responses.message().await {
                    Ok(Some(response)) => {
                        for_reader.responses.lock().expect("no panic holds it").push(response);
                    }
                    Ok(None) => {
                        *for_reader.ended.lock().expect("no panic holds it") = Some("ended".to_owned())
                    }
                    Err(status) => {
                        *for_reader.ended.lock().expect("no panic holds it") = Some(status.to_string());
                    }
                }
                for_reader.arrived.notify_one();
                if for_reader.ended.lock().expect("no panic holds it").is_some() {
                    return;
                }
            }
        });
        Ok(Stream { name: client.name, requests: sender, inbox, reader })
    }

    /// Sends one more request.
    pub(crate) async fn send(&self, request: RequestUnion) -> Result<(), String> {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.map_err(|_| format!("{}: the watch stream is gone", self.name))
    }

    /// Waits until `enough` says so of everything received so far.
    pub(crate) async fn wait(
        &self,
        what: &str,
        enough: impl Fn(&[pb::WatchResponse]) -> bool,
    ) -> Result<(), String> {
        self.wait_asking(what, None, enough).await
    }

    async fn wait_asking(
        &self,
        what: &str,
        ask: Option<RequestUnion>,
        enough: impl Fn(&[pb::WatchResponse]) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if enough(&self.inbox.responses.lock().expect("no panic holds it")) {
                return Ok(());
            }
            if let Some(end) = &*self.inbox.ended.lock().expect("no panic holds it") {
                return Err(format!("{}: the watch stream ended before {what}: {end}", self.name));
            }
            if Instant::now() > deadline {
                let seen = self.inbox.responses.lock().expect("no panic holds it");
                return Err(format!("{}: no {what} in {PATIENCE:?}; received {seen:#?}", self.name));
            }
            if let Some(ask) = &ask {
                self.send(ask.clone()).await?;
            }
            let pause = if ask.is_some() { Instant::now() + ASK_AGAIN } else { deadline };
            // Whether something came or time is up: look again.
            let _ = timeout_at(pause, self.inbox.arrived.notified()).await;
        }
    }

    /// Waits until `created` creations are answered and every watcher has seen everything up to `revision`; then hands
    /// over what each was told since the last time. At least one watcher must be alive on the stream.
    pub(crate) async fn told_up_to(&self, created: usize, revision: i64) -> Result<Told, String> {
        self.wait("answer to every creation", |all| all.iter().filter(|r| r.created).count() >= created)
            .await?;
        let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        self.wait_asking(&format!("progress up to revision {revision}"), Some(progress), |all| {
            all.iter().any(|r| is_progress(r) && revision_of(r) >= revision)
        })
        .await?;
        let mut received = self.inbox.responses.lock().expect("no panic holds it");
        // Creations stay in the box: they are counted again the next time.
        let taken = std::mem::take(&mut *received);
        received.extend(taken.iter().filter(|r| r.created).map(|_| pb::WatchResponse {
            created: true,
            watch_id: HANDED_OVER,
            ..Default::default()
        }));
        told(&taken).map_err(|problem| format!("{}: {problem}", self.name))
    }

    /// Looks at everything received since the last time that something was handed over.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&[pb::WatchResponse]) -> T) -> T {
        at(&self.inbox.responses.lock().expect("no panic holds it"))
    }

    /// What each watcher was told so far.
    pub(crate) fn told(&self) -> Result<Told, String> {
        told(&self.inbox.responses.lock().expect("no panic holds it"))
            .map_err(|problem| format!("{}: {problem}", self.name))
    }
}

/// Marks a creation that was handed over already.
const HANDED_OVER: i64 = i64::MIN;

fn is_progress(response: &pb::WatchResponse) -> bool {
    response.watch_id == -1 && !response.created && !response.canceled && response.events.is_empty()
}

fn revision_of(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |h| h.revision)
}

fn told(responses: &[pb::WatchResponse]) -> Result<Told, String> {
    let mut told = Told::new();
    // Per watcher, the revision that its last response ended with, and whether that was a fragment to be continued.
    let mut ended_with: BTreeMap<i64, (i64, bool)> = BTreeMap::new();
    for response in responses.iter().filter(|r| r.watch_id != HANDED_OVER) {
        let items = told.entry(response.watch_id).or_default();
        if response.created {
            items.push(Item::Created { canceled: response.canceled, reason: response.cancel_reason.clone() });
            continue;
        }
        for (place, event) in response.events.iter().enumerate() {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let (last, continued) = ended_with.get(&response.watch_id).copied().unwrap_or_default();
            if revision < last || (revision == last && place == 0 && !continued) {
                return Err(format!("watcher {}: revision {revision} after {last}", response.watch_id));
            }
            if revision > revision_of(response) {
                return Err(format!(
                    "an event of revision {revision} under header {}",
                    revision_of(response)
                ));
            }
            ended_with.insert(response.watch_id, (revision, response.fragment));
            items.push(Item::Event(event.clone()));
        }
        if response.canceled {
            items.push(Item::Canceled {
                compact_revision: response.compact_revision,
                reason: response.cancel_reason.clone(),
            });
        }
    }
    told.retain(|_, items| !items.is_empty());
    Ok(told)
}

/// Where two sides were told different things. We always give a reason for a cancellation; etcd not always.
pub(crate) fn difference(reference: &Told, other: &Told) -> Option<String> {
    let ids: std::collections::BTreeSet<_> = reference.keys().chain(other.keys()).collect();
    for id in ids {
        let empty = Vec::new();
        let (theirs, ours) = (reference.get(id).unwrap_or(&empty), other.get(id).unwrap_or(&empty));
        for place in 0..theirs.len().max(ours.len()) {
            let (their, our) = (theirs.get(place), ours.get(place));
            if !same(their, our) {
                return Some(format!(
                    "watcher {id}, item {place} (of {} and {}):\n  etcd:  {their:?}\n  other: {our:?}",
                    theirs.len(),
                    ours.len(),
                ));
            }
        }
    }
    None
}

fn same(reference: Option<&Item>, other: Option<&Item>) -> bool {
    match (reference, other) {
        (
            Some(Item::Canceled { compact_revision: theirs, reason }),
            Some(Item::Canceled { compact_revision: ours, .. }),
        ) if reason.is_empty() => theirs == ours,
        (reference, other) => reference == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(watch_id: i64, fragment: bool, revisions: &[i64]) -> pb::WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(vr_proto::mvccpb::KeyValue { mod_revision, ..Default::default() }),
            ..Default::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: 100, ..Default::default() }),
            watch_id,
            fragment,
            events: revisions.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn spread_over_responses_is_the_same() {
        let apart = told(&[events(0, false, &[2]), events(0, false, &[3, 3])]).expect("in order");
        let at_once = told(&[events(0, false, &[2, 3, 3])]).expect("in order");
        assert_eq!(difference(&apart, &at_once), None);
    }

    #[test]
    fn a_revision_in_two_responses_is_found_unless_they_are_fragments() {
        assert!(told(&[events(0, false, &[2]), events(0, false, &[2])]).is_err());
        assert!(told(&[events(0, true, &[2]), events(0, false, &[2])]).is_ok());
        assert!(told(&[events(0, false, &[3]), events(0, false, &[2])]).is_err());
    }

    #[test]
    fn a_missing_event_is_found() {
        let all = told(&[events(0, false, &[2, 3])]).expect("in order");
        let fewer = told(&[events(0, false, &[2])]).expect("in order");
        assert!(difference(&all, &fewer).is_some());
        assert!(difference(&fewer, &all).is_some());
    }
}
