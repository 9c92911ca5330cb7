//! The ConfigMap of a job: how its agents know the operator, and the job as they are told of it.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use palimpsest_api::TrainingJobSpec;

use super::names::{config_map_name, labels_of};
use crate::resource::TrainingJob;
use crate::settings::Settings;

/// The key of the certificate by which agents know the operator.
pub(super) const CA_KEY: &str = "ca.crt";

/// The ConfigMap of a job. It holds nothing secret: a certificate is for everybody.
pub(crate) fn config_map(job: &TrainingJob, spec: &TrainingJobSpec, settings: &Settings) -> ConfigMap {
    // Plain data with text keys, which JSON always can express.
    let job_json = serde_json::to_string_pretty(&job.as_job(spec)).unwrap_or_default();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map_name(job.name())),
            namespace: job.metadata.namespace.clone(),
            labels: Some(labels_of(job.name())),
            owner_references: Some(vec![job.owner_reference()]),
            ..ObjectMeta::default()
        },
        data: Some(
            [(CA_KEY.to_owned(), settings.certificate_authority.clone()), ("job.json".to_owned(), job_json)].into(),
        ),
        ..ConfigMap::default()
    }
}
