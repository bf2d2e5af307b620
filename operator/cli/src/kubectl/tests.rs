//! The commands against an API server in this process, which has a few objects and writes down what it is asked to change.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Ready;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use clap::{CommandFactory as _, Parser as _};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tonic::codegen::Service;

use super::{Ask, Cli, Place, Said};

/// Objects by path, and the methods and paths of what would have changed something, and the last body.
#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<Vec<String>>>,
    written: Arc<Mutex<Value>>,
}

impl Fake {
    fn put(&self, path: &str, object: Value) {
        self.objects.lock().expect("nobody panics while holding it").insert(path.to_owned(), object);
    }
}

impl Service<Request<Body>> for Fake {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let objects = self.objects.lock().expect("nobody panics while holding it");
        let found = objects.get(&path).cloned();
        let method = request.method().clone();
        let (code, said) = if method != "GET" {
            let write = format!("{method} {path}");
            self.writes.lock().expect("nobody panics while holding it").push(write);
            let body = request.into_body().collect().now_or_never().expect("it is in memory");
            let body = serde_json::from_slice(&body.expect("it is whole").to_bytes()).unwrap_or_default();
            *self.written.lock().expect("nobody panics while holding it") = body;
            match found {
                Some(_) if method == "POST" => (409, failure(409, "AlreadyExists")),
                Some(object) => (200, object),
                None => {
                    (201, json!({"metadata": {"name": "made"}, "spec": {"clusterRef": {"name": "prod"}}}))
                }
            }
        } else if path.ends_with("/log") {
            return std::future::ready(Ok(Response::new(Body::from(b"a line of a log\n".to_vec()))));
        } else if let Some(object) = found {
            (200, object)
        } else {
            let below = format!("{path}/");
            let named = |at: &String| at.starts_with(&below) && !at[below.len()..].contains('/');
            let items: Vec<_> =
                objects.iter().filter(|(at, _)| named(at)).map(|(_, object)| object).collect();
            // Lists end with a plural, and everything else here does not.
            if path.ends_with('s') {
                (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
            } else {
                (404, failure(404, "NotFound"))
            }
        };
        let mut response = Response::new(Body::from(said.to_string().into_bytes()));
        *response.status_mut() = hyper::StatusCode::from_u16(code).expect("a status");
        std::future::ready(Ok(response))
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason,
        "code": code})
}

const CLUSTER: &str = "/apis/vr-operator.io/v1alpha1/namespaces/shop/vrclusters/prod";

fn replica(id: i64, zone: &str, state: &str) -> Value {
    json!({"id": id, "slot": format!("prod-{}", id - 1), "zone": zone, "state": state, "voter": true, "op": 100 + id})
}

