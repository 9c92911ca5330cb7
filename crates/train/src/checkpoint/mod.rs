//! Checkpoints: folders `step-00000400` that are Hugging Face folders with the optimizer's state beside the weights.
//!
//! A checkpoint exists when its manifest does. The folder is written beside its place, the manifest last, and renamed, so
//! that one appears whole or not at all; the manifest holds the digest of every file, so that one that has rotted is
//! noticed and the one before is used.
//!
//! ```text
//! training ── copies weights and moments ──► writer's thread: files, digests, manifest ► fence ► rename ► prune
//! ```

mod folders;
mod snapshot;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use palimpsest_model::Decoder;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub(crate) use self::folders::{check_job, newest};
pub(crate) use self::snapshot::digests;
pub(crate) use self::writer::{Identity, TokenizerFiles, Writer};
use crate::dataset_loss::DatasetLosses;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::optimizer::Moments;
use crate::spikes::SpikeWindow;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Where a job stands between two steps; with weights and moments, all that its future depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// Steps taken over the whole job.
    pub(crate) step: u64,
    /// The stage of the next step; the number of stages after the last.
    pub(crate) stage: usize,
    /// Steps taken in that stage.
    pub(crate) stage_step: u64,
    pub(crate) spikes: SpikeWindow,
    pub(crate) totals: Totals,
    /// The norms of the embedding's new rows and of the old ones, after each stage.
    pub(crate) rows: Vec<crate::telemetry::RowNorms>,
    /// The training loss of each dataset, stage by stage.
    #[serde(default)]
    pub(crate) losses: Vec<DatasetLosses>,
    /// What made the job's numerics differ from those of one that was never stopped.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

/// Sums over all steps taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totals {
    pub(crate) tokens: u64,
    pub(crate) targets: u64,
    pub(crate) slots: u64,
    pub(crate) clipped: u64,
    pub(crate) skipped: u64,
    pub(crate) seconds: f64,
}

/// What makes a folder a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) step: u64,
    pub(crate) attempt: u64,
    /// The digest of the job's fields that can change its result.
    pub(crate) job: String,
    /// The digest of the plan.
    pub(crate) plan: String,
    pub(crate) fingerprint: Fingerprint,
    /// `sha256:` digests of all other files.
    pub(crate) files: BTreeMap<String, String>,
    /// The digest of what stands above, so that a manifest that has rotted is noticed, too. Those of the first versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
}

/// A checkpoint read back.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) state: State,
}

impl Checkpoint {
    /// The model it holds, in the precision of its masters.
    pub(crate) fn model(&self, device: Device, kind: Kind) -> Result<Decoder> {
        Ok(Decoder::open(&self.folder, device, kind)?)
    }

    /// The optimizer's state it holds.
    pub(crate) fn optimizer(&self) -> Result<Moments> {
        Ok(Tensor::read_safetensors(self.folder.join(OPTIMIZER))?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
