//! Every rule of the schemas has an example that it refuses, with the message that a person reads, and the examples in
//! `examples/` are accepted. What is checked is the generated schema itself: its ranges and patterns as JSON Schema, its
//! CEL rules by the evaluator of kube. What the API server alone knows (the cost of a rule) is not here: with `VR_CASES` a
//! folder gets the cases as JSON, and `e2e/run --only rules` puts them to a real one.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn crd(kind: &str) -> Value {
    let found = vr_api::crds().into_iter().find_map(|(_, yaml)| {
        let crd: Value = serde_yaml::from_str(&yaml).expect("it is YAML");
        (crd["spec"]["names"]["kind"] == kind).then_some(crd)
    });
    found.unwrap_or_else(|| panic!("no definition of {kind}"))
}

fn schema(kind: &str) -> Value {
    crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Everything that the API server would say of an object, or of a change to it.
fn refusals(object: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = schema(object["kind"].as_str().expect("an object has a kind"));
    let validator = jsonschema::validator_for(&schema).expect("a schema is a JSON Schema");
    let mut said: Vec<String> =
        validator.iter_errors(object).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if said.is_empty() {
        let rules = kube::core::cel::Validator::new().validate(&schema, object, old);
        said.extend(rules.err().into_iter().flat_map(|e| e.into_vec()).map(|e| e.message));
    }
    said
}

fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An example with some places changed; null takes a place away.
fn changed(name: &str, changes: &[(&str, Value)]) -> Value {
    let mut object = example(name);
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has no parent"));
        let parent = parent.as_object_mut().expect("a parent is an object");
        match value {
            Value::Null => drop(parent.remove(field)),
            value => drop(parent.insert(field.to_owned(), value.clone())),
        }
    }
    object
}

#[test]
fn the_examples_are_accepted_and_mean_something() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("examples/ is there") {
        let name = file.expect("it can be listed").file_name().to_string_lossy().into_owned();
        let object = example(&name);
        assert_eq!(refusals(&object, None), Vec::<String>::new(), "{name}");
        assert_eq!(refusals(&object, Some(&object)), Vec::<String>::new(), "{name}, applied again");
        let spec = object["spec"].clone();
        let same = match object["kind"].as_str() {
            Some("VRCluster") => back::<vr_api::VRClusterSpec>(&spec),
            Some("VRCheckpoint") => back::<vr_api::VRCheckpointSpec>(&spec),
            Some("VRRestore") => back::<vr_api::VRRestoreSpec>(&spec),
            Some("VRDrill") => back::<vr_api::VRDrillSpec>(&spec),
            Some("VRDrillSchedule") => back::<vr_api::VRDrillScheduleSpec>(&spec),
            other => panic!("{name}: {other:?}"),
        };
        // Every field of the example is a field of the type: what is not would be dropped here.
        lost(&name, &spec, &same);
        count += 1;
    }
    assert!(count >= 8, "{count} examples");
}

fn back<T: serde::de::DeserializeOwned + serde::Serialize>(spec: &Value) -> Value {
    let typed: T = serde_json::from_value(spec.clone()).expect("an example is what the type says");
    serde_json::to_value(typed).expect("plain data is always JSON")
}

fn lost(path: &str, before: &Value, after: &Value) {
    match before {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let default = value == &json!(false) || value == &json!([]);
            assert!(default || after.get(name).is_some(), "{path}.{name} is no field");
            lost(&format!("{path}.{name}"), value, &after[name]);
        }),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .for_each(|(at, value)| lost(&format!("{path}[{at}]"), value, &after[at])),
        _ => {}
    }
}

/// The example, what is changed in it, and a part of the message.
type Case = (&'static str, Vec<(&'static str, Value)>, &'static str);

