//! `crds/` is what the types say, and small enough for what people do with it.

use std::path::Path;

#[test]
fn the_files_are_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let write = std::env::var_os("VR_WRITE_CRDS").is_some();
    for (name, yaml) in vr_api::crds() {
        let path = folder.join(&name);
        if write {
            std::fs::create_dir_all(&folder).expect("crds/ can be written");
            std::fs::write(&path, &yaml).expect("crds/ can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == yaml,
            "crds/{name} is not what the types say: VR_WRITE_CRDS=1 cargo test -p vr-api --test crds writes it"
        );
    }
    let files = std::fs::read_dir(&folder).expect("crds/ is there").count();
    assert_eq!(files, vr_api::crds().len(), "a file in crds/ belongs to no type");
}

/// In JSON, as the API server keeps them and as `kubectl apply` puts a copy of it into an annotation.
#[test]
fn they_are_small() {
    for (name, yaml) in vr_api::crds() {
        let crd: serde_json::Value = serde_yaml::from_str(&yaml).expect("it is YAML");
        let bytes = crd.to_string().len();
        assert!(bytes <= 40_000, "crds/{name} has {bytes} bytes");
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
