//! Stages, buckets and datasets, as planned and as done.

use palimpsest_corpus::{BucketPlan, DatasetCertificate, Plan, StagePlan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{RunFiles, Step};

/// A stage of the job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StageFigures {
    name: String,
    /// The number of its first step, from 1 over the whole job.
    first_step: u64,
    last_step: u64,
    pub(super) steps: u64,
    document_tokens: u64,
    buckets: Vec<BucketFigures>,
}

/// A bucket of a stage; what only the plan knows is 0 without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BucketFigures {
    /// From 0.
    bucket: u64,
    /// The step that its first sequence falls in.
    first_step: u64,
    /// The step that its last sequence falls in.
    last_step: u64,
    sequences: u64,
    slots: u64,
    padding: u64,
    documents: u64,
    document_tokens: u64,
    prompt_tokens: u64,
    target_tokens: u64,
    split: u64,
    shares: Vec<Share>,
}

/// What a dataset gives to a bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Share {
    dataset: String,
    tokens: u64,
}

/// A dataset that the job trains on or measures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DatasetFigures {
    name: String,
    language: Option<String>,
    /// Document tokens trained on over all stages, each time counted.
    tokens: u64,
    /// How often that is all there is to train on.
    epochs: f64,
    stages: Vec<DatasetStage>,
}

/// What a stage trains on of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct DatasetStage {
    stage: String,
    tokens: u64,
    /// The mean loss of its target tokens so far, where the run says, and how many those are.
    loss: Option<f64>,
    targets: u64,
}

/// A line of `perDataset` in `telemetry.json`.
#[derive(Debug, Deserialize)]
struct DatasetLoss {
    dataset: String,
    stage: String,
    loss: Option<f64>,
    #[serde(default)]
    targets: u64,
}

/// The stages: as planned, or as the metrics tell of them until the plan is written.
pub(super) fn stages(files: &RunFiles) -> Vec<StageFigures> {
    let Some(plan) = &files.plan else { return stages_of_metrics(&files.metrics) };
    let mut before = 0;
    let mut stages = Vec::new();
    for stage in &plan.stages {
        stages.push(planned_stage(stage, before));
        before += stage.steps;
    }
    stages
}

fn planned_stage(stage: &StagePlan, steps_before: u64) -> StageFigures {
    let batch = u64::from(stage.batch_sequences).max(1);
    let step_of = |sequence: u64| steps_before + 1 + sequence / batch;
    let mut sequences_before = 0;
    let mut buckets = Vec::new();
    for (index, bucket) in stage.buckets.iter().enumerate() {
        let sum = |figure: fn(&palimpsest_corpus::BinPlan) -> u64| bucket.datasets.iter().map(figure).sum();
        buckets.push(BucketFigures {
            bucket: index as u64,
            first_step: step_of(sequences_before),
            last_step: step_of((sequences_before + bucket.sequences).saturating_sub(1)),
            sequences: bucket.sequences,
            slots: bucket.slots,
            padding: bucket.padding,
            documents: sum(|bin| bin.documents),
            document_tokens: bucket.document_tokens,
            prompt_tokens: sum(|bin| bin.prompt_tokens),
            target_tokens: bucket.target_tokens,
            split: sum(|bin| bin.split),
            shares: shares(bucket),
        });
        sequences_before += bucket.sequences;
    }
    StageFigures {
        name: stage.name.clone(),
        first_step: steps_before + 1,
        last_step: steps_before + stage.steps,
        steps: stage.steps,
        document_tokens: stage.document_tokens(),
        buckets,
    }
}

fn shares(bucket: &BucketPlan) -> Vec<Share> {
    bucket.datasets.iter().map(|bin| Share { dataset: bin.dataset.clone(), tokens: bin.document_tokens }).collect()
}

fn stages_of_metrics(metrics: &[Step]) -> Vec<StageFigures> {
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

/// The datasets of the plan, in the job's order.
pub(super) fn datasets(files: &RunFiles) -> Vec<DatasetFigures> {
    let Some(plan) = &files.plan else { return Vec::new() };
    let losses = losses(files.telemetry.as_ref());
    let figures = |name: &str, language: &Option<String>| {
        let stages = dataset_stages(plan, name, &losses);
        let tokens = stages.iter().map(|stage| stage.tokens).sum();
        let certificate = plan.certificate.datasets.iter().find(|certificate| certificate.dataset == name);
        let there = certificate.map_or(0, |certificate| certificate.used.tokens + certificate.unused.tokens);
        let epochs = if there > 0 { tokens as f64 / there as f64 } else { 0.0 };
        DatasetFigures { name: name.to_owned(), language: language.clone(), tokens, epochs, stages }
    };
    plan.datasets.iter().map(|dataset| figures(&dataset.name, &dataset.language)).collect()
}

fn dataset_stages(plan: &Plan, dataset: &str, losses: &[DatasetLoss]) -> Vec<DatasetStage> {
    let mut stages = Vec::new();
    for stage in &plan.certificate.stages {
        let Some(bin) = stage.datasets.iter().find(|bin| bin.dataset == dataset) else { continue };
        let measured = losses.iter().find(|line| line.dataset == dataset && line.stage == stage.stage);
        stages.push(DatasetStage {
            stage: stage.stage.clone(),
            tokens: bin.document_tokens,
            loss: measured.and_then(|line| line.loss),
            targets: measured.map_or(0, |line| line.targets),
        });
    }
    stages
}

fn losses(telemetry: Option<&Value>) -> Vec<DatasetLoss> {
    let lines = telemetry.and_then(|telemetry| telemetry.get("perDataset")).and_then(Value::as_array);
    let lines = lines.map_or(&[] as &[Value], Vec::as_slice);
    lines.iter().filter_map(|line| DatasetLoss::deserialize(line).ok()).collect()
}

/// Where every token that was read went, dataset by dataset and over all sequences.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate<'a> {
    datasets: Vec<CertificateRow<'a>>,
    total: &'a palimpsest_corpus::PackingTotals,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateRow<'a> {
    #[serde(flatten)]
    amounts: &'a DatasetCertificate,
    /// Documents that lie in more than one piece, over all stages.
    split: u64,
}

/// The plan's certificate.
pub(super) fn certificate(files: &RunFiles) -> Option<Certificate<'_>> {
    let certificate = &files.plan.as_ref()?.certificate;
    let split = |dataset: &str| {
        let bins = certificate.stages.iter().flat_map(|stage| &stage.datasets).filter(|bin| bin.dataset == dataset);
        bins.map(|bin| bin.split).sum()
    };
    let rows = certificate.datasets.iter().map(|amounts| CertificateRow { amounts, split: split(&amounts.dataset) });
    Some(Certificate { datasets: rows.collect(), total: &certificate.total })
}