/// Three replicas in three zones, the second leads.
fn cluster(change: impl FnOnce(&mut Value)) -> Fake {
    let ready = json!({"type": "Ready", "status": "True", "reason": "AsWanted", "message": "all is as it is wanted",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut object = json!({
        "apiVersion": "vr-operator.io/v1alpha1", "kind": "VRCluster",
        "metadata": {"name": "prod", "namespace": "shop", "generation": 2, "resourceVersion": "7"},
        "spec": {"replicas": 3, "image": "vr", "memory": {"limit": "1Gi", "stateLimit": "512Mi"},
            "storage": {"volume": {"size": "2Gi"}, "objectStore": {"bucket": "vr-prod", "prefix": "a"}}},
        "status": {"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "faultTolerance": 1, "view": 4, "epoch": 0,
            "lineage": {"id": "6f1f", "generation": 1},
            "primary": {"id": 2, "podName": "prod-1", "zone": "b", "since": "2026-01-01T00:00:00Z"},
            "replicaStatuses": [replica(1, "a", "Normal"), replica(2, "b", "Normal"), replica(3, "c", "Normal")],
            "conditions": [ready]}
    });
    change(&mut object);
    let fake = Fake::default();
    fake.put(CLUSTER, object);
    fake
}

/// A majority has lost its memory, and there is a plan.
fn lost() -> Fake {
    cluster(|object| {
        let status = &mut object["status"];
        status["readyReplicas"] = 0.into();
        status["faultTolerance"] = (-2).into();
        status["primary"] = Value::Null;
        status["conditions"][0] = json!({"type": "Ready", "status": "False", "reason": "TotalLoss",
            "message": "all three have lost their memory", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        status["recoveryPlan"] = json!({"nonce": "5f0c9b7e", "reason": "all three have lost their memory",
            "expectedDataLossSeconds": 9, "candidates": [
                {"source": "volume of prod-1", "op": 90, "remark": "its checksum is wrong"},
                {"source": "object store", "op": 88, "time": "2026-01-01T00:59:00Z"}]});
    })
}

async fn run(fake: &Fake, line: &str, ask: Ask<'_>) -> anyhow::Result<Said> {
    let cli = Cli::try_parse_from(std::iter::once("kubectl-vr").chain(line.split(' ')))?;
    let place = Place {
        client: kube::Client::new(fake.clone(), "default"),
        namespace: cli.place.namespace.unwrap_or_else(|| "shop".to_owned()),
        now: "2026-01-01T01:00:00Z".parse()?,
    };
    cli.command.run(&place, ask).await
}

fn nobody(_: &str) -> anyhow::Result<Option<String>> {
    Ok(None)
}

async fn says(fake: &Fake, line: &str) -> Said {
    run(fake, line, &mut nobody).await.unwrap_or_else(|error| panic!("{line}: {error:#}"))
}

async fn refuses(fake: &Fake, line: &str) -> String {
    let outcome = run(fake, line, &mut nobody).await;
    assert_eq!(writes(fake), Vec::<String>::new(), "{line}");
    format!("{:#}", outcome.expect_err(line))
}

fn writes(fake: &Fake) -> Vec<String> {
    fake.writes.lock().expect("nobody panics while holding it").clone()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn the_page_of_a_healthy_cluster_says_that_there_is_nothing_to_do() {
    let said = says(&cluster(|_| ()), "status prod").await;
    assert!(said.good);
    for line in [
        "VRCluster shop/prod: AsWanted\n",
        "  next            nothing\n",
        "  replicas        3 of 3 ready, 1 more may be lost\n",
        "  primary         prod-1, replica 2, zone b, for 60 min\n",
        "  lineage         6f1f, generation 1, epoch 0, view 4\n",
    ] {
        assert!(said.text.contains(line), "{line:?} is not in\n{}", said.text);
    }
    assert!(!said.text.contains("Not as it should be"), "{}", said.text);
    // The only one of a namespace needs no name.
    assert_eq!(says(&cluster(|_| ()), "status").await.text, said.text);
}

#[tokio::test]
async fn what_is_wrong_comes_with_what_to_type() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|c| c["status"] = Value::Null, "the operator has said nothing of it yet"),
        (|c| c["spec"]["paused"] = true.into(), "kubectl patch vrc -n shop prod --type merge"),
        (
            |c| c["status"]["replicaStatuses"][2]["state"] = "Unreachable".into(),
            "kubectl describe pod -n shop prod-2",
        ),
        (|c| c["status"]["faultTolerance"] = 0.into(), "the next loss ends the service"),
        (|c| c["metadata"]["generation"] = 3.into(), "has not looked at the newest change"),
        (
            |c| {
                c["status"]["operation"] = json!({"type": "Replace", "step": "CatchingUp", "replica": 4,
                    "startedAt": "2026-01-01T00:50:00Z", "deadline": "2026-01-01T00:55:00Z"});
            },
            "Replace of replica 4: CatchingUp, for 10 min, OVERDUE",
        ),
    ];
    for (change, expected) in cases {
        let said = says(&cluster(change), "status prod").await;
        assert!(said.text.contains(expected), "{expected:?} is not in\n{}", said.text);
    }
    let odd = cluster(|c| {
        let bad = json!({"type": "Recoverable", "status": "False", "reason": "StaleBeyondRPO", "message": "20 min",
            "lastTransitionTime": "2026-01-01T00:40:00Z"});
        c["status"]["conditions"].as_array_mut().expect("a list").push(bad);
    });
    let said = says(&odd, "status prod").await;
    assert!(said.text.ends_with("Recoverable is False, StaleBeyondRPO, for 20 min: 20 min"), "{}", said.text);
    let said = says(&lost(), "status prod").await;
    assert!(
        !said.good && said.text.contains("kubectl vr plan -n shop prod, then kubectl vr recover"),
        "{}",
        said.text
    );
}

#[tokio::test]
async fn a_plan_is_shown_and_acknowledged_by_its_nonce() {
    let fake = lost();
    let said = says(&fake, "plan prod").await.text;
    assert!(said.contains("about 9 s of writes are lost"), "{said}");
    let best: Vec<_> = said.lines().filter(|line| line.contains("->")).collect();
    assert!(
        best.len() == 1 && best[0].contains("object store"),
        "what cannot be used is not the best: {said}"
    );
    assert!(said.ends_with("kubectl vr recover -n shop prod --nonce 5f0c9b7e"), "{said}");

    assert!(refuses(&fake, "recover prod").await.contains("there is nobody to ask"));
    assert!(refuses(&fake, "recover prod --yes --nonce older").await.contains("it is 5f0c9b7e now"));
    let mut wrong = |_: &str| Ok(Some("yes".to_owned()));
    let error = run(&fake, "recover prod", &mut wrong).await.expect_err("yes is not the name").to_string();
    assert!(error.contains("not the name of the cluster") && writes(&fake).is_empty(), "{error}");
    let mut asked = String::new();
    let mut right = |question: &str| {
        asked = question.to_owned();
        Ok(Some("prod".to_owned()))
    };
    let said = run(&fake, "recover prod", &mut right).await.expect("it is acknowledged");
    assert!(asked.contains("about 9 s"), "what is given up is said before it is asked: {asked}");
    assert!(said.text.starts_with("VRRestore prod-5f0c9b7e is made"), "{}", said.text);
    assert_eq!(writes(&fake), ["POST /apis/vr-operator.io/v1alpha1/namespaces/shop/vrrestores"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let fake = cluster(|c| c["status"]["replicaStatuses"][0]["zone"] = "c".into());
    for (line, expected) in [
        ("status other", "there is no VRCluster other in namespace shop"),
        ("recover prod --yes", "there is nothing to acknowledge"),
        ("promote prod prod-9", "no replica prod-9: prod-0 (1), prod-1 (2), prod-2 (3)"),
        ("promote prod prod-2", "prod-0 is in zone c as well"),
        ("fence prod 9", "no replica 9"),
        ("fence prod 1", "there is nobody to ask"),
        ("-n elsewhere status", "there is no VRCluster in namespace elsewhere"),
        ("report prod --out /", "the folder / cannot be made"),
    ] {
        let error = refuses(&fake, line).await;
        assert!(error.contains(expected), "{line}: {expected:?} is not in {error}");
    }
    let empty = lost();
    empty.objects.lock().expect("it is new").get_mut(CLUSTER).expect("it is there")["status"]["recoveryPlan"]
        ["candidates"] = json!([]);
    assert!(refuses(&empty, "recover prod --yes").await.contains("names nothing that can be restored"));
    assert!(says(&fake, "plan prod").await.text.contains("nothing waits for your word"));
}

#[tokio::test]
async fn a_roll_back_is_ordered_by_the_name_of_the_cluster() {
    let fake = cluster(|_| {});
    assert!(refuses(&fake, "roll-back prod --to-op 90").await.contains("there is nobody to ask"));
    assert!(
        refuses(&fake, "roll-back nobody --to-op 90 --yes").await.contains("there is no VRCluster nobody")
    );
    let mut asked = String::new();
    let mut right = |question: &str| {
        asked = question.to_owned();
        Ok(Some("prod".to_owned()))
    };
    let line = "roll-back prod --to-time 2026-11-23T07:00:00Z";
    let said = run(&fake, line, &mut right).await.expect("it is ordered");
    assert!(
        asked.starts_with("VRCluster prod goes back to 2026-11-23T07:00:00Z; every write after"),
        "{asked}"
    );
    assert!(said.text.contains("To watch: kubectl get vrr -n shop prod-back-"), "{}", said.text);
    assert_eq!(writes(&fake), ["POST /apis/vr-operator.io/v1alpha1/namespaces/shop/vrrestores"]);
    let written = fake.written.lock().expect("nobody panics while holding it").clone();
    let ordered = json!({"clusterRef": {"name": "prod"}, "target": {"beforeTime": "2026-11-23T07:00:00Z"},
        "acknowledgeDataLoss": "prod"});
    assert_eq!(written["spec"], ordered, "{written}");
    for wrong in ["", "--to-op 0", "--to-op 1 --to-revision 1", "--to-time yesterday"] {
        let words = ["kubectl-vr", "roll-back", "prod"].into_iter().chain(wrong.split_whitespace());
        assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn promote_and_fence_change_the_spec() {
    let fake = cluster(|_| ());
    assert!(says(&fake, "promote prod prod-1").await.text.contains("is the primary"));
    assert_eq!(writes(&fake), Vec::<String>::new());
    assert!(says(&fake, "promote prod 3").await.text.starts_with("zone c is preferred now"));
    assert!(says(&fake, "fence prod prod-0 --yes").await.text.starts_with("replica 1 is fenced"));
    assert_eq!(writes(&fake), [format!("PATCH {CLUSTER}"), format!("PATCH {CLUSTER}")]);
}

/// A cluster whose certificates are so, and whose authority's Secret has such a note of a change.
fn certified(reason: &str, note: Option<&str>, change: impl FnOnce(&mut Value)) -> Fake {
    let fake = cluster(|c| {
        let good = if reason == "RotationRefused" { "False" } else { "True" };
        let says = json!({"type": "CertificatesValid", "status": good, "reason": reason, "message": "prod-1 is awaited",
            "lastTransitionTime": "2026-01-01T00:40:00Z"});
        c["status"]["conditions"].as_array_mut().expect("a list").push(says);
        change(c);
    });
    let annotations = note.map_or(Value::Null, |note| json!({"vr-operator.io/rotation": note}));
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "prod-ca", "namespace": "shop", "annotations": annotations}});
    fake.put("/api/v1/namespaces/shop/secrets/prod-ca", secret);
    fake
}

const ASK: &str = "vr-operator.io/rotate-authority";
const BESIDE: &str = "Beside until 2026-01-02T00:00:00Z";

#[tokio::test]
async fn how_far_the_change_of_an_authority_is_comes_with_what_to_type() {
    let asks = |c: &mut Value| c["metadata"]["annotations"] = json!({ASK: "24h"});
    let pauses = |c: &mut Value| c["spec"]["paused"] = true.into();
    let plain = |c: &mut Value| c["spec"]["unsafeFlags"] = json!({"plaintext": true});
    for (fake, good, expected) in [
        (certified("Managed", None, |_| ()), true, "nothing; kubectl vr authority -n shop prod --rotate 24h"),
        (
            certified("Managed", None, asks),
            true,
            "asked  a change, with 24h for clients; the operator has not taken",
        ),
        (
            certified("Managed", None, asks),
            true,
            "next   wait a moment, then kubectl vr authority -n shop prod",
        ),
        (
            certified("Rotating", Some(BESIDE), |_| ()),
            true,
            "1 of 3: both are trusted; the new one signs from 2026-01-02",
        ),
        (
            certified("Rotating", Some(BESIDE), |_| ()),
            true,
            "kubectl get secret -n shop prod-ca -o jsonpath='{.data.ca\\.crt}'",
        ),
        (
            certified("Rotating", Some(BESIDE), pauses),
            true,
            "the operator is told to do nothing: kubectl patch vrc -n shop prod",
        ),
        (certified("Rotating", Some("Signs"), |_| ()), true, "2 of 3: the new one signs"),
        (certified("Rotating", Some("Signs"), |_| ()), true, "says   prod-1 is awaited\n  since  20 min"),
        (
            certified("Rotating", Some("Somehow"), |_| ()),
            true,
            "Secret prod-ca says \"Somehow\", which is no step",
        ),
        (certified("RotationRefused", None, asks), false, "which takes the place of what was asked for"),
        (cluster(|_| ()), false, "the operator has said nothing of its certificates yet"),
        (cluster(|_| ()), false, "not known: there is no Secret prod-ca yet"),
        (
            certified("RotationRefused", None, |c| {
                asks(c);
                plain(c);
            }),
            false,
            "kubectl annotate vrc -n shop prod vr-operator.io/rotate-authority-; its ports speak no TLS",
        ),
        (certified("Managed", None, plain), true, "nothing; its ports speak no TLS"),
    ] {
        let said = says(&fake, "authority prod").await;
        assert!(said.good == good && said.text.contains(expected), "{expected:?} is not in\n{}", said.text);
    }
}

#[tokio::test]
async fn another_authority_is_asked_for_by_the_name_of_the_cluster() {
    let start = "authority prod --rotate 24h";
    let given = |c: &mut Value| c["spec"]["tls"] = json!({"secretRef": {"name": "ours"}});
    let issued = |c: &mut Value| c["spec"]["tls"] = json!({"issuerRef": {"name": "company"}});
    let goes = |c: &mut Value| c["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    for (fake, line, expected) in [
        (certified("Given", None, given), "authority prod --rotate 0s --yes", "stand in Secret ours"),
        (
            certified("Issued", None, issued),
            "authority prod --rotate 0s --yes",
            "Issuer company signs its certificates",
        ),
        (certified("Managed", None, goes), "authority prod --rotate 0s --yes", "is being deleted"),
        (
            certified("Managed", None, |c| c["spec"]["paused"] = true.into()),
            start,
            "first kubectl patch vrc -n shop prod",
        ),
        (certified("Rotating", Some("Signs"), |_| ()), "authority prod --rotate 0s --yes", "signs already"),
        (certified("Managed", None, |_| ()), start, "there is nobody to ask"),
        (
            certified("Managed", None, |_| ()),
            "authority prod --rotate 31d",
            "no time from 0s to 30d: give for example",
        ),
        (
            certified("Managed", None, |_| ()),
            "authority prod --rotate soon",
            "no time from 0s to 30d: give for example",
        ),
        (certified("Managed", None, |_| ()), "authority prod --yes", "--rotate"),
    ] {
        let error = refuses(&fake, line).await;
        assert!(error.contains(expected), "{line}: {expected:?} is not in {error}");
    }
    let fake = certified("Managed", None, |_| ());
    let error =
        run(&fake, start, &mut |_| Ok(Some("yes".to_owned()))).await.expect_err("yes is not the name");
    assert!(error.to_string().contains("not the name of the cluster") && writes(&fake).is_empty(), "{error}");
    let mut asked = String::new();
    let mut right = |question: &str| {
        asked = question.to_owned();
        Ok(Some("prod".to_owned()))
    };
    let said = run(&fake, start, &mut right).await.expect("it is asked for").text;
    assert!(
        asked.contains("both are trusted for 24h") && asked.contains("again by then are cut off"),
        "{asked}"
    );
    assert!(said.ends_with("To watch: kubectl vr authority -n shop prod"), "{said}");
    assert_eq!(writes(&fake), [format!("PATCH {CLUSTER}")]);
    let written = fake.written.lock().expect("nobody panics while holding it").clone();
    assert_eq!(written, json!({"metadata": {"resourceVersion": "7", "annotations": {ASK: "24h"}}}));
    // Before the new one signs, the time can be changed.
    let said =
        says(&certified("Rotating", Some(BESIDE), |_| ()), "authority prod --rotate 0s --yes").await.text;
    assert!(
        said.contains("was to sign from 2026-01-02T00:00:00Z on; now it signs when 0s have passed"),
        "{said}"
    );
}

#[tokio::test]
async fn views_follow_the_order() {
    let said = says(&cluster(|_| ()), "view prod").await.text;
    let leads: Vec<_> =
        said.lines().skip(3).map(|line| line.split_whitespace().nth(1).expect("a primary")).collect();
    assert_eq!(leads, ["2", "3", "1"], "{said}");
    let said = says(&cluster(|_| ()), "view prod --view 5").await.text;
    assert!(said.lines().nth(3).is_some_and(|line| line.split_whitespace().nth(1) == Some("3")), "{said}");
}

#[tokio::test]
async fn restore_points_are_told_or_where_they_are_to_be_found() {
    let bucket = "vr checkpoint ls s3://vr-prod/a";
    let said = says(&cluster(|_| ()), "restore-points prod").await.text;
    assert!(said.contains("names no state") && said.contains(bucket), "{said}");
    let known = cluster(|c| {
        c["status"]["recoveryPoint"] =
            json!({"op": 70, "time": "2026-01-01T00:59:50Z", "tier": "objectStore"});
    });
    let said = says(&known, "restore-points prod").await.text;
    let row: Vec<_> = said.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["newest", "objectStore", "70", "10", "s"], "{said}");
}

#[tokio::test]
async fn a_node_is_drained_only_where_nobody_loses_its_quorum() {
    let pod = json!({"metadata": {"name": "prod-1", "namespace": "shop", "labels": {"vr-operator.io/cluster": "prod"}},
        "spec": {"containers": []}});
    let budget = |allowed: i32| {
        json!({"metadata": {"name": "prod", "namespace": "shop"}, "status": {"disruptionsAllowed": allowed,
            "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3}})
    };
    for (allowed, tolerance, good, expected) in [
        (1, json!(1), true, "may go; hands the primary over first"),
        (0, json!(1), false, "wait: its budget allows no eviction now"),
        (1, json!(0), false, "wait: no replica may be lost now"),
        (1, Value::Null, false, "wait: how its cluster is is not known"),
    ] {
        let fake = cluster(|c| c["status"]["faultTolerance"] = tolerance);
        fake.put("/api/v1/pods/prod-1", pod.clone());
        fake.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/prod", budget(allowed));
        let said = says(&fake, "drain-check n1").await;
        assert!(said.good == good && said.text.contains(expected), "{expected:?}: {}", said.text);
    }
    let said = says(&cluster(|_| ()), "drain-check n1").await;
    assert!(said.good && said.text.contains("no replica is on node n1"), "{}", said.text);
}

#[tokio::test]
async fn a_report_has_logs_and_objects_and_no_secret() {
    let fake = cluster(|c| c["metadata"]["managedFields"] = json!([{"manager": "somebody"}]));
    let labels = json!({"vr-operator.io/cluster": "prod"});
    let pod = json!({"metadata": {"name": "prod-1", "namespace": "shop", "labels": labels},
        "spec": {"containers": [{"name": "replica", "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2"}]}]},
        "status": {"containerStatuses": [{"name": "replica", "image": "i", "imageID": "i", "ready": true, "restartCount": 1}]}});
    let secret =
        json!({"metadata": {"name": "prod-ca", "namespace": "shop"}, "data": {"tls.key": "aHVudGVyMg=="}});
    fake.put("/api/v1/namespaces/shop/pods/prod-1", pod);
    fake.put("/api/v1/namespaces/shop/secrets/prod-ca", secret);
    let work = tempfile::tempdir().expect("a folder");
    let out = work.path().join("report");
    let said = says(&fake, &format!("report prod --out {}", out.display())).await;
    assert!(said.text.contains("files are in"), "{}", said.text);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(read("status.txt").starts_with("VRCluster shop/prod"));
    assert_eq!(read("secrets.txt"), "prod-ca");
    assert_eq!(read("shop.prod-1.log"), "a line of a log\n");
    assert_eq!(read("shop.prod-1.before.log"), "a line of a log\n");
    assert!(read("vrclusters.yaml").contains("name: prod"));
    for file in std::fs::read_dir(&out).expect("the folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVyMg") && !text.contains("managedFields"),
            "{text}"
        );
    }
}
