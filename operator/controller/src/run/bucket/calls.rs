//! Which calls of S3 the operator makes: recorded between it and an S3 server of this process, and compared with what
//! `.ci/terraform/calls.json` has of the role `operator`, which `terraform/modules/identity` is held to. A call that is not
//! there fails here, and so does one that is not made any more. Not: that every branch was gone through; whoever has the
//! operator ask something new adds it to [`everything`].
//!
//! `VR_WRITE_DATA=1 cargo test -p vr-operator` writes them anew: see whether the policies in terraform/ allow them.

use super::tests::{NOW, Place};
use super::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use vr_checkpoint::s3_server::Server;
use vr_checkpoint::store::DirStore;
use vr_evidence::chain::{self, Drill};
use vr_evidence::envelope::SigningKey;
use vr_evidence::report::Report;

const BUCKET: &str = "here";
const PREFIX: &str = "shop";
/// The lineage of the format's golden files.
const GOLDEN: &str = "07070707-0707-0707-0707-070707070707";

/// What clients have sent to a server, connection by connection.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<Vec<u8>>>>);

impl Sent {
    /// Listens, and hands everything on to `server` as it is: the name that clients call it by is signed.
    async fn between(server: SocketAddr) -> (Sent, SocketAddr) {
        let (sent, listener) = (Sent::default(), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        let (kept, here) = (sent.clone(), listener.local_addr().expect("it is bound"));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = kept.0.lock().expect("nobody panics while holding it");
                    all.push(Vec::new());
                    all.len() - 1
                };
                let (mut from, mut to) = client.into_split();
                let (mut answers, mut on) =
                    TcpStream::connect(server).await.expect("it listens").into_split();
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut piece = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from.read(&mut piece).await {
                        kept.note(number, &piece[..length]);
                        on.write_all(&piece[..length]).await.expect("it goes on listening");
                    }
                });
                tokio::spawn(async move { copy(&mut answers, &mut to).await });
            }
        });
        (sent, here)
    }

    fn note(&self, connection: usize, piece: &[u8]) {
        self.0.lock().expect("nobody panics while holding it")[connection].extend_from_slice(piece);
    }

    /// The kinds of calls, as calls.json has them.
    fn kinds(&self) -> BTreeSet<String> {
        let all = self.0.lock().expect("nobody panics while holding it");
        all.iter().flat_map(|connection| requests(connection)).collect()
    }
}

fn requests(mut sent: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(end) = sent.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = std::str::from_utf8(&sent[..end]).expect("heads of requests are text");
        let mut lines = head.split("\r\n");
        let mut first = lines.next().expect("there is a first line").split(' ');
        let (method, path) = (first.next().expect("a method"), first.next().expect("a path"));
        let headers: BTreeMap<String, &str> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a number"));
        assert!(!headers.contains_key("transfer-encoding"), "its body has no length: {head}");
        let conditions = ["if-match", "if-none-match"].into_iter().filter(|name| headers.contains_key(*name));
        let conditions: Vec<String> = conditions.map(|name| format!("{name:?}")).collect();
        found.push(kind(method, path, &conditions.join(", ")));
        sent = &sent[end + 4 + length..];
    }
    found
}

