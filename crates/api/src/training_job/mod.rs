//! `TrainingJob`: continually pretrains a model over stages of mixed sub-datasets.

mod data;
mod defaults;
mod evaluation;
mod execution;
pub(crate) mod limits;
mod model;
mod optimizer;
mod output;
mod stage;
mod status;
mod tokenizer;
mod workers;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use data::{Attention, DataSpec, Dataset, DatasetFormat, Fields, HoldOut, Packing, Preparation, Prepared};
pub use evaluation::{BitsPerByte, Evaluation, Suite, When};
pub use execution::{ActivationCheckpointing, CheckpointSpec, DataParallelism, Parallelism, Precision};
pub use model::{CheckpointSource, CheckpointState, ModelSource};
pub use optimizer::{DecayShape, NoDecay, Optimizer, Schedule, ScheduleKind, SpikeAction, Spikes};
pub use output::{OnExisting, Output, OutputDtype, SecretReference, StoreSpec};
pub use stage::{Batch, Budget, CarryOver, MixtureEntry, Reuse, Stage, Trainable};
pub use status::{
    CheckpointStatus, Condition, ConditionStatus, EvaluationStatus, ModelStatus, Progress, Resolved, StageStatus,
    TrainingJobStatus,
};
pub use tokenizer::{EmbeddingInitialization, LearnTokenizer, PiecesSource, TokenizerExtension, TokenizerSpec};
pub use workers::{Elastic, PodRetention, RunPolicy, Workers};

/// The group and version of Palimpsest's resources.
pub const API_VERSION: &str = "palimpsest.dev/v1alpha1";

/// A job: what to train, on what, how, and where the result goes.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingJob {
    /// `palimpsest.dev/v1alpha1`.
    pub api_version: String,
    /// `TrainingJob`.
    pub kind: String,
    /// The object's name and labels.
    pub metadata: Metadata,
    /// What to do.
    pub spec: TrainingJobSpec,
}

/// The part of Kubernetes' object metadata that a job file may hold.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// RFC 1035, at most 48 characters.
    pub name: String,
    /// The namespace; unused on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The specification of a [`TrainingJob`].
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingJobSpec {
    /// Stop after a checkpoint, and go on when this is false again.
    #[serde(default)]
    pub suspend: bool,
    /// The model to begin from.
    pub model: ModelSource,
    /// The tokenizer; absent: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerSpec>,
    /// The datasets and how they are packed.
    pub data: DataSpec,
    /// The stages, in order.
    #[schemars(length(max = limits::STAGES))]
    pub stages: Vec<Stage>,
    /// The precision of the forward and backward passes.
    #[serde(default)]
    pub precision: Precision,
    /// What is recomputed in the backward pass instead of being kept.
    #[serde(default)]
    pub activation_checkpointing: ActivationCheckpointing,
    /// How state is spread over ranks.
    #[serde(default)]
    pub parallelism: Parallelism,
    /// The seed of everything random.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Where and when checkpoints are written.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,
    /// What is measured, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::EVALUATIONS))]
    pub evaluation: Vec<Evaluation>,
    /// Where the trained model goes.
    pub output: Output,
    /// Credentials of object stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STORES))]
    pub stores: Vec<StoreSpec>,
    /// The worker pods.
    #[serde(default)]
    pub workers: Workers,
    /// Limits on time and retries.
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// The controller that owns the job.
    #[serde(default = "defaults::managed_by")]
    #[schemars(length(max = limits::NAME))]
    pub managed_by: String,
}
