//! The objects as people see them: `testdata/objects/`, made from the examples of `vr-api`.
//! `VR_WRITE_DATA=1 cargo test -p vr-operator` writes them anew: read what has changed.

use crate::objects::*;
use crate::*;
use serde_json::Value;
use std::path::Path;
use vr_api::{DrillScenario, DrillSource, VRCluster, VRDrill, VRDrillStatus};

fn example(name: &str) -> VRCluster {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/examples").join(name);
    let text = std::fs::read_to_string(path).expect("an example");
    let mut cluster: VRCluster = serde_yaml::from_str(&text).expect("an example is a VRCluster");
    cluster.metadata.namespace = Some("shop".to_owned());
    cluster.metadata.uid = Some("3c5e5f0e-2b8e-4a0b-9a52-0d6a5d1f0c11".to_owned());
    cluster
}

/// A drill that is about to restore.
fn drill() -> VRDrill {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/examples/vrdrill.yaml");
    let text = std::fs::read_to_string(path).expect("an example");
    let mut drill: VRDrill = serde_yaml::from_str(&text).expect("an example is a VRDrill");
    drill.metadata.namespace = Some("shop".to_owned());
    drill.metadata.uid = Some("9f0a3f4e-6f57-4a86-9a0e-2d9a1a9f7c55".to_owned());
    drill.status = Some(VRDrillStatus {
        source: Some(DrillSource {
            lineage: lineage().0,
            generation: 1,
            canary_op: Some(100),
            op: Some(120),
            time: Some("2026-01-01T00:00:00Z".to_owned()),
        }),
        ..VRDrillStatus::default()
    });
    drill
}

fn copy_of(cluster: &VRCluster) -> Value {
    serde_json::to_value(drill_pod(&drill(), cluster)).expect("plain data is always JSON")
}

/// A drill that harms the cluster.
fn live() -> VRDrill {
    let mut drill = drill();
    drill.metadata.name = Some("live".to_owned());
    drill.spec.scenario = DrillScenario::LoseAllMemory;
    drill
}

fn probe_of(cluster: &VRCluster) -> Value {
    serde_json::to_value(drill_pod(&live(), cluster)).expect("plain data is always JSON")
}

fn members() -> Vec<Member> {
    ["a", "b", "c"]
        .iter()
        .zip(0..)
        .map(|(zone, n)| Member { id: ReplicaId(n + 1), slot: Slot(n), zone: Zone::from(*zone) })
        .collect()
}

fn lineage() -> Lineage {
    Lineage::from("6f1f3c52-9f0e-4a36-9d07-3f3f0c1e2a4b")
}

fn pod_of(cluster: &VRCluster) -> Value {
    let members = members();
    let pod = pod(cluster, &lineage(), Generation(1), &members[1], &members, &Start::Join, None);
    serde_json::to_value(pod.expect("the example's limits are amounts")).expect("plain data is always JSON")
}

fn all(cluster: &VRCluster) -> String {
    let json = |value: Result<Value, serde_json::Error>| value.expect("plain data is always JSON");
    let volume = volume(cluster, &lineage(), Generation(1), Slot(1), &Zone::from("b"), ReplicaId(2));
    let mut objects = vec![
        json(serde_json::to_value(peer_service(cluster))),
        json(serde_json::to_value(client_service(cluster))),
        json(serde_json::to_value(disruption_budget(cluster, 3))),
    ];
    objects.extend(network_policy(cluster).map(|policy| json(serde_json::to_value(policy))));
    objects.extend(volume.map(|volume| json(serde_json::to_value(volume))));
    objects.push(pod_of(cluster));
    objects.push(copy_of(cluster));
    objects.push(json(serde_json::to_value(copy_network_policy(&drill(), cluster))));
    objects.push(probe_of(cluster));
    objects.push(json(serde_json::to_value(copy_network_policy(&live(), cluster))));
    objects.iter_mut().for_each(Value::sort_all_objects);
    let yaml = |object: &Value| serde_yaml::to_string(object).expect("JSON is always YAML");
    objects.iter().map(yaml).collect::<Vec<_>>().join("---\n")
}

#[test]
fn the_files_are_what_is_made() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/objects");
    for name in ["vrcluster-minimal.yaml", "vrcluster-complete.yaml"] {
        let (path, made) = (folder.join(name), all(&example(name)));
        if std::env::var_os("VR_WRITE_DATA").is_some() {
            std::fs::write(&path, &made).expect("the folder is writable");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == made,
            "testdata/objects/{name} is not what is made: VR_WRITE_DATA=1 cargo test -p vr-operator"
        );
    }
}

