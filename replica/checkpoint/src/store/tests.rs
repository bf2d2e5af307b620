//! What every store must do, and what a directory must survive.

use super::*;
use futures_util::FutureExt;
use std::fs;
use std::path::Path;

/// The contract of [`ObjectStore`], for any of them, empty.
pub(crate) async fn keeps_the_contract(store: &dyn ObjectStore) {
    let body = Bytes::from_static(b"0123456789");
    assert_eq!(store.create("g/1/a", body.clone()).await.expect("works"), Created::Yes);
    assert_eq!(store.create("g/1/a", Bytes::from_static(b"x")).await.expect("works"), Created::Exists);
    assert_eq!(store.get("g/1/a").await.expect("works"), Some(body.clone()));
    assert_eq!(store.get("g/1/b").await.expect("works"), None);
    assert_eq!(store.get_range("g/1/a", 3, 4).await.expect("works"), Some(Bytes::from_static(b"3456")));
    assert_eq!(store.get_range("g/1/b", 3, 4).await.expect("works"), None);
    let cut = store.get_range("g/1/a", 8, 4).await.expect_err("it has no such bytes");
    assert!(matches!(cut, StoreError::Permanent { .. }), "{cut}");
    for key in ["g/1/log/2", "g/1/log/1", "g/2/x", "g/10/x"] {
        assert_eq!(store.create(key, Bytes::new()).await.expect("works"), Created::Yes, "{key}");
    }
    let keys = async |prefix: &str| -> Vec<String> {
        store.list(prefix).await.expect("works").into_iter().map(|listed| listed.key).collect()
    };
    assert_eq!(keys("g/1/").await, ["g/1/a", "g/1/log/1", "g/1/log/2"]);
    assert_eq!(keys("g/1/l").await, ["g/1/log/1", "g/1/log/2"]);
    assert!(keys("h/").await.is_empty());
    store.delete("g/1/a").await.expect("works");
    store.delete("g/1/a").await.expect("nothing to delete is no error");
    assert_eq!(store.get("g/1/a").await.expect("works"), None);

    assert_eq!(store.head().await.expect("works"), None);
    let stale = Tag("\"00000000000000000000000000000000\"".to_owned());
    assert_eq!(store.swap_head(Some(&stale), body.clone()).await.expect("works"), Swapped::Gone);
    assert_eq!(store.swap_head(None, body.clone()).await.expect("works"), Swapped::Yes);
    assert_eq!(store.swap_head(None, body.clone()).await.expect("works"), Swapped::Lost);
    let (read, first) = store.head().await.expect("works").expect("just written");
    assert_eq!(read, body);
    assert_eq!(store.swap_head(Some(&first), Bytes::from_static(b"two")).await.expect("works"), Swapped::Yes);
    assert_eq!(
        store.swap_head(Some(&first), Bytes::from_static(b"three")).await.expect("works"),
        Swapped::Lost
    );
    assert_eq!(store.head().await.expect("works").expect("there").0, Bytes::from_static(b"two"));
    assert!(store.usage().written >= 10 && store.usage().requests >= 15, "{:?}", store.usage());
}

fn open(dir: &Path) -> DirStore {
    DirStore::open(dir).expect("a fresh directory")
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(&MemStore::new()).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract_and_what_it_holds() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    keeps_the_contract(&open(dir.path())).await;
    let again = open(dir.path());
    assert_eq!(again.head().await.expect("works").expect("there").0, Bytes::from_static(b"two"));
    assert_eq!(again.list("g/").await.expect("works").len(), 4);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("there").count(), 0, "nothing is left on its way");
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = open(dir.path());
    let error = DirStore::open(dir.path()).expect_err("locked").to_string();
    assert!(error.contains("another process writes here"), "{error}");
    first.create("g/1/a", Bytes::from_static(b"a")).await.expect("works");
    let reader = DirStore::read_only(dir.path());
    assert_eq!(reader.get("g/1/a").await.expect("works"), Some(Bytes::from_static(b"a")));
    let refused = reader.create("g/1/b", Bytes::new()).await.expect_err("only reading").to_string();
    assert!(refused.contains("for reading only"), "{refused}");
}

