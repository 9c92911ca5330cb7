//! What a job's parts must agree on before the first step. No torch, so that a plan is refused for what a run is refused
//! for.

use std::path::Path;

use palimpsest_api::{OnExisting, Stage};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The file of an output that says which job made it.
pub const OUTPUT_MANIFEST: &str = "palimpsest.json";

/// What stands where the output shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingOutput {
    /// Nothing, or an empty folder.
    Nothing,
    /// The output of this very job, after so many steps.
    Own {
        /// The steps.
        step: u64,
    },
    /// Something else, to be replaced at the end.
    ToReplace,
}

#[derive(Deserialize)]
struct Manifest {
    job: String,
    steps: u64,
}

/// Looks at the place of the output. `job` is the digest of the job's fields that can change its result.
pub fn check_output(folder: &Path, job: &str, on_existing: OnExisting) -> Result<ExistingOutput> {
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if !folder.exists() || is_empty {
        return Ok(ExistingOutput::Nothing);
    }
    let manifest = std::fs::read(folder.join(OUTPUT_MANIFEST)).ok();
    let manifest = manifest.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
    match (manifest, on_existing) {
        (Some(manifest), _) if manifest.job == job => Ok(ExistingOutput::Own { step: manifest.steps }),
        (_, OnExisting::Replace) => Ok(ExistingOutput::ToReplace),
        (_, OnExisting::Fail) => Err(Error::OutputExists(folder.to_owned())),
    }
}

/// Refuses a tokenizer with ids that a model has no rows for. Where the vocabulary is extended, the new rows follow the
/// old, so that there must be as many rows as ids.
pub fn check_vocabulary(rows: u64, ids: usize, is_extended: bool) -> Result<()> {
    if rows >= ids as u64 && !(is_extended && rows != ids as u64) {
        return Ok(());
    }
    Err(Error::Job(format!(
        "spec.tokenizer: the tokenizer has {ids} ids and the model's embedding {rows} rows; give the tokenizer that the \
         model was trained with"
    )))
}

/// Refuses sequences longer than a model's context.
pub fn check_context(context: u64, sequence_length: u32) -> Result<()> {
    if u64::from(sequence_length) <= context {
        return Ok(());
    }
    Err(Error::Job(format!(
        "spec.data.sequenceLength: {sequence_length} is longer than the model's context of {context} positions \
         (max_position_embeddings); lower it to at most {context}"
    )))
}

/// Refuses a warm-up and a decay that do not fit into the steps that were planned for each stage.
pub fn check_warm_up(stages: &[Stage], steps: impl IntoIterator<Item = u64>) -> Result<()> {
    for (index, (stage, steps)) in stages.iter().zip(steps).enumerate() {
        let needed = stage.schedule.warmup_steps + stage.schedule.decay_steps.unwrap_or(0);
        if needed > steps {
            return Err(Error::Job(format!(
                "spec.stages[{index}].schedule: {needed} steps of warm-up and decay do not fit into the stage's {steps} \
                 steps; lower them or raise the budget"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn rows_without_ids_are_padding_but_where_rows_are_appended() {
        let check = |rows, ids, is_extended| check_vocabulary(rows, ids, is_extended).is_ok();
        assert!(check(512, 512, false) && check(512, 512, true) && check(513, 512, false));
        assert!(!check(513, 512, true) && !check(511, 512, false) && !check(511, 512, true));
    }

    #[test]
    fn an_empty_folder_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("model");
        let look = |on_existing| check_output(&output, "sha256:1", on_existing);
        assert_eq!(look(OnExisting::Fail).unwrap(), ExistingOutput::Nothing);
        std::fs::create_dir(&output).unwrap();
        assert_eq!(look(OnExisting::Fail).unwrap(), ExistingOutput::Nothing);
        std::fs::write(output.join(OUTPUT_MANIFEST), r#"{"job": "sha256:1", "steps": 7}"#).unwrap();
        assert_eq!(look(OnExisting::Fail).unwrap(), ExistingOutput::Own { step: 7 });
        std::fs::write(output.join(OUTPUT_MANIFEST), r#"{"job": "sha256:2", "steps": 7}"#).unwrap();
        assert_eq!(look(OnExisting::Replace).unwrap(), ExistingOutput::ToReplace);
        assert!(look(OnExisting::Fail).unwrap_err().to_string().contains("onExisting"));
        std::fs::remove_dir_all(&output).unwrap();
        std::fs::write(&output, "a file").unwrap();
        assert!(look(OnExisting::Fail).is_err());
    }
}
