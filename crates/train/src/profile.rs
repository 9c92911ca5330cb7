//! `--profile N`: a trace of N steps, and of the waits for checkpoints between them.

use std::path::PathBuf;

use palimpsest_torch::Profiler;
use tch::Device;

use crate::error::Result;

/// What is left to be recorded in this attempt.
#[derive(Debug)]
pub(crate) struct Profile {
    folder: PathBuf,
    device: Device,
    /// Steps that are still to be recorded.
    left: u32,
    /// Whether a step was taken: the first one allocates what all others find there, and is not recorded.
    is_warm: bool,
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    profiler: Profiler,
    first: u64,
}

impl Profile {
    pub(crate) fn new(folder: PathBuf, device: Device, steps: u32) -> Self {
        Self { folder, device, left: steps, is_warm: false, recording: None }
    }

    /// Before step `step` is taken.
    pub(crate) fn before(&mut self, step: u64) -> Result<()> {
        if self.left > 0 && self.is_warm && self.recording.is_none() {
            self.recording = Some(Recording { profiler: Profiler::begin(self.device)?, first: step });
        }
        self.is_warm = true;
        Ok(())
    }

    /// After step `step` was taken and written down. Gives the trace's path where it was the last to be recorded.
    pub(crate) fn after(&mut self, step: u64) -> Result<Option<PathBuf>> {
        if self.recording.is_some() {
            self.left -= 1;
        }
        if self.left == 0 { self.save(step) } else { Ok(None) }
    }

    /// Writes what there is up to step `step`: all steps were recorded, or there are no more.
    pub(crate) fn save(&mut self, step: u64) -> Result<Option<PathBuf>> {
        let Some(Recording { profiler, first }) = self.recording.take() else { return Ok(None) };
        self.left = 0;
        let path = self.folder.join(format!("steps-{first}-{step}.json"));
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| palimpsest_store::Error::io("create", &self.folder, source))?;
        profiler.save(&path)?;
        Ok(Some(path))
    }
}
