//! The files of a run folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use palimpsest_corpus::Plan;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::UserError;

/// What a run folder holds; all but the metrics may be missing while the run goes on.
#[derive(Debug)]
pub(super) struct RunFiles {
    name: String,
    pub(super) metrics: Vec<Step>,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) plan: Option<Plan>,
    pub(super) telemetry: Option<Value>,
    pub(super) summary: Option<Summary>,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) step: u64,
    pub(super) stage: String,
    #[serde(default)]
    pub(super) bucket: u64,
    #[serde(default)]
    pub(super) tokens: u64,
    pub(super) loss: Option<f64>,
    pub(super) grad_norm: Option<f64>,
    #[serde(default)]
    pub(super) learning_rate: f64,
    #[serde(default)]
    pub(super) tokens_per_second: f64,
    #[serde(default)]
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) clipped: bool,
    #[serde(default)]
    pub(super) skipped: bool,
    pub(super) flops_per_token: Option<f64>,
    pub(super) mfu: Option<f64>,
    #[serde(flatten)]
    pub(super) parts: Option<Parts>,
}

/// What a step's time went to, in seconds of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parts {
    pub(super) data_seconds: f64,
    pub(super) forward_seconds: f64,
    pub(super) backward_seconds: f64,
    pub(super) optimizer_seconds: f64,
}

/// A line of `evaluations.jsonl`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Evaluation {
    pub(super) step: u64,
    pub(super) stage: Option<String>,
    pub(super) when: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) dataset: String,
    pub(super) language: Option<String>,
    pub(super) bits_per_byte: f64,
    pub(super) loss: f64,
    #[serde(default)]
    pub(super) tokens: u64,
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) documents: u64,
}

/// `summary.json`; what the report only hands on stays as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) job: String,
    pub(super) state: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Summary {
    /// Names the model's folder as it is seen from the run folder, where it lies there: a page that is passed on has
    /// nothing to tell of the machine.
    fn shorten_model_path(&mut self, folder: &Path) {
        let Some(Value::String(path)) = self.rest.get_mut("model").and_then(|model| model.get_mut("path")) else {
            return;
        };
        let resolved = (Path::new(path).canonicalize(), folder.canonicalize());
        let (Ok(model), Ok(folder)) = resolved else { return };
        if let Ok(below) = model.strip_prefix(folder) {
            *path = below.display().to_string();
        }
    }
}

/// What the report needs of `job.json`.
#[derive(Debug, Deserialize)]
struct Job {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

impl RunFiles {
    /// Reads a run folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let metrics = folder.join("metrics.jsonl");
        if !metrics.exists() {
            let sentence = format!(
                "{} holds no metrics.jsonl; name the folder of a run that has begun to train",
                folder.display()
            );
            return Err(UserError::new(sentence).into());
        }
        let mut summary: Option<Summary> = read_json(&folder.join("summary.json"))?;
        let job: Option<Job> = read_json(&folder.join("job.json"))?;
        let named = summary.as_ref().map(|summary| summary.job.clone()).or(job.map(|job| job.metadata.name));
        let folder_name = || Some(folder.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned());
        if let Some(summary) = &mut summary {
            summary.shorten_model_path(folder);
        }
        Ok(Self {
            name: named.or_else(folder_name).unwrap_or_else(|| "run".to_owned()),
            metrics: read_lines(&metrics)?,
            evaluations: read_lines(&folder.join("evaluations.jsonl"))?,
            plan: read_json(&folder.join("plan.json"))?,
            telemetry: read_json(&folder.join("telemetry.json"))?,
            summary,
        })
    }

    /// The job's name, or the folder's where no file tells it.
    pub(super) fn job(&self) -> &str {
        &self.name
    }
}

/// A JSON file, if it is there.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let value = serde_json::from_str(&text).with_context(|| format!("{} is not what a run writes", path.display()))?;
    Ok(Some(value))
}

/// The lines of a JSON lines file, none if it is not there. A last line that is still being written is left out.
fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let finished = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut records = Vec::new();
    for (index, line) in finished.lines().enumerate() {
        let record = serde_json::from_str(line)
            .with_context(|| format!("{}, line {}: not what a run writes", path.display(), index + 1))?;
        records.push(record);
    }
    Ok(records)
}