/// What is refused in a new object: the example, the changes, and a part of the message.
#[test]
fn what_makes_no_sense_is_refused() {
    let minimal = "vrcluster-minimal.yaml";
    let cases: Vec<Case> = vec![
        (minimal, vec![("/spec/replicas", json!(4))], "an odd number"),
        (minimal, vec![("/spec/replicas", json!(11))], "11 is greater than the maximum of 9"),
        (minimal, vec![("/spec/replicas", json!(0))], "0 is less than the minimum of 1"),
        (minimal, vec![("/spec/replicas", json!(1))], "1 survives no failure"),
        (minimal, vec![("/spec/replicas", json!("3"))], "is not of type \"integer\""),
        (minimal, vec![("/spec/image", json!(""))], "shorter than 1"),
        (minimal, vec![("/spec/image", Value::Null)], "\"image\" is a required property"),
        (minimal, vec![("/spec/memory/limit", json!("16 GB"))], "does not match"),
        (minimal, vec![("/spec/memory/stateLimit", json!("17Gi"))], "must not be above memory.limit"),
        (minimal, vec![("/spec/storage/volume", Value::Null)], "storage.volume: without it"),
        (minimal, vec![("/spec/storage/objectStore/bucket", json!("A"))], "does not match"),
        (minimal, vec![("/spec/storage/objectStore/endpoint", json!("s3.example.com"))], "does not match"),
        (
            minimal,
            vec![("/spec/storage/objectStore/credentialsSecretRef", json!({"name": "keys"}))],
            "(keys), not both",
        ),
        (minimal, vec![("/spec/storage/nvme/type", json!("Disk"))], "is not one of"),
        (minimal, vec![("/spec/storage/nvme/type", json!("HostPath"))], "storage.nvme.hostPath: needed"),
        (minimal, vec![("/spec/storage/nvme/hostPath", json!("/mnt"))], "storage.nvme.hostPath: needed"),
        (
            minimal,
            vec![("/spec/storage/nvme/storageClassName", json!("x"))],
            "only with type EphemeralVolume",
        ),
        (
            minimal,
            vec![("/spec/recovery", json!({"onTotalLoss": "Automatic"}))],
            "maxDataLossSeconds: needed",
        ),
        (minimal, vec![("/spec/recovery", json!({"onTotalLoss": "Perhaps"}))], "is not one of"),
        (minimal, vec![("/spec/tls", json!({}))], "tls: exactly one of"),
        (
            minimal,
            vec![("/spec/tls", json!({"operatorManaged": {}, "secretRef": {"name": "x"}}))],
            "tls: exactly one of",
        ),
        (minimal, vec![("/spec/bootstrap", json!({"restore": {}}))], "one of the two"),
        (
            minimal,
            vec![(
                "/spec/bootstrap",
                json!({"restore": {"lineage": {"bucket": "abc", "opNumber": 1, "manifest": "m"}}}),
            )],
            "at most one of beforeTime",
        ),
        (minimal, vec![("/spec/checkpoint", json!({"nvmeIntervalSeconds": 0}))], "less than the minimum"),
        (
            minimal,
            vec![("/spec/checkpoint", json!({"volumeRateLimitBytes": 1000}))],
            "less than the minimum of 1048576",
        ),
        (
            minimal,
            vec![("/spec/podTemplate", json!({"labels": {"vr-operator.io/cluster": "x"}}))],
            "are the operator's",
        ),
        (minimal, vec![("/metadata/name", json!("x".repeat(41)))], "at most 40 characters"),
        ("vrcheckpoint.yaml", vec![("/spec/clusterRef/name", json!(""))], "shorter than 1"),
        ("vrcheckpoint.yaml", vec![("/spec/opNumber", json!(0))], "less than the minimum"),
        (
            "vrrestore-to-a-time.yaml",
            vec![("/spec/acknowledgeDataLoss", json!("pord"))],
            "must be the name of the cluster",
        ),
        ("vrrestore-to-a-time.yaml", vec![("/spec/planNonce", json!("abc"))], "exactly one of the two"),
        ("vrrestore-to-a-time.yaml", vec![("/spec/target", Value::Null)], "exactly one of the two"),
        ("vrrestore-to-a-time.yaml", vec![("/spec/target/revision", json!(7))], "exactly one of beforeTime"),
        ("vrdrill.yaml", vec![("/spec/scenario", json!("LoseEverything"))], "is not one of"),
        ("vrdrill.yaml", vec![("/spec/clusterRef", Value::Null)], "\"clusterRef\" is a required property"),
        ("vrdrill.yaml", vec![("/spec/reader", json!({}))], "reader: serviceAccountName"),
        (
            "vrdrill.yaml",
            vec![("/spec/reader/serviceAccountName", json!("reader"))],
            "exactly one of the two",
        ),
        (
            "vrdrill.yaml",
            vec![("/spec/scenario", json!("LosePrimary"))],
            "allowLiveImpact: this scenario harms",
        ),
        (
            "vrdrill.yaml",
            vec![("/spec/scenario", json!("LoseZone")), ("/spec/allowLiveImpact", json!(false))],
            "allowLiveImpact: this scenario harms",
        ),
        (
            "vrdrill.yaml",
            vec![("/spec/scenario", json!("LoseAllMemory")), ("/spec/allowLiveImpact", json!(true))],
            "allowDataLoss: LoseAllMemory loses",
        ),
        ("vrdrillschedule.yaml", vec![("/spec/drill/scenario", json!("LoseReplica"))], "allowLiveImpact"),
        ("vrdrill.yaml", vec![("/spec/deadlineSeconds", json!(59))], "less than the minimum"),
        ("vrdrill.yaml", vec![("/spec/memoryLimit", json!("much"))], "does not match"),
        ("vrdrill.yaml", vec![("/metadata/name", json!("x".repeat(57)))], "at most 56 characters"),
        ("vrdrillschedule.yaml", vec![("/spec/schedule", json!("daily"))], "shorter than 9"),
        ("vrdrillschedule.yaml", vec![("/spec/timeZone", json!(""))], "shorter than 1"),
        ("vrdrillschedule.yaml", vec![("/spec/jitterSeconds", json!(-1))], "less than the minimum"),
        ("vrdrillschedule.yaml", vec![("/spec/startingDeadlineSeconds", json!(1))], "less than the minimum"),
        ("vrdrillschedule.yaml", vec![("/spec/concurrencyPolicy", json!("Allow"))], "is not one of"),
        ("vrdrillschedule.yaml", vec![("/spec/failedHistory", json!(101))], "greater than the maximum"),
        ("vrdrillschedule.yaml", vec![("/spec/drill", Value::Null)], "\"drill\" is a required property"),
        ("vrdrillschedule.yaml", vec![("/metadata/name", json!("x".repeat(45)))], "at most 44 characters"),
    ];
    for (name, changes, expected) in &cases {
        let said = refusals(&changed(name, changes), None);
        assert!(said.iter().any(|s| s.contains(expected)), "{name} {changes:?}: {said:?}");
    }
    hand_out("new", &cases);
}

