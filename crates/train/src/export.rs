//! Turns a checkpoint into a Hugging Face folder.

use std::path::Path;

use palimpsest_api::OutputDtype;
use palimpsest_store::{publish_folder, staging_folder};
use palimpsest_vocab::Tokenizer;
use tch::{Device, Kind};

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::publish;

/// Writes the weights and the tokenizer of a checkpoint (the newest, or that of `step`) to `output`, which must not be
/// there yet. Returns the checkpoint's step.
pub fn export(
    checkpoints: &Path,
    step: Option<u64>,
    dtype: Option<OutputDtype>,
    output: &Path,
    mut warn: impl FnMut(String),
) -> Result<u64> {
    if output.exists() {
        return Err(Error::User(format!("--output: {} is there already; choose another folder", output.display())));
    }
    let Some(found) = checkpoint::newest(checkpoints, step, &mut warn)? else {
        let which = step.map_or_else(String::new, |step| format!(" of step {step}"));
        return Err(Error::User(format!(
            "--checkpoint: {} holds no whole checkpoint{which}; name the folder that holds step-* folders",
            checkpoints.display()
        )));
    };
    let model = found.model(Device::Cpu, Kind::Float)?;
    let tokenizer = Tokenizer::open(&found.folder)?;
    let staging = staging_folder(output)?;
    publish::save(&staging, &model, &tokenizer, dtype)?.into_iter().for_each(warn);
    publish_folder(&staging, output, false)?;
    Ok(found.state.step)
}
