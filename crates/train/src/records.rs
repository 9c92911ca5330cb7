//! The files of a run folder that grow: a line a step in `metrics.jsonl`, a line a measurement in `evaluations.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use palimpsest_store::Fence;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// The step, from 1, over the whole job.
    pub step: u64,
    /// The stage's name.
    pub stage: String,
    /// The bucket of the step's first sequence, from 0.
    pub bucket: u32,
    /// Document tokens of this step.
    pub tokens: u64,
    /// Target tokens of this step.
    pub targets: u64,
    /// Input positions of this step, padding included.
    pub slots: u64,
    /// The sum of the loss over all targets by their number; `null` where it was not a number.
    pub loss: Option<f64>,
    /// The norm of the gradient before clipping; `null` where it was not a number.
    pub grad_norm: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// Document tokens of this step by its seconds.
    pub tokens_per_second: f64,
    /// Wall time.
    pub seconds: f64,
    /// When the step was over, in seconds since 1970.
    #[serde(default)]
    pub time: f64,
    /// Wall time that training waited for checkpoints since the step before, which is not in `seconds`.
    #[serde(default)]
    pub checkpoint_seconds: f64,
    /// Where the wall time went.
    #[serde(flatten)]
    pub parts: StepParts,
    /// The share of the slots that holds something.
    #[serde(default)]
    pub fill: f64,
    /// The process's memory after the step, where the system tells it.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// The most of a GPU's memory that tensors have held at once since the process began; absent on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// Floating-point operations of the step by its document tokens.
    #[serde(default)]
    pub flops_per_token: f64,
    /// The step's operations a second by what the device does in matrix products; `null` until that is measured.
    #[serde(default)]
    pub mfu: Option<f64>,
    /// Whether the gradient was scaled down.
    pub clipped: bool,
    /// Whether the loss was a spike, whatever was done about it.
    #[serde(default)]
    pub spike: bool,
    /// Whether the loss was a spike and the optimizer did not step.
    pub skipped: bool,
}

/// The parts of a step's wall time, in seconds of the host; together they are nearly all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepParts {
    /// Reading sequences and making batches of them.
    pub data_seconds: f64,
    /// From the ids to the last layer's output.
    pub forward_seconds: f64,
    /// The head, the loss and the backward pass, until the losses are read.
    pub backward_seconds: f64,
    /// The gradient's norm, clipping, and the optimizer.
    pub optimizer_seconds: f64,
}

/// A line of `evaluations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationRecord {
    /// The steps taken before it.
    pub step: u64,
    /// The stage that it follows or falls in; absent before the first.
    pub stage: Option<String>,
    /// At which moment.
    pub when: Moment,
    /// The evaluation's name.
    pub name: String,
    /// The dataset whose held-out documents were read.
    pub dataset: String,
    /// Its language.
    pub language: Option<String>,
    /// What was measured.
    #[serde(flatten)]
    pub score: palimpsest_eval::Score,
}

/// The moment of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// The model as it came, with its own tokenizer, before its vocabulary was extended.
    Base,
    /// Before the first step.
    JobStart,
    /// Every so many steps.
    Interval,
    /// After a stage's last step.
    StageEnd,
    /// After the last step.
    JobEnd,
}

/// A record that belongs to a step.
pub(crate) trait Stepped {
    fn step(&self) -> u64;
}

impl Stepped for StepRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

impl Stepped for EvaluationRecord {
    fn step(&self) -> u64 {
        self.step
    }
}

/// A file of JSON lines that is cut back to the checkpoint's step when a job goes on.
#[derive(Debug)]
pub(crate) struct RecordFile<R> {
    path: PathBuf,
    file: File,
    record: PhantomData<R>,
}

impl<R: Stepped + Serialize + DeserializeOwned> RecordFile<R> {
    /// Opens the file, leaving out the records of steps after `step` and a last line that was not finished.
    pub(crate) fn open_at(fence: &Fence, path: &Path, step: u64) -> Result<Self> {
        let in_error = |source| palimpsest_store::Error::io("write", path, source);
        let kept: Vec<R> = read(path)?.into_iter().filter(|record: &R| record.step() <= step).collect();
        let mut text = Vec::new();
        for record in &kept {
            write_line(&mut text, record).map_err(in_error)?;
        }
        fence.replace(path, &text)?;
        let file = OpenOptions::new().append(true).open(path).map_err(in_error)?;
        Ok(Self { path: path.to_owned(), file, record: PhantomData })
    }

    /// Appends a line.
    pub(crate) fn append(&mut self, record: &R) -> Result<()> {
        let mut line = Vec::new();
        write_line(&mut line, record)
            .and_then(|()| self.file.write_all(&line))
            .map_err(|source| palimpsest_store::Error::io("write", &self.path, source).into())
    }

    /// All records of the file.
    pub(crate) fn records(&self) -> Result<Vec<R>> {
        read(&self.path)
    }
}

pub(crate) fn write_line(sink: &mut Vec<u8>, record: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *sink, record)?;
    sink.push(b'\n');
    Ok(())
}

/// The records of a file, none where there is no file. A line that was not finished when its writer died is left out.
pub(crate) fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(palimpsest_store::Error::io("read", path, source).into()),
    };
    let mut records = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|source| palimpsest_store::Error::io("read", path, source))?;
        match serde_json::from_str(&line) {
            Ok(record) => records.push(record),
            Err(_) => break,
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_record(step: u64) -> StepRecord {
        StepRecord {
            step,
            stage: "one".to_owned(),
            bucket: 0,
            tokens: 10,
            targets: 9,
            slots: 12,
            loss: Some(1.5),
            grad_norm: None,
            learning_rate: 1e-4,
            tokens_per_second: 5.0,
            seconds: 2.0,
            time: 1e9,
            checkpoint_seconds: 0.0,
            parts: StepParts { data_seconds: 0.1, forward_seconds: 0.5, backward_seconds: 1.0, optimizer_seconds: 0.2 },
            fill: 0.75,
            resident_bytes: Some(1 << 20),
            device_bytes: None,
            flops_per_token: 100.0,
            mfu: None,
            clipped: false,
            spike: true,
            skipped: true,
        }
    }

    #[test]
    fn a_file_is_cut_back_to_the_step_of_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let fence = Fence::claim(folder.path(), "job", 1, "the first").unwrap();
        let mut file = RecordFile::open_at(&fence, &path, 0).unwrap();
        for step in 1..=5 {
            file.append(&mk_record(step)).unwrap();
        }
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 6, \"sta").unwrap();
        let mut file = RecordFile::open_at(&fence, &path, 3).unwrap();
        file.append(&mk_record(4)).unwrap();
        let steps: Vec<u64> = file.records().unwrap().iter().map(|record: &StepRecord| record.step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