/// What the `restricted` profile of pod security asks for.
#[test]
fn pods_may_do_little() {
    let cluster = example("vrcluster-minimal.yaml");
    for pod in [pod_of(&cluster), copy_of(&cluster), probe_of(&cluster)] {
        let container = &pod["spec"]["containers"][0];
        for (value, expected) in [
            (&pod["spec"]["securityContext"]["runAsNonRoot"], "true"),
            (&pod["spec"]["securityContext"]["seccompProfile"]["type"], "\"RuntimeDefault\""),
            (&pod["spec"]["automountServiceAccountToken"], "false"),
            (&container["securityContext"]["allowPrivilegeEscalation"], "false"),
            (&container["securityContext"]["readOnlyRootFilesystem"], "true"),
            (&container["securityContext"]["capabilities"]["drop"], "[\"ALL\"]"),
        ] {
            assert_eq!(value.to_string(), expected, "{pod:#}");
        }
        assert_eq!(container["resources"]["requests"]["memory"], container["resources"]["limits"]["memory"]);
        assert_eq!(container["resources"]["limits"]["cpu"], Value::Null, "a throttled replica looks dead");
    }
}

/// A copy must never be taken for a replica: by a service, a policy, or the operator.
#[test]
fn a_copy_is_no_replica() {
    let cluster = example("vrcluster-complete.yaml");
    for pod in [copy_of(&cluster), probe_of(&cluster)] {
        let labels = pod["metadata"]["labels"].clone();
        assert_eq!(labels[CLUSTER_LABEL], Value::Null);
        let service = serde_json::to_value(client_service(&cluster)).expect("plain data is always JSON");
        let selector = service["spec"]["selector"].as_object().expect("a service selects").clone();
        assert!(
            selector.iter().any(|(label, value)| labels[label] != *value),
            "{selector:?} selects {labels}"
        );
    }
}

/// It is a client: no keys of the object store, and of the authority the certificate only.
#[test]
fn a_probe_gets_no_secrets() {
    let pod = probe_of(&example("vrcluster-complete.yaml"));
    assert_eq!(pod["spec"]["containers"][0]["envFrom"], Value::Null);
    assert_eq!(pod["spec"]["serviceAccountName"], Value::Null);
    let volumes = pod["spec"]["volumes"].as_array().expect("a list");
    let secrets: Vec<_> = volumes.iter().filter(|volume| !volume["secret"].is_null()).collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0]["secret"]["items"][0]["key"], "ca.crt");
    assert_eq!(secrets[0]["secret"]["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_people_decide_is_in_the_template_and_nothing_else() {
    let before = template(&example("vrcluster-complete.yaml"));
    let with = |change: fn(&mut VRCluster)| {
        let mut cluster = example("vrcluster-complete.yaml");
        change(&mut cluster);
        template(&cluster)
    };
    assert_ne!(with(|c| c.spec.image.push('x')), before);
    assert_ne!(with(|c| c.spec.memory.limit = "17Gi".into()), before);
    assert_ne!(with(|c| c.spec.pod_template = None), before);
    assert_eq!(with(|c| c.spec.replicas = 3), before);
    assert_eq!(with(|c| c.spec.placement = None), before);
    assert_eq!(with(|c| c.spec.paused = true), before);
    assert_eq!(with(|c| c.metadata.uid = None), before);
}

#[test]
fn a_peer_address_names_its_slot_and_no_other() {
    let cluster = example("vrcluster-minimal.yaml");
    let naming = Naming::of(&cluster);
    assert_eq!(naming.slot_of(&naming.peer_address(Slot(12))), Some(Slot(12)));
    for foreign in [
        "",
        "prod-1",
        "prod-1.prod-peers.other.svc:2380",
        "prod2-1.prod2-peers.shop.svc:2380",
        "10.0.0.1:2380",
    ] {
        assert_eq!(naming.slot_of(foreign), None, "{foreign}");
    }
}

#[test]
fn a_limit_that_is_no_amount_is_named() {
    let mut cluster = example("vrcluster-minimal.yaml");
    cluster.spec.memory.state_limit = "much".into();
    let error = pod(&cluster, &lineage(), Generation(1), &members()[0], &members(), &Start::Join, None);
    assert!(error.expect_err("it is none").to_string().contains("`much` is no amount of memory"));
}
