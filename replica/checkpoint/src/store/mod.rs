//! What a tier is made of: objects that are created once, and one HEAD that is only ever compared and swapped.
//!
//! Every outcome that the format's promises rest on is a value of its own. In particular "it may have happened" is
//! never reported as failure or success: the caller reads back and compares.

mod dir;
pub mod fault;
pub mod files;
mod mem;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
pub(crate) mod tests;

pub use dir::DirStore;
pub use mem::MemStore;
#[cfg(feature = "s3")]
pub use s3::{S3Keys, S3Location, S3Store};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A tier's objects. Keys are relative to the lineage's root, with `/` between their parts.
pub trait ObjectStore: Send + Sync {
    /// What it is, for people: `directory /data/nvme`, `s3://bucket/prefix`.
    fn describe(&self) -> String;

    /// Creates an object that must not exist. Durable when it returns [`Created::Yes`].
    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Reads an object; `None` if there is none.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Reads `len` bytes from `offset`, exactly; `None` if there is no such object.
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// All objects whose key begins with `prefix`, in order of their keys.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>>;

    /// Deletes an object; one that does not exist is no error.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Puts an object in the place of one that is damaged or gone; for repairs only. [`Created::Exists`] if another one put
    /// something there meanwhile. Where nothing may be overwritten, as in a bucket, the damaged one is deleted first.
    fn replace<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            self.delete(key).await?;
            self.create(key, body).await
        })
    }

    /// The HEAD with the tag that a swap compares; `None` before the first. For whoever may write it is durable: nobody
    /// takes a swap of unknown outcome for done that a loss of power would undo.
    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>>;

    /// Replaces HEAD if it is still the one with `expected` (`None`: if there is none yet).
    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>>;

    /// Requests made and bytes written so far.
    fn usage(&self) -> Usage;
}

/// A store that several share, around which each may put something of its own.
impl<S: ObjectStore + ?Sized> ObjectStore for Arc<S> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn create<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        (**self).create(key, body)
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        (**self).get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        (**self).get_range(key, offset, len)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        (**self).list(prefix)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).delete(key)
    }

    fn replace<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        (**self).replace(key, body)
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        (**self).head()
    }

    fn swap_head<'a>(
        &'a self,
        expected: Option<&'a Tag>,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        (**self).swap_head(expected, body)
    }

    fn usage(&self) -> Usage {
        (**self).usage()
    }
}

/// An object's place in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written by the store's own clock, seconds since the Unix epoch.
    pub modified: u64,
}

/// Which HEAD was read; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(pub String);

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, durably, and it is ours.
    Yes,
    /// Something else stands there.
    Exists,
    /// Nobody knows (a timeout, 409, 5xx): read back and compare.
    Unknown,
}

/// What became of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// HEAD is ours, durably.
    Yes,
    /// HEAD was another one (412), or exists although none was expected.
    Lost,
    /// HEAD does not exist although one was expected (404).
    Gone,
    /// Nobody knows: read back and compare the nonce.
    Unknown,
}

/// What was used so far, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests (or file operations that a person would count).
    pub requests: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes read.
    pub read: u64,
}

/// Why a store could not be used. The text names the store, the object and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work later: unreachable, slow down, out of space.
    #[error("{store}: {what}: {reason}")]
    Transient {
        /// [`ObjectStore::describe`].
        store: String,
        /// What was attempted, on which object.
        what: String,
        /// What came back.
        reason: String,
    },
    /// It will not work until somebody changes something: no such bucket, no permission, conditions ignored.
    #[error("{store}: {what}: {reason}")]
    Permanent {
        /// [`ObjectStore::describe`].
        store: String,
        /// What was attempted, on which object.
        what: String,
        /// What came back and what to do.
        reason: String,
    },
}
