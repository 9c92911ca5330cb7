//! Where the weights come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits;

/// Where the weights come from: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSource {
    /// A Hugging Face folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::URI))]
    pub uri: Option<String>,
    /// Random weights of this shape: the fields of a Hugging Face `config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::architecture")]
    pub architecture: Option<serde_json::Map<String, Value>>,
    /// Another job's checkpoint, never written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSource>,
}

/// Another job's checkpoint.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSource {
    /// The folder of checkpoints.
    #[schemars(length(max = limits::URI))]
    pub uri: String,
    /// The step; absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Weights alone, or the optimizer's state too.
    #[serde(default)]
    pub state: CheckpointState,
}

/// What is taken from another job's checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum CheckpointState {
    /// The weights.
    #[default]
    Weights,
    /// The weights and the optimizer's moments.
    Full,
}
