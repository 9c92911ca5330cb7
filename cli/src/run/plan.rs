//! `palimpsest run --plan`: what a job would do, and how long and large.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use palimpsest_api::{ActivationCheckpointing, Budget, Precision, Stage, Trainable, result_digest};
use palimpsest_corpus::{Plan, StagePlan};
use palimpsest_prepare::{
    ExistingOutput, PreparedJob, Shape, check_context, check_output, check_vocabulary, check_warm_up,
};
use palimpsest_store::Location;
use serde_json::{Map, Value};

use super::STOPPED;
use crate::columns::table;
use crate::data;
use crate::errors::UserError;
use crate::job::Job;
use crate::prepare::prepare;
use crate::words;

/// What a thread of a processor computes in a second, roughly: see `docs`. A first guess, until steps are measured.
const CPU_FLOPS_OF_A_THREAD: f64 = 2.5e10;

/// What a GPU computes in a second in bfloat16, roughly.
const GPU_FLOPS: f64 = 3e14;

/// The context of a model whose config does not say, as in `transformers`.
const DEFAULT_CONTEXT: u64 = 2048;

/// Prepares the data of a job and prints what the job would do.
pub(super) fn run(job: &Job, threads: u32, on_gpu: bool) -> Result<ExitCode> {
    let spec = &job.job.spec;
    let existing = check_output(&job.folder.model(), &result_digest(&job.job), spec.output.on_existing)?;
    if let ExistingOutput::Own { step } = existing {
        println!("{} is finished already, after {step} steps\n", job.job.metadata.name);
    }
    let Some(prepared) = prepare(job, threads)? else { return Ok(ExitCode::from(STOPPED)) };
    let plan = &prepared.plan;
    check_warm_up(&spec.stages, plan.stages.iter().map(|stage| stage.steps))?;
    let config = config(job)?;
    if let Some(config) = &config {
        check_model(config, &prepared, spec.data.sequence_length)?;
    }
    println!(
        "{}: {} steps, {} tokens\n",
        job.job.metadata.name,
        words::count(plan.steps()),
        words::count(plan.document_tokens())
    );
    print!("{}", stages(&spec.stages, plan));
    println!("\n{}", data::certificate(plan));
    match config.and_then(|config| shape(&config, &prepared)) {
        Some(shape) => print!("{}", sizes(job, plan, &shape, threads, on_gpu)),
        None => println!("the model's config.json says too little to tell sizes"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses what a run would refuse when it has loaded the model.
fn check_model(config: &Map<String, Value>, prepared: &PreparedJob, sequence_length: u32) -> Result<()> {
    let tokenizer = prepared.base_tokenizer.as_ref().unwrap_or(&prepared.tokenizer);
    if let Some(rows) = config.get("vocab_size").and_then(Value::as_u64) {
        check_vocabulary(rows, tokenizer.vocabulary_size(), prepared.extension.is_some())?;
    }
    let context = config.get("max_position_embeddings").and_then(Value::as_u64).unwrap_or(DEFAULT_CONTEXT);
    Ok(check_context(context, sequence_length)?)
}

fn stages(stages: &[Stage], plan: &Plan) -> String {
    let heading = ["stage", "budget", "trained", "steps", "tokens", "targets", "buckets", "sequences a step", "fill"];
    let cells: Vec<Vec<String>> =
        stages.iter().zip(&plan.stages).map(|(stage, planned)| stage_row(stage, planned)).collect();
    table(&heading, &cells, &["stage", "budget", "trained"])
}

fn stage_row(stage: &Stage, planned: &StagePlan) -> Vec<String> {
    let padding: u64 = planned.buckets.iter().map(|bucket| bucket.padding).sum();
    let budget = match stage.budget {
        Budget { tokens: Some(tokens), .. } => format!("{} tokens", words::count(tokens)),
        Budget { steps: Some(steps), .. } => format!("{} steps", words::count(steps)),
        Budget { epochs: Some(epochs), .. } => format!("{epochs} epochs"),
        Budget { .. } => "-".to_owned(),
    };
    vec![
        planned.name.clone(),
        budget,
        format!("{:?}", stage.trainable),
        words::count(planned.steps),
        words::count(planned.document_tokens()),
        words::count(planned.target_tokens()),
        planned.buckets.len().to_string(),
        planned.batch_sequences.to_string(),
        format!("{:.2} %", 100.0 * (1.0 - padding as f64 / planned.slots().max(1) as f64)),
    ]
}

/// Values that a layer keeps of a position for its backward pass.
fn kept_by_a_layer(shape: &Shape, checkpointing: ActivationCheckpointing) -> f64 {
    match checkpointing {
        ActivationCheckpointing::None => {
            6.0 * shape.hidden + 2.0 * shape.query + 2.0 * shape.key_value + 4.0 * shape.intermediate
        }
        ActivationCheckpointing::Selective => {
            3.0 * shape.hidden + 2.0 * shape.query + 2.0 * shape.key_value + 2.0 * shape.intermediate
        }
        ActivationCheckpointing::Full => shape.hidden,
    }
}

/// The config of the job's model; none where a checkpoint is not there.
fn config(job: &Job) -> Result<Option<Map<String, Value>>> {
    let model = &job.job.spec.model;
    if let Some(architecture) = &model.architecture {
        return Ok(Some(architecture.clone()));
    }
    let folder: Option<PathBuf> = match (&model.uri, &model.checkpoint) {
        (Some(uri), _) => Some(Location::parse(uri, &job.mounts)?.path().to_owned()),
        (None, Some(checkpoint)) => newest_step(Location::parse(&checkpoint.uri, &job.mounts)?.path(), checkpoint.step),
        (None, None) => None,
    };
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let bytes = fs::read(&path).map_err(|source| palimpsest_store::Error::io("read", &path, source))?;
    let config = serde_json::from_slice(&bytes).map_err(|error| {
        UserError::new(format!("{}: {error}; it holds no JSON object: restore the model's file", path.display()))
    })?;
    Ok(Some(config))
}

/// The shape of the job's model with its extended vocabulary. Rows without an id stay.
fn shape(config: &Map<String, Value>, prepared: &PreparedJob) -> Option<Shape> {
    let rows = config.get("vocab_size").and_then(Value::as_u64).unwrap_or(0) as usize;
    Shape::of(config, rows.max(prepared.tokenizer.vocabulary_size()))
}

fn newest_step(folder: &std::path::Path, wanted: Option<u64>) -> Option<PathBuf> {
    let steps = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((step, path))
    });
    steps.filter(|(step, _)| wanted.is_none_or(|wanted| wanted == *step)).max().map(|(_, path)| path)
}

fn sizes(job: &Job, plan: &Plan, shape: &Shape, threads: u32, on_gpu: bool) -> String {
    let spec = &job.job.spec;
    let parameters = shape.parameters();
    let (master, compute) = match spec.precision {
        Precision::Float64 => (8.0, 8.0),
        Precision::BFloat16 => (4.0, 2.0),
        Precision::Auto if on_gpu => (4.0, 2.0),
        Precision::Auto | Precision::Float32 => (4.0, 4.0),
    };
    let trains_all = spec.stages.iter().any(|stage| stage.trainable == Trainable::All);
    let trained = if trains_all { parameters } else { shape.embeddings() };
    let checkpoint = parameters * master + 2.0 * trained * master;
    let weights =
        parameters * master + 3.0 * trained * master + if compute < master { parameters * compute } else { 0.0 };
    let micro_batch = spec.stages.iter().map(|stage| stage.batch.micro_batch).max().unwrap_or(1);
    let positions = f64::from(micro_batch) * f64::from(plan.sequence_length);
    let kept = shape.layers * kept_by_a_layer(shape, spec.activation_checkpointing)
        + match spec.activation_checkpointing {
            // One layer at a time is computed again.
            ActivationCheckpointing::Full => kept_by_a_layer(shape, ActivationCheckpointing::None),
            ActivationCheckpointing::None | ActivationCheckpointing::Selective => 0.0,
        };
    let activations = positions * kept * compute;
    let length = f64::from(plan.sequence_length);
    let operations: f64 = spec
        .stages
        .iter()
        .zip(&plan.stages)
        .map(|(stage, planned)| shape.flops(planned.slots() as f64, length, stage.trainable))
        .sum();
    let speed = if on_gpu { GPU_FLOPS } else { CPU_FLOPS_OF_A_THREAD * f64::from(threads) };
    let place = if on_gpu { "a GPU".to_owned() } else { format!("{threads} threads") };
    let keep = f64::from(spec.checkpoint.keep);
    [
        format!("model        {} parameters", words::count(parameters as u64)),
        format!("checkpoint   {} each, {} in all", bytes(checkpoint), bytes(checkpoint * keep)),
        format!(
            "memory       about {} for weights, gradients and moments, {} for activations",
            bytes(weights),
            bytes(activations)
        ),
        format!("compute      {}; roughly {} on {place}", scaled(operations, "FLOP"), words::time(operations / speed)),
        String::new(),
    ]
    .join("\n")
}

/// `1.2 GB`.
fn bytes(bytes: f64) -> String {
    scaled(bytes, "B")
}

fn scaled(amount: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"];
    let fits = |index: &usize| amount < 1000f64.powi(*index as i32 + 1);
    let index = (0..prefixes.len() - 1).find(fits).unwrap_or(prefixes.len() - 1);
    format!("{:.1} {}{unit}", amount / 1000f64.powi(index as i32), prefixes[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_prefix() {
        assert_eq!(bytes(6_738_415_616.0 * 2.0), "13.5 GB");
    }
}
