//! Every kind with its fields, as the definitions in `crds/` have them.

use crate::table::{code, table};
use serde_json::Value;

pub(crate) fn page() -> String {
    let mut text = "# Resources\n\nMade of the definitions by a test; `kubectl explain` shows the same. Group `vr-operator.io`, \
                    version `v1alpha1`; all kinds belong to a namespace. Fields in bold are needed.\n"
        .to_owned();
    for (_, yaml) in vr_api::crds() {
        let definition: Value = serde_yaml::from_str(&yaml).expect("a definition is YAML");
        kind(&definition["spec"], &mut text);
    }
    text
}

fn kind(spec: &Value, text: &mut String) {
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let names = &spec["names"];
    let short = names["shortNames"][0].as_str().unwrap_or_default();
    *text += &format!(
        "\n## {}\n\n{} Short name `{short}`.\n",
        names["kind"].as_str().unwrap_or_default(),
        words(schema)
    );
    for part in ["spec", "status"] {
        let mut rows = Vec::new();
        fields(part, &schema["properties"][part], &mut rows);
        *text += &format!("\n### {} {part}\n\n", names["kind"].as_str().unwrap_or_default());
        *text += &table(["Field", "Type", "Meaning"], &rows);
        let mut rules = Vec::new();
        refusals(&schema["properties"][part], &mut rules);
        if !rules.is_empty() {
            *text += "\nRefused, beside what the types say:\n\n";
            rules.iter().for_each(|rule| *text += &format!("- {rule}\n"));
        }
    }
}

fn words(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn fields(path: &str, schema: &Value, rows: &mut Vec<[String; 3]>) {
    let needed: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let shown =
            if needed.contains(&name.as_str()) { format!("**{}**", code(&path)) } else { code(&path) };
        rows.push([shown, type_of(below), words(below)]);
        fields(&path, below, rows);
        // Conditions are the same everywhere, and everybody knows them.
        if name != "conditions" {
            fields(&format!("{path}[]"), &below["items"], rows);
        }
    }
}

fn type_of(schema: &Value) -> String {
    let all = |list: &Value| {
        let words: Vec<_> =
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(code).collect();
        words.join(", ")
    };
    if !schema["enum"].is_null() {
        return all(&schema["enum"]);
    }
    let name = match schema["type"].as_str() {
        Some("array") => return format!("list of {}", schema["items"]["type"].as_str().unwrap_or("values")),
        Some("string") if schema["format"] == "date-time" => "time",
        Some(name) => name,
        None => "integer or string",
    };
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Null, Value::Null) => name.to_owned(),
        (least, Value::Null) => format!("{name}, at least {}", number(least)),
        (Value::Null, most) => format!("{name}, at most {}", number(most)),
        (least, most) => format!("{name}, {} to {}", number(least), number(most)),
    }
}

/// Bounds are written as floating-point numbers.
fn number(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |value| value.to_string())
}

fn refusals(schema: &Value, rules: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.extend(rule["message"].as_str().map(str::to_owned));
    }
    let below = schema["properties"].as_object().into_iter().flatten().map(|(_, below)| below);
    below
        .chain([&schema["items"]])
        .filter(|below| below.is_object())
        .for_each(|below| refusals(below, rules));
}
