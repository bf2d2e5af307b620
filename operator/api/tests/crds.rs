//! `crds/` is what the types say, and small enough for what people do with it.

use std::path::Path;

/// The chart brings its own copies along: helm reads nothing outside of a chart.
#[test]
fn the_files_are_what_the_types_say() {
    let write = std::env::var_os("VR_WRITE_CRDS").is_some();
    for place in ["crds", "charts/vr-operator/files/crds"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(place);
        for (name, yaml) in vr_api::crds() {
            let path = folder.join(&name);
            if write {
                std::fs::create_dir_all(&folder).expect("the folder can be written");
                std::fs::write(&path, &yaml).expect("the folder can be written");
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == yaml,
                "{place}/{name} is not what the types say: VR_WRITE_CRDS=1 cargo test -p vr-api --test crds writes it"
            );
        }
        let files = std::fs::read_dir(&folder).expect("the folder is there").count();
        assert_eq!(files, vr_api::crds().len(), "a file in {place}/ belongs to no type");
    }
}

/// As they lie there and as JSON, which the API server keeps and `kubectl apply` copies into an annotation.
#[test]
fn they_are_small() {
    for (name, yaml) in vr_api::crds() {
        assert!(yaml.len() < 40_000, "crds/{name} has {} bytes", yaml.len());
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).expect("it is YAML");
        let bytes = crd.to_string().len();
        assert!(bytes < 40_000, "crds/{name} has {bytes} bytes as JSON");
    }
}

/// One of several: server-side apply merges the fields of two appliers unless the object is atomic, and nobody's choice
/// comes of that.
#[test]
fn what_is_one_of_several_is_atomic() {
    let mut found = Vec::new();
    for (_, yaml) in vr_api::crds() {
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).expect("it is YAML");
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        alternatives("spec", spec, &mut found);
    }
    found.sort_unstable();
    let atomic = |path: &str| (path.to_owned(), true);
    let known = [
        "spec.bootstrap.restore",
        "spec.bootstrap.restore.lineage",
        "spec.drill.reader",
        "spec.reader",
        "spec.target",
        "spec.tls",
    ];
    assert_eq!(found, known.map(atomic));
}

/// Every object below `spec` with a rule that counts its fields or sets one against another, and whether it is atomic.
/// `spec` itself is not: people apply it in parts.
fn alternatives(path: &str, schema: &serde_json::Value, found: &mut Vec<(String, bool)>) {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let one_of = |rule: &str| {
        rule.contains("filter(x, x).size()")
            || (rule.starts_with("has(self.") && rule.contains(") != has(self."))
    };
    if path != "spec" && rules.into_iter().any(|rule| one_of(rule["rule"].as_str().unwrap_or_default())) {
        found.push((path.to_owned(), schema["x-kubernetes-map-type"] == "atomic"));
    }
    if let Some(properties) = schema["properties"].as_object() {
        properties.iter().for_each(|(name, below)| alternatives(&format!("{path}.{name}"), below, found));
    }
}

/// With `nullable` an explicit null satisfies `has()`; without a bound a rule costs more than the API server allows.
#[test]
fn what_rules_touch_is_bounded_and_never_null() {
    for (name, yaml) in vr_api::crds() {
        assert!(!yaml.contains("nullable"), "crds/{name}");
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).expect("it is YAML");
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut unbounded = Vec::new();
        bounded("spec", spec, &mut unbounded);
        assert!(unbounded.is_empty(), "crds/{name}: {unbounded:#?}");
    }
}

fn bounded(path: &str, schema: &serde_json::Value, unbounded: &mut Vec<String>) {
    let has = |key: &str| schema.get(key).is_some();
    match schema["type"].as_str() {
        Some("string") if !has("maxLength") && !has("enum") => unbounded.push(format!("{path}: maxLength")),
        Some("array") if !has("maxItems") => unbounded.push(format!("{path}: maxItems")),
        Some("object") if !has("properties") && !has("maxProperties") => {
            unbounded.push(format!("{path}: maxProperties"));
        }
        _ => {}
    }
    if let Some(properties) = schema["properties"].as_object() {
        properties.iter().for_each(|(name, below)| bounded(&format!("{path}.{name}"), below, unbounded));
    }
    if has("items") {
        bounded(&format!("{path}[]"), &schema["items"], unbounded);
    }
}
