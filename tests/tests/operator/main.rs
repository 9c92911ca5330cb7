//! The life of jobs on a real API server, under the real operator: nodes are played, and train nothing.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod pods;
mod replicas;
mod told;

use std::collections::BTreeMap;

use palimpsest_tests::{Mishap, Script, Stillborn, World, condition};
use serde_json::{Value, json};

/// What a job is to come to.
#[derive(Clone, Copy)]
struct Expected<'e> {
    succeeded: &'e str,
    /// The reason of the condition Failed.
    reason: &'e str,
    /// Part of its message.
    message: &'e str,
    restarts: u64,
    disruptions: u64,
    pods: usize,
}

const SUCCESS: Expected<'_> =
    Expected { succeeded: "True", reason: "Succeeded", message: "", restarts: 0, disruptions: 0, pods: 1 };

/// Runs a job to its end and compares.
async fn check(world: &World, name: &str, script: Script, spec: Value, expected: Expected<'_>) {
    world.submit(name, script, spec).await;
    let job = world.wait(name, "its end", |job| job["status"]["completionTime"].is_string()).await;
    let (status, failed) = (&job["status"], condition(&job, "Failed"));
    let folder = world.folder(name);
    let is_as_expected = condition(&job, "Succeeded")["status"] == expected.succeeded
        && failed["reason"] == expected.reason
        && failed["message"].as_str().unwrap().contains(expected.message)
        && status["restarts"] == expected.restarts
        && status["disruptions"] == expected.disruptions
        && folder.begun.len() == expected.pods;
    assert!(is_as_expected, "{name}: {status:#}\n{folder:#?}");
    assert_eq!(folder.harm, Vec::<String>::new(), "{name}");
    assert_eq!(folder.published, u32::from(expected.succeeded == "True"), "{name}");
}

fn mishap(step: u64, mishap: Mishap) -> Script {
    Script { mishaps: BTreeMap::from([(step, mishap)]), ..Script::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_come_to_their_end() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let failure = Expected { succeeded: "False", ..SUCCESS };
    let message = "there is no data at pvc://data/zh";
    let users_error = mishap(1, Mishap::UserError("DatasetNotFound", message));
    let last_words = mishap(1, Mishap::PodEnds(2, r#"{"reason": "OutputExists", "message": "there is a model"}"#));
    let unheard = Script {
        published_unheard: true,
        ..mishap(20, Mishap::PodEnds(0, r#"{"cause": "Succeeded", "digest": "sha256:3333"}"#))
    };
    let none = || json!({});
    tokio::join!(
        check(&world, "plain", Script::default(), none(), SUCCESS),
        async {
            check(&world, "unheard", unheard, none(), SUCCESS).await;
            assert_eq!(world.job("unheard").await.unwrap()["status"]["model"]["digest"], "sha256:3333");
        },
        check(&world, "crash", mishap(8, Mishap::Crash), none(), Expected { restarts: 1, ..SUCCESS }),
        check(&world, "evicted", mishap(8, Mishap::Evicted), none(), Expected { disruptions: 1, pods: 2, ..SUCCESS }),
        check(
            &world,
            "dies",
            mishap(8, Mishap::PodEnds(137, "")),
            none(),
            Expected { restarts: 1, pods: 2, ..SUCCESS }
        ),
        check(&world, "users-error", users_error, none(), Expected { reason: "DatasetNotFound", message, ..failure }),
        check(
            &world,
            "last-words",
            last_words,
            none(),
            Expected { reason: "OutputExists", message: "there is a model", ..failure }
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_jobs_that_cannot_go_on() {
    let world = World::new().await;
    let _operator = world.operator(&[]);
    let failure = Expected { succeeded: "False", ..SUCCESS };
    let stillborn = |pods| Script { pods, ..Script::default() };
    let backoff = Expected { reason: "BackoffLimitExceeded", message: "exit code 1", restarts: 2, pods: 3, ..failure };
    let timeout = Expected { reason: "StartTimeout", message: "Unschedulable: 0/1 nodes are available", ..failure };
    let unsupported = Expected { reason: "Unsupported", message: "spec.workers.replicas", pods: 0, ..failure };
    let invalid = Expected { reason: "InvalidTemplate", message: "imagePullPolicy", pods: 0, ..failure };
    let template = json!({"spec": {"containers": [{"name": "worker", "imagePullPolicy": "Sometimes"}]}});
    tokio::join!(
        check(
            &world,
            "backoff",
            stillborn(vec![Stillborn::Ends(1, ""), Stillborn::Ends(1, ""), Stillborn::Ends(1, "")]),
            json!({"runPolicy": {"backoffLimit": 2}}),
            backoff
        ),
        check(
            &world,
            "unschedulable",
            stillborn(vec![Stillborn::Unschedulable("0/1 nodes are available")]),
            json!({"runPolicy": {"startTimeoutSeconds": 2}}),
            timeout
        ),
        check(
            &world,
            "deadline",
            mishap(3, Mishap::Wait),
            json!({"runPolicy": {"activeDeadlineSeconds": 2}}),
            Expected { reason: "DeadlineExceeded", message: "(2)", ..failure }
        ),
        check(&world, "unsupported", Script::default(), json!({"workers": {"replicas": 2}}), unsupported),
        check(&world, "template", Script::default(), json!({"workers": {"template": template}}), invalid),
    );
}
