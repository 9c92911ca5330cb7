//! The compiled plan of a job's data: which sequences there are, in which files, and how many steps they make.

use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_api::{Attention, DatasetFormat, Packing};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::held_out::HeldOut;
use crate::reader::StageReader;
use crate::tokenized;

/// The name of the plan in its own folder.
pub(crate) const PLAN: &str = "plan.json";

/// What preparation found out and where it left the sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Of everything that decides the sequences and their order.
    pub digest: String,
    /// Of the tokenizer.
    pub tokenizer: String,
    /// Input positions of a sequence.
    pub sequence_length: u32,
    /// How documents fill sequences.
    pub packing: Packing,
    /// What a position may attend to.
    pub attention: Attention,
    /// The job's seed.
    pub seed: u64,
    /// The job's stages, in order.
    pub stages: Vec<StagePlan>,
    /// The datasets that were read, in the job's order. Sequences count by it.
    pub datasets: Vec<DatasetPlan>,
    /// What happened to every document and token.
    pub certificate: Certificate,
    /// What can be evaluated on.
    pub held_out: Vec<HeldOutPlan>,
    /// The folder of prepared data.
    #[serde(skip)]
    pub(crate) prepared: PathBuf,
}

/// A stage's steps and buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagePlan {
    /// The stage's name.
    pub name: String,
    /// Optimizer steps. The last one may have fewer sequences than the others.
    pub steps: u64,
    /// Sequences of a step.
    pub batch_sequences: u32,
    /// In the order in which they are trained on.
    pub buckets: Vec<BucketPlan>,
}

/// A bucket and the file that holds its sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketPlan {
    /// The Arrow file, relative to the folder of prepared data.
    pub file: String,
    /// How many sequences it holds.
    pub sequences: u64,
    /// Input positions, padding included.
    pub slots: u64,
    /// Input positions that hold nothing.
    pub padding: u64,
    /// The part of the slots that holds something.
    pub fill: f64,
    /// Document tokens: BOS, prompts, texts and EOS.
    pub document_tokens: u64,
    /// Tokens that the loss is taken over.
    pub target_tokens: u64,
    /// Bin by bin: what each dataset of the mixture gives.
    pub datasets: Vec<BinPlan>,
}

/// What a dataset gives to a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BinPlan {
    /// The dataset's name.
    pub dataset: String,
    /// Documents; one that is in the bin twice counts twice.
    pub documents: u64,
    /// Their tokens: `documents` (the first id of each, no target) + `prompt_tokens` + `target_tokens`.
    pub document_tokens: u64,
    /// Tokens wholly inside prompts, which are no targets.
    pub prompt_tokens: u64,
    /// Tokens that the loss is taken over.
    pub target_tokens: u64,
    /// Documents that lie in more than one piece.
    pub split: u64,
    /// Pieces: stretches of documents in sequences.
    pub pieces: u64,
    /// Input positions: `document_tokens` - `documents`.
    pub positions: u64,
}

/// A dataset and its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatasetPlan {
    /// Its name.
    pub name: String,
    /// Its language, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Where it is.
    pub uri: String,
    /// The format of its files.
    pub format: DatasetFormat,
    /// Its files, in the order in which they are read.
    pub files: Vec<String>,
    /// Files of its folder that are not of its format and were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out_files: Vec<String>,
    /// The folder of its tokenised documents, relative to the folder of prepared data.
    pub tokenized: String,
}

/// The held-out part of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldOutPlan {
    /// The dataset's name.
    pub dataset: String,
    /// Held-out documents.
    pub documents: u64,
    /// Their tokens, BOS, prompts and EOS included.
    pub tokens: u64,
    /// UTF-8 bytes of their texts.
    pub text_bytes: u64,
}

impl Plan {
    /// Reads a plan, such as `plan.json` of a run folder, whose data lies in the folder `prepared`.
    pub fn read(path: &Path, prepared: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let plan: Self = serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, error))?;
        Ok(Self { prepared: prepared.to_owned(), ..plan })
    }

    /// Writes a copy of the plan.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::io("write", path)(error.into()))?;
        Ok(palimpsest_store::write_atomically(path, &bytes)?)
    }

    /// Optimizer steps of all stages.
    pub fn steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// Document tokens of all stages.
    pub fn document_tokens(&self) -> u64 {
        self.stages.iter().map(StagePlan::document_tokens).sum()
    }

    /// Maps the sequences of a stage.
    pub fn reader(&self, stage: usize) -> Result<StageReader> {
        StageReader::open(self, &self.stages[stage])
    }

    /// Maps the held-out documents of a dataset.
    pub fn held_out(&self, dataset: &str) -> Result<HeldOut> {
        HeldOut::open(&self.tokenized_folder(self.dataset(dataset)?))
    }

    /// The folder of prepared data.
    pub fn prepared(&self) -> &Path {
        &self.prepared
    }

    pub(crate) fn dataset(&self, name: &str) -> Result<&DatasetPlan> {
        let found = self.datasets.iter().find(|dataset| dataset.name == name);
        found.ok_or_else(|| Error::UnknownDataset { field: "the plan".to_owned(), dataset: name.to_owned() })
    }

    pub(crate) fn tokenized_folder(&self, dataset: &DatasetPlan) -> PathBuf {
        tokenized::folder_of(&self.prepared, &dataset.tokenized)
    }
}

impl StagePlan {
    /// Sequences of all buckets.
    pub fn sequences(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.sequences).sum()
    }

    /// Input positions of all buckets, padding included.
    pub fn slots(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.slots).sum()
    }

    /// Document tokens of all buckets.
    pub fn document_tokens(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.document_tokens).sum()
    }

    /// Target tokens of all buckets.
    pub fn target_tokens(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.target_tokens).sum()
    }
}
