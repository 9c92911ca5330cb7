//! `summary.json`: what a finished job says of itself.

use std::path::PathBuf;

use serde::Serialize;

use crate::attempts::Goodput;
use crate::checkpoint::Totals;
use crate::control::PlannedStage;
use crate::fingerprint::Fingerprint;
use crate::records::EvaluationRecord;

/// `summary.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary<'a> {
    pub(crate) job: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) plan_digest: &'a str,
    pub(crate) state: &'static str,
    pub(crate) steps: u64,
    pub(crate) tokens: u64,
    pub(crate) target_tokens: u64,
    pub(crate) slots: u64,
    /// Seconds spent in steps.
    pub(crate) seconds: f64,
    pub(crate) goodput: Goodput,
    /// The most memory that a step left the rank with.
    pub(crate) resident_bytes: Option<u64>,
    /// The most of a GPU's memory that tensors held at once; `null` on a CPU.
    pub(crate) device_bytes: Option<u64>,
    pub(crate) precision: &'a str,
    pub(crate) device: &'a str,
    pub(crate) threads: usize,
    pub(crate) model: ModelSummary,
    pub(crate) tokenizer: serde_json::Value,
    pub(crate) stages: &'a [PlannedStage],
    pub(crate) evaluations: Vec<EvaluationRecord>,
    /// The share of steps whose gradient was scaled down.
    pub(crate) clipped_fraction: f64,
    pub(crate) skipped_steps: u64,
    pub(crate) fingerprint: &'a Fingerprint,
    /// What made a resumed run differ from an undisturbed one.
    pub(crate) warnings: &'a [String],
}

/// The trained model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelSummary {
    pub(crate) path: PathBuf,
    pub(crate) digest: String,
    pub(crate) parameters: u64,
}

impl Totals {
    /// Takes a step into the sums.
    pub(crate) fn add(&mut self, record: &crate::records::StepRecord) {
        self.tokens += record.tokens;
        self.targets += record.targets;
        self.slots += record.slots;
        self.clipped += u64::from(record.clipped);
        self.skipped += u64::from(record.skipped);
        self.seconds += record.seconds;
    }
}
