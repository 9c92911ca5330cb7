//! How the steps are computed and kept: precision, memory, sharding, checkpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, limits};

/// The precision of the forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Precision {
    /// BFloat16 on CUDA, Float32 on a CPU; resolved once and kept on resume.
    #[default]
    Auto,
    /// bfloat16, with Float32 masters.
    BFloat16,
    /// IEEE single.
    Float32,
    /// IEEE double, for comparisons.
    Float64,
}

/// What is recomputed in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum ActivationCheckpointing {
    /// Nothing.
    #[default]
    None,
    /// Everything but the results of matrix products and attention.
    Selective,
    /// Everything inside a layer.
    Full,
}

/// How state is spread over ranks.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parallelism {
    /// Over data-parallel ranks.
    #[serde(default)]
    pub data: DataParallelism,
}

/// How state is spread over data-parallel ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum DataParallelism {
    /// Everything everywhere.
    Replicate,
    /// Optimizer state is sharded.
    ShardOptimizer,
    /// Optimizer state and gradients are sharded.
    ShardGradients,
    /// Weights too.
    #[default]
    FullyShard,
}

/// Where and when checkpoints are written: at most one of the intervals.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSpec {
    /// The folder; default: beside the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::URI))]
    pub uri: Option<String>,
    /// Every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_steps: Option<u64>,
    /// Every so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u64>,
    /// How many are kept.
    #[serde(default = "defaults::keep")]
    pub keep: u32,
    /// How long a worker that is told to go may take for a last checkpoint.
    #[serde(default = "defaults::termination_seconds")]
    pub termination_seconds: u64,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            uri: None,
            interval_steps: None,
            interval_seconds: None,
            keep: defaults::keep(),
            termination_seconds: defaults::termination_seconds(),
        }
    }
}
