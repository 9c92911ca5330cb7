//! A copy of all that a checkpoint holds, and how it becomes a folder.

use std::collections::BTreeMap;
use std::path::Path;

use palimpsest_model::Decoder;
use palimpsest_store::{Location, list, sha256_bytes, sha256_file, staging_folder_of_attempt, write_atomically};
use tch::{Device, Tensor};

use super::folders::{folder_of, prune};
use super::writer::Identity;
use super::{MANIFEST, Manifest, OPTIMIZER, STATE, State};
use crate::error::{Error, Result};
use crate::optimizer::Moments;

/// Weights, moments and the job's place, on the CPU and apart from what training changes.
#[derive(Debug)]
pub(super) struct Snapshot {
    model: Decoder,
    moments: Moments,
    pub(super) state: State,
}

impl Snapshot {
    /// Copies what is to be written, into the memory of an earlier snapshot where there is one.
    pub(super) fn take(spare: Option<Self>, model: &Decoder, moments: &Moments, state: &State) -> Result<Self> {
        let Some(mut snapshot) = spare else {
            let copied = moments.iter().map(|(name, tensor)| Ok((name.clone(), copy(tensor)?)));
            return Ok(Self {
                model: model.snapshot()?,
                moments: copied.collect::<Result<_>>()?,
                state: state.clone(),
            });
        };
        snapshot.model.copy_from(model)?;
        // A job's slots are the same throughout: both are in the order of their names.
        for (copy, tensor) in snapshot.moments.values_mut().zip(moments.values()) {
            copy.f_copy_(tensor)?;
        }
        snapshot.state.clone_from(state);
        Ok(snapshot)
    }

    /// Writes a checkpoint, then deletes the oldest that are no longer kept.
    pub(super) fn commit(&self, identity: &mut Identity) -> Result<()> {
        let folder = folder_of(&identity.root, self.state.step);
        let staging = staging_folder_of_attempt(&folder, identity.fence.attempt())?;
        let written = self.write_files(&staging, identity).and_then(|()| {
            // One of the same step is of an attempt before this one, or damaged.
            Ok(identity.fence.publish(&staging, &folder, true)?)
        });
        if written.is_err() {
            // What is left of it would only take room; its own failure is reported, not that of the clearing.
            let _ = std::fs::remove_dir_all(&staging);
        }
        written?;
        prune(&identity.root, self.state.step, identity.keep, &identity.fence)
    }

    fn write_files(&self, folder: &Path, identity: &mut Identity) -> Result<()> {
        self.model.save(folder, self.model.kind())?;
        identity.write_tokenizer(folder)?;
        let moments: Vec<(&String, &Tensor)> = self.moments.iter().collect();
        palimpsest_model::write_tensors(&folder.join(OPTIMIZER), &moments)?;
        write_atomically(&folder.join(STATE), &to_json(&self.state)?)?;
        let mut manifest = Manifest {
            step: self.state.step,
            attempt: identity.fence.attempt(),
            job: identity.job.clone(),
            plan: identity.plan.clone(),
            fingerprint: identity.fingerprint.clone(),
            files: digests(folder)?,
            digest: None,
        };
        manifest.digest = Some(sha256_bytes(&to_json(&manifest)?));
        Ok(write_atomically(&folder.join(MANIFEST), &to_json(&manifest)?)?)
    }
}

fn copy(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), Device::Cpu))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

/// `sha256:` digests of all files of a folder, by name.
pub(crate) fn digests(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = list(&Location::local(folder))?;
    entries.into_iter().map(|entry| Ok((entry.name, sha256_file(entry.location.path())?))).collect()
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Error::User(format!("cannot write JSON: {error}")))
}
