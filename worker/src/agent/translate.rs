//! From a rank's events to the reports of the protocol, and from its commands to a rank's.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use palimpsest_api::FailureReason;
use palimpsest_coordinator::Place;
use palimpsest_proto::control::{self, failure, finished, phase, planned, report};

use crate::protocol::{RankEvent, RankOutcome, RankPhase, RunRequest};

/// The report of an event.
pub(super) fn report_of(event: RankEvent) -> report::Report {
    match event {
        // Only the agent knows.
        RankEvent::Alive => report::Report::Alive(control::Alive { takes_steps: false }),
        RankEvent::Phase { phase, fraction, message } => {
            report::Report::Phase(control::Phase { kind: kind_of(phase).into(), fraction, message })
        }
        RankEvent::Planned { steps, tokens, stages } => {
            let stages = stages.into_iter().map(|stage| planned::Stage {
                name: stage.name,
                steps: stage.steps,
                tokens: stage.tokens,
                buckets: stage.buckets,
            });
            report::Report::Planned(control::Planned { steps, tokens, stages: stages.collect() })
        }
        RankEvent::Resolved { precision } => report::Report::Resolved(control::Resolved { precision }),
        RankEvent::Progress(progress) => report::Report::Progress(control::Progress {
            step: progress.step,
            steps: progress.steps,
            stage: progress.stage,
            stage_index: progress.stage_index,
            stages: progress.stages,
            bucket: progress.bucket,
            buckets: progress.buckets,
            loss: progress.loss,
            learning_rate: progress.learning_rate,
            tokens: progress.tokens,
            tokens_per_second: progress.tokens_per_second,
            remaining_seconds: progress.remaining_seconds,
        }),
        RankEvent::CheckpointCommitted { step } => {
            report::Report::CheckpointCommitted(control::CheckpointCommitted { step })
        }
        RankEvent::Evaluated(evaluated) => report::Report::Evaluation(control::Evaluation {
            step: evaluated.step,
            stage: evaluated.stage,
            when: evaluated.when,
            name: evaluated.name,
            dataset: evaluated.dataset,
            language: evaluated.language,
            bits_per_byte: evaluated.bits_per_byte,
            documents: evaluated.documents,
        }),
        RankEvent::Notice { message } => report::Report::Notice(control::Notice { message }),
        RankEvent::Warning { message } => report::Report::Warning(control::Warning { message }),
        RankEvent::Finished { outcome, step, digest } => {
            let outcome = match outcome {
                RankOutcome::Succeeded => finished::Outcome::Succeeded,
                RankOutcome::Stopped => finished::Outcome::Stopped,
                RankOutcome::AlreadyFinished => finished::Outcome::AlreadyFinished,
            };
            report::Report::Finished(control::Finished {
                outcome: outcome.into(),
                step,
                digest: digest.unwrap_or_default(),
            })
        }
        RankEvent::Failed { user, reason, message } => {
            let cause = if user { failure::Cause::User } else { failure::Cause::Internal };
            report::Report::Failure(control::Failure { cause: cause.into(), message, reason })
        }
    }
}

fn kind_of(phase: RankPhase) -> phase::Kind {
    match phase {
        RankPhase::Preparing => phase::Kind::Preparing,
        RankPhase::Loading => phase::Kind::Loading,
        RankPhase::Evaluating => phase::Kind::Evaluating,
        RankPhase::Training => phase::Kind::Training,
        RankPhase::Exporting => phase::Kind::Exporting,
    }
}

/// What a rank is to run.
pub(super) fn request_of(plan: control::RunPlan, place: Place, job_uid: &str, attempt: u64) -> Result<RunRequest> {
    let folders = plan.mounts.into_iter().map(|(name, folder)| (name, PathBuf::from(folder)));
    Ok(RunRequest {
        job: serde_json::from_str(&plan.job_json).context("the run plan's job cannot be read")?,
        job_folder: PathBuf::from(plan.job_folder),
        mounts: folders.collect::<BTreeMap<_, _>>(),
        job_uid: job_uid.to_owned(),
        attempt,
        rank: place.first_rank,
        world: place.world,
        threads: plan.threads as usize,
        device: plan.device,
        profile_steps: plan.profile_steps,
    })
}

/// The report of a failure that is nobody's to mend.
pub(super) fn internal_failure(reason: FailureReason, message: String) -> report::Report {
    let cause = failure::Cause::Internal.into();
    report::Report::Failure(control::Failure { cause, message, reason: reason.to_string() })
}

/// The report of a rank that ended without saying why.
pub(super) fn report_of_crash(status: ExitStatus) -> report::Report {
    let message = match (status.signal(), status.code()) {
        (Some(9), _) => {
            let message = "the rank was killed (signal 9), perhaps because memory ran out".to_owned();
            return internal_failure(FailureReason::RankKilled, message);
        }
        (Some(signal), _) => format!("the rank crashed (signal {signal})"),
        (None, Some(code)) => format!("the rank ended without a word (exit code {code})"),
        (None, None) => "the rank ended without a word".to_owned(),
    };
    internal_failure(FailureReason::RankCrashed, message)
}
