//! Stages: a mixture, a budget and a batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Optimizer, Schedule, Spikes, defaults, limits};

/// A stage: a mixture trained on for a budget, bucket by bucket.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// Into how many buckets its data is cut.
    #[serde(default = "defaults::buckets")]
    pub buckets: u32,
    /// The share of each dataset.
    #[schemars(length(max = limits::DATASETS))]
    pub mixture: Vec<MixtureEntry>,
    /// How much is trained on.
    pub budget: Budget,
    /// How often a document may be used over the whole job.
    #[serde(default = "defaults::max_repeats")]
    pub max_repeats: u32,
    /// Where the stage takes up each dataset's stream.
    #[serde(default)]
    pub reuse: Reuse,
    /// Which parameters are trained.
    #[serde(default)]
    pub trainable: Trainable,
    /// What is carried over from the stage before.
    #[serde(default)]
    pub carry_over: CarryOver,
    /// The batch of an optimizer step.
    #[serde(default)]
    pub batch: Batch,
    /// AdamW's settings.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The learning rate over the stage.
    #[serde(default)]
    pub schedule: Schedule,
    /// What happens when the loss jumps.
    #[serde(default)]
    pub spikes: Spikes,
}

/// The share of one dataset in a mixture.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MixtureEntry {
    /// The dataset's name.
    #[schemars(length(max = limits::NAME))]
    pub dataset: String,
    /// Relative, in tokens; absent only where the budget is in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
}

/// How much is trained on: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// Document tokens, prompts included, padding not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Optimizer steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Every document of the mixture exactly that many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
}

/// Where a stage takes up each dataset's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Reuse {
    /// Where the stages before left it.
    #[default]
    Continue,
    /// At its beginning.
    Restart,
}

/// Which parameters a stage trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Trainable {
    /// All.
    #[default]
    All,
    /// The embedding and the head.
    Embeddings,
    /// The rows of the embedding and the head that the extension appended.
    NewEmbeddings,
}

/// What a stage takes over from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum CarryOver {
    /// The weights.
    #[default]
    Weights,
    /// The weights and the optimizer's moments.
    WeightsAndOptimizer,
}

/// The batch of an optimizer step, in sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "BatchFields")]
pub struct Batch {
    /// Sequences of an optimizer step, over all ranks.
    pub sequences: u32,
    /// Sequences of one forward and backward pass of a rank.
    pub micro_batch: u32,
}

/// A [`Batch`] as it is written, where the default of one field depends on the other.
#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase", rename = "Batch", deny_unknown_fields)]
struct BatchFields {
    /// Sequences of an optimizer step, over all ranks.
    #[serde(default = "defaults::batch_sequences")]
    sequences: u32,
    /// Sequences of one forward and backward pass of a rank; default: 8, or `sequences` where that is fewer.
    #[serde(default)]
    micro_batch: Option<u32>,
}

impl From<BatchFields> for Batch {
    fn from(fields: BatchFields) -> Self {
        let micro_batch = fields.micro_batch.unwrap_or_else(|| defaults::micro_batch().min(fields.sequences));
        Self { sequences: fields.sequences, micro_batch }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { sequences: defaults::batch_sequences(), micro_batch: defaults::micro_batch() }
    }
}

impl JsonSchema for Batch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        BatchFields::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BatchFields::json_schema(generator)
    }
}
