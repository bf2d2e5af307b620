//! Holds every crate of the workspace to its row of the table in `docs/architecture.md`.
//!
//! Dependencies for building and for tests count like any other: a test that reaches upwards couples the layers as
//! surely as code does. What a row names may be left unused; what it does not name may not be used.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crate, its folder, and the crates of ours that it may use.
const LAYERS: &[(&str, &str, &[&str])] = &[
    (
        "vr",
        "operator/cli",
        &["vr-api", "vr-checkpoint", "vr-client", "vr-evidence", "vr-proto", "vr-recorder", "vr-replica"],
    ),
    (
        "vr-replica",
        "replica/server",
        &["vr-checkpoint", "vr-client", "vr-core", "vr-proto", "vr-recorder", "vr-store", "vr-tree"],
    ),
    ("vr-operator", "operator/controller", &["vr-api", "vr-checkpoint", "vr-evidence", "vr-proto"]),
    ("vr-evidence", "operator/evidence", &["vr-checkpoint"]),
    ("vr-reference", "operator/reference", &["vr", "vr-api", "vr-operator", "vr-replica"]),
    (
        "vr-fuzz",
        "replica/fuzz",
        &["vr-checkpoint", "vr-core", "vr-proto", "vr-replica", "vr-store", "vr-tree"],
    ),
    (
        "vr-sim",
        "replica/sim",
        &["vr-checkpoint", "vr-core", "vr-example-log", "vr-recorder", "vr-store", "vr-tree"],
    ),
    ("vr-example-log", "replica/example-log", &["vr-core"]),
    ("vr-recorder", "replica/recorder", &["vr-core", "vr-store", "vr-tree"]),
    ("vr-store", "replica/store", &["vr-core", "vr-tree"]),
    ("vr-checkpoint", "replica/checkpoint", &["vr-tree"]),
    ("vr-client", "replica/client", &["vr-proto"]),
    ("vr-core", "replica/core", &[]),
    ("vr-tree", "replica/tree", &[]),
    ("vr-proto", "replica/proto", &[]),
    ("vr-api", "operator/api", &[]),
];

/// The crates that compute and do nothing else, and the only crates of others that they may use outside of tests: none
/// of them opens a file or a socket, reads a clock or starts a thread.
const PURE: &[(&str, &[&str])] = &[
    ("vr-core", &["blake3", "bytes", "serde", "thiserror"]),
    ("vr-tree", &["blake3", "thiserror"]),
    ("vr-store", &["bytes", "crc32c", "thiserror"]),
];

/// Everything in `metadata` (what `cargo metadata --no-deps` prints) that the two tables do not allow.
fn violations(metadata: &Value) -> Vec<String> {
    let rows: BTreeMap<_, _> = LAYERS.iter().map(|(name, folder, uses)| (*name, (*folder, *uses))).collect();
    let pure: BTreeMap<_, _> = PURE.iter().copied().collect();
    let root = text(&metadata["workspace_root"]);
    let mut found = Vec::new();
    let mut met = BTreeSet::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        let Some(&(folder, uses)) = rows.get(name) else {
            found.push(format!("{name} has no row: add one here and in docs/architecture.md"));
            continue;
        };
        met.insert(name);
        let manifest = text(&package["manifest_path"]);
        if manifest != format!("{root}/{folder}/Cargo.toml") {
            found.push(format!("{name} stands at {manifest}, its row says {folder}"));
        }
        for dependency in list(&package["dependencies"]) {
            let used = text(&dependency["name"]);
            if rows.contains_key(used) {
                if !uses.contains(&used) {
                    found.push(format!("{name} uses {used}; its row names {uses:?}"));
                }
            } else if let Some(allowed) = pure.get(name)
                && dependency["kind"] != "dev"
                && !allowed.contains(&used)
            {
                found.push(format!("{name} uses {used}; it only computes and may use {allowed:?}"));
            }
        }
    }
    found.extend(rows.keys().filter(|name| !met.contains(**name)).map(|name| format!("{name} is gone")));
    found
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has a string here")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo metadata has a list here")
}

#[test]
fn dependencies_point_downwards() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest])
        .output()
        .expect("cargo runs: it has just built this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let found = violations(&metadata);
    assert!(found.is_empty(), "the layers are broken:\n  {}", found.join("\n  "));
}

/// A workspace as the table wants it, for the tests below to spoil.
fn sound() -> Value {
    let packages: Vec<_> = LAYERS
        .iter()
        .map(|(name, folder, uses)| {
            let dependencies: Vec<_> = uses.iter().map(|used| dependency(used, Value::Null)).collect();
            serde_json::json!({
                "name": name,
                "manifest_path": format!("/w/{folder}/Cargo.toml"),
                "dependencies": dependencies,
            })
        })
        .collect();
    serde_json::json!({ "workspace_root": "/w", "packages": packages })
}

fn dependency(name: &str, kind: Value) -> Value {
    serde_json::json!({ "name": name, "kind": kind })
}

/// Adds `dependency` to the crate `name` of [`sound`]; what is found then.
fn spoiled(name: &str, dependency: Value) -> Vec<String> {
    let mut metadata = sound();
    let packages = metadata["packages"].as_array_mut().expect("sound() makes a list");
    let package = packages.iter_mut().find(|p| p["name"] == name).expect("the crate has a row");
    package["dependencies"].as_array_mut().expect("sound() makes a list").push(dependency);
    violations(&metadata)
}

#[test]
fn what_the_table_wants_is_accepted() {
    assert_eq!(violations(&sound()), [""; 0]);
    assert_eq!(spoiled("vr-core", dependency("proptest", "dev".into())), [""; 0]);
    assert_eq!(spoiled("vr-replica", dependency("tokio", Value::Null)), [""; 0]);
}

#[test]
fn a_dependency_upwards_is_found() {
    let found = spoiled("vr-core", dependency("vr-store", Value::Null));
    assert_eq!(found, ["vr-core uses vr-store; its row names []"]);
    let found = spoiled("vr-tree", dependency("vr-checkpoint", "dev".into()));
    assert_eq!(found, ["vr-tree uses vr-checkpoint; its row names []"]);
    let found = spoiled("vr-checkpoint", dependency("vr-core", "build".into()));
    assert_eq!(found, ["vr-checkpoint uses vr-core; its row names [\"vr-tree\"]"]);
}

#[test]
fn a_pure_crate_that_wants_a_runtime_is_found() {
    let found = spoiled("vr-core", dependency("tokio", Value::Null));
    assert_eq!(
        found,
        [
            "vr-core uses tokio; it only computes and may use [\"blake3\", \"bytes\", \"serde\", \"thiserror\"]"
        ]
    );
}

#[test]
fn a_crate_without_a_row_or_in_another_place_or_missing_is_found() {
    let mut metadata = sound();
    let packages = metadata["packages"].as_array_mut().expect("sound() makes a list");
    packages[0]["manifest_path"] = "/w/tools/Cargo.toml".into();
    packages.push(serde_json::json!({
        "name": "vr-utils", "manifest_path": "/w/utils/Cargo.toml", "dependencies": [],
    }));
    packages.remove(1);
    assert_eq!(
        violations(&metadata),
        [
            "vr stands at /w/tools/Cargo.toml, its row says operator/cli",
            "vr-utils has no row: add one here and in docs/architecture.md",
            "vr-replica is gone",
        ]
    );
}
