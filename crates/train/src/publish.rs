//! The output: a Hugging Face folder that appears whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use palimpsest_api::{OnExisting, Output, OutputDtype};
use palimpsest_model::Decoder;
use palimpsest_store::{publish_folder, sha256_file, staging_folder, write_atomically};
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
    if !folder.exists() {
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

/// Writes the model beside its place, then renames it there. Returns the digest of its manifest, and what a
/// person should know of the tokenizer's files.
pub(crate) fn publish(
    folder: &Path,
    model: &Decoder,
    tokenizer: &Tokenizer,
    output: &Output,
    mut manifest: OutputManifest,
) -> Result<(String, Vec<String>)> {
    let staging = staging_folder(folder)?;
    let warnings = save(&staging, model, tokenizer, output.dtype)?;
    manifest.files = checkpoint::digests(&staging)?;
    let path = staging.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::User(error.to_string()))?;
    write_atomically(&path, &bytes)?;
    let digest = sha256_file(&path)?;
    publish_folder(&staging, folder, output.on_existing == OnExisting::Replace)?;
    Ok((digest, warnings))
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
