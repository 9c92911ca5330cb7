//! The custom resource definitions: `deploy/crds` holds what the types say, and what they say is structural.

use std::fs;
use std::path::Path;

use palimpsest_api::{crds_yaml, training_job_crd};
use serde_json::{Value, json};

/// `UPDATE_CRDS=1` writes the files anew, to be read in the diff.
#[test]
fn the_files_of_deploy_are_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds/palimpsest.dev.yaml");
    if std::env::var_os("UPDATE_CRDS").is_some() {
        fs::write(&path, crds_yaml()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap();
    assert!(
        written == crds_yaml(),
        "{} is not what `palimpsest crds` prints: run this test with UPDATE_CRDS=1",
        path.display()
    );
}

fn schema() -> Value {
    training_job_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` with every schema and its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            walk(&format!("{path}[]"), &schema[part], visit);
        }
    }
}

#[test]
fn every_field_is_described_but_for_those_of_the_pod_template() {
    let mut described = 0;
    walk("", &schema(), &mut |path, field| {
        let in_template = path.starts_with(".spec.workers.template.");
        let is_entry = path.ends_with("[]") || path.starts_with(".metadata");
        assert!(in_template || is_entry || field["description"].is_string(), "{path}");
        assert!(!(in_template && field.get("description").is_some()), "{path}");
        described += usize::from(field["description"].is_string());
    });
    assert!(described > 150, "{described}");
}

#[test]
fn the_schema_is_structural() {
    let unknown = ["$ref", "$schema", "$defs", "title", "const", "oneOf", "anyOf", "allOf", "x-meanings"];
    walk("", &schema(), &mut |path, field| {
        for name in unknown {
            assert!(field.get(name).is_none(), "{path} has {name}");
        }
        let has_type = field["type"].is_string() || field["x-kubernetes-int-or-string"] == true;
        assert!(has_type, "{path} has no type: {field}");
        assert!(field.get("default") != Some(&Value::Null), "{path} has null as its default");
        assert!(!matches!(field["format"].as_str(), Some("uint32" | "uint64")), "{path}");
    });
}

#[test]
fn values_are_explained_where_kubectl_shows_them() {
    let schema = schema();
    let trainable = schema.pointer("/properties/spec/properties/stages/items/properties/trainable").unwrap();
    assert_eq!(trainable["enum"], json!(["All", "Embeddings", "NewEmbeddings"]));
    assert_eq!(trainable["default"], "All");
    let description = trainable["description"].as_str().unwrap();
    assert!(description.starts_with("Which parameters are trained. All: "), "{description}");
}

/// Client-side apply keeps what it has applied in an annotation, of which an object may have 256 KiB.
#[test]
fn the_definition_fits_the_annotation_of_client_side_apply() {
    let size = training_job_crd().to_string().len();
    assert!(size < 200 * 1024, "{size} bytes");
}
