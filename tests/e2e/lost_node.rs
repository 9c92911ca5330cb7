//! A node is gone under a job, or cannot be heard any more: nobody can tell which.

use crate::job::{Blow, FEW, JOB, Run};
use crate::setting::Setting;
use palimpsest_tests::wait_until;

/// A node is silent for 16 seconds before it counts as gone, its pod has 1 and 10 more to go: 30 seconds. The rest is the machine's.
const SECONDS: f64 = 75.0;

/// Another pod brings the job to its success, from the last checkpoint.
fn is_taken_over(run: &Run<'_>, blow: &Blow) {
    assert!(run.succeeds_after(blow, SECONDS) <= FEW);
    assert_eq!(run.counted(), "0 1", "a node that is lost or frozen is no failure of the job");
}

fn is_killed(job: &str) {
    let Some(setting) = Setting::with_nodes(2) else { return };
    let (_, node) = setting.nodes();
    let run = Run::on(&setting, &node, job);

    let blow = Blow::new("a node's death");
    setting.cluster().kill_node(&node);
    is_taken_over(&run, &blow);
    // What lies on the dead machine keeps nobody from deleting the job.
    setting.kubectl_succeed(&["delete", "tj", "recipes", "--timeout=30s"]);
}

#[test]
fn a_job_whose_node_is_killed_goes_on_elsewhere_from_its_last_checkpoint() {
    is_killed(JOB);
}

/// The cluster tells such a pod to go as soon as its node counts as gone, with all of the grace that a checkpoint would need.
#[test]
fn so_does_one_that_tolerates_no_silent_node() {
    let tolerate = |taint| {
        format!("{{key: node.kubernetes.io/{taint}, operator: Exists, effect: NoExecute, tolerationSeconds: 0}}")
    };
    let tolerations = format!("tolerations: [{}, {}]", tolerate("unreachable"), tolerate("not-ready"));
    is_killed(&JOB.replace("spec: {containers", &format!("spec: {{{tolerations}, containers")));
}

/// The operator's leader is cut off with the pod, and both still hear one another.
#[test]
fn a_worker_that_is_cut_off_with_its_leader_goes_on_writing_and_harms_nothing() {
    let Some(setting) = Setting::with_nodes(2) else { return };
    let (node, other) = setting.nodes();
    let run = Run::on(&setting, &node, JOB);
    let old = setting.pods().remove(0).name;

    let blow = Blow::new("a node's cable pulled");
    setting.cluster().cut_node(&node);
    run.more_steps(40);
    assert_eq!(run.attempts(), 1, "it is the old pod that trains on");
    wait_until("another pod", || setting.pods().iter().any(|pod| pod.name != old && pod.node == other));
    wait_until("another attempt", || run.attempts() > 1);
    run.more_steps(1);
    setting.cluster().mend_node(&node);
    is_taken_over(&run, &blow);
    wait_until("the old pod's end", || setting.kubectl(&["get", "pod", &old]).code != Some(0));
}

/// A machine that hung wakes after another pod has taken its pod's place.
#[test]
fn a_worker_that_wakes_from_a_frozen_machine_harms_nothing() {
    let Some(setting) = Setting::with_nodes(2) else { return };
    let (_, node) = setting.nodes();
    let run = Run::on(&setting, &node, JOB);
    let old = setting.pods().remove(0).name;

    let blow = Blow::new("a node's freeze");
    setting.cluster().freeze_node(&node);
    wait_until("another attempt", || run.attempts() > 1);
    run.more_steps(5);
    setting.cluster().thaw_node(&node);
    is_taken_over(&run, &blow);
    wait_until("the old pod's end", || setting.kubectl(&["get", "pod", &old]).code != Some(0));
}
