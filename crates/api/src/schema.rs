//! The JSON schema of what a user writes.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::training_job::TrainingJob;

/// The JSON schema (draft 2020-12) of a [`TrainingJob`], with descriptions and defaults, for editors. Rules between
/// fields are [`validate`](crate::validate)'s.
pub fn training_job_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<TrainingJob>();
    for (field, only) in [("apiVersion", crate::API_VERSION), ("kind", "TrainingJob")] {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{field}")).and_then(Value::as_object_mut) {
            property.insert("const".to_owned(), only.into());
        }
    }
    schema.to_value()
}
