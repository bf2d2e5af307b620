//! Whose a prefix is, in an S3 server of this process: one's own, another cluster's, a copy of another's, or not of this
//! product.

use super::*;
use crate::run::fake::Fake;
use serde_json::json;
use vr_checkpoint::s3_server::{Faults, Options, Server};

pub(super) const NOW: Moment = Moment(1_800_000_000);
const ONE: &str = "0a4c3d5e-7d0b-4f7e-9a57-6c1e52f0b7aa";
const OTHER: &str = "1b5d4e6f-8e1c-4a8f-8b68-7d2f63a1c8bb";

pub(super) struct Place {
    pub(super) server: Server,
    fake: Fake,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(super) async fn begin() -> Place {
        // A second one could only be set by a test beside this one, and is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            access_key: "vr".to_owned(),
            secret_key: "vr".to_owned(),
            buckets: vec!["here".to_owned(), "there".to_owned()],
            faults: Faults::default(),
        };
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(folder.path(), any, options).await.expect("an S3 server");
        let fake = Fake::default();
        // "vr" in base64.
        let keys = json!({"AWS_ACCESS_KEY_ID": "dnI=", "AWS_SECRET_ACCESS_KEY": "dnI="});
        fake.put("secrets", json!({"metadata": {"name": "keys", "namespace": "shop"}, "data": keys}));
        Place { server, fake, _folder: folder }
    }

    /// A cluster with this name and UID whose place is prefix `p` of a bucket.
    pub(super) fn cluster(&self, name: &str, bucket: &str) -> Arc<VRCluster> {
        let store = json!({"bucket": bucket, "prefix": "p", "region": "us-east-1",
            "endpoint": self.server.endpoint(), "credentialsSecretRef": {"name": "keys"}});
        let made = json!({
            "apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
            "spec": {"replicas": 3, "image": "vr", "memory": {"limit": "1Gi", "stateLimit": "512Mi"},
                     "storage": {"volume": {"size": "2Gi"}, "objectStore": store}}
        });
        Arc::new(serde_json::from_value(made).expect("it is a VRCluster"))
    }

    pub(super) async fn of(&self, cluster: &VRCluster) -> Bucket {
        Bucket::of(&self.fake.client(), cluster).await.expect("its keys are there")
    }

    async fn sees(&self, cluster: &VRCluster, others: &[Arc<VRCluster>]) -> Store {
        match self.of(cluster).await.look(cluster, others, NOW).await {
            Known::At(_, store) => store,
            Known::Unknown => panic!("the server is there"),
        }
    }

    async fn put(&self, cluster: &VRCluster, key: &str, body: &str) {
        let made = self.of(cluster).await.root().create(key, body.to_owned().into()).await;
        assert!(matches!(made, Ok(Created::Yes)), "{key}: {made:?}");
    }
}

fn unusable(store: Store, words: &str) {
    let Store::Unusable(why) = store else { panic!("it can be used: {store:?}") };
    assert!(why.contains(words) && why.contains("choose another prefix"), "{why}");
}

#[tokio::test]
async fn a_prefix_belongs_to_the_first_who_claims_it() {
    let place = Place::begin().await;
    let (first, second) = (place.cluster("first", "here"), place.cluster("second", "here"));
    let all = [first.clone(), second.clone()];
    assert_eq!(place.sees(&first, &all).await, Store::Empty);
    let lineage = Lineage::from(ONE);
    place.of(&first).await.claim(&first, &lineage).await.expect("nobody has it");
    let mine = Store::Mine { lineage: lineage.clone(), generation: None };
    assert_eq!(place.sees(&first, &all).await, mine);
    unusable(place.sees(&second, &all).await, "belongs to VRCluster shop/first");
    let refused = place.of(&second).await.claim(&second, &Lineage::from(OTHER)).await;
    assert!(refused.expect_err("it is claimed").to_string().contains("somebody else claims it"));
    // Whoever had it is gone, or has its own place elsewhere and this is a copy of that.
    assert_eq!(place.sees(&second, std::slice::from_ref(&second)).await, mine);
    // However it is written, it is the same place.
    for (prefix, slash) in [("/p", ""), ("p/", ""), ("/p/", "/")] {
        let mut written = VRCluster::clone(&first);
        let store = &mut written.spec.storage.object_store;
        store.prefix = Some(prefix.to_owned());
        store.endpoint.iter_mut().for_each(|endpoint| endpoint.push_str(slash));
        unusable(
            place.sees(&second, &[Arc::new(written), second.clone()]).await,
            "belongs to VRCluster shop/first",
        );
    }
    let elsewhere = place.cluster("first", "there");
    assert_eq!(place.sees(&second, &[elsewhere, second.clone()]).await, mine);
}

#[tokio::test]
async fn what_is_not_of_this_product_is_not_touched() {
    let place = Place::begin().await;
    let cluster = place.cluster("first", "here");
    let all = [cluster.clone()];
    place.put(&cluster, &format!("{ONE}/HEAD"), "of somebody").await;
    unusable(place.sees(&cluster, &all).await, "HEAD is not of this product");
    place.put(&cluster, &format!("{OTHER}/HEAD"), "of somebody").await;
    unusable(place.sees(&cluster, &all).await, "holds several lineages and no CLAIM says whose it is");
    place.put(&cluster, CLAIM, "of somebody").await;
    unusable(place.sees(&cluster, &all).await, "CLAIM is not of this product");
}
