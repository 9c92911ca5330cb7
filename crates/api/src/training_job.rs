//! `TrainingJob`: continually pretrains a model over stages of mixed sub-datasets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decimal::Decimal;

/// The group and version of Palimpsest's resources.
pub const API_VERSION: &str = "palimpsest.dev/v1alpha1";

/// A job: what to train, on what, how, and where the result goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub evaluation: Vec<Evaluation>,
    /// Where the trained model goes.
    pub output: Output,
    /// Credentials of object stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreSpec>,
    /// The worker pods.
    #[serde(default)]
    pub workers: Workers,
    /// Limits on time and retries.
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// The controller that owns the job.
    #[serde(default = "defaults::managed_by")]
    pub managed_by: String,
}

/// Where the weights come from: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSource {
    /// A Hugging Face folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Random weights of this shape: the fields of a Hugging Face `config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<serde_json::Map<String, Value>>,
    /// Another job's checkpoint, never written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSource>,
}

/// Another job's checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSource {
    /// The folder of checkpoints.
    pub uri: String,
    /// The step; absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Weights alone, or the optimizer's state too.
    #[serde(default)]
    pub state: CheckpointState,
}

/// What is taken from another job's checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointState {
    /// The weights.
    #[default]
    Weights,
    /// The weights and the optimizer's moments.
    Full,
}

/// The tokenizer: `uri`, `learn` or neither (the model's own), then perhaps an extension.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenizerSpec {
    /// A folder or file: tokenizer.json, SentencePiece .model or .tiktoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Learn one from datasets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<LearnTokenizer>,
    /// Append pieces to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<TokenizerExtension>,
}

/// A tokenizer learned from datasets of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LearnTokenizer {
    /// The number of ids, special and byte pieces included.
    pub vocabulary_size: u32,
    /// The names of the datasets to learn from.
    pub from: Vec<String>,
}

/// Pieces appended to a tokenizer: exactly one of `learnFrom` and `pieces`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenizerExtension {
    /// The number of ids afterwards.
    pub vocabulary_size: u32,
    /// The names of the datasets to learn pieces from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learn_from: Vec<String>,
    /// A file of pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<PiecesSource>,
    /// How the new rows of the embedding and the head begin.
    #[serde(default)]
    pub embeddings: EmbeddingInitialization,
}

/// JSONL of `{"piece": ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PiecesSource {
    /// The file.
    pub uri: String,
}

/// How new rows of the embedding and the head begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbeddingInitialization {
    /// The mean of the rows of the old ids that spell the piece.
    #[default]
    Mean,
    /// Normal, with the model's `initializer_range`.
    Random,
}

/// The datasets and how they are packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSpec {
    /// Input positions of a sequence.
    #[serde(default = "defaults::sequence_length")]
    pub sequence_length: u32,
    /// How documents fill sequences.
    #[serde(default)]
    pub packing: Packing,
    /// What a position may attend to.
    #[serde(default)]
    pub attention: Attention,
    /// Where packed data is kept; default: beside the checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// The sub-datasets.
    pub datasets: Vec<Dataset>,
}

/// Where packed data is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prepared {
    /// The folder.
    pub uri: String,
}

/// How documents fill sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packing {
    /// Best-fit decreasing: documents are split only where they exceed a sequence.
    #[default]
    BestFit,
    /// Documents follow one another and are split where a sequence ends.
    Splice,
}

/// What a position may attend to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attention {
    /// Its own document, causally.
    #[default]
    Document,
    /// All before it in the sequence.
    Sequence,
}

/// A sub-dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataset {
    /// The name that mixtures and evaluations use.
    pub name: String,
    /// A file or a folder.
    pub uri: String,
    /// The format of its files.
    #[serde(default)]
    pub format: DatasetFormat,
    /// Which fields of a record hold what.
    #[serde(default)]
    pub fields: Fields,
    /// A language tag, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The part that is never trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<HoldOut>,
    /// Filters and deduplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
}

/// The format of a dataset's files, each plain, .gz or .zst (Parquet has its own compression).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatasetFormat {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// Parquet with string columns.
    Parquet,
    /// A file is a document.
    Text,
}

/// Which fields of a record hold what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fields {
    /// The text that is trained on.
    #[serde(default = "defaults::text_field")]
    pub text: String,
    /// The prompt before it, masked from the loss; a record may lack it.
    #[serde(default = "defaults::prompt_field")]
    pub prompt: String,
    /// The category; a record may lack it.
    #[serde(default = "defaults::category_field")]
    pub category: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self { text: defaults::text_field(), prompt: defaults::prompt_field(), category: defaults::category_field() }
    }
}

