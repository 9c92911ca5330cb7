//! What a real API server refuses of a job's pods shows as a condition, its message and an event, and is over once that is lifted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use palimpsest_tests::{Script, World, condition};
use serde_json::{Value, json};

/// What a job that is refused is to say.
struct Told<'t> {
    state: &'t str,
    /// Parts of the message.
    parts: &'t [&'t str],
}

/// Waits until the job says so within seconds, and stays as it is while nothing changes; gives it.
async fn check(world: &World, job: &str, told: Told<'_>) -> Value {
    let submitted = Instant::now();
    let seen = world.wait_for_state(job, told.state).await;
    assert!(submitted.elapsed() < Duration::from_secs(4), "{job}: told after {:?}", submitted.elapsed());
    let progressing = condition(&seen, "Progressing");
    let message = progressing["message"].as_str().unwrap();
    assert!(told.parts.iter().all(|part| message.contains(part)), "{job}: {message}");
    assert_eq!((&progressing["status"], &condition(&seen, "Failed")["status"]), (&json!("False"), &json!("Unknown")));
    let described = world.server().kubectl_succeed(&["describe", "tj", job]).stdout;
    let events = described.split("Events:").nth(1).unwrap();
    assert!(events.contains("Warning") && events.contains(told.parts[0]), "{job}: {events}");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_pods_from_being_made_is_told_and_over_once_it_is_lifted() {
    let world = World::new().await;
    let operator = world.operator(&[]);
    let server = world.server();

    // A quota, whose controller a test stands in for.
    server.apply("{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: 0}}}");
    let counted = r#"{"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}"#;
    server.kubectl_succeed(&[
        "patch",
        "resourcequota",
        "none",
        "--subresource=status",
        "--type=merge",
        "--patch",
        counted,
    ]);
    world.submit("quota", Script::default(), json!({})).await;
    let parts = ["exceeded quota: none", "pods=1"];
    let before = check(&world, "quota", Told { state: "QuotaExceeded", parts: &parts }).await;
    // It is tried again, and there is nothing new to say.
    let tried = operator.metrics();
    while operator.metrics().lines().any(|line| line.contains("code=\"403\"") && tried.contains(line)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = world.job("quota").await.unwrap();
    assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "{before:#}\n{after:#}");
    server.kubectl_succeed(&["delete", "resourcequota", "none"]);
    world.wait_for("quota", "Succeeded", "True").await;
    assert_eq!(world.folder("quota").begun, ["quota-0-1"]);

    // The largest container that a namespace allows.
    server.apply("{apiVersion: v1, kind: LimitRange, metadata: {name: small}, spec: {limits: [{type: Container, max: {memory: 1Gi}}]}}");
    let large = json!({"spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "4Gi"}}}]}});
    world.submit("limits", Script::default(), json!({"workers": {"template": large}})).await;
    let parts = ["maximum memory usage per Container is 1Gi", "4Gi"];
    check(&world, "limits", Told { state: "LimitRangeExceeded", parts: &parts }).await;
    server.kubectl_succeed(&["delete", "limitrange", "small"]);
    world.wait_for("limits", "Succeeded", "True").await;

    // A policy.
    let label = "pod-security.kubernetes.io/enforce";
    server.kubectl_succeed(&["label", "namespace", "default", &format!("{label}=restricted")]);
    let loose = json!({"spec": {"containers": [{"name": "worker", "securityContext": {"privileged": true, "allowPrivilegeEscalation": true}}]}});
    world.submit("policy", Script::default(), json!({"workers": {"template": loose}})).await;
    let parts = ["violates PodSecurity \"restricted:latest\"", "privileged"];
    check(&world, "policy", Told { state: "AdmissionRefused", parts: &parts }).await;
    server.kubectl_succeed(&["label", "namespace", "default", &format!("{label}-")]);
    world.wait_for("policy", "Succeeded", "True").await;
    assert_eq!(world.folder("policy").begun, ["policy-0-1"]);
}
