//! The worker pods and the limits on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::defaults;

/// The worker pods.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// How many.
    #[serde(default = "defaults::replicas")]
    pub replicas: u32,
    /// The range in which the number may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// A PodTemplateSpec for the worker pods. Its container called worker is merged into ours; GPUs are its resource limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::pod_template")]
    pub template: Option<Value>,
}

impl Default for Workers {
    fn default() -> Self {
        Self { replicas: defaults::replicas(), elastic: None, template: None }
    }
}

/// The range in which the number of workers may change.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Elastic {
    /// At least.
    pub min_replicas: u32,
    /// At most.
    pub max_replicas: u32,
}

/// Limits on time and retries.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPolicy {
    /// Restarts of the whole by failure.
    #[serde(default = "defaults::backoff_limit")]
    pub backoff_limit: u32,
    /// From startTime; absent: no deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    /// For all workers to be ready.
    #[serde(default = "defaults::start_timeout_seconds")]
    pub start_timeout_seconds: u64,
    /// After which a finished job is deleted; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<u64>,
    /// Which pods of a finished job are kept.
    #[serde(default)]
    pub pod_retention: PodRetention,
}

impl Default for RunPolicy {
    fn default() -> Self {
        Self {
            backoff_limit: defaults::backoff_limit(),
            active_deadline_seconds: None,
            start_timeout_seconds: defaults::start_timeout_seconds(),
            ttl_seconds_after_finished: None,
            pod_retention: PodRetention::default(),
        }
    }
}

/// Which pods of a finished job are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum PodRetention {
    /// None.
    Never,
    /// Those that failed.
    #[default]
    Failed,
    /// All.
    Always,
}
