//! The output: a Hugging Face folder that appears whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use palimpsest_api::{OnExisting, OutputDtype};
use palimpsest_model::Decoder;
use palimpsest_prepare::OUTPUT_MANIFEST;
use palimpsest_store::{Fence, sha256_file, staging_folder_of_attempt, write_atomically};
use palimpsest_vocab::Tokenizer;
use serde::Serialize;
use tch::Kind;

use crate::checkpoint;
use crate::error::{Error, Result};

/// What stands in the output beside the model: which job made it, and the digests of its files.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputManifest {
    pub(crate) name: String,
    /// The digest of the job's fields that can change its result.
    pub(crate) job: String,
    pub(crate) steps: u64,
    /// `sha256:` digests of all other files.
    pub(crate) files: BTreeMap<String, String>,
}

/// A model on its way to its place. Dropped before it is there, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Where it waits.
    pub(crate) folder: PathBuf,
    /// The digest of its manifest, which holds those of its files.
    pub(crate) digest: String,
    /// What a person should know of the tokenizer's files.
    pub(crate) warnings: Vec<String>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Nothing is left there once it has its place.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Writes the model beside its place.
pub(crate) fn stage(
    folder: &Path,
    attempt: u64,
    model: &Decoder,
    tokenizer: &Tokenizer,
    dtype: Option<OutputDtype>,
    mut manifest: OutputManifest,
) -> Result<Staged> {
    let staging = staging_folder_of_attempt(folder, attempt)?;
    let mut staged = Staged { folder: staging, digest: String::new(), warnings: Vec::new() };
    staged.warnings = save(&staged.folder, model, tokenizer, dtype)?;
    manifest.files = checkpoint::digests(&staged.folder)?;
    let path = staged.folder.join(OUTPUT_MANIFEST);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::User(error.to_string()))?;
    write_atomically(&path, &bytes)?;
    staged.digest = sha256_file(&path)?;
    Ok(staged)
}

/// Gives a staged model its place, unless this attempt is over.
pub(crate) fn publish(staged: Staged, folder: &Path, on_existing: OnExisting, fence: &Fence) -> Result<()> {
    Ok(fence.publish(&staged.folder, folder, on_existing == OnExisting::Replace)?)
}

/// Writes a model and its tokenizer as a Hugging Face folder. Returns what a person should know of the tokenizer's files.
pub(crate) fn save(
    folder: &Path,
    model: &Decoder,
    tokenizer: &Tokenizer,
    dtype: Option<OutputDtype>,
) -> Result<Vec<String>> {
    let kind = match dtype {
        Some(OutputDtype::BFloat16) => Kind::BFloat16,
        Some(OutputDtype::Float16) => Kind::Half,
        Some(OutputDtype::Float32) | None => Kind::Float,
    };
    model.save(folder, kind)?;
    Ok(tokenizer.save(folder)?.warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_is_over_publishes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        let (staged, output) = (folder.path().join("staged"), folder.path().join("model"));
        let mk_staged = || {
            std::fs::create_dir(&staged).unwrap();
            std::fs::write(staged.join("model.safetensors"), "weights").unwrap();
            Staged { folder: staged.clone(), digest: String::new(), warnings: Vec::new() }
        };
        let first = Fence::claim(&checkpoints, "job", 1, "the first").unwrap();
        let second = Fence::claim(&checkpoints, "job", 2, "the second").unwrap();
        for on_existing in [OnExisting::Fail, OnExisting::Replace] {
            let error = publish(mk_staged(), &output, on_existing, &first).unwrap_err().to_string();
            assert!(error.contains("attempt 1 is over"), "{error}");
            assert!(!output.exists() && !staged.exists());
        }
        publish(mk_staged(), &output, OnExisting::Fail, &second).unwrap();
        assert!(output.join("model.safetensors").exists());
    }
}
