//! The schema says what the types say: names, descriptions, defaults, patterns.

use palimpsest_api::{TrainingJob, load, training_job_schema};
use serde_json::{Value, json};

/// Every property of every object in the schema, as `OBJECT.PROPERTY`.
fn properties(schema: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let definitions = schema["$defs"].as_object().into_iter().flatten();
    let objects = definitions.map(|(name, object)| (name.as_str(), object)).chain([("TrainingJob", schema)]);
    for (name, object) in objects {
        for (property, value) in object["properties"].as_object().into_iter().flatten() {
            found.push((format!("{name}.{property}"), value.clone()));
        }
    }
    found
}

#[test]
fn every_property_is_described_in_camel_case() {
    let schema = training_job_schema();
    let properties = properties(&schema);
    assert!(properties.len() > 100, "{}", properties.len());
    for (name, property) in &properties {
        assert!(!name.contains('_'), "{name}");
        assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["properties"]["apiVersion"]["const"], json!("palimpsest.dev/v1alpha1"));
}

#[test]
fn decimals_are_text_with_a_pattern_and_a_default() {
    let schema = training_job_schema();
    let rate = &schema["$defs"]["Optimizer"]["properties"]["learningRate"];
    assert_eq!((&rate["type"], &rate["default"]), (&json!("string"), &json!("1e-4")));
    assert!(rate["pattern"].is_string());
    let betas = &schema["$defs"]["Optimizer"]["properties"]["betas"];
    assert_eq!((&betas["minItems"], &betas["maxItems"]), (&json!(2), &json!(2)));
}

#[test]
fn required_is_what_the_design_requires_and_defaults_are_those_of_the_types() {
    let schema = training_job_schema();
    assert_eq!(schema["$defs"]["TrainingJobSpec"]["required"], json!(["model", "data", "stages", "output"]));
    let job: TrainingJob = load(include_str!("../fixtures/good/minimal.yaml"), &[]).unwrap();
    let stage = serde_json::to_value(&job.spec.stages[0]).unwrap();
    for (name, property) in schema["$defs"]["Stage"]["properties"].as_object().unwrap() {
        if let Some(default) = property.get("default")
            && name != "batch"
        {
            assert_eq!(&stage[name], default, "{name}");
        }
    }
}
