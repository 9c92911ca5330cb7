//! The checkpoints of a folder: which there are, which is the newest whole one, which are no longer kept.

use std::fs;
use std::path::{Path, PathBuf};

use palimpsest_api::FailureReason;
use palimpsest_store::{Error as StoreError, Fence, sha256_bytes, sha256_file};

use super::snapshot::to_json;
use super::{Checkpoint, MANIFEST, Manifest, STATE};
use crate::error::{Error, Result};

/// The folder of the checkpoint of a step.
pub(super) fn folder_of(root: &Path, step: u64) -> PathBuf {
    root.join(format!("step-{step:08}"))
}

/// The newest checkpoint that is whole, or that of a given step; those that are not are told to `warn` and passed over.
///
/// Where there are some and none is whole, that is an error: a job that began anew would throw away its past.
pub(crate) fn newest(root: &Path, step: Option<u64>, mut warn: impl FnMut(String)) -> Result<Option<Checkpoint>> {
    let mut damaged = None;
    let candidates = committed(root)?.into_iter().rev().filter(|(found, _)| step.is_none_or(|step| step == *found));
    for (_, folder) in candidates {
        match read(&folder) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(why) => {
                warn(format!("checkpoint {} is damaged ({why}); looking for the one before", folder.display()));
                damaged.get_or_insert((folder, why));
            }
        }
    }
    match damaged {
        None => Ok(None),
        Some((folder, why)) => {
            let message = format!(
                "{} is damaged ({why}), and there is no whole checkpoint before it; restore one, or remove {} to begin anew",
                folder.display(),
                root.display()
            );
            Err(Error::refused(FailureReason::CheckpointDamaged, message))
        }
    }
}

/// Refuses the checkpoints of a job that differs from the one of the digest `job`, before anything is claimed there. Which of
/// them are whole is another question.
pub(crate) fn check_job(root: &Path, job: &str) -> Result<()> {
    for (_, folder) in committed(root)? {
        let Ok(manifest) = manifest_of(&folder) else { continue };
        if manifest.job != job {
            let message = format!("{} is of another job; choose another checkpoint.uri", folder.display());
            return Err(Error::refused(FailureReason::CheckpointConflict, message));
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Checkpoint, String> {
    let manifest = manifest_of(folder)?;
    for (name, digest) in &manifest.files {
        let actual = sha256_file(&folder.join(name)).map_err(|error| error.to_string())?;
        if actual != *digest {
            return Err(format!("{name} is not as it was written"));
        }
    }
    let state = from_json(&folder.join(STATE))?;
    Ok(Checkpoint { folder: folder.to_owned(), manifest, state })
}

fn manifest_of(folder: &Path) -> Result<Manifest, String> {
    let manifest: Manifest = from_json(&folder.join(MANIFEST))?;
    let undigested = Manifest { digest: None, ..manifest.clone() };
    let actual = to_json(&undigested).map(|bytes| sha256_bytes(&bytes)).map_err(|error| error.to_string())?;
    if manifest.digest.as_ref().is_some_and(|digest| *digest != actual) {
        return Err(format!("{MANIFEST} is not as it was written"));
    }
    Ok(manifest)
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The steps and folders that have a manifest, oldest first.
pub(super) fn committed(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
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

/// Deletes the oldest checkpoints so that `keep` are left up to that of `step`, the newest. One of a later step is what
/// a damaged past left, and is replaced when its step comes.
pub(super) fn prune(root: &Path, step: u64, keep: u32, fence: &Fence) -> Result<()> {
    let present = committed(root)?.into_iter().rev().filter(|(found, _)| *found <= step);
    for (_, old) in present.skip(keep.max(1) as usize) {
        fence.remove(&old)?;
    }
    Ok(())
}
