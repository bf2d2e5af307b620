//! The disks of other replicas, to read from: what has rotted on a disk here may be whole on one of theirs.
//!
//! Whoever asks runs on the tiers' thread and sees an [`ObjectStore`] to which nothing can be written; the question goes over
//! the peers' connections, one bounded piece at a time, and is answered on a thread that may wait for a disk. A peer that
//! does not answer once is not asked again in the same repair. Nothing is believed here: frames, segments and manifests are
//! checked by whoever repairs.

use super::tiers::{tier_kind, tier_name};
use super::{try_with, with};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use vr_checkpoint::chain::Others;
use vr_checkpoint::restore::{Source, TierKind};
use vr_checkpoint::store::{Created, Listed, ObjectStore, StoreError, Swapped, Tag, Usage};
use vr_core::ReplicaId;
use vr_proto::control as pb;
use vr_proto::control::disk_read_request::What;
use vr_proto::control::forwarded::Call;
use vr_proto::control::forwarded_answer::Answer;

/// The longest piece of one answer: it holds up a heartbeat by less than a millisecond.
const PIECE: u64 = 128 << 10;
/// Objects of a listing in one answer.
const LISTED: usize = 500;
/// After so long a peer is taken not to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions on their way to the protocol's thread; each tier has one at a time.
const ASKS: usize = 16;
/// Where others may have what is missing here; the object store is the same for all.
const KINDS: [TierKind; 2] = [TierKind::Nvme, TierKind::Volume];

/// The disks of those that this replica is connected to.
pub struct PeerDisks(mpsc::Sender<Ask>);

/// Something that only the protocol's thread knows or can do.
pub enum Ask {
    /// Who is there?
    Peers(oneshot::Sender<Vec<ReplicaId>>),
    /// A question to one of them. Without an answer the sender is dropped.
    Read(ReplicaId, pb::DiskReadRequest, oneshot::Sender<pb::DiskRead>),
}

impl PeerDisks {
    /// And the questions that [`carry`] has to put.
    #[must_use]
    pub fn new() -> (PeerDisks, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(ASKS);
        (PeerDisks(sender), asks)
    }
}

impl Others for PeerDisks {
    fn disks(&self) -> BoxFuture<'_, Vec<Source>> {
        async move {
            let (tell, told) = oneshot::channel();
            let _ = self.0.send(Ask::Peers(tell)).await;
            let mut sources = Vec::new();
            for peer in told.await.unwrap_or_default() {
                let silent = Arc::new(AtomicBool::new(false));
                for tier in KINDS {
                    let (asks, silent) = (self.0.clone(), Arc::clone(&silent));
                    let disk = PeerDisk { peer, tier, asks, silent, requests: AtomicU64::new(0) };
                    sources.push(Source { name: disk.describe(), tier, store: Arc::new(disk) });
                }
            }
            sources
        }
        .boxed()
    }
}

/// Puts questions to peers, on the protocol's thread.
pub(crate) async fn carry(mut asks: mpsc::Receiver<Ask>) {
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Peers(tell) => {
                let _ = tell.send(try_with(|node| node.peer_ids()).unwrap_or_default());
            }
            Ask::Read(peer, request, answer) => {
                let Some(answered) = try_with(|node| node.ask(peer, Call::DiskRead(request))) else { return };
                tokio::task::spawn_local(async move {
                    if let Ok(Ok(Answer::DiskRead(read))) = tokio::time::timeout(PATIENCE, answered).await {
                        let _ = answer.send(read);
                    }
                });
            }
        }
    }
}

/// What stands on a disk of this replica, for a peer.
pub(crate) async fn answer(request: pb::DiskReadRequest) -> pb::DiskRead {
    let kind = tier_kind(&request.tier).filter(|kind| KINDS.contains(kind));
    match kind.and_then(|kind| with(|node| node.tiering().store(kind))) {
        Some(store) => read(&*store, request.what).await,
        None => pb::DiskRead::default(),
    }
}

