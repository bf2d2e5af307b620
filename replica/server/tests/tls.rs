//! What a port does not trust it does not serve: wrong certificates, none, another replica's, and what is not TLS; and
//! new certificates without a restart. Each refusal has its reason in the log of whoever refuses, among replicas in the
//! other's as well, and the replicas go on serving.

mod authority;
mod cluster;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use authority::{Authority, Pair};
use cluster::{Cluster, LINEAGE, Replica, eventually, http, rpc};
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};
use vr_replica::config::{Identity, Raw, RawPeerTls, RawPortTls, RawTls, Span};
use vr_replica::tls::{ClientFiles, Connector};

const RELOAD: Duration = Duration::from_millis(100);

fn peer_name(id: u64) -> String {
    format!("vr://{LINEAGE}/replica/{id}")
}

/// Files of one test.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A replica's section for peers; `r1.crt` and the like.
    fn peer(&self, id: u64) -> RawPeerTls {
        RawPeerTls {
            cert_file: Some(self.path(&format!("r{id}.crt"))),
            key_file: Some(self.path(&format!("r{id}.key"))),
            ca_file: Some(self.path("peer-ca.crt")),
            identity: None,
        }
    }

    fn client(&self) -> RawPortTls {
        RawPortTls {
            cert_file: Some(self.path("server.crt")),
            key_file: Some(self.path("server.key")),
            client_ca_file: Some(self.path("client-ca.crt")),
            client_cert_auth: None,
        }
    }

    /// TLS for peers and clients, in a configuration whose members tell clients so.
    fn configure(&self, raw: &mut Raw) {
        let id = raw.replica_id.expect("every replica has one");
        for member in raw.members.iter_mut().flatten() {
            member.client = member.client.replace("http://", "https://");
        }
        raw.tls = Some(RawTls {
            client: Some(self.client()),
            peer: Some(self.peer(id)),
            reload_interval: Some(Span(RELOAD)),
            ..RawTls::default()
        });
    }

    /// Everything that `configure` names, signed by these.
    fn make(&self, peers: &Authority, clients: &Authority) {
        self.write("peer-ca.crt", &peers.pem);
        self.write("client-ca.crt", &clients.pem);
        for id in 1..=3 {
            self.put(&format!("r{id}"), &peers.sign(&[], Some(peer_name(id))));
        }
        self.put("server", &clients.sign(&["127.0.0.1"], None));
        self.put("user", &clients.sign(&[], None));
    }

    fn put(&self, stem: &str, pair: &Pair) {
        self.write(&format!("{stem}.key"), &pair.key);
        self.write(&format!("{stem}.crt"), &pair.cert);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
    }

    /// A client that trusts `ca` and shows `pair`.
    fn channel(&self, replica: &Replica, ca: &str, pair: Option<&str>) -> Channel {
        let file = |name: &str, end: &str| self.path(&format!("{name}.{end}"));
        let files =
            ClientFiles { ca: self.path(ca), pair: pair.map(|name| (file(name, "crt"), file(name, "key"))) };
        let config = files.load().expect("usable");
        dial(replica, "https", &Connector::new(Some(Arc::new(config))))
    }
}

fn dial(replica: &Replica, scheme: &str, connector: &Connector) -> Channel {
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", replica.client)).expect("a URL");
    endpoint.connect_with_connector_lazy(connector.clone())
}

async fn logged(replica: &Replica, text: &str) {
    eventually(&format!("replica {} logs {text:?}", replica.id), async || {
        replica.log().contains(text).then_some(())
    })
    .await;
}

/// Tries until it is taken.
async fn put(channel: &Channel, key: &str) {
    eventually("a write is acknowledged", async || rpc::put(channel, key.to_owned(), "value").await.ok())
        .await;
}

