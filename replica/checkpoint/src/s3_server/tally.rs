//! What a server was asked for, as a provider would count it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests and bytes so far. Failed ones count: they are paid for as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// PUT and POST.
    pub writes: u64,
    /// Listings, which cost as much as a write.
    pub lists: u64,
    /// GET and HEAD of objects.
    pub reads: u64,
    /// DELETE, which costs nothing.
    pub deletes: u64,
    /// Bytes of bodies that came, with what their framing adds.
    pub received: u64,
}

impl Tally {
    /// What has come since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Tally) -> Tally {
        Tally {
            writes: self.writes - earlier.writes,
            lists: self.lists - earlier.lists,
            reads: self.reads - earlier.reads,
            deletes: self.deletes - earlier.deletes,
            received: self.received - earlier.received,
        }
    }
}

/// A tally as it grows.
#[derive(Debug, Default)]
pub(super) struct Counters {
    writes: AtomicU64,
    lists: AtomicU64,
    reads: AtomicU64,
    deletes: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(super) fn note<B>(&self, request: &hyper::Request<B>) {
        let lists = request.uri().query().is_some_and(|query| query.contains("list-type"));
        let counter = match *request.method() {
            hyper::Method::PUT | hyper::Method::POST => &self.writes,
            hyper::Method::DELETE => &self.deletes,
            _ if lists => &self.lists,
            _ => &self.reads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let length = request.headers().get(hyper::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        self.received.fetch_add(length.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            writes: read(&self.writes),
            lists: read(&self.lists),
            reads: read(&self.reads),
            deletes: read(&self.deletes),
            received: read(&self.received),
        }
    }
}
