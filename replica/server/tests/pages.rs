//! The pages beside gRPC: what etcd's monitors look for on the client port, and the admin port's own.

mod cluster;

use cluster::{Cluster, http, rpc};
use serde_json::Value;

async fn page(address: std::net::SocketAddr, path: &str) -> String {
    let (status, body) = http::get(address, path).await.expect("it answers");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// The value of a metric without labels, or with these.
fn metric(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test]
async fn monitors_find_what_they_look_for() {
    let cluster = Cluster::start(3).await;
    let primary = cluster.settled().await;
    let revision = rpc::put(&cluster.replicas[0].channel(), "key", "value").await.expect("it is ready");
    for (place, replica) in cluster.replicas.iter().enumerate() {
        // A linearizable read brings the replica up to date, for what is compared below.
        rpc::get(&replica.channel(), "key").await.expect("it is ready").expect("it was put");

        assert_eq!(page(replica.client, "/health").await, r#"{"health":"true","reason":""}"#);
        let version: Value = serde_json::from_str(&page(replica.client, "/version").await).expect("JSON");
        for field in ["etcdserver", "etcdcluster"] {
            let text = version[field].as_str().expect("a string");
            let numbers: Vec<u32> = text.split('.').filter_map(|part| part.parse().ok()).collect();
            // From here on kube-apiserver reads from its cache.
            assert!(numbers.len() == 3 && numbers >= vec![3, 5, 13], "{field} {text}");
        }

        assert_eq!(page(replica.admin, "/livez").await, "ok\n");
        assert_eq!(page(replica.admin, "/readyz").await, "ok\n");
        let report = replica.status().await.expect("it answers");
        assert_eq!((report.lineage.as_str(), report.replica_id), (cluster::LINEAGE, replica.id));
        assert_eq!((report.status.as_str(), report.ready), ("Normal", true));
        assert_eq!(report.primary, Some(cluster.replicas[primary].id));
        assert_eq!(report.revision, revision);
        assert_eq!(report.tiers.iter().map(|t| t.tier.as_str()).collect::<Vec<_>>(), ["nvme", "volume"]);

        for address in [replica.client, replica.admin] {
            let metrics = page(address, "/metrics").await;
            assert_eq!(metric(&metrics, "vr_revision"), Some(revision as f64));
            assert_eq!(metric(&metrics, "vr_primary"), Some(f64::from(u8::from(place == primary))));
            assert_eq!(metric(&metrics, "vr_status{status=\"Normal\"}"), Some(1.0));
            assert_eq!(metric(&metrics, "vr_checkpoint_failing{tier=\"volume\"}"), Some(0.0));
            well_formed(&metrics);
        }
        assert_eq!(http::get(replica.admin, "/nowhere").await.expect("it answers").0, 404);
    }
}

/// Each family is announced once, with help and type, before its samples; each sample is a number.
fn well_formed(page: &str) {
    let mut announced: Vec<&str> = Vec::new();
    for line in page.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => {
                assert!(!announced.contains(&name), "{name} is announced twice");
                announced.push(name);
            }
            ["#", "TYPE", name, kind] => {
                assert!(announced.last() == Some(&name) && matches!(kind, "gauge" | "counter"), "{line}");
            }
            [sample, value] => {
                let name = sample.split('{').next().expect("never empty");
                assert!(announced.last() == Some(&name) && value.parse::<f64>().is_ok(), "{line}");
            }
            _ => panic!("not the text format: {line}"),
        }
    }
    assert!(announced.len() > 20, "{announced:?}");
}
