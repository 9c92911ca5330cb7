//! Where in a data centre the pods want to be together: annotations of the template that Kueue reads in a Workload.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::children::INDEX_LABEL;

const REQUIRED: &str = "kueue.x-k8s.io/podset-required-topology";
const PREFERRED: &str = "kueue.x-k8s.io/podset-preferred-topology";
/// Anywhere, but counted.
pub(super) const UNCONSTRAINED: &str = "kueue.x-k8s.io/podset-unconstrained-topology";

/// Annotations that belong to Kueue and are about sets of pods.
const OTHERS: &str = "kueue.x-k8s.io/podset-";

/// Whether an annotation asks for a place.
pub(super) fn is_request(key: &str) -> bool {
    [REQUIRED, PREFERRED, UNCONSTRAINED].contains(&key)
}

/// The `topologyRequest` of a set of pods whose template has these annotations, or which of them cannot be honoured.
pub(super) fn request(annotations: &BTreeMap<String, String>) -> Result<Option<Value>, String> {
    if let Some(other) = annotations.keys().find(|key| key.starts_with(OTHERS) && !is_request(key)) {
        return Err(format!(
            "spec.workers.template.metadata.annotations: {other} is not supported; remove it, or use {REQUIRED}"
        ));
    }
    let (field, value) = if let Some(level) = annotations.get(REQUIRED) {
        ("required", json!(level))
    } else if let Some(level) = annotations.get(PREFERRED) {
        ("preferred", json!(level))
    } else if let Some(flag) = annotations.get(UNCONSTRAINED) {
        let flag: bool = flag.parse().map_err(|_| {
            format!("spec.workers.template.metadata.annotations: {UNCONSTRAINED} is {flag}; write true or false")
        })?;
        ("unconstrained", json!(flag))
    } else {
        return Ok(None);
    };
    Ok(Some(json!({field: value, "podIndexLabel": INDEX_LABEL})))
}
