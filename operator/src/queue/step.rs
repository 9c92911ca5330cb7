//! What is to be written to a job's Workload. One thing at a time: what it changes is seen before the next.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{Timestamp, Unit};
use palimpsest_api::TrainingJobStatus;

use super::conditions::said;
use super::make::{FINALIZER, priority_class};
use super::place::{Place, mismatch, queue_name};
use super::workload::Workload;
use crate::observe::Life;
use crate::plan::{Sight, Verdict};

/// The kind of a class that is named by the job's label.
const WORKLOAD_PRIORITY_CLASS: &str = "WorkloadPriorityClass";

/// What is to be written to a job's Workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// It is made: the job joins its queue.
    Make,
    /// Its queue is the one that the job names now.
    Move,
    /// Its priority is that of the class which the job names now.
    Rank,
    /// Its conditions are these.
    Say(Vec<Condition>),
    /// The quota is given back: the job has stopped. Conditions as in `Say`, and for how many seconds the job was admitted in all.
    GiveBack(Vec<Condition>, i64),
    /// It may go: nothing of the job runs.
    Release,
    /// It is deleted: the job leaves its queue.
    Drop,
}

/// What is to be written to a job's Workload; `is_released` says that nothing of a deleted job is left.
pub(crate) fn step(sight: &Sight<'_>, verdict: &Verdict, is_released: bool) -> Option<Step> {
    let Some(workload) = sight.workload else {
        let joins = matches!(verdict, Verdict::Held(_)) && matches!(sight.place, Place::Waiting { .. });
        return joins.then_some(Step::Make);
    };
    match verdict {
        Verdict::Going => is_released.then_some(Step::Drop),
        // Said first that it has ended.
        Verdict::Succeeds { .. } | Verdict::Fails { .. } => None,
        Verdict::Over => {
            let runs = sight.pods.iter().any(|pod| pod.may_run(sight.now));
            if runs { None } else { finish(sight.status, workload, sight.now) }
        }
        Verdict::Suspended => Some(Step::Drop),
        _ if queue_name(sight.job).is_none() => Some(Step::Drop),
        Verdict::Held(_) => of_held(sight, workload),
        Verdict::Suspending | Verdict::Evicting(_) => None,
        Verdict::Starting(_) | Verdict::Running(_) | Verdict::Still(_) | Verdict::BackingOff { .. } => {
            ready(sight, workload).or_else(|| rank(sight, workload))
        }
    }
}

/// The job is over, and so is its place. Kueue may delete the Workload then.
fn finish(status: &TrainingJobStatus, workload: &Workload, now: Timestamp) -> Option<Step> {
    if workload.true_condition("Finished").is_none() && !workload.is_deleted() {
        let succeeded = status.condition("Succeeded").is_some_and(|condition| condition.reason == "Succeeded");
        let (kind, reason) = if succeeded { ("Succeeded", "Succeeded") } else { ("Failed", "Failed") };
        let message = status.condition(kind).map_or("", |condition| condition.message.as_str());
        return Some(Step::Say(said(workload, &[("Finished", true, reason, message)], now)));
    }
    release(workload)
}

fn release(workload: &Workload) -> Option<Step> {
    let is_kept = workload.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    is_kept.then_some(Step::Release)
}

/// Nothing of the job runs.
fn of_held(sight: &Sight<'_>, workload: &Workload) -> Option<Step> {
    if workload.is_deleted() {
        return release(workload);
    }
    if workload.true_condition("Finished").is_some() {
        return None;
    }
    let wanted = sight.job.spec.0.as_ref().map_or(sight.spec, |spec| spec);
    if mismatch(sight.job, wanted, workload).is_some() {
        return Some(Step::Drop);
    }
    if let Some(evicted) = workload.true_condition("Evicted").filter(|_| workload.has_quota()) {
        return Some(give_back(workload, evicted, sight.now));
    }
    if workload.spec.queue_name.as_deref() != queue_name(sight.job) {
        return Some(Step::Move);
    }
    // What was ready is so no more.
    let was_ready = workload.true_condition("PodsReady").is_some();
    let not_ready = ("PodsReady", false, "WaitForStart", NOT_READY);
    was_ready.then(|| Step::Say(said(workload, &[not_ready], sight.now))).or_else(|| rank(sight, workload))
}

const NOT_READY: &str = "not all pods are ready";

/// The job has stopped: its quota is another's. Where Kueue itself took it, the job is queued anew at once; else once what kept it from
/// going on is over, which Kueue sees to.
fn give_back(workload: &Workload, evicted: &Condition, now: Timestamp) -> Step {
    let is_requeued = ["Preempted", "NodeFailures"].contains(&evicted.reason.as_str());
    let mut anew = vec![
        ("QuotaReserved", false, "Pending", evicted.message.as_str()),
        ("Admitted", false, "NoReservation", "The workload has no reservation"),
        ("Requeued", is_requeued, evicted.reason.as_str(), evicted.message.as_str()),
    ];
    if workload.true_condition("PodsReady").is_some() {
        anew.push(("PodsReady", false, "WaitForStart", NOT_READY));
    }
    let before = workload.status.accumulated_past_execution_time_seconds.unwrap_or(0);
    let admitted = workload.true_condition("Admitted").map_or(0, |admitted| {
        let since = admitted.last_transition_time.0;
        now.since((Unit::Second, since)).map_or(0, |span| span.get_seconds())
    });
    Step::GiveBack(said(workload, &anew, now), before + admitted)
}

/// Whether all pods are ready, where that is not said yet.
fn ready(sight: &Sight<'_>, workload: &Workload) -> Option<Step> {
    let is_ready = |life: &Life| *life == Life::Running { is_ready: true };
    let ready = sight.pods.iter().filter(|pod| pod.is_staying() && is_ready(&pod.life)).count();
    let is_ready = ready >= sight.spec.workers.replicas as usize;
    let before = workload.condition("PodsReady");
    let recovers = before.is_some_and(|before| ["WaitForRecovery", "Recovered"].contains(&before.reason.as_str()));
    let (reason, message) = match (is_ready, before) {
        (true, _) if recovers => ("Recovered", "all pods are ready again"),
        (true, _) => ("Started", "all pods are ready"),
        (false, Some(before)) if before.status == "True" || before.reason == "WaitForRecovery" => {
            ("WaitForRecovery", "a pod has gone; another takes its place")
        }
        (false, _) => ("WaitForStart", NOT_READY),
    };
    let status = if is_ready { "True" } else { "False" };
    let is_said = before.is_some_and(|before| before.status == status && before.reason == reason);
    (!is_said).then(|| Step::Say(said(workload, &[("PodsReady", is_ready, reason, message)], sight.now)))
}

/// Whether the job names another class than its Workload has. With quota, Kueue lets a class be replaced by another of its kind only.
fn rank(sight: &Sight<'_>, workload: &Workload) -> Option<Step> {
    let wanted = priority_class(sight.job);
    let is_other = match &workload.spec.priority_class_ref {
        Some(class) if class.kind == WORKLOAD_PRIORITY_CLASS => {
            wanted != Some(class.name.as_str()) && (wanted.is_some() || !workload.has_quota())
        }
        // A pod's priority class is followed for as long as the job names none; it does not change.
        Some(_) | None => wanted.is_some() && !workload.has_quota(),
    };
    is_other.then_some(Step::Rank)
}
