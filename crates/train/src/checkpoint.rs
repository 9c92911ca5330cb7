//! Checkpoints: folders `step-00000400` that are Hugging Face folders with the optimizer's state beside the weights.
//!
//! A checkpoint exists when its manifest does. The manifest is written last and holds the digest of every file, so that
//! a checkpoint that was cut short, or has rotted, is noticed and the one before is used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_model::Decoder;
use palimpsest_store::{Error as StoreError, Location, list, sha256_file, write_atomically};
use palimpsest_vocab::Tokenizer;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::optimizer::Moments;
use crate::spikes::SpikeWindow;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Where a job stands between two steps; with weights and moments, all that its future depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The mean loss of the new tokens and the old ones, and the norms of their rows, after each stage.
    pub(crate) rows: Vec<crate::telemetry::RowNorms>,
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
#[serde(rename_all = "camelCase")]
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
}

/// A checkpoint read back.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) state: State,
}

/// What goes into a checkpoint.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) model: &'a Decoder,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) optimizer: Moments,
    pub(crate) state: &'a State,
    pub(crate) attempt: u64,
    pub(crate) job: &'a str,
    pub(crate) plan: &'a str,
    pub(crate) fingerprint: &'a Fingerprint,
}

/// The folder of the checkpoint of a step.
pub(crate) fn folder_of(root: &Path, step: u64) -> PathBuf {
    root.join(format!("step-{step:08}"))
}

/// Writes a checkpoint, then deletes the oldest so that `keep` are left.
pub(crate) fn write(root: &Path, contents: &Contents<'_>, keep: u32) -> Result<()> {
    let folder = folder_of(root, contents.state.step);
    remove_folder(&folder)?;
    let written = write_files(&folder, contents);
    if written.is_err() {
        // What is left of it would only take room; its own failure is reported, not that of the clearing.
        let _ = remove_folder(&folder);
    }
    written?;
    for (_, old) in committed(root)?.into_iter().rev().skip(keep as usize) {
        remove_folder(&old)?;
    }
    Ok(())
}

fn write_files(folder: &Path, contents: &Contents<'_>) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| StoreError::io("create", folder, source))?;
    contents.model.save(folder, contents.model.kind())?;
    contents.tokenizer.save(folder)?;
    let moments: Vec<(&String, &Tensor)> = contents.optimizer.iter().collect();
    palimpsest_model::write_tensors(&folder.join(OPTIMIZER), &moments)?;
    write_atomically(&folder.join(STATE), &to_json(contents.state)?)?;
    let manifest = Manifest {
        step: contents.state.step,
        attempt: contents.attempt,
        job: contents.job.to_owned(),
        plan: contents.plan.to_owned(),
        fingerprint: contents.fingerprint.clone(),
        files: digests(folder)?,
    };
    write_atomically(&folder.join(MANIFEST), &to_json(&manifest)?)?;
    Ok(())
}

/// `sha256:` digests of all files of a folder, by name.
pub(crate) fn digests(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = list(&Location::local(folder))?;
    entries.into_iter().map(|entry| Ok((entry.name, sha256_file(entry.location.path())?))).collect()
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::User(format!("cannot write JSON: {error}")))
}

/// Deletes a checkpoint so that it stops being one first: its manifest goes before its files.
fn remove_folder(folder: &Path) -> Result<()> {
    let in_error = |source| StoreError::io("remove", folder, source);
    if !folder.exists() {
        return Ok(());
    }
    let manifest = folder.join(MANIFEST);
    if manifest.exists() {
        fs::remove_file(&manifest).map_err(in_error)?;
    }
    Ok(fs::remove_dir_all(folder).map_err(in_error)?)
}

/// The steps and folders that have a manifest, oldest first.
fn committed(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("read", root, source).into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| StoreError::io("read", root, source))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
        if let Some(step) = step.filter(|_| path.join(MANIFEST).exists()) {
            found.push((step, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The newest checkpoint that is whole, or of a given step; those that are not are told to `warn` and passed over.
pub(crate) fn newest(root: &Path, step: Option<u64>, mut warn: impl FnMut(String)) -> Result<Option<Checkpoint>> {
    let candidates = committed(root)?.into_iter().rev().filter(|(found, _)| step.is_none_or(|step| step == *found));
    for (_, folder) in candidates {
        match read(&folder) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(why) => warn(format!("checkpoint {} is damaged ({why}); looking for the one before", folder.display())),
        }
    }
    Ok(None)
}

fn read(folder: &Path) -> Result<Checkpoint, String> {
    let manifest: Manifest = from_json(&folder.join(MANIFEST))?;
    for (name, digest) in &manifest.files {
        let actual = sha256_file(&folder.join(name)).map_err(|error| error.to_string())?;
        if actual != *digest {
            return Err(format!("{name} is not as it was written"));
        }
    }
    let state = from_json(&folder.join(STATE))?;
    Ok(Checkpoint { folder: folder.to_owned(), manifest, state })
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
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
