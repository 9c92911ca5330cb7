//! What a run leaves, and under which names.

use std::path::{Path, PathBuf};

/// The folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run at `root`, whether it is there yet or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The exported model: a Hugging Face folder.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Checkpoints, where the job names no other place.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Packed data, where the job names no other place.
    pub fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
    }

    /// A line a step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// A line a measurement.
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("evaluations.jsonl")
    }

    /// What became of the new tokens and of each dataset.
    pub fn telemetry(&self) -> PathBuf {
        self.root.join("telemetry.json")
    }

    /// The compiled plan, with the packing certificate.
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// What the run came to.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// One page for a person.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// TensorBoard event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }
}