fn kind(method: &str, path: &str, conditions: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let key = path.strip_prefix(&format!("/{BUCKET}")).expect("the bucket").trim_start_matches('/');
    let (action, key) = match (method, key) {
        ("GET", "") => {
            let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
            ("s3:ListBucket", prefix.expect("a list has a prefix").replace("%2F", "/"))
        }
        ("GET", key) => ("s3:GetObject", key.to_owned()),
        ("PUT", key) => ("s3:PutObject", key.to_owned()),
        ("DELETE", key) => ("s3:DeleteObject", key.to_owned()),
        _ => panic!("{method} {path} is no call that is known here"),
    };
    let key: Vec<String> = key.split('/').map(without_numbers).collect();
    let key = key.join("/");
    format!(r#"{{"role": "operator", "action": "{action}", "key": "{key}", "conditions": [{conditions}]}}"#)
}

/// A part of a key, with what differs from run to run taken out.
fn without_numbers(part: &str) -> String {
    if uuid::Uuid::try_parse(part).is_ok() {
        return "LINEAGE".to_owned();
    }
    let stands = |piece: &str| {
        let word = piece.trim_end_matches(['-', '.']);
        let number = matches!(word.len(), 12 | 16) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ulid = word.len() == 26 && !word.bytes().any(|byte| byte.is_ascii_lowercase());
        match (number, ulid) {
            (true, _) => piece.replace(word, "N"),
            (_, true) => piece.replace(word, "ULID"),
            _ => piece.to_owned(),
        }
    };
    part.split_inclusive(['-', '.']).map(stands).collect()
}

/// What a cluster has shipped, without anybody noting it.
async fn ship(server: &Server, cluster: &VRCluster) {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../replica/checkpoint/tests/golden").join(GOLDEN);
    let from = DirStore::read_only(&folder);
    let to = &cluster.spec.storage.object_store;
    let location = S3Location {
        endpoint: Some(server.endpoint()),
        bucket: to.bucket.clone(),
        prefix: format!("{PREFIX}/{GOLDEN}"),
        region: None,
        path_style: true,
        kms_key: None,
        keys: Some(S3Keys { access_key: "vr".to_owned(), secret_key: "vr".to_owned() }),
    };
    let to = S3Store::connect(&location).await;
    for object in from.list("").await.expect("readable") {
        let bytes = from.get(&object.key).await.expect("readable").expect("it was listed");
        to.create(&object.key, bytes).await.expect("there is room");
    }
    let (head, _) = from.head().await.expect("readable").expect("there is one");
    assert!(matches!(to.swap_head(None, head).await, Ok(vr_checkpoint::store::Swapped::Yes)));
}

fn drill(uid: &str) -> Drill {
    let text = |text: &str| text.to_owned();
    Drill {
        cluster: text("first"),
        namespace: text(PREFIX),
        drill: text("nightly"),
        uid: text(uid),
        lineage: text(GOLDEN),
        scenario: text("RestoreFromObjectStore"),
        finished_at: text("2026-01-01T00:00:00Z"),
        report: Report::of("restore-from-object-store"),
    }
}

/// Everything that the operator asks of an object store, once.
async fn everything(place: &Place) -> BTreeSet<String> {
    let (sent, here) = Sent::between(place.server.local_addr()).await;
    let mut cluster = (*place.cluster("first", BUCKET)).clone();
    let store = &mut cluster.spec.storage.object_store;
    store.prefix = Some(PREFIX.to_owned());
    store.endpoint = Some(format!("http://{here}"));
    let bucket = place.of(&cluster).await;
    let lineage = Lineage::from(GOLDEN);
    let Known::At(_, Store::Empty) = bucket.look(&cluster, &[], NOW).await else {
        panic!("nothing is there")
    };
    bucket.claim(&cluster, &lineage).await.expect("nobody has it");
    ship(&place.server, &cluster).await;
    let Known::At(_, Store::Mine { generation: Some(generation), .. }) =
        bucket.look(&cluster, &[], NOW).await
    else {
        panic!("it was shipped")
    };
    let Known::At(_, finds) = bucket.finds(&lineage, NOW).await else { panic!("it can be read") };
    let best = finds.first().expect("there is a checkpoint");
    let Known::At(_, Some(_)) = bucket.oldest(&lineage, NOW).await else { panic!("it can be read") };
    let retained = bucket.retained(&lineage).await.expect("readable");
    let op = retained.first().expect("one is kept").op;
    bucket.pin(&lineage, "named", op).await.expect("it is kept");
    bucket.unpin(&lineage, "named").await.expect("it was pinned");
    let from =
        bucket.restored(&lineage, (&best.source, best.op.signed()), "token").await.expect("it is there");
    bucket.fence(&lineage, Generation(generation.0 + 1), &from).await.expect("nobody else does");
    let (key, _) = SigningKey::generate().expect("a key");
    for uid in ["a", "b"] {
        chain::append(&*bucket.root(), &key, drill(uid)).await.expect("it is kept");
    }
    sent.kinds()
}

#[tokio::test]
async fn what_the_operator_asks_of_the_object_store_is_what_its_role_allows() {
    let made = everything(&Place::begin().await).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/terraform/calls.json");
    let text = std::fs::read_to_string(&path).expect("the calls");
    let lines = text.lines().map(|line| line.trim_end_matches(','));
    let (known, others): (BTreeSet<String>, BTreeSet<String>) = lines
        .filter(|line| line.starts_with('{'))
        .map(str::to_owned)
        .partition(|line| line.starts_with(r#"{"role": "operator""#));
    if std::env::var_os("VR_WRITE_DATA").is_some() {
        let all: Vec<String> = made.into_iter().chain(others).collect::<BTreeSet<_>>().into_iter().collect();
        std::fs::write(&path, format!("[\n{}\n]\n", all.join(",\n"))).expect("it can be written");
        return;
    }
    let (new, gone): (Vec<_>, Vec<_>) =
        (made.difference(&known).collect(), known.difference(&made).collect());
    assert!(
        new.is_empty() && gone.is_empty(),
        "not in calls.json: {new:#?}\nnot made any more: {gone:#?}\nVR_WRITE_DATA=1 cargo test -p vr-operator, and see \
         whether the policies in terraform/ allow what is new"
    );
}
