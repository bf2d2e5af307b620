//! The definitions as files: one for each kind, and nothing in them that a person did not ask for.

use crate::{VRCheckpoint, VRCluster, VRDrill, VRDrillSchedule, VRRestore};
use kube::CustomResourceExt;
use serde_json::Value;

/// File name and YAML of every definition.
///
/// # Panics
/// Never with the types of this crate: a test makes them all.
#[must_use]
pub fn crds() -> Vec<(String, String)> {
    [VRCluster::crd(), VRCheckpoint::crd(), VRRestore::crd(), VRDrill::crd(), VRDrillSchedule::crd()]
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().expect("a definition has a name");
            // Through JSON: serde_yaml tags enums in a way that Kubernetes does not read.
            let mut value = serde_json::to_value(crd).expect("plain data is always JSON");
            strip(&mut value);
            let yaml = serde_yaml::to_string(&value).expect("JSON is always YAML");
            (format!("{}.yaml", name.split('.').next().unwrap_or(&name)), yaml)
        })
        .collect()
}

/// Takes out what only makes the file longer, or worse. `nullable`: with it an explicit null satisfies `has()`, and a
/// rule that asks for presence is fooled. The width of integers, which refuses nothing that a range does not. The empty
/// alternatives that are left of a quantity's, where `x-kubernetes-int-or-string` says it all. What an item of a list
/// is, where the list says it; what the name of a reference is. And the pages of prose on the fields of a condition,
/// which are the same for every kind in every cluster.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
            }
            if let Some(Value::Object(properties)) = fields.get_mut("properties")
                && properties.len() == 1
                && let Some(name) = properties.get_mut("name")
            {
                undescribed(name);
            }
            if fields.contains_key("description")
                && let Some(Value::Object(item)) = fields.get_mut("items")
            {
                item.remove("description");
            }
            if fields.contains_key("x-kubernetes-int-or-string") {
                fields.remove("anyOf");
            }
            if fields.get("type") == Some(&Value::from("integer")) {
                fields.remove("format");
            }
            if let Some(Value::Array(values)) = fields.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(conditions) = fields.get_mut("conditions").and_then(|c| c.pointer_mut("/items")) {
                undescribed(conditions);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        // Bounds are kept as floating point; people write 9 and not 9.0.
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15) {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

fn undescribed(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    fields.remove("description");
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(undescribed);
    }
}
