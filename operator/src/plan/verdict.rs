//! Where a job stands in its life: one of these, whatever is known of it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::{ConditionStatus, TrainingJobStatus, unsupported};
use palimpsest_coordinator::{Cause, State};

use super::sight::{Activity, Coordination, Refused, Sight};
use crate::observe::{Block, Life};

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Somebody deleted it: everything stops.
    Going,
    /// It finished before.
    Over,
    /// Its output is there.
    Succeeds {
        /// Whether it was so before this job began.
        already: bool,
    },
    /// It can not be finished.
    Fails {
        /// One CamelCase word.
        reason: String,
        /// One sentence.
        message: String,
    },
    /// It is to be suspended, and something still runs.
    Suspending,
    /// It is suspended.
    Suspended,
    /// It lost its place in a queue, or moves to another, and something still runs.
    Evicting(Block),
    /// It waits for a place in a queue.
    Held(Block),
    /// It waits for its workers; why, where something keeps them.
    Starting(Option<Block>),
    /// Its workers are at something.
    Running(Option<Activity>),
    /// Its workers run, and nothing comes of it.
    Still(Block),
    /// It failed, and is tried again after a while.
    BackingOff {
        /// Why it failed.
        message: String,
    },
}

/// Whether a condition is said to hold.
pub(super) fn is_true(status: &TrainingJobStatus, kind: &str) -> bool {
    status.condition(kind).is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// Whether a job has come to its end, and that was said.
pub(crate) fn is_over(status: &TrainingJobStatus) -> bool {
    is_true(status, "Succeeded") || is_true(status, "Failed")
}

/// Where a job stands.
pub(crate) fn verdict(sight: &Sight<'_>) -> Verdict {
    if sight.job.is_deleted() {
        return Verdict::Going;
    }
    if is_over(sight.status) {
        return Verdict::Over;
    }
    let coordination = sight.coordination.as_ref();
    if let Some(State::Succeeded { already }) = coordination.map(|coordination| &coordination.state) {
        return Verdict::Succeeds { already: *already };
    }
    if sight.told.is_published {
        return Verdict::Succeeds { already: false };
    }
    if let Some((reason, message)) = failure(sight) {
        return Verdict::Fails { reason, message };
    }
    if sight.spec.suspend {
        return if has_stopped(sight) { Verdict::Suspended } else { Verdict::Suspending };
    }
    if let Some(block) = sight.place.block() {
        return if has_stopped(sight) { Verdict::Held(block) } else { Verdict::Evicting(block) };
    }
    match coordination.map(|coordination| &coordination.state) {
        None | Some(State::Waiting { .. }) => waiting(sight),
        Some(State::Running | State::Draining { .. } | State::Aborting { .. } | State::Stopped) => running(sight),
        Some(State::BackingOff { message, .. }) => Verdict::BackingOff { message: message.clone() },
        // Both were told above.
        Some(State::Succeeded { .. } | State::Failed { .. }) => Verdict::Over,
    }
}

/// Why the job can not be finished.
fn failure(sight: &Sight<'_>) -> Option<(String, String)> {
    let fails = |reason: &str, message: String| Some((reason.to_owned(), message));
    if let Some(Coordination { state: State::Failed { cause, message }, reason, .. }) = &sight.coordination {
        let otherwise = match cause {
            Cause::User => "UserError",
            Cause::Internal => "BackoffLimitExceeded",
        };
        return fails(reason.as_deref().unwrap_or(otherwise), message.clone());
    }
    if let Some((reason, message)) = &sight.failures.of_user {
        return fails(reason, message.clone());
    }
    // That of a suspended job may still be mended.
    if let Some(Refused::Invalid(message)) = sight.refusal
        && !sight.spec.suspend
    {
        return fails("InvalidTemplate", format!("spec.workers.template: {message}"));
    }
    // A suspended job is refused when it is to run.
    let mut job = sight.job.as_job(sight.spec);
    job.spec.suspend = false;
    if let Some(violation) = unsupported(&job).first().filter(|_| !sight.spec.suspend) {
        return fails("Unsupported", violation.to_string());
    }
    let policy = &sight.spec.run_policy;
    if let Some(deadline) = deadline(sight)
        && sight.now >= deadline
        && !sight.spec.suspend
    {
        let seconds = policy.active_deadline_seconds.unwrap_or_default();
        let message = format!("the job took longer than runPolicy.activeDeadlineSeconds ({seconds})");
        return fails("DeadlineExceeded", message);
    }
    if start_deadline(sight).is_some_and(|deadline| sight.now >= deadline) && !sight.spec.suspend {
        let why = match blocking(sight) {
            Some(block) => format!("{}: {}", block.reason, block.message),
            None => "their agents do not attach; see the pods' logs".to_owned(),
        };
        let seconds = policy.start_timeout_seconds;
        let message =
            format!("the workers were not ready after {seconds} seconds (runPolicy.startTimeoutSeconds); {why}");
        return fails("StartTimeout", message);
    }
    None
}

/// When the job has taken too long.
pub(super) fn deadline(sight: &Sight<'_>) -> Option<Timestamp> {
    let seconds = sight.spec.run_policy.active_deadline_seconds?;
    later(sight.status.start_time.as_deref()?.parse().ok()?, seconds)
}

/// When the workers have taken too long to be ready.
pub(super) fn start_deadline(sight: &Sight<'_>) -> Option<Timestamp> {
    later(sight.coordination.as_ref()?.waiting_since?, sight.spec.run_policy.start_timeout_seconds)
}

/// `None` beyond the end of time: never.
pub(super) fn later(time: Timestamp, seconds: u64) -> Option<Timestamp> {
    time.checked_add(Duration::from_secs(seconds)).ok()
}

/// Whether nothing of the job runs.
fn has_stopped(sight: &Sight<'_>) -> bool {
    let is_stopped = sight.coordination.as_ref().is_none_or(|coordination| coordination.state == State::Stopped);
    let runs = sight.pods.iter().any(|pod| pod.may_run(sight.now));
    is_stopped && !runs
}

fn waiting(sight: &Sight<'_>) -> Verdict {
    Verdict::Starting(blocking(sight))
}

/// What keeps workers from being ready.
fn blocking(sight: &Sight<'_>) -> Option<Block> {
    if let Some(Refused::Blocked(block)) = sight.refusal {
        return Some(block.clone());
    }
    let of_pods = sight.pods.iter().filter(|pod| pod.is_staying()).find_map(|pod| match &pod.life {
        Life::Pending(block) => block.clone(),
        _ => None,
    });
    of_pods.or_else(|| {
        // The one before still holds the worker's place.
        let leaving = sight.pods.iter().find(|pod| !pod.is_staying() && pod.may_run(sight.now))?;
        Some(Block::new("PodTerminating", format!("the pod {} is still ending", leaving.name)))
    })
}

fn running(sight: &Sight<'_>) -> Verdict {
    match sight.told.still {
        Some((since, usual)) => {
            let since = crate::status::time(since);
            let message = format!("no step has come since {since}, although one takes {usual} seconds as a rule");
            Verdict::Still(Block::new("NoProgress", message))
        }
        None => Verdict::Running(sight.told.activity),
    }
}
