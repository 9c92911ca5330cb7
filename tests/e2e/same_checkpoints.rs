//! Two jobs have the same checkpoints.

use palimpsest_tests::Kubectl;

use crate::job::{JOB, Run, job_called};
use crate::setting::{Setting, events};

/// Waits for a job's failure, and for its reason in status, message and events.
fn fails_with(kubectl: &Kubectl, job: &str, reason: &str, words: &str) {
    kubectl.kubectl_succeed(&["wait", &format!("tj/{job}"), "--for=condition=Failed", "--timeout=60s"]);
    let failed = "--output=jsonpath={.status.conditions[?(@.type==\"Failed\")].reason}";
    assert_eq!(kubectl.kubectl_succeed(&["get", "tj", job, failed]).stdout, reason);
    let events = events(kubectl, job);
    assert!(events.contains("Warning") && events.contains(words), "{events}");
}

#[test]
fn the_second_of_two_jobs_with_the_same_checkpoints_says_so_and_harms_nothing() {
    let Some(setting) = Setting::with_nodes(1) else { return };
    setting.apply(JOB);
    let run = Run::of(&setting);
    run.more_steps(30);

    setting.apply(&job_called("second"));
    fails_with(&setting, "second", "CheckpointConflict", "metadata.name");
    // Nothing tells it from the first but that it is of another namespace, whose claims lead to the same folders.
    let other = setting.cluster();
    for claim in ["corpora", "results"] {
        other.volume_of(claim, &setting.folder(claim));
    }
    other.apply(&job_called("recipes"));
    fails_with(other, "recipes", "CheckpointInUse", "in use by the job");

    run.succeeds();
    assert_eq!((run.attempts(), run.counted().as_str()), (1, "0 0"), "the first has not noticed");
}
