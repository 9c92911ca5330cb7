//! What a run leaves, and under which names.

use std::path::{Path, PathBuf};

use palimpsest_api::TrainingJob;

use crate::{Location, Mounts, Result};

/// The folder of a run: the one that holds its output, and the places that the job names elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
    model: PathBuf,
    checkpoints: PathBuf,
    prepared: PathBuf,
}

impl RunFolder {
    /// The run at `root`, whether it is there yet or not, with everything at its default place.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let [model, checkpoints, prepared] = ["model", "checkpoints", "prepared"].map(|name| root.join(name));
        Self { root, model, checkpoints, prepared }
    }

    /// The run of a job: `output.uri` is its model, and what the job gives no place of its own lies beside that.
    pub fn of(job: &TrainingJob, mounts: &Mounts) -> Result<Self> {
        let path = |uri: &String| Ok::<_, crate::Error>(Location::parse(uri, mounts)?.path().to_owned());
        let model = path(&job.spec.output.uri)?;
        let beside = Self::new(model.parent().map(Path::to_owned).unwrap_or_default());
        Ok(Self {
            checkpoints: job.spec.checkpoint.uri.as_ref().map_or(Ok(beside.checkpoints), path)?,
            prepared: job.spec.data.prepared.as_ref().map_or(Ok(beside.prepared), |prepared| path(&prepared.uri))?,
            root: beside.root,
            model,
        })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The exported model: a Hugging Face folder.
    pub fn model(&self) -> PathBuf {
        self.model.clone()
    }

    /// Checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.checkpoints.clone()
    }

    /// Learned tokenizers and packed data.
    pub fn prepared(&self) -> PathBuf {
        self.prepared.clone()
    }

    /// The job, as it was first run.
    pub fn job(&self) -> PathBuf {
        self.root.join("job.json")
    }

    /// A line a step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// A line an attempt.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts.jsonl")
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

    /// Chrome traces of steps that were profiled.
    pub fn traces(&self) -> PathBuf {
        self.root.join("traces")
    }

    /// TensorBoard event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }
}
