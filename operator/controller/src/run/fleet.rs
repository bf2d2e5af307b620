//! Clusters without replicas: an S3 server, and in the place of kubelets and replicas one task that gives each pod of
//! [`Fake`] an address and answers there, with the pod's own certificate, that all is well. Such a replica agrees to
//! nothing and keeps nothing; its log grows all the same, as one does in which its own checkpoints are noted.

use super::fake::Fake;
use super::health::Health;
use super::lease::Lease;
use super::rounds::Rounds;
use crate::objects::{CONFIGURATION_ANNOTATION, CONTROL_PORT, ZONE_ANNOTATION};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};
use vr_checkpoint::s3_server::{Faults, Options, Server};
use vr_proto::control as pb;
use vr_proto::control::control_server::{Control, ControlServer};

const NAMESPACE: &str = "shop";
const BUCKET: &str = "vr-fleet";

/// Clusters, and what they need.
pub(super) struct Fleet {
    pub(super) fake: Fake,
    clusters: usize,
    _replicas: JoinSet<()>,
    _store: Server,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// So many resources, and nothing of them begun.
    pub(super) async fn of(clusters: usize) -> Fleet {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            access_key: "vr".to_owned(),
            secret_key: "vr".to_owned(),
            buckets: vec![BUCKET.to_owned()],
            faults: Faults::default(),
        };
        let any = "127.0.0.1:0".parse().expect("an address");
        let store = Server::start(folder.path(), any, options).await.expect("an S3 server");
        let fake = Fake::default();
        // "vr" in base64.
        let keys = json!({"AWS_ACCESS_KEY_ID": "dnI=", "AWS_SECRET_ACCESS_KEY": "dnI="});
        fake.put("secrets", json!({"metadata": {"name": "keys", "namespace": NAMESPACE}, "data": keys}));
        for zone in ["a", "b", "c"] {
            let labels = json!({"topology.kubernetes.io/zone": zone});
            fake.put("nodes", json!({"metadata": {"name": format!("node-{zone}"), "labels": labels}}));
        }
        for number in 0..clusters {
            fake.put("vrclusters", cluster(number, &store.endpoint()));
        }
        let mut replicas = JoinSet::new();
        replicas.spawn(kubelets(fake.clone()));
        Fleet { fake, clusters, _replicas: replicas, _store: store, _folder: folder }
    }

    /// How many are Ready with all their replicas.
    fn ready(&self) -> usize {
        let ready = |cluster: &&Value| {
            let conditions = cluster["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
                && cluster["status"]["readyReplicas"] == 3
                && cluster["status"]["operation"].is_null()
        };
        self.fake.all("vrclusters").iter().filter(ready).count()
    }

    /// Waits until all are.
    pub(super) async fn until_ready(&self, limit: Duration) {
        let all = async {
            while self.ready() < self.clusters {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(limit, all).await;
        let first = self.fake.all("vrclusters").into_iter().next();
        assert!(waited.is_ok(), "{} of {} are ready; {first:#?}", self.ready(), self.clusters);
    }
}

fn cluster(number: usize, endpoint: &str) -> Value {
    json!({
        "apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster",
        "metadata": {"name": format!("c{number}"), "namespace": NAMESPACE},
        "spec": {
            "replicas": 3, "image": "vr", "memory": {"limit": "1Gi", "stateLimit": "512Mi"},
            "storage": {"volume": {"size": "2Gi"}, "objectStore": {
                "bucket": BUCKET, "prefix": format!("c{number}"), "region": "us-east-1", "endpoint": endpoint,
                "credentialsSecretRef": {"name": "keys"}}}
        }
    })
}

/// Gives every new pod a node, an address and something that answers there.
async fn kubelets(fake: Fake) {
    let mut answering = JoinSet::new();
    let mut given = Addresses::new();
    loop {
        for mut pod in fake.all("pods") {
            if !pod["status"]["podIP"].is_null() {
                continue;
            }
            let (address, listener) = given.next().await;
            let name = pod["metadata"]["name"].as_str().expect("a pod has a name").to_owned();
            let secret =
                fake.all("secrets").into_iter().find(|s| s["metadata"]["name"] == format!("{name}-tls"));
            let tls = serving(&secret.expect("the certificate is there before the pod"));
            answering.spawn(answer(listener, tls, Replica { status: status(&pod), began: Instant::now() }));
            let zone = pod["metadata"]["annotations"][ZONE_ANNOTATION].as_str().expect("a zone").to_owned();
            pod["spec"]["nodeName"] = format!("node-{zone}").into();
            let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
            pod["status"] = json!({"phase": "Running", "podIP": address.to_string(), "containerStatuses": [
                {"name": "replica", "image": "vr", "imageID": "vr", "ready": true, "restartCount": 0, "state": running}]});
            fake.put("pods", pod);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Addresses of this machine at which nobody listens at the control port: that port is the same for every pod, and
/// tests beside this one need addresses too.
struct Addresses {
    last: u32,
}

impl Addresses {
    fn new() -> Addresses {
        let (somewhere, ..) = uuid::Uuid::new_v4().as_fields();
        Addresses { last: somewhere }
    }

    async fn next(&mut self) -> (Ipv4Addr, TcpListener) {
        // Below 127.64.0.0 is what people and their tools use.
        const MANY: u32 = 1 << 22;
        for _ in 0..MANY {
            self.last = self.last.wrapping_add(1);
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 64, 0, 0).to_bits() | (self.last % MANY));
            match TcpListener::bind((address, CONTROL_PORT)).await {
                Ok(listener) => return (address, listener),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => panic!("cannot listen at {address}:{CONTROL_PORT}: {error}"),
            }
        }
        panic!("somebody listens at port {CONTROL_PORT} of all addresses of this machine")
    }
}

fn serving(secret: &Value) -> Arc<ServerConfig> {
    let secret: k8s_openapi::api::core::v1::Secret =
        serde_json::from_value(secret.clone()).expect("a Secret");
    let data = secret.data.expect("it holds a certificate");
    let chain = CertificateDer::pem_slice_iter(&data["tls.crt"].0).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(&data["tls.key"].0).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config =
        config.with_single_cert(chain.expect("certificates"), key).expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn answer(listener: TcpListener, tls: Arc<ServerConfig>, replica: Replica) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, replica) = (TlsAcceptor::from(tls.clone()), replica.clone());
        connections.spawn(async move {
            // Whoever gives up in between comes again.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = TowerToHyperService::new(ControlServer::new(replica));
            let http = auto::Builder::new(TokioExecutor::new()).http2_only();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What a replica says who has begun as its configuration tells it, and has shipped once.
fn status(pod: &Value) -> pb::ReplicaStatus {
    let text = pod["metadata"]["annotations"][CONFIGURATION_ANNOTATION].as_str().expect("a configuration");
    let file: Value = serde_yaml::from_str(text).expect("it is YAML");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let order: Vec<_> = file["members"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|member| pb::Member {
            id: number(&member["id"]),
            domain: word(&member["domain"]),
            peer: word(&member["peer"]),
            client: word(&member["client"]),
        })
        .collect();
    let (primary, highest_id) = (order[0].id, order.iter().map(|m| m.id).max().unwrap_or_default());
    let configuration =
        pb::Configuration { epoch: 1, order, id: vec![1; 32].into(), ..pb::Configuration::default() };
    let stored = pb::Tier {
        tier: "objectStore".to_owned(),
        checkpoint_op: 1,
        recovery_op: 1,
        last_success: 1.0,
        ..pb::Tier::default()
    };
    pb::ReplicaStatus {
        lineage: word(&file["lineage"]),
        generation: number(&file["generation"]),
        replica: number(&file["replicaId"]),
        incarnation: 1,
        status: "Normal".to_owned(),
        ready: true,
        ballot: Some(pb::Ballot { epoch: 1, view: 0 }),
        primary,
        op: 1,
        commit: 1,
        configuration: Some(configuration),
        tiers: vec![stored],
        shipper: primary,
        highest_id,
        ..pb::ReplicaStatus::default()
    }
}

#[derive(Clone)]
struct Replica {
    status: pb::ReplicaStatus,
    began: Instant,
}

impl Replica {
    fn now(&self) -> pb::ReplicaStatus {
        let mut status = self.status.clone();
        status.op += self.began.elapsed().as_secs() / 2;
        status.commit = status.op;
        for tier in &mut status.tiers {
            (tier.checkpoint_op, tier.recovery_op) = (status.op, status.op);
        }
        status
    }
}

#[tonic::async_trait]
impl Control for Replica {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(pb::StatusResponse { asked: Some(self.now()), ..pb::StatusResponse::default() }))
    }

    async fn reconfigure(
        &self,
        _: Request<pb::ReconfigureRequest>,
    ) -> Result<Response<pb::ReconfigureResponse>, Status> {
        Err(Status::unavailable("it is no replica"))
    }

    async fn hand_off(
        &self,
        _: Request<pb::HandOffRequest>,
    ) -> Result<Response<pb::HandOffResponse>, Status> {
        Err(Status::unavailable("it is no replica"))
    }

    async fn cut(&self, _: Request<pb::CutRequest>) -> Result<Response<pb::CutResponse>, Status> {
        Err(Status::unavailable("it is no replica"))
    }

    async fn stop(&self, _: Request<pb::StopRequest>) -> Result<Response<pb::StopResponse>, Status> {
        Err(Status::unavailable("it is no replica"))
    }
}

/// An operator of a fleet, until it is stopped.
pub(super) struct Operator {
    stop: watch::Sender<bool>,
    working: JoinHandle<()>,
    leading: JoinHandle<Lease>,
}

impl Operator {
    pub(super) fn begin(fleet: &Fleet, who: &str) -> Operator {
        // A second one could only be set by a test beside this one, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ((stop, stopped), (hold, held)) = (watch::channel(false), watch::channel(None));
        let client = fleet.fake.client();
        let lease = Lease::new(client.clone(), "operator", "vr-operator", who.to_owned());
        let leading = tokio::spawn(lease.keep(hold, Health::default(), stopped.clone()));
        let rounds = Rounds::new(client, None, held, Health::default(), who.to_owned());
        Operator { stop, working: tokio::spawn(rounds.run(stopped)), leading }
    }

    pub(super) async fn end(self) {
        self.stop.send(true).expect("both tasks listen");
        self.working.await.expect("the rounds end");
        self.leading.await.expect("the lease's task ends").release().await;
    }
}
