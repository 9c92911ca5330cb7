//! What happens next with a job. Pure: what is known goes in, and what is to be written comes out.
//!
//! ```text
//! Sight ──► Verdict ──► status, pods to make and to delete, what agents are told, when to look again
//! ```

mod pods;
mod sight;
mod verdict;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use palimpsest_api::TrainingJobStatus;

pub(crate) use pods::{Deletion, Pods};
pub(crate) use sight::{Activity, Coordination, Failures, Refused, Sight, Told};
pub(crate) use verdict::{Verdict, is_over, verdict};

use crate::observe::{OVERDUE, PodView};
use crate::queue::{self, Step};
use crate::status;

/// How long a deleted job waits for its pods. Then it goes without them: their machine is gone.
const DELETION_LIMIT: Duration = Duration::from_secs(300);

/// The grace of pods whose work nobody wants any more. Zero would take the pod away while its container still runs.
const AT_ONCE: u32 = 1;

/// What happens next with a job, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// What is said of it. Names of pods are used up by this being written, before any is made.
    pub(crate) status: TrainingJobStatus,
    /// What its agents are told.
    pub(crate) agents: Agents,
    /// Its pods.
    pub(crate) pods: Pods,
    /// What is written to its Workload, once its pods are as they are to be.
    pub(crate) step: Option<Step>,
    /// Whether nothing of it is left, so that it may go.
    pub(crate) is_released: bool,
    /// Whether it has been kept long enough after its end.
    pub(crate) is_outdated: bool,
    /// When to look again if nothing is heard.
    pub(crate) look_again: Option<Timestamp>,
}

impl Plan {
    /// Whether somebody acts on it, from here on, that no pod of the job may run any more: who waits for the suspension, another job that
    /// gets the quota, or the API server that lets the job go. `old` is what was said before.
    pub(crate) fn claims_that_none_runs(&self, old: &TrainingJobStatus) -> bool {
        let is_suspended = |status| verdict::is_true(status, "Suspended");
        (is_suspended(&self.status) && !is_suspended(old))
            || self.is_released
            || matches!(self.step, Some(Step::GiveBack(..) | Step::Release | Step::Drop))
    }
}

/// What agents are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agents {
    /// Nothing new.
    Continue,
    /// To train: they are coordinated, where they are not yet.
    Coordinate,
    /// To stop after a checkpoint.
    Stop,
    /// To stop at once.
    Abort,
    /// That nobody needs them any more.
    Dismiss,
}

/// What happens next.
pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let verdict = verdict(sight);
    let mut pods = Pods::default();
    let (mut is_released, mut is_outdated) = (false, false);
    let agents = match &verdict {
        Verdict::Going => {
            pods = pods::none(sight, Some(AT_ONCE));
            // Those whose machine is gone cannot go themselves.
            let is_there = |pod: &PodView| pod.may_run(sight.now) || pod.has_ended();
            is_released = !sight.pods.iter().any(is_there) || deletion_limit(sight) <= Some(sight.now);
            Agents::Abort
        }
        Verdict::Over => {
            pods = pods::of_finished(sight, completion(sight));
            is_outdated = outdated_at(sight).is_some_and(|time| sight.now >= time);
            Agents::Dismiss
        }
        // Their pods go once it is written down that the job is over.
        Verdict::Succeeds { .. } | Verdict::Fails { .. } => Agents::Dismiss,
        Verdict::Suspending | Verdict::Evicting(_) => {
            // A last checkpoint comes first.
            let is_draining = sight.coordination.as_ref().is_some_and(|coordination| !coordination.state.is_end());
            if !is_draining {
                pods = pods::none(sight, None);
            }
            Agents::Stop
        }
        Verdict::Suspended | Verdict::Held(_) => {
            pods = pods::none(sight, None);
            Agents::Continue
        }
        Verdict::Starting(_) | Verdict::Running(_) | Verdict::Still(_) | Verdict::BackingOff { .. } => {
            pods = pods::of_running(sight);
            Agents::Coordinate
        }
    };
    let status = status::of(sight, &verdict, &pods);
    let step = queue::step(sight, &verdict, is_released);
    let look_again = look_again(sight, &verdict);
    Plan { status, agents, pods, step, is_released, is_outdated, look_again }
}

fn completion(sight: &Sight<'_>) -> Timestamp {
    let written = sight.status.completion_time.as_deref();
    written.and_then(|time| time.parse().ok()).unwrap_or(sight.now)
}

fn outdated_at(sight: &Sight<'_>) -> Option<Timestamp> {
    verdict::later(completion(sight), sight.spec.run_policy.ttl_seconds_after_finished?)
}

fn deletion_limit(sight: &Sight<'_>) -> Option<Timestamp> {
    let deleted = sight.job.metadata.deletion_timestamp.as_ref()?.0;
    deleted.checked_add(DELETION_LIMIT).ok()
}

/// When time alone changes something.
fn look_again(sight: &Sight<'_>, verdict: &Verdict) -> Option<Timestamp> {
    let leaving = sight.pods.iter().filter(|pod| pod.may_run(sight.now));
    let mut times: Vec<Timestamp> = leaving.filter_map(|pod| Some(pod.leaves_by? + OVERDUE)).collect();
    match verdict {
        Verdict::Going => times.extend(deletion_limit(sight)),
        Verdict::Over => {
            times.extend(outdated_at(sight));
            times.push(completion(sight) + pods::LEAVING);
        }
        Verdict::Succeeds { .. } | Verdict::Fails { .. } | Verdict::Suspended | Verdict::Held(_) => {}
        _ => {
            times.extend(verdict::deadline(sight));
            times.extend(verdict::start_deadline(sight));
            times.extend(sight.coordination.as_ref().and_then(|coordination| coordination.next_deadline));
            times.extend(sight.failures.not_before);
        }
    }
    times.into_iter().filter(|time| *time > sight.now).min()
}

#[cfg(test)]
pub(crate) mod tests;
