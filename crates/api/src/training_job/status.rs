//! What the operator says about a job: everything in it can be seen again from the API server, the agents and the
//! checkpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Precision, limits};
use crate::Decimal;

/// What has come of the job. An unknown field is let be here: a newer operator may have written it.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingJobStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Progressing, Suspended, Succeeded, Failed, and QuotaReserved where the job is queued.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CONDITIONS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The stage that is being trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageStatus>,
    /// How far the job is, and how fast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The fencing number: every start of the workers as a whole has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// The attempt that runs, as far as is known; absent once it was counted how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_attempt: Option<u64>,
    /// Restarts of the whole by failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Failures since the newest checkpoint, or since the job was resumed; it fails when they are more than runPolicy.backoffLimit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_since_checkpoint: Option<u32>,
    /// Restarts by eviction, preemption, the loss of a node or a drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruptions: Option<u32>,
    /// How many pods the job has had. The name of a pod is used once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// Seconds in which the job was not suspended, up to its last suspension or its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_seconds: Option<u64>,
    /// The newest whole checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// The newest measurement of each evaluation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::EVALUATIONS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub evaluation: Vec<EvaluationStatus>,
    /// The trained model, once it is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// What was decided when the job began, and is kept over restarts and upgrades of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Worker pods there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Worker pods that take part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<u32>,
    /// The label selector of the worker pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// When the job began, or was resumed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start_time: Option<String>,
    /// When it succeeded or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub completion_time: Option<String>,
}

impl TrainingJobStatus {
    /// The condition of a type, once it was said.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == kind)
    }
}

/// One thing that is true of the job, or not, or not known.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is said: Progressing, Suspended, Succeeded, Failed or QuotaReserved.
    #[schemars(length(max = limits::TEXT))]
    pub r#type: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The generation of the spec that it was said of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` changed last.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Why, in one CamelCase word. That of Progressing is what `kubectl get` shows as State.
    #[schemars(length(max = limits::TEXT))]
    pub reason: String,
    /// Why, in a sentence that names the remedy where there is one.
    #[serde(default)]
    #[schemars(length(max = limits::MESSAGE))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// It cannot be said yet.
    Unknown,
}

/// The stage that is being trained.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Which of the stages, counted from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// The bucket, counted from 1.
    pub bucket: u32,
    /// How many the stage has.
    pub buckets: u32,
}

/// How far a job is, and how fast. The total is exact: it is planned before the first step.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Steps taken, over all stages.
    pub step: u64,
    /// Steps of the whole job.
    pub steps: u64,
    /// Document tokens trained on.
    pub tokens: u64,
    /// Steps taken of those of the whole job, rounded down.
    pub progress_percentage: u32,
    /// Seconds left at the present speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u64>,
    /// The loss of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Decimal>,
    /// Document tokens a second, over all workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<Decimal>,
    /// When this was seen.
    #[schemars(extend("format" = "date-time"))]
    pub last_updated_time: String,
}

/// A checkpoint that is whole.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its folder.
    pub uri: String,
    /// The step after which it was taken.
    pub step: u64,
    /// When its manifest was written.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
}

/// The newest measurement of an evaluation.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationStatus {
    /// The evaluation's name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// The stage in or after which it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The step after which it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Bits per byte, or the part of the questions that were answered rightly.
    pub score: Decimal,
    /// Documents or questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}

/// The trained model.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Its folder.
    pub uri: String,
    /// The digest of its `palimpsest.json`, which holds those of its other files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What was decided when the job began.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The workers' image, with its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What `precision: Auto` came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The digest of all fields that can change the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_digest: Option<String>,
}
