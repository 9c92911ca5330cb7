//! The labels by which a job is put in a queue of Kueue, in the words of the policy on the API server: `deploy/operator/queue-labels.yaml`.

use super::{Place, Violations};
use crate::training_job::TrainingJob;

/// The label by which a job is put in a queue of Kueue.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";

/// The label that says for how many seconds a job may be admitted, over all its admissions.
pub const MAXIMUM_TIME_LABEL: &str = "kueue.x-k8s.io/max-exec-time-seconds";

/// The most digits of that.
const LONGEST_SECONDS: usize = 9;

pub(super) fn check(job: &TrainingJob, violations: &mut Violations) {
    if violations.place == Place::Machine {
        // There are no queues.
        return;
    }
    let label = |key: &str| job.metadata.labels.get(key).filter(|value| !value.is_empty());
    if let Some(queue) = label(QUEUE_LABEL).filter(|queue| !queue.split('.').all(is_part)) {
        let message = format!(
            "\"{queue}\" names no LocalQueue; use lower-case letters, digits, \"-\" and \".\", and no \"-\" or \".\" at its ends"
        );
        violations.add(format!("metadata.labels[{QUEUE_LABEL}]"), message);
    }
    if let Some(seconds) = label(MAXIMUM_TIME_LABEL).filter(|seconds| !is_positive(seconds)) {
        let message = format!("\"{seconds}\" is no number of seconds; write one from 1 to 999999999");
        violations.add(format!("metadata.labels[{MAXIMUM_TIME_LABEL}]"), message);
    }
}

/// Between two points of a name.
fn is_part(part: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.iter().all(|byte| is_end(byte) || *byte == b'-')
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
}

fn is_positive(seconds: &str) -> bool {
    seconds.bytes().all(|byte| byte.is_ascii_digit())
        && !seconds.starts_with('0')
        && (1..=LONGEST_SECONDS).contains(&seconds.len())
}
