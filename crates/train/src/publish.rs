//! The output: a Hugging Face folder that appears whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_api::{OnExisting, OutputDtype};
use palimpsest_model::Decoder;
use palimpsest_store::{publish_folder, sha256_file, staging_folder_of_attempt, write_atomically};
use palimpsest_vocab::Tokenizer;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::checkpoint;
use crate::error::{Error, Result};

const MANIFEST: &str = "palimpsest.json";

/// What stands in the output beside the model: which job made it, and the digests of its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputManifest {
    pub(crate) name: String,
    /// The digest of the job's fields that can change its result.
    pub(crate) job: String,
    pub(crate) steps: u64,
    /// `sha256:` digests of all other files.
    pub(crate) files: BTreeMap<String, String>,
}

/// What stands where the output shall go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    /// The output of this very job, after so many steps.
    Own {
        step: u64,
    },
    /// Something else, to be replaced at the end.
    ToReplace,
}

/// Looks at the place of the output before the first step.
pub(crate) fn look(folder: &Path, job: &str, on_existing: OnExisting) -> Result<Existing> {
    if !folder.exists() || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(Existing::Nothing);
    }
    let manifest =
        fs::read(folder.join(MANIFEST)).ok().and_then(|bytes| serde_json::from_slice::<OutputManifest>(&bytes).ok());
    match (manifest, on_existing) {
        (Some(manifest), _) if manifest.job == job => Ok(Existing::Own { step: manifest.steps }),
        (_, OnExisting::Replace) => Ok(Existing::ToReplace),
        (_, OnExisting::Fail) => Err(Error::User(format!(
            "spec.output: {} is there already; choose another output, or set output.onExisting to Replace",
            folder.display()
        ))),
    }
}

/// A model on its way to its place.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Where it waits.
    pub(crate) folder: PathBuf,
    /// The digest of its manifest, which holds those of its files.
    pub(crate) digest: String,
    /// What a person should know of the tokenizer's files.
    pub(crate) warnings: Vec<String>,
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
    let warnings = save(&staging, model, tokenizer, dtype)?;
    manifest.files = checkpoint::digests(&staging)?;
    let path = staging.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::User(error.to_string()))?;
    write_atomically(&path, &bytes)?;
    Ok(Staged { digest: sha256_file(&path)?, folder: staging, warnings })
}

/// Gives a staged model its place.
pub(crate) fn publish(staged: &Path, folder: &Path, on_existing: OnExisting) -> Result<()> {
    Ok(publish_folder(staged, folder, on_existing == OnExisting::Replace)?)
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
