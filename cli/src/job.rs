//! A job file and what the command line says about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use palimpsest_api::{Place, TrainingJob, load, unsupported, validate};
use palimpsest_store::{Mounts, RunFolder};

use crate::errors::UserError;
use crate::threads::Threads;

/// What the command line may say about a job.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct JobOptions {
    /// The job file.
    #[arg(value_name = "JOB.yaml")]
    pub(crate) file: PathBuf,
    /// Where everything is left, in place of the job's own output, checkpoints and prepared data.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// The folder of pvc://NAME/.
    #[arg(long = "mount", value_name = "NAME=DIR", value_parser = parse_mount)]
    pub(crate) mounts: Vec<(String, PathBuf)>,
    /// Change a field of the job, such as spec.seed=7; null takes it away.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) overrides: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// A job that can be run here.
#[derive(Debug)]
pub(crate) struct Job {
    /// Valid, with the command line's changes.
    pub(crate) job: TrainingJob,
    pub(crate) mounts: Mounts,
    pub(crate) folder: RunFolder,
}

/// `NAME=DIR`.
pub(crate) fn parse_mount(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.to_owned(), PathBuf::from(folder))),
        _ => Err("write NAME=DIR".to_owned()),
    }
}

/// Reads a job file and checks it by the rules of where it is to run.
pub(crate) fn read(file: &Path, overrides: &[String], place: Place) -> Result<TrainingJob> {
    let text = fs::read_to_string(file)
        .map_err(|error| UserError::new(format!("cannot read {}: {error}; check the path", file.display())))?;
    let job = load(&text, overrides).map_err(|error| UserError::new(format!("{}: {error}", file.display())))?;
    refuse(file, &validate(&job, place))?;
    Ok(job)
}

fn refuse(file: &Path, violations: &[palimpsest_api::Violation]) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    let sentences = violations.iter().map(|violation| format!("{}: {violation}", file.display())).collect();
    Err(UserError::all(sentences).into())
}

impl JobOptions {
    /// Reads the job, and refuses what cannot be run here.
    pub(crate) fn read(&self) -> Result<Job> {
        let mut job = read(&self.file, &self.overrides, Place::Machine)?;
        let file = std::path::absolute(&self.file).with_context(|| format!("cannot find {}", self.file.display()))?;
        if let Some(output) = &self.output {
            move_to(&mut job, output)?;
        }
        refuse(&self.file, &unsupported(&job))?;
        let mut mounts = BTreeMap::new();
        for (name, folder) in &self.mounts {
            let folder = absolute(folder)?;
            if !folder.is_dir() {
                let sentence = format!("--mount {name}: there is no folder {}; check the path", folder.display());
                return Err(UserError::new(sentence).into());
            }
            mounts.insert(name.clone(), folder);
        }
        let mounts = Mounts { base: file.parent().map(Path::to_owned).unwrap_or_default(), mounts };
        let folder = RunFolder::of(&job, &mounts)?;
        Ok(Job { job, mounts, folder })
    }
}

/// Leaves everything in one folder, whatever the job says: its result is the same.
fn move_to(job: &mut TrainingJob, output: &Path) -> Result<()> {
    let output = absolute(output)?;
    let Some(folder) = output.to_str() else {
        let sentence = format!("--output {}: the path is not UTF-8; choose another folder", output.display());
        return Err(UserError::new(sentence).into());
    };
    job.spec.output.uri = format!("file://{}/model", folder.trim_end_matches('/'));
    job.spec.checkpoint.uri = None;
    job.spec.data.prepared = None;
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}