/// Writes cases down for whoever puts them to a real API server, if somebody asks for it.
fn hand_out(name: &str, cases: &[Case]) {
    let Some(folder) = std::env::var_os("VR_CASES") else { return };
    let mut messages = BTreeSet::new();
    for (_, yaml) in vr_api::crds() {
        collect(&serde_yaml::from_str(&yaml).expect("it is YAML"), &mut messages);
    }
    // What a schema refuses without a rule is refused in other words there.
    let rule = |says: &str| messages.iter().any(|message| message.contains(says));
    let each = cases.iter().map(|(of, changes, says)| {
        json!({"before": example(of), "object": changed(of, changes), "says": says, "rule": rule(says)})
    });
    let path = Path::new(&folder).join(format!("{name}.json"));
    std::fs::write(path, Value::from_iter(each).to_string()).expect("VR_CASES is a folder");
}

/// What is refused as a change of an object that was fine.
#[test]
fn what_cannot_be_changed_stays() {
    let minimal = "vrcluster-minimal.yaml";
    let from = "vrcluster-from-a-bucket.yaml";
    let cases: Vec<Case> = vec![
        (minimal, vec![("/spec/replicas", json!(7))], "at most 2 at a time"),
        (minimal, vec![("/spec/storage/volume/size", json!("30Gi"))], "cannot shrink"),
        (minimal, vec![("/spec/storage/nvme", Value::Null)], "cannot be added or removed"),
        (minimal, vec![("/spec/storage/objectStore/bucket", json!("another"))], "cannot be changed"),
        (minimal, vec![("/spec/storage/objectStore/prefix", Value::Null)], "cannot be changed"),
        (
            minimal,
            vec![("/spec/bootstrap", json!({"restore": {"checkpointRef": {"name": "x"}}}))],
            "used once",
        ),
        (from, vec![("/spec/bootstrap", Value::Null)], "used once"),
        (from, vec![("/spec/bootstrap/restore/lineage/prefix", json!("other"))], "used once"),
        ("vrcheckpoint.yaml", vec![("/spec/expireAfterHours", json!(1))], "make another one"),
        ("vrrestore-after-total-loss.yaml", vec![("/spec/planNonce", json!("x"))], "make another one"),
        ("vrdrill.yaml", vec![("/spec/deadlineSeconds", json!(60))], "make another one"),
    ];
    for (name, changes, expected) in &cases {
        let said = refusals(&changed(name, changes), Some(&example(name)));
        assert!(said.iter().any(|s| s.contains(expected)), "{name} {changes:?}: {said:?}");
    }
    hand_out("changes", &cases);
    let larger =
        changed(minimal, &[("/spec/storage/volume/size", json!("50Gi")), ("/spec/replicas", json!(5))]);
    assert_eq!(refusals(&larger, Some(&example(minimal))), Vec::<String>::new());
}

/// A rule that no case above names is a rule that nobody has seen refuse anything.
#[test]
fn every_rule_has_a_case() {
    let cases = include_str!("rules.rs");
    let mut messages = BTreeSet::new();
    for kind in ["VRCluster", "VRCheckpoint", "VRRestore"] {
        collect(&schema(kind), &mut messages);
    }
    assert!(messages.len() >= 15, "{} rules", messages.len());
    let quoted: Vec<&str> = cases.split('"').filter(|part| part.len() > 8).collect();
    let missed: Vec<&String> =
        messages.iter().filter(|message| !quoted.iter().any(|part| message.contains(part))).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

fn collect(value: &Value, messages: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(rules) = fields.get("x-kubernetes-validations").and_then(Value::as_array) {
                messages
                    .extend(rules.iter().map(|rule| rule["message"].as_str().unwrap_or_default().to_owned()));
            }
            fields.values().for_each(|value| collect(value, messages));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, messages)),
        _ => {}
    }
}