async fn read(store: &dyn ObjectStore, what: Option<What>) -> pb::DiskRead {
    let found = |bytes| pb::DiskRead { there: true, bytes, ..pb::DiskRead::default() };
    let problem = |problem: String| pb::DiskRead { problem, ..pb::DiskRead::default() };
    let read = match what {
        Some(What::Head(pb::DiskHead {})) => {
            store.head().await.map(|head| head.map(|(bytes, _)| found(bytes)))
        }
        Some(What::Piece(pb::DiskPiece { length, .. })) if u64::from(length) > PIECE => {
            return problem(format!("a piece has {PIECE} bytes at most"));
        }
        Some(What::Piece(pb::DiskPiece { key, offset, length })) => {
            store.get_range(&key, offset, length.into()).await.map(|piece| piece.map(found))
        }
        Some(What::Listing(pb::DiskListing { prefix, after })) => store.list(&prefix).await.map(|listed| {
            let behind = listed.into_iter().filter(|object| object.key > after).take(LISTED);
            let object = |Listed { key, size, modified }| pb::DiskObject { key, size, modified };
            Some(pb::DiskRead {
                there: true,
                objects: behind.map(object).collect(),
                ..pb::DiskRead::default()
            })
        }),
        None => return problem("the question is of another version".to_owned()),
    };
    read.unwrap_or_else(|error| Some(problem(error.to_string()))).unwrap_or_default()
}

/// One disk of one peer.
struct PeerDisk {
    peer: ReplicaId,
    tier: TierKind,
    asks: mpsc::Sender<Ask>,
    /// It has not answered: shared by all its disks.
    silent: Arc<AtomicBool>,
    requests: AtomicU64,
}

impl PeerDisk {
    async fn ask(&self, what: What) -> Result<Option<pb::DiskRead>, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let transient = |reason: String| StoreError::Transient {
            store: self.describe(),
            what: "read".to_owned(),
            reason,
        };
        let silent = || transient("it does not answer: nothing is had from it now".to_owned());
        if self.silent.load(Ordering::Relaxed) {
            return Err(silent());
        }
        let request = pb::DiskReadRequest { tier: tier_name(self.tier).to_owned(), what: Some(what) };
        let (sender, answer) = oneshot::channel();
        let _ = self.asks.send(Ask::Read(self.peer, request, sender)).await;
        let Ok(read) = answer.await else {
            self.silent.store(true, Ordering::Relaxed);
            return Err(silent());
        };
        if !read.problem.is_empty() {
            return Err(transient(read.problem));
        }
        Ok(Some(read).filter(|read| read.there))
    }

    async fn listing(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let after = all.last().map_or_else(String::new, |last| last.key.clone());
            let read = self.ask(What::Listing(pb::DiskListing { prefix: prefix.to_owned(), after })).await?;
            let objects = read.map(|read| read.objects).unwrap_or_default();
            // It must go on, whatever a peer says.
            let before = all.len();
            for pb::DiskObject { key, size, modified } in objects {
                if all.last().is_none_or(|last| last.key < key) {
                    all.push(Listed { key, size, modified });
                }
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }

    async fn range(&self, key: &str, offset: u64, len: u64) -> Result<Option<Bytes>, StoreError> {
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < len {
            let (offset, left) = (offset + bytes.len() as u64, len - bytes.len() as u64);
            let length = u32::try_from(left.min(PIECE)).expect("at most a piece");
            let piece = pb::DiskPiece { key: key.to_owned(), offset, length };
            let Some(read) = self.ask(What::Piece(piece)).await? else { return Ok(None) };
            if read.bytes.len() as u64 != u64::from(length) {
                return Err(StoreError::Permanent {
                    store: self.describe(),
                    what: format!("read {key}"),
                    reason: format!("{} bytes came instead of {length}", read.bytes.len()),
                });
            }
            bytes.extend_from_slice(&read.bytes);
        }
        Ok(Some(bytes.freeze()))
    }

    fn read_only<T: Send + 'static>(&self, what: String) -> BoxFuture<'_, Result<T, StoreError>> {
        let reason = "it belongs to another replica, which alone writes there".to_owned();
        std::future::ready(Err(StoreError::Permanent { store: self.describe(), what, reason })).boxed()
    }
}

impl ObjectStore for PeerDisk {
    fn describe(&self) -> String {
        format!("{} of replica {}", tier_name(self.tier), self.peer)
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move {
            let listed = self.listing(key).await?;
            match listed.into_iter().find(|object| object.key == key) {
                None => Ok(None),
                Some(object) => self.range(key, 0, object.size).await,
            }
        }
        .boxed()
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.range(key, offset, len).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.listing(prefix).boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Tag)>, StoreError>> {
        async move {
            let read = self.ask(What::Head(pb::DiskHead {})).await?;
            Ok(read.map(|read| (read.bytes, Tag(String::new()))))
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, _: Bytes) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.read_only(format!("write {key}"))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.read_only(format!("delete {key}"))
    }

