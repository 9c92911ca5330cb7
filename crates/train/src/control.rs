//! What the outside may ask of a running job, and what the job tells.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Requests to a running job; set from any thread, seen at the next step.
#[derive(Debug, Default)]
pub struct Control {
    checkpoint: AtomicBool,
    drain: AtomicBool,
    abort: AtomicBool,
}

impl Control {
    /// Asks for a checkpoint after the step under way.
    pub fn request_checkpoint(&self) {
        self.checkpoint.store(true, Ordering::Relaxed);
    }

    /// Asks for a checkpoint and then to stop.
    pub fn request_drain(&self) {
        self.drain.store(true, Ordering::Relaxed);
    }

    /// Asks to stop at once; nothing more is written.
    pub fn request_abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }
}

/// How a job that did not fail came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// The output is published.
    Succeeded {
        /// The last step.
        step: u64,
        /// The digest of the model's manifest, which holds those of its files.
        digest: String,
    },
    /// The output of this very job was there already.
    AlreadyFinished {
        /// Its last step.
        step: u64,
        /// The digest of its manifest.
        digest: String,
    },
    /// The job was asked to stop; its newest checkpoint is of this step.
    Stopped {
        /// The last step that was taken.
        step: u64,
    },
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Its name.
    pub name: String,
    /// Its optimizer steps.
    pub steps: u64,
    /// Its document tokens.
    pub tokens: u64,
    /// Its buckets.
    pub buckets: u32,
}

/// What a job tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// A phase began or went on.
    Phase {
        /// Which.
        phase: Phase,
        /// How much of it is done, where known.
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
        /// The stages.
        stages: Vec<PlannedStage>,
    },
    /// What the job left open is decided.
    Resolved {
        /// The precision of the forward and backward passes, in the words of a job.
        precision: String,
    },
    /// A step was taken.
    Step(Progress),
    /// A checkpoint's manifest was written.
    CheckpointCommitted {
        /// The step it holds.
        step: u64,
    },
    /// Held-out text was measured.
    Evaluated(crate::records::EvaluationRecord),
    /// Something a person should know, because it may not be as it should.
    Warning(String),
    /// Something that a person may want to know.
    Notice(String),
}

/// Where a job stands after a step.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The step, from 1, over the whole job.
    pub step: u64,
    /// All steps.
    pub steps: u64,
    /// The stage's name.
    pub stage: String,
    /// Its index, from 0.
    pub stage_index: u32,
    /// The number of stages.
    pub stages: u32,
    /// The bucket's index in the stage, from 0.
    pub bucket: u32,
    /// The number of the stage's buckets.
    pub buckets: u32,
    /// The step's loss; none where it is not a number.
    pub loss: Option<f64>,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Document tokens of all steps so far.
    pub tokens: u64,
    /// Document tokens a second over the last steps.
    pub tokens_per_second: f64,
    /// Seconds until the last step, at the pace of the last steps.
    pub remaining_seconds: f64,
    /// The step itself, as `metrics.jsonl` has it.
    pub record: crate::records::StepRecord,
    /// What the device does in matrix products, once it is measured.
    pub matrix_flops_per_second: Option<f64>,
}
