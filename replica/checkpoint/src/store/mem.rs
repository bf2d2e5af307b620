//! A tier in memory, for the simulator and for tests: no clock, no threads, and it can be full.

use super::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects and a HEAD in memory.
#[derive(Debug, Default)]
pub struct MemStore(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, (Bytes, u64)>,
    head: Option<(u64, Bytes)>,
    /// The store's own clock: it goes on by one with each write.
    writes: u64,
    /// Bytes that may still be written; none for no limit.
    room: Option<u64>,
    usage: Usage,
}

impl MemStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// From now on only so many more bytes fit; `None` for as many as there are.
    pub fn limit(&self, room: Option<u64>) {
        self.inner().room = room;
    }

    /// Damages an object by flipping a bit of the byte at `at`; whether there is such a byte.
    pub fn corrupt(&self, key: &str, at: usize) -> bool {
        let mut inner = self.inner();
        let Some((body, _)) = inner.objects.get_mut(key) else { return false };
        let mut bytes = body.to_vec();
        let Some(byte) = bytes.get_mut(at) else { return false };
        *byte ^= 1;
        *body = bytes.into();
        true
    }

    /// Lets so many seconds pass by the store's own clock, of which every write is one.
    pub fn pass(&self, seconds: u64) {
        self.inner().writes += seconds;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_now(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let mut inner = self.inner();
        inner.usage.requests += 1;
        if inner.objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        inner.take_room(&format!("write {key}"), body.len())?;
        let at = inner.writes;
        inner.objects.insert(key.to_owned(), (body, at));
        Ok(Created::Yes)
    }

    fn read_now(&self, key: &str, range: Option<(u64, u64)>) -> Result<Option<Bytes>, StoreError> {
        let mut inner = self.inner();
        inner.usage.requests += 1;
        let Some((body, _)) = inner.objects.get(key).cloned() else { return Ok(None) };
        let body = match range {
            None => body,
            Some((offset, len)) => {
                let end = offset.saturating_add(len);
                if end > body.len() as u64 {
                    return Err(StoreError::Permanent {
                        store: "memory".to_owned(),
                        what: format!("read {key}"),
                        reason: "it is cut short".to_owned(),
                    });
                }
                body.slice(offset as usize..end as usize)
            }
        };
        inner.usage.read += body.len() as u64;
        Ok(Some(body))
    }

    fn swap_now(&self, expected: Option<&Tag>, body: Bytes) -> Result<Swapped, StoreError> {
        let mut inner = self.inner();
        inner.usage.requests += 1;
        let standing = inner.head.as_ref().map(|(version, _)| Tag(version.to_string()));
        match (&standing, expected) {
            (None, Some(_)) => return Ok(Swapped::Gone),
            (standing, expected) if standing.as_ref() != expected => return Ok(Swapped::Lost),
            _ => {}
        }
        inner.take_room("write HEAD", body.len())?;
        let version = inner.head.as_ref().map_or(1, |(version, _)| version + 1);
        inner.head = Some((version, body));
        Ok(Swapped::Yes)
    }
}

impl Inner {
    fn take_room(&mut self, what: &str, len: usize) -> Result<(), StoreError> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(len as u64).ok_or_else(|| StoreError::Transient {
                store: "memory".to_owned(),
                what: what.to_owned(),
                reason: "no room left".to_owned(),
            })?;
        }
        self.writes += 1;
        self.usage.written += len as u64;
        Ok(())
    }
}

impl ObjectStore for MemStore {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        async move { self.create_now(key, body) }.boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move { self.read_now(key, None) }.boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move { self.read_now(key, Some((offset, len))) }.boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        async move {
            let mut inner = self.inner();
            inner.usage.requests += 1;
            let from = inner.objects.range(prefix.to_owned()..);
            let below = from.take_while(|(key, _)| key.starts_with(prefix));
            Ok(below
                .map(|(key, (body, at))| Listed { key: key.clone(), size: body.len() as u64, modified: *at })
                .collect())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut inner = self.inner();
            inner.usage.requests += 1;
            inner.objects.remove(key);
            Ok(())
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        async move {
            let mut inner = self.inner();
            inner.usage.requests += 1;
            Ok(inner.head.as_ref().map(|(version, body)| (body.clone(), Tag(version.to_string()))))
        }
        .boxed()
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        async move { self.swap_now(expected, body) }.boxed()
    }

    fn usage(&self) -> Usage {
        self.inner().usage
    }
}
