//! A node is drained under a job.

use crate::job::{Blow, JOB, Run};
use crate::setting::Setting;

/// `pick` takes the node from the leader's and another one.
fn is_drained(pick: impl Fn((String, String)) -> String) {
    let Some(setting) = Setting::with_nodes(2) else { return };
    let node = pick(setting.nodes());
    let run = Run::on(&setting, &node, JOB);

    let blow = Blow::new("`kubectl drain`");
    setting.kubectl_succeed(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"]);
    run.more_steps(1);
    let pods = setting.pods();
    assert!(pods.iter().all(|pod| pod.node != node), "{:?}", pods.iter().map(|pod| &pod.name).collect::<Vec<_>>());
    assert_eq!(run.succeeds_after(&blow, 30.0), 0, "the checkpoint was written before the pod went");
    assert_eq!(run.counted(), "0 1", "a drain is no failure");
}

#[test]
fn a_job_whose_node_is_drained_goes_on_elsewhere_without_a_step_repeated() {
    is_drained(|(_, other)| other);
}

/// Who leads next may come when the pod has gone, and counts it all the same.
#[test]
fn so_does_one_whose_operators_leader_goes_with_it() {
    is_drained(|(leader, _)| leader);
}