fn words(status: &tonic::Status) -> String {
    let mut text = status.to_string();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn clients_that_are_not_trusted_are_not_served() {
    let (files, ours, theirs) = (Files::new(), Authority::new("ours"), Authority::new("theirs"));
    files.make(&ours, &ours);
    files.write("other-ca.crt", &theirs.pem);
    files.put("stranger", &theirs.sign(&[], None));
    files.put("late", &ours.expired());
    let mut cluster = Cluster::start_as(1, |raw| files.configure(raw)).await;
    let replica = &cluster.replicas[0];
    let user = files.channel(replica, "client-ca.crt", Some("user"));
    put(&user, "a").await;

    for (ca, pair, reason) in [
        ("client-ca.crt", None, "it shows no certificate, and one is required"),
        ("client-ca.crt", Some("stranger"), "signed by an authority that the CA file here does not hold"),
        // The client is the one who refuses.
        ("other-ca.crt", Some("user"), "it does not trust the authority that signed this side's certificate"),
    ] {
        let channel = files.channel(replica, ca, pair);
        rpc::put(&channel, "b", "c").await.expect_err(reason);
        logged(replica, reason).await;
    }
    let error = ClientFiles {
        ca: files.path("client-ca.crt"),
        pair: Some((files.path("late.crt"), files.path("late.key"))),
    }
    .load()
    .expect_err("it has expired");
    assert!(error.to_string().contains("expired on 2001-02-03"), "{error}");

    // Not TLS at all, in both versions of HTTP.
    let plain = rpc::put(&dial(replica, "http", &Connector::default()), "b", "c").await.expect_err("plain");
    logged(replica, "it came without TLS").await;
    assert!(plain.code() != tonic::Code::Ok, "{}", words(&plain));
    let (status, text) = http::get(replica.client, "/version").await.expect("an answer");
    assert!(status == 400 && text.contains("use https://"), "{status}: {text}");
    // And TLS where there is none.
    let admin = Connector::new(Some(Arc::new(
        ClientFiles { ca: files.path("client-ca.crt"), pair: None }.load().expect("usable"),
    )));
    let refused = admin.connect("127.0.0.1", replica.admin.port()).await.err().expect("no TLS there");
    assert!(refused.to_string().contains("not TLS"), "{refused}");
    logged(replica, "it began with TLS, and this port speaks no TLS").await;

    put(&user, "d").await;
    assert_eq!(cluster.replicas[0].stop().await, Some(0));
}

#[tokio::test]
async fn peers_that_are_not_who_they_should_be_are_refused_in_both_logs() {
    let (files, ours, theirs) = (Files::new(), Authority::new("ours"), Authority::new("theirs"));
    files.make(&ours, &ours);
    files.put("stranger", &theirs.sign(&[], Some(peer_name(3))));
    files.put("two", &ours.sign(&[], Some(peer_name(2))));
    let mut cluster = Cluster::start_as(3, |raw| files.configure(raw)).await;
    let user = files.channel(&cluster.replicas[0], "client-ca.crt", Some("user"));
    put(&user, "a").await;

    // What the others say when it dials, what they say when they dial, and what it says.
    let named = format!("names {} and not {}", peer_name(2), peer_name(3));
    let tries: [(&str, Change, &str, &str, &str); 3] = [
        (
            "another authority's certificate",
            |tls, dir| show(tls, dir, "stranger"),
            "signed by an authority that the CA file here does not hold",
            "no connection to the peer: its certificate is signed by an authority",
            "it does not trust the authority that signed this side's certificate",
        ),
        (
            "another replica's certificate",
            |tls, dir| {
                show(tls, dir, "two");
                // Or it would refuse to start.
                tls.peer.as_mut().expect("set").identity = Some(Identity::Authority);
            },
            "a message of replica 3, but the certificate of the connection names replica 2",
            &named,
            "it says: a message of replica 3, but the certificate of the connection names replica 2",
        ),
        (
            "no TLS",
            |tls, _| tls.peer = None,
            "it speaks no TLS and this replica requires it",
            "what it says is not TLS",
            "it says: it speaks no TLS",
        ),
    ];
    for (what, change, reason, dialled, told) in tries {
        eprintln!("{what}");
        let third = &mut cluster.replicas[2];
        third.kill();
        third.reconfigure(|raw| change(raw.tls.as_mut().expect("set"), files.dir.path()));
        third.start();
        logged(&cluster.replicas[0], reason).await;
        logged(&cluster.replicas[0], dialled).await;
        logged(&cluster.replicas[2], told).await;
        assert_ne!(http::get(cluster.replicas[2].admin, "/readyz").await.expect("alive").0, 200, "{what}");
        put(&user, "b").await;
    }
    // Its own certificate lets it in again.
    let third = &mut cluster.replicas[2];
    third.kill();
    third.reconfigure(|raw| raw.tls.as_mut().expect("set").peer = Some(files.peer(3)));
    third.start();
    third.ready().await.expect("trusted again");
}

/// What is changed in a replica's section, and where the files are.
type Change = fn(&mut RawTls, &Path);

/// Names other files of its own.
fn show(tls: &mut RawTls, dir: &Path, stem: &str) {
    let peer = tls.peer.as_mut().expect("set");
    peer.cert_file = Some(dir.join(format!("{stem}.crt")));
    peer.key_file = Some(dir.join(format!("{stem}.key")));
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() {
    let (files, ours) = (Files::new(), Authority::new("ours"));
    files.make(&ours, &ours);
    files.put("late", &ours.expired());
    files.put("two", &ours.sign(&[], Some(peer_name(2))));
    files.write("empty.crt", "");
    let mut cluster = Cluster::new(1, |raw| files.configure(raw));
    let replica = &mut cluster.replicas[0];
    let path = |name: &str| files.path(name).display().to_string();
    for (flags, says) in [
        (["--tls-client-cert-file", "/nowhere.crt"], "`tls.client.certFile`: cannot read /nowhere.crt"),
        (["--tls-client-cert-file", &path("empty.crt")], "holds no certificate in PEM form"),
        (["--tls-client-key-file", &path("server.crt")], "holds no private key in PEM form"),
        (["--tls-client-key-file", &path("user.key")], "does not belong to the certificate in"),
        (["--tls-client-cert-file", &path("late.crt")], "expired on 2001-02-03"),
        (["--tls-client-client-ca-file", &path("empty.crt")], "`tls.client.clientCaFile`"),
        (["--tls-peer-ca-file", &path("server.key")], "`tls.peer.caFile`"),
    ] {
        let (status, said) = replica.refused(&flags).await;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(says), "{said}\ndoes not say {says}");
        assert!(!said.contains("PRIVATE KEY-----"), "a key is in the log: {said}");
    }
    let (status, said) = replica
        .refused(&["--tls-peer-cert-file", &path("two.crt"), "--tls-peer-key-file", &path("two.key")])
        .await;
    assert_eq!(status, Some(1));
    assert!(said.contains("replica/2 and not") && said.contains("replica/1"), "{said}");
}

#[tokio::test]
async fn certificates_and_authorities_are_changed_under_load() {
    let (files, old, new) = (Files::new(), Authority::new("old"), Authority::new("new"));
    files.make(&old, &old);
    let mut cluster = Cluster::start_as(3, |raw| files.configure(raw)).await;
    let before = files.channel(&cluster.replicas[0], "client-ca.crt", Some("user"));
    put(&before, "a").await;
    // Their own file: the cluster's changes below.
    files.write("both-ca.crt", &format!("{}{}", old.pem, new.pem));
    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = tokio::spawn({
        let (over, written, channel) = (over.clone(), written.clone(), before.clone());
        async move {
            while !over.load(Ordering::SeqCst) {
                rpc::put(&channel, "load", "value").await.expect("no write fails meanwhile");
                written.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let expiries = |page: &str| -> Vec<String> {
        page.lines().filter(|l| l.starts_with("vr_tls_certificate_expiry")).map(str::to_owned).collect()
    };
    let (_, page) = http::get(cluster.replicas[0].admin, "/metrics").await.expect("served");
    assert_eq!(expiries(&page).len(), 2, "{page}");

    // Both authorities are trusted, then certificates are of the new one, then only that is trusted.
    let taken = |replica: &Replica| replica.log().matches("new certificates are in use").count();
    let both = format!("{}{}", old.pem, new.pem);
    for (step, (peer_ca, client_ca)) in
        [(&both, &both), (&both, &both), (&new.pem, &new.pem)].iter().enumerate()
    {
        if step == 1 {
            (1..=3).for_each(|id| files.put(&format!("r{id}"), &new.sign(&[], Some(peer_name(id)))));
            files.put("server", &new.sign(&["127.0.0.1"], None));
            files.put("newcomer", &new.sign(&[], None));
        } else {
            files.write("peer-ca.crt", peer_ca);
            files.write("client-ca.crt", client_ca);
        }
        for replica in &cluster.replicas {
            replica.signal(Signal::HUP);
            // Two ports each.
            eventually("both ports have taken them", async || {
                (taken(replica) >= 2 * (step + 1)).then_some(())
            })
            .await;
        }
    }
    let newcomer = files.channel(&cluster.replicas[0], "client-ca.crt", Some("newcomer"));
    put(&newcomer, "b").await;
    let late = files.channel(&cluster.replicas[0], "both-ca.crt", Some("user"));
    rpc::put(&late, "c", "d").await.expect_err("its authority is not trusted any more");

    // A replica that comes back is let in with what is there now.
    over.store(true, Ordering::SeqCst);
    load.await.expect("every write was acknowledged");
    assert!(written.load(Ordering::SeqCst) > 10, "there was a load");
    cluster.replicas[2].kill();
    cluster.replicas[2].start();
    cluster.replicas[2].ready().await.expect("trusted");

    // Broken files change nothing and are told of.
    files.write("server.crt", "no certificate");
    let replica = &cluster.replicas[0];
    logged(replica, "the new certificates cannot be used: the old ones stay in use").await;
    let (_, page) = http::get(replica.admin, "/metrics").await.expect("served");
    assert!(page.contains("vr_tls_reload_failing{port=\"client\"} 1"), "{page}");
    put(&files.channel(replica, "client-ca.crt", Some("newcomer")), "e").await;
}
