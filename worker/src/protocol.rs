//! What an agent and its rank say to each other: JSON lines, commands on the rank's standard input and events on its
//! standard output. The end of standard input means that the agent is gone, and that the rank must stop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use palimpsest_api::TrainingJob;
use palimpsest_train::StepRecord;
use serde::{Deserialize, Serialize};

/// A line of a rank's standard input. The first is [`RankCommand::Run`], and there is only one of those.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RankCommand {
    /// Run a job, from its newest checkpoint where there is one.
    Run(Box<RunRequest>),
    /// Write a checkpoint after the step under way.
    Checkpoint,
    /// Write a checkpoint after the step under way, then stop.
    Drain,
    /// Stop at once; write nothing more.
    Abort,
}

/// A job and where this rank stands in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunRequest {
    /// The job, valid. Its output says where everything is left.
    pub(crate) job: TrainingJob,
    /// The folder that relative `file://` URIs begin from.
    pub(crate) job_folder: PathBuf,
    /// The folder of each claim.
    pub(crate) mounts: BTreeMap<String, PathBuf>,
    /// The job's UID.
    pub(crate) job_uid: String,
    /// The fencing number.
    pub(crate) attempt: u64,
    /// This rank, from 0.
    pub(crate) rank: u32,
    /// How many ranks there are.
    pub(crate) world: u32,
    /// Threads to compute with.
    pub(crate) threads: usize,
    /// `cpu` or `cuda`.
    pub(crate) device: String,
    /// How many steps to profile.
    pub(crate) profile_steps: u32,
}

/// A line of a rank's standard output. The last is [`RankEvent::Finished`] or [`RankEvent::Failed`]; a rank that ends
/// without either has crashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum RankEvent {
    /// The process lives, whatever else it does.
    Alive,
    /// A phase began or went on.
    Phase {
        /// Which.
        phase: RankPhase,
        /// How much of it is done, from 0 to 1, where known.
        fraction: Option<f64>,
        /// What is being done.
        message: String,
    },
    /// The plan is compiled.
    Planned {
        /// All optimizer steps.
        steps: u64,
        /// All document tokens.
        tokens: u64,
        /// The stages, in order.
        stages: Vec<PlannedStage>,
    },
    /// What the job left open is decided.
    Resolved {
        /// The precision of the forward and backward passes.
        precision: String,
    },
    /// A step was taken.
    Progress(Box<RankProgress>),
    /// A checkpoint's manifest was written.
    CheckpointCommitted {
        /// The step it holds.
        step: u64,
    },
    /// Held-out text was measured.
    Evaluated(Evaluated),
    /// Something a person should know, because it may not be as it should.
    Warning {
        /// One sentence.
        message: String,
    },
    /// Something that a person may want to know.
    Notice {
        /// One sentence.
        message: String,
    },
    /// The job came to its end, or stopped as it was told to.
    Finished {
        /// How.
        outcome: RankOutcome,
        /// The last step that was taken.
        step: u64,
        /// The digest of the published model's manifest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// The job cannot go on.
    Failed {
        /// Whether the user can mend it.
        user: bool,
        /// One of [`palimpsest_api::FailureReason`].
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// What a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RankPhase {
    /// Tokenizer and data are made ready.
    Preparing,
    /// The model is read or made.
    Loading,
    /// Held-out text is measured.
    Evaluating,
    /// Steps are taken.
    Training,
    /// The model is written.
    Exporting,
}

/// A stage of the compiled plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedStage {
    /// Its name.
    pub(crate) name: String,
    /// Its optimizer steps.
    pub(crate) steps: u64,
    /// Its document tokens.
    pub(crate) tokens: u64,
    /// Its buckets.
    pub(crate) buckets: u32,
}

/// Where a job stands after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RankProgress {
    /// The step, from 1, over the whole job.
    pub(crate) step: u64,
    /// All steps.
    pub(crate) steps: u64,
    /// The stage's name.
    pub(crate) stage: String,
    /// Its index, from 0.
    pub(crate) stage_index: u32,
    /// The number of stages.
    pub(crate) stages: u32,
    /// The bucket's index in the stage, from 0.
    pub(crate) bucket: u32,
    /// The number of the stage's buckets.
    pub(crate) buckets: u32,
    /// The step's loss; none where it is not a number.
    pub(crate) loss: Option<f64>,
    /// The step's learning rate.
    pub(crate) learning_rate: f64,
    /// Document tokens of all steps so far.
    pub(crate) tokens: u64,
    /// Document tokens a second over the last steps.
    pub(crate) tokens_per_second: f64,
    /// Seconds until the last step, at the pace of the last steps.
    pub(crate) remaining_seconds: f64,
    /// The step itself, as `metrics.jsonl` has it.
    pub(crate) record: StepRecord,
    /// What the device does in matrix products, once it is measured.
    pub(crate) matrix_flops_per_second: Option<f64>,
}

/// A measurement of held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evaluated {
    /// The steps taken before it.
    pub(crate) step: u64,
    /// The stage that it follows or falls in.
    pub(crate) stage: Option<String>,
    /// `Base`, `JobStart`, `Interval`, `StageEnd` or `JobEnd`.
    pub(crate) when: String,
    /// The evaluation's name.
    pub(crate) name: String,
    /// The dataset that was measured.
    pub(crate) dataset: String,
    /// Its language.
    pub(crate) language: Option<String>,
    /// Bits per byte of text.
    pub(crate) bits_per_byte: f64,
    /// Documents measured.
    pub(crate) documents: u64,
}

/// How a job that did not fail came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RankOutcome {
    /// The output is published.
    Succeeded,
    /// It was told to stop, and its newest checkpoint is of its last step.
    Stopped,
    /// The output of this very job was there already.
    AlreadyFinished,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &RankEvent, line: &str) {
        assert_eq!(serde_json::to_string(event).unwrap(), line);
        assert_eq!(serde_json::from_str::<RankEvent>(line).unwrap(), *event);
    }

    #[test]
    fn events_are_lines_that_read_back() {
        check(
            &RankEvent::Phase {
                phase: RankPhase::Preparing,
                fraction: Some(0.5),
                message: "packing \"zh\"\n".to_owned(),
            },
            r#"{"phase":{"phase":"preparing","fraction":0.5,"message":"packing \"zh\"\n"}}"#,
        );
        check(&RankEvent::CheckpointCommitted { step: 4 }, r#"{"checkpointCommitted":{"step":4}}"#);
        check(
            &RankEvent::Finished { outcome: RankOutcome::Stopped, step: 9, digest: None },
            r#"{"finished":{"outcome":"stopped","step":9}}"#,
        );
        let digest = Some("sha256:1".to_owned());
        check(
            &RankEvent::Finished { outcome: RankOutcome::AlreadyFinished, step: 9, digest },
            r#"{"finished":{"outcome":"alreadyFinished","step":9,"digest":"sha256:1"}}"#,
        );
    }

    #[test]
    fn commands_without_fields_are_plain_words() {
        assert_eq!(serde_json::to_string(&RankCommand::Drain).unwrap(), r#""drain""#);
    }
}
