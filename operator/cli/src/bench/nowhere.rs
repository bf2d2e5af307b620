//! A tier that takes packs and keeps none of them: what is left is the work of making them.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use vr_checkpoint::store::{Created, Listed, MemStore, ObjectStore, StoreError, Swapped, Tag, Usage};

/// Everything but packs is kept in memory: a writer reads it again.
#[derive(Debug, Default)]
pub(super) struct Nowhere(MemStore);

impl ObjectStore for Nowhere {
    fn describe(&self) -> String {
        "nowhere".to_owned()
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        if key.ends_with(".pk") {
            return ready(Ok(Created::Yes)).boxed();
        }
        self.0.create(key, body)
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.0.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.0.get_range(key, offset, len)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.0.list(prefix)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.delete(key)
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        self.0.head()
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        self.0.swap_head(expected, body)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}
