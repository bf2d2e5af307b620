//! The watches of this replica's clients: which stream has which, and what is queued for it.
//!
//! A watch is *synced* while every event of its keys goes straight into its stream's queue; when the queue is full, or
//! when it begins in the past, it is *parked* at a revision, and its stream brings it up to date from history. Nobody
//! is dropped, and nobody waits for a slow one. An event is converted once, whoever watches it.

use crate::etcd::convert;
use crate::node::Node;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tonic::Status;
use vr_proto::etcdserverpb as pb;
use vr_proto::mvccpb;
use vr_store::{
    CatchUp, Compacted, Delivery, Event, EventKind, Revision, StoreError, Watch, WatchSet, WatcherId,
};

/// How often an idle watch that asked for it hears where the store is: etcd's.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// A response above this is sent in fragments to a client that asked for them.
const FRAGMENT_BYTES: usize = 1536 * 1024;
/// What etcd names as the watch id of a creation that failed, and of a manual progress answer.
const NO_WATCH: i64 = -1;

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamId(u64);

type Queue = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// All of them.
#[derive(Default)]
pub struct Watches {
    set: WatchSet,
    watchers: HashMap<WatcherId, Watcher>,
    streams: HashMap<StreamId, Stream>,
    last_stream: u64,
    /// Everything up to here has been queued for the synced ones.
    told: Revision,
}

struct Watcher {
    stream: StreamId,
    watch_id: i64,
    fragment: bool,
    progress: bool,
    /// It wants nothing before this revision.
    start: Revision,
}

struct Stream {
    queue: Queue,
    needs_primary: bool,
    watches: BTreeMap<i64, WatcherId>,
    last_watch_id: i64,
    /// Where each parked watch goes on.
    parked: BTreeMap<WatcherId, Revision>,
    rings: Arc<Notify>,
    progress_asked: bool,
}

impl Watches {
    /// A stream without watches yet, and the bell that rings when one of them was parked.
    pub(super) fn open(&mut self, queue: Queue, needs_primary: bool) -> (StreamId, Arc<Notify>) {
        self.last_stream += 1;
        let (id, rings) = (StreamId(self.last_stream), Arc::new(Notify::new()));
        let stream = Stream {
            queue,
            needs_primary,
            watches: BTreeMap::new(),
            last_watch_id: -1,
            parked: BTreeMap::new(),
            rings: rings.clone(),
            progress_asked: false,
        };
        self.streams.insert(id, stream);
        (id, rings)
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        for watcher in self.streams.remove(&stream).into_iter().flat_map(|s| s.watches.into_values()) {
            self.set.cancel(watcher);
            self.watchers.remove(&watcher);
        }
    }

    /// Number of watches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub(super) fn wanted(&self, watcher: WatcherId) -> Option<Watch> {
        self.set.watch(watcher).cloned()
    }

    pub(super) fn next_parked(&self, stream: StreamId) -> Option<(WatcherId, Revision)> {
        self.streams.get(&stream)?.parked.first_key_value().map(|(watcher, next)| (*watcher, *next))
    }

    fn park(&mut self, watcher: WatcherId, next: Revision) {
        self.set.park(watcher);
        let of = self.watchers.get(&watcher).expect("only watches of a stream are parked").stream;
        let stream = self.streams.get_mut(&of).expect("a watch goes with its stream");
        stream.parked.insert(watcher, next);
        stream.rings.notify_one();
    }

    /// The state was replaced: what the synced ones missed they get from its history.
    pub fn start_over(&mut self) {
        let next = self.told.next();
        let synced: Vec<(WatcherId, Revision)> = self
            .watchers
            .iter()
            .filter(|(id, _)| self.set.is_parked(**id) == Some(false))
            .map(|(id, watcher)| (*id, next.max(watcher.start)))
            .collect();
        synced.into_iter().for_each(|(watcher, next)| self.park(watcher, next));
    }

    /// Ends the streams whose clients want to hear of a missing primary.
    pub fn primary_is_missing(&mut self) {
        let ended: Vec<StreamId> =
            self.streams.iter().filter(|(_, s)| s.needs_primary).map(|(id, _)| *id).collect();
        for id in ended {
            if let Some(stream) = self.streams.get(&id) {
                let _ = stream.queue.try_send(Err(convert::status(StoreError::NoLeader)));
            }
            self.close(id);
        }
    }

    /// Queues what has just been executed for everyone who watches it; the number of responses. `header` carries the
    /// revision after the last of the events.
    pub fn deliver(&mut self, events: &[Event], header: &pb::ResponseHeader) -> u64 {
        self.told = Revision(header.revision);
        let deliveries = self.set.deliver(events);
        if deliveries.is_empty() {
            return 0;
        }
        let mut plain: Vec<Option<mvccpb::Event>> = vec![None; events.len()];
        let mut with_prev: Vec<Option<mvccpb::Event>> = vec![None; events.len()];
        let mut queued = 0;
        for Delivery { watcher, events: places } in deliveries {
            let Some(to) = self.watchers.get(&watcher) else { continue };
            let prev_kv = self.set.watch(watcher).is_some_and(|w| w.prev_kv);
            let cache = if prev_kv { &mut with_prev } else { &mut plain };
            let told = places
                .iter()
                .map(|place| {
                    let place = *place as usize;
                    cache[place].get_or_insert_with(|| event(&events[place], prev_kv)).clone()
                })
                .collect();
            let first = events[places[0] as usize].revision();
            if self.queue(to, told, header) {
                queued += 1;
            } else {
                self.park(watcher, first);
            }
        }
        queued
    }

    /// Queues events for one watch, in fragments if it asked for them; `false` if there is no room for all.
    fn queue(&self, to: &Watcher, events: Vec<mvccpb::Event>, header: &pb::ResponseHeader) -> bool {
        let Some(stream) = self.streams.get(&to.stream) else { return true };
        let responses = fragments(to, events, header);
        let Ok(mut places) = stream.queue.try_reserve_many(responses.len()) else { return false };
        for response in responses {
            places.next().expect("as many as were reserved").send(Ok(response));
        }
        true
    }
}