/// The part of a dataset that is never trained on, by any job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldOut {
    /// Between 0 and 1.
    pub fraction: Decimal,
}

/// Filters and deduplication before the hold-out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preparation {
    /// Filters, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Value>,
    /// Deduplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<Value>,
}

/// A stage: a mixture trained on for a budget, bucket by bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Into how many buckets its data is cut.
    #[serde(default = "defaults::buckets")]
    pub buckets: u32,
    /// The share of each dataset.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MixtureEntry {
    /// The dataset's name.
    pub dataset: String,
    /// Relative, in tokens; absent only where the budget is in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
}

/// How much is trained on: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reuse {
    /// Where the stages before left it.
    #[default]
    Continue,
    /// At its beginning.
    Restart,
}

/// Which parameters a stage trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CarryOver {
    /// The weights.
    #[default]
    Weights,
    /// The weights and the optimizer's moments.
    WeightsAndOptimizer,
}

/// The batch of an optimizer step, in sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// Sequences of an optimizer step, over all ranks.
    #[serde(default = "defaults::batch_sequences")]
    pub sequences: u32,
    /// Sequences of one forward and backward pass of a rank.
    #[serde(default = "defaults::micro_batch")]
    pub micro_batch: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { sequences: defaults::batch_sequences(), micro_batch: defaults::micro_batch() }
    }
}

/// AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Optimizer {
    /// The peak learning rate.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: Decimal,
    /// The decay of the two moments.
    #[serde(default = "defaults::betas")]
    pub betas: [Decimal; 2],
    /// Added to the root of the second moment.
    #[serde(default = "defaults::epsilon")]
    pub epsilon: Decimal,
    /// Decoupled weight decay.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: Decimal,
    /// Parameters without weight decay.
    #[serde(default = "defaults::no_decay")]
    pub no_decay: Vec<NoDecay>,
    /// The largest norm of the gradient of all parameters; 0: none.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: Decimal,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            learning_rate: defaults::learning_rate(),
            betas: defaults::betas(),
            epsilon: defaults::epsilon(),
            weight_decay: defaults::weight_decay(),
            no_decay: defaults::no_decay(),
            clip_norm: defaults::clip_norm(),
        }
    }
}

/// Parameters without weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoDecay {
    /// The weights of the norms.
    Norms,
    /// The embedding and the head.
    Embeddings,
}

/// The learning rate over a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// The shape after the warm-up.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The last learning rate over the peak.
    #[serde(default = "defaults::minimum_ratio")]
    pub minimum_ratio: Decimal,
    /// The steps of the decay, with `WarmupStableDecay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// The shape of the decay, with `WarmupStableDecay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_shape: Option<DecayShape>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::default(),
            warmup_steps: 0,
            minimum_ratio: defaults::minimum_ratio(),
            decay_steps: None,
            decay_shape: None,
        }
    }
}

/// The shape of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleKind {
    /// Half a cosine from the peak to the minimum.
    #[default]
    Cosine,
    /// A line from the peak to the minimum.
    Linear,
    /// The peak throughout.
    Constant,
    /// The peak, then a decay over the last `decaySteps`.
    WarmupStableDecay,
}

/// The shape of a decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecayShape {
    /// A line.
    #[default]
    Linear,
    /// Half a cosine.
    Cosine,
    /// One minus the square root of the share of the decay that has passed.
    Sqrt,
}

/// What happens when the loss jumps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spikes {
    /// A spike is a loss over this many deviations above the mean of the window.
    #[serde(default = "defaults::loss_sigma")]
    pub loss_sigma: Decimal,
    /// How many of the last losses are looked at.
    #[serde(default = "defaults::spike_window")]
    pub window: u32,
    /// What is done.
    #[serde(default)]
    pub action: SpikeAction,
}

impl Default for Spikes {
    fn default() -> Self {
        Self { loss_sigma: defaults::loss_sigma(), window: defaults::spike_window(), action: SpikeAction::default() }
    }
}

/// What is done at a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpikeAction {
    /// Only counted. A loss that is not a number still skips the step.
    Ignore,
    /// The optimizer does not step; data and schedule go on.
    #[default]
    SkipStep,
    /// The job fails.
    Fail,
}

/// The precision of the forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parallelism {
    /// Over data-parallel ranks.
    #[serde(default)]
    pub data: DataParallelism,
}