    fn swap_head<'a>(&'a self, _: Option<&'a Tag>, _: Bytes) -> BoxFuture<'a, Result<Swapped, StoreError>> {
        self.read_only("write HEAD".to_owned())
    }

    fn usage(&self) -> Usage {
        Usage { requests: self.requests.load(Ordering::Relaxed), ..Usage::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vr_checkpoint::store::MemStore;

    /// A disk that a peer answers for out of memory, as long as `answers` says so.
    async fn disk(store: &Arc<MemStore>, answers: &Arc<AtomicBool>) -> Arc<dyn ObjectStore> {
        let (disks, mut asks) = PeerDisks::new();
        let (store, answers) = (Arc::clone(store), Arc::clone(answers));
        tokio::spawn(async move {
            while let Some(ask) = asks.recv().await {
                match ask {
                    Ask::Peers(tell) => tell.send(vec![ReplicaId(7)]).expect("awaited"),
                    Ask::Read(peer, request, answer) if answers.load(Ordering::Relaxed) => {
                        assert_eq!((peer, &*request.tier), (ReplicaId(7), "nvme"));
                        let _ = answer.send(read(&*store, request.what).await);
                    }
                    Ask::Read(..) => {}
                }
            }
        });
        let sources = disks.disks().await;
        let names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        assert_eq!(names, ["nvme of replica 7", "volume of replica 7"]);
        Arc::clone(&sources[0].store)
    }

    #[tokio::test]
    async fn everything_can_be_read_in_bounded_pieces_and_nothing_written() {
        let (store, answers) = (Arc::new(MemStore::new()), Arc::new(AtomicBool::new(true)));
        let disk = disk(&store, &answers).await;
        assert_eq!(disk.head().await.expect("answered"), None);
        store.swap_head(None, Bytes::from_static(b"head")).await.expect("written");
        assert_eq!(disk.head().await.expect("answered").expect("there").0, "head");
        let long: Bytes = (0..3 * PIECE + 5).map(|at| at as u8).collect::<Vec<u8>>().into();
        store.create("g/long", long.clone()).await.expect("written");
        store.create("g/empty", Bytes::new()).await.expect("written");
        assert_eq!(disk.get("g/long").await.expect("answered"), Some(long.clone()));
        assert_eq!(disk.get("g/empty").await.expect("answered"), Some(Bytes::new()));
        assert_eq!(disk.get("g/lon").await.expect("answered"), None);
        let range = disk.get_range("g/long", 7, PIECE + 9).await.expect("answered").expect("there");
        assert_eq!(range, long.slice(7..PIECE as usize + 16));
        assert_eq!(disk.get_range("g/none", 0, 1).await.expect("answered"), None);
        let beyond = disk.get_range("g/long", 3 * PIECE, 6).await.expect_err("it is not so long");
        assert!(beyond.to_string().contains("cut short"), "{beyond}");
        for number in 0..2 * LISTED + 3 {
            store.create(&format!("many/{number:05}"), Bytes::new()).await.expect("written");
        }
        assert_eq!(disk.list("many/").await.expect("answered"), store.list("many/").await.expect("listed"));
        assert_eq!(disk.list("none/").await.expect("answered"), []);

        let refused = disk.create("g/new", Bytes::new()).await.expect_err("it is another's");
        assert!(refused.to_string().contains("which alone writes there"), "{refused}");
        disk.delete("g/long").await.expect_err("it is another's");
        disk.swap_head(None, Bytes::new()).await.expect_err("it is another's");
    }

    #[tokio::test]
    async fn a_peer_asks_for_no_more_than_a_piece() {
        let store = MemStore::new();
        let length = u32::try_from(PIECE).expect("small") + 1;
        let piece = pb::DiskPiece { key: "g/x".to_owned(), offset: 0, length };
        let said = read(&store, Some(What::Piece(piece))).await;
        assert!(said.problem.contains("bytes at most"), "{said:?}");
        let said = read(&store, None).await;
        assert!(said.problem.contains("another version"), "{said:?}");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_asked_once() {
        let (store, answers) = (Arc::new(MemStore::new()), Arc::new(AtomicBool::new(false)));
        let disk = disk(&store, &answers).await;
        for _ in 0..3 {
            let said = disk.head().await.expect_err("no answer").to_string();
            assert!(said.contains("nvme of replica 7") && said.contains("does not answer"), "{said}");
            // It would answer now; it is asked again with the next repair.
            answers.store(true, Ordering::Relaxed);
        }
    }
}
