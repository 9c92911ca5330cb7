//! Where a job stands in its queue.

use std::sync::Arc;

use palimpsest_api::{MAXIMUM_TIME_LABEL, QUEUE_LABEL, TrainingJobSpec};

use super::workload::{KUEUE_VERSION, Workload};
use crate::observe::Block;
use crate::resource::TrainingJob;

/// Whether the API server knows Workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It does.
    Yes,
    /// It does not; why.
    No(String),
}

/// Where a job stands in its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is in none.
    Free,
    /// It has the label of one, and there is no Kueue.
    Unserved {
        /// What is the matter, with the remedy.
        message: String,
    },
    /// It waits.
    Waiting {
        /// Whether it has quota, and something else is waited for.
        has_quota: bool,
        /// One CamelCase word: Kueue's own.
        reason: String,
        /// Which queue it is, and Kueue's own sentence.
        message: String,
    },
    /// It may run.
    Admitted {
        /// With as many workers as this.
        workers: u32,
        /// Kueue's own sentence.
        message: String,
    },
}

impl Place {
    /// Why the job may not run, where it may not.
    pub(crate) fn block(&self) -> Option<Block> {
        match self {
            Self::Free | Self::Admitted { .. } => None,
            Self::Unserved { message } | Self::Waiting { message, .. } => Some(Block::new("Queued", message.as_str())),
        }
    }
}

/// The queue that a job is put in.
pub(crate) fn queue_name(job: &TrainingJob) -> Option<&str> {
    label(job, QUEUE_LABEL)
}

pub(super) fn label<'j>(job: &'j TrainingJob, key: &str) -> Option<&'j str> {
    job.metadata.labels.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// How long a job may be admitted in all, where that is limited. A value that is no number of seconds is one that Kueue would refuse; it
/// is sent as 0, which the API server refuses with its own words.
pub(super) fn maximum_time(job: &TrainingJob) -> Option<i32> {
    label(job, MAXIMUM_TIME_LABEL).map(|seconds| seconds.parse().unwrap_or(0))
}

/// Where a job stands in its queue, whose Workload is `workload`; `refusal` is why none could be made.
pub(crate) fn place(
    job: &TrainingJob,
    spec: &TrainingJobSpec,
    served: &Served,
    workload: Option<&Workload>,
    refusal: Option<&str>,
) -> Place {
    let Some(queue) = queue_name(job) else { return Place::Free };
    if let Served::No(why) = served {
        let message = format!(
            "the job is put in the queue {queue}, but there is no Kueue here ({why}); install Kueue 0.15 or newer, which serves \
             {KUEUE_VERSION}, or remove the label {QUEUE_LABEL}"
        );
        return Place::Unserved { message };
    }
    let has_quota = workload.is_some_and(Workload::has_quota);
    let waits = |reason: &str, message: &str| Place::Waiting {
        has_quota,
        reason: reason.to_owned(),
        message: format!("in the queue {queue}: {message}"),
    };
    let Some(workload) = workload else {
        return waits("Pending", refusal.unwrap_or("Kueue is being told of the job"));
    };
    let name = workload.name();
    if workload.is_deleted() {
        return waits("Pending", &format!("the Workload {name} was deleted; another one is made"));
    }
    if let Some(finished) = workload.true_condition("Finished") {
        let message = &finished.message;
        return waits(
            "Finished",
            &format!(
                "the Workload {name} is finished ({message}) although the job is not; delete it to have the job queued anew"
            ),
        );
    }
    if let Some(why) = mismatch(job, spec, workload) {
        return waits("Changed", &format!("{why}; the job is queued anew"));
    }
    if let Some(evicted) = workload.true_condition("Evicted") {
        return waits(&evicted.reason, &evicted.message);
    }
    if workload.spec.active == Some(false) {
        return waits("Deactivated", &format!("spec.active of the Workload {name} is false; set it to true to go on"));
    }
    let Some(quota) = workload.condition("QuotaReserved") else {
        return waits("Pending", "Kueue has not answered yet");
    };
    if !has_quota {
        return waits(&quota.reason, refusal.unwrap_or(&quota.message));
    }
    match (workload.true_condition("Admitted"), workload.assignment()) {
        (Some(_), Some(assignment)) => {
            let workers = assignment.count.unwrap_or(spec.workers.replicas).min(spec.workers.replicas);
            Place::Admitted { workers, message: quota.message.clone() }
        }
        _ => waits("AdmissionChecks", &checks(workload)),
    }
}

/// What of a Workload is not as the job wants it any more. Its pods' template is not compared: that changes only while the job is
/// suspended, when it has no Workload.
pub(super) fn mismatch(job: &TrainingJob, spec: &TrainingJobSpec, workload: &Workload) -> Option<String> {
    let queue = queue_name(job);
    if workload.has_quota() && workload.spec.queue_name.as_deref() != queue {
        let before = workload.spec.queue_name.as_deref().unwrap_or_default();
        return Some(format!("the job was in the queue {before} before"));
    }
    let (count, wanted) = (workload.spec.pod_sets.first().map_or(0, |set| set.count), spec.workers.replicas);
    if count != wanted {
        return Some(format!("spec.workers.replicas was {count}, and is {wanted}"));
    }
    if workload.spec.maximum_execution_time_seconds != maximum_time(job) {
        return Some(format!("the label {MAXIMUM_TIME_LABEL} was changed"));
    }
    None
}

/// What is waited for once there is quota.
fn checks(workload: &Workload) -> String {
    let pending = workload.status.admission_checks.iter().filter(|check| check.state != "Ready");
    let pending: Vec<String> = pending.map(|check| format!("{}: {}", check.name, check.message)).collect();
    match pending.as_slice() {
        [] => "quota is reserved; the admission is awaited".to_owned(),
        _ => format!("quota is reserved; admission checks are awaited ({})", pending.join("; ")),
    }
}

/// The job as it was admitted: with fewer workers than it asks for, where its queue has no room for all.
pub(crate) fn as_admitted(spec: &Arc<TrainingJobSpec>, place: &Place) -> Arc<TrainingJobSpec> {
    match place {
        Place::Admitted { workers, .. } if *workers != spec.workers.replicas => {
            let mut admitted = TrainingJobSpec::clone(spec);
            admitted.workers.replicas = *workers;
            Arc::new(admitted)
        }
        _ => spec.clone(),
    }
}
