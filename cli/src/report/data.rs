//! Stages, buckets and datasets, as planned and as done.

use serde::Serialize;
use serde_json::Value;

use super::files::{RunFiles, Step};

/// A stage of the job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StageFigures {
    pub(super) name: String,
    /// The number of its first step, from 1 over the whole job.
    pub(super) first_step: u64,
    pub(super) last_step: u64,
    pub(super) steps: u64,
    pub(super) document_tokens: u64,
    pub(super) buckets: Vec<BucketFigures>,
}

/// A bucket of a stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BucketFigures {
    pub(super) bucket: u64,
    /// The step that its first sequence falls in.
    pub(super) first_step: u64,
    pub(super) last_step: u64,
    pub(super) sequences: u64,
    pub(super) slots: u64,
    pub(super) document_tokens: u64,
    pub(super) target_tokens: u64,
    pub(super) shares: Vec<Share>,
}

/// What a dataset gives to a bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Share {
    pub(super) dataset: String,
    pub(super) tokens: u64,
}

/// The stages as the metrics tell of them, which is all there is until the plan is written.
pub(super) fn stages_of_metrics(metrics: &[Step]) -> Vec<StageFigures> {
    let mut stages = Vec::new();
    for steps in metrics.chunk_by(|left, right| left.stage == right.stage) {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { continue };
        let buckets = steps.chunk_by(|left, right| left.bucket == right.bucket).filter_map(|steps| {
            let (first, last) = (steps.first()?, steps.last()?);
            let document_tokens = steps.iter().map(|step| step.tokens).sum();
            let (first_step, last_step) = (first.step, last.step);
            Some(BucketFigures { bucket: first.bucket, first_step, last_step, document_tokens, ..Default::default() })
        });
        stages.push(StageFigures {
            name: first.stage.clone(),
            first_step: first.step,
            last_step: last.step,
            steps: last.step - first.step + 1,
            document_tokens: steps.iter().map(|step| step.tokens).sum(),
            buckets: buckets.collect(),
        });
    }
    stages
}
