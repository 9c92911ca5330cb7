//! A whole job in one rank: prepare, load or resume, measure, train stage by stage, publish.
//!
//! ```text
//! prepare -> claim -> model -> [Base] extend [JobStart] -> stage 0: steps ... [StageEnd] -> stage 1 ... -> [JobEnd] -> publish
//!                  `- or: the newest checkpoint -----------^
//! ```

use std::path::Path;
use std::sync::atomic::AtomicBool;

use palimpsest_api::{FailureReason, TrainingJob, differing_fields, result_digest};
use palimpsest_prepare::{ExistingOutput, OUTPUT_MANIFEST, PreparedJob, check_output, prepare_job};
use palimpsest_store::{Fence, Lease, LeaseTimes, Mounts, RunFolder, sha256_file};
use tch::Device;

use crate::checkpoint;
use crate::control::{Control, Event, Outcome, Phase};
use crate::error::{Error, Result};
use crate::trainer::{Trainer, seconds_since_1970};

/// What a rank is given.
#[derive(Debug)]
pub struct RunContext {
    /// The job, validated.
    pub job: TrainingJob,
    /// How its URIs are resolved.
    pub mounts: Mounts,
    /// Where everything is left.
    pub folder: RunFolder,
    /// The job's UID: two jobs with the same name and fields have two.
    pub job_uid: String,
    /// The fencing number of this try.
    pub attempt: u64,
    /// Where tensors live.
    pub device: Device,
    /// Threads of libtorch inside an operation, and of preparation.
    pub threads: usize,
    /// How many steps to record with libtorch's profiler, after the first one of this attempt.
    pub profile_steps: u32,
}

/// Runs a job from wherever it stands to its end.
pub fn run(context: &RunContext, control: &Control, report: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let began = seconds_since_1970();
    let job = &context.job;
    let digest = result_digest(job);
    let output = context.folder.model();
    if let ExistingOutput::Own { step } = check_output(&output, &digest, job.spec.output.on_existing)? {
        return Ok(Outcome::AlreadyFinished { step, digest: sha256_file(&output.join(OUTPUT_MANIFEST))? });
    }
    check_folder(&context.folder, job, &digest)?;
    palimpsest_torch::set_threads(context.threads)?;
    palimpsest_torch::keep_freed_memory();

    report(Event::Phase {
        phase: Phase::Preparing,
        fraction: None,
        message: "preparing tokenizer and data".to_owned(),
    });
    let cancelled = AtomicBool::new(false);
    let mut on_progress = |progress: palimpsest_prepare::Progress| {
        if control.is_aborted() || control.is_draining() {
            cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        report(Event::Phase { phase: Phase::Preparing, fraction: progress.fraction, message: progress.message });
    };
    let prepared = prepare_job(job, &context.mounts, &context.folder, context.threads, &mut on_progress, &cancelled);
    let prepared: PreparedJob = match prepared {
        Err(_) if control.is_draining() => return Ok(Outcome::Stopped { step: 0 }),
        Err(_) if control.is_aborted() => return Err(Error::Aborted),
        prepared => prepared?,
    };
    let checkpoints = context.folder.checkpoints();
    checkpoint::check_job(&checkpoints, &digest)?;
    let is_over = || control.is_aborted() || control.is_draining();
    // Until the end of this function, however it comes.
    let _lease = match Lease::take(&checkpoints, &context.job_uid, &job.metadata.name, LeaseTimes::default(), is_over) {
        Err(palimpsest_store::Error::Interrupted) if control.is_draining() => return Ok(Outcome::Stopped { step: 0 }),
        Err(palimpsest_store::Error::Interrupted) => return Err(Error::Aborted),
        lease => lease?,
    };
    // Claimed before the newest checkpoint is looked for: an older attempt can add none to it from here on.
    let owner = format!("{} of {digest}, process {}", job.metadata.name, std::process::id());
    let fence = Fence::claim(&checkpoints, &context.job_uid, context.attempt, &owner)?;
    let trained = Trainer::new(context, control, &prepared, digest, fence.clone(), began, report)
        .and_then(|trainer| trainer.finish(report));
    if trained.is_err() {
        // A newer attempt clears up what this one was writing: that it is over is the cause of whatever failed then.
        fence.check()?;
    }
    trained
}

/// Refuses a folder where another job has left its work.
fn check_folder(folder: &RunFolder, job: &TrainingJob, digest: &str) -> Result<()> {
    let path = folder.job();
    let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
    let before: TrainingJob = serde_json::from_slice(&bytes)
        .map_err(|error| Error::User(format!("{}: {error}; remove it or choose another folder", path.display())))?;
    if result_digest(&before) == digest {
        return Ok(());
    }
    let message = format!(
        "{} holds the work of a job that differs in {}; undo the change or choose another output",
        folder.root().display(),
        differing_fields(&before, job).join(", ")
    );
    Err(Error::refused(FailureReason::CheckpointConflict, message))
}

/// Replaces a file of the run's folder, unless the attempt is over.
pub(crate) fn write_json(fence: &Fence, path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let bytes =
        serde_json::to_vec_pretty(value).map_err(|error| Error::User(format!("{}: {error}", path.display())))?;
    Ok(fence.replace(path, &bytes)?)
}
