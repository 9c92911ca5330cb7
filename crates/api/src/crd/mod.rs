//! The custom resource definitions that `palimpsest crds` prints: what the types say, in the words of Kubernetes.
//!
//! ```text
//! types --schemars--> JSON schema --structural--> OpenAPI v3 schema of a CRD
//!                                      ▲ rules (CEL), by type or Type.field
//! ```

mod architecture;
mod definition;
mod pod_template;
mod rules;
mod structural;

use serde_json::Value;

pub(crate) use architecture::architecture;
pub(crate) use pod_template::pod_template;
pub use pod_template::pod_template_schema;
pub(crate) use structural::structural_schema;

/// Every custom resource definition of Palimpsest, ready to be applied.
pub fn crds() -> Vec<Value> {
    vec![training_job_crd()]
}

/// The custom resource definition of `TrainingJob`.
pub fn training_job_crd() -> Value {
    definition::training_job()
}

/// The custom resource definitions as YAML, one document each.
pub fn crds_yaml() -> String {
    crds().iter().map(|crd| format!("---\n{}", crate::yaml::write(crd))).collect()
}
