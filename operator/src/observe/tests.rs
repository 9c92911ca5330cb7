//! Pods as kubelets, schedulers and evictions leave them.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn mk_view(status: &Value) -> PodView {
    let pod = json!({
        "metadata": {
            "name": "zh-0-2", "namespace": "team", "uid": "p1",
            "labels": {"palimpsest.dev/job": "zh", "palimpsest.dev/index": "0", "palimpsest.dev/incarnation": "2"},
            "ownerReferences": [{"apiVersion": "palimpsest.dev/v1alpha1", "kind": "TrainingJob", "name": "zh", "uid": "j1", "controller": true}],
        },
        "status": status,
    });
    PodView::of(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn check(status: Value, expected: Expect) {
    let view = mk_view(&status);
    assert_eq!((view.identity.index, view.identity.incarnation), (0, 2));
    expected.assert_eq(&format!("{:?}, disruption: {:?}, image: {:?}", view.life, view.disruption, view.image));
}

fn worker(state: Value) -> Value {
    json!([{"name": "worker", "ready": false, "restartCount": 0, "image": "w", "imageID": "", "state": state}])
}

#[test]
fn a_pod_waits_for_what_its_status_says() {
    check(json!({}), expect!["Pending(None), disruption: None, image: None"]);
    let unscheduled = |reason: &str, message: &str| {
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message},
        ]})
    };
    check(
        unscheduled("Unschedulable", "persistentvolumeclaim \"models\" not found"),
        expect![[
            r#"Pending(Some(Block { reason: "Unschedulable", message: "persistentvolumeclaim \"models\" not found" })), disruption: None, image: None"#
        ]],
    );
    check(
        unscheduled("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"),
        expect![[
            r#"Pending(Some(Block { reason: "SchedulingGated", message: "Scheduling is blocked due to non-empty scheduling gates" })), disruption: None, image: None"#
        ]],
    );
    check(
        json!({"phase": "Pending", "containerStatuses": worker(json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"w\""}}))}),
        expect![[
            r#"Pending(Some(Block { reason: "ImagePullFailed", message: "the container worker waits: Back-off pulling image \"w\"" })), disruption: None, image: None"#
        ]],
    );
    check(
        json!({"phase": "Pending", "containerStatuses": worker(json!({"waiting": {"reason": "ContainerCreating"}}))}),
        expect!["Pending(None), disruption: None, image: None"],
    );
}

#[test]
fn a_worker_says_whose_its_end_is_to_mend() {
    let ended =
        |terminated: Value| json!({"phase": "Failed", "containerStatuses": worker(json!({"terminated": terminated}))});
    check(
        ended(
            json!({"exitCode": 2, "message": "{\"reason\": \"DatasetNotFound\", \"message\": \"there is no data at /mnt/palimpsest/data/en\"}"}),
        ),
        expect![[
            r#"Ended(End { is_failure: true, is_success: false, digest: None, is_users: true, reason: Some("DatasetNotFound"), message: "there is no data at pvc://data/en" }), disruption: None, image: None"#
        ]],
    );
    check(
        ended(json!({"exitCode": 137, "reason": "OOMKilled"})),
        expect![[
            r#"Ended(End { is_failure: true, is_success: false, digest: None, is_users: false, reason: None, message: "the worker used more memory than its limit; raise resources.limits.memory" }), disruption: None, image: None"#
        ]],
    );
    check(
        ended(json!({"exitCode": 1, "message": "not JSON"})),
        expect![[
            r#"Ended(End { is_failure: true, is_success: false, digest: None, is_users: false, reason: None, message: "the worker ended with exit code 1" }), disruption: None, image: None"#
        ]],
    );
    check(
        ended(json!({"exitCode": 143, "message": "{\"cause\": \"TakenAway\", \"step\": 7}"})),
        expect![[
            r#"Ended(End { is_failure: true, is_success: false, digest: None, is_users: false, reason: None, message: "the worker ended with exit code 143" }), disruption: Some("the worker was asked to go"), image: None"#
        ]],
    );
    check(
        ended(json!({"exitCode": 0, "message": "{\"cause\": \"Succeeded\", \"digest\": \"sha256:1\"}"})),
        expect![[
            r#"Ended(End { is_failure: false, is_success: true, digest: Some("sha256:1"), is_users: false, reason: None, message: "the worker ended with exit code 0" }), disruption: None, image: None"#
        ]],
    );
    check(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
        expect![[
            r#"Ended(End { is_failure: true, is_success: false, digest: None, is_users: false, reason: None, message: "The node was low on resource: memory." }), disruption: Some("The node was low on resource: memory."), image: None"#
        ]],
    );
    check(
        json!({"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True", "message": "preempted"}],
            "containerStatuses": [{"name": "worker", "ready": true, "restartCount": 0, "image": "w", "imageID": "registry/w@sha256:abc", "state": {"running": {}}}]}),
        expect![[r#"Running { is_ready: true }, disruption: Some("preempted"), image: Some("registry/w@sha256:abc")"#]],
    );
}

#[test]
fn a_node_that_is_silent_shows_in_what_others_say_of_its_pods() {
    let check = |ready: Value, containers_ready: &str, is_cut_off: bool| {
        let conditions = json!([ready, {"type": "ContainersReady", "status": containers_ready}]);
        let worker = json!([{"name": "worker", "ready": containers_ready == "True", "restartCount": 0, "image": "w", "imageID": "", "state": {"running": {}}}]);
        let status = json!({"phase": "Running", "conditions": conditions, "containerStatuses": worker});
        let view = mk_view(&status);
        assert_eq!(view.is_cut_off, is_cut_off, "{status}");
    };
    check(json!({"type": "Ready", "status": "False"}), "True", true);
    check(json!({"type": "Ready", "status": "True"}), "True", false);
    check(json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady"}), "False", false);
    check(json!({"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}), "True", false);
}

#[test]
fn a_refusal_is_the_clusters_or_the_templates() {
    let check = |code: u16, reason: &str, message: &str, expected: Expect| {
        expected.assert_eq(&format!("{:?}", of_refusal(code, reason, message)));
    };
    check(
        403,
        "Forbidden",
        "pods \"zh-0-1\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8",
        expect![[
            r#"Blocked(Block { reason: "QuotaExceeded", message: "pods \"zh-0-1\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8" })"#
        ]],
    );
    check(
        403,
        "Forbidden",
        "maximum memory usage per Container is 1Gi, but limit is 4Gi",
        expect![[
            r#"Blocked(Block { reason: "LimitRangeExceeded", message: "maximum memory usage per Container is 1Gi, but limit is 4Gi" })"#
        ]],
    );
    check(
        403,
        "Forbidden",
        "violates PodSecurity \"restricted:latest\"",
        expect![[
            r#"Blocked(Block { reason: "AdmissionRefused", message: "violates PodSecurity \"restricted:latest\"" })"#
        ]],
    );
    check(422, "Invalid", "spec.nodeName: Invalid", expect![[r#"Invalid("spec.nodeName: Invalid")"#]]);
    check(409, "AlreadyExists", "", expect!["Exists"]);
    check(409, "Conflict", "", expect!["Transient"]);
    check(429, "TooManyRequests", "", expect!["Transient"]);
    check(500, "InternalError", "", expect!["Transient"]);
}
