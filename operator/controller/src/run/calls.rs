//! What the operator may do is what it does: `charts/vr-operator/files/rules.yaml`, which the chart's roles are made
//! of, compared with every call that the operator makes of the API server. A call that no rule allows fails here, and
//! so does a rule that no call needs.

use super::act::{self, Means};
use super::certificates;
use super::control::Slots;
use super::fake::{Call, Fake};
use super::health::Health;
use super::lease::{Hold, Lease};
use super::rounds::Rounds;
use super::tell::Teller;
use super::world;
use crate::ids::*;
use crate::objects::{Copied, PROCESS_FINALIZER, Restored};
use crate::snapshot::Member;
use crate::step::{Start, Step};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use vr_api::VRCluster;

const NAMESPACE: &str = "shop";

/// A cluster that asks for as many objects as there are kinds of.
fn cluster(name: &str, uid: &str, policy: bool) -> Value {
    json!({
        "apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "generation": 1},
        "spec": {
            "replicas": 3, "image": "vr", "memory": {"limit": "1Gi", "stateLimit": "512Mi"},
            "storage": {"volume": {"size": "2Gi"}, "objectStore": {
                // Nobody listens there.
                "bucket": "vr-none", "prefix": name, "region": "us-east-1", "endpoint": "http://127.0.0.1:1",
                "credentialsSecretRef": {"name": "keys"}}},
            "networkPolicy": {"enabled": policy}
        }
    })
}

fn typed(value: &Value) -> VRCluster {
    serde_json::from_value(value.clone()).expect("it is a VRCluster")
}

/// A step of each kind. Who adds one finds [`asks`] refusing to compile, and adds it here.
fn steps() -> Vec<Step> {
    let (slot, uid, replica, generation) = (Slot(0), Uid("u".to_owned()), ReplicaId(1), Generation(2));
    let (lineage, zone) = (Lineage("l".to_owned()), Zone::from("a"));
    let member = Member { id: replica, slot, zone: zone.clone() };
    let (members, start) = (vec![member.clone()], Start::Join);
    vec![
        Step::Copy(lineage.clone()),
        Step::MakeVolume { slot, zone, replica, generation, lineage },
        Step::AssignVolume { slot, uid: uid.clone(), replica, generation },
        Step::MakePod { member, generation, members, start },
        Step::Release { slot, uid: uid.clone() },
        Step::DeletePod { slot, uid: uid.clone(), live: false },
        Step::DeleteVolume { slot, uid },
        Step::LetGo,
    ]
}

/// Whether a step is a call of the API server; the others go to the object store or to a replica.
fn asks(step: &Step) -> bool {
    match step {
        Step::Copy(_)
        | Step::MakeVolume { .. }
        | Step::AssignVolume { .. }
        | Step::MakePod { .. }
        | Step::Release { .. }
        | Step::DeletePod { .. }
        | Step::DeleteVolume { .. }
        | Step::LetGo => true,
        // The beginning of a generation is kept first: see `latch` below.
        Step::Claim(_)
        | Step::Fence { .. }
        | Step::Save { .. }
        | Step::Reconfigure { .. }
        | Step::HandOff { .. } => false,
    }
}