#[tokio::test]
async fn a_torn_head_leaves_the_one_before() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path());
    store.swap_head(None, Bytes::from_static(b"one")).await.expect("works");
    let (_, tag) = store.head().await.expect("works").expect("there");
    store.swap_head(Some(&tag), Bytes::from_static(b"two")).await.expect("works");
    let newest = dir.path().join("HEAD.1");
    let whole = fs::read(&newest).expect("there");
    for cut in 0..whole.len() {
        fs::write(&newest, &whole[..cut]).expect("writes");
        assert_eq!(
            store.head().await.expect("works").expect("there").0,
            Bytes::from_static(b"one"),
            "cut at {cut}"
        );
    }
    // The next swap goes where the torn one stands and never over the whole one.
    assert_eq!(store.swap_head(Some(&tag), Bytes::from_static(b"three")).await.expect("works"), Swapped::Yes);
    fs::write(&newest, b"torn").expect("writes");
    fs::write(dir.path().join("HEAD.0"), b"torn").expect("writes");
    let error = store.head().await.expect_err("none is whole").to_string();
    assert!(error.contains("restore this tier from another one"), "{error}");
}

#[tokio::test]
async fn no_key_leads_out_of_the_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(&dir.path().join("tier"));
    for key in ["../x", "a/../../x", "", "/etc/x", "a//b", "."] {
        let error = store.create(key, Bytes::new()).await.expect_err(key);
        assert!(matches!(error, StoreError::Permanent { .. }), "{key}: {error}");
        assert!(store.get(key).await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn racing_swaps_have_one_winner() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (disk, memory) = (open(dir.path()), MemStore::new());
    for store in [&disk as &dyn ObjectStore, &memory] {
        store.swap_head(None, Bytes::from_static(b"0")).await.expect("works");
        let (_, tag) = store.head().await.expect("works").expect("there");
        let racers = (0..8u8).map(|i| store.swap_head(Some(&tag), Bytes::from(vec![i; 3])));
        let outcomes = futures_util::future::join_all(racers).await;
        let won = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Swapped::Yes))).count();
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Swapped::Lost))).count();
        assert_eq!((won, lost), (1, 7), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_full_store_says_so_and_keeps_what_it_has() {
    let store = MemStore::new();
    store.create("g/1/a", Bytes::from_static(b"abc")).await.expect("works");
    store.limit(Some(2));
    let error = store.create("g/1/b", Bytes::from_static(b"abc")).await.expect_err("full");
    assert!(matches!(error, StoreError::Transient { .. }), "{error}");
    assert_eq!(store.get("g/1/a").await.expect("works"), Some(Bytes::from_static(b"abc")));
    assert_eq!(store.get("g/1/b").await.expect("works"), None);
}

#[tokio::test]
async fn the_stall_switch_holds_a_write_up_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = open(dir.path());
    fs::write(dir.path().join("stall"), "1").expect("writes");
    let before = std::time::Instant::now();
    assert_eq!(store.get("g/1/a").await.expect("works"), None);
    assert!(before.elapsed().as_millis() < 900, "a read does not wait");
    let mut write = store.create("g/1/a", Bytes::new());
    assert!((&mut write).now_or_never().is_none(), "the caller gets its thread back at once");
    assert_eq!(write.await.expect("works"), Created::Yes);
    assert!(before.elapsed().as_millis() >= 1000);
    fs::write(dir.path().join("stall"), "soon").expect("writes");
    let error = store.create("g/1/b", Bytes::new()).await.expect_err("no number").to_string();
    assert!(error.contains("number of seconds"), "{error}");
}

#[test]
fn an_unwritable_place_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writes");
    let error = DirStore::open(&file.join("tier")).expect_err("below a file").to_string();
    assert!(error.contains("file/tier: open"), "{error}");
}

/// Nobody makes anything below /sys, whoever they are: where it is mounted for reading only the kernel says so, elsewhere
/// that it is not permitted.
#[test]
fn a_place_for_reading_only_is_named_with_what_to_do() {
    let error = DirStore::open(Path::new("/sys/vr-tier")).expect_err("nothing can be made there");
    assert!(matches!(error, StoreError::Permanent { .. }), "{error}");
    assert!(error.to_string().contains("make the directory writable for this user"), "{error}");
}
