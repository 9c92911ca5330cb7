//! `crates/api/src/crd/pod_template.json` is what a real API server says of a `PodTemplateSpec`, without its descriptions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use palimpsest_tests::{ApiServer, read_json, repository};
use serde_json::{Map, Value, json};

/// What is kept of a schema's own words. Enumerations are not: they grow from version to version of Kubernetes, and ours
/// would refuse what a newer cluster knows.
const KEPT: [&str; 6] =
    ["type", "format", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"];

/// Kubernetes' own pattern of a quantity.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// With references in their place. `keys` are those that tell the entries of the list around it apart: of their defaults
/// alone is there need.
fn structural(schema: &Value, keys: &[&str], definitions: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        if name.ends_with(".ObjectMeta") {
            let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
            return json!({"type": "object", "properties": {"annotations": texts, "labels": texts}});
        }
        return structural(&definitions[name], keys, definitions);
    }
    if let Some(only) = schema["allOf"].get(0) {
        return structural(only, keys, definitions);
    }
    if schema.get("oneOf").is_some() {
        let is_quantity = schema["format"] != "int-or-string";
        let pattern = is_quantity.then_some(json!({"x-kubernetes-int-or-string": true, "pattern": QUANTITY}));
        return pattern.unwrap_or(json!({"x-kubernetes-int-or-string": true}));
    }
    let mut kept: Map<String, Value> =
        KEPT.iter().filter_map(|word| Some(((*word).to_owned(), schema.get(*word)?.clone()))).collect();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    if let Some(properties) = schema["properties"].as_object() {
        let property = |(name, property): (&String, &Value)| {
            let mut converted = structural(property, &[], definitions);
            if keys.contains(&name.as_str()) && !required.contains(&json!(name)) {
                converted["default"] = property["default"].clone();
            }
            (name.clone(), converted)
        };
        kept.insert("properties".to_owned(), properties.iter().map(property).collect::<Map<_, _>>().into());
    }
    if schema["items"].is_object() {
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let keys: Vec<&str> = keys.collect();
        kept.insert("items".to_owned(), structural(&schema["items"], &keys, definitions));
    }
    if schema["additionalProperties"].is_object() {
        kept.insert("additionalProperties".to_owned(), structural(&schema["additionalProperties"], &[], definitions));
    }
    Value::Object(kept)
}

#[test]
fn the_pod_template_is_that_of_kubernetes() {
    let server = ApiServer::start();
    let published = server.kubectl_succeed(&["get", "--raw", "/openapi/v3/api/v1"]).stdout;
    let published: Value = serde_json::from_str(&published).unwrap();
    let definitions = &published["components"]["schemas"];
    let mut expected = structural(&json!({"$ref": "#/io.k8s.api.core.v1.PodTemplateSpec"}), &[], definitions);
    // The operator brings the container called worker.
    expected["properties"]["spec"].as_object_mut().unwrap().remove("required");

    let path = repository().join("crates/api/src/crd/pod_template.json");
    if std::env::var_os("UPDATE_POD_TEMPLATE").is_some() {
        return std::fs::write(&path, serde_json::to_string_pretty(&expected).unwrap() + "\n").unwrap();
    }
    assert!(
        read_json(&path) == expected,
        "{} is not what Kubernetes says: run this test with UPDATE_POD_TEMPLATE=1",
        path.display()
    );
}
