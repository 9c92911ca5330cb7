//! What is said of a job. Pure.

mod conditions;
mod urgency;
mod words;

use k8s_openapi::jiff::{Timestamp, Unit};
use palimpsest_api::{ModelStatus, Progress, Resolved, TrainingJobStatus, result_digest};

pub(crate) use urgency::{Urgency, urgency};

use crate::children::selector;
use crate::observe::Life;
use crate::plan::{Pods, Sight, Verdict};

/// A time as Kubernetes writes it: in whole seconds.
pub(crate) fn time(time: Timestamp) -> String {
    time.round(Unit::Second).unwrap_or(time).to_string()
}

/// What is said of a job of which so much is known, when `pods` are made.
pub(crate) fn of(sight: &Sight<'_>, verdict: &Verdict, pods: &Pods) -> TrainingJobStatus {
    let mut status = sight.status.clone();
    let generation = sight.job.metadata.generation;
    let words = words::words(sight, verdict);
    status.conditions = conditions::conditions(verdict, sight.place, &words, sight.status, generation, sight.now);
    status.observed_generation = generation;
    status.selector = Some(selector(sight.job.name()));
    status.incarnation = newest(status.incarnation, pods.creations.iter().map(|identity| identity.incarnation).max());
    let live = sight.pods.iter().filter(|pod| pod.is_staying()).count() + pods.creations.len();
    let ready =
        sight.pods.iter().filter(|pod| pod.is_staying() && pod.life == Life::Running { is_ready: true }).count();
    status.replicas = Some(count(live));
    status.ready_replicas = Some(count(ready));
    take_over_what_was_told(&mut status, sight);
    if matches!(verdict, Verdict::Suspended | Verdict::Held(_) | Verdict::Succeeds { .. } | Verdict::Fails { .. }) {
        status.running_attempt = None;
    }
    if matches!(verdict, Verdict::Suspended) {
        // Whoever resumes it may have mended something.
        status.failures_since_checkpoint = Some(0);
    }
    keep_time(&mut status, sight, verdict);
    resolve(&mut status, sight, verdict);
    if matches!(verdict, Verdict::Succeeds { .. }) {
        status.model = Some(ModelStatus { uri: sight.spec.output.uri.clone(), digest: sight.told.digest.clone() });
        if let Some(progress) = &mut status.progress {
            complete(progress);
        }
    }
    status
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn newest(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    before.max(now)
}

fn take_over_what_was_told(status: &mut TrainingJobStatus, sight: &Sight<'_>) {
    let told = sight.told;
    let or_before = |told: &Option<_>, before: &mut Option<_>| {
        if told.is_some() {
            before.clone_from(told);
        }
    };
    or_before(&told.progress, &mut status.progress);
    if told.stage.is_some() {
        status.stage.clone_from(&told.stage);
    }
    if told.checkpoint.is_some() {
        status.checkpoint.clone_from(&told.checkpoint);
    }
    for measured in &told.evaluation {
        match status.evaluation.iter_mut().find(|before| before.name == measured.name) {
            Some(before) => before.clone_from(measured),
            None => status.evaluation.push(measured.clone()),
        }
    }
    if let Some(coordination) = &sight.coordination {
        status.attempt = newest(status.attempt, Some(coordination.attempt).filter(|attempt| *attempt > 0));
        status.running_attempt = coordination.under_way;
        status.restarts = Some(coordination.restarts);
        status.disruptions = Some(coordination.disruptions);
        status.failures_since_checkpoint = Some(coordination.failures);
    }
    status.restarts.get_or_insert(0);
    status.disruptions.get_or_insert(0);
}

/// A job that has succeeded took all its steps. Those that nobody was told of, because no operator ran, have no loss or speed
/// that is known.
fn complete(progress: &mut Progress) {
    if progress.step < progress.steps {
        *progress = Progress { step: progress.steps, loss: None, tokens_per_second: None, ..progress.clone() };
    }
    progress.progress_percentage = 100;
    progress.estimated_remaining_seconds = Some(0);
}

/// A job's time begins when it may run, and again when it is resumed.
fn keep_time(status: &mut TrainingJobStatus, sight: &Sight<'_>, verdict: &Verdict) {
    match verdict {
        Verdict::Starting(_) | Verdict::Running(_) | Verdict::Still(_) | Verdict::BackingOff { .. } => {
            status.start_time.get_or_insert_with(|| time(sight.now));
        }
        Verdict::Suspended | Verdict::Held(_) => add_active_time(status, sight),
        Verdict::Succeeds { .. } | Verdict::Fails { .. } => {
            let start = status.start_time.clone();
            add_active_time(status, sight);
            status.start_time = start;
            status.completion_time = Some(time(sight.now));
        }
        Verdict::Going | Verdict::Over | Verdict::Suspending | Verdict::Evicting(_) => {}
    }
}

fn add_active_time(status: &mut TrainingJobStatus, sight: &Sight<'_>) {
    let Some(start) = status.start_time.take().and_then(|time| time.parse::<Timestamp>().ok()) else { return };
    let seconds = u64::try_from(sight.now.duration_since(start).as_secs()).unwrap_or(0);
    status.active_seconds = Some(status.active_seconds.unwrap_or(0) + seconds);
}

/// What is decided once: the image by its digest, so that workers that come later run the same, and what they compute in.
fn resolve(status: &mut TrainingJobStatus, sight: &Sight<'_>, verdict: &Verdict) {
    if matches!(verdict, Verdict::Suspended) {
        // The template may change now.
        if let Some(resolved) = &mut status.resolved {
            resolved.image = None;
        }
        return;
    }
    let resolved = status.resolved.get_or_insert_with(Resolved::default);
    resolved.precision = sight.told.precision.or(resolved.precision);
    if resolved.job_digest.is_none() {
        resolved.job_digest = Some(result_digest(&sight.job.as_job(sight.spec)));
    }
    if resolved.image.is_none() {
        resolved.image = sight.pods.iter().filter(|pod| pod.is_staying()).find_map(|pod| pod.image.clone());
    }
}
