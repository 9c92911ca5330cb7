//! What agents tell, in the words of a job's status.

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{CheckpointStatus, Decimal, EvaluationStatus, Precision, Progress, StageStatus, TrainingJobSpec};
use palimpsest_proto::control::{self, phase, report};

use crate::plan::{Activity, Told};
use crate::status::time;

/// Takes in a report. The rest of it is the coordinator's.
pub(super) fn take_in(told: &mut Told, checkpoints: &str, report: &report::Report, now: Timestamp) {
    match report {
        report::Report::Phase(phase) => told.activity = activity(phase.kind()).or(told.activity),
        report::Report::Progress(step) => {
            told.activity = Some(Activity::Training);
            told.stage = Some(StageStatus {
                name: step.stage.clone(),
                index: step.stage_index,
                count: step.stages,
                // Steps count them from 0.
                bucket: step.bucket + 1,
                buckets: step.buckets,
            });
            told.progress = Some(progress(step, now));
        }
        report::Report::CheckpointCommitted(committed) => {
            told.checkpoint =
                Some(CheckpointStatus { uri: checkpoints.to_owned(), step: committed.step, time: time(now) });
        }
        report::Report::Evaluation(evaluation) => {
            let Some(score) = decimal(evaluation.bits_per_byte) else { return };
            let measured = EvaluationStatus {
                name: evaluation.name.clone(),
                stage: evaluation.stage.clone(),
                step: Some(evaluation.step),
                score,
                samples: Some(evaluation.documents),
            };
            match told.evaluation.iter_mut().find(|before| before.name == measured.name) {
                Some(before) => *before = measured,
                None => told.evaluation.push(measured),
            }
        }
        report::Report::Resolved(resolved) => told.precision = precision(&resolved.precision).or(told.precision),
        report::Report::Finished(finished) if !finished.digest.is_empty() => {
            told.digest = Some(finished.digest.clone())
        }
        _ => {}
    }
}

/// A word of a newer worker that is none of ours is let be.
fn precision(word: &str) -> Option<Precision> {
    serde_json::from_value(word.into()).ok()
}

fn activity(kind: phase::Kind) -> Option<Activity> {
    Some(match kind {
        phase::Kind::Unspecified => return None,
        phase::Kind::Preparing => Activity::Preparing,
        phase::Kind::Loading => Activity::Loading,
        phase::Kind::Evaluating => Activity::Evaluating,
        phase::Kind::Training => Activity::Training,
        phase::Kind::Exporting => Activity::Exporting,
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole seconds, and a float's cast saturates"
)]
fn progress(step: &control::Progress, now: Timestamp) -> Progress {
    let percentage = (step.step * 100).checked_div(step.steps).unwrap_or(0);
    Progress {
        step: step.step,
        steps: step.steps,
        tokens: step.tokens,
        progress_percentage: u32::try_from(percentage).unwrap_or(0),
        estimated_remaining_seconds: Some(step.remaining_seconds.round() as u64),
        loss: step.loss.and_then(decimal),
        tokens_per_second: decimal(step.tokens_per_second.round()),
        last_updated_time: time(now),
    }
}

/// Four digits behind the point, as many as a person reads.
fn decimal(value: f64) -> Option<Decimal> {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Decimal::parse(text).ok()
}

/// Where a job's checkpoints lie: beside its output, where it names no place.
pub(super) fn checkpoints(spec: &TrainingJobSpec) -> String {
    spec.checkpoint.uri.clone().unwrap_or_else(|| {
        let output = spec.output.uri.trim_end_matches('/');
        // The root of a claim has nothing beside it.
        let parent = output.rsplit_once('/').map_or(output, |(parent, _)| parent);
        format!("{}/checkpoints", if parent.ends_with(":/") { output } else { parent })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bucket_is_said_to_be_number_1() {
        let step = control::Progress { bucket: 0, buckets: 10, ..control::Progress::default() };
        let mut told = Told::default();
        take_in(&mut told, "pvc://c/checkpoints", &report::Report::Progress(step), Timestamp::UNIX_EPOCH);
        let stage = told.stage.unwrap_or_default();
        assert_eq!((stage.bucket, stage.buckets), (1, 10));
    }
}