/// How state is spread over data-parallel ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSpec {
    /// The folder; default: beside the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// A measurement: exactly one of `bitsPerByte` and `suite`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evaluation {
    /// Its name.
    pub name: String,
    /// Bits per byte of a dataset's held-out documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<BitsPerByte>,
    /// A few-shot suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<Suite>,
    /// At which moments.
    #[serde(default = "defaults::when")]
    pub when: Vec<When>,
    /// And every so many steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_steps: Option<u64>,
}

/// Bits per byte of a dataset's held-out documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BitsPerByte {
    /// The dataset's name.
    pub dataset: String,
}

/// A few-shot suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suite {
    /// Which.
    pub kind: String,
    /// Its folder.
    pub uri: String,
    /// Demonstrations before each question.
    #[serde(default)]
    pub shots: u32,
}

/// A moment of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum When {
    /// Before the first step.
    JobStart,
    /// After each stage's last step.
    StageEnd,
    /// After the last step.
    JobEnd,
}

/// Where the trained model goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// The folder.
    pub uri: String,
    /// The type of the weights written; absent: Float32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<OutputDtype>,
    /// What happens when the folder holds a model already.
    #[serde(default)]
    pub on_existing: OnExisting,
}

/// The type of weights written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputDtype {
    /// bfloat16.
    BFloat16,
    /// IEEE half.
    Float16,
    /// IEEE single.
    Float32,
}

/// What happens when the output holds a model already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExisting {
    /// An error before the first step.
    #[default]
    Fail,
    /// It is replaced at the end.
    Replace,
}

/// Credentials of the URIs under a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSpec {
    /// The prefix.
    pub uri_prefix: String,
    /// A Secret that the pods read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// The address of an S3-compatible service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A Secret of the job's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Its name.
    pub name: String,
}

/// The worker pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// How many.
    #[serde(default = "defaults::replicas")]
    pub replicas: u32,
    /// The range in which the number may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// A PodTemplateSpec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Value>,
}

impl Default for Workers {
    fn default() -> Self {
        Self { replicas: defaults::replicas(), elastic: None, template: None }
    }
}

/// The range in which the number of workers may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Elastic {
    /// At least.
    pub min_replicas: u32,
    /// At most.
    pub max_replicas: u32,
}

/// Limits on time and retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodRetention {
    /// None.
    Never,
    /// Those that failed.
    #[default]
    Failed,
    /// All.
    Always,
}

mod defaults {
    use super::{Decimal, NoDecay, When};

    pub(super) fn seed() -> u64 {
        42
    }
    pub(super) fn managed_by() -> String {
        "palimpsest.dev/operator".to_owned()
    }
    pub(super) fn sequence_length() -> u32 {
        4096
    }
    pub(super) fn text_field() -> String {
        "target".to_owned()
    }
    pub(super) fn prompt_field() -> String {
        "source".to_owned()
    }
    pub(super) fn category_field() -> String {
        "category".to_owned()
    }
    pub(super) fn buckets() -> u32 {
        10
    }
    pub(super) fn max_repeats() -> u32 {
        4
    }
    pub(super) fn batch_sequences() -> u32 {
        512
    }
    pub(super) fn micro_batch() -> u32 {
        8
    }
    pub(super) fn learning_rate() -> Decimal {
        Decimal::constant("1e-4")
    }
    pub(super) fn betas() -> [Decimal; 2] {
        [Decimal::constant("0.9"), Decimal::constant("0.95")]
    }
    pub(super) fn epsilon() -> Decimal {
        Decimal::constant("1e-8")
    }
    pub(super) fn weight_decay() -> Decimal {
        Decimal::constant("0.1")
    }
    pub(super) fn no_decay() -> Vec<NoDecay> {
        vec![NoDecay::Norms]
    }
    pub(super) fn clip_norm() -> Decimal {
        Decimal::constant("1.0")
    }
    pub(super) fn minimum_ratio() -> Decimal {
        Decimal::constant("0.1")
    }
    pub(super) fn loss_sigma() -> Decimal {
        Decimal::constant("6")
    }
    pub(super) fn spike_window() -> u32 {
        128
    }
    pub(super) fn keep() -> u32 {
        3
    }
    pub(super) fn termination_seconds() -> u64 {
        120
    }
    pub(super) fn when() -> Vec<When> {
        vec![When::JobStart, When::StageEnd]
    }
    pub(super) fn replicas() -> u32 {
        1
    }
    pub(super) fn backoff_limit() -> u32 {
        10
    }
    pub(super) fn start_timeout_seconds() -> u64 {
        1800
    }
}