/// Leads, and goes round until every call of `enough` was made.
async fn rounds(fake: &Fake, enough: &[(&str, &str)]) -> Hold {
    let (stop, stopped) = watch::channel(false);
    let (hold, mut held) = watch::channel(None);
    let lease = Lease::new(fake.client(), "operator", "vr-operator", "first".to_owned());
    let leading = tokio::spawn(lease.keep(hold, Health::default(), stopped.clone()));
    let holds = *held.wait_for(Option::is_some).await.expect("the lease's task lives");
    let operator = Rounds::new(fake.client(), None, held, Health::default(), "first".to_owned());
    let working = tokio::spawn(operator.run(stopped));
    let all = async {
        let made = |(verb, resource): &(&str, &str)| {
            fake.calls().iter().any(|call| call.0 == *verb && call.2 == *resource)
        };
        while !enough.iter().all(made) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(waited.is_ok(), "not all of {enough:?} in {:#?}", fake.calls());
    stop.send(true).expect("both tasks listen");
    working.await.expect("the rounds end");
    leading.await.expect("the lease's task ends").release().await;
    holds.expect("it was waited for")
}

async fn every_call() -> BTreeSet<Call> {
    let fake = Fake::default();
    let reference = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let plain = cluster("plain", "uid-plain", false);
    fake.put("vrclusters", cluster("prod", "uid-prod", true));
    fake.put("vrclusters", plain.clone());
    let plain = &typed(&plain);
    let keys = json!({"AWS_ACCESS_KEY_ID": "dnI=", "AWS_SECRET_ACCESS_KEY": "dnI="});
    fake.put("secrets", json!({"metadata": reference("keys"), "data": keys}));
    // One that the operator has made for a cluster which does without one now.
    let owner = json!([{"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster", "name": "plain", "uid": "uid-plain"}]);
    let policy = json!({"name": "plain", "namespace": NAMESPACE, "ownerReferences": owner});
    fake.put("networkpolicies", json!({"metadata": policy, "spec": {"podSelector": {}}}));
    let spec = json!({"clusterRef": {"name": "prod"}});
    fake.put("vrcheckpoints", json!({"metadata": reference("named"), "spec": spec}));
    let spec = json!({"clusterRef": {"name": "nobody"}});
    fake.put("vrcheckpoints", json!({"metadata": reference("of-nobody"), "spec": spec}));
    // One whose time is over.
    let spec = json!({"clusterRef": {"name": "prod"}, "expireAfterHours": 1});
    let meta = json!({"name": "old", "namespace": NAMESPACE, "creationTimestamp": "2026-01-01T00:00:00Z"});
    fake.put("vrcheckpoints", json!({"metadata": meta, "spec": spec}));
    let spec = json!({"clusterRef": {"name": "prod"}, "planNonce": "n"});
    fake.put("vrrestores", json!({"metadata": reference("back"), "spec": spec}));
    // A roll-back whose target is to be looked for, and one whose target is found.
    let mut begun = cluster("begun", "uid-begun", false);
    begun["status"] = json!({"lineage": {"id": "l", "generation": 1}});
    fake.put("vrclusters", begun);
    let rolls =
        json!({"clusterRef": {"name": "begun"}, "target": {"opNumber": 1}, "acknowledgeDataLoss": "begun"});
    fake.put("vrrestores", json!({"metadata": reference("a-search"), "spec": rolls}));
    let found =
        json!({"op": 1, "revision": 1, "time": "2026-01-01T00:00:00Z", "checkpoint": 1, "generation": 1});
    let status = json!({"phase": "Locating", "located": found});
    fake.put("vrrestores", json!({"metadata": reference("found"), "spec": rolls, "status": status}));
    // A schedule by which a drill is due, and one that is more than it keeps.
    let made = Moment(world::now().0 - 120).text();
    let meta =
        json!({"name": "nightly", "namespace": NAMESPACE, "uid": "uid-nightly", "creationTimestamp": made});
    let drill = json!({"clusterRef": {"name": "prod"}});
    let spec = json!({"schedule": "* * * * *", "passedHistory": 0, "drill": drill});
    fake.put("vrdrillschedules", json!({"metadata": meta, "spec": spec}));
    let owner = json!([{"apiVersion": "vr-operator.io/v1alpha1", "kind": "VRDrillSchedule", "name": "nightly",
        "uid": "uid-nightly"}]);
    let meta = json!({"name": "nightly-1", "namespace": NAMESPACE, "ownerReferences": owner});
    let status = json!({"phase": "Finished", "result": "Passed", "finishedAt": made});
    fake.put("vrdrills", json!({"metadata": meta, "spec": drill, "status": status}));

    let enough = [
        ("update", "vrclusters/status"),
        ("patch", "vrrestores/status"),
        ("update", "vrrestores/status"),
        ("create", "vrcheckpoints"),
        ("create", "pods"),
        ("patch", "vrcheckpoints"),
        ("delete", "vrcheckpoints"),
        ("update", "vrcheckpoints/status"),
        ("patch", "networkpolicies"),
        ("delete", "networkpolicies"),
        ("watch", "vrclusters"),
        ("watch", "pods"),
        ("watch", "persistentvolumeclaims"),
        ("watch", "nodes"),
        ("watch", "vrrestores"),
        ("watch", "vrcheckpoints"),
        ("watch", "vrdrills"),
        ("watch", "vrdrillschedules"),
        ("create", "vrdrills"),
        ("delete", "vrdrills"),
        ("update", "vrdrills/status"),
        ("update", "vrdrillschedules/status"),
    ];
    let hold = rounds(&fake, &enough).await;

    let (client, now, lineage) = (fake.client(), world::now(), Lineage("l".to_owned()));
    let trust = certificates::trust(&client, plain, now).await.expect("an authority");
    for replica in [ReplicaId(1), ReplicaId(2)] {
        let certificate = certificates::of_replica(&client, plain, &trust, &lineage, (Slot(0), replica), now);
        certificate.await.expect("a certificate, then another one in its place");
    }
    // By an issuer of cert-manager, and then by another one; nobody signs here.
    for issuer in ["company", "another"] {
        let mut issued = cluster("issued", "uid-issued", false);
        issued["spec"]["tls"] = json!({"issuerRef": {"name": issuer}});
        let why =
            certificates::trust(&client, &typed(&issued), now).await.map(drop).expect_err("nobody signs");
        assert!(format!("{why:#}").contains("Certificate issued-operator-tls is to be signed"), "{why:#}");
    }
    let held = json!({"metadata": {"name": "plain-0", "uid": "u", "finalizers": [PROCESS_FINALIZER]}});
    let held: Pod = serde_json::from_value(held).expect("it is a pod");
    let copied = Copied { place: ("b".to_owned(), "p".to_owned()), lineage: None, moment: None };
    let means = Means {
        client: &client,
        cluster: plain,
        hold,
        pods: &BTreeMap::from([(Slot(0), &held)]),
        slots: &Slots::default(),
        bucket: None,
        trust: Some(&trust),
        lineage: Some(lineage),
        recovery: None,
        copied: Some(&copied),
        now,
    };
    let from = Restored {
        generation: Generation(1),
        checkpoint: Op(1),
        root: "r".to_owned(),
        to_op: Op(1),
        reserved_revision: 1,
        token: "t".to_owned(),
    };
    means.keep(Generation(2), &from).await.expect("it is kept");
    let teller = Teller::new(client.clone(), "first".to_owned());
    for step in steps().iter().filter(|step| asks(step)) {
        act::carry_out(&means, step).await.unwrap_or_else(|error| panic!("{step}: {error:#}"));
        // The same event again counts up the one before.
        for _ in 0..2 {
            teller.step(means.cluster, step, None).await;
        }
    }
    fake.calls()
}

/// What the rules of one part of the file allow.
fn allowed(rules: &Value) -> BTreeSet<Call> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().unwrap_or_else(|| panic!("a rule without {field}: {rule}"));
        list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let mut allowed = BTreeSet::new();
    for rule in rules.as_array().expect("a list of rules") {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    assert!(
                        ![&group, &resource, &verb].iter().any(|text| text.contains('*')),
                        "{rule}: no wildcards"
                    );
                    let call = (verb, group.clone(), resource.clone());
                    assert!(allowed.insert(call.clone()), "{call:?} is allowed twice");
                }
            }
        }
    }
    allowed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_allows_what_is_called_and_nothing_else() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/vr-operator/files/rules.yaml");
    let text = std::fs::read_to_string(path).expect("the chart has rules");
    let rules: Value = serde_yaml::from_str(&text).expect("the rules are YAML");
    let mut parts: BTreeMap<&str, BTreeSet<Call>> =
        ["nodes", "clusters", "lease"].map(|part| (part, BTreeSet::new())).into();
    for call in every_call().await {
        let part = match call.2.as_str() {
            "nodes" => "nodes",
            "leases" => "lease",
            _ => "clusters",
        };
        parts.entry(part).or_default().insert(call);
    }
    let known: Vec<&str> = rules.as_object().expect("parts").keys().map(String::as_str).collect();
    assert_eq!(known.len(), parts.len(), "parts of rules.yaml: {known:?}");
    for (part, called) in parts {
        let allowed = allowed(&rules[part]);
        let missing: Vec<_> = called.difference(&allowed).collect();
        let idle: Vec<_> = allowed.difference(&called).collect();
        assert!(missing.is_empty(), "rules.yaml, {part}: the operator needs, and may not: {missing:#?}");
        assert!(idle.is_empty(), "rules.yaml, {part}: the operator may, and never does: {idle:#?}");
    }
}
