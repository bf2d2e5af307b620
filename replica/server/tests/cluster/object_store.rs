//! An S3 server for replicas, which can be away, come back, and misbehave.

use std::net::SocketAddr;

use vr_checkpoint::s3_server::{Faults, Options, Server};
use vr_replica::config::{Raw, RawObjectStore, Span};

use super::{S3_KEYS, ports};

const BUCKET: &str = "checkpoints";
const SECOND: Span = Span(std::time::Duration::from_secs(1));

/// Its place; its objects survive that it is away.
pub(crate) struct ObjectStore {
    dir: tempfile::TempDir,
    address: SocketAddr,
    access_key: String,
    faults: Faults,
    server: Option<Server>,
}

impl ObjectStore {
    /// One that serves.
    pub(crate) async fn start() -> ObjectStore {
        ObjectStore::start_for(S3_KEYS.0).await
    }

    /// One that serves only this user.
    pub(crate) async fn start_for(access_key: &str) -> ObjectStore {
        let mut store = ObjectStore::away();
        store.access_key = access_key.to_owned();
        store.come().await;
        store
    }

    /// One that nobody reaches yet.
    pub(crate) fn away() -> ObjectStore {
        ObjectStore {
            dir: tempfile::tempdir().expect("a temporary directory"),
            address: ([127, 0, 0, 1], ports::free(1)[0]).into(),
            access_key: S3_KEYS.0.to_owned(),
            faults: Faults::default(),
            server: None,
        }
    }

    pub(crate) async fn come(&mut self) {
        let options = Options {
            access_key: self.access_key.clone(),
            secret_key: S3_KEYS.1.to_owned(),
            buckets: vec![BUCKET.to_owned()],
            faults: self.faults.clone(),
        };
        let server = Server::start(self.dir.path(), self.address, options).await;
        self.server = Some(server.expect("its directory and its port are free"));
    }

    /// Another user from now on; what is there stays.
    pub(crate) async fn serve_only(&mut self, access_key: &str) {
        self.go().await;
        self.access_key = access_key.to_owned();
        self.come().await;
    }

    pub(crate) async fn go(&mut self) {
        self.server.take().expect("it was there").stop().await;
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes it the third tier of a configuration, written each second.
    pub(crate) fn join(&self, raw: &mut Raw) {
        raw.tiers.get_or_insert_default().object_store = Some(RawObjectStore {
            endpoint: Some(self.endpoint()),
            bucket: Some(BUCKET.to_owned()),
            prefix: Some("tests".to_owned()),
            path_style: Some(true),
            checkpoint_interval: Some(SECOND),
            log_interval: Some(SECOND),
            ..RawObjectStore::default()
        });
    }
}