/// One response, or several where the client takes fragments and it is large.
fn fragments(
    to: &Watcher,
    events: Vec<mvccpb::Event>,
    header: &pb::ResponseHeader,
) -> Vec<pb::WatchResponse> {
    let response = |events, fragment| pb::WatchResponse {
        header: Some(*header),
        watch_id: to.watch_id,
        events,
        fragment,
        ..Default::default()
    };
    if !to.fragment {
        return vec![response(events, false)];
    }
    let mut parts: Vec<Vec<mvccpb::Event>> = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let len = event.encoded_len() + 8;
        if bytes > 0 && bytes + len > FRAGMENT_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        parts.last_mut().expect("never empty").push(event);
    }
    let last = parts.len() - 1;
    parts.into_iter().enumerate().map(|(i, events)| response(events, i < last)).collect()
}

fn event(event: &Event, prev_kv: bool) -> mvccpb::Event {
    mvccpb::Event {
        r#type: match event.kind {
            EventKind::Put => mvccpb::event::EventType::Put as i32,
            EventKind::Delete => mvccpb::event::EventType::Delete as i32,
        },
        kv: Some(convert::key_value(&event.kv)),
        prev_kv: if prev_kv { event.prev.as_ref().map(convert::key_value) } else { None },
    }
}

impl Node {
    /// Adds a watch to a stream and says so; it begins parked where it begins in the past.
    pub(super) fn create_watch(
        &mut self,
        stream: StreamId,
        create: pb::WatchCreateRequest,
    ) -> pb::WatchResponse {
        let current = self.store().revision();
        let header = self.header(current);
        let refused = |reason: &str| pb::WatchResponse {
            header: Some(header),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        if create.start_revision < 0 {
            return refused(StoreError::Compacted.text());
        }
        // An empty key means from the first key on, and one zero byte as the end means to the last.
        let key = if create.key.is_empty() { vec![0] } else { create.key.to_vec() };
        if !create.range_end.is_empty() && create.range_end[..] != [0] && key[..] >= create.range_end[..] {
            return refused("mvcc: watcher range is empty");
        }
        let Some(of) = self.watches.streams.get_mut(&stream) else { return refused("the stream is closing") };
        let watch_id = if create.watch_id == 0 {
            loop {
                of.last_watch_id += 1;
                if !of.watches.contains_key(&of.last_watch_id) {
                    break of.last_watch_id;
                }
            }
        } else if of.watches.contains_key(&create.watch_id) {
            return refused("mvcc: duplicate watch ID provided on the WatchStream");
        } else {
            create.watch_id
        };
        use pb::watch_create_request::FilterType;
        let filters = |kind: FilterType| create.filters.contains(&(kind as i32));
        let watcher = self.watches.set.add(Watch {
            key: key.into(),
            end: create.range_end.to_vec().into(),
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            prev_kv: create.prev_kv,
        });
        let start = if create.start_revision == 0 { current.next() } else { Revision(create.start_revision) };
        of.watches.insert(watch_id, watcher);
        let (fragment, progress) = (create.fragment, create.progress_notify);
        self.watches.watchers.insert(watcher, Watcher { stream, watch_id, fragment, progress, start });
        if start > current {
            self.watches.set.resume(watcher, start);
        } else {
            self.watches.park(watcher, start);
        }
        pb::WatchResponse { header: Some(header), watch_id, created: true, ..Default::default() }
    }

    /// Ends a watch and says so; nothing if there is no such watch.
    pub(super) fn cancel_watch(&mut self, stream: StreamId, watch_id: i64) -> Option<pb::WatchResponse> {
        let header = self.header(self.store().revision());
        self.watches.forget(stream, watch_id)?;
        let reason = "the client canceled the watch".to_owned();
        Some(pb::WatchResponse {
            header: Some(header),
            watch_id,
            canceled: true,
            cancel_reason: reason,
            ..Default::default()
        })
    }

    /// Where the stream is, if every watch of it is synced; otherwise it will be said when they are.
    pub(super) fn progress(&mut self, stream: StreamId) -> Option<pb::WatchResponse> {
        let header = self.header(self.store().revision());
        let stream = self.watches.streams.get_mut(&stream)?;
        stream.progress_asked = !stream.parked.is_empty();
        (!stream.progress_asked).then(|| pb::WatchResponse {
            header: Some(header),
            watch_id: NO_WATCH,
            ..Default::default()
        })
    }

    /// The progress that was asked for while a watch was parked.
    pub(super) fn deferred_progress(&mut self, stream: StreamId) -> Option<pb::WatchResponse> {
        self.watches.streams.get(&stream)?.progress_asked.then(|| self.progress(stream))?
    }

    /// Tells each synced watch that asked for it where the store is; a client that does not read misses it.
    pub(super) fn notify_progress(&mut self, stream: StreamId) {
        let header = self.header(self.store().revision());
        let Some(of) = self.watches.streams.get(&stream) else { return };
        for (watch_id, watcher) in &of.watches {
            let asked = self.watches.watchers.get(watcher).is_some_and(|w| w.progress);
            if asked && !of.parked.contains_key(watcher) {
                let response =
                    pb::WatchResponse { header: Some(header), watch_id: *watch_id, ..Default::default() };
                let _ = of.queue.try_send(Ok(response));
            }
        }
    }

    /// Begins direct deliveries to a parked watch that has missed nothing more.
    pub(super) fn resume_if_current(&mut self, watcher: WatcherId, next: Revision) -> bool {
        if next <= self.store().revision() {
            return false;
        }
        self.watches.unpark(watcher);
        self.watches.set.resume(watcher, next)
    }

    /// What a piece of the past says to a parked watch: events (in fragments, if it asked for them), or its end.
    pub(super) fn told_past(
        &mut self,
        stream: StreamId,
        watcher: WatcherId,
        past: Result<CatchUp, Compacted>,
    ) -> Vec<pb::WatchResponse> {
        let header = self.header(self.store().revision());
        let Some(to) = self.watches.watchers.get(&watcher) else { return Vec::new() };
        let watch_id = to.watch_id;
        match past {
            Ok(CatchUp { events, next, .. }) => {
                let prev_kv = self.watches.set.watch(watcher).is_some_and(|w| w.prev_kv);
                let Some(of) = self.watches.streams.get_mut(&stream) else { return Vec::new() };
                of.parked.insert(watcher, next);
                let events: Vec<mvccpb::Event> = events.iter().map(|e| event(e, prev_kv)).collect();
                if events.is_empty() { Vec::new() } else { fragments(to, events, &header) }
            }
            Err(Compacted { compacted }) => {
                self.watches.forget(stream, watch_id);
                vec![pb::WatchResponse {
                    header: Some(header),
                    watch_id,
                    canceled: true,
                    compact_revision: compacted.0,
                    cancel_reason: StoreError::Compacted.text().to_owned(),
                    ..Default::default()
                }]
            }
        }
    }
}

impl Watches {
    fn unpark(&mut self, watcher: WatcherId) {
        if let Some(stream) = self.watchers.get(&watcher).and_then(|w| self.streams.get_mut(&w.stream)) {
            stream.parked.remove(&watcher);
        }
    }

    fn forget(&mut self, stream: StreamId, watch_id: i64) -> Option<()> {
        let watcher = self.streams.get_mut(&stream)?.watches.remove(&watch_id)?;
        self.unpark(watcher);
        self.watchers.remove(&watcher);
        self.set.cancel(watcher);
        Some(())
    }
}
