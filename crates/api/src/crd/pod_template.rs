//! The schema of a pod template: Kubernetes' own of `PodTemplateSpec`, without its descriptions.
//!
//! A hundred kilobytes of descriptions would not fit the annotation in which client-side `kubectl apply` keeps what it has applied.
//! What decides how templates are merged (the keys of lists) is kept, and so are labels and annotations, which a bare
//! `metadata: {type: object}` would lose. Containers are not required: the operator brings the one called `worker`. A test compares
//! the file with what a real API server says of itself.

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

/// The file that `UPDATE_POD_TEMPLATE=1 cargo test -p palimpsest-tests --test pod_template` writes.
const SCHEMA: &str = include_str!("pod_template.json");

/// The structural schema of a pod template.
pub fn pod_template_schema() -> Value {
    // A test reads it.
    serde_json::from_str(SCHEMA).unwrap_or_default()
}

/// The same, where a type's schema is made.
pub(crate) fn pod_template(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(pod_template_schema()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_lists_and_labels_are_there_and_no_word_about_them() {
        let schema = pod_template_schema();
        let container = &schema["properties"]["spec"]["properties"]["containers"];
        assert_eq!(container["x-kubernetes-list-map-keys"], serde_json::json!(["name"]));
        let metadata = &schema["properties"]["metadata"]["properties"];
        assert_eq!(metadata["labels"]["additionalProperties"]["type"], "string");
        assert!(!SCHEMA.contains("\"description\": \""));
    }
}
